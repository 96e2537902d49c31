//! Every directive that CoreDNS knows, each a row: what it is for, and whether this server has it.
//!
//! A plugin is added by turning its row into a `built` one with a function that reads it into a
//! `ServerBlock`.

use super::{
    ServerBlock, bind, cache, errors, forward, health, hosts, kubernetes, loadbalance, looping,
    prometheus, ready, reload, timeouts,
};
use crate::corefile::lexer::Token;
use crate::corefile::parser::Block;
use crate::corefile::report::Mistake;
use crate::corefile::source::Span;
use crate::corefile::statement::{Statement, built_names};
use crate::corefile::value::key;
use crate::corefile::word::{nearest, quoted};
use crate::corefile::{Context, Place};

/// One row of the table.
pub struct Directive {
    pub name: &'static str,
    /// What it is for, in one line: its page in the manual begins with these words.
    pub doc: &'static str,
    status: Status,
}

/// Whether this server has a directive.
enum Status {
    Built(Built),
    /// CoreDNS has it, this server not yet; what to do instead, if anything.
    NotBuilt(Option<&'static str>),
}

#[derive(Clone, Copy)]
struct Built {
    /// How it is written.
    usage: &'static str,
    /// A second one in a block is a mistake; if not, `read` makes sense of it.
    once: bool,
    /// The names of its options that work.
    options: fn() -> Vec<&'static str>,
    read: Read,
}

type Read = fn(&Statement, &mut ServerBlock, &mut Context<'_>);

impl Directive {
    /// Whether a Corefile may use it.
    #[must_use]
    pub fn is_built(&self) -> bool {
        matches!(self.status, Status::Built(_))
    }

    /// How it is written, if this server has it.
    #[must_use]
    pub fn usage(&self) -> Option<&'static str> {
        match self.status {
            Status::Built(built) => Some(built.usage),
            Status::NotBuilt(_) => None,
        }
    }

    /// The names of its options, those of CoreDNS that this server lacks left out; none if it is not
    /// built.
    #[must_use]
    pub fn options(&self) -> Vec<&'static str> {
        match self.status {
            Status::Built(built) => (built.options)(),
            Status::NotBuilt(_) => Vec::new(),
        }
    }
}

const fn built(name: &'static str, doc: &'static str, built: Built) -> Directive {
    Directive { name, doc, status: Status::Built(built) }
}

/// Not built, and nothing can stand in for it.
const fn later(name: &'static str, doc: &'static str) -> Directive {
    Directive { name, doc, status: Status::NotBuilt(None) }
}

/// Not built; `instead` says what can be done.
const fn instead(name: &'static str, doc: &'static str, instead: &'static str) -> Directive {
    Directive { name, doc, status: Status::NotBuilt(Some(instead)) }
}

/// In the order in which CoreDNS asks its plugins, whatever the order in the Corefile.
pub const DIRECTIVES: &[Directive] = &[
    instead(
        "root",
        "the folder that relative paths start from",
        "delete the line and write whole paths",
    ),
    later("metadata", "label each query for other plugins"),
    later("geoip", "where a client is, from its address"),
    instead(
        "cancel",
        "a time limit for each query",
        "delete the line: a question for upstreams has five seconds, others do not wait",
    ),
    later("proxyproto", "client addresses from the PROXY protocol"),
    later("quic", "settings of DNS over QUIC"),
    later("grpc_server", "settings of DNS over gRPC"),
    later("https", "settings of DNS over HTTPS"),
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
    instead(
        "multisocket",
        "several sockets for one address",
        "delete the line: there is one socket a core, or `--shards N`",
    ),
    built(
        "reload",
        "reload the Corefile when it has changed",
        Built { usage: reload::USAGE, once: false, options: Vec::new, read: reload::read },
    ),
    later("nsid", "tell the server's name to clients that ask"),
    instead(
        "bufsize",
        "a bound on the size of UDP answers",
        "delete the line: UDP answers have at most 1232 bytes",
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
    instead("debug", "more in the log, and stop at a panic", "delete the line"),
    later("trace", "spans for Zipkin or Datadog"),
    built(
        "ready",
        "HTTP endpoint: are all plugins ready",
        Built {
            usage: ready::USAGE,
            once: true,
            options: || built_names(ready::SETTINGS),
            read: ready::read,
        },
    ),
    built(
        "health",
        "HTTP endpoint: is the process alive",
        Built {
            usage: health::USAGE,
            once: false,
            options: || built_names(health::SETTINGS),
            read: health::read,
        },
    ),
    instead("pprof", "HTTP endpoint of Go's profiler", "delete the line: use `perf`"),
    instead(
        "shed",
        "drop queries when there are too many",
        "delete the line: what a socket cannot hold is dropped and counted",
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
    instead("log", "log queries", "`errors` logs those that end in an error"),
    later("dnstap", "send queries and answers to a dnstap collector"),
    later("local", "answer for localhost and 127.0.0.0/8"),
    later("dns64", "make IPv6 addresses from IPv4 ones"),
    later("siit", "make IPv6 addresses from IPv4 ones, without state"),
    later("any", "answer queries of type ANY with next to nothing"),
    later("chaos", "the server's version and name in class CH"),
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
    later("tsig", "signed queries and answers"),
    later("rewrite", "change queries, and answers back"),
    later("autopath", "follow the client's search path in the server"),
    later("acl", "allow, block or drop by client address and type"),
    built(
        "cache",
        "keep the responses of upstreams for a time",
        Built {
            usage: cache::USAGE,
            once: true,
            options: || built_names(cache::SETTINGS),
            read: cache::read,
        },
    ),
    later("header", "change bits of the header"),
    later("dnssec", "sign answers on the fly"),
    later("tls", "certificates for DNS over TLS"),
    later("minimal", "leave out what a client did not ask for"),
    later("template", "answers made from patterns"),
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
    later("k8s_external", "names outside the cluster for its Services"),
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
    later("file", "answers from a zone file"),
    later("auto", "zone files found in a folder"),
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
    later("erratic", "wrong answers for tests"),
    later("whoami", "the client's own address"),
    later("on", "run a command when something happens"),
    later("sign", "sign a zone file"),
    later("view", "several blocks for one zone, chosen by the query"),
    later("nomad", "names of Nomad's services"),
];

/// Words that are no directive now, and what to write.
const RETIRED: &[(&str, &str)] = &[
    (
        "federation",
        "delete it with its block, or let `ringdns convert` do so: it is gone since CoreDNS 1.7",
    ),
    ("metrics", "the directive is called `prometheus`"),
    ("proxy", "since CoreDNS 1.5 it is called `forward`: `ringdns convert` rewrites it"),
    ("startup", "its place is taken by `on`, which is known but not built yet"),
    ("shutdown", "its place is taken by `on`, which is known but not built yet"),
];

/// What a block says, and where each of its keys stands. Mistakes leave out what they spoil.
pub(crate) fn read(block: &Block, context: &mut Context<'_>) -> (ServerBlock, Vec<Span>) {
    let mut spans = Vec::new();
    let place = block.keys.first().map_or_else(Place::default, |key| context.place(key.span));
    let mut server = ServerBlock::new(place);
    for token in &block.keys {
        let keys = key::read(token, context);
        spans.extend(keys.iter().map(|_| token.span));
        server.keys.extend(keys);
    }
    let mut seen: Vec<&Token> = Vec::new();
    for statement in &block.statements {
        let name = &statement.name;
        match DIRECTIVES.iter().find(|row| row.name == name.text) {
            None => context.mistakes.push_error(|| unknown(name)),
            Some(Directive { status: Status::NotBuilt(instead), name, .. }) => {
                context.report(not_built(name, statement.name.span, *instead));
            }
            Some(Directive { status: Status::Built(built), name: plugin, .. }) => {
                context.plugin = Some(plugin);
                let first = seen.iter().find(|token| token.text == *plugin).copied();
                match first {
                    Some(first) if built.once => {
                        let message = "this plugin can only be used once per Server Block";
                        let mistake = Mistake::error(name.span, message)
                            .label("used again here")
                            .also(first.span, "first used here");
                        context.report(mistake);
                    }
                    _ => (built.read)(statement, &mut server, context),
                }
                if first.is_none() {
                    seen.push(name);
                }
                context.plugin = None;
            }
        }
    }
    server.sort();
    (server, spans)
}

fn not_built(name: &str, span: Span, instead: Option<&str>) -> Mistake {
    let message = format!("Directive '{name}' is known but not built yet");
    let mistake = Mistake::error(span, message).label("not in this version of ringdns");
    mistake.maybe_help(instead.map(str::to_owned))
}

fn unknown(name: &Token) -> Mistake {
    let word = &name.text;
    let mistake = Mistake::error(name.span, format!("Unknown directive '{}'", quoted(word)))
        .label("no directive has this name");
    if let Some((_, instead)) = RETIRED.iter().find(|(retired, _)| retired == word) {
        return mistake.help(*instead);
    }
    let owner = DIRECTIVES.iter().find(|row| match row.status {
        Status::Built(built) => (built.options)().contains(&word.as_str()),
        Status::NotBuilt(_) => false,
    });
    if let Some(owner) = owner {
        return mistake.help(format!(
            "`{word}` is an option of `{}`: write it between its braces",
            owner.name
        ));
    }
    let meant = nearest(word, DIRECTIVES.iter().map(|row| row.name));
    match meant.and_then(|meant| DIRECTIVES.iter().find(|row| row.name == meant)) {
        Some(Directive { name, status: Status::Built(_), .. }) => {
            mistake.help(format!("did you mean `{name}`?"))
        }
        Some(Directive { name, status: Status::NotBuilt(_), .. }) => {
            mistake.help(format!("did you mean `{name}`? It is known but not built yet"))
        }
        None if word.contains(['.', ':']) => {
            mistake.help("if this starts a new server block, the one above is not closed by `}`")
        }
        None => mistake.help(format!("the directives are {}", names_built().join(", "))),
    }
}

fn names_built() -> Vec<&'static str> {
    DIRECTIVES.iter().filter(|row| row.is_built()).map(|row| row.name).collect()
}
