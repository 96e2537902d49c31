//! Objects of an API server as they are now, for `ringdns explain`: a few small lists.
//!
//! They need no more rights than the watches do. Invariant: a kind that cannot be listed costs only
//! itself, because the others may explain an answer without it. It does not count as empty.

use std::sync::Arc;

use http::header::{ACCEPT, HeaderValue};
use kube::Client;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::{Connector, Verifier, chain};
use super::queries::path;
use super::request::{Exchange, send};
use crate::convert::raw_object::RawObject;
use crate::options::{ApiServer, Options};
use crate::origin::{ClusterObjects, Needs};
use crate::raw::Kind;
use crate::status::SourceStatus;

/// Objects of each kind at most: an API server may have a million.
const OBJECTS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Listed<T> {
    #[serde(default)]
    metadata: ListedMetadata,
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
struct ListedMetadata {
    /// There are more objects.
    r#continue: Option<String>,
}

/// The objects that are needed, as far as they may be listed.
///
/// # Errors
/// There is no way to reach the server, or it lists no kind.
pub async fn objects(
    server: &ApiServer,
    options: &Options,
    verifier: Verifier,
    needs: &Needs,
) -> Result<ClusterObjects, String> {
    let status = Arc::new(SourceStatus::new(options));
    let connector = Connector::new(server.clone(), verifier, Arc::clone(&status));
    let client = connector.client(None).await.map_err(|error| error.to_string())?;
    listed(&client.client, &status, needs).await
}

async fn listed(
    client: &Client,
    status: &SourceStatus,
    needs: &Needs,
) -> Result<ClusterObjects, String> {
    let (namespace, pod_address) = match needs {
        Needs::Namespace(name, address) => (Some(name.as_str()), *address),
        Needs::Pod(address) => {
            let field = format!("status.podIP={address}");
            let pods = list(client, status, None, Some(&field)).await?.items;
            return Ok(ClusterObjects { pods, ..ClusterObjects::default() });
        }
        Needs::Cluster => (None, None),
    };
    let by_name = namespace.map(|name| format!("metadata.name={name}"));
    let by_address = pod_address.map(|address| format!("status.podIP={address}"));
    let (namespaces, services, slices, pods) = tokio::join!(
        list(client, status, None, by_name.as_deref()),
        list(client, status, namespace, None),
        list(client, status, namespace, None),
        async {
            let field = by_address.as_deref()?;
            Some(list(client, status, namespace, Some(field)).await)
        },
    );
    if let (Err(error), Err(_), Err(_)) = (&namespaces, &services, &slices) {
        return Err(error.clone());
    }
    let mut incomplete = Vec::new();
    Ok(ClusterObjects {
        namespaces: take(namespaces, &mut incomplete),
        services: take(services, &mut incomplete),
        slices: take(slices, &mut incomplete),
        pods: pods.map(|pods| take(pods, &mut incomplete)).unwrap_or_default(),
        mirrored: Vec::new(),
        incomplete,
    })
}

/// The objects of one kind, as far as they are known. Notes why others may be missing.
fn take<T: RawObject>(
    listed: Result<Listed<T>, String>,
    incomplete: &mut Vec<(Kind, String)>,
) -> Vec<T> {
    let name = T::KIND.name();
    match listed {
        Ok(listed) => {
            if listed.metadata.r#continue.is_some_and(|token| !token.is_empty()) {
                let count = listed.items.len();
                let reason = format!("there are more {name}s than the {count} that were read");
                incomplete.push((T::KIND, reason));
            }
            listed.items
        }
        Err(error) => {
            incomplete.push((T::KIND, format!("{name}s cannot be listed: {error}")));
            Vec::new()
        }
    }
}

/// The objects of one kind. `field`: a field selector, of names that need no escapes.
async fn list<T: RawObject>(
    client: &Client,
    status: &SourceStatus,
    namespace: Option<&str>,
    field: Option<&str>,
) -> Result<Listed<T>, String> {
    let field = field.map_or_else(String::new, |field| format!("&fieldSelector={field}"));
    let uri = format!("{}?limit={OBJECTS_MAX}{field}", path(T::KIND, namespace));
    let mut request = http::Request::get(uri).body(Vec::new()).map_err(|error| chain(&error))?;
    // What is read of protobuf lacks the time when an object was created.
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    let body = send(client, request, Exchange::List, status.kind(T::KIND)).await;
    let body = async { body?.whole().await }.await.map_err(|error| chain(&error))?;
    let listed = serde_json::from_slice::<Listed<T>>(&body);
    listed.map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::Response;
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn the_lists_of_one_namespace() {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let uri = request.uri().to_string();
            let metadata = r#"{"name":"web","namespace":"shop","resourceVersion":"7",
                "creationTimestamp":"2026-01-02T03:04:05Z"}"#;
            let body = match uri.contains("/services?") {
                true => format!(r#"{{"items":[{{"metadata":{metadata}}}]}}"#),
                false => r#"{"items":[]}"#.to_owned(),
            };
            seen.lock().expect("no panic").push(uri);
            async { Ok::<_, std::io::Error>(Response::new(Body::from(body.into_bytes()))) }
        });
        let client = Client::new(service, "default");
        let needs = Needs::Namespace("shop".into(), "10.0.0.1".parse().ok());
        let status = SourceStatus::new(&super::super::tests::options());
        let objects = listed(&client, &status, &needs).await.expect("lists");
        let metadata = &objects.services[0].metadata;
        assert_eq!(metadata.resource_version.as_deref(), Some("7"));
        assert_eq!(metadata.creation_timestamp.as_deref(), Some("2026-01-02T03:04:05Z"));
        let mut asked = asked.lock().expect("no panic").clone();
        asked.sort();
        assert_eq!(
            asked,
            [
                "/api/v1/namespaces/shop/pods?limit=10000&fieldSelector=status.podIP=10.0.0.1",
                "/api/v1/namespaces/shop/services?limit=10000",
                "/api/v1/namespaces?limit=10000&fieldSelector=metadata.name=shop",
                "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?limit=10000",
            ]
        );
    }

    #[tokio::test]
    async fn kinds_that_are_not_listed_completely() {
        let service = tower::service_fn(|request: http::Request<Body>| {
            let uri = request.uri().to_string();
            let (code, body) = if uri.contains("/endpointslices?") {
                (403, r#"{"code":403,"message":"no rule"}"#)
            } else if uri.contains("/services?") {
                (200, r#"{"metadata":{"continue":"t"},"items":[{}]}"#)
            } else {
                (200, r#"{"metadata":{"continue":""},"items":[]}"#)
            };
            let response =
                Response::builder().status(code).body(Body::from(body.as_bytes().to_vec()));
            async { Ok::<_, std::io::Error>(response.expect("a response")) }
        });
        let client = Client::new(service, "default");
        let status = SourceStatus::new(&super::super::tests::options());
        let objects = listed(&client, &status, &Needs::Cluster).await.expect("lists");
        let [services, slices] = objects.incomplete.as_slice() else {
            panic!("{:?}", objects.incomplete);
        };
        let expected = "there are more Services than the 1 that were read";
        assert_eq!(*services, (Kind::Service, expected.to_owned()));
        assert_eq!(slices.0, Kind::EndpointSlice);
        assert!(slices.1.starts_with("EndpointSlices cannot be listed: "), "{}", slices.1);
        assert!(slices.1.contains("no rule"), "{}", slices.1);
    }
}
