//! A minimal Kubernetes API server: just enough for CoreDNS's `kubernetes` plugin to serve a
//! cluster from manifests. It offers lists, and watches that report no changes. Loopback only,
//! plain HTTP, one thread per connection.
//!
//! CoreDNS thus answers from the same files as ringdns, and the comparison needs neither etcd nor a
//! cluster.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Longest request or header line; a longer one ends the connection.
const LINE_LEN_MAX: u64 = 16 * 1024;
/// How long a watch stays open; clients then open a new one.
const WATCH_DURATION: Duration = Duration::from_secs(600);

/// The resources served: path, kind and version of the list's items.
const RESOURCES: [(&str, &str, &str); 4] = [
    ("/api/v1/namespaces", "Namespace", "v1"),
    ("/api/v1/services", "Service", "v1"),
    ("/api/v1/pods", "Pod", "v1"),
    ("/apis/discovery.k8s.io/v1/endpointslices", "EndpointSlice", "discovery.k8s.io/v1"),
];

/// Serves the objects of these files from now on; returns the listening address.
pub fn serve(files: &[impl AsRef<Path>]) -> Result<SocketAddr, String> {
    let mut objects = Vec::new();
    for path in files {
        let path = path.as_ref();
        let text =
            fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let documents: Vec<Value> = serde_saphyr::from_multiple(&text)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        objects.extend(documents.into_iter().flat_map(flatten));
    }
    let lists: Arc<Vec<String>> = Arc::new(
        RESOURCES.iter().map(|(_, kind, version)| list(&objects, kind, version)).collect(),
    );
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| error.to_string())?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let lists = Arc::clone(&lists);
            thread::spawn(move || {
                // A client that goes away ends only its own connection.
                let _ = converse(&stream, &lists);
            });
        }
    });
    Ok(address)
}

fn flatten(document: Value) -> Vec<Value> {
    match document {
        Value::Object(mut fields)
            if fields
                .get("kind")
                .is_some_and(|kind| kind.as_str().is_some_and(|k| k.ends_with("List"))) =>
        {
            match fields.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn list(objects: &[Value], kind: &str, version: &str) -> String {
    let mut items: Vec<Value> =
        objects.iter().filter(|object| object["kind"] == kind).cloned().collect();
    for (index, item) in items.iter_mut().enumerate() {
        let Some(metadata) = item.get_mut("metadata").and_then(Value::as_object_mut) else {
            continue;
        };
        // Fields that a real API server fills in.
        metadata.entry("resourceVersion").or_insert_with(|| json!("1"));
        metadata
            .entry("uid")
            .or_insert_with(|| json!(format!("00000000-0000-0000-0000-{index:012}")));
    }
    json!({
        "kind": format!("{kind}List"),
        "apiVersion": version,
        "metadata": {"resourceVersion": "1"},
        "items": items,
    })
    .to_string()
}

fn converse(stream: &TcpStream, lists: &[String]) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(target) = request(&mut reader)? {
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let found = RESOURCES.iter().position(|(resource, _, _)| *resource == path);
        match found {
            // The response of a server without streaming lists: clients then list and watch.
            Some(_) if query.contains("sendInitialEvents=true") => {
                respond(stream, "422 Unprocessable Entity", &status(422, "Invalid"))?;
            }
            Some(_) if query.contains("watch=") => return watch(stream),
            Some(index) => respond(stream, "200 OK", &lists[index])?,
            None if path == "/version" => {
                respond(stream, "200 OK", r#"{"major":"1","minor":"34","gitVersion":"v1.34.4"}"#)?
            }
            None => respond(stream, "404 Not Found", &status(404, "NotFound"))?,
        }
    }
    Ok(())
}

/// The target of the next GET; `None` at the end of the connection.
fn request(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut target = None;
    loop {
        let mut line = String::new();
        if io::Read::take(&mut *reader, LINE_LEN_MAX).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        match (line.is_empty(), &target) {
            (true, Some(_)) => return Ok(target),
            (true, None) => return Ok(None),
            (false, None) => target = line.split(' ').nth(1).map(str::to_owned),
            (false, Some(_)) => {}
        }
    }
}

fn respond(mut stream: &TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

fn watch(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    thread::sleep(WATCH_DURATION);
    stream.write_all(b"0\r\n\r\n")
}

fn status(code: u16, reason: &str) -> String {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "reason": reason,
        "code": code,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn lists_are_served() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.yaml");
        let manifests = "kind: List\nitems:\n- {kind: Service, metadata: {name: a, namespace: b}}\n\
                         ---\nkind: Namespace\nmetadata: {name: b}\n";
        fs::write(&file, manifests).unwrap();
        let address = serve(&[file]).unwrap();
        let ask = |target: &str| {
            let mut stream = TcpStream::connect(address).unwrap();
            write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        };
        let services = ask("/api/v1/services?limit=500");
        assert!(
            services.starts_with("HTTP/1.1 200 OK") && services.contains(r#""name":"a""#),
            "{services}"
        );
        assert!(services.contains(r#""kind":"ServiceList""#), "{services}");
        assert!(ask("/api/v1/pods?sendInitialEvents=true&watch=true").starts_with("HTTP/1.1 422"));
        assert!(ask("/api/v1/nodes").starts_with("HTTP/1.1 404"));
    }
}
