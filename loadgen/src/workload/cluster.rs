//! The names of a cluster, read from the manifests that ringdns serves: the output of `kubectl get
//! svc,endpointslices,pods -A -o yaml`, as YAML or JSON, with Lists, several documents per file,
//! and folders.
//!
//! Only fields that determine names are read (Kubernetes DNS specification, section 2). Names come
//! in file order, each once; `mix` decides how often each is queried.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use domain::base::Rtype;
use serde::Deserialize;

/// How deep nested folders are read.
const DEPTH_MAX: usize = 8;

/// A name that the cluster has records for, and their type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterName {
    /// Without the final dot.
    pub name: String,
    pub rtype: Rtype,
}

/// A Service, as pods of its namespace see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceName {
    pub namespace: String,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    pub zone: String,
    pub names: Vec<ClusterName>,
    pub services: Vec<ServiceName>,
}

#[derive(Debug)]
pub enum ClusterError {
    Read { path: PathBuf, error: io::Error },
    Parse { path: PathBuf, reason: String },
    NoFile { paths: String },
    NoService { paths: String },
}

impl fmt::Display for ClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => {
                write!(f, "cannot read the manifests {}: {error}", path.display())
            }
            Self::Parse { path, reason } => write!(f, "{}: {reason}", path.display()),
            Self::NoFile { paths } => {
                write!(f, "no file that ends in .yaml, .yml or .json in {paths}")
            }
            Self::NoService { paths } => write!(
                f,
                "no Service in {paths}; create the manifests with \
                 'kubectl get svc,endpointslices,pods -A -o yaml'"
            ),
        }
    }
}

impl std::error::Error for ClusterError {}

/// An object of any kind, or a List: the fields that determine names.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Object {
    kind: String,
    metadata: Metadata,
    spec: Spec,
    status: Status,
    items: Vec<Self>,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    labels: Option<std::collections::BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Port {
    name: Option<String>,
    protocol: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Endpoint {
    addresses: Vec<String>,
    hostname: Option<String>,
}

/// The manifest files at these paths; files of a folder are sorted by name.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ClusterError> {
    let mut files = Vec::new();
    for path in paths {
        list(path, 0, &mut files)?;
    }
    Ok(files)
}

/// Reads files and folders.
pub fn read(paths: &[PathBuf], zone: &str) -> Result<Cluster, ClusterError> {
    let mut objects = Vec::new();
    let named =
        || paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let files = files(paths)?;
    if files.is_empty() {
        return Err(ClusterError::NoFile { paths: named() });
    }
    for path in files {
        let text = fs::read_to_string(&path)
            .map_err(|error| ClusterError::Read { path: path.clone(), error })?;
        objects.extend(parse(&text).map_err(|reason| ClusterError::Parse { path, reason })?);
    }
    let cluster = cluster(&objects, zone.trim_end_matches('.'));
    if cluster.services.is_empty() {
        return Err(ClusterError::NoService { paths: named() });
    }
    Ok(cluster)
}

fn list(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), ClusterError> {
    let fail = |error| ClusterError::Read { path: path.to_owned(), error };
    if !fs::metadata(path).map_err(fail)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let mut inside: Vec<PathBuf> = fs::read_dir(path)
        .map_err(fail)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail)?
        .iter()
        .map(|e| e.path())
        .collect();
    // The order of a folder depends on the file system; the order of names must not.
    inside.sort();
    for path in inside {
        let is_manifest = path
            .extension()
            .is_some_and(|ending| ["yaml", "yml", "json"].iter().any(|one| ending == *one));
        if is_manifest || (path.is_dir() && depth < DEPTH_MAX) {
            list(&path, depth + 1, files)?;
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Object>, String> {
    let mut objects = Vec::new();
    for mut document in
        serde_saphyr::from_multiple::<Object>(text).map_err(|error| error.to_string())?
    {
        let items = std::mem::take(&mut document.items);
        objects.push(document);
        objects.extend(items);
    }
    Ok(objects)
}

fn cluster(objects: &[Object], zone: &str) -> Cluster {
    let mut cluster = Cluster { zone: zone.to_owned(), ..Cluster::default() };
    let mut seen = BTreeSet::new();
    let mut add = |name: String, rtype: Rtype| {
        let name = ClusterName { name: name.to_ascii_lowercase(), rtype };
        if seen.insert(name.clone()) {
            cluster.names.push(name);
        }
    };
    for object in objects {
        let Metadata { name, namespace, labels } = &object.metadata;
        match object.kind.as_str() {
            "Service" => {
                cluster
                    .services
                    .push(ServiceName { namespace: namespace.clone(), name: name.clone() });
                service_names(object, &format!("{name}.{namespace}.svc.{zone}"), &mut add);
            }
            "EndpointSlice" => {
                let service =
                    labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name"));
                let Some(service) = service else { continue };
                for endpoint in &object.endpoints {
                    let Some(hostname) = &endpoint.hostname else { continue };
                    for rtype in
                        endpoint.addresses.iter().filter_map(|address| address_type(address))
                    {
                        add(format!("{hostname}.{service}.{namespace}.svc.{zone}"), rtype);
                    }
                }
            }
            "Pod" => {
                let Some(address) = &object.status.pod_ip else { continue };
                let Some(rtype) = address_type(address) else { continue };
                add(format!("{}.{namespace}.pod.{zone}", address.replace(['.', ':'], "-")), rtype);
            }
            _ => {}
        }
    }
    cluster
}

/// The names of one Service: its name, its named ports, and the reverse names of its addresses.
fn service_names(service: &Object, name: &str, add: &mut impl FnMut(String, Rtype)) {
    let spec = &service.spec;
    if spec.kind.as_deref() == Some("ExternalName") {
        return add(name.to_owned(), Rtype::CNAME);
    }
    let mut addresses = spec.cluster_ips.clone().unwrap_or_default();
    addresses.extend(spec.cluster_ip.clone());
    let addresses: BTreeSet<IpAddr> =
        addresses.iter().filter_map(|address| address.parse().ok()).collect();
    if addresses.is_empty() {
        // Headless: the name has the endpoints' addresses.
        add(name.to_owned(), Rtype::A);
    }
    for address in addresses {
        add(name.to_owned(), if address.is_ipv4() { Rtype::A } else { Rtype::AAAA });
        add(reverse(address), Rtype::PTR);
    }
    for port in spec.ports.iter().flatten() {
        let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) else {
            continue;
        };
        let protocol = port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase();
        add(format!("_{port_name}._{protocol}.{name}"), Rtype::SRV);
    }
}

fn address_type(address: &str) -> Option<Rtype> {
    match address.parse().ok()? {
        IpAddr::V4(_) => Some(Rtype::A),
        IpAddr::V6(_) => Some(Rtype::AAAA),
    }
}

/// Reverse name: RFC 1035, section 3.5 and RFC 3596, section 2.5.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles = v6
                .octets()
                .into_iter()
                .rev()
                .map(|byte| format!("{:x}.{:x}.", byte & 15, byte >> 4));
            format!("{}ip6.arpa", nibbles.collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFESTS: &str = r#"
apiVersion: v1
kind: List
items:
- {kind: Namespace, metadata: {name: shop}}
- kind: Service
  metadata: {name: web, namespace: shop, labels: {app: web}}
  spec:
    type: ClusterIP
    clusterIP: 10.96.1.2
    clusterIPs: [10.96.1.2, "fd00::1"]
    ports: [{name: http, port: 80, protocol: TCP}, {port: 81}]
- kind: Service
  metadata: {name: db, namespace: shop}
  spec: {clusterIP: None}
---
kind: Service
metadata: {name: out, namespace: shop}
spec: {type: ExternalName, externalName: example.com}
---
{"kind": "EndpointSlice", "metadata": {"name": "db-1", "namespace": "shop",
 "labels": {"kubernetes.io/service-name": "db"}},
 "endpoints": [{"addresses": ["10.1.0.5"], "hostname": "db-0"}, {"addresses": ["10.1.0.6"]}]}
---
kind: Pod
metadata: {name: p, namespace: shop}
spec: {containers: [{name: c, ports: [{containerPort: 1}]}]}
status: {podIP: 10.1.0.5}
"#;

    #[test]
    fn names_follow_the_specification() {
        let cluster = cluster(&parse(MANIFESTS).unwrap(), "cluster.local");
        let names: Vec<String> =
            cluster.names.iter().map(|one| format!("{} {}", one.name, one.rtype)).collect();
        assert_eq!(
            names,
            [
                "web.shop.svc.cluster.local A",
                "2.1.96.10.in-addr.arpa PTR",
                "web.shop.svc.cluster.local AAAA",
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa PTR",
                "_http._tcp.web.shop.svc.cluster.local SRV",
                "db.shop.svc.cluster.local A",
                "out.shop.svc.cluster.local CNAME",
                "db-0.db.shop.svc.cluster.local A",
                "10-1-0-5.shop.pod.cluster.local A",
            ]
        );
        assert_eq!(cluster.services.len(), 3);
    }

    #[test]
    fn errors_in_manifests_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("bad.yaml");
        fs::write(&file, "kind: [").unwrap();
        fs::write(folder.path().join("notes.txt"), "kind: [").unwrap();
        let error = read(&[folder.path().to_owned()], "cluster.local").unwrap_err().to_string();
        assert!(error.contains("bad.yaml"), "{error}");
        fs::write(&file, "kind: Namespace").unwrap();
        let error = read(&[folder.path().to_owned()], "cluster.local").unwrap_err().to_string();
        assert!(error.contains("no Service"), "{error}");
        let error = read(&["/no/such/place".into()], "cluster.local").unwrap_err().to_string();
        assert!(error.contains("/no/such/place"), "{error}");
    }
}
