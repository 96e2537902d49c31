//! The HTTP endpoints over real sockets, with a minimal client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use engine::admin::Monitor;
use engine::admin::{Admin, BindCause, BindError, Endpoint, EndpointKind, Readiness};
use engine::io::socket::PortClaim;
use engine::limits::HTTP_CONNECTIONS_MAX;
use engine::metrics::{Build, Metrics};
use engine::ports::Holder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Far longer than anything here takes; only a failure waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn each_endpoint_answers_its_path_and_no_other() {
    let server = Server::start(&[
        (EndpointKind::Health, "127.0.0.1:0"),
        (EndpointKind::Ready, "127.0.0.2:0"),
        (EndpointKind::Prometheus, "127.0.0.3:0"),
        (EndpointKind::Pprof, "127.0.0.4:0"),
    ])
    .await;
    for (plugin, path, expected) in [
        (EndpointKind::Health, "/health", "200 OK"),
        (EndpointKind::Health, "/health?verbose", "200 OK"),
        (EndpointKind::Health, "/ready", "404 Not Found"),
        (EndpointKind::Health, "/metrics", "404 Not Found"),
        (EndpointKind::Health, "/", "404 Not Found"),
        (EndpointKind::Ready, "/", "404 Not Found"),
        (EndpointKind::Prometheus, "/", "200 OK"),
        (EndpointKind::Prometheus, "/?still", "200 OK"),
        (EndpointKind::Prometheus, "/index.html", "404 Not Found"),
        (EndpointKind::Ready, "/ready", "200 OK"),
        (EndpointKind::Ready, "/health", "404 Not Found"),
        (EndpointKind::Prometheus, "/metrics", "200 OK"),
        (EndpointKind::Prometheus, "/metrics/", "404 Not Found"),
        (EndpointKind::Pprof, "/debug/pprof", "200 OK"),
        (EndpointKind::Pprof, "/debug/pprof/", "200 OK"),
        (EndpointKind::Pprof, "/debug/pprof/heap", "404 Not Found"),
        (EndpointKind::Health, "/debug/pprof/", "404 Not Found"),
    ] {
        let reply = get(server.address(plugin), path).await;
        assert_eq!(reply.status, expected, "{plugin:?} {path}");
    }
    assert_eq!(get(server.address(EndpointKind::Health), "/health").await.body, "OK");
    assert_eq!(get(server.address(EndpointKind::Ready), "/ready").await.body, "OK");
}

#[tokio::test]
async fn only_get_and_head_are_methods() {
    let server = Server::start(&[
        (EndpointKind::Health, "127.0.0.1:0"),
        (EndpointKind::Prometheus, "127.0.0.2:0"),
    ])
    .await;
    let health = server.address(EndpointKind::Health);
    let head = exchange(health, b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((head.status.as_str(), head.body.as_str()), ("200 OK", ""));
    assert!(head.has_header("content-length: 2"), "{head:?}");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
        let request = format!("{method} /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        let reply = exchange(health, request.as_bytes()).await;
        assert_eq!(reply.status, "405 Method Not Allowed", "{method}");
        assert!(reply.has_header("allow: GET, HEAD"), "{reply:?}");
    }
    let metrics = server.address(EndpointKind::Prometheus);
    let head = exchange(metrics, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((head.status.as_str(), head.body.as_str()), ("200 OK", ""));
    for garbage in [&b"\x00\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"] {
        assert_eq!(exchange(health, garbage).await.status, "400 Bad Request", "{garbage:?}");
    }
}

#[tokio::test]
async fn ready_reports_the_reason_and_health_is_independent() {
    let server = Server::start(&[
        (EndpointKind::Health, "127.0.0.1:0"),
        (EndpointKind::Ready, "127.0.0.2:0"),
    ])
    .await;
    let ready = server.address(EndpointKind::Ready);
    let check = async |status: &str, body: &str| {
        let reply = get(ready, "/ready").await;
        assert_eq!((reply.status.as_str(), reply.body.as_str()), (status, body));
        assert_eq!(get(server.address(EndpointKind::Health), "/health").await.status, "200 OK");
    };
    const UNREADY: &str = "503 Service Unavailable";
    let readiness = &server.readiness;
    readiness.wait_for("kubernetes", "cluster.local.", "no list of services yet");
    check(UNREADY, "kubernetes\nkubernetes cluster.local.: no list of services yet").await;
    readiness.ready("kubernetes", "cluster.local.");
    check("200 OK", "OK").await;
    readiness.wait_for("kubernetes", "cluster.local.", "the API server is gone");
    check("200 OK", "OK").await;
    readiness.set_monitor(Monitor::Continuously);
    check(UNREADY, "kubernetes\nkubernetes cluster.local.: the API server is gone").await;
    readiness.ready("kubernetes", "cluster.local.");
    readiness.shut_down();
    check(UNREADY, "Shutting down").await;
}

#[tokio::test]
async fn metrics_have_the_requested_format() {
    let server = Server::start(&[(EndpointKind::Prometheus, "127.0.0.1:0")]).await;
    let prometheus = "content-type: text/plain; version=0.0.4; charset=utf-8";
    let open_metrics = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    for (accept, content_type, has_end) in [
        ("", prometheus, false),
        ("Accept: application/openmetrics-text;q=0.6,text/plain;q=0.3\r\n", prometheus, false),
        ("Accept: application/openmetrics-text; version=1.0.0\r\n", open_metrics, true),
        ("Accept: text/html\r\nAccept: application/openmetrics-text\r\n", open_metrics, true),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{accept}\r\n");
        let reply = exchange(server.address(EndpointKind::Prometheus), request.as_bytes()).await;
        assert!(reply.has_header(content_type), "{accept:?}: {:?}", reply.headers);
        assert_eq!(reply.body.ends_with("# EOF\n"), has_end, "{accept:?}");
        assert!(reply.body.contains("coredns_build_info{"), "{accept:?}");
    }
}

#[tokio::test]
async fn plugins_share_an_address() {
    let server = Server::start(&[
        (EndpointKind::Health, "127.0.0.1:0"),
        (EndpointKind::Ready, "127.0.0.1:0"),
        (EndpointKind::Prometheus, "localhost:0"),
        (EndpointKind::Prometheus, "127.0.0.1:0"),
    ])
    .await;
    let address = server.address(EndpointKind::Health);
    assert_eq!(server.admin.listening().count(), 3, "one listener, three plugins");
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(get(address, path).await.status, "200 OK", "{path}");
    }
}

#[tokio::test]
async fn a_wildcard_address_accepts_both_families() {
    let has_v6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    // Go's listeners accept every address on 0.0.0.0, IPv6 included.
    for wildcard in [":0", "0.0.0.0:0", "[::]:0"] {
        let server = Server::start(&[(EndpointKind::Health, wildcard)]).await;
        let port = server.address(EndpointKind::Health).port();
        for ip in ["127.0.0.1", "::1"].into_iter().take(if has_v6 { 2 } else { 1 }) {
            let address = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port);
            assert_eq!(get(address, "/health").await.status, "200 OK", "{wildcard} at {ip}");
        }
    }
}

#[tokio::test]
async fn a_reload_keeps_some_listeners_and_closes_others() {
    let mut server = Server::start(&[
        (EndpointKind::Health, "127.0.0.1:0"),
        (EndpointKind::Ready, "127.0.0.2:0"),
    ])
    .await;
    let health = server.address(EndpointKind::Health);
    let ready = server.address(EndpointKind::Ready);
    // Started before the reload, answered after it.
    let mut begun = TcpStream::connect(health).await.unwrap();
    begun.write_all(b"GET /health HTTP/1.1\r\n").await.unwrap();

    server
        .rebind(&[(EndpointKind::Health, "127.0.0.1:0"), (EndpointKind::Prometheus, "127.0.0.1:0")])
        .await
        .unwrap();
    assert_eq!(server.address(EndpointKind::Health), health, "the listener was kept");
    assert_eq!(get(health, "/metrics").await.status, "200 OK", "and has a plugin more");
    begun.write_all(b"Host: x\r\n\r\n").await.unwrap();
    assert_eq!(read_reply(begun).await.status, "200 OK");
    refuses(ready).await;
    drop(server);
    refuses(health).await;
}

#[tokio::test]
async fn a_reload_that_fails_changes_nothing() {
    let mut server = Server::start(&[(EndpointKind::Health, "127.0.0.1:0")]).await;
    let health = server.address(EndpointKind::Health);
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let error = server
        .rebind(&[(EndpointKind::Prometheus, "127.0.0.2:0"), (EndpointKind::Ready, taken.as_str())])
        .await
        .unwrap_err();
    assert_eq!((error.plugin, error.address.as_str()), (EndpointKind::Ready, taken.as_str()));
    let BindCause::InUse(Some(Holder { pid, .. })) = error.cause else { panic!("{error:?}") };
    assert_eq!(pid, std::process::id());
    assert_eq!(get(health, "/health").await.status, "200 OK");
    assert_eq!(server.admin.listening().count(), 1);
    drop(other);
    server.rebind(&[(EndpointKind::Ready, taken.as_str())]).await.unwrap();
    assert_eq!(get(taken.parse().unwrap(), "/ready").await.status, "200 OK");
}

#[tokio::test]
async fn old_and_new_endpoints_listen_until_one_is_kept() {
    let mut server = Server::start(&[
        (EndpointKind::Health, "127.0.0.1:0"),
        (EndpointKind::Ready, "127.0.0.1:0"),
    ])
    .await;
    let before = server.admin.layout();
    let old = server.address(EndpointKind::Health);
    let next = [(EndpointKind::Prometheus, "127.0.0.1:0"), (EndpointKind::Health, "127.0.0.2:0")];
    for next_is_kept in [false, true] {
        let after = server.admin.open(&endpoints(&next)).await.unwrap();
        let elsewhere =
            |(plugin, at): &(_, SocketAddr)| *plugin == EndpointKind::Health && *at != old;
        let (_, new) = server.admin.listening().find(elsewhere).unwrap();
        for (address, path) in
            [(old, "/health"), (old, "/ready"), (old, "/metrics"), (new, "/health")]
        {
            assert_eq!(get(address, path).await.status, "200 OK", "{address}{path}");
        }
        server.admin.keep(if next_is_kept { &after } else { &before });
        let (kept, gone) = if next_is_kept {
            ([(old, "/metrics"), (new, "/health")], "/health")
        } else {
            refuses(new).await;
            ([(old, "/health"), (old, "/ready")], "/metrics")
        };
        for (address, path) in kept {
            assert_eq!(get(address, path).await.status, "200 OK", "{address}{path}");
        }
        assert_eq!(get(old, gone).await.status, "404 Not Found", "{gone}");
    }
}

#[tokio::test]
async fn a_reload_may_move_between_overlapping_addresses() {
    let mut server = Server::start(&[(EndpointKind::Health, "127.0.0.1:0")]).await;
    let port = server.address(EndpointKind::Health).port();
    let narrow: SocketAddr = ([127, 0, 0, 1], port).into();
    let wide = format!(":{port}");
    for address in [&wide, &narrow.to_string(), &format!("0.0.0.0:{port}"), &wide] {
        server.rebind(&[(EndpointKind::Health, address)]).await.unwrap();
        assert_eq!(server.admin.listening().count(), 1, "{address}");
        assert_eq!(get(narrow, "/health").await.status, "200 OK", "{address}");
    }
    server
        .rebind(&[(EndpointKind::Ready, &narrow.to_string()), (EndpointKind::Health, &wide)])
        .await
        .unwrap();
    assert_eq!(get(narrow, "/ready").await.status, "200 OK");
    let elsewhere = ([127, 0, 0, 2], port).into();
    assert_eq!(get(elsewhere, "/health").await.status, "200 OK");
}

#[tokio::test]
async fn unusable_addresses_are_reported() {
    let check = async |address: &str| -> BindError {
        let endpoints = [Endpoint {
            plugin: EndpointKind::Ready,
            address: address.to_owned(),
            place: "Corefile:3".to_owned(),
        }];
        let error =
            Admin::bind(&endpoints, metrics(), Arc::default(), PortClaim::Alone).await.unwrap_err();
        assert_eq!((error.plugin, error.address.as_str()), (EndpointKind::Ready, address));
        assert!(error.to_string().starts_with("Corefile:3: plugin/ready: "), "{error}");
        error
    };
    for address in ["", "8181", "localhost", "::1:8181", "127.0.0.1:65536", ":http"] {
        assert!(matches!(check(address).await.cause, BindCause::Malformed), "{address}");
    }
    // A label of 64 bytes is not a name, so no resolver is asked for it. RFC 5737: never an address
    // of this host.
    let no_name = format!("{}:1", "x".repeat(64));
    assert!(matches!(check(&no_name).await.cause, BindCause::Unresolved(_)));
    assert!(matches!(check("192.0.2.1:8181").await.cause, BindCause::NotLocal));
}

#[tokio::test]
async fn idle_connections_keep_no_client_out() {
    let server = Server::start(&[(EndpointKind::Health, "127.0.0.1:0")]).await;
    let address = server.address(EndpointKind::Health);
    let mut idle = Vec::new();
    for _ in 0..HTTP_CONNECTIONS_MAX + 1 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    assert_eq!(get(address, "/health").await.status, "200 OK");
    // The oldest connection was closed without a response.
    let mut byte = [0];
    let closed = timeout(PATIENCE, idle[0].read(&mut byte)).await.expect("it was closed");
    assert!(matches!(closed, Ok(0) | Err(_)));
}

#[tokio::test]
async fn headers_have_a_bound() {
    let server = Server::start(&[(EndpointKind::Health, "127.0.0.1:0")]).await;
    let long = format!("GET /health HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(9000));
    let many = format!("GET /health HTTP/1.1\r\n{}\r\n", "X: x\r\n".repeat(100));
    for request in [long, many] {
        let reply = exchange(server.address(EndpointKind::Health), request.as_bytes()).await;
        assert_eq!(reply.status, "431 Request Header Fields Too Large");
    }
}

#[tokio::test]
async fn an_incomplete_request_times_out_after_five_seconds() {
    let server = Server::start(&[(EndpointKind::Health, "127.0.0.1:0")]).await;
    let mut stream = TcpStream::connect(server.address(EndpointKind::Health)).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost").await.unwrap();
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the connection was never closed");
}

#[tokio::test]
async fn the_server_measures_its_own_health_requests() {
    let server = Server::start(&[
        (EndpointKind::Health, "127.0.0.1:0"),
        (EndpointKind::Prometheus, "127.0.0.2:0"),
    ])
    .await;
    let polled = async {
        loop {
            let scrape = get(server.address(EndpointKind::Prometheus), "/metrics").await.body;
            if !scrape.contains("coredns_health_request_duration_seconds_count 0") {
                return scrape;
            }
        }
    };
    let scrape = timeout(PATIENCE, polled).await.expect("it polls at once");
    assert!(scrape.contains("coredns_health_request_failures_total 0"), "{scrape}");
}

struct Server {
    admin: Admin,
    readiness: Arc<Readiness>,
}

impl Server {
    async fn start(rows: &[(EndpointKind, &str)]) -> Self {
        let readiness = Arc::<Readiness>::default();
        let admin =
            Admin::bind(&endpoints(rows), metrics(), Arc::clone(&readiness), PortClaim::Alone)
                .await;
        Self { admin: admin.unwrap_or_else(|error| panic!("{error}")), readiness }
    }

    async fn rebind(&mut self, rows: &[(EndpointKind, &str)]) -> Result<(), BindError> {
        let layout = self.admin.open(&endpoints(rows)).await?;
        self.admin.keep(&layout);
        Ok(())
    }

    fn address(&self, plugin: EndpointKind) -> SocketAddr {
        self.admin.listening().find(|(other, _)| *other == plugin).unwrap().1
    }
}

fn endpoints(rows: &[(EndpointKind, &str)]) -> Vec<Endpoint> {
    rows.iter()
        .map(|(plugin, address)| Endpoint {
            plugin: *plugin,
            address: (*address).to_owned(),
            place: String::new(),
        })
        .collect()
}

fn metrics() -> Arc<Metrics> {
    let build =
        Build { version: "0.1.0".to_owned(), revision: String::new(), compiler: String::new() };
    Arc::new(Metrics::new(build, 1))
}

#[derive(Debug)]
struct Reply {
    /// After `HTTP/1.1 `.
    status: String,
    headers: Vec<String>,
    body: String,
}

impl Reply {
    fn has_header(&self, header: &str) -> bool {
        self.headers.iter().any(|found| found == header)
    }
}

async fn get(address: SocketAddr, path: &str) -> Reply {
    exchange(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
}

async fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    read_reply(stream).await
}

/// Reads up to the end: the server closes the connection after its response.
async fn read_reply(mut stream: TcpStream) -> Reply {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer");
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{read:?}: {text:?}"));
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).unwrap().to_owned();
    Reply { status, headers: lines.map(str::to_owned).collect(), body: body.to_owned() }
}

/// Waits until nothing listens at the address.
async fn refuses(address: SocketAddr) {
    let refused = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the listener was closed");
}
