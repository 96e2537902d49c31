//! `k8s_external`: zones in which the cluster's Services have their external addresses.
//!
//! The options are read here; `k8s-sync` builds the table from the objects that `kubernetes` of the
//! same block watches. Invariant: the block has a `kubernetes` line.

use std::future::ready;

use wire::apex::ApexLabel;

use super::draft::{BlockDraft, LoadContext, Loading, OwnDraft, TableDraft, TableSource};
use super::{Plugin, ServerBlock};
use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::statement::{Setting, Statement, retired, sets};
use crate::corefile::value::zone::Zone;
use crate::corefile::value::{key, number};
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};
use crate::metrics::answerer::Answerer;

/// The `k8s_external` lines of one block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesExternal {
    pub settings: ExternalSettings,
    /// The zones whose missing names go to the next plugin; the root zone stands for all. Empty
    /// without `fallthrough`.
    pub fallthrough: Vec<Zone>,
    /// The last of the lines.
    pub place: Place,
}

/// What the table depends on; defaults in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalSettings {
    /// CIDRs expanded [the block's keys].
    pub zones: Vec<Zone>,
    /// `apex`: the label of the name server, `ns1.dns.ZONE` [dns].
    pub apex: ApexLabel,
    /// 0 to 3600 [5].
    pub ttl_secs: u32,
    /// Endpoints of Services without external addresses have names too.
    pub is_headless: bool,
}

impl Plugin for KubernetesExternal {
    fn name(&self) -> &'static str {
        NAME
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, _: &'a LoadContext<'a>) -> Loading<'a> {
        block.own.push(OwnDraft::Table(TableDraft {
            source: TableSource::KubernetesExternal(Box::new(self.settings.clone())),
            answerer: const { Answerer::plugin(NAME) },
            is_authority: true,
            passes_unsupported: false,
            refused: Vec::new(),
            fallthrough: self.fallthrough.clone(),
            place: self.place.clone(),
        }));
        Box::pin(ready(Ok(())))
    }
}

const NAME: &str = "k8s_external";

pub(crate) const USAGE: &str = "k8s_external [ZONE…] { … }";

const APEX_DEFAULT: &[u8] = b"dns";
const TTL_SECS_DEFAULT: u32 = 5;
const TTL_SECS_MAX: i64 = 3600;

pub(crate) const SETTINGS: &[Setting<KubernetesExternal>] = &[
    sets("apex", APEX, apex),
    sets("ttl", TTL, ttl),
    sets("headless", "headless", headless),
    sets("fallthrough", "fallthrough [ZONE…]", fallthrough),
    retired("upstream", "delete the line: since CoreDNS 1.7 targets are resolved without it"),
];

const APEX: &str = "apex LABEL";
const TTL: &str = "ttl SECONDS";

/// Several lines add up: the last one's zones count, and every option of each, as in CoreDNS.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let zones = key::zones_or_keys(&statement.args, &block.keys, context);
    let place = context.place(statement.name.span);
    let apex = ApexLabel::new(APEX_DEFAULT).expect("a short label");
    let settings = ExternalSettings {
        zones: Vec::new(),
        apex,
        ttl_secs: TTL_SECS_DEFAULT,
        is_headless: false,
    };
    let fallthrough = Vec::new();
    let line = block.line_or(KubernetesExternal { settings, fallthrough, place: Place::default() });
    line.settings.zones = zones;
    line.place = place;
    statement.read_settings(SETTINGS, line, context);
}

/// Checks that the block has a cluster. `statements`: all of the block.
pub(crate) fn check(statements: &[Statement], context: &mut Context<'_>) {
    let find = |name| statements.iter().find(|statement| statement.name.text == name);
    let (Some(line), None) = (find(NAME), find("kubernetes")) else { return };
    context.plugin = Some(NAME);
    let refusal = Refusal::new("kubernetes plugin not loaded", "needs a cluster");
    context.refuse(line.name.span, refusal.help("add a `kubernetes` line to this server block"));
    context.plugin = None;
}

/// The first argument. CoreDNS ignores the others.
fn first<'s>(line: &'s Statement, usage: &str, context: &mut Context<'_>) -> Option<&'s Token> {
    line.at_least_one(usage, context)?.first()
}

fn apex(line: &Statement, draft: &mut KubernetesExternal, context: &mut Context<'_>) {
    let Some(word) = first(line, APEX, context) else { return };
    let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match ApexLabel::new(word.text.as_bytes()) {
        Some(label) if label.text().iter().all(|byte| is_label_byte(*byte)) => {
            draft.settings.apex = label;
        }
        Some(_) | None => {
            let message = format!("apex is not a DNS label: '{}'", quoted(&word.text));
            let help = "one label of letters, digits and hyphens, at most 63: `apex dns`";
            context.refuse(word.span, Refusal::new(message, "not one label").help(help));
        }
    }
}

fn ttl(line: &Statement, draft: &mut KubernetesExternal, context: &mut Context<'_>) {
    let Some(word) = first(line, TTL, context) else { return };
    match number::read(word) {
        Ok(secs @ 0..=TTL_SECS_MAX) => draft.settings.ttl_secs = secs as u32,
        Ok(secs) => {
            let message = format!("ttl must be in range [0, 3600]: {secs}");
            let refusal = Refusal::new(message, "not 0 to 3600 seconds");
            context.refuse(word.span, refusal.help("a number of seconds, no unit"));
        }
        Err(refusal) => context.refuse(word.span, refusal),
    }
}

fn headless(line: &Statement, draft: &mut KubernetesExternal, context: &mut Context<'_>) {
    if line.exactly::<0>("headless", context).is_some() {
        draft.settings.is_headless = true;
    }
}

fn fallthrough(line: &Statement, draft: &mut KubernetesExternal, context: &mut Context<'_>) {
    draft.fallthrough = match line.args.as_slice() {
        [] => vec![Zone::root()],
        args => args.iter().flat_map(|arg| key::zones(&arg.text, arg.span, context)).collect(),
    };
}
