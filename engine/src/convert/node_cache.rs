//! The Corefile of NodeLocal DNSCache's node-cache: a base Corefile with placeholders, and the stub
//! domains of kube-dns's ConfigMap. Files and the environment are read in `base_corefile`.
//!
//! Invariant: a line of the base Corefile keeps its number.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use super::edits::Edits;
use super::kube_dns::KubeDnsSettings;
use crate::corefile::lexer;
use crate::corefile::outline::{self, OutlineStatement};
use crate::corefile::report::Mistake;
use crate::corefile::word::quoted;

const UPSTREAM_SERVERS: &str = "__PILLAR__UPSTREAM__SERVERS__";
const CLUSTER_DNS: &str = "__PILLAR__CLUSTER__DNS__";
const LOCAL_DNS: &str = "__PILLAR__LOCAL__DNS__";
const DNS_SERVER: &str = "__PILLAR__DNS__SERVER__";
const DNS_DOMAIN: &str = "__PILLAR__DNS__DOMAIN__";
/// How every placeholder begins.
const PILLAR: &str = "__PILLAR__";

/// What a node-cache knows besides its base Corefile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pillars<'a> {
    /// At least one.
    pub(crate) local_ips: &'a [IpAddr],
    /// The address of the cluster's DNS servers; `None` if the environment lacks it.
    pub(crate) cluster_dns: Option<IpAddr>,
    /// Of stub domains.
    pub(crate) port: u16,
    pub(crate) kube_dns: &'a KubeDnsSettings,
}

/// Replaces the placeholders that have a value, and adds a server block for each stub domain.
pub(crate) fn render(base: &str, pillars: &Pillars<'_>) -> String {
    let Pillars { local_ips, cluster_dns, port, kube_dns } = pillars;
    let local_ips = local_ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
    let mut text = match kube_dns.upstreams.as_slice() {
        [] => base.replace(UPSTREAM_SERVERS, "/etc/resolv.conf"),
        servers => without_force_tcp(base).replace(UPSTREAM_SERVERS, &servers.join(" ")),
    };
    if let Some(ip) = cluster_dns {
        text = text.replace(CLUSTER_DNS, &ip.to_string());
    }
    // `-localip` has this address too, if it is to be served.
    text = text.replace(LOCAL_DNS, &local_ips).replace(DNS_SERVER, "");
    for (zone, servers) in &kube_dns.stubs {
        let servers = servers.join(" ");
        let _ = write!(
            text,
            "
{zone}:{port} {{
    errors
    cache 30
    bind {local_ips}
    forward . {servers}
}}
"
        );
    }
    text
}

/// A Corefile to be checked: if it has placeholders, with samples for their values, and with its
/// mistakes in them.
pub(crate) fn sampled(text: &str) -> (Cow<'_, str>, Vec<Mistake>) {
    if !text.contains(PILLAR) {
        return (Cow::Borrowed(text), Vec::new());
    }
    let text = render(
        text,
        &Pillars {
            local_ips: &[IpAddr::V4(SAMPLE_LOCAL)],
            cluster_dns: Some(IpAddr::V4(SAMPLE_CLUSTER)),
            port: 53,
            kube_dns: &KubeDnsSettings::default(),
        },
    );
    let mistakes = unrendered(&text, "");
    (Cow::Owned(text), mistakes)
}

/// NodeLocal DNSCache's, and one of documentation (RFC 5737).
const SAMPLE_LOCAL: Ipv4Addr = Ipv4Addr::new(169, 254, 20, 10);
const SAMPLE_CLUSTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

/// Servers that a user names may lack TCP. So they are asked over UDP if `force_tcp` is the only
/// option of their `forward`.
fn without_force_tcp(base: &str) -> String {
    // What is unbalanced is reported when the Corefile is read.
    let Ok(sections) = outline::read(base) else { return base.to_owned() };
    let mut edits = Edits::default();
    for statement in sections.iter().flat_map(|section| &section.statements) {
        let is_theirs = statement.args.iter().any(|word| word.text == UPSTREAM_SERVERS);
        if statement.name.text == "forward"
            && is_theirs
            && let Some([OutlineStatement { name, args, body: None }]) =
                statement.body.as_ref().map(|body| body.statements.as_slice())
            && name.text == "force_tcp"
            && args.is_empty()
        {
            edits.replace(name.range.clone(), "");
        }
    }
    edits.applied(base, 0..base.len())
}

/// The placeholders that are still in the words of a rendered Corefile. `variable` is the
/// environment variable that lacks the address of the cluster's DNS servers.
pub(crate) fn unrendered(text: &str, variable: &str) -> Vec<Mistake> {
    let lexed = lexer::lex(text, 0, &|_| None);
    let left = lexed.tokens.iter().filter(|token| token.text.contains(PILLAR));
    left.map(|token| {
        let word = &token.text;
        let message = format!("{} has no value", quoted(word));
        let (label, help) = if word.contains(CLUSTER_DNS) {
            (
                format!("needs the environment variable {variable}"),
                "`-upstreamsvc` names the Service of the cluster's DNS servers: it must be in the \
                 pod's namespace and older than the pod, or the pod must set this variable; or \
                 write the address here",
            )
        } else if word.contains(DNS_DOMAIN) {
            let label = "nothing says what the cluster's domain is".to_owned();
            (label, "write the domain here, such as `cluster.local`")
        } else {
            let label = "neither ringdns nor node-cache has this placeholder".to_owned();
            (label, "correct it, or write its value here")
        };
        Mistake::error(token.span, message).label(label).help(help)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(base: &str, kube_dns: &KubeDnsSettings) -> String {
        let local_ips = ["169.254.20.10", "10.96.0.10"].map(|ip| ip.parse().unwrap());
        let cluster_dns = Some("10.96.3.4".parse().unwrap());
        render(base, &Pillars { local_ips: &local_ips, cluster_dns, port: 53, kube_dns })
    }

    #[test]
    fn placeholders() {
        let default = KubeDnsSettings::default();
        let servers = KubeDnsSettings {
            upstreams: vec!["8.8.8.8".to_owned(), "8.8.4.4:5353".to_owned()],
            stubs: Vec::new(),
        };
        for (base, kube_dns, expected) in [
            (
                "bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__",
                &default,
                "bind 169.254.20.10 10.96.0.10 ",
            ),
            ("forward . __PILLAR__CLUSTER__DNS__", &default, "forward . 10.96.3.4"),
            ("forward . __PILLAR__UPSTREAM__SERVERS__", &default, "forward . /etc/resolv.conf"),
            ("forward . __PILLAR__UPSTREAM__SERVERS__", &servers, "forward . 8.8.8.8 8.8.4.4:5353"),
            (
                ".:53 {\n  forward . __PILLAR__UPSTREAM__SERVERS__ {\n\t force_tcp\n  }\n}",
                &default,
                ".:53 {\n  forward . /etc/resolv.conf {\n\t force_tcp\n  }\n}",
            ),
            (
                ".:53 {\n  forward . __PILLAR__UPSTREAM__SERVERS__ {\n\t force_tcp\n  }\n}",
                &servers,
                ".:53 {\n  forward . 8.8.8.8 8.8.4.4:5353 {\n\t \n  }\n}",
            ),
            (
                ". {\n forward . __PILLAR__UPSTREAM__SERVERS__ {\n force_tcp\n expire 5s\n }\n}",
                &servers,
                ". {\n forward . 8.8.8.8 8.8.4.4:5353 {\n force_tcp\n expire 5s\n }\n}",
            ),
            (
                ". {\n forward . __PILLAR__CLUSTER__DNS__ {\n force_tcp\n }\n}",
                &servers,
                ". {\n forward . 10.96.3.4 {\n force_tcp\n }\n}",
            ),
            ("}__PILLAR__DNS__DOMAIN__", &servers, "}__PILLAR__DNS__DOMAIN__"),
        ] {
            assert_eq!(rendered(base, kube_dns), expected, "{base}");
        }
    }

    #[test]
    fn a_stub_domain_becomes_a_server_block() {
        let stubs = vec![("acme.local".to_owned(), vec!["1.2.3.4".to_owned(); 2])];
        let text = rendered("# base", &KubeDnsSettings { upstreams: Vec::new(), stubs });
        let block = "acme.local:53 {\n    errors\n    cache 30\n    \
                     bind 169.254.20.10 10.96.0.10\n    forward . 1.2.3.4 1.2.3.4\n}\n";
        assert_eq!(text, format!("# base\n{block}"));
    }
}
