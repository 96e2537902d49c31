//! `whoami`: the client's own address, port and transport. It is the last plugin of a block, so it
//! has the names that no other plugin takes.

use std::future::ready;
use std::net::{IpAddr, SocketAddr};

use wire::header::{AA, Rcode, TYPE_A, TYPE_AAAA, TYPE_SRV};
use wire::reply::listing::{ListedRecord, Listing, Owner};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::exchange::Exchange;
use super::gate::{Gate, Passage};
use super::{Plugin, ServerBlock};
use crate::client::Transport;
use crate::corefile::Context;
use crate::corefile::statement::Statement;
use crate::metrics::answerer::Answerer;

/// `whoami`, which has no settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whoami;

impl Plugin for Whoami {
    fn name(&self) -> &'static str {
        "whoami"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.last.push(Gate::Whoami);
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "whoami";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    if statement.exactly::<0>(USAGE, context).is_some() {
        block.push(Whoami);
    }
}

/// The address, and an SRV record with the port: both in the additional section, as in CoreDNS.
pub(super) fn pass(exchange: &Exchange<'_>, message: &mut [u8]) -> Passage {
    let Exchange { arrival, query, .. } = exchange;
    let Some(peer) = exchange.trail.peer else {
        debug_assert!(false, "a gate that reads the client's address has it");
        return Passage::Pass;
    };
    let mut listing = Listing::begin(query, arrival.len_max(query.edns), message);
    list_address(peer, &mut listing);
    let [port0, port1] = peer.port().to_be_bytes();
    let labels: &[u8] = match arrival.transport {
        Transport::Udp => b"\x04_udp",
        Transport::Tcp => b"\x04_tcp",
    };
    // Priority 0, weight 0, the port, and the root as the target.
    let rdata = &[0, 0, 0, 0, port0, port1, 0];
    listing.additional(Owner::Below(labels), ListedRecord { rtype: TYPE_SRV, ttl_secs: 0, rdata });
    let stamped = listing.finish(AA, Rcode::NoError);
    Passage::Answer(stamped, const { Answerer::plugin("whoami") })
}

fn list_address(peer: SocketAddr, listing: &mut Listing<'_>) {
    let (v4, v6);
    let (rtype, rdata): (u16, &[u8]) = match peer.ip().to_canonical() {
        IpAddr::V4(address) => {
            v4 = address.octets();
            (TYPE_A, &v4)
        }
        IpAddr::V6(address) => {
            v6 = address.octets();
            (TYPE_AAAA, &v6)
        }
    };
    listing.additional(Owner::Question { from: 0 }, ListedRecord { rtype, ttl_secs: 0, rdata });
}
