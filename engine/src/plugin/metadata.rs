//! `metadata`: labels of a query, for `log` and for the expressions of `view`.
//!
//! CoreDNS computes all labels of every query. Here a label is computed where it is used, from the
//! question's name and the lines of its block. Invariant: a label costs nothing unless it is used.

use std::fmt::{self, Write};
use std::future::ready;

use wire::name::Name;
use wire::zone::ZoneSet;

use super::draft::{BlockDraft, LoadContext, Loading};
use super::kubernetes::Kubernetes;
use super::log::format::write_label;
use super::view::ViewSettings;
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::statement::Statement;
use crate::corefile::value::key;
use crate::corefile::value::zone::Zone;

/// `metadata [ZONE…]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryMetadata {
    /// The zones whose queries have labels [the block's keys].
    pub zones: Vec<Zone>,
}

impl Plugin for QueryMetadata {
    fn name(&self) -> &'static str {
        "metadata"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, _: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "metadata [ZONE…]";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    statement.takes_no_block(USAGE, context);
    let zones = key::zones_or_keys(&statement.args, &block.keys, context);
    block.push(QueryMetadata { zones });
}

/// The labels of a block's queries.
#[derive(Clone, Debug)]
pub struct QueryLabels {
    zones: ZoneSet,
    /// The zones of `kubernetes`; none without it.
    kubernetes: ZoneSet,
    view: Option<String>,
}

/// Whether CoreDNS has this label before it chooses a block, and ringdns never.
pub(super) fn is_lacking(label: &str) -> bool {
    label
        .strip_prefix("kubernetes/")
        .is_some_and(|label| label.starts_with("client-") || matches!(label, "zone" | "cluster"))
}

/// What a name of a cluster asks for.
#[derive(Clone, Copy, Default)]
struct ClusterName<'n> {
    port: &'n [u8],
    protocol: &'n [u8],
    endpoint: &'n [u8],
    service: &'n [u8],
    namespace: &'n [u8],
    kind: &'n [u8],
}

impl QueryLabels {
    /// Those of a block; `None` without `metadata`.
    #[must_use]
    pub fn of(block: &ServerBlock) -> Option<Self> {
        let metadata = block.line::<QueryMetadata>()?;
        let kubernetes = block.line::<Kubernetes>().map(|one| Zone::set(&one.zones));
        Some(Self {
            zones: Zone::set(&metadata.zones),
            kubernetes: kubernetes.unwrap_or_default(),
            view: block.line::<ViewSettings>().map(|view| view.name.clone()),
        })
    }

    /// Appends the label's value; false if this query has no such label.
    ///
    /// # Errors
    /// `out` is full.
    pub fn write(
        &self,
        label: &str,
        name: &Name,
        out: &mut impl Write,
    ) -> Result<bool, fmt::Error> {
        if self.zones.find(name).is_none() {
            return Ok(false);
        }
        if label == "view/name" {
            return match &self.view {
                Some(view) => out.write_str(view).map(|()| true),
                None => Ok(false),
            };
        }
        let Some(label) = label.strip_prefix("kubernetes/") else { return Ok(false) };
        let Some((_, labels_in_front)) = self.kubernetes.find_below(name) else {
            return Ok(false);
        };
        let parsed = ClusterName::parse(name, labels_in_front);
        let value = match (parsed, label) {
            (None, "parse-error") => return out.write_str("invalid query name").map(|()| true),
            (None, _) => return Ok(false),
            (Some(parsed), "port-name") => parsed.port,
            (Some(parsed), "protocol") => parsed.protocol,
            (Some(parsed), "endpoint") => parsed.endpoint,
            (Some(parsed), "service") => parsed.service,
            (Some(parsed), "namespace") => parsed.namespace,
            (Some(parsed), "kind") => parsed.kind,
            (Some(_), _) => return Ok(false),
        };
        write_label(value, out).map(|()| true)
    }
}

impl<'n> ClusterName<'n> {
    /// Reads the labels before the zone, from the right, as CoreDNS does: kind, namespace, Service,
    /// and then an endpoint, or protocol and port. `None` if there are more, or of another kind.
    fn parse(name: &'n Name, labels_in_front: usize) -> Option<Self> {
        let label = |from_zone: usize| match labels_in_front.checked_sub(from_zone) {
            Some(index) => name.label(index),
            None => &[],
        };
        let bare = |label: &'n [u8]| label.strip_prefix(b"_").unwrap_or(label);
        let kind = label(1);
        if !matches!(kind, b"" | b"svc" | b"pod") {
            return None;
        }
        // `svc.ZONE` and `pod.ZONE` alone are like the zone itself.
        if labels_in_front < 2 {
            return Some(Self::default());
        }
        let known = Self { kind, namespace: label(2), service: label(3), ..Self::default() };
        match labels_in_front {
            0..=3 => Some(known),
            4 => Some(Self { endpoint: label(4), ..known }),
            5 => Some(Self { protocol: bare(label(4)), port: bare(label(5)), ..known }),
            _ => None,
        }
    }
}
