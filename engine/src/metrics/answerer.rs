//! The plugin that made a response: the label `plugin` of `coredns_dns_responses_total`.
//!
//! Invariant: a row's index never changes while the process runs.

/// A row of `PLUGINS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answerer(u8);

/// The plugins that make responses themselves, in CoreDNS's order. The first row is the server
/// itself: the query was refused before any plugin, or no plugin of the chain answered it.
pub(super) const PLUGINS: [&str; 27] = [
    "",
    "local",
    "dns64",
    "any",
    "chaos",
    "tsig",
    "autopath",
    "acl",
    "cache",
    "template",
    "no_aaaa",
    "transfer",
    "hosts",
    "route53",
    "azure",
    "clouddns",
    "k8s_external",
    "kubernetes",
    "file",
    "auto",
    "secondary",
    "etcd",
    "forward",
    "grpc",
    "erratic",
    "whoami",
    "nomad",
];

impl Answerer {
    /// The server itself.
    pub const SERVER: Self = Self(0);

    /// A plugin by its directive. Evaluated at compile time, where an unknown name is an error.
    ///
    /// # Panics
    /// If no row has this name.
    #[must_use]
    pub const fn plugin(name: &str) -> Self {
        let mut row = 1;
        while row < PLUGINS.len() {
            if is_same(PLUGINS[row].as_bytes(), name.as_bytes()) {
                return Self(row as u8);
            }
            row += 1;
        }
        panic!("no plugin of this name makes responses");
    }

    /// Whether it comes at the place of this plugin in CoreDNS's chain, or later. The server itself
    /// comes first.
    #[must_use]
    pub fn is_at_or_after(self, other: Self) -> bool {
        self.0 >= other.0
    }

    /// The plugin's directive; empty for the server itself.
    #[must_use]
    pub fn name(self) -> &'static str {
        PLUGINS.get(self.row()).copied().unwrap_or_default()
    }

    pub(super) const fn row(self) -> usize {
        self.0 as usize
    }
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}
