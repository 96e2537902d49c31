//! Plugins. Each file or folder here contains everything about one directive: its options, its
//! settings and their parser, what it adds to a server block, and its manual page (`NAME.md`).
//!
//! To add one, write its file and its page, name it here, mark its row of `DIRECTIVES` as built,
//! add a variant where it acts on packets (`gate`, `finish`), and write its scenarios.
//! ARCHITECTURE.md has every step.

pub mod acl;
pub mod any;
pub mod auto;
pub mod autopath;
pub mod bind;
mod block;
pub mod bufsize;
pub mod cache;
pub mod cancel;
pub mod chaos;
pub mod debug;
pub mod directives;
pub mod dns64;
pub mod draft;
pub mod erratic;
pub mod errors;
pub mod exchange;
pub mod file;
pub mod finish;
pub mod forward;
pub mod gate;
pub mod go_regex;
pub mod header;
pub mod health;
mod host_name;
pub mod hosts;
pub mod https;
pub(crate) mod imported;
mod joined;
pub mod k8s_external;
pub mod kubernetes;
pub mod loadbalance;
pub mod local;
pub mod log;
pub mod looping;
pub mod metadata;
pub mod minimal;
pub mod multisocket;
pub mod no_aaaa;
pub mod nsid;
pub(crate) mod overlap;
pub mod pattern;
pub mod pprof;
pub mod prometheus;
pub mod pursuit;
pub mod ready;
pub mod reload;
pub mod rewrite;
pub mod root;
pub mod targets;
pub mod template;
pub mod timeouts;
pub mod tls;
mod unknown;
pub mod view;
pub mod whoami;

use std::any::Any;
use std::fmt::Debug;

pub use block::ServerBlock;
pub use directives::Directive;

use crate::corefile::statement::built_names;
use directives::{Built, built, instead, later};
use draft::{BlockDraft, LoadContext, Loading};

/// The settings of one line of a server block; lines of one directive that add up are one.
pub trait Plugin: Any + Debug + Send + Sync {
    /// Its row of `DIRECTIVES`.
    fn name(&self) -> &'static str;

    /// Whether CoreDNS passes queries through it: a block without any such plugin refuses them.
    fn sees_queries(&self) -> bool;

    /// Loads the files and hosts that the line names, and adds its part to the block. An error
    /// discards the whole draft, and the running configuration stays.
    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a>;
}

/// In the order in which CoreDNS calls its plugins, whatever the order in the Corefile. CoreDNS has
/// no `no_aaaa`.
pub const DIRECTIVES: &[Directive] = &[
    built(
        "root",
        "the folder that relative paths start from",
        Built { usage: root::USAGE, once: false, options: Vec::new, read: root::read },
    ),
    built(
        "metadata",
        "label each query for other plugins",
        Built { usage: metadata::USAGE, once: true, options: Vec::new, read: metadata::read },
    ),
    later("geoip", "the location of a client, from its address"),
    built(
        "cancel",
        "a time limit for each query",
        Built { usage: cancel::USAGE, once: false, options: Vec::new, read: cancel::read },
    ),
    later("proxyproto", "client addresses from the PROXY protocol"),
    later("quic", "settings of DNS over QUIC"),
    later("grpc_server", "settings of DNS over gRPC"),
    built(
        "https",
        "limits of DNS over HTTPS",
        Built {
            usage: https::USAGE,
            once: false,
            options: || built_names(https::SETTINGS),
            read: https::read,
        },
    ),
    later("https3", "settings of DNS over HTTP/3"),
    built(
        "timeouts",
        "time limits of TCP connections",
        Built {
            usage: timeouts::USAGE,
            once: false,
            options: || built_names(timeouts::SETTINGS),
            read: timeouts::read,
        },
    ),
    built(
        "multisocket",
        "several sockets for one address",
        Built {
            usage: multisocket::USAGE,
            once: false,
            options: Vec::new,
            read: multisocket::read,
        },
    ),
    built(
        "reload",
        "reload the Corefile when it has changed",
        Built { usage: reload::USAGE, once: false, options: Vec::new, read: reload::read },
    ),
    built(
        "nsid",
        "send the server's name to clients that ask for it",
        Built { usage: nsid::USAGE, once: true, options: Vec::new, read: nsid::read },
    ),
    built(
        "bufsize",
        "limit the size of UDP responses, for clients that use EDNS",
        Built { usage: bufsize::USAGE, once: true, options: Vec::new, read: bufsize::read },
    ),
    built(
        "bind",
        "listen on these addresses only",
        Built {
            usage: bind::USAGE,
            once: false,
            options: || built_names(bind::SETTINGS),
            read: bind::read,
        },
    ),
    built(
        "debug",
        "log more, and stop at a panic",
        Built { usage: debug::USAGE, once: false, options: Vec::new, read: debug::read },
    ),
    later("trace", "spans for Zipkin or Datadog"),
    built(
        "ready",
        "HTTP endpoint: whether all plugins are ready",
        Built {
            usage: ready::USAGE,
            once: true,
            options: || built_names(ready::SETTINGS),
            read: ready::read,
        },
    ),
    built(
        "health",
        "HTTP endpoint: whether the process is alive",
        Built {
            usage: health::USAGE,
            once: false,
            options: || built_names(health::SETTINGS),
            read: health::read,
        },
    ),
    built(
        "pprof",
        "HTTP endpoint of Go's profiler",
        Built {
            usage: pprof::USAGE,
            once: true,
            options: || built_names(pprof::SETTINGS),
            read: pprof::read,
        },
    ),
    instead(
        "shed",
        "drop queries when there are too many",
        "delete the line: queries that overflow a socket's buffer are dropped and counted",
    ),
    built(
        "prometheus",
        "HTTP endpoint: metrics",
        Built {
            usage: prometheus::USAGE,
            once: true,
            options: || built_names(prometheus::SETTINGS),
            read: prometheus::read,
        },
    ),
    built(
        "errors",
        "log queries that end in an error",
        Built {
            usage: errors::USAGE,
            once: true,
            options: || built_names(errors::SETTINGS),
            read: errors::read,
        },
    ),
    built(
        "log",
        "log queries and their responses",
        Built {
            usage: log::USAGE,
            once: false,
            options: || built_names(log::SETTINGS),
            read: log::read,
        },
    ),
    later("dnstap", "send queries and responses to a dnstap collector"),
    built(
        "local",
        "answer for localhost and 127.0.0.0/8",
        Built {
            usage: local::USAGE,
            once: false,
            options: || built_names(local::SETTINGS),
            read: local::read,
        },
    ),
    built(
        "dns64",
        "make IPv6 addresses from IPv4 ones, for clients behind NAT64",
        Built {
            usage: dns64::USAGE,
            once: false,
            options: || built_names(dns64::SETTINGS),
            read: dns64::read,
        },
    ),
    later("siit", "make IPv6 addresses from IPv4 ones, without state"),
    built(
        "any",
        "answer queries of type ANY with a minimal response",
        Built { usage: any::USAGE, once: false, options: Vec::new, read: any::read },
    ),
    built(
        "chaos",
        "the server's version and name in class CH",
        Built { usage: chaos::USAGE, once: false, options: Vec::new, read: chaos::read },
    ),
    built(
        "loadbalance",
        "rotate the addresses in answers",
        Built {
            usage: loadbalance::USAGE,
            once: false,
            options: || built_names(loadbalance::SETTINGS),
            read: loadbalance::read,
        },
    ),
    later("tsig", "signed queries and responses"),
    built(
        "rewrite",
        "change queries and their responses",
        Built { usage: rewrite::USAGE, once: false, options: Vec::new, read: rewrite::read },
    ),
    built(
        "autopath",
        "follow the client's search path in the server",
        Built { usage: autopath::USAGE, once: false, options: Vec::new, read: autopath::read },
    ),
    built(
        "acl",
        "allow, block or drop by client address and type",
        Built { usage: acl::USAGE, once: false, options: acl::options, read: acl::read },
    ),
    built(
        "cache",
        "cache the responses of upstreams",
        Built {
            usage: cache::USAGE,
            once: true,
            options: || built_names(cache::SETTINGS),
            read: cache::read,
        },
    ),
    built(
        "header",
        "change bits of the header",
        Built {
            usage: header::USAGE,
            once: false,
            options: || built_names(header::SETTINGS),
            read: header::read,
        },
    ),
    later("dnssec", "sign answers on the fly"),
    built(
        "tls",
        "certificates for DNS over TLS",
        Built {
            usage: tls::USAGE,
            once: true,
            options: || built_names(tls::SETTINGS),
            read: tls::read,
        },
    ),
    built(
        "minimal",
        "leave out what a client did not ask for",
        Built { usage: minimal::USAGE, once: false, options: Vec::new, read: minimal::read },
    ),
    built(
        "template",
        "answers made from patterns",
        Built {
            usage: template::USAGE,
            once: false,
            options: || built_names(template::SETTINGS),
            read: template::read,
        },
    ),
    built(
        "no_aaaa",
        "no IPv6 addresses in answers",
        Built { usage: no_aaaa::USAGE, once: true, options: Vec::new, read: no_aaaa::read },
    ),
    later("transfer", "zone transfers to secondary servers"),
    later("dynupdate", "dynamic updates"),
    built(
        "hosts",
        "answers from a hosts file",
        Built {
            usage: hosts::USAGE,
            once: true,
            options: || built_names(hosts::SETTINGS),
            read: hosts::read,
        },
    ),
    later("route53", "zones of AWS Route 53"),
    later("azure", "zones of Azure DNS"),
    later("clouddns", "zones of Google Cloud DNS"),
    built(
        "k8s_external",
        "names outside the cluster for its Services",
        Built {
            usage: k8s_external::USAGE,
            once: false,
            options: || built_names(k8s_external::SETTINGS),
            read: k8s_external::read,
        },
    ),
    built(
        "kubernetes",
        "names of the cluster's Services and pods",
        Built {
            usage: "kubernetes [ZONE…] { … }",
            once: true,
            options: || built_names(kubernetes::SETTINGS),
            read: kubernetes::read,
        },
    ),
    built(
        "file",
        "answers from zone files",
        Built {
            usage: file::USAGE,
            once: false,
            options: || built_names(file::SETTINGS),
            read: file::read,
        },
    ),
    built(
        "auto",
        "answers from the zone files of a folder",
        Built {
            usage: auto::USAGE,
            once: false,
            options: || built_names(auto::SETTINGS),
            read: auto::read,
        },
    ),
    later("secondary", "zones transferred from a primary server"),
    later("etcd", "answers from etcd"),
    built(
        "loop",
        "detect forwarded queries that come back",
        Built { usage: looping::USAGE, once: true, options: Vec::new, read: looping::read },
    ),
    built(
        "forward",
        "send queries to upstreams",
        Built {
            usage: forward::USAGE,
            once: false,
            options: || built_names(forward::options::SETTINGS),
            read: forward::read,
        },
    ),
    later("grpc", "send queries to upstreams over gRPC"),
    built(
        "erratic",
        "dropped, truncated and late responses, for tests of clients",
        Built {
            usage: erratic::USAGE,
            once: false,
            options: || built_names(erratic::SETTINGS),
            read: erratic::read,
        },
    ),
    built(
        "whoami",
        "the client's own address",
        Built { usage: whoami::USAGE, once: false, options: Vec::new, read: whoami::read },
    ),
    later("on", "run a command when something happens"),
    later("sign", "sign a zone file"),
    built(
        "view",
        "several blocks for one zone, chosen by the query",
        Built {
            usage: view::USAGE,
            once: true,
            options: || built_names(view::SETTINGS),
            read: view::read,
        },
    ),
    later("nomad", "names of Nomad's services"),
];
