//! Reads a snapshot file: all of it, or nothing.
//!
//! Bytes in, objects out. Invariant: a file that is truncated, of another cluster, of another
//! selection of objects or of a later format is refused, with its line and the cause.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::time::SystemTime;

use serde::Deserialize;

use super::{END_MARK, End, HEADER_MARK, Header, Selection, SnapshotError, VERSION};
use crate::convert::raw_object::RawObject;
use crate::fault::Faults;
use crate::object::{Change, EndpointSlice, Event, Namespace, ObjectKey, Pod, Service};
use crate::raw::{Kind, RawEndpointSlice, RawNamespace, RawPod, RawService};

/// 100,000 Services with 500,000 endpoints are about 100 MB.
const FILE_LEN_MAX: u64 = 4 << 30;
/// etcd limits objects to 1.5 MB.
const LINE_LEN_MAX: u64 = 16 << 20;

/// The state that a snapshot has.
#[derive(Debug, Default)]
pub(super) struct RememberedState {
    pub(super) confirmed: Option<SystemTime>,
    pub(super) namespaces: BTreeMap<ObjectKey, Namespace>,
    pub(super) services: BTreeMap<ObjectKey, Service>,
    pub(super) slices: BTreeMap<ObjectKey, EndpointSlice>,
    pub(super) pods: BTreeMap<ObjectKey, Pod>,
}

/// What a snapshot must have been written for.
#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) selection: Selection,
    /// `None` if it is unknown, because no client of the API server can be made.
    pub(super) server: Option<String>,
}

impl RememberedState {
    /// The whole list of a kind.
    pub(super) fn take(&mut self, kind: Kind) -> Event {
        match kind {
            Kind::Namespace => Event::Namespace(remembered(&mut self.namespaces)),
            Kind::Service => Event::Service(remembered(&mut self.services)),
            Kind::EndpointSlice => Event::EndpointSlice(remembered(&mut self.slices)),
            Kind::Pod => Event::Pod(remembered(&mut self.pods)),
        }
    }
}

fn remembered<T, K>(objects: &mut BTreeMap<ObjectKey, T>) -> Change<T, K> {
    Change::Remembered(std::mem::take(objects).into_values().collect())
}

/// Reads the file. `None` if there is none.
///
/// # Errors
/// Why it cannot be used.
pub(super) fn read(
    path: &Path,
    expected: &Expected,
) -> Result<Option<RememberedState>, SnapshotError> {
    let failed = |error: &io::Error| SnapshotError::new(path, None, error.to_string());
    let found = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found.map_err(|error| failed(&error))?,
    };
    // Reading a pipe would wait for a writer.
    if !found.is_file() || found.len() > FILE_LEN_MAX {
        let cause = format!("not a regular file of at most {} GiB", FILE_LEN_MAX >> 30);
        return Err(SnapshotError::new(path, None, cause));
    }
    let file = fs::File::open(path).map_err(|error| failed(&error))?;
    parse(path, BufReader::new(file), expected).map(Some)
}

pub(super) fn parse(
    path: &Path,
    mut from: impl BufRead,
    expected: &Expected,
) -> Result<RememberedState, SnapshotError> {
    let mut state = RememberedState::default();
    let mut text = Vec::new();
    let mut number = 0;
    loop {
        number += 1;
        let refused = |cause: String| SnapshotError::new(path, Some(number), cause);
        text.clear();
        let read = from.by_ref().take(LINE_LEN_MAX).read_until(b'\n', &mut text);
        read.map_err(|error| refused(error.to_string()))?;
        if text.len() as u64 == LINE_LEN_MAX {
            return Err(refused(format!("a line of more than {} MiB", LINE_LEN_MAX >> 20)));
        }
        if text.pop_if(|last| *last == b'\n').is_none() {
            return Err(refused("truncated: the last line must be the end mark".to_owned()));
        }
        if number == 1 {
            let header = header(&text, expected).map_err(refused)?;
            state.confirmed = Some(header.confirmed.into());
            continue;
        }
        let head: LineHead =
            serde_json::from_slice(&text).map_err(|error| refused(words(&error)))?;
        match (head.snapshot.as_deref(), head.kind.as_deref()) {
            (Some(END_MARK), _) => {
                let end: End =
                    serde_json::from_slice(&text).map_err(|error| refused(words(&error)))?;
                let lines = number - 2;
                if end.lines != lines {
                    let cause = format!("{lines} objects before it, and {} expected", end.lines);
                    return Err(refused(cause));
                }
                return Ok(state);
            }
            (None, Some(kind)) => object(kind, &text, &mut state).map_err(refused)?,
            (_, _) => return Err(refused("neither an object nor the end mark".to_owned())),
        }
    }
}

/// What a line is about. Its other fields are skipped here.
#[derive(Deserialize)]
struct LineHead {
    snapshot: Option<String>,
    kind: Option<String>,
}

/// What the first line must have in every format.
#[derive(Deserialize)]
struct HeaderHead {
    snapshot: String,
    version: u64,
}

fn header(text: &[u8], expected: &Expected) -> Result<Header, String> {
    let head: Option<HeaderHead> = serde_json::from_slice(text).ok();
    match head {
        Some(head) if head.snapshot == HEADER_MARK && head.version == VERSION => {}
        Some(head) if head.snapshot == HEADER_MARK => {
            let version = head.version;
            return Err(format!("format {version}; this ringdns reads format {VERSION}"));
        }
        Some(_) | None => return Err("not a snapshot of ringdns".to_owned()),
    }
    let header: Header = serde_json::from_slice(text).map_err(|error| words(&error))?;
    if let Some(difference) = header.selection.difference(&expected.selection) {
        return Err(difference);
    }
    if let (Some(theirs), Some(ours)) = (&header.server, &expected.server)
        && theirs != ours
    {
        return Err(format!("it is of the API server {theirs}, and this one is {ours}"));
    }
    Ok(header)
}

fn object(kind: &str, text: &[u8], state: &mut RememberedState) -> Result<(), String> {
    let Some(kind) = Kind::ALL.into_iter().find(|known| known.name() == kind) else {
        return Err(format!("unknown kind {kind:?}"));
    };
    match kind {
        Kind::Namespace => put::<RawNamespace>(text, &mut state.namespaces),
        Kind::Service => put::<RawService>(text, &mut state.services),
        Kind::EndpointSlice => put::<RawEndpointSlice>(text, &mut state.slices),
        Kind::Pod => put::<RawPod>(text, &mut state.pods),
    }
}

/// The last line about an object counts.
fn put<T: RawObject>(text: &[u8], into: &mut BTreeMap<ObjectKey, T::Object>) -> Result<(), String> {
    let raw: T = serde_json::from_slice(text).map_err(|error| words(&error))?;
    let key = raw.metadata().key();
    if raw.metadata().deletion_timestamp.is_some() {
        into.remove(&key);
        return Ok(());
    }
    // Faulty parts were reported when the API server sent them.
    let converted = raw.convert(&mut Faults::default());
    let refused = |fault| format!("{} {}/{}: {fault}", T::KIND.name(), key.namespace, key.name);
    match converted.map_err(refused)? {
        Some(object) => into.insert(key, object),
        None => into.remove(&key),
    };
    Ok(())
}

/// The position in a line is a column.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((cause, _)) => format!("column {}: {cause}", error.column()),
        None => text,
    }
}
