//! `loop`: finds upstreams that send our own queries back to us.
//!
//! Each upstream gets a random name that nobody can guess. The first shard queries the upstream for
//! it. A shard that receives a query for that name knows which upstream sent it. Invariant: a name
//! counts only while its probe is in flight, so a late duplicate does no harm.

use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::RngExt as _;
use tokio::time::{Instant, sleep};
use wire::name::NAME_LEN_MAX;

use super::UpstreamQuestion;
use super::link::Link;
use super::settings::{AddressOrigin, ForwardSettings, Upstream};
use crate::client::Transport;
use crate::corefile::value::zone::Zone;
use crate::limits::{LOOP_PROBE_EVERY, LOOP_PROBE_TIMEOUT};
use crate::question::OwnedQuestion;

/// HINFO (RFC 1035, section 3.3.2), which clients hardly ever ask for.
pub const TYPE_HINFO: u16 = 13;

/// The probe of one upstream.
#[derive(Debug)]
pub(super) struct Probe {
    /// `R1.R2.ZONE`, with 128 random bits, in wire format and lower case.
    name: Vec<u8>,
    /// The same name as text.
    text: String,
    is_in_flight: AtomicBool,
    has_come_back: AtomicBool,
}

impl Probe {
    /// `None` for a zone so long that the name would exceed 255 bytes.
    pub(super) fn new(zone: &Zone) -> Option<Self> {
        let labels: [String; 2] =
            std::array::from_fn(|_| format!("{:016x}", rand::rng().random::<u64>()));
        let mut name = Vec::new();
        for label in &labels {
            name.push(label.len() as u8);
            name.extend(label.bytes());
        }
        name.extend(&zone.wire);
        let text = format!("{}.{}.{}", labels[0], labels[1], zone.text.trim_start_matches('.'));
        (name.len() <= NAME_LEN_MAX).then_some(Self {
            name,
            text,
            is_in_flight: AtomicBool::new(false),
            has_come_back: AtomicBool::new(false),
        })
    }
}

/// The packet path's side.
impl ForwardSettings {
    /// Whether an HINFO query for `name` (wire format, lower case) is our own probe. If so, its
    /// upstream is marked and gets no more queries. Call this where CoreDNS has the plugin `loop`:
    /// after `kubernetes`, before `forward`.
    pub fn is_own_probe(&self, name: &[u8]) -> bool {
        let was_probed_with = |upstream: &&Upstream| {
            upstream.probe.as_ref().is_some_and(|probe| {
                probe.is_in_flight.load(Ordering::Relaxed) && probe.name == name
            })
        };
        let Some(upstream) = self.upstreams.iter().find(was_probed_with) else { return false };
        upstream.set_looping();
        true
    }
}

/// The control plane's side.
impl Upstream {
    /// Whether it has sent our probe back to us.
    #[must_use]
    pub fn is_looping(&self) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.has_come_back.load(Ordering::Relaxed))
    }

    fn set_looping(&self) {
        let Some(probe) = &self.probe else { return };
        if !probe.has_come_back.swap(true, Ordering::Relaxed) {
            self.metrics.loop_found();
        }
    }

    /// The message in the log and on `/ready` about an upstream that loops.
    #[must_use]
    pub fn loop_message(&self) -> String {
        let address = self.address;
        let origin = match &self.origin {
            AddressOrigin::Corefile => String::new(),
            AddressOrigin::ResolvConf(path) => format!(" (from {})", path.display()),
            AddressOrigin::Host(name) => format!(" ({name})"),
        };
        let advice = match &self.origin {
            AddressOrigin::ResolvConf(path) if address.ip().is_loopback() => format!(
                "a loopback address is this server itself, and {} lists it for a resolver of the \
                 node: forward to /run/systemd/resolve/resolv.conf or to the real resolvers' \
                 addresses, or give the kubelet `resolvConf: /run/systemd/resolve/resolv.conf`",
                path.display()
            ),
            AddressOrigin::Corefile | AddressOrigin::Host(_) if address.ip().is_loopback() => {
                "a loopback address is this server itself: forward to the real resolvers' addresses"
                    .into()
            }
            AddressOrigin::Corefile | AddressOrigin::Host(_) | AddressOrigin::ResolvConf(_) => {
                "it forwards to this server: remove one of the two from the other's configuration"
                    .into()
            }
        };
        format!(
            "upstream {address}{origin} sends our own queries back, so it gets no more queries: \
             {advice}"
        )
    }

    /// CoreDNS's message before it exits, for `loop fatal`. `zone` and `served_at` are the block's;
    /// `served_at` is `:53`, or an address with `bind`. `None` if this upstream does not loop.
    #[must_use]
    pub fn fatal_loop_message(&self, zone: &Zone, served_at: &str) -> Option<String> {
        let probe = self.probe.as_ref().filter(|_| self.is_looping())?;
        Some(format!(
            "Loop ({} -> {served_at}) detected for zone \"{}\", see \
             https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO {}\"",
            self.address, zone.text, probe.text
        ))
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        if self.is_looping() {
            self.metrics.loop_forgotten();
        }
    }
}

/// Probes each upstream until it responds or its probe comes back.
pub(super) fn probe(links: &[Rc<Link>]) {
    for link in links.iter().filter(|link| link.upstream().probe.is_some()) {
        tokio::task::spawn_local(probe_one(Rc::downgrade(link)));
    }
}

async fn probe_one(link: Weak<Link>) {
    let give_up_at = Instant::now() + LOOP_PROBE_TIMEOUT;
    while let Some(held) = link.upgrade()
        && let Some(probe) = &held.upstream().probe
    {
        probe.is_in_flight.store(true, Ordering::Relaxed);
        let question = UpstreamQuestion {
            question: Arc::new(OwnedQuestion::new(&probe.name, TYPE_HINFO)),
            recursion_desired: true,
            transport: Transport::Udp,
            options: None,
        };
        let outcome = held.exchange(&question, give_up_at).await;
        if outcome.is_ok() || held.upstream().is_looping() || Instant::now() >= give_up_at {
            probe.is_in_flight.store(false, Ordering::Relaxed);
            return;
        }
        drop(held);
        sleep(LOOP_PROBE_EVERY).await;
    }
}
