//! Has a shard answer N queries for Services' addresses over one TCP connection, 64 at a time: the
//! other program that `tests/instructions.rs` runs under callgrind.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use benches::{Cluster, Corefile, Kind, plan};
use crossbeam_channel::bounded;
use engine::answer::exit::Reports;
use engine::cli::Steer;
use engine::client::ListenerId;
use engine::fleet::{Backend, Fleet, FleetSettings};
use engine::io::socket::{self, PortClaim};
use engine::metrics::{Build, Metrics};
use engine::plan::TableSlot;
use engine::plugin::log::ring::QueryRings;
use engine::steering::Company;

/// Queries in flight.
const WINDOW: usize = 64;

fn main() -> io::Result<ExitCode> {
    let Some(Ok(count)) = std::env::args().nth(1).map(|count| count.parse::<usize>()) else {
        eprintln!("usage: pipelined N");
        return Ok(ExitCode::from(2));
    };
    let metrics = Metrics::new(Build::default(), 1);
    let (errors, _reported) = bounded(1);
    let reports = Reports { errors, queries: Arc::new(QueryRings::default()) };
    let backend = Backend::Mmsg; // Callgrind knows no io_uring.
    let settings = FleetSettings { backend, busy_poll: Duration::ZERO, steer: Steer::Hash };
    let mut fleet = Fleet::start(settings, &[None], &[metrics.shard(0)], &reports)?;
    let cluster = Cluster::new(Corefile::Stock);
    for deliver in fleet.deliveries(TableSlot(0)) {
        assert!(deliver(Arc::clone(cluster.table())), "the shard runs");
    }
    fleet.set_plan(&Arc::new(plan(Corefile::Stock, &metrics)));
    let sockets = socket::bind((Ipv4Addr::LOCALHOST, 0).into(), 1, PortClaim::Alone)?;
    let mut stream = TcpStream::connect(sockets[0].own.tcp.local_addr()?)?;
    fleet.open(ListenerId(0), sockets, Company::None);
    for first in (0..count).step_by(WINDOW) {
        let queries = (first..first + WINDOW).map(|index| framed(&Kind::AHit.query(index)));
        stream.write_all(&queries.collect::<Vec<_>>().concat())?;
        for _ in 0..WINDOW {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut response = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut response)?;
            Kind::AHit.check(&response);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A message after its length.
fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}
