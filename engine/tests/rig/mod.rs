//! A running fleet on loopback with a small table, for tests that query it through sockets. The
//! table is built here; queries are in `query`, upstreams in `upstream`.
#![allow(dead_code, unreachable_pub)] // Each test binary uses a part of its copy.

pub mod query;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use engine::answer::exit::{ErrorReport, Reports};
use engine::cli::Steer;
use engine::client::ListenerId;
use engine::config;
use engine::corefile::Surroundings;
use engine::fleet::{Backend, Fleet, FleetSettings};
use engine::io::socket::{self, PortClaim};
use engine::metrics::{Build, Metrics};
use engine::plan::draft::PlanDraft;
use engine::plan::{Plan, TableSlot};
use engine::plugin::log::query::LoggedQuery;
use engine::plugin::log::ring::QueryRings;
use engine::steering::Company;
use wire::compile::{EntryWriter, Section, TableBuilder, TableOptions};
use wire::hash::HashSeed;
use wire::name::Name;
use wire::pod::PodMode;
use wire::table::{EVERY_TYPE, Table};

use query::wire_name;

/// Both ways of moving datagrams; every test runs over each.
pub const BACKENDS: [Backend; 2] = [Backend::Uring, Backend::Mmsg];

/// How long to wait for a response before there is none.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// How long to listen before silence is certain.
pub const SILENCE: Duration = Duration::from_millis(150);

/// Of all tables.
pub const HASH_SEED: HashSeed = HashSeed::new(7);

pub struct Rig {
    pub fleet: Fleet,
    pub address: SocketAddr,
    pub errors: Receiver<ErrorReport>,
    /// What `log` hands over.
    pub queries: Receiver<LoggedQuery>,
    pub builder: TableBuilder,
    pub metrics: Metrics,
    pub plan: Arc<Plan>,
    /// The first generation. It is held here so that the shard never owns it alone, like the
    /// control plane does.
    pub first: Arc<Table>,
}

/// web: one address; big: 60 (1 KB); big2: 95 (1.5 KB); an SRV with its address; one endpoint of
/// each, which is listed, and its PTR; alias: a CNAME of web; a PTR; pods insecure.
pub fn builder() -> TableBuilder {
    let zones = ["cluster.local", "in-addr.arpa"].map(wire_name).to_vec();
    let options = TableOptions::kubernetes(zones, PodMode::Insecure, 30);
    let mut builder = TableBuilder::new(options, HASH_SEED);
    let mut writer = EntryWriter::new();
    for (name, count) in [("web", 1u8), ("big", 60), ("big2", 95)] {
        let owner = wire_name(&format!("{name}.default.svc.cluster.local"));
        writer.begin(&owner);
        writer.answer(1);
        for host in 0..count {
            writer.record(Section::Answer, &owner, 1, 30, &[10, 96, 0, host]);
        }
        writer.answer(33);
        let mut rdata = vec![0, 0, 0, 100, 0, 80];
        rdata.extend(&owner);
        writer.record(Section::Answer, &owner, 33, 30, &rdata);
        writer.record(Section::Additional, &owner, 1, 30, &[10, 96, 0, 0]);
        let endpoint = [10, 1, 0, count].into();
        writer.list_endpoints(100, &[8080], &[endpoint]);
        builder.insert(writer.finish());
        builder.insert_pointer(endpoint, &Name::from_wire(&owner).unwrap());
    }
    let alias = wire_name("alias.default.svc.cluster.local");
    writer.begin(&alias);
    writer.answer(EVERY_TYPE);
    let web = wire_name("web.default.svc.cluster.local");
    writer.record(Section::Answer, &alias, 5, 30, &web);
    builder.insert(writer.finish());
    for name in ["svc.cluster.local", "default.svc.cluster.local", "default.pod.cluster.local"] {
        writer.begin(&wire_name(name));
        builder.insert(writer.finish());
    }
    let pointer = wire_name("0.0.96.10.in-addr.arpa");
    writer.begin(&pointer);
    writer.answer(12);
    writer.record(Section::Answer, &pointer, 12, 30, &wire_name("web.default.svc.cluster.local"));
    builder.insert(writer.finish());
    builder.set_synced();
    builder
}

impl Rig {
    /// One shard that serves cluster.local, and in-addr.arpa with fall-through. Its queries are
    /// counted and logged.
    pub fn start(backend: Backend) -> Self {
        Self::start_at(backend, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0))
    }

    pub fn start_at(backend: Backend, address: SocketAddr) -> Self {
        Self::start_with(backend, address, "")
    }

    /// The block also has these lines, of `cache` and `forward`; then it serves every name.
    pub fn start_with(backend: Backend, address: SocketAddr, lines: &str) -> Self {
        let (errors, reported) = bounded(16);
        let rings = Arc::new(QueryRings::default());
        let queries = rings.open(1).expect("they are new").remove(0);
        let reports = Reports { errors, queries: rings };
        let build = Build::default();
        let metrics = Metrics::new(build, 1);
        let settings = FleetSettings { backend, busy_poll: Duration::ZERO, steer: Steer::Auto };
        let mut fleet = Fleet::start(settings, &[None], &[metrics.shard(0)], &reports).unwrap();
        let sockets = socket::bind(address, 1, PortClaim::Alone).unwrap();
        let address = sockets[0].own.tcp.local_addr().unwrap();
        let mut builder = builder();
        let slot = TableSlot(0);
        let first = builder.publish(1);
        for deliver in fleet.deliveries(slot) {
            assert!(deliver(Arc::clone(&first)));
        }
        let plan = Arc::new(plan(lines, &metrics));
        fleet.set_plan(&plan);
        fleet.open(ListenerId(0), sockets, Company::None);
        Self { fleet, address, errors: reported, queries, builder, metrics, plan, first }
    }

    pub fn udp(&self) -> UdpSocket {
        let socket = UdpSocket::bind((self.address.ip(), 0)).unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// One response over UDP, or none.
    pub fn ask_udp(&self, packet: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let socket = self.udp();
        socket.set_read_timeout(Some(patience)).unwrap();
        socket.send(packet).unwrap();
        let mut answer = vec![0; 65535];
        match socket.recv(&mut answer) {
            Ok(len) => Some(answer[..len].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// One response over TCP. `None` after silence or a closed connection.
    pub fn ask_tcp(&self, packet: &[u8], patience: Duration) -> Option<Vec<u8>> {
        let mut stream = self.tcp();
        stream.set_read_timeout(Some(patience)).unwrap();
        stream.write_all(&frame(packet)).unwrap();
        read_frame(&mut stream)
    }
}

/// The plan of a server block with these lines and `kubernetes`, `prometheus`, `errors` and
/// `loadbalance`. It serves every name if a line forwards. The rig delivers its table.
pub fn plan(lines: &str, metrics: &Metrics) -> Plan {
    let root = if lines.contains("forward") { " .:53" } else { "" };
    let text = format!(
        "cluster.local:53 in-addr.arpa:53{root} {{
            prometheus
            errors
            loadbalance
            kubernetes cluster.local in-addr.arpa {{
                manifests none
                fallthrough in-addr.arpa
            }}
            {lines}
        }}"
    );
    let surroundings = Surroundings::empty();
    let config = config::parse("Corefile", &text, &surroundings).expect("lines without mistakes");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let draft = runtime.block_on(PlanDraft::new(&config, &Plan::default(), &[], metrics));
    draft.expect("lines that can be put to work").into_plan(metrics)
}

/// A message after its length.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend(message);
    framed
}

pub fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}
