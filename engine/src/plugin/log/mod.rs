//! `log`: a line for each query and its response.
//!
//! The line is read here; `query` describes an answered query, `ring` hands it to the thread that
//! writes the log, and `format` makes its line. The finish decides which responses are logged.
//! Invariant: a shard neither formats nor waits; a query that finds its ring full is lost and
//! counted.

pub mod format;
pub mod query;
pub mod ring;

use std::future::ready;
use std::sync::Arc;

use wire::name::Name;
use wire::zone::ZoneSet;

use super::bufsize::BufSize;
use super::draft::{BlockDraft, LoadContext, Loading};
use super::finish::{Finish, Leaving};
use super::metadata::QueryLabels;
use super::{Plugin, ServerBlock};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, adds};
use crate::corefile::value::zone::Zone;
use crate::corefile::word::{nearest, quoted};
use format::LineFormat;
use query::{LoggedQuery, ResponseClass};

/// The `log` lines of a block.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// The first one with the query's name decides.
    pub rules: Vec<LogRule>,
}

/// Which responses are logged, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct LogRule {
    /// Names in this zone [the root zone].
    pub zone: Zone,
    pub format: LineFormat,
    /// Empty: all.
    pub classes: Vec<ResponseClass>,
}

impl Plugin for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let zones = self.rules.iter().map(|rule| Zone::set([&rule.zone])).collect();
        block.finishes.push(Finish::Log(Arc::new(BlockLog {
            rules: self.rules.clone(),
            zones,
            udp_len_max: context.block.line::<BufSize>().map(|bufsize| bufsize.udp_len_max),
            labels: QueryLabels::of(context.block),
        })));
        Box::pin(ready(Ok(())))
    }
}

/// The log of a block, as its shards and the log's thread use it.
#[derive(Debug)]
pub struct BlockLog {
    pub rules: Vec<LogRule>,
    /// By rule.
    zones: Vec<ZoneSet>,
    /// `bufsize`: it comes before `log`, which shows the limited size of the client's EDNS.
    pub udp_len_max: Option<u16>,
    /// `metadata`.
    pub labels: Option<QueryLabels>,
}

impl BlockLog {
    /// Hands the response to the log, if the first rule with its name logs its class.
    pub(super) fn finish(self: &Arc<Self>, leaving: Leaving<'_>, message: &[u8]) {
        self.take(leaving, |log, rule, name| LoggedQuery::new(log, rule, leaving, name, message));
    }

    /// The same for a query without a response. `message` begins with its header and its question.
    pub(super) fn see_drop(self: &Arc<Self>, leaving: Leaving<'_>, message: &[u8]) {
        self.take(leaving, |log, rule, name| {
            LoggedQuery::dropped(log, rule, leaving, name, message)
        });
    }

    fn take(
        self: &Arc<Self>,
        leaving: Leaving<'_>,
        describe: impl FnOnce(&Arc<Self>, usize, &Name) -> LoggedQuery,
    ) {
        let asked = leaving.trail.asked.as_ref().and_then(|asked| asked.name());
        let name = asked.as_ref().unwrap_or(leaving.name);
        let Some(rule) = self.rule_for(name) else { return };
        let Some(place) = leaving.queries.room() else { return };
        let query = describe(self, rule, name);
        if self.rules.get(rule).is_some_and(|rule| rule.logs(query.kind.class())) {
            place.take(query);
        }
    }

    /// The index of the first rule whose zone has the name.
    fn rule_for(&self, name: &Name) -> Option<usize> {
        self.zones.iter().position(|zone| zone.find(name).is_some())
    }
}

impl LogRule {
    fn logs(&self, class: ResponseClass) -> bool {
        self.classes.is_empty() || self.classes.contains(&class)
    }
}

pub(crate) const USAGE: &str = "log [NAME…] [FORMAT] { … }";

pub(crate) const SETTINGS: &[Setting<Classes>] = &[adds("class", CLASS, class)];

const CLASS: &str = "class CLASS…";

/// The lines `class` of a `log`.
#[derive(Default)]
pub(crate) struct Classes {
    named: Vec<ResponseClass>,
    /// `class all`: it includes whatever else is named.
    is_all: bool,
}

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let mut classes = Classes::default();
    statement.read_settings(SETTINGS, &mut classes, context);
    let classes = if classes.is_all { Vec::new() } else { classes.named };
    let (names, format) = names_and_format(&statement.args, context);
    let mut zones = Vec::new();
    for name in names {
        if name.text.is_empty() {
            let mistake = Mistake::warning(name.span, "an empty name of `log` is the root")
                .label("every query is logged");
            context.report(mistake.help("write `log .`, or the name"));
            zones.push(Zone::root());
            continue;
        }
        match Zone::from_name(&name.text) {
            Ok(zone) => zones.push(zone),
            Err(refusal) => return context.refuse(name.span, refusal),
        }
    }
    if statement.args.is_empty() {
        zones.push(Zone::root());
    }
    let rules = zones.into_iter().map(|zone| LogRule {
        zone,
        format: format.clone(),
        classes: classes.clone(),
    });
    block.line_or(Log::default()).rules.extend(rules);
}

/// As in CoreDNS, the last of several arguments is the format if it has a brace. A single one is a
/// name.
fn names_and_format<'t>(args: &'t [Token], context: &mut Context<'_>) -> (&'t [Token], LineFormat) {
    match args {
        [names @ .., last] if !names.is_empty() && last.text.contains('{') => {
            (names, LineFormat::parse(&last.text))
        }
        [only] if only.text.contains('{') => {
            let mistake = Mistake::warning(only.span, "the only argument of `log` is a name")
                .label("not a format: no query has this name, so none is logged");
            context.report(mistake.help(format!("write `log . {}`", quoted(&only.text))));
            (args, LineFormat::default())
        }
        _ => (args, LineFormat::default()),
    }
}

fn class(line: &Statement, classes: &mut Classes, context: &mut Context<'_>) {
    let Some(words) = line.at_least_one(CLASS, context) else { return };
    for word in words {
        let known = ResponseClass::ALL.iter().find(|class| class.name() == word.text);
        match known {
            Some(class) => classes.named.push(*class),
            None if word.text == "all" => classes.is_all = true,
            None => {
                let names = ResponseClass::ALL.iter().map(|class| class.name());
                let meant = nearest(&word.text, names.chain(["all"]));
                let help = match meant {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => "the classes are success, denial, error and all".to_owned(),
                };
                let message = format!("invalid Class: {}", quoted(&word.text));
                return context.refuse(word.span, Refusal::new(message, "not a class").help(help));
            }
        }
    }
}
