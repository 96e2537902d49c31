//! `prometheus`: an HTTP endpoint for metrics, and counters for the blocks that have it.
//! `crate::metrics` counts.

use std::future::ready;
use std::net::{IpAddr, Ipv4Addr};

use super::draft::{BlockDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::statement::{Setting, Statement, not_built};
use crate::corefile::value::http_address::{self, Host, HttpAddress};
use crate::corefile::{Context, Place};

/// `prometheus`: counts the queries of the blocks that have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prometheus {
    pub address: HttpAddress,
    /// The position of its line.
    pub place: Place,
}

const ADDRESS_DEFAULT: HttpAddress =
    HttpAddress { host: Host::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 9153 };

impl Plugin for Prometheus {
    fn name(&self) -> &'static str {
        "prometheus"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.is_counted = true;
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "prometheus [[HOST]:PORT]";
pub(crate) const SETTINGS: &[Setting<Prometheus>] = &[
    not_built(
        "runtime_metrics",
        "runtime_metrics",
        "delete the line: these are metrics of Go's runtime, and ringdns has none",
    ),
    not_built("tls", "tls FILE", "delete the line: metrics are served over plain HTTP"),
];

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let address = http_address::argument(statement, ADDRESS_DEFAULT, USAGE, context);
    let place = context.place(statement.name.span);
    let mut prometheus = Prometheus { address, place };
    statement.read_settings(SETTINGS, &mut prometheus, context);
    block.push(prometheus);
}
