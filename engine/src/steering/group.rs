//! The sockets of one address and protocol, one for each shard, and what the shards do for them.
//!
//! Invariant: these are copies. They are closed before the shards close theirs, so a socket never
//! outlives its shard's use of it.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use libc::sock_filter;

use super::Company;
use super::balance::{Balance, ShardLoad};
use super::load::{Activity, LoadMeter};
use crate::client::{ListenerId, Transport};
use crate::io::reuseport::{attach, program_behind, program_by_hash};
use crate::io::socket::{ShardSockets, divert_connections, prefer_cpu, retire};

/// A shard is saturated if more than one in so many of its datagrams had to wait.
const CROWDED_PART: u64 = 4;
/// A shard's thread is always running if it runs for more than this part of the time.
const BUSY: f64 = 0.85;

/// How the kernel is told which socket is whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SocketOrder {
    /// The sockets are alone in their group and in the order of the shards, which a program counts.
    Known,
    /// Another process has or had sockets in the group, so the order is unknown. Each socket names
    /// its shard's CPU instead (by shard).
    Unknown(Vec<usize>),
}

/// The sockets of one address and protocol.
pub(super) struct SocketGroup {
    pub(super) address: SocketAddr,
    sockets: SocketCopies,
    pub(super) order: SocketOrder,
    /// `None` if it is not steered by CPU, or always.
    pub(super) balance: Option<Balance>,
    /// Datagrams that waited at a crowded shard, by shard, at the last look.
    crowded: Vec<u64>,
}

/// By shard.
enum SocketCopies {
    Udp(Vec<UdpSocket>),
    Tcp(Vec<TcpListener>),
}

impl SocketGroup {
    /// The groups of a listener: TCP, and UDP if it has that. `sockets` and `meters`: each shard's.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(super) fn of_listener(
        listener: ListenerId,
        sockets: &[ShardSockets],
        order: &SocketOrder,
        meters: &[LoadMeter],
    ) -> io::Result<Vec<Self>> {
        let mut udp = Vec::with_capacity(sockets.len());
        let mut tcp = Vec::with_capacity(sockets.len());
        for ShardSockets { own: pair, .. } in sockets {
            if let Some(socket) = &pair.udp {
                udp.push(socket.try_clone()?);
            }
            tcp.push(pair.tcp.try_clone()?);
        }
        let Some(first) = tcp.first() else { return Ok(Vec::new()) };
        let address = first.local_addr()?;
        let crowded: Vec<_> = meters.iter().map(|meter| meter.crowded_count(listener)).collect();
        let group = |sockets| {
            let (order, crowded) = (order.clone(), crowded.clone());
            Self { address, sockets, order, balance: None, crowded }
        };
        let mut groups = Vec::new();
        if !udp.is_empty() {
            groups.push(group(SocketCopies::Udp(udp)));
        }
        groups.push(group(SocketCopies::Tcp(tcp)));
        Ok(groups)
    }

    pub(super) fn transport(&self) -> Transport {
        match self.sockets {
            SocketCopies::Udp(_) => Transport::Udp,
            SocketCopies::Tcp(_) => Transport::Tcp,
        }
    }

    /// For the log.
    pub(super) fn protocol(&self) -> &'static str {
        match self.transport() {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        }
    }

    /// What the shards have done since the last look. A shard is saturated over UDP if many
    /// datagrams had to wait. Over TCP nothing shows that, so it is saturated if its thread is
    /// always running.
    pub(super) fn loads(
        &mut self,
        listener: ListenerId,
        meters: &[LoadMeter],
        activities: &[Activity],
    ) -> Vec<ShardLoad> {
        let transport = self.transport();
        let shards = meters.iter().zip(activities).zip(&mut self.crowded);
        let load = |((meter, activity), before): ((&LoadMeter, &Activity), &mut u64)| {
            let count = meter.crowded_count(listener);
            let crowded = count.saturating_sub(std::mem::replace(before, count));
            let is_saturated = match transport {
                Transport::Udp => crowded * CROWDED_PART > activity.answers,
                Transport::Tcp => activity.busy > BUSY,
            };
            ShardLoad { answers: activity.answers, is_saturated }
        };
        shards.map(load).collect()
    }

    /// Has the kernel run this program for the group.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn attach(&self, program: &[sock_filter]) -> io::Result<()> {
        let attached = match &self.sockets {
            SocketCopies::Udp(sockets) => sockets.first().map(|socket| attach(socket, program)),
            SocketCopies::Tcp(sockets) => sockets.first().map(|socket| attach(socket, program)),
        };
        attached.unwrap_or(Ok(()))
    }

    /// Has the kernel choose the shard of the CPU. `program`: the one that counts the sockets.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn choose_by_cpu(&self, program: &[sock_filter]) -> io::Result<()> {
        match &self.order {
            SocketOrder::Known => self.attach(program),
            SocketOrder::Unknown(cpus) => self.prefer(cpus.iter().copied().map(Some)),
        }
    }

    /// Has the kernel choose a shard by the hash.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn choose_by_hash(&self) -> io::Result<()> {
        match &self.order {
            SocketOrder::Known => self.attach(&program_by_hash()),
            SocketOrder::Unknown(cpus) => self.prefer(cpus.iter().map(|_| None)),
        }
    }

    fn prefer(&self, cpus: impl Iterator<Item = Option<usize>>) -> io::Result<()> {
        match &self.sockets {
            SocketCopies::Udp(sockets) => {
                sockets.iter().zip(cpus).try_for_each(|(socket, cpu)| prefer_cpu(socket, cpu))
            }
            SocketCopies::Tcp(sockets) => {
                sockets.iter().zip(cpus).try_for_each(|(socket, cpu)| prefer_cpu(socket, cpu))
            }
        }
    }

    /// Takes the sockets out of the group: they are about to close. False if the kernel leaves one
    /// in it until then.
    ///
    /// TCP listeners stay in a group with those of another process, which a program chooses: the
    /// kernel would still choose a diverted one there, and its responses to handshakes would have
    /// no route.
    pub(super) fn retire(&self, company: Company) -> bool {
        // All of them, also after one that the kernel refuses.
        let refused_count = match &self.sockets {
            SocketCopies::Udp(sockets) => sockets.iter().filter(|one| !retire(one)).count(),
            SocketCopies::Tcp(sockets) => match company {
                Company::None => sockets.iter().filter(|one| !divert_connections(one)).count(),
                // The other process's sockets are behind these.
                Company::OtherProcess => {
                    usize::from(self.attach(&program_behind(sockets.len())).is_err())
                }
            },
        };
        refused_count == 0
    }
}
