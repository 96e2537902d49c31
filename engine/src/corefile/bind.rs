//! `bind`: the addresses that a server block listens on.

use std::net::IpAddr;

use super::lexer::Token;
use super::report::Mistake;
use super::statement::{Setting, SettingOutcome, Statement};
use super::word::{nearest, quoted};
use super::{Context, Place, ServerBlock};
use crate::limits::COREFILE_BIND_MAX;

/// An address of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenIp {
    pub ip: IpAddr,
    /// The interface's index for a link-local IPv6 address that was found by the interface's name,
    /// else 0.
    pub scope_id: u32,
}

/// An address that a block listens on, and the line that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    pub address: ListenIp,
    pub place: Place,
}

impl From<IpAddr> for ListenIp {
    fn from(ip: IpAddr) -> Self {
        Self { ip, scope_id: 0 }
    }
}

/// The addresses of a network interface of this machine; `None` if there is no such interface.
pub(super) fn interface_addresses(name: &str) -> Option<Vec<ListenIp>> {
    let interfaces = if_addrs::get_if_addrs().ok()?;
    let found: Vec<_> = interfaces
        .iter()
        .filter(|interface| interface.name == name)
        .map(|interface| {
            let ip = interface.ip();
            let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            let scope_id = interface.index.filter(|_| is_link_local).unwrap_or(0);
            ListenIp { ip, scope_id }
        })
        .collect();
    let is_there = !found.is_empty() || is_interface(name);
    is_there.then_some(found)
}

fn is_interface(name: &str) -> bool {
    std::fs::read_dir("/sys/class/net").is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|one| one.file_name() == name))
    })
}

pub(super) const USAGE: &str = "bind ADDRESS|INTERFACE… { except ADDRESS|INTERFACE… }";

pub(super) const SETTINGS: &[Setting<Vec<ListenIp>>] = &[Setting {
    name: "except",
    usage: "except ADDRESS|INTERFACE…",
    outcome: SettingOutcome::Adds(except),
}];

/// Several `bind`s in a block add up.
pub(super) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let Some(words) = statement.at_least_one(USAGE, context) else { return };
    let (addresses, all_known) = resolve(words, context);
    let mut excepted = Vec::new();
    statement.read_settings(SETTINGS, &mut excepted, context);
    let mut kept = addresses;
    kept.retain(|address| !excepted.contains(address));
    if kept.is_empty() && all_known {
        let mistake = Mistake::error(statement.name.span, "no address is left to bind")
            .label("everything is excepted");
        context.report(mistake);
    }
    if block.bind.len() + kept.len() > COREFILE_BIND_MAX {
        let message = format!("more than {COREFILE_BIND_MAX} addresses");
        return context.report(Mistake::error(statement.name.span, message).label("too many"));
    }
    let place = context.place(statement.name.span);
    for address in kept {
        if !block.bind.iter().any(|other| other.address == address) {
            block.bind.push(Bind { address, place: place.clone() });
        }
    }
}

fn except(line: &Statement, excepted: &mut Vec<ListenIp>, context: &mut Context<'_>) {
    if let Some(words) = line.at_least_one("except ADDRESS|INTERFACE…", context) {
        excepted.extend(resolve(words, context).0);
    }
}

/// The addresses that the words stand for, and whether every word was one or an interface.
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

/// CoreDNS would start, and listen nowhere.
fn without_address(word: &Token, context: &mut Context<'_>) {
    let message = format!("the interface '{}' has no address", quoted(&word.text));
    let mistake = Mistake::error(word.span, message).label("nothing to listen on");
    context.report(mistake.help("give it one first: `ip address add ADDRESS dev INTERFACE`"));
}

fn unknown(word: &Token, context: &mut Context<'_>) {
    let message = format!("not a valid IP address or interface name: \"{}\"", quoted(&word.text));
    let mistake = Mistake::error(word.span, message).label("no interface of this machine");
    let help = if nearest(&word.text, ["localhost"]).is_some() {
        "write 127.0.0.1, ::1 or the interface `lo`"
    } else if word.text.parse::<std::net::SocketAddr>().is_ok() {
        "the port belongs to the zone: `.:53 {`"
    } else if word.text.split_once('%').is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok()) {
        "write the interface alone: its link-local address is one of those that it stands for"
    } else if word.text.split_once('/').is_some_and(|(ip, _)| ip.parse::<IpAddr>().is_ok()) {
        "write an address of this machine, without a length"
    } else if word.text == "*" {
        "delete `bind`: every address is listened on without it"
    } else {
        "`ip address` lists the interfaces"
    };
    context.report(mistake.help(help));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine() {
        let found = interface_addresses("lo").unwrap_or_default();
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert!(found.contains(&loopback.into()), "{found:?}");
        for none in ["no-such-if0", "", "..", "lo/"] {
            assert_eq!(interface_addresses(none), None, "{none:?}");
        }
    }
}
