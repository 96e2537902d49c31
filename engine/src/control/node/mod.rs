//! Node mode: what a DNS server on every node needs of its node, as NodeLocal DNSCache has it: its
//! addresses on an interface, and rules that keep its queries out of connection tracking.
//!
//! One thread sets this up, repairs it, and takes it down at the end. Invariant: what fails is
//! counted, logged once and tried again, and never stops answers.

mod interface;
mod presence;
mod rules;

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use engine::cli::node::NodeOptions;
use engine::limits::{NODE_SET_UP_TIMEOUT, NODE_TAKE_DOWN_TIMEOUT};
use engine::metrics::{Metrics, NodeErrors};

use interface::Interface;
use presence::Presence;
use rules::TrackingRules;

/// The thread that keeps the node set up. Dropping it takes down what was set up.
pub(crate) struct NodeMode {
    /// Dropped to end the thread.
    sockets: Option<Sender<Sockets>>,
    has_ended: Receiver<()>,
}

/// Of DNS. Without them the rules would only keep kube-proxy from sending queries elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sockets {
    Closed,
    Open,
}

impl NodeMode {
    /// Returns once the node is set up, or that has failed once. `None` if no address is given.
    pub(crate) fn start(options: &NodeOptions, port: u16, metrics: &Arc<Metrics>) -> Option<Self> {
        if options.local_ips.is_empty() {
            return None;
        }
        metrics.facts().node_errors = Some(NodeErrors::default());
        let (sockets, changes) = bounded(SOCKET_CHANGES_MAX);
        let (end, has_ended) = bounded(0);
        let (ready, is_ready) = bounded(0);
        let setup = NodeSetup {
            options: options.clone(),
            port,
            metrics: Arc::clone(metrics),
            interface: Interface::new(options),
            sockets: Sockets::Closed,
            rules: None,
            presence: None,
            last_failures: [None, None],
        };
        let thread = move || {
            setup.keep(&changes, ready);
            drop(end);
        };
        if let Err(error) = std::thread::Builder::new().name("node".into()).spawn(thread) {
            tracing::error!("node mode: cannot start its thread, so nothing is set up: {error}");
        }
        let _ = is_ready.recv_timeout(NODE_SET_UP_TIMEOUT);
        Some(Self { sockets: Some(sockets), has_ended })
    }

    pub(crate) fn sockets_are_open(&self) {
        self.send(Sockets::Open);
    }

    /// The sockets are about to close.
    pub(crate) fn sockets_close(&self) {
        self.send(Sockets::Closed);
    }

    fn send(&self, change: Sockets) {
        // Full only if the thread hangs in the kernel.
        let _ = self.sockets.as_ref().map(|sockets| sockets.try_send(change));
    }
}

/// One process opens its sockets once and closes them once.
const SOCKET_CHANGES_MAX: usize = 2;

impl Drop for NodeMode {
    fn drop(&mut self) {
        self.sockets = None;
        let _ = self.has_ended.recv_timeout(NODE_TAKE_DOWN_TIMEOUT);
    }
}

/// The parts of the set-up that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SetupPart {
    Interface,
    Rules,
}

/// What has been set up so far.
struct NodeSetup {
    options: NodeOptions,
    port: u16,
    metrics: Arc<Metrics>,
    interface: Interface,
    sockets: Sockets,
    rules: Option<TrackingRules>,
    presence: Option<Presence>,
    /// By part: what the log says already.
    last_failures: [Option<String>; 2],
}

impl NodeSetup {
    /// Sets up, drops `ready`, and repairs from time to time until `changes` is disconnected.
    fn keep(mut self, changes: &Receiver<Sockets>, ready: Sender<()>) {
        self.set_up();
        drop(ready);
        loop {
            match changes.recv_timeout(self.options.sync_interval) {
                Ok(change) => self.sockets = change,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.set_up();
        }
        self.take_down();
    }

    fn set_up(&mut self) {
        // Another process must not take the interface down meanwhile.
        let lock = presence::lock(&self.options.interface_name);
        if self.presence.is_none() {
            self.presence = Presence::announce(&self.options.interface_name).ok();
        }
        if self.options.has_interface {
            let added = self.interface.ensure();
            self.note(SetupPart::Interface, added.map_err(|error| error.to_string()));
        }
        drop(lock);
        if self.sockets == Sockets::Closed {
            // The kernel removes the rules with the socket that added them.
            self.rules = None;
        } else if self.options.has_rules && self.rules.is_none() {
            match TrackingRules::add(&self.options, self.port) {
                Ok(rules) => {
                    self.rules = Some(rules);
                    self.note(SetupPart::Rules, Ok(()));
                }
                Err(error) => self.note(SetupPart::Rules, Err(error.to_string())),
            }
        }
    }

    /// Counts a failure, and logs it if the last attempt failed otherwise or not at all.
    fn note(&mut self, part: SetupPart, result: Result<(), String>) {
        let NodeOptions { interface_name, sync_interval, .. } = &self.options;
        let last = &mut self.last_failures[part as usize];
        match &result {
            Ok(()) if last.is_some() => tracing::info!("node mode: {} now", what_is_done(part)),
            Ok(()) => {}
            Err(error) => {
                let mut facts = self.metrics.facts();
                let NodeErrors { interface_add, iptables, .. } =
                    facts.node_errors.get_or_insert_default();
                let (count, why) = match part {
                    SetupPart::Interface => (
                        interface_add,
                        format!("cannot add the addresses to the interface {interface_name}"),
                    ),
                    SetupPart::Rules => {
                        (iptables, "cannot add the rules against tracking".to_owned())
                    }
                };
                *count += 1;
                if last.as_ref() != Some(error) {
                    tracing::error!(
                        "node mode: {why}: {error}; the pod needs `hostNetwork` and the \
                         capability NET_ADMIN, the rules a kernel with nf_tables of Linux 5.12 or \
                         later. Trying again every {sync_interval:?}"
                    );
                }
            }
        }
        *last = result.err();
    }

    /// Another process that serves the same interface keeps it.
    fn take_down(mut self) {
        self.rules = None;
        let _lock = presence::lock(&self.options.interface_name);
        let is_alone = self.presence.take().is_some_and(Presence::leave);
        if self.options.has_interface && is_alone && !self.options.skips_take_down {
            self.interface.remove();
        }
    }
}

/// For the log.
fn what_is_done(part: SetupPart) -> &'static str {
    match part {
        SetupPart::Interface => "the interface has its addresses",
        SetupPart::Rules => "the rules against tracking are in force",
    }
}
