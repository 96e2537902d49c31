//! A running ringdns with a cluster from a file, and what tests ask of it.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::port;
use crate::query::{ID, is_response, query};

/// The deadline of everything that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    pub(crate) folder: TempDir,
    pub(crate) dns: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) child: Child,
}

pub(crate) fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default}}\n\
         spec: {{clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{name: http, port: 80, protocol: \
         TCP}}]}}\n"
    )
}

pub(crate) fn cluster(services: &[(&str, &str)]) -> String {
    let mut text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n".to_owned();
    for (name, ip) in services {
        text.push_str("---\n");
        text.push_str(&service(name, ip));
    }
    text
}

impl Server {
    pub(crate) fn corefile(&self, zone: &str, ttl_secs: u32) -> String {
        let (port, http) = (self.dns.port(), self.http);
        format!(
            "{zone}:{port} {{\n    bind 127.0.0.1\n    errors\n    health {http} {{\n        \
             lameduck 1s\n    }}\n    \
             ready {http}\n    prometheus {http}\n    kubernetes {zone} {{\n        \
             manifests cluster.yaml\n        \
             ttl {ttl_secs}\n    }}\n    reload 2s 1s\n}}\n"
        )
    }

    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (dns, http) = (local(port::free()), local(port::free()));
        let child = Command::new("true").spawn().unwrap();
        let mut server = Self { folder, dns, http, child };
        server.child.wait().unwrap();
        fs::write(server.path("cluster.yaml"), cluster(&[("web", "10.0.0.1")])).unwrap();
        fs::write(server.path("Corefile"), server.corefile("cluster.local", 30)).unwrap();
        server.child = Command::new(env!("CARGO_BIN_EXE_ringdns"))
            .arg("-conf")
            .arg(server.path("Corefile"))
            .args(arguments)
            .stdout(fs::File::create(server.path("log")).unwrap())
            .spawn()
            .unwrap();
        server.until("it answers", |server| server.address("web").is_some());
        server
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    pub(crate) fn until(&self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let began = Instant::now();
        while !is_so(self) {
            assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn ask(&self, name: &str, zone: &str) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(self.dns).unwrap();
        // A shard may get no CPU time for seconds on a busy machine.
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.send(&query(&format!("{name}.default.svc.{zone}"), 1)).ok()?;
        let mut answer = vec![0; 512];
        let len = socket.recv(&mut answer).ok()?;
        answer.truncate(len);
        is_response(&answer, ID).then_some(answer)
    }

    /// The last byte of the name's only address.
    pub(crate) fn address(&self, name: &str) -> Option<u8> {
        let answer = self.ask(name, "cluster.local")?;
        (answer[7] == 1).then(|| *answer.last().unwrap())
    }

    pub(crate) fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits for the process to end; returns its exit code and its log.
    pub(crate) fn ended(mut self) -> (Option<i32>, String) {
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        (self.child.wait().unwrap().code(), self.log())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
