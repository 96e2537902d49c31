//! `loop`: finds upstreams that send our own questions back to us.
//!
//! For each upstream a name is drawn that nobody can guess. The first shard asks the upstream for it, and the shard that then
//! sees a question for it come in knows whose doing that is. Invariant: only a name whose probe is on its way counts, so an
//! old one that turns up again does no harm.

use std::rc::{Rc, Weak};
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

/// HINFO (RFC 1035, section 3.3.2), which nobody else asks for.
pub const TYPE_HINFO: u16 = 13;

/// What goes to one upstream.
#[derive(Debug)]
pub(super) struct Probe {
    /// `R1.R2.ZONE`, with 128 random bits, in wire format and lower case.
    name: Vec<u8>,
    /// The same, for people.
    text: String,
    is_on_its_way: AtomicBool,
    has_come_back: AtomicBool,
}

impl Probe {
    /// `None` for a zone so long that no name has room below it.
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
            is_on_its_way: AtomicBool::new(false),
            has_come_back: AtomicBool::new(false),
        })
    }
}

/// The packet path's side.
impl ForwardSettings {
    /// Whether a question for HINFO at `name`, in wire format and lower case, is one of our own, come back: its upstream is
    /// then given no more questions. To be asked where CoreDNS has the plugin `loop`: behind `kubernetes`, before `forward`.
    pub fn is_own_probe(&self, name: &[u8]) -> bool {
        let sent_there = |upstream: &&Upstream| {
            upstream.probe.as_ref().is_some_and(|probe| {
                probe.is_on_its_way.load(Ordering::Relaxed) && probe.name == name
            })
        };
        let Some(upstream) = self.upstreams.iter().find(sent_there) else { return false };
        upstream.set_looping();
        true
    }
}

/// The control plane's side.
impl Upstream {
    /// Whether it has sent a question of ours back to us.
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

    /// What the log and `/ready` say of an upstream that loops: which, why, and what to do.
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
                "a loopback address is this server itself, and {} names it for a resolver of the node: forward to \
                 /run/systemd/resolve/resolv.conf or to the real resolvers' addresses, or give the kubelet \
                 `resolvConf: /run/systemd/resolve/resolv.conf`",
                path.display()
            ),
            AddressOrigin::Corefile | AddressOrigin::Host(_) if address.ip().is_loopback() => {
                "a loopback address is this server itself: forward to the real resolvers' addresses"
                    .into()
            }
            AddressOrigin::Corefile | AddressOrigin::Host(_) | AddressOrigin::ResolvConf(_) => {
                "it forwards to this server: take one of the two out of the other's configuration"
                    .into()
            }
        };
        format!(
            "the upstream {address}{origin} sends our questions back to us, so it is asked no more: {advice}"
        )
    }

    /// CoreDNS's last words, for `loop fatal`; `zone` is the block's, and so is `served_at`: `:53`, or with `bind` an address.
    /// `None` if it does not loop.
    #[must_use]
    pub fn fatal_loop_message(&self, zone: &Zone, served_at: &str) -> Option<String> {
        let probe = self.probe.as_ref().filter(|_| self.is_looping())?;
        Some(format!(
            "Loop ({} -> {served_at}) detected for zone \"{}\", see https://coredns.io/plugins/loop#troubleshooting. \
             Query: \"HINFO {}\"",
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

/// Asks each upstream, until it answers or its probe has come back.
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
        probe.is_on_its_way.store(true, Ordering::Relaxed);
        let question = UpstreamQuestion {
            name: probe.name.as_slice().into(),
            qtype: TYPE_HINFO,
            qclass: 1,
            dnssec_ok: false,
            checking_disabled: false,
            recursion_desired: true,
            transport: Transport::Udp,
        };
        let outcome = held.exchange(&question, give_up_at).await;
        if outcome.is_ok() || held.upstream().is_looping() || Instant::now() >= give_up_at {
            probe.is_on_its_way.store(false, Ordering::Relaxed);
            return;
        }
        drop(held);
        sleep(LOOP_PROBE_EVERY).await;
    }
}
