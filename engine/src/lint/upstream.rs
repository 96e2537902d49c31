//! Upstreams that cannot be meant.

use std::net::{IpAddr, SocketAddr};

use super::{LintBlock, warn};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::Mistake;
use crate::corefile::value::target::{self, Target};
use crate::corefile::word::quoted;
use crate::plugin::ServerBlock;

const TLS_PORT: u16 = 853;

/// Queries come back to the block that forwards them. Another block of the process may be meant.
pub(super) fn own_address(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks.iter().filter(|block| !block.parsed.is_part) {
        for line in block.lines("forward") {
            for (word, address) in plain_upstreams(line.args.get(1..).unwrap_or_default()) {
                if is_own(block.server, address) {
                    let message = format!("'{}' is this server block itself", quoted(&word.text));
                    let mistake = Mistake::warning(word.span, message)
                        .label("queries come back")
                        .help("name a resolver outside this process, such as `/etc/resolv.conf`");
                    warn(line, mistake, context);
                }
            }
        }
    }
}

/// Whether a query to this address reaches the block again, for every name that it forwards.
fn is_own(block: &ServerBlock, address: SocketAddr) -> bool {
    let is_everywhere = block.bound().is_empty()
        || block.bound().iter().any(|bind| bind.address.ip.is_unspecified());
    let is_bound = block.bound().iter().any(|bind| bind.address.ip == address.ip());
    let is_at = match address.ip() {
        // Of the addresses of this machine, only these are known on any other.
        ip if ip.is_loopback() || ip.is_unspecified() => is_everywhere || is_bound,
        _ => is_bound,
    };
    is_at && !block.keys.is_empty() && block.keys.iter().all(|key| key.port == address.port())
}

/// Plain DNS at port 853: the upstream waits for a TLS handshake.
pub(super) fn tls_port(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    for block in blocks {
        for line in block.lines("forward") {
            for (word, address) in plain_upstreams(line.args.get(1..).unwrap_or_default()) {
                if address.port() == TLS_PORT {
                    let text = quoted(&word.text);
                    let message = format!("'{text}' is asked without TLS");
                    let ip = match address.ip() {
                        IpAddr::V4(ip) => ip.to_string(),
                        IpAddr::V6(ip) => format!("[{ip}]"),
                    };
                    let mistake = Mistake::warning(word.span, message)
                        .label("853 is the port of DNS over TLS")
                        .help(format!(
                            "write `tls://{ip}`, and the server's name: `tls_servername`"
                        ));
                    warn(line, mistake, context);
                }
            }
        }
    }
}

/// The upstreams that are addresses without a scheme, or with `dns://`.
fn plain_upstreams(words: &[Token]) -> impl Iterator<Item = (&Token, SocketAddr)> {
    words.iter().filter_map(|word| match target::read(&word.text) {
        Ok(Target::Dns(address)) => Some((word, address)),
        Ok(Target::LinkLocal { .. } | Target::Tls { .. }) => None,
        Ok(Target::Host { .. } | Target::ResolvConf(_)) | Err(_) => None,
    })
}
