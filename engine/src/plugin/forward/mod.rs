//! `forward`: names that upstreams answer, and the upstreams. Queries are sent in `crate::forward`.

pub(crate) mod options;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::Statement;
use crate::corefile::value::target::{self, Target};
use crate::corefile::value::zone::Zone;
use crate::corefile::value::{duration, key};
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};
use crate::forward::ForwardSettings;
use crate::forward::options::{ForwardOptions, UpstreamTls, UpstreamTransport};
use crate::limits::UPSTREAMS_MAX;
use crate::plugin::cancel::Cancel;
use crate::plugin::draft::{BlockDraft, ForwardDraft, LoadContext, LoadError, Loading};
use crate::plugin::looping::Loop;
use crate::plugin::{Plugin, ServerBlock};
use options::{ForwardReading, SETTINGS};

impl Plugin for ForwardOptions {
    fn name(&self) -> &'static str {
        "forward"
    }

    fn sees_queries(&self) -> bool {
        true
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(async {
            let is_probed = context.block.line::<Loop>().is_some();
            let key = context.block.keys.first().filter(|_| is_probed);
            let probe_zone = key.map(|key| &key.zone);
            let in_root = |path: &PathBuf| context.block.in_root(path);
            let options = Self {
                tls: self.tls.as_ref().map(|tls| UpstreamTls {
                    client: tls.client.as_ref().map(|(one, key)| (in_root(one), in_root(key))),
                    authority: tls.authority.as_ref().map(in_root),
                }),
                cancel_after: context.block.line::<Cancel>().map(|cancel| cancel.timeout),
                ..self.clone()
            };
            let loaded = ForwardSettings::load(&options, probe_zone, context.metrics).await;
            let settings = loaded.map_err(|error| LoadError {
                place: error.place(self).clone(),
                problem: Box::new(error),
            })?;
            let warnings = settings.warnings.iter();
            block.warnings.extend(
                warnings.map(|warning| format!("plugin/forward: {}: {warning}", self.place)),
            );
            block.forwards.push(ForwardDraft { settings, is_probed });
            Ok(())
        })
    }
}

pub(crate) const USAGE: &str = "forward FROM TO… { … }";

/// Queries use the `forward` lines of a block in the order of the Corefile.
pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let [from, to @ ..] = statement.args.as_slice() else {
        return statement.wrong_count(2, USAGE, context);
    };
    if to.is_empty() {
        return statement.wrong_count(2, USAGE, context);
    }
    let place = context.place(statement.name.span);
    let zones = key::required_zones(&from.text, from.span, context);
    let zones = zones.unwrap_or_else(|refusal| {
        context.refuse(from.span, refusal);
        Vec::new()
    });
    let mut draft = ForwardReading {
        forward: ForwardOptions::with_defaults(place, zones, targets(to, context)),
        force_tcp: false,
        prefer_udp: false,
        max_age_at: None,
    };
    statement.read_settings(SETTINGS, &mut draft, context);
    let forward = finish(draft, to, context);
    warn_if_unreachable(&forward, from.span, block, context);
    block.push(forward);
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
                let mistake = Mistake::warning(word.span, message).label("ignored");
                context.report(mistake.help("delete it"));
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

/// A link-local address without its interface is unreachable; CoreDNS starts with it.
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
        let mistake = Mistake::warning(word.span, message).label("unreachable");
        context.report(mistake.help(format!("write `{ip}%eth0`, or the like; not over TLS")));
    }
}

/// Validates the settings that depend on each other.
fn finish(draft: ForwardReading, to: &[Token], context: &mut Context<'_>) -> ForwardOptions {
    let ForwardReading { mut forward, force_tcp, prefer_udp, max_age_at } = draft;
    // As in CoreDNS, force_tcp overrides prefer_udp in either order.
    forward.transport = match (force_tcp, prefer_udp) {
        (true, _) => UpstreamTransport::Tcp,
        (false, true) => UpstreamTransport::Udp,
        (false, false) => UpstreamTransport::AsAsked,
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
            "both forward ('{}') and proxy level ('{}') TLS servernames are set for upstream proxy \
             '{}'",
            quoted(for_all),
            quoted(&for_one),
            quoted(&word.text)
        );
        let refusal = Refusal::new(message, "this upstream has its own name");
        context.refuse(word.span, refusal.help("delete `tls_servername`, or what follows the `%`"));
    }
    forward
}

/// Warns of a `forward` after one that takes its names too, because nothing else would show it. A
/// file imported after `forward .` causes this (k3s-io/k3s#12979).
fn warn_if_unreachable(
    forward: &ForwardOptions,
    from: Span,
    block: &ServerBlock,
    context: &mut Context<'_>,
) {
    if forward.from.is_empty() {
        return;
    }
    let is_taken =
        |zone| block.lines::<ForwardOptions>().find(|earlier| earlier.takes_all_of(zone));
    let mut takers = forward.from.iter().map(is_taken);
    if let Some(Some(earlier)) = takers.next()
        && takers.all(|taker| taker.is_some())
    {
        let Place { file, line } = &earlier.place;
        let message = "no query reaches this 'forward'";
        let mistake =
            Mistake::warning(from, message).label("an earlier `forward` takes all its names");
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
        let message = "no query reaches this 'forward'";
        let mistake = Mistake::warning(from, message).label("not a zone of this server block");
        context.report(mistake.help("other blocks answer for names outside this block's zones"));
    }
}
