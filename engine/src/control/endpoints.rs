//! The Corefile's HTTP endpoints and plugins, as `admin` and `metrics` need them.
//!
//! Invariant: everything here follows from the Corefile, but the flag `-metrics-listen-address`.

use domain::base::name::Name as DomainName;
use engine::admin::{Endpoint, EndpointKind, Monitor};
use engine::config::Config;
use engine::corefile::value::http_address::HttpAddress;
use engine::corefile::value::key::{Key, Scheme};
use engine::metrics::served::BlockFacts;
use engine::metrics::{EnabledPlugin, Metrics};
use engine::plugin::ServerBlock;
use engine::plugin::prometheus::Prometheus;
use engine::plugin::ready::Ready;

/// The endpoints of all blocks, and that of `-metrics-listen-address`.
pub(crate) fn of(config: &Config, metrics_address: Option<&HttpAddress>) -> Vec<Endpoint> {
    let of_flag = |address: &HttpAddress| Endpoint {
        plugin: EndpointKind::Prometheus,
        address: address.to_string(),
        place: "-metrics-listen-address".to_owned(),
    };
    let mut endpoints: Vec<_> = metrics_address.map(of_flag).into_iter().collect();
    for block in &config.blocks {
        endpoints.extend(block.endpoints().map(|(plugin, address, place)| Endpoint {
            plugin,
            address: address.to_string(),
            place: place.to_string(),
        }));
    }
    endpoints
}

/// How `/ready` treats plugins that were ready once: the first `ready` line decides.
pub(crate) fn monitor(config: &Config) -> Monitor {
    let ready = config.blocks.iter().find_map(|block| block.line::<Ready>());
    ready.map(|ready| ready.monitor).unwrap_or_default()
}

/// Publishes which plugins each block has, and the digest of the Corefile.
pub(crate) fn publish_facts(metrics: &Metrics, config: &Config) {
    let mut facts = metrics.facts();
    facts.corefile_sha512 = Some(config.digest.clone());
    facts.blocks = config.blocks.iter().map(block_facts).collect();
    facts.plugins.clear();
    for block in config.blocks.iter().filter(|block| block.line::<Prometheus>().is_some()) {
        for key in &block.keys {
            for (address, _) in block.addresses(key.port) {
                let block_labels = block.labels(address, key);
                facts.plugins.extend(
                    plugins(block).map(|name| EnabledPlugin { block: block_labels.clone(), name }),
                );
            }
        }
    }
}

/// A block as the status page shows it.
fn block_facts(block: &ServerBlock) -> BlockFacts {
    let key = |key: &Key| match key.scheme {
        Scheme::Dns => format!("{}:{}", key.zone.text, key.port),
        Scheme::Tls | Scheme::Quic | Scheme::Grpc | Scheme::Https3 | Scheme::Https => {
            format!("{}://{}:{}", key.scheme.name(), key.zone.text, key.port)
        }
    };
    let mut plugins: Vec<_> = block.plugins().map(|line| line.name()).collect();
    plugins.dedup();
    let keys = block.keys.iter().map(key).collect();
    BlockFacts { keys, plugins, place: block.place.to_string() }
}

/// The plugins of a block that see queries.
pub(crate) fn plugins(block: &ServerBlock) -> impl Iterator<Item = &'static str> {
    let mut names: Vec<_> =
        block.plugins().filter(|line| line.sees_queries()).map(|line| line.name()).collect();
    names.dedup();
    names.into_iter()
}

/// A zone in wire format as text, for labels.
pub(crate) fn zone_text(wire: &[u8]) -> String {
    let name = DomainName::from_octets(wire).ok();
    name.map_or_else(String::new, |name| name.fmt_with_dot().to_string())
}
