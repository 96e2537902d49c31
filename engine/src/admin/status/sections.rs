//! The lists of the status page: shards, blocks, tables, upstreams, responses.
//!
//! Invariant: a list shows at most `STATUS_ROWS_MAX` rows, and says how many it omits.

use std::time::SystemTime;

use maud::{Markup, html};

use super::chart;
use super::shown_quantile;
use super::text::{ago, bytes, count, rate, share};
use crate::limits::STATUS_ROWS_MAX;
use crate::metrics::overview::upstream_bounds;
use crate::metrics::overview::{Overview, UpstreamOverview, quantile, shard_bounds};
use crate::metrics::{Facts, TableFacts};

/// As many rows as a list shows.
pub(super) fn first<T>(rows: &[T]) -> &[T] {
    &rows[..rows.len().min(STATUS_ROWS_MAX)]
}

/// How many rows are omitted.
pub(super) fn rest<T>(rows: &[T]) -> Markup {
    let omitted = rows.len().saturating_sub(STATUS_ROWS_MAX);
    html! { @if omitted > 0 { p.quiet { "and " (omitted) " more" } } }
}

/// A word with a colour, and what it means.
struct Mark {
    class: &'static str,
    text: String,
}

impl Mark {
    fn shown(&self) -> Markup {
        html! { span.pill.(self.class) { (self.text) } }
    }
}

pub(super) fn shards(overview: &Overview) -> Markup {
    let rates = overview.shards.iter().flat_map(|shard| &shard.minute.rates);
    let highest = rates.copied().fold(0.0, f64::max);
    let bounds = shard_bounds();
    html! {
        section {
            h2 { "Shards" span.quiet { "last minute" } }
            div.shards {
                @for (index, shard) in first(&overview.shards).iter().enumerate() {
                    @let facts = overview.facts.shards.get(index);
                    @let minute = &shard.minute;
                    article {
                        h3 {
                            "Shard " (index)
                            @if let Some(facts) = facts {
                                span.quiet {
                                    @match facts.core {
                                        Some(core) => { "core " (core) ", " }
                                        None => "not pinned, "
                                    }
                                    (facts.backend)
                                }
                            }
                        }
                        p.number { (rate(minute.rate)) span.quiet { " per second" } }
                        (chart::line(&minute.rates, highest))
                        p.number {
                            span.quiet { "p99 " }
                            (shown_quantile(quantile(&minute.durations, &bounds, 0.99)))
                            span.quiet {
                                " · p50 "
                                (shown_quantile(quantile(&minute.durations, &bounds, 0.5)))
                            }
                        }
                        (chart::bars(&minute.durations))
                        p.axis {
                            span { "1 µs" } span { "32 µs" } span { "1 ms" } span { "> 33 ms" }
                        }
                        p.quiet { "responses since the start: " (count(shard.answers)) }
                    }
                }
            }
            (rest(&overview.shards))
        }
    }
}

pub(super) fn served(facts: &Facts) -> Markup {
    html! {
        section {
            h2 { "Served" }
            p.listeners {
                @for listener in first(&facts.listeners) {
                    span { code { (listener.address) } " " span.quiet { (listener.transports) } }
                }
            }
            (rest(&facts.listeners))
            table {
                thead {
                    tr { th { "Zones" } th { "Plugins, in the order of calls" } th { "Line" } }
                }
                tbody {
                    @for block in first(&facts.blocks) {
                        tr {
                            td data-label="Zones" {
                                @for key in first(&block.keys) { code.chip.strong { (key) } " " }
                                (rest(&block.keys))
                            }
                            td data-label="Plugins" {
                                @for plugin in &block.plugins { span.chip { (plugin) } " " }
                            }
                            td.quiet data-label="Line" { (block.place) }
                        }
                    }
                }
            }
            (rest(&facts.blocks))
        }
    }
}

/// How far a table can be trusted.
fn table_mark(table: &TableFacts) -> Mark {
    let is_snapshot = table.snapshot.as_ref().is_some_and(|snapshot| snapshot.is_served);
    let (class, text) = match (table.is_synced, table.is_current) {
        (true, false) if is_snapshot => ("warn", "a snapshot from before the start"),
        (false, _) => ("bad", "not read completely"),
        (true, false) => ("warn", "may be stale"),
        (true, true) => ("good", "up to date"),
    };
    Mark { class, text: text.to_owned() }
}

fn problem_mark(problem: Option<&str>) -> Mark {
    match problem {
        Some(problem) => Mark { class: "bad", text: problem.to_owned() },
        None => Mark { class: "good", text: "up to date".to_owned() },
    }
}

pub(super) fn tables(facts: &Facts, now: SystemTime) -> Markup {
    let age = |at: Option<SystemTime>| at.map_or_else(|| "–".to_owned(), |at| ago(now, at));
    let row = |name: &str, mark: &Mark, content: &str, changed: &str, seen: &str| {
        html! {
            tr {
                td data-label="Table" { code.chip.strong { (name) } }
                td data-label="State" { (mark.shown()) }
                td data-label="Content" { (content) }
                td data-label="Changed" { (changed) }
                td data-label="Last event" { (seen) }
            }
        }
    };
    let is_empty = facts.tables.is_empty() && facts.hosts.is_empty() && facts.zones.is_empty();
    html! {
        @if !is_empty {
            section {
                h2 { "Tables" }
                table {
                    thead {
                        tr {
                            th { "Table" } th { "State" } th { "Content" } th { "Changed" }
                            th { "Last event" }
                        }
                    }
                    tbody {
                        @for table in first(&facts.tables) {
                            @let names = count(table.name_count as u64);
                            @let content = format!("{names} names, {}", bytes(table.len));
                            (row(&table.zone, &table_mark(table), &content,
                                &age(table.published_at), &age(table.last_event_at)))
                        }
                        @for hosts in first(&facts.hosts) {
                            @let content = format!("{} entries", count(hosts.entry_count as u64));
                            (row(&hosts.file, &problem_mark(hosts.problem.as_deref()), &content,
                                &age(hosts.modified), "–"))
                        }
                        @for zone in first(&facts.zones) {
                            @let content = match zone.serial {
                                Some(serial) => format!("serial {serial}"),
                                None if zone.zone.is_empty() => "folder of zone files".to_owned(),
                                None => "not read yet".to_owned(),
                            };
                            (row(&zone.zone, &problem_mark(zone.problem.as_deref()), &content,
                                &zone.file, "–"))
                        }
                    }
                }
                (rest(&facts.tables)) (rest(&facts.hosts)) (rest(&facts.zones))
            }
        }
    }
}

fn upstream_mark(upstream: &UpstreamOverview) -> Mark {
    let (class, text) = match (upstream.loop_count, upstream.down_count) {
        (0, 0) if upstream.responses + upstream.failures == 0 => {
            ("quiet", "not used yet".to_owned())
        }
        (0, 0) => ("good", "healthy".to_owned()),
        (0, 1) => ("bad", "unhealthy for 1 shard".to_owned()),
        (0, shards) => ("bad", format!("unhealthy for {shards} shards")),
        (_, _) => ("bad", "loops back to this server".to_owned()),
    };
    Mark { class, text }
}

pub(super) fn upstreams(overview: &Overview) -> Markup {
    let bounds = upstream_bounds();
    html! {
        @if !overview.upstreams.is_empty() {
            section {
                h2 { "Upstreams" span.quiet { "since the start" } }
                table {
                    thead {
                        tr {
                            th { "Address" } th { "State" } th.right { "Responses" }
                            th.right { "Failures" } th.right { "Failed checks" }
                            th.right { "p50" } th.right { "p99" }
                        }
                    }
                    tbody {
                        @for upstream in first(&overview.upstreams) {
                            @let part = |share| {
                                shown_quantile(quantile(&upstream.durations, &bounds, share))
                            };
                            tr {
                                td data-label="Address" {
                                    code.chip.strong { (upstream.facts.address) }
                                    @if upstream.facts.is_tls { " " span.quiet { "TLS" } }
                                    @if let Some(origin) = &upstream.facts.origin {
                                        " " span.quiet { (origin) }
                                    }
                                }
                                td data-label="State" { (upstream_mark(upstream).shown()) }
                                td.right data-label="Responses" { (count(upstream.responses)) }
                                td.right data-label="Failures" { (count(upstream.failures)) }
                                td.right data-label="Failed checks" {
                                    (count(upstream.check_failures))
                                }
                                td.right data-label="p50" { (part(0.5)) }
                                td.right data-label="p99" { (part(0.99)) }
                            }
                        }
                    }
                }
                (rest(&overview.upstreams))
            }
        }
    }
}

/// Which codes, and from which plugins.
pub(super) fn responses(overview: &Overview) -> Markup {
    let list = |title: &str, rows: &[(&'static str, u64)]| {
        let total: u64 = rows.iter().map(|(_, count)| count).sum();
        html! {
            div {
                h3 { (title) }
                dl {
                    @for (label, number) in rows {
                        @let label = if label.is_empty() { "no plugin" } else { label };
                        dt { (label) }
                        dd {
                            (chart::part(*number, total))
                            span { (share(*number, total)) }
                            span.quiet { (count(*number)) }
                        }
                    }
                }
            }
        }
    };
    html! {
        @if !overview.rcodes.is_empty() {
            section {
                h2 { "Responses" span.quiet { "since the start" } }
                div.columns {
                    (list("By plugin", &overview.plugins))
                    (list("By code", &overview.rcodes))
                }
                @if overview.drops > 0 {
                    p.quiet { (count(overview.drops)) " datagrams without a response" }
                }
            }
        }
    }
}
