//! Clients as they are made: their limits, and their replacement.

use tokio::io::AsyncReadExt;

use super::*;
use crate::raw::Kind;
use crate::watch::failure::Diagnosis;
use crate::watch::recovery::Failure;
use crate::watch::request::ApiError;

#[test]
fn qps_and_burst_make_a_rate() {
    let check = |qps, burst, expected: Option<(u64, u64)>| {
        let server = ApiServer { qps, burst, ..ApiServer::default() };
        let expected = expected.map(|(count, ms)| (count, Duration::from_millis(ms)));
        assert_eq!(rate_limit(&server), expected, "{qps:?} {burst:?}");
    };
    check(None, None, None);
    check(Some(0), Some(0), None);
    check(Some(50), Some(100), Some((100, 2000)));
    check(Some(50), None, Some((10, 200)));
    check(None, Some(20), Some((20, 4000)));
}

#[test]
fn a_client_that_has_panicked_is_replaced() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = ApiServer { endpoint: Some(address.to_string()), ..ApiServer::default() };
    let options = crate::watch::tests::options();
    let status = Arc::new(SourceStatus::new(&options));
    let (sender, events) = tokio::sync::mpsc::channel(4);
    let watching = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let panics = tower::service_fn(|_: Request<Body>| {
                // kube's client did this for a URL without a scheme.
                panic!("the client's task ends")
                    as std::future::Ready<Result<http::Response<Body>, BoxError>>
            });
            let client = Client::new(panics, "default");
            let connector = Connector::having_beside(client, server, Arc::clone(&status));
            crate::watch::Watch::with_connector(connector, &options, status).run(sender).await;
        });
    });
    // The replacement connects.
    listener.set_nonblocking(true).expect("a socket");
    let deadline = Instant::now() + Duration::from_secs(60);
    while listener.accept().is_err() {
        assert!(Instant::now() < deadline, "no new client connects");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(events);
    watching.join().expect("the task ends with its receiver");
}

#[tokio::test(start_paused = true)]
async fn a_first_client_that_cannot_be_made_is_tried_every_second() {
    let kubeconfig = Some(("/does/not/exist".into(), None));
    let server = ApiServer { kubeconfig, ..ApiServer::default() };
    let status = Arc::new(SourceStatus::new(&crate::watch::tests::options()));
    let connector =
        Connector::new(server, |_| unreachable!("no client is made"), Arc::clone(&status));
    let failures = || status.reports()[0].failures;
    let minute = async {
        for second in 0..60 {
            let before = failures();
            sleep(Duration::from_millis(1001)).await;
            assert!(failures() > before, "{second}");
        }
    };
    tokio::select! {
        _ = connector.first() => panic!("a client without a kubeconfig"),
        () = minute => {}
    }
    assert!((60..130).contains(&failures()), "{}", failures());
}

#[test]
fn tasks_that_wait_for_a_client_share_the_result() {
    let surroundings = Surroundings::new(&[]);
    let script = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho x >> runs\nsleep 0.1\nexit 1\n";
    surroundings.write("plugin", script);
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, args: [PLUGIN]}";
    let exec = exec.replace("PLUGIN", &surroundings.path("plugin"));
    let text = entries("server: 'https://127.0.0.1:1'", &exec);
    let server = kubeconfig_file(&surroundings, &text, None);
    let status = Arc::new(SourceStatus::new(&crate::watch::tests::options()));
    let connector = Connector::new(server, |_| unreachable!("no client is made"), status);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let ask = || async { connector.client(None).await.err().map(|error| error.to_string()) };
        let check_runs = |expected: usize| {
            let runs =
                std::fs::read_to_string(surroundings.folder.path().join("runs")).expect("runs");
            assert_eq!(runs.lines().count(), expected);
        };
        let (first, second, third) = futures::join!(ask(), ask(), ask());
        assert!(first.as_ref().is_some_and(|error| error.contains("exit status: 1")), "{first:?}");
        assert_eq!((&first, &first), (&second, &third));
        check_runs(1);
        assert_eq!(ask().await, first, "a later call tries again");
        check_runs(2);
    });
}

/// A balancer accepts the connection, and nobody is behind it.
#[tokio::test]
async fn a_handshake_without_an_end() {
    let surroundings = Surroundings::new(&[]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let cluster = format!("server: 'https://{address}', insecure-skip-tls-verify: true");
    let server = kubeconfig_file(&surroundings, &entries(&cluster, "token: t"), None);
    let status = Arc::new(SourceStatus::new(&crate::watch::tests::options()));
    let connector = Connector::new(server, |_| unreachable!("no CA"), status);
    let client = connector.client(None).await.expect("a client").client;
    let request = Request::get("/version").body(Body::empty()).expect("a request");
    let sent = tokio::spawn(async move { client.send(request).await });
    // TLS has begun.
    let (mut silent, _) = listener.accept().await.expect("a connection");
    silent.read_u8().await.expect("the first byte of a handshake");
    tokio::time::pause();
    tokio::time::advance(ESTABLISH_MAX).await;
    let waited = timeout(Duration::from_secs(1), sent).await.expect("it ends");
    let error = waited.expect("no panic").expect_err("no response");
    let diagnosis = Diagnosis::of(&ApiError::from(error));
    assert_eq!(diagnosis.failure, Failure::Unreachable);
    assert!(diagnosis.error.contains("no connection within 10s"), "{}", diagnosis.error);
    assert!(diagnosis.next_step(Kind::Service).contains("firewalls"));
}

#[test]
fn a_file_that_hangs_blocks_nothing_else() {
    let surroundings = Surroundings::new(&[]);
    // Opening it blocks until somebody writes, as on a file server that is gone.
    let file = surroundings.folder.path().join("kubeconfig");
    let made = std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo");
    assert!(made.success());
    let kubeconfig = Some((file.clone(), None));
    let server = ApiServer { kubeconfig, ..ApiServer::default() };
    let status = Arc::new(SourceStatus::new(&crate::watch::tests::options()));
    let connector = Connector::new(server, |_| unreachable!("no client is made"), status);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        tokio::select! {
            biased;
            made = connector.client(None) => panic!("the file was read: {:?}", made.err()),
            () = tokio::task::yield_now() => {}
        }
        std::fs::write(&file, "it is back").expect("somebody reads it");
    });
}

/// The last token is used, and the thread that reads the cluster goes on.
#[test]
fn a_token_file_that_hangs() {
    let surroundings = Surroundings::new(&[]);
    let file = surroundings.folder.path().join("token");
    let credentials = Credentials::of_file(file.clone(), None).expect("a token");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let header = || {
        let header = runtime.block_on(credentials.header()).expect("no plugin").expect("a token");
        header.to_str().expect("text").to_owned()
    };
    assert_eq!(header(), "Bearer secret");
    surroundings.write("token", "rotated");
    assert_eq!(header(), "Bearer rotated");
    std::fs::remove_file(&file).expect("a file");
    // Opening it blocks until somebody writes.
    let made = std::process::Command::new("mkfifo").arg(&file).status().expect("mkfifo");
    assert!(made.success());
    let headers = [header(), header()];
    std::fs::write(&file, "late").expect("somebody reads it");
    assert_eq!(headers, ["Bearer rotated", "Bearer rotated"]);
    // Its reader has read it by then.
    std::fs::remove_file(&file).expect("a file");
    let deadline = Instant::now() + Duration::from_secs(60);
    while header() != "Bearer late" {
        assert!(Instant::now() < deadline, "the late token is never used");
    }
}

/// `/ready` says so, and a snapshot is served.
#[tokio::test(start_paused = true)]
async fn a_first_client_that_takes_long_is_reported() {
    let status = Arc::new(SourceStatus::new(&crate::watch::tests::options()));
    let server = ApiServer::default();
    let connector = Connector::new(server, |_| unreachable!("no TLS"), Arc::clone(&status));
    // As while a file or a plugin hangs.
    let _making = connector.latest.lock().await;
    let waited = timeout(MAKING_MAX - Duration::from_millis(1), connector.first()).await;
    assert!(waited.is_err() && !status.is_hindered());
    let waited = timeout(MAKING_MAX + Duration::from_millis(1), connector.first()).await;
    assert!(waited.is_err() && status.is_hindered());
    let error = status.reports()[0].error.clone().expect("an error");
    assert!(error.contains("not read within 10s"), "{error}");
}
