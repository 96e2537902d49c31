//! `forward`: names that others know, and the servers that are asked for them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::forward_options::{Draft, SETTINGS};
use super::lexer::Token;
use super::report::{Mistake, Refusal};
use super::source::Span;
use super::statement::Statement;
use super::target::{self, Target};
use super::word::quoted;
use super::zone::Zone;
use super::{Context, Place, ServerBlock, duration, keys};
use crate::limits::UPSTREAMS_MAX;

/// One `forward` line; defaults in brackets.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    pub place: Place,
    /// The zones whose names are forwarded, a CIDR expanded; at least one.
    pub from: Vec<Zone>,
    /// Zones below `from` that are not.
    pub except: Vec<Zone>,
    /// 1 to 15, in the order of the line, none twice.
    pub to: Vec<Target>,
    /// [as the client asked]
    pub transport: Transport,
    /// [random]
    pub policy: Policy,
    /// How long an idle connection is kept [10 s].
    pub expire: Duration,
    /// How long any connection is kept, at least `expire` [no bound].
    pub max_age: Option<Duration>,
    /// Idle connections that are kept for each upstream [no bound but ours].
    pub max_idle_conns: Option<usize>,
    /// Failures in a row that make an upstream down; 0: never [2].
    pub max_fails: u32,
    /// Upstreams tried for one question; 0: until the time is over [0].
    pub max_connect_attempts: u32,
    /// `tls` [none]
    pub tls: Option<UpstreamTls>,
    /// Where it stands.
    pub tls_place: Option<Place>,
    /// The name that TLS upstreams must prove, where the target has none of its own.
    pub tls_servername: Option<String>,
    pub health_check: HealthCheck,
    /// Questions on their way at once; past it REFUSED [no bound but ours].
    pub max_concurrent: Option<usize>,
    /// Response codes after which the next `forward` of the block is asked.
    pub next: Vec<u16>,
    /// NODATA, too.
    pub next_on_nodata: bool,
    /// Response codes after which the next upstream is asked.
    pub failover: Vec<u16>,
    /// SERVFAIL when all upstreams are down, instead of trying one.
    pub failfast_all_unhealthy_upstreams: bool,
    pub source_address: Option<IpAddr>,
    /// For one upstream's answer [2 s].
    pub read_timeout: Duration,
    /// Servers that hostnames in `to` are looked up at [the system's].
    pub resolver: Vec<SocketAddr>,
    /// `hedge off` (ours): no second upstream before the first has timed out [on].
    pub hedge: bool,
    /// `randomize_case` (ours): 0x20, the question's case is drawn at random and must come back the
    /// same [off].
    pub randomize_case: bool,
    /// `truncated pass` (ours): a cut answer goes to the client as it is; else it is asked for again
    /// over TCP.
    pub passes_truncated: bool,
}

/// Over what upstreams are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP for a client that came over UDP, TCP for one that came over TCP.
    AsAsked,
    /// `force_tcp`
    Tcp,
    /// `prefer_udp`: UDP, and TCP for what does not fit.
    Udp,
}

/// Which upstream is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Random,
    RoundRobin,
    Sequential,
}

/// `tls [CERTIFICATE KEY] [CA]`: PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    pub client: Option<(PathBuf, PathBuf)>,
    /// [the system's certificates]
    pub authority: Option<PathBuf>,
}

/// How an upstream that failed is found to be well again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// At least 10 ms [0.5 s].
    pub every: Duration,
    /// [yes]
    pub recursion_desired: bool,
    /// Whose NS records are asked for [the root].
    pub domain: Zone,
}

impl Forward {
    fn with_defaults(place: Place, from: Vec<Zone>, to: Vec<Target>) -> Self {
        Self {
            place,
            from,
            except: Vec::new(),
            to,
            transport: Transport::AsAsked,
            policy: Policy::Random,
            expire: Duration::from_secs(10),
            max_age: None,
            max_idle_conns: None,
            max_fails: 2,
            max_connect_attempts: 0,
            tls: None,
            tls_place: None,
            tls_servername: None,
            health_check: HealthCheck {
                every: Duration::from_millis(500),
                recursion_desired: true,
                domain: Zone::root(),
            },
            max_concurrent: None,
            next: Vec::new(),
            next_on_nodata: false,
            failover: Vec::new(),
            failfast_all_unhealthy_upstreams: false,
            source_address: None,
            read_timeout: Duration::from_secs(2),
            resolver: Vec::new(),
            hedge: true,
            randomize_case: false,
            passes_truncated: false,
        }
    }

    /// Whether the block's next `forward` is never asked for a name of this zone.
    fn takes_all_of(&self, zone: &Zone) -> bool {
        let passes_on = !self.next.is_empty() || self.next_on_nodata;
        !passes_on
            && self.from.iter().any(|from| from.contains(zone))
            && !self.except.iter().any(|except| except.contains(zone) || zone.contains(except))
    }
}

pub(super) const USAGE: &str = "forward FROM TO… { … }";

/// Several `forward`s in a block are asked in the order of their lines.
pub(super) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let [from, to @ ..] = statement.args.as_slice() else {
        return statement.wrong_count(2, USAGE, context);
    };
    if to.is_empty() {
        return statement.wrong_count(2, USAGE, context);
    }
    let place = context.place(statement.name.span);
    let zones = keys::required_zones(&from.text, from.span, context);
    let zones = zones.unwrap_or_else(|refusal| {
        context.refuse(from.span, refusal);
        Vec::new()
    });
    let mut draft = Draft {
        forward: Forward::with_defaults(place, zones, targets(to, context)),
        force_tcp: false,
        prefer_udp: false,
        max_age_at: None,
    };
    statement.read_settings(SETTINGS, &mut draft, context);
    let forward = finish(draft, to, context);
    warn_if_unreachable(&forward, from.span, block, context);
    block.forwards.push(forward);
}

fn targets(words: &[Token], context: &mut Context<'_>) -> Vec<Target> {
    if let Some(surplus) = words.get(UPSTREAMS_MAX) {
        let message = format!("more than {UPSTREAMS_MAX} TOs configured: {}", words.len());
        context.refuse(surplus.span, Refusal::new(message, "one too many"));
    }
    let mut targets = Vec::new();
    for word in words.iter().take(UPSTREAMS_MAX) {
        match target::read(&word.text) {
            Ok(target) if targets.contains(&target) => {
                let message = format!("'{}' is named twice", quoted(&word.text));
                context.report(Mistake::warning(word.span, message).label("does not count"));
            }
            Ok(target) => {
                warn_if_nowhere(&target, word, context);
                targets.push(target);
            }
            Err(refusal) => context.refuse(word.span, refusal),
        }
    }
    targets
}

/// A link-local address without its interface leads nowhere; CoreDNS starts with it.
fn warn_if_nowhere(target: &Target, word: &Token, context: &mut Context<'_>) {
    let ip = match target {
        Target::Dns(SocketAddr::V6(address)) => address.ip(),
        Target::Tls { address: SocketAddr::V6(address), .. } => address.ip(),
        Target::Dns(_) | Target::Tls { .. } | Target::LinkLocal { .. } => return,
        Target::Host { .. } | Target::ResolvConf(_) => return,
    };
    if ip.is_unicast_link_local() {
        let message =
            format!("'{}' is a link-local address without its interface", quoted(&word.text));
        let mistake = Mistake::warning(word.span, message).label("leads nowhere");
        context.report(mistake.help(format!("write `{ip}%eth0`, or the like; not over TLS")));
    }
}

/// Judges the settings that depend on each other.
fn finish(draft: Draft, to: &[Token], context: &mut Context<'_>) -> Forward {
    let Draft { mut forward, force_tcp, prefer_udp, max_age_at } = draft;
    // As in CoreDNS, force_tcp outdoes prefer_udp in whatever order they stand.
    forward.transport = match (force_tcp, prefer_udp) {
        (true, _) => Transport::Tcp,
        (false, true) => Transport::Udp,
        (false, false) => Transport::AsAsked,
    };
    if let (Some(max_age), Some(at)) = (forward.max_age, max_age_at)
        && max_age < forward.expire
    {
        let message = format!(
            "max_age ({}) must not be less than expire ({})",
            duration::shown(max_age),
            duration::shown(forward.expire)
        );
        context.refuse(at, Refusal::new(message, "too short"));
    }
    let named = to.iter().find_map(|word| match target::read(&word.text) {
        Ok(Target::Tls { server_name: Some(name), .. }) => Some((word, name)),
        Ok(_) | Err(_) => None,
    });
    if let (Some(for_all), Some((word, for_one))) = (&forward.tls_servername, named) {
        let message = format!(
            "both forward ('{}') and proxy level ('{}') TLS servernames are set for upstream proxy '{}'",
            quoted(for_all),
            quoted(&for_one),
            quoted(&word.text)
        );
        let refusal = Refusal::new(message, "a name of its own");
        context.refuse(word.span, refusal.help("delete `tls_servername`, or what follows the `%`"));
    }
    forward
}

/// A `forward` below one that takes its names too is a mistake that nothing else would show: a file
/// imported behind `forward .` does it (k3s-io/k3s#12979).
fn warn_if_unreachable(
    forward: &Forward,
    from: Span,
    block: &ServerBlock,
    context: &mut Context<'_>,
) {
    if forward.from.is_empty() {
        return;
    }
    let is_taken = |zone| block.forwards.iter().find(|earlier| earlier.takes_all_of(zone));
    let mut takers = forward.from.iter().map(is_taken);
    if let Some(Some(earlier)) = takers.next()
        && takers.all(|taker| taker.is_some())
    {
        let Place { file, line } = &earlier.place;
        let message = "no question gets to this 'forward'";
        let mistake = Mistake::warning(from, message).label("all its names are taken before");
        context.report(mistake.help(format!(
            "the first that takes a name is asked, and `forward` at {}:{line} takes all of these: \
             write this one above it, or in a server block of its own",
            quoted(file)
        )));
        return;
    }
    let is_of_block = |from: &Zone| {
        block.keys.iter().any(|key| key.zone.contains(from) || from.contains(&key.zone))
    };
    if !block.keys.is_empty() && !forward.from.iter().any(is_of_block) {
        let message = "no question gets to this 'forward'";
        let mistake = Mistake::warning(from, message).label("not a zone of this server block");
        context.report(mistake.help("names outside the block's zones are other blocks'"));
    }
}
