//! HTTP endpoints at the address of a server block.

use super::{LintBlock, warn};
use crate::corefile::Context;
use crate::corefile::report::Mistake;
use crate::corefile::source::Span;
use crate::corefile::value::http_address::{Host, HttpAddress};
use crate::plugin::ServerBlock;
use crate::ports;

/// The kernel gives each TCP connection to either of the two, at random or to the narrower one.
pub(super) fn shared(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks.iter().filter(|block| !block.parsed.is_part) {
        for (plugin, address, _) in block.server.endpoints() {
            let served = blocks.iter().find_map(|other| served_at(other, address));
            let (Some(span), Some(statement)) = (served, block.lines(plugin.name()).next()) else {
                continue;
            };
            let message = format!("'{address}' is an address of DNS over TCP too");
            let mistake = Mistake::warning(statement.args_span(context), message)
                .label("clients of either get the other")
                .also(span, "served here")
                .help("give one of the two another port");
            warn(statement, mistake, context);
        }
    }
}

/// The key of this block that is served at the address.
fn served_at(block: &LintBlock<'_>, address: &HttpAddress) -> Option<Span> {
    let mut keys = block.server.keys.iter().zip(block.key_spans);
    let (_, span) = keys.find(|(key, _)| key.port == address.port)?;
    is_bound(block.server, &address.host).then_some(*span)
}

fn is_bound(block: &ServerBlock, host: &Host) -> bool {
    if block.bound().is_empty() {
        return true;
    }
    let mut bound = block.bound().iter().map(|bind| bind.address.ip);
    match host {
        Host::Every => true,
        Host::Ip(ip) => bound.any(|bound| ports::overlap(bound, *ip)),
        Host::Name(name) => name == "localhost" && bound.any(|bound| bound.is_loopback()),
    }
}
