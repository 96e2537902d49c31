//! The cluster, and a server started beside it.

use std::time::{Duration, Instant};

use e2e::ask::over_udp;
use e2e::cluster::Cluster;
use e2e::corefile::Corefile;
use e2e::server::{Kind, Server};
use e2e::tools::Tools;

use crate::world::{is_right, service_question};

pub(crate) const KINDS: [Kind; 2] = [Kind::Ringdns, Kind::CoreDns];

/// How long start-up may take.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long a starting server may take to answer a query before it counts as lost.
const QUERY_LIMIT: Duration = Duration::from_millis(100);

/// When memory is measured: what only start-up needs may be freed by then.
pub(crate) const SETTLED: Duration = Duration::from_secs(3);

pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) corefile: Corefile,
    pub(crate) tools: Tools,
    pub(crate) service_count: usize,
}

impl Scene {
    /// Starts a server and waits until it answers rightly; also returns how many queries it lost
    /// until then.
    pub(crate) fn launch(&self, kind: Kind, corefile: &Corefile) -> (Server, usize) {
        let server = Server::launch(kind, corefile, Some(&self.tools));
        let lost_count = self.wait_for(&server);
        (server, lost_count)
    }

    /// Waits until a server answers rightly about the last Service of each shape. Returns how many
    /// queries it lost.
    pub(crate) fn wait_for(&self, server: &Server) -> usize {
        let began = Instant::now();
        let mut lost_count = 0;
        for index in [self.service_count - 1, (self.service_count - 1) / 5 * 5] {
            let question = service_question(index);
            loop {
                let asked = Instant::now();
                match over_udp(server.address(), &question, QUERY_LIMIT) {
                    Ok(answer) if is_right(index, &answer) => break,
                    Err(_) if asked.elapsed() >= QUERY_LIMIT => lost_count += 1,
                    Ok(_) | Err(_) => std::thread::sleep(Duration::from_micros(500)),
                }
                assert!(began.elapsed() < START_LIMIT, "{:?}:\n{}", server.kind(), server.log());
            }
        }
        lost_count
    }

    /// Checks a sample of all Services, not only the two that were waited for.
    pub(crate) fn check(&self, server: &Server) {
        for index in (0..self.service_count).step_by(self.service_count / 10) {
            let answer = server.answer(&service_question(index));
            assert!(is_right(index, &answer), "{:?}, Service {index}: {answer:?}", server.kind());
        }
    }
}
