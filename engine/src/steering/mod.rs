//! Which shard a query goes to: that of the CPU that received it, or one by the kernel's hash.
//!
//! The sockets of one address and protocol are a group, for which the kernel runs one program.
//! Invariant: a group holds the sockets of one listener alone, in the order of the shards, from the
//! moment that they are bound until `close`. They leave it together, so the order never changes.

pub mod balance;
mod group;
pub mod load;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use core_affinity::CoreId;
use libc::sock_filter;
use rustix::process::Pid;

use crate::cli::Steer;
use crate::client::{ListenerId, Transport};
use crate::io::reuseport::{program_by_cpu, program_by_hash};
use crate::io::socket::ShardSockets;
use crate::limits::{CPU_COUNT_MAX, LISTENERS_MAX, STEERING_LABELS_MAX, STEERING_LOOK_EVERY};
use crate::metrics::SteeringFacts;
use balance::{Balance, BalanceChange};
use group::{SocketGroup, SocketOrder};
use load::LoadMeter;

/// Who else has sockets at a listener's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    None,
    /// The process that this one replaces.
    OtherProcess,
}

/// The groups of all listeners.
pub struct Steering {
    steer: Steer,
    /// `--busy-poll`
    is_polling: bool,
    /// `None`: the hash chooses, always.
    by_cpu: Option<Arc<[sock_filter]>>,
    /// Each shard's CPU.
    cpus: Vec<usize>,
    /// By listener.
    groups: Vec<Vec<SocketGroup>>,
    /// By shard.
    meters: Vec<LoadMeter>,
    /// Of each address, also of those that nobody listens at any more.
    facts: Vec<SteeringFacts>,
    /// The groups whose sockets could not be taken out of them, the last one first: listening
    /// sockets before Linux 5.7, or at an address with an interface.
    mixed: Vec<(SocketAddr, Transport)>,
    /// The kernel has refused a program, and the log says so.
    is_refused: bool,
}

impl Steering {
    /// `cores` and `meters`: each shard's.
    #[must_use]
    pub fn new(
        steer: Steer,
        is_polling: bool,
        cores: &[Option<CoreId>],
        meters: impl Iterator<Item = LoadMeter>,
    ) -> Self {
        let by_cpu = match steer {
            Steer::Hash => None,
            Steer::Auto | Steer::Cpu => cpus_of_shards(cores),
        };
        if steer == Steer::Cpu && by_cpu.is_none() && cores.len() > 1 {
            tracing::warn!(
                "--steer cpu: two shards share a core, or one is not pinned, so the hash of the \
                 client's address chooses the shard; start at most one shard per core"
            );
        }
        let meters = if by_cpu.is_some() { meters.collect() } else { Vec::new() };
        Self {
            steer,
            is_polling,
            by_cpu: by_cpu.as_ref().map(|cpus| program_by_cpu(cpus, cpu_count(cpus)).into()),
            cpus: by_cpu.unwrap_or_default(),
            groups: Vec::new(),
            meters,
            facts: Vec::new(),
            mixed: Vec::new(),
            is_refused: false,
        }
    }

    /// Steers to these sockets, one pair per shard, before the shards have them.
    pub(crate) fn open(
        &mut self,
        listener: ListenerId,
        sockets: &[ShardSockets],
        company: Company,
    ) {
        let Some(program) = self.by_cpu.clone() else { return };
        let order = match company {
            Company::None => SocketOrder::Known,
            Company::OtherProcess => SocketOrder::Unknown(self.cpus.clone()),
        };
        let opened = SocketGroup::of_listener(listener, sockets, &order, &self.meters);
        let begun = opened.and_then(|groups| {
            let place = listener.0;
            self.groups.resize_with(self.groups.len().max(place + 1), Vec::new);
            for mut group in groups {
                // While the other process has sockets there, its program may choose.
                let attached = match self.is_mixed(&group) || company == Company::OtherProcess {
                    true => Ok(false),
                    false => group.choose_by_cpu(&program).map(|()| true),
                };
                let is_by_cpu = *attached.as_ref().unwrap_or(&false);
                note(&mut self.facts, &group, Some(is_by_cpu));
                // A shard that polls is always running, so over TCP nothing shows its load.
                let shows_load = !(self.is_polling && group.transport() == Transport::Tcp);
                if is_by_cpu && shows_load && self.steer == Steer::Auto {
                    group.balance = Some(Balance::new(Instant::now()));
                }
                self.groups[place].push(group);
                attached?;
            }
            Ok(())
        });
        if let Err(error) = begun
            && !std::mem::replace(&mut self.is_refused, true)
        {
            tracing::warn!(
                "the kernel cannot steer queries to the CPU that received them ({error}); the hash \
                 of the client's address chooses the shard instead"
            );
        }
    }

    /// The other process has no sockets any more at the addresses of this listener.
    pub(crate) fn now_alone(&mut self, listener: ListenerId) {
        let Some(program) = self.by_cpu.clone() else { return };
        for group in self.groups.get_mut(listener.0).into_iter().flatten() {
            // It may have left a program, which counted its own sockets.
            let _ = group.attach(&program_by_hash());
            let is_by_cpu = group.choose_by_cpu(&program).is_ok() && prefers_cpus();
            note(&mut self.facts, group, Some(is_by_cpu));
            let shows_load = !(self.is_polling && group.transport() == Transport::Tcp);
            if is_by_cpu && shows_load && self.steer == Steer::Auto {
                group.balance = Some(Balance::new(Instant::now()));
            }
        }
    }

    /// Takes a listener's sockets out of its groups, before the shards close them one by one.
    pub(crate) fn close(&mut self, listener: ListenerId, company: Company) {
        let Some(groups) = self.groups.get_mut(listener.0).map(std::mem::take) else { return };
        for group in &groups {
            // A program would choose a diverted socket, and the hash passes over it.
            let _ = group.attach(&program_by_hash());
            note(&mut self.facts, group, None);
            if !group.retire(company) && !self.is_mixed(group) {
                self.mixed.truncate(LISTENERS_MAX - 1);
                self.mixed.insert(0, (group.address, group.transport()));
            }
        }
    }

    /// Leaves the choice to the hash, which passes over sockets that close.
    pub(crate) fn release(&self) {
        for group in self.groups.iter().flatten() {
            let _ = group.attach(&program_by_hash());
        }
    }

    /// Whether older sockets are in the group too, so that the order is unknown.
    fn is_mixed(&self, group: &SocketGroup) -> bool {
        let name = (group.address, group.transport());
        let mut open = self.groups.iter().flatten();
        self.mixed.contains(&name) || open.any(|one| (one.address, one.transport()) == name)
    }

    /// Falls back to the hash where a shard is overloaded while others idle, and steers by CPU
    /// again later. Returns when to look again, if a shard may be overloaded.
    pub(crate) fn balance(&mut self, now: Instant) -> Option<Instant> {
        let by_cpu = self.by_cpu.as_ref().filter(|_| self.steer == Steer::Auto)?;
        let activities: Vec<_> = self.meters.iter_mut().map(|meter| meter.look(now)).collect();
        let mut is_in_doubt = false;
        for (listener, groups) in self.groups.iter_mut().enumerate() {
            for group in groups {
                let loads = group.loads(ListenerId(listener), &self.meters, &activities);
                let Some(balance) = &mut group.balance else { continue };
                let change = balance.step(&loads, now);
                is_in_doubt |= balance.is_in_doubt();
                match change {
                    BalanceChange::Nothing => continue,
                    BalanceChange::FallBack { .. } => {
                        let _ = group.choose_by_hash();
                        note(&mut self.facts, group, Some(false));
                    }
                    BalanceChange::GiveUp { .. } | BalanceChange::Resume => {
                        let is_by_cpu = group.choose_by_cpu(by_cpu).is_ok();
                        note(&mut self.facts, group, Some(is_by_cpu));
                    }
                }
                log(group, change);
            }
        }
        is_in_doubt.then(|| now + STEERING_LOOK_EVERY)
    }

    /// A shard has a new thread.
    pub(crate) fn measure(&mut self, shard: usize, thread: Pid) {
        if let Some(meter) = self.meters.get_mut(shard) {
            meter.measure(thread);
        }
    }

    /// How each group is steered.
    pub(crate) fn facts(&self) -> Vec<SteeringFacts> {
        self.facts.clone()
    }
}

/// Notes for the metrics how a group is steered.
fn note(facts: &mut Vec<SteeringFacts>, group: &SocketGroup, is_by_cpu: Option<bool>) {
    let (address, transport) = (group.address, group.transport());
    let is_same = |one: &&mut SteeringFacts| one.address == address && one.transport == transport;
    if let Some(known) = facts.iter_mut().find(is_same) {
        known.fallbacks += u64::from(known.is_by_cpu == Some(true) && is_by_cpu == Some(false));
        known.is_by_cpu = is_by_cpu;
        return;
    }
    if facts.len() == STEERING_LABELS_MAX {
        let Some(gone) = facts.iter().position(|one| one.is_by_cpu.is_none()) else { return };
        facts.remove(gone);
    }
    facts.push(SteeringFacts { address, transport, is_by_cpu, fallbacks: 0 });
}

fn log(group: &SocketGroup, change: BalanceChange) {
    let SocketGroup { address, .. } = group;
    let protocol = group.protocol();
    match change {
        BalanceChange::Nothing => {}
        BalanceChange::FallBack { shard } => tracing::info!(
            "{address} ({protocol}): shard {shard} is overloaded while others idle; the hash of \
             the client's address chooses the shard"
        ),
        BalanceChange::GiveUp { gain, pause } => tracing::info!(
            "{address} ({protocol}): the hash answered {gain:.2} times as many queries per second; \
             the shard of the CPU that received a query answers it again, and the hash is not \
             tried for {pause:?}"
        ),
        BalanceChange::Resume => tracing::info!(
            "{address} ({protocol}): the shard of the CPU that received a query answers it again"
        ),
    }
}

/// The shards' CPUs, if there are several shards and each has a CPU of its own.
fn cpus_of_shards(cores: &[Option<CoreId>]) -> Option<Vec<usize>> {
    let cpus: Vec<usize> =
        cores.iter().map(|core| core.map(|core| core.id)).collect::<Option<_>>()?;
    let is_own = |(index, cpu)| !cpus[..index].contains(cpu);
    (cpus.len() > 1 && cpus.iter().enumerate().all(is_own)).then_some(cpus)
}

/// Whether the kernel chooses the socket that names its CPU from those that share an address: since
/// Linux 6.2.
fn prefers_cpus() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 2)
}

/// The machine's CPUs, present or not, from a list such as `0-7` of the kernel; if it cannot be
/// read, those up to the last shard's.
fn cpu_count(cpus_of_shards: &[usize]) -> usize {
    let least = cpus_of_shards.iter().max().map_or(0, |last| last + 1);
    let possible = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let last = possible.trim().rsplit(['-', ',']).next().and_then(|last| last.parse().ok());
    last.map_or(least, |last: usize| last.saturating_add(1).clamp(least, CPU_COUNT_MAX.max(least)))
}
