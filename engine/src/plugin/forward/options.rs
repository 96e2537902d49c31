//! The options of `forward`, each a row and a function that reads it into the draft. Combinations
//! are validated in `mod.rs`.

use std::path::PathBuf;
use std::time::Duration;

use domain::base::iana::OptRcode;

use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::{Setting, Statement, adds, not_built, sets};
use crate::corefile::value::target::{self, Target};
use crate::corefile::value::zone::Zone;
use crate::corefile::value::{duration, key, number};
use crate::corefile::word::{nearest, quoted};
use crate::forward::options::{ForwardOptions, Policy, UpstreamTls};
use crate::limits::HEALTH_CHECK_EVERY_MIN;

/// The settings, and what can be validated only after all of them have been read.
pub(crate) struct ForwardReading {
    pub(crate) forward: ForwardOptions,
    pub(crate) force_tcp: bool,
    pub(crate) prefer_udp: bool,
    pub(crate) max_age_at: Option<Span>,
}

pub(crate) const SETTINGS: &[Setting<ForwardReading>] = &[
    adds("except", EXCEPT, except),
    sets("force_tcp", "force_tcp", force_tcp),
    sets("prefer_udp", "prefer_udp", prefer_udp),
    sets("expire", EXPIRE, expire),
    sets("max_age", MAX_AGE, max_age),
    sets("max_idle_conns", MAX_IDLE_CONNS, max_idle_conns),
    sets("max_fails", MAX_FAILS, max_fails),
    sets("max_connect_attempts", MAX_CONNECT_ATTEMPTS, max_connect_attempts),
    sets("tls", TLS, tls),
    sets("tls_servername", TLS_SERVERNAME, tls_servername),
    sets("policy", POLICY, policy),
    sets("health_check", HEALTH_CHECK, health_check),
    sets("max_concurrent", MAX_CONCURRENT, max_concurrent),
    adds("next", NEXT, next),
    sets("next_on_nodata", "next_on_nodata", next_on_nodata),
    adds("failover", FAILOVER, failover),
    sets("failfast_all_unhealthy_upstreams", "failfast_all_unhealthy_upstreams", failfast),
    sets("source_address", SOURCE_ADDRESS, source_address),
    sets("read_timeout", READ_TIMEOUT, read_timeout),
    sets("resolver", RESOLVER, resolver),
    sets("hedge", HEDGE, hedge),
    sets("randomize_case", "randomize_case", randomize_case),
    sets("truncated", TRUNCATED, truncated),
    not_built(
        "doh_method",
        "doh_method GET|POST",
        "delete the line: queries are not sent over HTTPS",
    ),
];

const EXCEPT: &str = "except ZONE…";
const EXPIRE: &str = "expire DURATION";
const MAX_AGE: &str = "max_age DURATION";
const MAX_IDLE_CONNS: &str = "max_idle_conns NUMBER";
const MAX_FAILS: &str = "max_fails NUMBER";
const MAX_CONNECT_ATTEMPTS: &str = "max_connect_attempts NUMBER";
const TLS: &str = "tls [CERTIFICATE KEY] [CA]";
const TLS_SERVERNAME: &str = "tls_servername NAME";
const POLICY: &str = "policy random|round_robin|sequential";
const HEALTH_CHECK: &str = "health_check DURATION [no_rec] [domain NAME]";
const MAX_CONCURRENT: &str = "max_concurrent NUMBER";
const NEXT: &str = "next RCODE…";
const FAILOVER: &str = "failover RCODE…";
const SOURCE_ADDRESS: &str = "source_address IP";
const READ_TIMEOUT: &str = "read_timeout DURATION";
const RESOLVER: &str = "resolver IP[:PORT]…";
const HEDGE: &str = "hedge on|off";
const TRUNCATED: &str = "truncated pass";

fn except(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some(words) = line.at_least_one(EXCEPT, context) else { return };
    for word in words {
        draft.forward.except.extend(key::zones(&word.text, word.span, context));
    }
}

fn force_tcp(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    draft.force_tcp |= line.exactly::<0>("force_tcp", context).is_some();
}

fn prefer_udp(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    draft.prefer_udp |= line.exactly::<0>("prefer_udp", context).is_some();
}

fn expire(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    if let Some(expire) = duration_of(line, EXPIRE, context) {
        draft.forward.expire = expire;
    }
}

fn max_age(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    if let Some(max_age) = duration_of(line, MAX_AGE, context) {
        draft.forward.max_age = (!max_age.is_zero()).then_some(max_age);
        draft.max_age_at = Some(line.args_span(context));
    }
}

fn read_timeout(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    match duration_of(line, READ_TIMEOUT, context) {
        Some(Duration::ZERO) => {
            let refusal =
                Refusal::new("read_timeout must be positive: 0s", "must be longer than zero");
            context.refuse(line.args_span(context), refusal);
        }
        Some(timeout) => draft.forward.read_timeout = timeout,
        None => {}
    }
}

fn duration_of(line: &Statement, usage: &str, context: &mut Context<'_>) -> Option<Duration> {
    let [word] = line.exactly(usage, context)?;
    accepted(duration::read(&word.text), word, context)
}

fn max_idle_conns(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    if let Some(max) = bound_of(line, MAX_IDLE_CONNS, context) {
        draft.forward.max_idle_conns = max;
    }
}

fn max_concurrent(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    if let Some(max) = bound_of(line, MAX_CONCURRENT, context) {
        draft.forward.max_concurrent = max;
    }
}

/// A limit for which 0 means none.
fn bound_of(line: &Statement, usage: &str, context: &mut Context<'_>) -> Option<Option<usize>> {
    let [word] = line.exactly(usage, context)?;
    let number = accepted(number::read(word), word, context)?;
    match usize::try_from(number) {
        Ok(0) => Some(None),
        Ok(max) => Some(Some(max)),
        Err(_) => {
            let message = format!("{} can't be negative: {number}", line.name.text);
            context.refuse(word.span, Refusal::new(message, "0 means no limit"));
            None
        }
    }
}

fn max_fails(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    if let Some(max) = count_of(line, MAX_FAILS, context) {
        draft.forward.max_fails = max;
    }
}

fn max_connect_attempts(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    if let Some(max) = count_of(line, MAX_CONNECT_ATTEMPTS, context) {
        draft.forward.max_connect_attempts = max;
    }
}

fn count_of(line: &Statement, usage: &str, context: &mut Context<'_>) -> Option<u32> {
    let [word] = line.exactly(usage, context)?;
    accepted(number::count(word), word, context)
}

/// The value; otherwise reports a mistake at the word.
fn accepted<T>(read: Result<T, Refusal>, word: &Token, context: &mut Context<'_>) -> Option<T> {
    match read {
        Ok(value) => Some(value),
        Err(refusal) => {
            context.refuse(word.span, refusal);
            None
        }
    }
}

fn tls(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let file = |word: &Token| PathBuf::from(&word.text);
    let (client, authority) = match line.args.as_slice() {
        [] => (None, None),
        [authority] => (None, Some(authority)),
        [certificate, key] => (Some((certificate, key)), None),
        [certificate, key, authority] => (Some((certificate, key)), Some(authority)),
        _ => return line.wrong_count(3, TLS, context),
    };
    draft.forward.tls_place = Some(context.place(line.name.span));
    draft.forward.tls = Some(UpstreamTls {
        client: client.map(|(certificate, key)| (file(certificate), file(key))),
        authority: authority.map(file),
    });
}

fn tls_servername(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(TLS_SERVERNAME, context) else { return };
    draft.forward.tls_servername = Some(word.text.clone());
}

fn policy(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(POLICY, context) else { return };
    draft.forward.policy = match word.text.as_str() {
        "random" => Policy::Random,
        "round_robin" => Policy::RoundRobin,
        "sequential" => Policy::Sequential,
        other => {
            let message = format!("unknown policy '{}'", quoted(other));
            let help = match nearest(other, ["random", "round_robin", "sequential"]) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => "the policies are random, round_robin and sequential".to_owned(),
            };
            let refusal = Refusal::new(message, "no policy has this name");
            return context.refuse(word.span, refusal.help(help));
        }
    };
}

fn health_check(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some([every, options @ ..]) = line.at_least_one(HEALTH_CHECK, context) else { return };
    let check = &mut draft.forward.health_check;
    match duration::read(&every.text) {
        Ok(duration) if duration < HEALTH_CHECK_EVERY_MIN => {
            let message = format!("health_check is less than {HEALTH_CHECK_EVERY_MIN:?}");
            let mistake = Mistake::warning(every.span, message).label("too short");
            context.report(mistake.help(format!(
                "{HEALTH_CHECK_EVERY_MIN:?} is used; upstreams are only checked while they fail"
            )));
            check.every = HEALTH_CHECK_EVERY_MIN;
        }
        Ok(duration) => check.every = duration,
        Err(refusal) => context.refuse(every.span, refusal),
    }
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.text.as_str() {
            "no_rec" => check.recursion_desired = false,
            "domain" => match options.next() {
                None => return line.wrong_count(line.args.len() + 1, HEALTH_CHECK, context),
                Some(word) => match Zone::from_name(&word.text) {
                    Ok(domain) => check.domain = domain,
                    Err(refusal) => {
                        let message =
                            format!("health_check: invalid domain name {}", quoted(&word.text));
                        context.refuse(word.span, Refusal { message, ..refusal });
                    }
                },
            },
            other => {
                let message = format!("health_check: unknown option {}", quoted(other));
                let refusal = Refusal::new(message, "no option has this name");
                context.refuse(option.span, refusal.help(format!("usage: `{HEALTH_CHECK}`")));
            }
        }
    }
}

fn next(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    draft.forward.next.extend(rcodes(line, NEXT, context).iter().map(|(rcode, _)| rcode));
}

fn next_on_nodata(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    draft.forward.next_on_nodata |= line.exactly::<0>("next_on_nodata", context).is_some();
}

fn failover(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    for (rcode, span) in rcodes(line, FAILOVER, context) {
        if rcode == OptRcode::NOERROR.to_int() {
            let message = "NoError cannot be used in failover";
            context.refuse(span, Refusal::new(message, "not a failure"));
        } else {
            draft.forward.failover.push(rcode);
        }
    }
}

/// Response codes by mnemonic, with their positions.
fn rcodes(line: &Statement, usage: &str, context: &mut Context<'_>) -> Vec<(u16, Span)> {
    let mut rcodes = Vec::new();
    for word in line.at_least_one(usage, context).unwrap_or_default() {
        match word.text.to_ascii_uppercase().parse::<OptRcode>() {
            Ok(rcode) => rcodes.push((rcode.to_int(), word.span)),
            Err(_) => {
                let message = format!("{} is not a valid rcode", quoted(&word.text));
                let known = ["nxdomain", "servfail", "refused", "notimp", "formerr", "notauth"];
                let help = match nearest(&word.text, known) {
                    Some(meant) => format!("did you mean `{}`?", meant.to_ascii_uppercase()),
                    None => "a mnemonic such as NXDOMAIN, SERVFAIL or REFUSED".to_owned(),
                };
                let refusal = Refusal::new(message, "no response code has this name");
                context.refuse(word.span, refusal.help(help));
            }
        }
    }
    rcodes
}

fn failfast(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    draft.forward.failfast_all_unhealthy_upstreams |=
        line.exactly::<0>("failfast_all_unhealthy_upstreams", context).is_some();
}

fn source_address(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(SOURCE_ADDRESS, context) else { return };
    match word.text.parse() {
        Ok(ip) => draft.forward.source_address = Some(ip),
        Err(_) => {
            let message = format!("invalid IP address: {}", quoted(&word.text));
            context.refuse(word.span, Refusal::new(message, "not an IP address"));
        }
    }
}

fn resolver(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some(words) = line.at_least_one(RESOLVER, context) else { return };
    draft.forward.resolver.clear();
    for word in words {
        match target::read(&word.text) {
            Ok(Target::Dns(address)) if !word.text.contains("://") => {
                draft.forward.resolver.push(address);
            }
            Ok(_) | Err(_) => {
                let message = format!(
                    "resolver must be an IP address or IP:port: \"{}\"",
                    quoted(&word.text)
                );
                context.refuse(word.span, Refusal::new(message, "not an address"));
            }
        }
    }
}

fn hedge(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(HEDGE, context) else { return };
    match word.text.as_str() {
        "on" => draft.forward.hedge = Some(true),
        "off" => draft.forward.hedge = Some(false),
        other => {
            let message = format!("hedge must be on or off: {}", quoted(other));
            context.refuse(word.span, Refusal::new(message, "neither"));
        }
    }
}

fn randomize_case(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    draft.forward.randomize_case |= line.exactly::<0>("randomize_case", context).is_some();
}

fn truncated(line: &Statement, draft: &mut ForwardReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(TRUNCATED, context) else { return };
    if word.text == "pass" {
        draft.forward.passes_truncated = true;
    } else {
        let message = format!("truncated can only be pass: {}", quoted(&word.text));
        let refusal = Refusal::new(message, "`pass` is the only value");
        context.refuse(
            word.span,
            refusal.help("write `truncated pass`, or delete the line to ask again over TCP"),
        );
    }
}
