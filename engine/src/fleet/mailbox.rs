//! The way to a shard: its channel, the bell that wakes it, and all that a new thread needs to
//! take its place.
//!
//! Invariant: what is kept here is what the shard has been sent: its plan, the newest table and pod
//! index of each slot, and copies of the sockets of its open listeners.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use wire::pod_index::PodIndex;
use wire::table::Table;

use crate::client::ListenerId;
use crate::io::bell::{Bell, Ringer};
use crate::io::socket::{ListenerSockets, ShardSockets};
use crate::limits::{SEND_PATIENCE, UPDATES_WAITING_MAX};
use crate::plan::{Plan, TableSlot};
use crate::shard::Update;

/// Shared by all who send updates to one shard.
#[derive(Clone)]
pub(super) struct Mailbox(Arc<Mutex<MailboxState>>);

struct MailboxState {
    address: MailboxAddress,
    kept: Kept,
    /// An update found no room for long: the shard does not know everything that is kept.
    is_behind: bool,
}

/// Where a thread's updates go.
struct MailboxAddress {
    updates: Sender<Update>,
    ringer: Ringer,
}

/// A thread's end of it.
pub(super) struct Inbox {
    pub(super) updates: Receiver<Update>,
    pub(super) bell: Bell,
}

/// What a new thread is sent.
#[derive(Default)]
struct Kept {
    plan: Option<Arc<Plan>>,
    tables: BTreeMap<TableSlot, Arc<Table>>,
    pods: BTreeMap<TableSlot, Arc<PodIndex>>,
    listeners: BTreeMap<usize, ListenerSockets>,
}

/// A thread that is to take a shard's place, and has been sent nothing yet.
pub(super) struct Successor(MailboxAddress);

impl Successor {
    /// # Errors
    /// No descriptor is left.
    pub(super) fn new() -> io::Result<(Self, Inbox)> {
        let (updates, receiver) = bounded(UPDATES_WAITING_MAX);
        let (bell, ringer) = Bell::new()?;
        Ok((Self(MailboxAddress { updates, ringer }), Inbox { updates: receiver, bell }))
    }
}

impl MailboxAddress {
    fn try_send(&self, update: Update) -> Result<(), TrySendError<Update>> {
        self.updates.try_send(update)?;
        self.ringer.ring();
        Ok(())
    }
}

impl Mailbox {
    /// Of a shard that has been sent nothing.
    pub(super) fn new(first: Successor) -> Self {
        let Successor(address) = first;
        let state = MailboxState { address, kept: Kept::default(), is_behind: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Sends an update that is outdated by the next one. False if the channel is full.
    pub(super) fn offer(&self, update: Update) -> bool {
        let mut state = self.state();
        let kept = Kept::copy_of(&update);
        if matches!(state.address.try_send(update), Err(TrySendError::Full(_))) {
            return false;
        }
        if let Ok(Some(kept)) = kept {
            state.kept.keep(kept);
        }
        true
    }

    /// Sends an update that must not be lost. The shard empties its channel before each batch, so
    /// the wait is short. One that does not is replaced, and its successor has everything.
    pub(super) fn send(&self, mut update: Update) {
        // `None`: nothing is kept of it.
        let mut sent_with = None;
        match Kept::copy_of(&update) {
            Ok(Some(kept)) => {
                let mut state = self.state();
                state.kept.keep(kept);
                sent_with = Some(state.address.updates.clone());
            }
            Ok(None) => {}
            // Without a copy of its sockets the shard can serve, but not be replaced.
            Err(error) => tracing::warn!("no copy of a listener's sockets: {error}"),
        }
        let began = Instant::now();
        loop {
            let mut state = self.state();
            let updates = &state.address.updates;
            let has_successor = sent_with.as_ref().is_some_and(|old| !old.same_channel(updates));
            // A successor has, or gets, everything that is kept.
            if has_successor || state.is_behind {
                return;
            }
            let Err(TrySendError::Full(back)) = state.address.try_send(update) else { return };
            state.is_behind = began.elapsed() > SEND_PATIENCE;
            update = back;
            drop(state);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Sends `Stop`, and closes the copies of the sockets. False if there is no room for it yet.
    pub(super) fn stop(&self) -> bool {
        let mut state = self.state();
        state.kept = Kept::default();
        !matches!(state.address.try_send(Update::Stop), Err(TrySendError::Full(_)))
    }

    /// Whether the shard does not know everything that is kept.
    pub(super) fn is_behind(&self) -> bool {
        self.state().is_behind
    }

    /// Sends everything that is kept to a new thread, and all later updates to it alone. The old
    /// thread finds its channel closed, leaves its sockets to the new one, and ends.
    ///
    /// # Errors
    /// No descriptor is left for the sockets' copies: nothing has changed then.
    pub(super) fn move_to(&self, successor: Successor) -> io::Result<()> {
        let mut state = self.state();
        let updates = state.kept.updates()?;
        debug_assert!(updates.len() <= UPDATES_WAITING_MAX);
        let Successor(address) = successor;
        for update in updates {
            let _ = address.updates.try_send(update);
        }
        address.ringer.ring();
        state.is_behind = false;
        // This closes the old thread's channel, and wakes it.
        state.address = address;
        Ok(())
    }

    /// The state is valid at every moment, so a panic elsewhere is no reason to panic here.
    fn state(&self) -> MutexGuard<'_, MailboxState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change of what is kept.
enum Keep {
    Plan(Arc<Plan>),
    Table(TableSlot, Arc<Table>),
    Pods(TableSlot, Arc<PodIndex>),
    NoTable(TableSlot),
    Listener(usize, ListenerSockets),
    NoListener(usize),
}

impl Kept {
    /// What to keep of an update.
    fn copy_of(update: &Update) -> io::Result<Option<Keep>> {
        Ok(Some(match update {
            Update::Plan(plan) => Keep::Plan(Arc::clone(plan)),
            Update::Table(slot, table) => Keep::Table(*slot, Arc::clone(table)),
            Update::Pods(slot, pods) => Keep::Pods(*slot, Arc::clone(pods)),
            Update::NoTable(slot, _) => Keep::NoTable(*slot),
            Update::Open(ListenerId(place), sockets) => {
                Keep::Listener(*place, sockets.own.try_clone()?)
            }
            Update::Close(ListenerId(place), _) => Keep::NoListener(*place),
            Update::Explain(_) | Update::Ping(_) | Update::Call(_) | Update::Stop => {
                return Ok(None);
            }
        }))
    }

    fn keep(&mut self, change: Keep) {
        match change {
            Keep::Plan(plan) => self.plan = Some(plan),
            Keep::Table(slot, table) => {
                self.tables.insert(slot, table);
            }
            Keep::Pods(slot, pods) => {
                self.pods.insert(slot, pods);
            }
            Keep::NoTable(slot) => {
                self.tables.remove(&slot);
                self.pods.remove(&slot);
            }
            Keep::Listener(place, sockets) => {
                self.listeners.insert(place, sockets);
            }
            Keep::NoListener(place) => {
                self.listeners.remove(&place);
            }
        }
    }

    /// Everything, in an order in which the shard serves nothing that it does not have.
    fn updates(&self) -> io::Result<Vec<Update>> {
        let tables = self.tables.iter().map(|(slot, table)| Update::Table(*slot, table.clone()));
        let pods = self.pods.iter().map(|(slot, pods)| Update::Pods(*slot, pods.clone()));
        let mut updates: Vec<_> = tables.chain(pods).collect();
        updates.extend(self.plan.iter().map(|plan| Update::Plan(Arc::clone(plan))));
        for (place, sockets) in &self.listeners {
            let sockets = ShardSockets::of(sockets.try_clone()?)?;
            updates.push(Update::Open(ListenerId(*place), sockets));
        }
        Ok(updates)
    }
}
