//! What is not as Kubernetes has it in an object that others wrote: where in the object, what it costs, and how it is told.
//!
//! Here: the words, the count, and that each is said once. Not here: the rules (`convert`).
//! Invariant: however much is odd, what is kept of it and what is logged is bounded.

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

/// Faults of one object that are kept, and so logged; all are counted.
const KEPT_MAX: usize = 16;
/// Lines logged a minute and kind; the counters go on.
const LINES_MAX: u64 = 100;
/// What the lines are counted for.
const WINDOW: Duration = Duration::from_secs(60);
/// Objects per kind whose faults are known to have been logged. One more, and all are forgotten: most are of objects that are
/// gone by then, and the others are logged once more.
const SAID_MAX: usize = 4096;

/// One thing that is odd.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fault {
    /// The field's path: `endpoints[3].addresses[0]`.
    pub field: Box<str>,
    pub problem: Problem,
}

/// Why a field cannot be used, or not as it stands there. Most cost what they stand in; the others say what is made of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// Of another type than Kubernetes gives the field.
    Shape {
        found: Box<str>,
        wanted: &'static str,
    },
    /// The same key twice in a map. JSON's readers and Kubernetes take the last.
    KeyTwice,
    NoName,
    NoNamespace,
    /// Not a lower-case DNS label of 1 to 63 bytes (RFC 1123, section 2.1), the form that Kubernetes itself demands.
    Label(Box<str>),
    /// Not a host name of at most 253 bytes with labels of 1 to 63 bytes (RFC 1035, section 2.3.4).
    HostName(Box<str>),
    /// Not an IP address as Kubernetes reads them.
    Address(Box<str>),
    /// An address of the other family than the slice's `addressType`.
    Family {
        address: IpAddr,
        address_type: &'static str,
    },
    /// The same address before it.
    AddressTwice(IpAddr),
    /// An endpoint that has none.
    NoAddress,
    /// A Service that is neither headless nor an ExternalName and has no address.
    NoClusterIp,
    /// `spec.clusterIP` says another thing than the first of `spec.clusterIPs`.
    ClusterIpsDisagree {
        one: Box<str>,
        first: Box<str>,
    },
    /// Not TCP, UDP or SCTP.
    Protocol(Box<str>),
    /// Not 1 to 65535.
    Port(i64),
    NoPort,
    /// Neither IPv4, IPv6 nor FQDN.
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
            // A number or a word of YAML's. (A list or a map is not mended by quotes.)
            Self::Shape { found, wanted }
                if *wanted == String::WANTED && !found.starts_with("a ") =>
            {
                write!(f, "is {found}, not {wanted}: put it in quotes")
            }
            Self::Shape { found, wanted } => write!(f, "is {found}, not {wanted}"),
            Self::KeyTwice => write!(f, "stands there twice: the last one counts"),
            Self::NoName => write!(f, "is missing: an object without a name is none"),
            Self::NoNamespace => write!(
                f,
                "is missing, as in what helm and kustomize print: write it there, or take what the cluster has (kubectl get -A -o yaml)"
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
            Self::AddressTwice(address) => write!(f, "is {address}, which stands before it"),
            Self::NoAddress => write!(f, "holds no address"),
            Self::NoClusterIp => write!(
                f,
                "is missing: the API server gives one to each Service; write clusterIP: None if it is headless"
            ),
            Self::ClusterIpsDisagree { one, first } => write!(
                f,
                "is {}, but spec.clusterIPs begins with {}: clusterIPs counts, as it does for CoreDNS",
                shown(one),
                shown(first)
            ),
            Self::Protocol(value) => write!(f, "is {}, none of TCP, UDP, SCTP", shown(value)),
            Self::Port(number) => {
                write!(f, "is {number}, not within 1 to 65535: it has no SRV record")
            }
            Self::NoPort => write!(f, "is missing: the port has no SRV record"),
            Self::AddressType(value) => write!(
                f,
                "is {}, none of IPv4, IPv6, FQDN: the addresses count as what they are",
                shown(value)
            ),
        }
    }
}

/// What was found in one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    pub count: u64,
    /// As many of them as are kept.
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

    /// The field's value; another type than it should have is noted.
    pub fn read<T: Shape>(&mut self, field: Field<T>, path: impl Display) -> Option<T> {
        match field {
            Field::Absent => None,
            Field::Is(value) => Some(value),
            Field::Odd(found) => {
                self.note(path, Problem::Shape { found, wanted: T::WANTED });
                None
            }
        }
    }
}

/// An object, as an operator finds it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ObjectRef<'o> {
    pub(crate) kind: &'static str,
    pub(crate) key: &'o ObjectKey,
    /// `file:line:column`, where it is from a file.
    pub(crate) from: Option<&'o str>,
}

/// What has been found in the objects of one kind.
#[derive(Debug)]
pub(crate) struct FaultLog {
    /// Objects that are not served, each time they were read.
    refused: AtomicU64,
    /// Odd parts of objects that are, likewise.
    parts: AtomicU64,
    /// Whether `said` has an entry.
    has_said: AtomicBool,
    said: Mutex<LoggedFaults>,
}

#[derive(Debug)]
struct LoggedFaults {
    /// By an object's hash, that of its faults.
    faults: HashMap<u64, u64>,
    window_began: Instant,
    lines: u64,
}

impl FaultLog {
    pub(crate) fn new() -> Self {
        let said = LoggedFaults { faults: HashMap::new(), window_began: Instant::now(), lines: 0 };
        Self {
            refused: AtomicU64::new(0),
            parts: AtomicU64::new(0),
            has_said: AtomicBool::new(false),
            said: Mutex::new(said),
        }
    }

    pub(crate) fn refused_count(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    pub(crate) fn part_count(&self) -> u64 {
        self.parts.load(Relaxed)
    }

    /// An object was read. `refusal`: it is not served.
    ///
    /// What is odd in it is said once, and again when it is another thing that is odd or it was good in between. How many
    /// lines were logged.
    pub(crate) fn note(
        &self,
        whose: ObjectRef<'_>,
        refusal: Option<&Fault>,
        parts: &Faults,
    ) -> u64 {
        let is_good = refusal.is_none() && parts.count == 0;
        if is_good && !self.has_said.load(Relaxed) {
            return 0;
        }
        let object = whose.hash();
        // A panic elsewhere leaves a map that is still right.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if is_good {
            said.faults.remove(&object);
            self.has_said.store(!said.faults.is_empty(), Relaxed);
            return 0;
        }
        self.refused.fetch_add(u64::from(refusal.is_some()), Relaxed);
        self.parts.fetch_add(parts.count, Relaxed);
        let faults = hash((refusal, &parts.first, parts.count));
        if said.faults.get(&object) == Some(&faults) {
            return 0;
        }
        let (lines, is_all) = said.say(whose, refusal, parts);
        if is_all {
            if said.faults.len() >= SAID_MAX && !said.faults.contains_key(&object) {
                said.faults.clear();
            }
            said.faults.insert(object, faults);
            self.has_said.store(true, Relaxed);
        }
        lines
    }
}

impl LoggedFaults {
    /// How many lines it took, and whether that was all of it.
    fn say(
        &mut self,
        whose: ObjectRef<'_>,
        refusal: Option<&Fault>,
        parts: &Faults,
    ) -> (u64, bool) {
        let ObjectRef { kind, key: ObjectKey { namespace, name }, from } = whose;
        if self.window_began.elapsed() >= WINDOW {
            (self.window_began, self.lines) = (Instant::now(), 0);
        }
        let before = self.lines;
        let odd = parts.first.iter().map(|fault| (fault, false));
        for (fault, is_refused) in odd.chain(refusal.map(|fault| (fault, true))) {
            if self.lines == LINES_MAX {
                self.lines += 1;
                tracing::warn!(kind, "more objects are odd; silent about them for a minute");
            }
            if self.lines > LINES_MAX {
                return (self.lines - before, false);
            }
            self.lines += 1;
            if is_refused {
                tracing::warn!(kind, %namespace, %name, %fault, from, "refused; the others are served");
            } else {
                tracing::warn!(kind, %namespace, %name, %fault, from, "odd; the rest is served");
            }
        }
        let more = parts.count - parts.first.len() as u64;
        if more > 0 && self.lines < LINES_MAX {
            self.lines += 1;
            tracing::warn!(kind, %namespace, %name, more, from, "and more that is odd in the same object");
        }
        (self.lines - before, true)
    }
}

impl ObjectRef<'_> {
    /// Of what tells it from others: its place too where it has no name.
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
    fn said_once_and_counted_each_time() {
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
    fn what_is_said_and_kept_is_bounded() {
        let log = FaultLog::new();
        let parts = vec!["x"; 1000];
        assert_eq!(note(&log, "huge", None, &parts), KEPT_MAX as u64 + 1);
        let names: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
        let lines: u64 = names.iter().map(|name| note(&log, name, None, &["x"])).sum();
        // One more says that the rest will not be told.
        assert_eq!(lines + KEPT_MAX as u64 + 1, LINES_MAX + 1);
        assert_eq!(log.part_count(), 11_000);
        // A huge object whose faults end at the very last line leaves the word about the others to come.
        let log = FaultLog::new();
        let full = LINES_MAX - KEPT_MAX as u64;
        let lines: u64 =
            names[..full as usize].iter().map(|name| note(&log, name, None, &["x"])).sum();
        assert_eq!(lines, full);
        assert_eq!(note(&log, "huge", None, &parts), KEPT_MAX as u64);
        assert_eq!(note(&log, "one more", None, &["x"]), 1);
        assert_eq!(note(&log, "another", None, &["x"]), 0);
        assert!(log.said.lock().unwrap().faults.len() <= SAID_MAX);
    }
}
