//! Reports what is invalid in an object: where, what it costs, and the log line.
//!
//! The messages, the counters, and logging each fault once. The rules are in `convert`. Invariant:
//! memory and log output are bounded, however much is invalid.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::fmt::{self, Display};
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::object::ObjectKey;
use crate::raw::field::{Field, Shape, shown};

/// Faults per object that are kept and logged. All are counted.
const KEPT_MAX: usize = 16;
/// Log lines per window and kind. The counters have no limit.
const LINES_MAX: u64 = 100;
/// The window of `LINES_MAX`.
const WINDOW: Duration = Duration::from_secs(60);
/// Objects per kind whose logged faults are remembered. When it is full, all are forgotten: most of
/// those objects are gone by then, and the others are logged once more.
const REMEMBERED_MAX: usize = 4096;

/// One invalid part of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The path of the field, such as `endpoints[3].addresses[0]`.
    pub field: Box<str>,
    pub problem: Problem,
}

/// Why a field cannot be used as it is. Most problems cost the part that contains the field; the
/// others name the interpretation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// Not of the type that Kubernetes defines.
    WrongType {
        found: Box<str>,
        expected: &'static str,
    },
    /// A duplicate key in a map. JSON parsers and Kubernetes take the last one.
    KeyTwice,
    NoName,
    NoNamespace,
    /// Not a lower-case DNS label of 1 to 63 bytes (RFC 1123, section 2.1), which Kubernetes
    /// requires.
    Label(Box<str>),
    /// Not a host name of at most 253 bytes with labels of 1 to 63 bytes (RFC 1035, section 2.3.4).
    HostName(Box<str>),
    /// Not an IP address by the rules of Kubernetes.
    Address(Box<str>),
    /// Not of the family that the slice's `addressType` gives.
    Family {
        address: IpAddr,
        address_type: &'static str,
    },
    /// A duplicate of an earlier address.
    AddressTwice(IpAddr),
    /// An endpoint without an address.
    NoAddress,
    /// A Service without an address that is neither headless nor an ExternalName.
    NoClusterIp,
    /// `spec.clusterIP` differs from the first of `spec.clusterIPs`.
    ClusterIpsDisagree {
        one: Box<str>,
        first: Box<str>,
    },
    /// Not TCP, UDP or SCTP.
    Protocol(Box<str>),
    /// Not 1 to 65535.
    Port(i64),
    NoPort,
    /// Not IPv4, IPv6 or FQDN.
    AddressType(Box<str>),
}

impl Fault {
    #[must_use]
    pub fn new(field: impl Display, problem: Problem) -> Self {
        Self { field: field.to_string().into(), problem }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

impl std::error::Error for Fault {}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A number or a keyword of YAML, which quotes turn into a string. Quotes do not help
            // with a list or a map.
            Self::WrongType { found, expected }
                if *expected == String::EXPECTED && !found.starts_with("a ") =>
            {
                write!(f, "is {found}, not {expected}: put it in quotes")
            }
            Self::WrongType { found, expected } => write!(f, "is {found}, not {expected}"),
            Self::KeyTwice => write!(f, "is a duplicate key: the last one counts"),
            Self::NoName => write!(f, "is missing: every object needs a name"),
            Self::NoNamespace => write!(
                f,
                "is missing, as in the output of helm and kustomize: add it, or export the \
                 objects from the cluster (kubectl get -A -o yaml)"
            ),
            Self::Label(value) => {
                write!(
                    f,
                    "is {}, which is not a lower-case DNS label (1 to 63 bytes)",
                    shown(value)
                )
            }
            Self::HostName(value) => write!(f, "is {}, which is not a host name", shown(value)),
            Self::Address(value) => write!(f, "is {}, which is not an IP address", shown(value)),
            Self::Family { address, address_type } => {
                write!(f, "is {address}, but addressType is {address_type}")
            }
            Self::AddressTwice(address) => write!(f, "is {address}, a duplicate"),
            Self::NoAddress => write!(f, "contains no address"),
            Self::NoClusterIp => write!(
                f,
                "is missing: the API server assigns one to every Service; write `clusterIP: None` \
                 for a headless one"
            ),
            Self::ClusterIpsDisagree { one, first } => write!(
                f,
                "is {}, but spec.clusterIPs begins with {}: clusterIPs takes precedence, as in \
                 CoreDNS",
                shown(one),
                shown(first)
            ),
            Self::Protocol(value) => {
                write!(f, "is {}, which is not TCP, UDP or SCTP", shown(value))
            }
            Self::Port(number) => {
                write!(f, "is {number}, which is not in 1 to 65535: the port gets no SRV record")
            }
            Self::NoPort => write!(f, "is missing: the port gets no SRV record"),
            Self::AddressType(value) => write!(
                f,
                "is {}, which is not IPv4, IPv6 or FQDN: each address is used by its own family",
                shown(value)
            ),
        }
    }
}

/// The faults of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub count: u64,
    /// The first faults, up to a limit.
    pub first: Vec<Fault>,
}

impl Faults {
    pub fn note(&mut self, field: impl Display, problem: Problem) {
        self.count += 1;
        if self.first.len() < KEPT_MAX {
            self.first.push(Fault::new(field, problem));
        }
    }

    pub fn add(&mut self, fault: Fault) {
        self.note(fault.field, fault.problem);
    }

    /// The value of the field. A value of the wrong type is noted.
    pub fn read<T: Shape>(&mut self, field: Field<T>, path: impl Display) -> Option<T> {
        match field {
            Field::Absent => None,
            Field::Is(value) => Some(value),
            Field::WrongType(found) => {
                self.note(path, Problem::WrongType { found, expected: T::EXPECTED });
                None
            }
        }
    }
}

/// Identifies an object for the operator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectRef<'o> {
    pub(crate) kind: &'static str,
    pub(crate) key: &'o ObjectKey,
    /// `file:line:column`, for objects from files.
    pub(crate) from: Option<&'o str>,
}

/// Counts and logs the faults of the objects of one kind.
#[derive(Debug)]
pub(crate) struct FaultLog {
    /// Refused objects, counted each time they are read.
    refused: AtomicU64,
    /// Invalid parts of objects that are served, counted each time they are read.
    parts: AtomicU64,
    /// Whether `logged` has an entry.
    has_logged: AtomicBool,
    logged: Mutex<LoggedFaults>,
}

#[derive(Debug)]
struct LoggedFaults {
    /// The hash of the object, and the hash of its faults.
    faults: HashMap<u64, u64>,
    window_began: Instant,
    lines: u64,
}

impl FaultLog {
    pub(crate) fn new() -> Self {
        let logged =
            LoggedFaults { faults: HashMap::new(), window_began: Instant::now(), lines: 0 };
        Self {
            refused: AtomicU64::new(0),
            parts: AtomicU64::new(0),
            has_logged: AtomicBool::new(false),
            logged: Mutex::new(logged),
        }
    }

    pub(crate) fn refused_count(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Whether faults of any object are remembered, so that its repair has to be noted.
    pub(crate) fn has_logged(&self) -> bool {
        self.has_logged.load(Relaxed)
    }

    pub(crate) fn part_count(&self) -> u64 {
        self.parts.load(Relaxed)
    }

    /// Takes note of one object. `refusal`: why it is not served, if it is not.
    ///
    /// The faults of an object are logged once, and again if they change or the object was valid in
    /// between. Returns the number of log lines.
    pub(crate) fn note(
        &self,
        object: ObjectRef<'_>,
        refusal: Option<&Fault>,
        parts: &Faults,
    ) -> u64 {
        let is_good = refusal.is_none() && parts.count == 0;
        if is_good && !self.has_logged.load(Relaxed) {
            return 0;
        }
        let object_hash = object.hash();
        // The map stays valid if another thread panics.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if is_good {
            logged.faults.remove(&object_hash);
            self.has_logged.store(!logged.faults.is_empty(), Relaxed);
            return 0;
        }
        self.refused.fetch_add(u64::from(refusal.is_some()), Relaxed);
        self.parts.fetch_add(parts.count, Relaxed);
        let faults = hash((refusal, &parts.first, parts.count));
        if logged.faults.get(&object_hash) == Some(&faults) {
            return 0;
        }
        let (lines, is_all) = logged.log(object, refusal, parts);
        if is_all {
            if logged.faults.len() >= REMEMBERED_MAX && !logged.faults.contains_key(&object_hash) {
                logged.faults.clear();
            }
            logged.faults.insert(object_hash, faults);
            self.has_logged.store(true, Relaxed);
        }
        lines
    }
}

impl LoggedFaults {
    /// Returns the number of lines, and whether everything was logged.
    fn log(
        &mut self,
        object: ObjectRef<'_>,
        refusal: Option<&Fault>,
        parts: &Faults,
    ) -> (u64, bool) {
        let ObjectRef { kind, key: ObjectKey { namespace, name }, from } = object;
        if self.window_began.elapsed() >= WINDOW {
            (self.window_began, self.lines) = (Instant::now(), 0);
        }
        let before = self.lines;
        let odd = parts.first.iter().map(|fault| (fault, false));
        for (fault, is_refused) in odd.chain(refusal.map(|fault| (fault, true))) {
            if self.lines == LINES_MAX {
                self.lines += 1;
                tracing::warn!(kind, "more objects are invalid; not logged for a minute");
            }
            if self.lines > LINES_MAX {
                return (self.lines - before, false);
            }
            self.lines += 1;
            if is_refused {
                let text = "object refused; the others are served";
                tracing::warn!(kind, %namespace, %name, %fault, from, "{text}");
            } else {
                let text = "invalid part of an object ignored; the rest is served";
                tracing::warn!(kind, %namespace, %name, %fault, from, "{text}");
            }
        }
        let more = parts.count - parts.first.len() as u64;
        if more > 0 && self.lines < LINES_MAX {
            self.lines += 1;
            let text = "more parts of the same object are invalid";
            tracing::warn!(kind, %namespace, %name, more, from, "{text}");
        }
        (self.lines - before, true)
    }
}

impl ObjectRef<'_> {
    /// An object without a name is identified by its position as well.
    fn hash(&self) -> u64 {
        let place = if self.key.name.is_empty() { self.from } else { None };
        hash((self.kind, self.key, place))
    }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(log: &FaultLog, name: &str, refusal: Option<&str>, parts: &[&str]) -> u64 {
        let key = ObjectKey { namespace: "a".into(), name: name.into() };
        let refusal = refusal.map(|field| Fault::new(field, Problem::NoName));
        let mut faults = Faults::default();
        parts.iter().for_each(|field| faults.note(field, Problem::NoAddress));
        log.note(ObjectRef { kind: "Service", key: &key, from: None }, refusal.as_ref(), &faults)
    }

    #[test]
    fn logged_once_and_counted_each_time() {
        let log = FaultLog::new();
        assert_eq!(note(&log, "good", None, &[]), 0);
        for (name, refusal, parts, lines) in [
            ("web", None, &["x", "y"][..], 2),
            ("web", None, &["x", "y"], 0),
            ("api", None, &["x", "y"], 2),
            ("web", None, &["x"], 1),
            ("web", Some("z"), &["x"], 2),
            ("web", Some("z"), &["x"], 0),
            ("web", None, &[], 0),
            ("web", Some("z"), &["x"], 2),
        ] {
            assert_eq!(note(&log, name, refusal, parts), lines, "{name} {refusal:?} {parts:?}");
        }
        assert_eq!((log.refused_count(), log.part_count()), (3, 10));
    }

    #[test]
    fn log_and_memory_are_bounded() {
        let log = FaultLog::new();
        let parts = vec!["x"; 1000];
        assert_eq!(note(&log, "huge", None, &parts), KEPT_MAX as u64 + 1);
        let names: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let lines: u64 = names.iter().map(|name| note(&log, name, None, &["x"])).sum();
        // One extra line says that logging pauses.
        assert_eq!(lines + KEPT_MAX as u64 + 1, LINES_MAX + 1);
        assert_eq!(log.part_count(), 11_000);
        // A huge object whose faults end exactly at the last line leaves the pause message to the
        // next object.
        let log = FaultLog::new();
        let full = LINES_MAX - KEPT_MAX as u64;
        let lines: u64 =
            names[..full as usize].iter().map(|name| note(&log, name, None, &["x"])).sum();
        assert_eq!(lines, full);
        assert_eq!(note(&log, "huge", None, &parts), KEPT_MAX as u64);
        assert_eq!(note(&log, "one more", None, &["x"]), 1);
        assert_eq!(note(&log, "another", None, &["x"]), 0);
        assert!(log.logged.lock().unwrap().faults.len() <= REMEMBERED_MAX);
    }
}
