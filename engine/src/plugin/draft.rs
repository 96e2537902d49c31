//! What the lines of one server block add up to, before a plan gives its tables, caches and upstreams
//! their slots.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use super::ServerBlock;
use super::finish::Finish;
use super::gate::Gate;
use super::hosts::HostsSettings;
use super::kubernetes::Kubernetes;
use super::timeouts::Timeouts;
use crate::cache::settings::CacheSettings;
use crate::corefile::Place;
use crate::corefile::value::zone::Zone;
use crate::forward::ForwardSettings;
use crate::metrics::answerer::Answerer;
use crate::metrics::{CacheMetrics, Metrics};

/// One server block. Each plugin adds what it does; the order of `own` and `forwards` is that in which
/// they are asked.
#[derive(Default)]
pub struct BlockDraft {
    /// In the order in which they see a query.
    pub gates: Vec<Gate>,
    /// Local sources: asked before the cache, never cached.
    pub own: Vec<TableDraft>,
    pub cache: Option<CacheDraft>,
    pub forwards: Vec<ForwardDraft>,
    /// In CoreDNS's order; they run in the reverse of it.
    pub finishes: Vec<Finish>,
    /// The addresses in answers are rotated.
    pub rotates: bool,
    /// The block's queries are counted.
    pub is_counted: bool,
    /// The block's failures are logged.
    pub is_logged: bool,
    /// Of the TCP connections to the block's addresses.
    pub timeouts: Option<Timeouts>,
    /// `loop fatal`
    pub ends_at_loop: bool,
    /// For the log: what is odd about what the lines name.
    pub warnings: Vec<String>,
}

/// A local source whose names are a table.
pub struct TableDraft {
    pub source: TableSource,
    /// The plugin whose table it is.
    pub answerer: Answerer,
    /// See `plan::OwnTable`.
    pub is_authority: bool,
    /// See `plan::OwnTable`.
    pub passes_unsupported: bool,
    /// Names under these zones that the table does not have go to the next plugin.
    pub fallthrough: Vec<Zone>,
    /// Where the Corefile asks for it.
    pub place: Place,
}

/// What a table is made from. Two that are equal are the same table: a reload keeps it.
#[derive(Clone, Debug, PartialEq)]
pub enum TableSource {
    /// A cluster, and the addresses by which it may know this server.
    Kubernetes(Box<Kubernetes>, Vec<IpAddr>),
    /// A hosts file, and entries in the Corefile.
    Hosts(Box<HostsSettings>),
}

/// One `cache` line, and its counters.
pub struct CacheDraft {
    pub settings: CacheSettings,
    pub metrics: Arc<CacheMetrics>,
}

/// One `forward` line, with what it names loaded.
pub struct ForwardDraft {
    pub settings: ForwardSettings,
    /// `loop` probes the upstreams after each reload, so they are always made anew.
    pub is_probed: bool,
}

/// What a plugin may use while it loads what its line names.
pub struct LoadContext<'a> {
    pub block: &'a ServerBlock,
    pub metrics: &'a Metrics,
}

/// The end of loading: files and host names may take time.
pub type Loading<'a> = Pin<Box<dyn Future<Output = Result<(), LoadError>> + 'a>>;

/// Why a line cannot be put to work.
#[derive(Debug)]
pub struct LoadError {
    pub place: Place,
    pub problem: Box<dyn Error + Send + Sync>,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.problem)
    }
}

impl Error for LoadError {}
