//! Signals, and the shutdown.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::server::Server;

/// Every query is answered until the server ends, during lameduck too.
#[test]
fn a_shutdown_loses_no_query() {
    for arguments in [
        ["--io", "uring"].as_slice(),
        &["--io", "mmsg"],
        &["--io", "uring", "--busy-poll", "200us"],
        &["--io", "mmsg", "--busy-poll", "200us"],
    ] {
        let server = Server::start(arguments);
        let (stopping, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                while !stopping.load(Ordering::Relaxed) {
                    assert_eq!(server.address("web"), Some(1));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
            let until_a_hundred_more = |what: &str| {
                let before = answered.load(Ordering::Relaxed);
                server.until(what, |_| answered.load(Ordering::Relaxed) > before + 100);
            };
            until_a_hundred_more("answers before the signal");
            server.signal("TERM");
            // lameduck 1s: not ready, but alive and answering.
            server.until("it is not ready", |server| server.get("/ready").contains("503"));
            assert!(server.get("/health").contains("200"));
            until_a_hundred_more("answers after it");
            stopping.store(true, Ordering::Relaxed);
            asking.join().unwrap();
        });
        assert_eq!(server.ended().0, Some(0));
    }
}

/// CoreDNS's messages for the signals that it handles, and advice for the others.
#[test]
fn signals_log_their_effect() {
    for (end, last_line) in [
        ("TERM", "[INFO] SIGTERM: Shutting down servers then terminating"),
        ("INT", "[INFO] SIGINT: Shutting down"),
        ("QUIT", "[INFO] SIGQUIT: Quitting process immediately"),
    ] {
        let mut server = Server::start(&[]);
        let corefile = server.path("Corefile");
        // A different comment does not make a different Corefile.
        let commented = format!("# unchanged\n{}", fs::read_to_string(&corefile).unwrap());
        fs::write(&corefile, commented).unwrap();
        let reloads =
            ["[INFO] SIGUSR1: Reloading", "[INFO] plugin/reload: the Corefile has not changed"];
        for (signal, expected) in [
            ("HUP", ["[INFO] SIGHUP: ignored, as CoreDNS does; SIGUSR1 reloads"].as_slice()),
            ("USR2", &["[WARNING] SIGUSR2: ignored, "]),
            ("USR1", &reloads),
            (end, &[last_line]),
        ] {
            server.signal(signal);
            for line in expected {
                server.until(&format!("SIG{signal}: {line}"), |server| {
                    server.log().lines().any(|logged| logged.starts_with(line))
                });
            }
        }
        assert_eq!(server.child.wait().unwrap().code(), Some(0), "SIG{end}");
    }
}
