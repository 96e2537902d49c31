//! `autopath`: the server follows the client's search path, so that the client asks once.
//!
//! The line is read here; `path` computes the names. Invariant: a loaded path has at least one
//! domain, or it is a cluster's.

pub mod path;
pub(super) mod pursuit;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wire::zone::ZoneSet;

use super::draft::{BlockDraft, LoadContext, LoadError, Loading};
use super::exchange::{CounterSlot, Exchange};
use super::gate::{Gate, Passage};
use super::kubernetes::Kubernetes;
use super::pursuit::Pursuit;
use super::{Plugin, ServerBlock};
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::Statement;
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};
use crate::limits::{FILE_TIMEOUT, RESOLV_CONF_LEN_MAX, SEARCH_DOMAINS_MAX};
use crate::metrics::{BlockLabels, CounterFamily, PluginCounter};
use path::{POD_DOMAIN_COUNT, SearchDomains};
use pursuit::AutopathPursuit;

/// One `autopath` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autopath {
    /// The zones of the questions that it looks at [the block's keys].
    pub zones: Vec<Zone>,
    pub source: SearchSource,
    pub place: Place,
}

/// Where search paths come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchSource {
    /// A file in the format of resolv.conf. A relative path is relative to the working directory,
    /// as in CoreDNS.
    File(PathBuf),
    /// `@kubernetes`: the namespace of the client's pod.
    Kubernetes,
    /// Nowhere: the block does not have the plugin that the line names. As in CoreDNS, the line
    /// does nothing.
    Nowhere,
}

/// A line whose files have been read.
#[derive(Clone, Debug)]
pub struct AutopathGate {
    zones: ZoneSet,
    domains: Arc<SearchDomains>,
    successes: CounterSlot,
}

impl Autopath {
    /// Whether it needs the namespaces of clients.
    #[must_use]
    pub fn indexes_pods(&self) -> bool {
        self.source == SearchSource::Kubernetes
    }
}

impl Plugin for Autopath {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(async move {
            let domains = match &self.source {
                SearchSource::Nowhere => return Ok(()),
                SearchSource::File(path) => {
                    let text = read_file(path).await.map_err(|error| {
                        let path = path.display();
                        let problem = format!(
                            "plugin/autopath: failed to parse \"{path}\": open {path}: {error}"
                        );
                        LoadError { place: self.place.clone(), problem: problem.into() }
                    })?;
                    let domains =
                        search_domains(&text, path, SEARCH_DOMAINS_MAX, &mut block.warnings);
                    if domains.is_empty() {
                        let path = path.display();
                        block.warnings.push(format!(
                            "plugin/autopath: {path} has no search domain: autopath does nothing"
                        ));
                        return Ok(());
                    }
                    SearchDomains::File(domains)
                }
                SearchSource::Kubernetes => {
                    let Some(cluster) = context.block.line::<Kubernetes>() else { return Ok(()) };
                    let zones = &cluster.zones;
                    let own = Path::new(OWN_RESOLV_CONF);
                    // As in CoreDNS, a server without the file has no domains of its own.
                    let text = read_file(own).await.unwrap_or_default();
                    SearchDomains::Cluster {
                        zones: Zone::set(zones),
                        zone_names: zones.iter().map(|zone| zone.wire.as_slice().into()).collect(),
                        rest: search_domains(
                            &text,
                            own,
                            SEARCH_DOMAINS_MAX - POD_DOMAIN_COUNT,
                            &mut block.warnings,
                        ),
                    }
                }
            };
            let successes = PluginCounter { family: &SUCCESSES, labels: Vec::new() };
            let successes = block.counter(successes);
            let (zones, domains) = (Zone::set(&self.zones), Arc::new(domains));
            block.gates.push(Gate::Autopath(AutopathGate { zones, domains, successes }));
            Ok(())
        })
    }
}

const SUCCESSES: CounterFamily = CounterFamily {
    name: "coredns_autopath_success",
    help: "Queries that were answered with a name further down the client's search path",
    block_labels: BlockLabels::Server,
};

impl AutopathGate {
    pub(super) fn pass(&self, exchange: &Exchange<'_>) -> Passage {
        let name = &*exchange.name;
        if self.zones.find(name).is_none() {
            return Passage::Pass;
        }
        let namespace_of_client = || exchange.pods?.namespace_of(exchange.trail.peer?.ip());
        let Some(path) = self.domains.path(name, namespace_of_client) else { return Passage::Pass };
        let names = (0..path.name_count()).filter_map(|index| path.name(name, index));
        let names: Box<[Box<[u8]>]> = names.map(|name| name.bytes().into()).collect();
        let pursuit = AutopathPursuit::new(names, exchange.query.qtype, self.successes);
        Passage::Pursue(Box::new(Pursuit::Autopath(pursuit)))
    }
}

const NAME: &str = "autopath";

pub(crate) const USAGE: &str = "autopath [ZONE…] RESOLV-CONF|@kubernetes";

/// The file that the kubelet copies domains of into the resolv.conf of pods.
const OWN_RESOLV_CONF: &str = "/etc/resolv.conf";

/// The last of several lines counts, as in CoreDNS.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let Some((source, zones)) = statement.args.split_last() else {
        let refusal = Refusal::new("no resolv-conf specified", "something is missing after this");
        return context.refuse(statement.name.span, refusal.help(format!("usage: `{USAGE}`")));
    };
    let zones = key::zones_or_keys(zones, &block.keys, context);
    let source = match source.text.strip_prefix('@') {
        Some("kubernetes") => SearchSource::Kubernetes,
        Some(_) => SearchSource::Nowhere,
        None => SearchSource::File(source.text.clone().into()),
    };
    let place = context.place(statement.name.span);
    let line = Autopath { zones, source, place };
    block.line_or(line.clone()).clone_from(&line);
}

/// Checks the plugin that is to give search paths. `statements`: all of the block.
pub(crate) fn check(statements: &[Statement], context: &mut Context<'_>) {
    let line = statements.iter().rfind(|statement| statement.name.text == NAME);
    let Some(word) = line.and_then(|line| line.args.last()) else { return };
    let Some(plugin) = word.text.strip_prefix('@') else { return };
    let has_plugin = statements.iter().any(|statement| statement.name.text == plugin);
    // A lint reports a block without `kubernetes`.
    if plugin == "kubernetes" {
        return;
    }
    context.plugin = Some(NAME);
    let help = "write `@kubernetes`, or a file";
    if has_plugin {
        let message = format!("{} does not implement the AutoPather interface", quoted(plugin));
        context.refuse(word.span, Refusal::new(message, "has no search paths").help(help));
    } else {
        let message = format!("this server block has no '{}'", quoted(plugin));
        let mistake = Mistake::warning(word.span, message).label("autopath does nothing");
        context.report(mistake.help(help));
    }
    context.plugin = None;
}

/// A file's bytes. A file that hangs does not block the control plane.
async fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        File::open(path)?.take(RESOLV_CONF_LEN_MAX).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    });
    match tokio::time::timeout(FILE_TIMEOUT, reading).await {
        Ok(read) => read.unwrap_or_else(|error| Err(io::Error::other(error))),
        Err(_) => {
            let message = format!("not read within {FILE_TIMEOUT:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, message))
        }
    }
}

/// The domains of the last line `search` or `domain`.
fn search_domains(
    text: &[u8],
    path: &Path,
    count_max: usize,
    warnings: &mut Vec<String>,
) -> Box<[Box<[u8]>]> {
    let (config, _) = resolv_conf::Config::parse_with_errors(text);
    let mut domains: Vec<Box<[u8]>> = Vec::new();
    let mut warn = |domain: &str, why: &str| {
        let (path, domain) = (path.display(), quoted(domain));
        warnings.push(format!("plugin/autopath: {path}: search domain '{domain}' {why}"));
    };
    for domain in config.get_last_search_or_domain() {
        match Zone::from_name(domain) {
            Ok(zone) if domains.len() < count_max => domains.push(zone.wire.into()),
            Ok(_) => {
                warn(domain, &format!("and later ones are ignored: over {count_max}"));
                break;
            }
            Err(_) => warn(domain, "is ignored: it is not a domain name"),
        }
    }
    domains.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_of_a_resolv_conf() {
        let check = |text: &str, expected: &[&str], warning_count: usize| {
            let mut warnings = Vec::new();
            let domains = search_domains(
                text.as_bytes(),
                Path::new("file"),
                SEARCH_DOMAINS_MAX,
                &mut warnings,
            );
            let expected = expected.iter().map(|name| Zone::from_name(name).unwrap().wire.into());
            assert_eq!(domains, expected.collect::<Box<[Box<[u8]>]>>(), "{text}");
            assert_eq!(warnings.len(), warning_count, "{text}: {warnings:?}");
        };
        check("nameserver 10.0.0.1\nsearch A.Example b.example.\n", &["a.example", "b.example"], 0);
        check("search a\ndomain b\n", &["b"], 0);
        check("domain b\nsearch a c\noptions ndots:5", &["a", "c"], 0);
        check("nameserver 10.0.0.1\n", &[], 0);
        check("", &[], 0);
        check("search a..b c", &["c"], 1);
        let many: Vec<String> = (0..40).map(|number| format!("d{number}")).collect();
        let names: Vec<&str> = many.iter().map(String::as_str).take(SEARCH_DOMAINS_MAX).collect();
        check(&format!("search {}", many.join(" ")), &names, 1);
    }
}
