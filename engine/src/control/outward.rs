//! What the `cache`, `forward` and `loop` lines of a Corefile come to: what all shards share of them.
//!
//! Invariant: what a reload does not change stays the very same `Arc`, by which a shard knows that it keeps its cache and its
//! connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use engine::cache::settings::CacheSettings;
use engine::config::Config;
use engine::corefile::value::zone::Zone;
use engine::forward::options::ForwardOptions;
use engine::forward::{ForwardSettings, Upstream, Way};
use engine::limits::FILE_TIMEOUT;
use engine::metrics::Metrics;
use engine::plan::{CachePlan, CacheSlot, ForwardSlot, ForwardStep};
use engine::plugin::ServerBlock;
use engine::plugin::looping::Loop;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::endpoints::labels;
use super::listening::addresses;

/// Caches and upstreams of one Corefile.
#[derive(Default)]
pub(crate) struct Outward {
    /// By `CacheSlot`.
    pub(crate) caches: Vec<Arc<CachePlan>>,
    /// By `ForwardSlot`.
    pub(crate) forwards: Vec<Arc<ForwardSettings>>,
    /// By block of the Corefile.
    blocks: Vec<Block>,
    /// Files that the upstreams came from.
    files: Arc<[PathBuf]>,
    /// When each was changed last, as far as the upstreams know it, and as the last look found.
    changed: Vec<Option<SystemTime>>,
    found: Vec<Option<SystemTime>>,
    /// A look that has not come to its end: there is never a second one beside it, and nobody waits for it.
    look: Option<JoinHandle<Vec<Option<SystemTime>>>>,
    /// Upstreams that were found to loop, as the log was told.
    loops_told: BTreeSet<String>,
}

struct Block {
    cache: Option<CacheSlot>,
    forwards: Vec<ForwardStep>,
    /// `loop fatal`
    ends_at_loop: bool,
}

impl Outward {
    /// Reads what the lines name: resolv.conf files, hosts, certificates.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub(crate) async fn load(
        config: &Config,
        before: &Self,
        metrics: &Metrics,
    ) -> anyhow::Result<Self> {
        let mut next = Self::default();
        for block in &config.blocks {
            let cache = block.line::<CacheSettings>();
            let cache = cache.map(|settings| next.add_cache(settings, block, before, metrics));
            let looping = block.line::<Loop>();
            let probe_zone = looping.and_then(|_| block.keys.first()).map(|key| &key.zone);
            let mut forwards = Vec::new();
            for options in block.lines::<ForwardOptions>() {
                let settings = ForwardSettings::load(options, probe_zone, metrics).await;
                let settings = settings.map_err(|error| {
                    let place = error.place(options).to_string();
                    anyhow::Error::new(error).context(place)
                })?;
                for warning in &settings.warnings {
                    tracing::warn!("plugin/forward: {}: {warning}", options.place);
                }
                forwards.push(ForwardStep {
                    from: Zone::set(&options.from),
                    except: Zone::set(&options.except),
                    upstreams: next.add_forward(settings, before, probe_zone.is_some()),
                });
            }
            let ends_at_loop = looping.is_some_and(|probe| probe.fatal);
            next.blocks.push(Block { cache, forwards, ends_at_loop });
        }
        let files: BTreeSet<_> =
            next.forwards.iter().flat_map(|settings| settings.files.iter().cloned()).collect();
        next.files = files.into_iter().collect();
        let look = timeout(FILE_TIMEOUT, next.begin_look()).await;
        next.changed = look.ok().and_then(Result::ok).unwrap_or_default();
        next.found.clone_from(&next.changed);
        next.loops_told.clone_from(&before.loops_told);
        Ok(next)
    }

    fn add_cache(
        &mut self,
        settings: &CacheSettings,
        block: &ServerBlock,
        before: &Self,
        metrics: &Metrics,
    ) -> CacheSlot {
        let address = block.keys.iter().flat_map(|key| addresses(block, key.port)).next();
        let zone = block.keys.first().map_or("", |key| &key.zone.text);
        let label_set = address.map(|address| labels(address, zone));
        let zones: Vec<_> = settings.zones.iter().map(|zone| zone.text.as_str()).collect();
        let label_set = label_set.expect("a block listens somewhere");
        let metrics = metrics.cache(&label_set, &zones.join(","));
        let is_same = |plan: &&Arc<CachePlan>| {
            plan.settings == *settings && Arc::ptr_eq(&plan.metrics, &metrics)
        };
        let kept = before.caches.iter().find(is_same).cloned();
        let kept = kept.filter(|kept| !self.caches.iter().any(|other| Arc::ptr_eq(other, kept)));
        self.caches.push(
            kept.unwrap_or_else(|| Arc::new(CachePlan { settings: settings.clone(), metrics })),
        );
        CacheSlot(self.caches.len() - 1)
    }

    /// `probes`: `loop` looks at the upstreams again after every reload, so they are always new.
    fn add_forward(
        &mut self,
        settings: ForwardSettings,
        before: &Self,
        probes: bool,
    ) -> ForwardSlot {
        let is_kept = |other: &&Arc<ForwardSettings>| !probes && is_same(other, &settings);
        let kept = before.forwards.iter().find(is_kept).cloned();
        let kept = kept.filter(|kept| !self.forwards.iter().any(|other| Arc::ptr_eq(other, kept)));
        self.forwards.push(kept.unwrap_or_else(|| Arc::new(settings)));
        ForwardSlot(self.forwards.len() - 1)
    }

    pub(crate) fn cache(&self, block: usize) -> Option<CacheSlot> {
        self.blocks.get(block)?.cache
    }

    pub(crate) fn forwards(&self, block: usize) -> Vec<ForwardStep> {
        self.blocks.get(block).map(|block| block.forwards.clone()).unwrap_or_default()
    }

    /// Whether a file that upstreams came from has been changed since. Files are looked at beside the control loop, for one on a
    /// network may hang.
    pub(crate) async fn is_out_of_date(&mut self) -> bool {
        if let Some(look) = self.look.take_if(|look| look.is_finished())
            && let Ok(found) = look.await
        {
            self.found = found;
        }
        if self.look.is_none() && !self.files.is_empty() {
            self.look = Some(self.begin_look());
        }
        self.found != self.changed
    }

    fn begin_look(&self) -> JoinHandle<Vec<Option<SystemTime>>> {
        let files = Arc::clone(&self.files);
        spawn_blocking(move || files.iter().map(changed_at).collect())
    }

    /// The files are as they are: what they hold could not be put to work.
    pub(crate) fn leave_files(&mut self) {
        self.changed.clone_from(&self.found);
    }

    /// Upstreams that send our questions back to us.
    pub(crate) fn loops(&self) -> impl Iterator<Item = &Upstream> {
        let upstreams = self.forwards.iter().flat_map(|settings| &settings.upstreams);
        upstreams.filter(|upstream| upstream.is_looping())
    }

    /// What the log is to be told of loops, each once.
    pub(crate) fn news_of_loops(&mut self) -> Vec<String> {
        let messages: BTreeSet<_> = self.loops().map(Upstream::loop_message).collect();
        let news = messages.difference(&self.loops_told).cloned().collect();
        self.loops_told = messages;
        news
    }

    /// CoreDNS's last words, where a block with `loop fatal` loops.
    pub(crate) fn fatal_loop(&self, config: &Config) -> Option<String> {
        config.blocks.iter().zip(&self.blocks).filter(|(_, block)| block.ends_at_loop).find_map(
            |(server_block, block)| {
                let key = server_block.keys.first()?;
                let forwards = block.forwards.iter();
                let settings = forwards.filter_map(|step| self.forwards.get(step.upstreams.0));
                let mut upstreams = settings.flat_map(|settings| &settings.upstreams);
                let served_at = match server_block.bound().first() {
                    Some(bind) => SocketAddr::new(bind.address.ip, key.port).to_string(),
                    None => format!(":{}", key.port),
                };
                upstreams.find_map(|upstream| upstream.fatal_loop_message(&key.zone, &served_at))
            },
        )
    }
}

/// Whether the same upstreams would be asked in the same way. Certificates may have changed without a trace, so TLS is
/// always set up anew.
fn is_same(one: &ForwardSettings, other: &ForwardSettings) -> bool {
    let facts = |upstream: &Upstream| (upstream.address, upstream.origin.clone());
    let is_plain = |upstream: &Upstream| matches!(upstream.way, Way::Dns);
    let ForwardOptions { place, tls_place, .. } = other.options.clone();
    let moved = ForwardOptions { place, tls_place, ..one.options.clone() };
    moved == other.options
        && one.upstreams.iter().all(is_plain)
        && other.upstreams.iter().all(is_plain)
        && one.upstreams.iter().map(facts).eq(other.upstreams.iter().map(facts))
}

fn changed_at(file: &PathBuf) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|metadata| metadata.modified()).ok()
}
