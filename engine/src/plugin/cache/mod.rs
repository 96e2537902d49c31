//! `cache`: answers of upstreams, kept for a limited time. The settings are read here; the cache is
//! `crate::cache`.

mod serve_stale;

use std::future::ready;
use std::time::Duration;

use super::draft::{BlockDraft, CacheDraft, LoadContext, Loading};
use super::{Plugin, ServerBlock};
use crate::cache::settings::{CacheSettings, EntryLimits, Prefetch};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::{Setting, Statement, adds, sets};
use crate::corefile::value::zone::Zone;
use crate::corefile::value::{duration, key, number};
use crate::corefile::word::{nearest, quoted};
use crate::limits::COREFILE_CACHE_CAPACITY_MAX;

/// The settings, and what can be validated only after all of them have been read.
pub(crate) struct CacheReading {
    pub(crate) cache: CacheSettings,
    pub(crate) has_serve_stale: bool,
    pub(crate) prefers_positive_at: Option<Span>,
    disable_success_at: Option<Span>,
    disable_denial_at: Option<Span>,
}

impl Plugin for CacheSettings {
    fn name(&self) -> &'static str {
        "cache"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        let key = context.block.keys.first();
        let address = key.and_then(|key| Some(context.block.addresses(key.port).first()?.0));
        let address = address.expect("a block listens somewhere");
        let labels = key.map(|key| context.block.labels(address, key));
        let labels = labels.expect("a block has a key");
        let zones: Vec<_> = self.zones.iter().map(|zone| zone.text.as_str()).collect();
        let metrics = context.metrics.cache(&labels, &zones.join(","));
        block.cache = Some(CacheDraft { settings: self.clone(), metrics });
        Box::pin(ready(Ok(())))
    }
}

pub(crate) const USAGE: &str = "cache [TTL] [ZONE…] { … }";

pub(crate) const SETTINGS: &[Setting<CacheReading>] = &[
    sets("success", SUCCESS, success),
    sets("denial", DENIAL, denial),
    sets("prefetch", PREFETCH, prefetch),
    sets("serve_stale", serve_stale::USAGE, serve_stale::read),
    adds("serve_stale_policy", serve_stale::POLICY_USAGE, serve_stale::read_policy),
    sets("servfail", SERVFAIL, servfail),
    adds("disable", DISABLE, disable),
    sets("keepttl", "keepttl", keepttl),
];

const SUCCESS: &str = "success CAPACITY [TTL [MINTTL]]";
const DENIAL: &str = "denial CAPACITY [TTL [MINTTL]]";
const PREFETCH: &str = "prefetch AMOUNT [DURATION [PERCENTAGE%]]";
const SERVFAIL: &str = "servfail DURATION";
const DISABLE: &str = "disable success|denial [ZONE…]";

/// CoreDNS's 256 shards of four.
const CAPACITY_MIN: usize = 1024;
/// RFC 2308, section 7.1.
const SERVFAIL_MAX: Duration = Duration::from_secs(5 * 60);
const PREFETCH_WITHIN_DEFAULT: Duration = Duration::from_secs(60);
const PREFETCH_PERCENTAGE_DEFAULT: u8 = 10;

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let mut draft = CacheReading {
        cache: CacheSettings::default(),
        has_serve_stale: false,
        prefers_positive_at: None,
        disable_success_at: None,
        disable_denial_at: None,
    };
    // If the first word is a number, it is the TTL; any other word is a zone.
    let zones = match statement.args.as_slice() {
        [first, zones @ ..] if first.text.parse::<i64>().is_ok() => {
            if let Some(ttl_max) = ttl(first, context) {
                draft.cache.success.ttl_max = ttl_max;
                draft.cache.denial.ttl_max = ttl_max;
            }
            zones
        }
        zones => zones,
    };
    draft.cache.zones = match zones {
        [] => block.keys.iter().map(|key| key.zone.clone()).collect(),
        words => zones_of(words, context),
    };
    statement.read_settings(SETTINGS, &mut draft, context);
    serve_stale::finish(&mut draft, context);
    block.push(draft.cache);
}

fn zones_of(words: &[Token], context: &mut Context<'_>) -> Vec<Zone> {
    words.iter().flat_map(|word| key::zones(&word.text, word.span, context)).collect()
}

fn success(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    share(line, SUCCESS, &mut draft.cache.success, context);
}

fn denial(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    share(line, DENIAL, &mut draft.cache.denial, context);
}

fn share(line: &Statement, usage: &str, share: &mut EntryLimits, context: &mut Context<'_>) {
    let (capacity_word, ttl_max_word, ttl_min_word) = match line.args.as_slice() {
        [] => return line.wrong_count(1, usage, context),
        [capacity] => (capacity, None, None),
        [capacity, ttl_max] => (capacity, Some(ttl_max), None),
        [capacity, ttl_max, ttl_min] => (capacity, Some(ttl_max), Some(ttl_min)),
        _ => return line.wrong_count(3, usage, context),
    };
    if let Some(capacity) = capacity(capacity_word, context) {
        share.capacity = capacity;
    }
    if let Some(ttl_max) = ttl_max_word.and_then(|word| ttl(word, context)) {
        share.ttl_max = ttl_max;
    }
    if let Some(ttl_min) = ttl_min_word.and_then(|word| min_ttl(word, context)) {
        share.ttl_min = ttl_min;
    }
}

fn capacity(word: &Token, context: &mut Context<'_>) -> Option<usize> {
    match number::read(word) {
        Ok(number) => {
            let capacity = usize::try_from(number).unwrap_or(0).max(CAPACITY_MIN);
            if capacity <= COREFILE_CACHE_CAPACITY_MAX {
                return Some(capacity);
            }
            let message = format!("more than {COREFILE_CACHE_CAPACITY_MAX} entries: {number}");
            context.refuse(word.span, Refusal::new(message, "too many"));
        }
        Err(refusal) => context.refuse(word.span, refusal),
    }
    None
}

fn ttl(word: &Token, context: &mut Context<'_>) -> Option<Duration> {
    match number::read(word) {
        Ok(secs @ 1..) => return Some(Duration::from_secs(secs.unsigned_abs())),
        Ok(secs) => {
            let message = format!("cache TTL can not be zero or negative: {secs}");
            context.refuse(
                word.span,
                Refusal::new(message, "at least one second")
                    .help("a number of seconds; to cache nothing, delete `cache`"),
            );
        }
        Err(refusal) => context.refuse(word.span, refusal),
    }
    None
}

fn min_ttl(word: &Token, context: &mut Context<'_>) -> Option<Duration> {
    match number::read(word) {
        Ok(secs @ 0..) => return Some(Duration::from_secs(secs.unsigned_abs())),
        Ok(secs) => {
            let message = format!("cache min TTL can not be negative: {secs}");
            context.refuse(word.span, Refusal::new(message, "at least 0"));
        }
        Err(refusal) => context.refuse(word.span, refusal),
    }
    None
}

fn prefetch(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    let (amount, within, percentage) = match line.args.as_slice() {
        [amount] => (amount, None, None),
        [amount, within] => (amount, Some(within), None),
        [amount, within, percentage] => (amount, Some(within), Some(percentage)),
        _ => return line.wrong_count(3, PREFETCH, context),
    };
    let amount = match number::read(amount) {
        Ok(number @ 0..) => u32::try_from(number).unwrap_or(u32::MAX),
        Ok(number) => {
            let message = format!("prefetch amount should be positive: {number}");
            return context.refuse(amount.span, Refusal::new(message, "at least 1"));
        }
        Err(refusal) => return context.refuse(amount.span, refusal),
    };
    let within = match within.map(|word| (word, duration::read(&word.text))) {
        None => PREFETCH_WITHIN_DEFAULT,
        Some((_, Ok(within))) => within,
        Some((word, Err(refusal))) => return context.refuse(word.span, refusal),
    };
    let percentage = match percentage.map(|word| (word, read_percentage(word))) {
        None => PREFETCH_PERCENTAGE_DEFAULT,
        Some((_, Ok(percentage))) => percentage,
        Some((word, Err(refusal))) => return context.refuse(word.span, refusal),
    };
    draft.cache.prefetch = (amount > 0).then_some(Prefetch { amount, within, percentage });
}

fn read_percentage(word: &Token) -> Result<u8, Refusal> {
    let Some(digits) = word.text.strip_suffix('%') else {
        let last = word.text.chars().last().map(String::from).unwrap_or_default();
        let message =
            format!("last character of percentage should be `%`, but is: '{}'", quoted(&last));
        return Err(Refusal::new(message, "not a percentage").help("write it as `10%`"));
    };
    match digits.parse::<u8>() {
        Ok(percentage @ 10..=90) => Ok(percentage),
        Ok(_) | Err(_) => {
            let message = format!("percentage should fall in range [10, 90]: {}", quoted(digits));
            Err(Refusal::new(message, "not 10 to 90"))
        }
    }
}

fn servfail(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(SERVFAIL, context) else { return };
    match duration::read(&word.text) {
        Ok(ttl) if ttl > SERVFAIL_MAX => {
            let message = "caching SERVFAIL responses over 5 minutes is not permitted";
            let refusal = Refusal::new(message, "too long").help("RFC 2308, section 7.1");
            context.refuse(word.span, refusal);
        }
        Ok(ttl) => draft.cache.servfail = ttl,
        Err(refusal) => context.refuse(word.span, refusal),
    }
}

/// If several lines name one kind, the last one is used, as in CoreDNS.
fn disable(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    let Some([kind, zones @ ..]) = line.at_least_one(DISABLE, context) else { return };
    let (disabled, earlier) = match kind.text.as_str() {
        "success" => (&mut draft.cache.disable_success, &mut draft.disable_success_at),
        "denial" => (&mut draft.cache.disable_denial, &mut draft.disable_denial_at),
        other => {
            let message = "cache type for disable must be \"success\" or \"denial\"";
            let meant = nearest(other, ["success", "denial"]);
            let help = meant.map(|meant| format!("did you mean `{meant}`?"));
            return context.refuse(
                kind.span,
                Refusal { help, ..Refusal::new(message, "not a kind of answer") },
            );
        }
    };
    if let Some(earlier) = earlier.replace(line.name.span) {
        let message = format!("'disable {}' is set twice", kind.text);
        let mistake = Mistake::warning(line.name.span, message).label("this one is used");
        context.report(
            mistake.also(earlier, "this one is ignored").help("write all zones on one line"),
        );
    }
    *disabled = match zones {
        [] => vec![Zone::root()],
        words => zones_of(words, context),
    };
}

fn keepttl(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    draft.cache.keepttl |= line.exactly::<0>("keepttl", context).is_some();
}
