//! Sends what a list-watch has received to the consumer, as events.
//!
//! Objects are converted here, and their faults noted. Invariant: every step is sent or reported,
//! in order.

use std::time::Instant;

use tokio::sync::mpsc::Sender;

use super::finding::{Finding, failed, probed, unreadable};
use super::list_watch::{ListWatch, Step};
use super::now;
use super::protobuf::ProtoObject;
use super::recovery::{Observation, ProbeResult};
use crate::fault::{Faults, ObjectRef};
use crate::object::{Change, Event, ObjectKey};
use crate::raw::RawMetadata;
use crate::status::KindStatus;

/// The consumer of the events is gone.
pub(super) struct Closed;

/// The list being received.
pub(super) struct ListProgress {
    pub(super) began: Instant,
    /// Includes refused objects.
    pub(super) objects: u64,
}

/// What became of the steps that had been received.
pub(super) struct Forwarded {
    /// There was an object or a bookmark among them.
    pub(super) is_any: bool,
    /// Of the last step, if the recovery needs to know about it.
    pub(super) finding: Option<Finding>,
}

/// Sends the events of all steps that need no waiting, up to one that the recovery needs to know.
pub(super) async fn forward_ready<T: ProtoObject>(
    list_watch: &mut ListWatch<'_, T>,
    list: &mut ListProgress,
    status: &KindStatus,
    events: &Sender<Event>,
) -> Result<Forwarded, Closed> {
    let (mut is_any, mut key) = (false, KeyCopy::default());
    loop {
        let finding = match list_watch.ready() {
            Ok(None) => return Ok(Forwarded { is_any, finding: None }),
            Ok(Some(step)) => forward(step, &mut key, list, status, events).await?,
            Err(error) => Some(failed(&error)),
        };
        if finding.is_some() {
            return Ok(Forwarded { is_any, finding });
        }
        is_any = true;
    }
}

/// Goes back to the watch, and sends that a list was dropped for it.
pub(super) async fn resume<T: ProtoObject>(
    list_watch: &mut ListWatch<'_, T>,
    events: &Sender<Event>,
) -> Result<(), Closed> {
    if list_watch.resume() {
        events.send(T::event(Change::InitDropped)).await.map_err(|_| Closed)?;
    }
    Ok(())
}

/// Sends the event of this step. Returns what the recovery needs to know, if anything.
async fn forward<T: ProtoObject>(
    step: Step<T>,
    key: &mut KeyCopy,
    list: &mut ListProgress,
    status: &KindStatus,
    events: &Sender<Event>,
) -> Result<Option<Finding>, Closed> {
    let (change, finding) = match step {
        Step::Listed(object) => {
            list.objects += 1;
            let converted = convert(*object, key, status).ok();
            (converted.map(Change::InitApply), None)
        }
        Step::Applied(object) => {
            let converted = convert(*object, key, status);
            // An object that became invalid must not stay as it was.
            (Some(converted.map_or_else(Change::Delete, Change::Apply)), None)
        }
        Step::Deleted(object) => (Some(Change::Delete(T::key(object.metadata().key()))), None),
        Step::ListBegins => {
            *list = ListProgress { began: now(), objects: 0 };
            (Some(Change::Init), None)
        }
        Step::ListComplete { is_resumable } => {
            let complete = Observation::ListComplete { is_resumable };
            (Some(Change::InitDone), Some((complete, None)))
        }
        Step::WatchBegins => (None, Some((Observation::WatchBegins, None))),
        Step::WatchEnds => (None, Some((Observation::WatchEnds, None))),
        Step::Unreadable => (None, Some((Observation::Unreadable, Some(unreadable())))),
        Step::Bookmark(compared) => match compared.probe {
            ProbeResult::Equal | ProbeResult::Ahead => (None, None),
            ProbeResult::WentBack | ProbeResult::Failed(_) => {
                (None, Some(probed(Ok(Some(compared)))))
            }
        },
    };
    if let Some(change) = change {
        events.send(T::event(change)).await.map_err(|_| Closed)?;
    }
    Ok(finding)
}

/// The key of the object that is being converted, in case it is refused. Hardly one is, so this
/// costs no allocation per object.
#[derive(Default)]
struct KeyCopy {
    text: String,
    namespace_len: usize,
}

impl KeyCopy {
    fn set(&mut self, metadata: &RawMetadata) {
        self.text.clear();
        self.text.push_str(metadata.namespace.as_ref().map_or("", String::as_str));
        self.namespace_len = self.text.len();
        self.text.push_str(metadata.name.as_ref().map_or("", String::as_str));
    }

    fn key(&self) -> ObjectKey {
        let (namespace, name) = self.text.split_at(self.namespace_len);
        ObjectKey { namespace: namespace.into(), name: name.into() }
    }
}

/// Converts an object and notes its faults. Returns only the key if the object is refused or
/// affects no answer.
fn convert<T: ProtoObject>(
    raw: T,
    copy: &mut KeyCopy,
    status: &KindStatus,
) -> Result<T::Object, T::Key> {
    copy.set(raw.metadata());
    let mut faults = Faults::default();
    let (object, refusal) = match raw.convert(&mut faults) {
        Ok(object) => (object, None),
        Err(refusal) => (None, Some(refusal)),
    };
    if refusal.is_some() || faults.count != 0 || status.faults.has_logged() {
        let reference = ObjectRef { kind: T::KIND.name(), key: &copy.key(), from: None };
        status.faults.note(reference, refusal.as_ref(), &faults);
    }
    object.ok_or_else(|| T::key(copy.key()))
}
