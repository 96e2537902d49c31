//! `bind`: the addresses that a server block listens on. The sockets are not opened here.

use std::future::ready;
use std::net::IpAddr;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::lexer::Token;
use crate::corefile::report::Mistake;
use crate::corefile::statement::{Setting, Statement, adds};
use crate::corefile::word::{nearest, quoted};
use crate::corefile::{Context, ListenIp, Place};
use crate::limits::COREFILE_BIND_MAX;

/// An address that a block listens on, and the line that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    pub address: ListenIp,
    pub place: Place,
}

/// `bind`: the addresses that a block listens on. Several lines of a block add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// Without duplicates.
    pub addresses: Vec<BindAddress>,
}

impl Plugin for Bind {
    fn name(&self) -> &'static str {
        "bind"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, _: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "bind ADDRESS|INTERFACE… { except ADDRESS|INTERFACE… }";

pub(crate) const SETTINGS: &[Setting<Vec<ListenIp>>] =
    &[adds("except", "except ADDRESS|INTERFACE…", except)];

/// Several `bind`s in a block add up.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let Some(words) = statement.at_least_one(USAGE, context) else { return };
    let (addresses, all_known) = resolve(words, context);
    let mut excepted = Vec::new();
    statement.read_settings(SETTINGS, &mut excepted, context);
    let mut kept = addresses;
    kept.retain(|address| !excepted.contains(address));
    if kept.is_empty() && all_known {
        let mistake = Mistake::error(statement.name.span, "every address to bind is excluded")
            .label("`except` leaves no address");
        context.report(mistake);
    }
    let bound_count = block.bound().len();
    if bound_count + kept.len() > COREFILE_BIND_MAX {
        let message = format!("more than {COREFILE_BIND_MAX} addresses");
        return context.report(Mistake::error(statement.name.span, message).label("too many"));
    }
    let place = context.place(statement.name.span);
    let bind = block.line_or(Bind::default());
    for address in kept {
        if !bind.addresses.iter().any(|other| other.address == address) {
            bind.addresses.push(BindAddress { address, place: place.clone() });
        }
    }
}

fn except(line: &Statement, excepted: &mut Vec<ListenIp>, context: &mut Context<'_>) {
    if let Some(words) = line.at_least_one("except ADDRESS|INTERFACE…", context) {
        excepted.extend(resolve(words, context).0);
    }
}

/// The addresses that the words stand for, and whether every word was an address or an interface.
fn resolve(words: &[Token], context: &mut Context<'_>) -> (Vec<ListenIp>, bool) {
    let mut addresses = Vec::new();
    let mut all_known = true;
    for word in words {
        if let Ok(ip) = word.text.parse::<IpAddr>() {
            addresses.push(ip.to_canonical().into());
        } else if let Some(of_interface) = (context.surroundings.interface)(&word.text) {
            if of_interface.is_empty() {
                all_known = false;
                without_address(word, context);
            }
            addresses.extend(of_interface);
        } else {
            all_known = false;
            unknown(word, context);
        }
    }
    (addresses, all_known)
}

/// CoreDNS would start and listen on nothing.
fn without_address(word: &Token, context: &mut Context<'_>) {
    let message = format!("the interface '{}' has no address", quoted(&word.text));
    let mistake = Mistake::error(word.span, message).label("nothing to listen on");
    context.report(mistake.help("add one first: `ip address add ADDRESS dev INTERFACE`"));
}

fn unknown(word: &Token, context: &mut Context<'_>) {
    let message = format!("not a valid IP address or interface name: \"{}\"", quoted(&word.text));
    let mistake = Mistake::error(word.span, message).label("not an interface of this machine");
    let help = if nearest(&word.text, ["localhost"]).is_some() {
        "write 127.0.0.1, ::1 or the interface `lo`"
    } else if word.text.parse::<std::net::SocketAddr>().is_ok() {
        "the port belongs to the zone: `.:53 {`"
    } else if word.text.split_once('%').is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok()) {
        "write the interface alone: that includes its link-local address"
    } else if word.text.split_once('/').is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok()) {
        "write an address of this machine, without a length"
    } else if word.text == "*" {
        "delete `bind`: without it, the block listens on every address"
    } else {
        "`ip address` lists the interfaces"
    };
    context.report(mistake.help(help));
}
