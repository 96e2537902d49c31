//! `hosts`: answers from a hosts file and from entries in the Corefile.
//!
//! The options are read here; `file` reads the format of the file, and `table` makes the answers.
//! The control plane reads the file itself. Invariant: every entry of the Corefile is in one of the
//! zones.

pub mod file;
pub(super) mod merge;
pub mod table;

use std::future::ready;
use std::path::PathBuf;
use std::time::Duration;

use wire::zone::ZoneSet;

use super::draft::{BlockDraft, LoadContext, Loading, OwnDraft, TableDraft, TableSource};
use super::{Plugin, ServerBlock};
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::{Setting, Statement, sets, unknown_setting, warn_of_surplus};
use crate::corefile::value::key::Key;
use crate::corefile::value::zone::Zone;
use crate::corefile::value::{duration, key, number};
use crate::corefile::word::{nearest, quoted};
use crate::corefile::{Context, Place};
use crate::metrics::answerer::Answerer;
use file::HostEntry;

/// One `hosts` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    pub settings: HostsSettings,
    /// The zones whose missing names go to the next plugin; the root zone stands for all. Empty
    /// without `fallthrough`.
    pub fallthrough: Vec<Zone>,
    /// `fallthrough_unsupported`: types other than A, AAAA and PTR fall through as well.
    pub passes_unsupported: bool,
    /// The line of `hosts`.
    pub place: Place,
}

/// What the table depends on; defaults in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostsSettings {
    /// A relative path starts at the folder of `root`, or else at the working directory
    /// [/etc/hosts].
    pub file: PathBuf,
    /// The zones of the names, CIDRs expanded [the block's keys].
    pub zones: Vec<Zone>,
    /// The entries in the Corefile.
    pub inline: Vec<HostEntry>,
    /// 1 to 65535 [3600].
    pub ttl_secs: u32,
    /// There are no PTR records.
    pub no_reverse: bool,
    /// How often the file is checked for changes; zero: never [5 s].
    pub reload: Duration,
    /// Every name that the block is asked for and the table does not have falls through.
    pub falls_through_everywhere: bool,
}

impl Plugin for Hosts {
    fn name(&self) -> &'static str {
        "hosts"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let file = context.block.in_root(&self.settings.file);
        let settings = HostsSettings { file, ..self.settings.clone() };
        block.own.push(OwnDraft::Table(TableDraft {
            source: TableSource::Hosts(Box::new(settings)),
            answerer: const { Answerer::plugin("hosts") },
            is_authority: false,
            passes_unsupported: self.passes_unsupported,
            refused: Vec::new(),
            fallthrough: self.fallthrough.clone(),
            place: self.place.clone(),
        }));
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "hosts [FILE [ZONE…]] { … }";

const FILE_DEFAULT: &str = "/etc/hosts";
const TTL_SECS_DEFAULT: u32 = 3600;
const TTL_SECS_MAX: i64 = 65535;
const RELOAD_DEFAULT: Duration = Duration::from_secs(5);

/// The settings, and what can only be checked when all have been read.
pub(crate) struct HostsReading {
    hosts: Hosts,
    zones: ZoneSet,
    fallthrough_at: Option<Span>,
    passes_unsupported_at: Option<Span>,
}

pub(crate) const SETTINGS: &[Setting<HostsReading>] = &[
    sets("ttl", TTL, ttl),
    sets("no_reverse", NO_REVERSE, no_reverse),
    sets("reload", RELOAD, reload),
    sets("fallthrough", "fallthrough [ZONE…]", fallthrough),
    sets("fallthrough_unsupported", PASSES_UNSUPPORTED, fallthrough_unsupported),
];

const TTL: &str = "ttl SECONDS";
const NO_REVERSE: &str = "no_reverse";
const RELOAD: &str = "reload DURATION";
const PASSES_UNSUPPORTED: &str = "fallthrough_unsupported";
const ENTRY: &str = "ADDRESS NAME…";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let (file, zone_words) = match statement.args.as_slice() {
        [] => (FILE_DEFAULT, [].as_slice()),
        [file, zones @ ..] => (file.text.as_str(), zones),
    };
    let zones = key::zones_or_keys(zone_words, &block.keys, context);
    let mut draft = HostsReading {
        zones: Zone::set(&zones),
        hosts: Hosts {
            settings: HostsSettings {
                file: file.into(),
                zones,
                inline: Vec::new(),
                ttl_secs: TTL_SECS_DEFAULT,
                no_reverse: false,
                reload: RELOAD_DEFAULT,
                falls_through_everywhere: false,
            },
            fallthrough: Vec::new(),
            passes_unsupported: false,
            place: context.place(statement.name.span),
        },
        fallthrough_at: None,
        passes_unsupported_at: None,
    };
    statement.read_settings_or(SETTINGS, entry, &mut draft, context);
    block.push(finish(draft, &block.keys, context));
}

/// Checks the settings that depend on each other.
fn finish(draft: HostsReading, keys: &[Key], context: &mut Context<'_>) -> Hosts {
    let HostsReading { mut hosts, fallthrough_at, passes_unsupported_at, .. } = draft;
    if let (Some(at), None) = (passes_unsupported_at, fallthrough_at) {
        let message = "fallthrough_unsupported requires fallthrough";
        let refusal = Refusal::new(message, "falls through nowhere");
        context.refuse(at, refusal.help("add `fallthrough`, or delete this line"));
    }
    hosts.settings.falls_through_everywhere =
        covers(&hosts.fallthrough, &hosts.settings.zones, keys);
    hosts
}

/// Whether each name of these zones that the block is asked for is in a zone of `fallthrough`.
fn covers(fallthrough: &[Zone], zones: &[Zone], keys: &[Key]) -> bool {
    let is_covered = |zone: &Zone| fallthrough.iter().any(|wider| wider.contains(zone));
    zones.iter().all(|zone| {
        keys.iter().all(|Key { zone: of_block, .. }| {
            match (of_block.contains(zone), zone.contains(of_block)) {
                (true, _) => is_covered(zone),
                (false, true) => is_covered(of_block),
                // No name is in both.
                (false, false) => true,
            }
        })
    })
}

/// A line that is not an option: an entry. CoreDNS accepts entries only before `fallthrough`, and
/// there it accepts any line.
fn entry(line: &Statement, draft: &mut HostsReading, context: &mut Context<'_>) {
    let is_entry = file::words(line.name.text.as_bytes()).next().and_then(file::address).is_some();
    if let Some(at) = draft.fallthrough_at {
        let mistake = unknown_setting(line, SETTINGS).also(at, "only options after this");
        let help = is_entry.then(|| "write entries above `fallthrough`".to_owned());
        return context.report(mistake.maybe_help(help));
    }
    if let Some(body) = &line.body {
        let mistake = Mistake::error(body.open, "an entry takes no block").label("opened here");
        return context.report(mistake.help(format!("usage: `{ENTRY}`")));
    }
    // A quoted word may contain several words, and even lines.
    let words = [&line.name].into_iter().chain(&line.args);
    let text = words.map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
    for part in text.split('\n') {
        read_entry(part, line, draft, context);
    }
}

fn read_entry(text: &str, line: &Statement, draft: &mut HostsReading, context: &mut Context<'_>) {
    let mut words = file::words(text.as_bytes());
    let Some(first) = words.next() else { return };
    let Some(address) = file::address(first) else {
        let word = quoted(&line.name.text);
        let message = format!("'{word}' is neither an option nor an IP address");
        let mistake = Mistake::warning(line.name.span, message).label("ignored");
        let meant = nearest(&line.name.text, SETTINGS.iter().map(|row| row.name));
        return context.report(mistake.help(match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("an entry is written `{ENTRY}`"),
        }));
    };
    let mut has_name = false;
    for word in words {
        has_name = true;
        match file::name(word) {
            Some(name) if file::is_in(&name, &draft.zones) => {
                draft.hosts.settings.inline.push(HostEntry { address, name });
            }
            Some(_) => {
                let help = "write the name's zone after the file, or add a server block for it";
                ignored_name(word, "is in no zone of this `hosts`", help, line, context);
            }
            None => ignored_name(word, "is not a domain name", "correct it", line, context),
        }
    }
    if !has_name {
        let message = format!("'{}' has no name", quoted(&line.name.text));
        let mistake = Mistake::warning(line.name.span, message).label("ignored");
        context.report(mistake.help(format!("an entry is written `{ENTRY}`")));
    }
}

/// Warns of a name that CoreDNS ignores silently.
fn ignored_name(name: &[u8], why: &str, help: &str, line: &Statement, context: &mut Context<'_>) {
    let text = String::from_utf8_lossy(name);
    let is_this = |word: &&Token| word.text == text;
    let word = line.args.iter().find(is_this).unwrap_or(&line.name);
    let message = format!("'{}' {why}", quoted(&text));
    context.report(Mistake::warning(word.span, message).label("ignored").help(help));
}

fn ttl(line: &Statement, draft: &mut HostsReading, context: &mut Context<'_>) {
    const HELP: &str = "a number of seconds from 1 to 65535, no unit";
    let [word, surplus @ ..] = line.args.as_slice() else {
        let refusal = Refusal::new("ttl needs a time in second", "something is missing after this");
        return context.refuse(line.name.span, refusal.help(format!("usage: `{TTL}`")));
    };
    warn_of_surplus(surplus, TTL, context);
    match number::read(word) {
        Ok(secs @ 1..=TTL_SECS_MAX) => draft.hosts.settings.ttl_secs = secs as u32,
        Ok(_) => {
            let refusal = Refusal::new("ttl provided is invalid", "not 1 to 65535 seconds");
            context.refuse(word.span, refusal.help(HELP));
        }
        Err(_) => {
            let refusal = Refusal::new("ttl needs a number of second", "not such a number");
            context.refuse(word.span, refusal.help(HELP));
        }
    }
}

fn no_reverse(line: &Statement, draft: &mut HostsReading, context: &mut Context<'_>) {
    warn_of_surplus(&line.args, NO_REVERSE, context);
    draft.hosts.settings.no_reverse = true;
}

fn reload(line: &Statement, draft: &mut HostsReading, context: &mut Context<'_>) {
    let [word] = line.args.as_slice() else {
        let message = "reload needs a duration (zero seconds to disable)";
        let (span, label) = match line.args.get(1) {
            Some(surplus) => (surplus.span, "one too many"),
            None => (line.name.span, "something is missing after this"),
        };
        let refusal = Refusal::new(message, label).help(format!("usage: `{RELOAD}`"));
        return context.refuse(span, refusal);
    };
    match duration::read(&word.text) {
        Ok(reload) => draft.hosts.settings.reload = reload,
        Err(refusal) => {
            let text = quoted(&word.text);
            let message = match refusal.message.starts_with("negative") {
                true => format!("invalid negative duration for reload '{text}'"),
                false => format!("invalid duration for reload '{text}'"),
            };
            context.refuse(word.span, Refusal { message, ..refusal });
        }
    }
}

fn fallthrough(line: &Statement, draft: &mut HostsReading, context: &mut Context<'_>) {
    draft.hosts.fallthrough = match line.args.as_slice() {
        [] => vec![Zone::root()],
        args => args.iter().flat_map(|arg| key::zones(&arg.text, arg.span, context)).collect(),
    };
    draft.fallthrough_at = Some(line.name.span);
}

fn fallthrough_unsupported(line: &Statement, draft: &mut HostsReading, context: &mut Context<'_>) {
    if line.exactly::<0>(PASSES_UNSUPPORTED, context).is_some() {
        draft.hosts.passes_unsupported = true;
        draft.passes_unsupported_at = Some(line.name.span);
    }
}
