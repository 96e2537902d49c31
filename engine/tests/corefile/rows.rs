//! Rows of text through one reader: the result, or the mistakes with their positions.
//!
//! `{$DOMAIN}` and `{$POD_IP}` are set. The machine has the interfaces `lo`, `eth0`, and `eth1`
//! without an address.
#![allow(dead_code)] // each test file uses its part

use std::net::IpAddr;

use engine::cache::settings::CacheSettings;
use engine::config::{self, Config};
use engine::corefile::value::http_address::{Host, HttpAddress};
use engine::corefile::value::zone::Zone;
use engine::corefile::{ListenIp, Report, Severity, Surroundings};
use engine::forward::options::ForwardOptions;
use engine::plugin::ServerBlock;
use engine::plugin::errors::Errors;
use engine::plugin::health::Health;
use engine::plugin::hosts::Hosts;
use engine::plugin::kubernetes::Kubernetes;
use engine::plugin::loadbalance::LoadBalance;
use engine::plugin::looping::Loop;
use engine::plugin::prometheus::Prometheus;
use engine::plugin::ready::Ready;
use engine::plugin::reload::Reload;
use engine::plugin::timeouts::Timeouts;

pub(crate) fn variable(name: &str) -> Option<String> {
    let value = match name {
        "DOMAIN" => "cluster.local",
        "POD_IP" => "10.0.0.7",
        _ => return None,
    };
    Some(value.to_owned())
}

pub(crate) fn interface(name: &str) -> Option<Vec<ListenIp>> {
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    match name {
        "lo" => Some(vec![ip("127.0.0.1").into(), ip("::1").into()]),
        "eth1" => Some(Vec::new()),
        "eth0" => Some(vec![ip("10.0.0.7").into(), ListenIp { ip: ip("fe80::7"), scope_id: 2 }]),
        _ => None,
    }
}

pub(crate) fn parse_as(name: &str, text: &str) -> Result<Config, Report> {
    let surroundings =
        Surroundings { default_port: 53, variable: &variable, interface: &interface };
    config::parse(name, text, &surroundings)
}

pub(crate) fn parse(text: &str) -> Result<Config, Report> {
    parse_as("Corefile", text)
}

/// The contents of a block, on one line.
pub(crate) fn summary(block: &ServerBlock) -> String {
    let mut parts: Vec<String> = block.keys.iter().map(ToString::to_string).collect();
    let address = |at: &HttpAddress| match &at.host {
        Host::Ip(ip) => format!("{ip} {}", at.port),
        Host::Name(name) => format!("{name} {}", at.port),
        Host::Every => format!("* {}", at.port),
    };
    parts.extend(
        block.bound().iter().map(|at| format!("bind={}%{}", at.address.ip, at.address.scope_id)),
    );
    parts.extend(block.lines::<Errors>().map(|e| format!("errors={}", e.stacktrace)));
    parts.extend(block.lines::<Errors>().flat_map(|e| &e.consolidate).map(|c| {
        format!("consolidate={:?} {} {:?} {}", c.every, c.pattern, c.level, c.show_first)
    }));
    parts.extend(
        block.lines::<Health>().map(|h| format!("health={} {:?}", address(&h.address), h.lameduck)),
    );
    parts.extend(
        block.lines::<Ready>().map(|r| format!("ready={} {:?}", address(&r.address), r.monitor)),
    );
    parts
        .extend(block.lines::<Prometheus>().map(|p| format!("prometheus={}", address(&p.address))));
    parts
        .extend(block.lines::<Reload>().map(|r| format!("reload={:?} {:?}", r.interval, r.jitter)));
    parts.extend(block.lines::<LoadBalance>().map(|_| "loadbalance".to_owned()));
    parts.extend(block.lines::<Timeouts>().map(|t| {
        format!("timeouts={:?} {:?} {:?} {:?}", t.read, t.write, t.idle, t.max_tcp_queries)
    }));
    parts.extend(block.lines::<CacheSettings>().map(|c| format!("cache={}", texts(&c.zones))));
    parts.extend(block.lines::<Loop>().map(|l| format!("loop={}", l.fatal)));
    parts.extend(
        block
            .lines::<ForwardOptions>()
            .map(|f| format!("forward={} {}", texts(&f.from), f.to.len())),
    );
    parts.extend(block.lines::<Hosts>().map(|h| {
        let file = h.settings.file.display();
        format!("hosts={file} {} {}", texts(&h.settings.zones), h.settings.inline.len())
    }));
    parts.extend(block.lines::<Kubernetes>().map(|k| format!("kubernetes={}", texts(&k.zones))));
    parts.join(" | ")
}

pub(crate) fn texts(zones: &[Zone]) -> String {
    zones.iter().map(|zone| zone.text.as_str()).collect::<Vec<_>>().join(",")
}

/// A Corefile without mistakes or warnings, one block per line.
pub(crate) fn check(text: &str, expected: &[&str]) {
    let config = parse(text).unwrap_or_else(|report| panic!("{text}\n{report}"));
    assert_eq!(config.blocks.iter().map(summary).collect::<Vec<_>>(), expected, "{text}");
    assert!(config.warnings.is_empty(), "{text}\n{}", config.warnings);
}

/// Line, column and the message after `Corefile:LINE - ` of each mistake, or of each warning.
pub(crate) fn findings(report: &Report, severity: Severity) -> Vec<(usize, usize, String)> {
    let findings = report.findings().filter(|finding| finding.severity == severity);
    findings
        .map(|finding| {
            let message = finding.message.split_once(" - ").map_or("", |(_, message)| message);
            let message = message.trim_start_matches("Error during parsing: ").to_owned();
            (finding.line, finding.column, message)
        })
        .collect()
}

pub(crate) fn same(found: &[(usize, usize, String)], expected: &[(usize, usize, &str)]) -> bool {
    let found = found.iter().map(|(line, column, text)| (*line, *column, text.as_str()));
    found.eq(expected.iter().copied())
}

/// A Corefile with exactly these mistakes: line, column, message.
pub(crate) fn check_mistakes(text: &str, expected: &[(usize, usize, &str)]) {
    let report = parse(text).err().unwrap_or_else(|| panic!("no mistake in {text}"));
    let found = findings(&report, Severity::Error);
    assert!(same(&found, expected), "{text}\n{found:#?}\n{report}");
}

/// A Corefile that works, with exactly these warnings.
pub(crate) fn check_warnings(text: &str, expected: &[(usize, usize, &str)]) -> Config {
    let config = parse(text).unwrap_or_else(|report| panic!("{text}\n{report}"));
    let found = findings(&config.warnings, Severity::Warning);
    assert!(same(&found, expected), "{text}\n{found:#?}");
    config
}
