//! A server block of the Corefile: its keys, and the settings of its plugins.
//!
//! Invariant: once the block has been read, its lines are in the order of `DIRECTIVES`.

use std::any::Any;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use super::bind::{Bind, BindAddress};
use super::draft::{BlockDraft, LoadContext, LoadError};
use super::health::Health;
use super::pprof::Pprof;
use super::prometheus::Prometheus;
use super::ready::Ready;
use super::root::Root;
use super::view::ViewSettings;
use super::{DIRECTIVES, Plugin};
use crate::admin::EndpointKind;
use crate::corefile::value::http_address::HttpAddress;
use crate::corefile::value::key::Key;
use crate::corefile::{ListenIp, Place};
use crate::metrics::{LabelSet, Metrics};

/// One server block of the Corefile.
#[derive(Debug)]
pub struct ServerBlock {
    /// The line of its first key.
    pub place: Place,
    /// At least one; CIDRs are expanded.
    pub keys: Vec<Key>,
    /// In the order of `DIRECTIVES`; lines of one directive in the order of the Corefile.
    lines: Vec<Box<dyn Plugin>>,
}

impl ServerBlock {
    pub(crate) fn new(place: Place) -> Self {
        Self { place, keys: Vec::new(), lines: Vec::new() }
    }

    /// The plugins, in the order in which CoreDNS calls them.
    pub fn plugins(&self) -> impl Iterator<Item = &dyn Plugin> {
        self.lines.iter().map(AsRef::as_ref)
    }

    /// The last one that sees queries: the end of CoreDNS's chain.
    #[must_use]
    pub fn last_plugin(&self) -> Option<&'static str> {
        self.plugins().filter(|plugin| plugin.sees_queries()).last().map(Plugin::name)
    }

    /// The settings of every line of this type, in the order of the Corefile.
    pub fn lines<T: Plugin>(&self) -> impl Iterator<Item = &T> {
        self.plugins().filter_map(|line| (line as &dyn Any).downcast_ref())
    }

    /// The settings of the first line of this type.
    #[must_use]
    pub fn line<T: Plugin>(&self) -> Option<&T> {
        self.lines().next()
    }

    /// Its HTTP endpoints: the plugin, the address, and the position of the line.
    pub fn endpoints(&self) -> impl Iterator<Item = (EndpointKind, &HttpAddress, &Place)> {
        let health = self.line().map(|Health { address, place, .. }| (address, place));
        let ready = self.line().map(|Ready { address, place, .. }| (address, place));
        let metrics = self.line().map(|Prometheus { address, place }| (address, place));
        let pprof = self.line().map(|Pprof { address, place }| (address, place));
        let rows = [
            (EndpointKind::Health, health),
            (EndpointKind::Ready, ready),
            (EndpointKind::Prometheus, metrics),
            (EndpointKind::Pprof, pprof),
        ];
        rows.into_iter().filter_map(|(plugin, line)| {
            let (address, place) = line?;
            Some((plugin, address, place))
        })
    }

    /// The addresses of `bind`; empty without it, which means every address of the machine.
    #[must_use]
    pub fn bound(&self) -> &[BindAddress] {
        self.line::<Bind>().map_or(&[], |bind| &bind.addresses)
    }

    /// The addresses that receive queries for this key: those of `bind`, or all of the machine's.
    /// Each is listed once, with the line that names it. As for Go's listeners, `0.0.0.0` means
    /// every address, IPv6 included.
    #[must_use]
    pub fn addresses(&self, port: u16) -> Vec<(SocketAddr, &Place)> {
        let all = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        if self.bound().is_empty() {
            return vec![(all, &self.place)];
        }
        let mut addresses: Vec<(SocketAddr, &Place)> = Vec::with_capacity(self.bound().len());
        for BindAddress { address: ListenIp { ip, scope_id }, place } in self.bound() {
            let address = match *ip {
                ip if ip.is_unspecified() => all,
                IpAddr::V4(ip) => SocketAddr::new(IpAddr::V4(ip), port),
                IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port, 0, *scope_id)),
            };
            if !addresses.iter().any(|(other, _)| *other == address) {
                addresses.push((address, place));
            }
        }
        addresses
    }

    /// A path of the block's lines: a relative one starts at the folder of `root`.
    #[must_use]
    pub fn in_root(&self, path: &Path) -> PathBuf {
        match self.lines::<Root>().last() {
            Some(root) => root.folder.join(path),
            None => path.to_owned(),
        }
    }

    /// The labels in metrics of its queries for this key.
    #[must_use]
    pub fn labels(&self, address: SocketAddr, key: &Key) -> LabelSet {
        let labels = LabelSet::new(address, &key.zone.text).over(key.scheme);
        LabelSet { view: self.view().to_owned(), ..labels }
    }

    /// The name of its view; empty without `view`.
    #[must_use]
    pub fn view(&self) -> &str {
        self.line::<ViewSettings>().map_or("", |view| &view.name)
    }

    /// Combines all lines of the block.
    ///
    /// # Errors
    /// The first line that cannot be loaded, and why.
    pub async fn draft(&self, metrics: &Metrics) -> Result<BlockDraft, LoadError> {
        let context = LoadContext { block: self, metrics };
        let mut draft = BlockDraft::default();
        for plugin in self.plugins() {
            plugin.put(&mut draft, &context).await?;
        }
        Ok(draft)
    }

    /// Loads all lines of the block, to report every problem: those that would stop a start-up, by
    /// plugin, and those that it would log.
    pub async fn problems(
        &self,
        metrics: &Metrics,
    ) -> (Vec<(&'static str, LoadError)>, Vec<String>) {
        let context = LoadContext { block: self, metrics };
        let mut draft = BlockDraft::default();
        let mut errors = Vec::new();
        for plugin in self.plugins() {
            if let Err(error) = plugin.put(&mut draft, &context).await {
                errors.push((plugin.name(), error));
            }
        }
        (errors, draft.warnings)
    }

    pub(crate) fn push(&mut self, line: impl Plugin) {
        self.lines.push(Box::new(line));
    }

    /// The settings of the block's line of this type, or `default` if it has none yet. For
    /// directives whose lines add up.
    pub(crate) fn line_or<T: Plugin>(&mut self, default: T) -> &mut T {
        let at = self.plugins().position(|line| (line as &dyn Any).is::<T>());
        let at = at.unwrap_or_else(|| {
            self.push(default);
            self.lines.len() - 1
        });
        let line = self.lines[at].as_mut() as &mut dyn Any;
        line.downcast_mut().expect("it was looked for by its type")
    }

    /// Sorts the lines in the order of `DIRECTIVES`.
    pub(crate) fn sort(&mut self) {
        self.lines.sort_by_key(|line| DIRECTIVES.iter().position(|row| row.name == line.name()));
    }
}
