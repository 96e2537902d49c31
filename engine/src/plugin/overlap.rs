//! Checks whether two server blocks serve the same zone at the same address, which is a mistake.

use std::collections::HashMap;

use super::ServerBlock;
use super::bind::BindAddress;
use super::view::ViewSettings;
use crate::corefile::report::Mistake;
use crate::corefile::source::Span;
use crate::corefile::value::key::{Key, Scheme};
use crate::corefile::value::zone::Zone;
use crate::corefile::{Context, ListenIp};

/// Reports every key that a block already serves on the same addresses. A block without `bind` has
/// every address. A block with a view leaves the other queries to the blocks after it.
pub(crate) fn check_overlaps(blocks: &[(ServerBlock, Vec<Span>)], context: &mut Context<'_>) {
    let mut served: HashMap<(Scheme, &Zone, u16), Served<'_>> = HashMap::new();
    for (block, spans) in blocks {
        for (key, span) in block.keys.iter().zip(spans) {
            let served = served.entry((key.scheme, &key.zone, key.port)).or_default();
            if block.line::<ViewSettings>().is_some() {
                match served.clash(block.bound()) {
                    Some(clash) if clash.is_other_address() => {
                        context.mistakes.push_error(|| overlap(key, *span, &clash));
                    }
                    Some(clash) => context.mistakes.push(hidden(key, *span, &clash)),
                    None => {}
                }
                continue;
            }
            match served.clash(block.bound()) {
                Some(clash) => context.mistakes.push_error(|| overlap(key, *span, &clash)),
                None if block.bound().is_empty() => served.everywhere = Some(*span),
                None => {
                    if let Some(clash) = served.draws_lots(block.bound()) {
                        context.mistakes.push(drawn(key, *span, &clash));
                    }
                    served.on.extend(block.bound().iter().map(|bind| (&bind.address, *span)));
                }
            }
            served.first =
                served.first.or_else(|| block.bound().first().map(|bind| (&bind.address, *span)));
        }
    }
}

/// An earlier occurrence of a key.
#[derive(Default)]
struct Served<'b> {
    /// Without `bind`.
    everywhere: Option<Span>,
    on: HashMap<&'b ListenIp, Span>,
    /// The first of `on`.
    first: Option<(&'b ListenIp, Span)>,
}

struct Clash<'b> {
    /// `None`: every address.
    address: Option<&'b ListenIp>,
    other_address: Option<&'b ListenIp>,
    other: Span,
}

impl Clash<'_> {
    /// One has every address and the other one does not.
    fn is_other_address(&self) -> bool {
        self.address.is_some() != self.other_address.is_some()
    }
}

impl<'b> Served<'b> {
    fn clash(&self, bind: &'b [BindAddress]) -> Option<Clash<'b>> {
        if let Some(other) = self.everywhere {
            return Some(Clash {
                address: bind.first().map(|bind| &bind.address),
                other_address: None,
                other,
            });
        }
        if bind.is_empty() {
            let (address, other) = self.first?;
            return Some(Clash { address: None, other_address: Some(address), other });
        }
        bind.iter().find_map(|BindAddress { address, .. }| {
            let other = *self.on.get(address)?;
            Some(Clash { address: Some(address), other_address: Some(address), other })
        })
    }
}

impl<'b> Served<'b> {
    /// `0.0.0.0` and `::` both mean every address, but CoreDNS opens a socket for each.
    fn draws_lots(&self, bind: &'b [BindAddress]) -> Option<Clash<'b>> {
        let is_everywhere = |address: &&ListenIp| address.ip.is_unspecified();
        let address = bind.iter().map(|bind| &bind.address).find(is_everywhere)?;
        let (other_address, other) =
            self.on.iter().find(|(other, _)| is_everywhere(other) && **other != address)?;
        Some(Clash { address: Some(address), other_address: Some(*other_address), other: *other })
    }
}

fn hidden(key: &Key, span: Span, clash: &Clash<'_>) -> Mistake {
    Mistake::warning(
        span,
        format!("{key} is served by a block without a view: this one gets no query"),
    )
    .label("never asked")
    .also(clash.other, "takes every query")
    .help("write the blocks with a `view` first")
}

fn drawn(key: &Key, span: Span, clash: &Clash<'_>) -> Mistake {
    let ip =
        |address: Option<&ListenIp>| address.map_or_else(String::new, |one| one.ip.to_string());
    let (this, other) = (ip(clash.address), ip(clash.other_address));
    Mistake::warning(span, format!("{key} on {this} is {key} on {other}: the first answers"))
        .label("both mean every address")
        .also(clash.other, "the first")
        .help("CoreDNS sends each query to either one at random: delete one")
}

fn overlap(key: &Key, span: Span, clash: &Clash<'_>) -> Mistake {
    let named = |address: Option<&ListenIp>| match address {
        Some(address) => format!("{key} on {}", address.ip),
        None => key.to_string(),
    };
    let this = named(clash.address);
    if clash.address == clash.other_address {
        return Mistake::error(span, format!("cannot serve {this} - it is already defined"))
            .label("defined again here")
            .also(clash.other, "first defined here")
            .help("make one block of the two");
    }
    let other = named(clash.other_address);
    Mistake::error(
        span,
        format!("cannot serve {this} - zone overlap listener capacity with {other}"),
    )
    .label("one of the two has no `bind`, which means every address")
    .also(clash.other, "already served here")
}
