//! Words in place of a directive that are not one: what was probably meant.
//!
//! The hints are ranked: a word that is known beats one that is similar, and what the word looks
//! like comes last.

use std::net::IpAddr;

use super::DIRECTIVES;
use crate::corefile::lexer::Token;
use crate::corefile::parser::ParsedBlock;
use crate::corefile::report::Mistake;
use crate::corefile::source::Source;
use crate::corefile::word::{nearest, quoted};

/// Words that are no longer directives, that are directives of other builds of CoreDNS, or that
/// belong elsewhere; and what to write.
const KNOWN: &[(&str, &str)] = &[
    ("federation", "delete it with its block, or run `ringdns convert`: CoreDNS 1.7 removed it"),
    ("metrics", "the directive is called `prometheus`"),
    ("proxy", "since CoreDNS 1.5 it is called `forward`: `ringdns convert` rewrites it"),
    ("reverse", "CoreDNS 1.5 removed it: `template` answers for addresses"),
    ("startup", "`on` replaces it, but is not built yet"),
    ("shutdown", "`on` replaces it, but is not built yet"),
    // Options that CoreDNS removed.
    ("upstream", "delete the line: since CoreDNS 1.7 targets are resolved without it"),
    ("resyncperiod", "delete the line: since CoreDNS 1.7 changes are watched"),
    // External plugins.
    ("alternate", EXTERNAL),
    ("blocklist", EXTERNAL),
    (
        "fanout",
        "an external plugin, not CoreDNS's own: `forward` asks a second upstream if the \
                first is late",
    ),
    ("gslb", EXTERNAL),
    ("k8s_gateway", "an external plugin, not CoreDNS's own: `k8s_external` is similar"),
    (
        "kubernetai",
        "an external plugin, not CoreDNS's own: write `kubernetes` in one server block \
                    per cluster",
    ),
    ("lighthouse", EXTERNAL),
    ("mysql", EXTERNAL),
    ("netbox", EXTERNAL),
    ("pdsql", EXTERNAL),
    ("ratelimit", EXTERNAL),
    ("records", "an external plugin, not CoreDNS's own: `hosts` has addresses"),
    ("redis", EXTERNAL),
    ("rrl", EXTERNAL),
    ("unbound", "an external plugin, not CoreDNS's own: `forward` to a resolver that recurses"),
    // The keys of kube-dns's ConfigMap, and of resolv.conf.
    ("stubDomains", KUBE_DNS),
    ("upstreamNameservers", KUBE_DNS),
    ("nameserver", "this is a line of resolv.conf: write `forward . ADDRESS`"),
];

const EXTERNAL: &str =
    "an external plugin, not CoreDNS's own: delete it, or leave the zones that need it to CoreDNS";
const KUBE_DNS: &str =
    "this is kube-dns's configuration: `ringdns convert` makes a Corefile of its ConfigMap";

/// The mistake of a word that is not a directive.
pub(super) fn mistake(name: &Token, block: &ParsedBlock, sources: &[Source]) -> Mistake {
    let word = &name.text;
    let message = format!("Unknown directive '{}'", quoted(word));
    let mistake = Mistake::error(name.span, message).label("no directive has this name");
    mistake.help(
        known(word)
            .or_else(|| imported_block(name, block, sources))
            .or_else(|| similar(word))
            .unwrap_or_else(|| looks_like(word)),
    )
}

fn known(word: &str) -> Option<String> {
    if let Some((_, instead)) = KNOWN.iter().find(|(known, _)| *known == word) {
        return Some((*instead).to_owned());
    }
    let owners = DIRECTIVES.iter().filter(|row| row.options().contains(&word));
    let owners: Vec<_> = owners.map(|row| format!("`{}`", row.name)).collect();
    match owners.as_slice() {
        [] => None,
        [one] => Some(format!("`{word}` is an option of {one}: write it between its braces")),
        [several @ .., last] => Some(format!(
            "`{word}` is an option of {} and {last}: write it between the braces of one of them",
            several.join(", ")
        )),
    }
}

/// A file with server blocks that is imported within one: a `*.server` as an `*.override`.
fn imported_block(name: &Token, block: &ParsedBlock, sources: &[Source]) -> Option<String> {
    if block.is_part && looks_like_key(&name.text) {
        return Some(
            "this is a server block, but the file is imported within one: its name should end with \
             `.server`"
                .to_owned(),
        );
    }
    let is_imported = block.keys.first().is_some_and(|key| key.span.source != name.span.source);
    if !is_imported || !looks_like_key(&name.text) {
        return None;
    }
    let file = &sources.get(name.span.source)?.name;
    Some(format!(
        "{} has server blocks, but is imported within one: move that `import` outside of all \
         braces",
        quoted(file)
    ))
}

fn similar(word: &str) -> Option<String> {
    let meant = nearest(word, DIRECTIVES.iter().map(|row| row.name))?;
    let is_built = DIRECTIVES.iter().any(|row| row.name == meant && row.is_built());
    Some(match is_built {
        true => format!("did you mean `{meant}`?"),
        false => format!("did you mean `{meant}`? It is known but not built yet"),
    })
}

fn looks_like_key(word: &str) -> bool {
    word.contains(['.', ':'])
}

fn looks_like(word: &str) -> String {
    let help = if word.parse::<IpAddr>().is_ok() {
        "if this is an entry of `hosts`, write it between its braces: `hosts {`"
    } else if looks_like_key(word) {
        "if this starts a new server block, the one above is not closed by `}`"
    } else {
        "`ringdns -plugins` lists the directives"
    };
    help.to_owned()
}
