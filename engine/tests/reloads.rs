//! A thousand reloads under load: no query is lost, and each response is that of the Corefile
//! before or after.
//!
//! Each Corefile answers with its own number as an address. The next one is written when every
//! client has seen the last. The rate is printed, not asserted.

#[path = "rig/port.rs"]
mod port;
#[path = "rig/query.rs"]
mod query;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use query::{ID, is_response, query, query_with_id};

const RELOADS: u32 = 1000;
const CLIENTS: usize = 4;
/// Queries in flight per client.
const WINDOW: u16 = 32;
/// The deadline of each reload, and of each response.
const PATIENCE: Duration = Duration::from_secs(10);
/// The clients stop after this long, whatever happens.
const TEST_TIMEOUT: Duration = Duration::from_secs(240);

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n";

/// What the clients know of the Corefile, and it of them.
#[derive(Default)]
struct Progress {
    /// The newest Corefile that may be in force.
    written: AtomicU32,
    /// The newest that each client has seen.
    seen: [AtomicU32; CLIENTS],
    responses: AtomicU64,
    is_over: AtomicBool,
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn no_query_is_lost_and_each_response_is_of_the_corefile_before_or_after() {
    // In memory: a file system on a busy disk may delay a renaming by seconds.
    let folder = TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap();
    let server_address = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
    fs::write(folder.path().join("cluster.yaml"), NAMESPACE).unwrap();
    write_corefile(folder.path(), server_address.port(), 0);
    let server = start(folder.path());
    await_first_response(server_address);
    let progress = Progress::default();
    let began = Instant::now();
    thread::scope(|scope| {
        for index in 0..CLIENTS {
            let progress = &progress;
            scope.spawn(move || ask(index, server_address, progress, began));
        }
        let pid = Pid::from_child(&server.0);
        for number in 1..=RELOADS {
            write_corefile(folder.path(), server_address.port(), number);
            progress.written.store(number, Ordering::SeqCst);
            kill_process(pid, Signal::USR1).unwrap();
            let written = Instant::now();
            while progress.seen.iter().any(|seen| seen.load(Ordering::SeqCst) < number) {
                let is_late = written.elapsed() > PATIENCE;
                if is_late || progress.is_over.load(Ordering::SeqCst) {
                    progress.is_over.store(true, Ordering::SeqCst);
                    panic!("Corefile {number} is not in force: {:?}", progress.seen);
                }
                thread::sleep(Duration::from_micros(200));
            }
        }
        progress.is_over.store(true, Ordering::SeqCst);
    });
    let (responses, took) = (progress.responses.load(Ordering::SeqCst), began.elapsed());
    println!(
        "{RELOADS} reloads in {took:.1?}, {responses} responses, {:.0} per second, 0 lost, 0 wrong",
        responses as f64 / took.as_secs_f64()
    );
    assert!(responses >= u64::from(RELOADS), "the clients asked all the time");
}

/// A ConfigMap as kubelet mounts it: files are links into a folder, which is replaced by a link of
/// the same name. `reload` alone would take 30 s, give or take 7.5.
#[test]
fn a_change_in_a_mounted_config_map_is_found_at_once() {
    let folder = TempDir::new().unwrap();
    let server_address = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
    let mount = |number: u32| {
        let version = folder.path().join(format!("..{number}"));
        fs::create_dir(&version).unwrap();
        fs::write(version.join("hosts.override"), hosts(number)).unwrap();
        let port = server_address.port();
        let text =
            format!(".:{port} {{\n    bind 127.0.0.1\n    reload\n    import *.override\n}}\n");
        fs::write(version.join("Corefile"), text).unwrap();
        let link = folder.path().join("..next");
        symlink(&version, &link).unwrap();
        fs::rename(link, folder.path().join("..data")).unwrap();
    };
    mount(0);
    for file in ["Corefile", "hosts.override"] {
        symlink(Path::new("..data").join(file), folder.path().join(file)).unwrap();
    }
    let _server = start(folder.path());
    await_first_response(server_address);
    for number in 1..=3 {
        mount(number);
        await_number(server_address, number);
    }
    // A file in place of a link.
    fs::remove_file(folder.path().join("hosts.override")).unwrap();
    fs::write(folder.path().join("hosts.override"), hosts(4)).unwrap();
    await_number(server_address, 4);
}

/// The folder is watched when the start-up has ended, which the pipe delays by five seconds.
/// `reload` alone would take 30 s, give or take 7.5.
#[test]
fn a_change_during_the_start_up_is_found_at_its_end() {
    let folder = TempDir::new().unwrap();
    let server_address = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
    let health = SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()));
    let write = |hosts: String| {
        let port = server_address.port();
        let text = format!(".:{port} {{\n bind 127.0.0.1\n health {health}\n reload\n {hosts}}}\n");
        fs::write(folder.path().join("next"), text).unwrap();
        fs::rename(folder.path().join("next"), folder.path().join("Corefile")).unwrap();
    };
    let made = Command::new("mkfifo").arg(folder.path().join("pipe")).status();
    assert!(made.unwrap().success());
    let pipe = format!("hosts {}", folder.path().join("pipe").display());
    write(hosts(0).replacen("hosts", &pipe, 1));
    let _server = start(folder.path());
    let began = Instant::now();
    while TcpStream::connect(health).is_err() {
        assert!(began.elapsed() < PATIENCE, "the endpoint of `health` is not served");
        thread::sleep(Duration::from_millis(5));
    }
    // The Corefile has been read.
    write(hosts(1));
    await_first_response(server_address);
    await_number(server_address, 1);
}

fn hosts(number: u32) -> String {
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 0, 0, 0).to_bits() + number);
    format!("hosts {{\n    {address} number.test\n    fallthrough\n}}\n")
}

fn start(folder: &Path) -> Server {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringdns"));
    command.arg("-conf").arg(folder.join("Corefile")).stdout(Stdio::null());
    Server(command.spawn().unwrap())
}

fn await_number(server: SocketAddr, number: u32) {
    let socket = connect(server);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 512];
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < PATIENCE {
        socket.send(&query("number.test", 1)).unwrap();
        let len = socket.recv(&mut buffer).unwrap();
        assert!(is_response(&buffer[..len], ID));
        last = Some(number_in(&buffer[..len]));
        if last == Some(number) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{last:?} after {PATIENCE:?}, not {number}");
}

/// Replaces the Corefile by a rename, so that the server never reads half of it.
fn write_corefile(folder: &Path, port: u16, number: u32) {
    let hosts = hosts(number);
    let text = format!(
        ".:{port} {{\n    bind 127.0.0.1\n{hosts}    kubernetes cluster.local {{\n        \
         manifests cluster.yaml\n    }}\n}}\n"
    );
    fs::write(folder.join("next"), text).unwrap();
    fs::rename(folder.join("next"), folder.join("Corefile")).unwrap();
}

fn connect(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(server).unwrap();
    socket
}

fn await_first_response(server: SocketAddr) {
    let socket = connect(server);
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 512];
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        // Nobody may listen yet.
        if socket.send(&query("number.test", 1)).is_ok()
            && socket.recv(&mut buffer).is_ok_and(|len| is_response(&buffer[..len], ID))
        {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("the server does not respond");
}

/// Keeps `WINDOW` queries in flight and checks each response.
fn ask(index: usize, server: SocketAddr, progress: &Progress, began: Instant) {
    let socket = connect(server);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut query = query_with_id("number.test", 1, 0);
    let mut buffer = [0; 512];
    let mut newest = 0;
    let mut is_over = false;
    while !is_over && began.elapsed() < TEST_TIMEOUT {
        is_over = progress.is_over.load(Ordering::SeqCst);
        for id in 0..WINDOW {
            query[..2].copy_from_slice(&id.to_be_bytes());
            socket.send(&query).unwrap();
        }
        let mut ids_left: u32 = u32::MAX;
        for _ in 0..WINDOW {
            let received = socket.recv(&mut buffer);
            let len = received.unwrap_or_else(|error| {
                progress.is_over.store(true, Ordering::SeqCst);
                panic!("a query was lost: {error}")
            });
            let response = &buffer[..len];
            let id = u16::from_be_bytes([response[0], response[1]]);
            assert!(is_response(response, id));
            ids_left &= !(1 << id);
            let number = number_in(response);
            let written = progress.written.load(Ordering::SeqCst);
            if !(newest..=written).contains(&number) {
                progress.is_over.store(true, Ordering::SeqCst);
                panic!("{number} after {newest}, while {written} is the last Corefile");
            }
            newest = number;
            progress.seen[index].store(newest, Ordering::SeqCst);
        }
        assert_eq!(ids_left, 0, "one response for each query");
        progress.responses.fetch_add(WINDOW.into(), Ordering::SeqCst);
    }
}

const _: () = assert!(WINDOW == 32, "`ids_left` has a bit for each");

/// The number in the address of a response; it must be a success with one address.
fn number_in(response: &[u8]) -> u32 {
    assert_eq!(response[3] & 0xF, 0, "NOERROR: {response:02x?}");
    assert_eq!(response[6..8], [0, 1], "one answer: {response:02x?}");
    let address = response.last_chunk::<4>().expect("an address at the end");
    u32::from_be_bytes(*address) - Ipv4Addr::new(10, 0, 0, 0).to_bits()
}
