//! `serve_stale` of `cache`: expired answers, used while no fresh one is available.
//!
//! Invariant: the TTL of a stale answer is a whole number of seconds within DNS's range.

use std::time::Duration;

use super::CacheReading;
use crate::cache::settings::{ServeStale, Stale};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::Statement;
use crate::corefile::value::duration;
use crate::corefile::word::quoted;

pub(crate) const USAGE: &str =
    "serve_stale [DURATION [immediate [TTL [RECHECK]] | verify [TIMEOUT [TTL [RECHECK]]]]]";
pub(crate) const POLICY_USAGE: &str = "serve_stale_policy prefer_positive";

const KEEP_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// RFC 8767, section 5.
const RECHECK_MAX: Duration = Duration::from_secs(5 * 60);

pub(crate) fn read(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    draft.has_serve_stale = true;
    let verifies = line.args.get(1).is_some_and(|mode| mode.text.eq_ignore_ascii_case("verify"));
    let count_max = if verifies { 5 } else { 4 };
    if line.args.len() > count_max {
        return line.wrong_count(count_max, USAGE, context);
    }
    match read_words(&line.args, verifies) {
        // Zero keeps nothing, like no `serve_stale`.
        Ok(stale) => draft.cache.serve_stale = (!stale.keep.is_zero()).then_some(stale),
        Err((span, refusal)) => context.refuse(span, refusal),
    }
}

type Refused = (Span, Refusal);

fn read_words(words: &[Token], verifies: bool) -> Result<ServeStale, Refused> {
    let mut words = words.iter();
    let keep = words.next().map(|word| time(word, "")).transpose()?.unwrap_or(KEEP_DEFAULT);
    if let Some(mode) = words.next()
        && !verifies
        && !mode.text.eq_ignore_ascii_case("immediate")
    {
        let message = format!("invalid value for serve_stale refresh mode: {}", quoted(&mode.text));
        let refusal = Refusal::new(message, "no such mode");
        return Err((mode.span, refusal.help("the modes are immediate and verify")));
    }
    let timeout = if verifies { words.next() } else { None };
    let timeout = timeout.map(|word| time(word, "invalid serve_stale verify timeout: "));
    let timeout = timeout.transpose()?.filter(|timeout| !timeout.is_zero());
    let ttl = words.next().map(ttl).transpose()?.unwrap_or_default();
    let recheck = words.next().map(recheck).transpose()?;
    let mode = match verifies {
        true => Stale::Verify { timeout, ttl, recheck },
        false => Stale::Immediate { ttl, recheck },
    };
    Ok(ServeStale { keep, mode, prefers_positive: false })
}

fn time(word: &Token, prefix: &str) -> Result<Duration, Refused> {
    duration::read(&word.text).map_err(|refusal| {
        (word.span, Refusal { message: format!("{prefix}{}", refusal.message), ..refusal })
    })
}

fn ttl(word: &Token) -> Result<Duration, Refused> {
    let ttl = time(word, "invalid serve_stale response TTL: ")?;
    let refuse = |message: &str| Err((word.span, Refusal::new(message, "not a TTL")));
    if ttl.subsec_nanos() != 0 {
        return refuse("serve_stale response TTL must be a whole number of seconds");
    }
    if ttl.as_secs() > u64::from(u32::MAX) {
        return refuse("serve_stale response TTL exceeds the DNS TTL range");
    }
    Ok(ttl)
}

fn recheck(word: &Token) -> Result<Duration, Refused> {
    let recheck = time(word, "invalid serve_stale failure recheck: ")?;
    if recheck > RECHECK_MAX {
        let message = "serve_stale failure recheck cannot exceed 5 minutes";
        let refusal = Refusal::new(message, "too long").help("RFC 8767, section 5");
        return Err((word.span, refusal));
    }
    Ok(recheck)
}

pub(crate) fn read_policy(line: &Statement, draft: &mut CacheReading, context: &mut Context<'_>) {
    if let Some(first) = draft.prefers_positive_at {
        let message = "serve_stale_policy can only be specified once";
        let mistake = Mistake::error(line.name.span, message).label("specified again here");
        return context.report(mistake.also(first, "first specified here"));
    }
    let Some([word]) = line.exactly(POLICY_USAGE, context) else { return };
    if word.text.eq_ignore_ascii_case("prefer_positive") {
        draft.prefers_positive_at = Some(line.name.span);
        return;
    }
    let message = format!("invalid serve_stale_policy: {}", quoted(&word.text));
    let refusal = Refusal::new(message, "no such policy");
    context.refuse(word.span, refusal.help("the policy is prefer_positive"));
}

/// Applies the policy to the `serve_stale` that it requires, wherever that line is.
pub(crate) fn finish(draft: &mut CacheReading, context: &mut Context<'_>) {
    let Some(at) = draft.prefers_positive_at else { return };
    if !draft.has_serve_stale {
        let refusal =
            Refusal::new("serve_stale_policy requires serve_stale", "`serve_stale` is missing");
        return context.refuse(at, refusal.help("add `serve_stale`"));
    }
    if let Some(stale) = &mut draft.cache.serve_stale {
        stale.prefers_positive = true;
    }
}
