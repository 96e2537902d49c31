//! Objects of an API server as they are now, for `ringdns explain`: a few small lists.
//!
//! They need no more rights than the watches do. Invariant: a kind that cannot be listed costs only
//! itself, because the others may explain an answer without it.

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
use crate::status::SourceStatus;

/// Objects of each kind at most: an API server may have a million.
const OBJECTS_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Listed<T> {
    items: Vec<T>,
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
            let pods = list(client, status, None, Some(&field)).await?;
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
            match by_address.as_deref() {
                Some(field) => list(client, status, namespace, Some(field)).await,
                None => Ok(Vec::new()),
            }
        },
    );
    if let (Err(error), Err(_), Err(_)) = (&namespaces, &services, &slices) {
        return Err(error.clone());
    }
    Ok(ClusterObjects {
        namespaces: namespaces.unwrap_or_default(),
        services: services.unwrap_or_default(),
        slices: slices.unwrap_or_default(),
        pods: pods.unwrap_or_default(),
    })
}

/// The objects of one kind. `field`: a field selector, of names that need no escapes.
async fn list<T: RawObject>(
    client: &Client,
    status: &SourceStatus,
    namespace: Option<&str>,
    field: Option<&str>,
) -> Result<Vec<T>, String> {
    let field = field.map_or_else(String::new, |field| format!("&fieldSelector={field}"));
    let uri = format!("{}?limit={OBJECTS_MAX}{field}", path(T::KIND, namespace));
    let mut request = http::Request::get(uri).body(Vec::new()).map_err(|error| chain(&error))?;
    // What is read of protobuf lacks the time when an object was created.
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    let body = send(client, request, Exchange::List, status.kind(T::KIND)).await;
    let body = async { body?.whole().await }.await.map_err(|error| chain(&error))?;
    let listed = serde_json::from_slice::<Listed<T>>(&body);
    listed.map(|listed| listed.items).map_err(|error| chain(&error))
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
}
