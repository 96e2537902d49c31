//! Blocks on one port, some with `bind` and some without.

use std::collections::{HashMap, HashSet};

use super::LintBlock;
use crate::corefile::report::Mistake;
use crate::corefile::source::Span;
use crate::corefile::value::zone::Zone;
use crate::corefile::{Context, ListenIp};
use crate::plugin::ServerBlock;
use crate::plugin::bind::BindAddress;

/// Blocks that listen on every address and get no queries at one of them, because other
/// blocks `bind` it at the same port.
pub(super) fn shadows(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    let is_everywhere = |block: &ServerBlock| {
        block.bound().is_empty()
            || block.bound().iter().any(|bind| bind.address.ip.is_unspecified())
    };
    let mut own: HashMap<u16, Vec<(&ListenIp, Span)>> = HashMap::new();
    let mut served: HashSet<(&ListenIp, u16, &Zone)> = HashSet::new();
    for LintBlock { server: block, key_spans, .. } in blocks {
        for (key, span) in block.keys.iter().zip(*key_spans) {
            for BindAddress { address, .. } in
                block.bound().iter().filter(|bind| !bind.address.ip.is_unspecified())
            {
                served.insert((address, key.port, &key.zone));
                let own = own.entry(key.port).or_default();
                if !own.iter().any(|(other, _)| *other == address) {
                    own.push((address, *span));
                }
            }
        }
    }
    for block in blocks.iter().filter(|block| is_everywhere(block.server)) {
        let shadow = block.server.keys.iter().zip(block.key_spans).find_map(|(key, span)| {
            let own = own.get(&key.port)?;
            let lacks = |address| !served.contains(&(address, key.port, &key.zone));
            let (address, other) = own.iter().find(|(address, _)| lacks(address))?;
            Some((key, *span, *address, *other))
        });
        let Some((key, span, address, other)) = shadow else { continue };
        let message = format!("{key} is not served at {}", address.ip);
        let mistake = Mistake::warning(span, message)
            .label("every address except those that other blocks `bind` at this port")
            .also(other, "bound here");
        context.mistakes.push(mistake.help("give both blocks the same `bind`, or neither one"));
    }
}
