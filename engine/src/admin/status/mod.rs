//! The status page, at `/` of a listener that serves `/metrics`: what is served, and how it does.
//!
//! One page without scripts, fonts or anything else from the network.
//! Invariant: everything from a Corefile or a cluster is escaped, and no list is longer than
//! `STATUS_ROWS_MAX`.

use std::time::SystemTime;

use maud::{DOCTYPE, Markup, PreEscaped, html};

mod chart;
mod sections;
mod text;

use super::readiness::{Readiness, ReadyVerdict};
use crate::metrics::overview::{Overview, QuantileBound, quantile, shard_bounds};
use crate::metrics::served::{ChangeFacts, ChangeKind};
use text::{ago, bound, count, rate, share, utc};

const STYLE: &str = include_str!("style.css");

/// Seconds after which the browser loads the page again.
const REFRESH_SECS: u32 = 5;

/// Whether the page stays as it is until its reader loads it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    Every5Secs,
    Off,
}

/// The whole page as HTML.
pub(super) fn page(
    overview: &Overview,
    readiness: &Readiness,
    refresh: Refresh,
    now: SystemTime,
) -> String {
    let verdict = readiness.verdict();
    let title = match &verdict {
        ReadyVerdict::Ready => "ringdns: ready",
        ReadyVerdict::Waiting(_) => "ringdns: not ready",
        ReadyVerdict::ShuttingDown => "ringdns: shutting down",
    };
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                @if refresh == Refresh::Every5Secs {
                    meta http-equiv="refresh" content=(REFRESH_SECS);
                }
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    (header(overview, &verdict, now))
                    (problems(&verdict, &[readiness.stuck_shards(), readiness.notes()].concat()))
                    (figures(overview, now))
                    (sections::shards(overview))
                    (sections::served(&overview.facts))
                    (sections::tables(&overview.facts, now))
                    (sections::upstreams(overview))
                    (sections::responses(overview))
                    (changes(&overview.facts.changes, now))
                    (footer(overview, refresh, now))
                }
            }
        }
    };
    markup.into_string()
}

fn header(overview: &Overview, verdict: &ReadyVerdict, now: SystemTime) -> Markup {
    let (state, class) = match verdict {
        ReadyVerdict::Ready => ("Ready", "good"),
        ReadyVerdict::Waiting(_) => ("Not ready", "bad"),
        ReadyVerdict::ShuttingDown => ("Shutting down", "warn"),
    };
    let uptime = overview.facts.started_at.map(|at| ago(now, at));
    html! {
        header {
            h1 {
                (chart::ring())
                "ringdns"
                span.version { (overview.build.version) }
            }
            p.state {
                span.pill.(class) { (state) }
                @if let Some(uptime) = uptime {
                    span.quiet { "started " (uptime) }
                }
            }
        }
    }
}

/// What `/ready` says beside its first line, and `/health` instead of `OK`.
fn problems(verdict: &ReadyVerdict, notes: &[String]) -> Markup {
    let reasons = match verdict {
        ReadyVerdict::Ready | ReadyVerdict::ShuttingDown => &[][..],
        ReadyVerdict::Waiting(reasons) => reasons,
    };
    html! {
        @if !reasons.is_empty() || !notes.is_empty() {
            section.problems aria-label="Problems" {
                ul {
                    @for reason in sections::first(reasons) {
                        li {
                            b { "Waiting for " (reason.plugin) " " (reason.part) ": " }
                            (reason.cause)
                        }
                    }
                    @for note in sections::first(notes) { li { (note) } }
                }
                (sections::rest(reasons))
                (sections::rest(notes))
            }
        }
    }
}

/// The four numbers to look at first.
fn figures(overview: &Overview, now: SystemTime) -> Markup {
    let queries: f64 = overview.shards.iter().map(|shard| shard.minute.rate).sum();
    let mut durations = [0; 17];
    for shard in &overview.shards {
        for (total, count) in durations.iter_mut().zip(shard.minute.durations) {
            *total += count;
        }
    }
    let percentile = |share| shown_quantile(quantile(&durations, &shard_bounds(), share));
    let tables = &overview.facts.tables;
    let names: usize = tables.iter().map(|table| table.name_count).sum();
    let newest = tables.iter().filter_map(|table| table.published_at).max();
    let hits = share(overview.cache_hits, overview.cache_requests);
    html! {
        section.figures aria-label="Key figures" {
            div { h2 { "Responses per second" } p.big { (rate(queries)) } p.quiet { "last 10 s" } }
            div {
                h2 { "Response time, p99" }
                p.big { (percentile(0.99)) }
                p.quiet { "p50 " (percentile(0.5)) ", last minute" }
            }
            div {
                h2 { "Names in tables" }
                p.big { (count(names as u64)) }
                p.quiet {
                    @match newest {
                        Some(at) => { "changed " (ago(now, at)) }
                        None => "no cluster is read"
                    }
                }
            }
            div {
                h2 { "Found in the cache" }
                p.big { (hits) }
                p.quiet { "of " (count(overview.cache_requests)) " look-ups" }
            }
        }
    }
}

fn shown_quantile(quantile: Option<QuantileBound>) -> String {
    match quantile {
        None => "–".to_owned(),
        Some(QuantileBound::AtMost(time)) => format!("≤ {}", bound(time)),
        Some(QuantileBound::MoreThan(time)) => format!("> {}", bound(time)),
    }
}

fn changes<'c>(changes: impl IntoIterator<Item = &'c ChangeFacts>, now: SystemTime) -> Markup {
    html! {
        section {
            h2 { "Last changes" }
            ol.changes {
                @for change in changes {
                    @let class = match change.kind {
                        ChangeKind::News => "news",
                        ChangeKind::Problem => "bad",
                        ChangeKind::Solved => "good",
                    };
                    li.(class) {
                        time { (ago(now, change.at)) }
                        span { (change.text) }
                    }
                }
            }
        }
    }
}

fn footer(overview: &Overview, refresh: Refresh, now: SystemTime) -> Markup {
    let digest = overview.facts.corefile_sha512.as_deref().unwrap_or_default();
    html! {
        footer {
            p {
                (utc(now)) " · "
                @match refresh {
                    Refresh::Every5Secs => {
                        "loaded again every " (REFRESH_SECS) " s, "
                        a href="/?still" { "hold still" }
                    }
                    Refresh::Off => { "held still, " a href="/" { "follow" } }
                }
                " · " a href="/metrics" { "metrics" }
            }
            p {
                "Version " (overview.build.version) ", " (overview.build.compiler)
                ", commit " (text::short(&overview.build.revision))
                " · Corefile SHA512 " code { (text::short(digest)) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{LABEL_SETS_MAX, STATUS_CHANGES_MAX};
    use crate::metrics::served::{BlockFacts, UpstreamFacts};
    use crate::metrics::{Build, HostsFacts, Metrics};

    fn shown(metrics: &Metrics, readiness: &Readiness) -> String {
        page(&metrics.overview(), readiness, Refresh::Every5Secs, SystemTime::now())
    }

    #[test]
    fn everything_from_outside_is_escaped_and_every_list_has_a_bound() {
        const HOSTILE: &str = "<script>alert(1)</script>\"'&";
        let metrics = Metrics::new(Build { version: HOSTILE.to_owned(), ..Build::default() }, 200);
        let mut facts = metrics.facts();
        facts.corefile_sha512 = Some(HOSTILE.to_owned());
        for index in 0..LABEL_SETS_MAX {
            let keys = vec![format!("{HOSTILE}{index}"); 3];
            let place = HOSTILE.to_owned();
            facts.blocks.push(BlockFacts { keys, plugins: vec!["cache"; 12], place });
            let file = HOSTILE.to_owned();
            let problem = Some(HOSTILE.to_owned());
            facts.hosts.push(HostsFacts { file, entry_count: 1, modified: None, problem });
            let address = ([10, 0, (index / 256) as u8, index as u8], 53).into();
            let origin = Some(HOSTILE.to_owned());
            facts.upstreams.push(UpstreamFacts { address, is_tls: true, origin });
        }
        let text = HOSTILE.to_owned();
        let change = ChangeFacts { at: SystemTime::now(), kind: ChangeKind::Problem, text };
        facts.changes.extend(vec![change; STATUS_CHANGES_MAX]);
        drop(facts);
        let readiness = Readiness::default();
        readiness.wait_for("kubernetes", HOSTILE, HOSTILE);
        readiness.note((0..=LABEL_SETS_MAX).map(|_| HOSTILE.to_owned()));
        let html = shown(&metrics, &readiness);
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;"), "{html}");
        assert!(html.contains("and 924 more"), "{html}");
        assert!(html.contains("and 925 more"), "the notes: {html}");
        assert!(html.len() < 512 << 10, "{} bytes", html.len());
    }

    #[test]
    fn the_state_is_that_of_ready() {
        let metrics = Metrics::new(Build::default(), 1);
        let readiness = Readiness::default();
        assert!(shown(&metrics, &readiness).contains(r#"<span class="pill good">Ready</span>"#));
        readiness.wait_for("kubernetes", "cluster.local.", "services: connection refused");
        let waiting = shown(&metrics, &readiness);
        assert!(waiting.contains(r#"<span class="pill bad">Not ready</span>"#), "{waiting}");
        let reason = "<b>Waiting for kubernetes cluster.local.: </b>services: connection refused";
        assert!(waiting.contains(reason), "{waiting}");
        readiness.set_stuck(vec!["shard 1 does not answer".to_owned()]);
        assert!(shown(&metrics, &readiness).contains("<li>shard 1 does not answer</li>"));
        readiness.shut_down();
        let ending = shown(&metrics, &readiness);
        assert!(ending.contains(r#"<span class="pill warn">Shutting down</span>"#), "{ending}");
    }
}
