//! A `forward` line made ready: resolv.conf files read, host names looked up, certificates loaded. The control plane's work.
//!
//! Immutable and shared by all shards, but for the one thing that they find out together: whether an upstream loops.
//! Invariant: 1 to `UPSTREAMS_MAX` upstreams.

use std::fmt;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use resolv_conf::{Config, ScopedIp};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

use super::looping::Probe;
use super::{host, tls};
use crate::corefile::{Forward, Target, UpstreamTls, Zone};
use crate::limits::UPSTREAMS_MAX;
use crate::metrics::{Metrics, UpstreamMetrics};

/// What a `forward` line comes to.
#[derive(Debug)]
pub struct Settings {
    pub options: Forward,
    /// In the order of the line; a file or a host may stand for several.
    pub upstreams: Vec<Upstream>,
    /// What was read: when one of them changes, the settings must be made anew.
    pub files: Vec<PathBuf>,
}

/// A server that is asked.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    pub origin: Origin,
    pub way: Way,
    pub(super) metrics: Arc<UpstreamMetrics>,
    /// Where `loop` is on.
    pub(super) probe: Option<Probe>,
}

/// How an upstream's address is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Corefile,
    /// A name server of this file.
    ResolvConf(PathBuf),
    /// An address of this host.
    Host(String),
}

/// How an upstream is spoken to.
#[derive(Clone, Debug)]
pub enum Way {
    /// Over UDP and TCP.
    Dns,
    /// Over TLS (RFC 7858). The certificate must be for this name.
    Tls { server_name: ServerName<'static>, config: Arc<ClientConfig> },
}

/// Why a `forward` line cannot be put to work.
#[derive(Debug)]
pub enum SettingsError {
    File { path: PathBuf, problem: String },
    Host { name: String, problem: String },
    ServerName(String),
    NoSystemCertificates(String),
    Tls(rustls::Error),
    TooMany { count: usize },
}

impl Settings {
    /// Reads what the line names. `probe_zone`: the block's zone, if it has `loop`.
    ///
    /// # Errors
    /// The file or host that cannot be had, and why.
    pub async fn load(
        options: &Forward,
        probe_zone: Option<&Zone>,
        metrics: &Metrics,
    ) -> Result<Self, SettingsError> {
        let mut files: Vec<PathBuf> = Vec::new();
        let mut upstreams = Vec::new();
        let mut tls_config = None;
        let has_tls = |target: &Target| match target {
            Target::Tls { .. } | Target::Host { is_tls: true, .. } => true,
            Target::Dns(_) | Target::Host { is_tls: false, .. } | Target::ResolvConf(_) => false,
        };
        if options.to.iter().any(has_tls) {
            let default = UpstreamTls::default();
            let chosen = options.tls.as_ref().unwrap_or(&default);
            files.extend(tls::files(chosen).cloned());
            tls_config = Some(tls::client_config(chosen)?);
        }
        for target in &options.to {
            if let Target::ResolvConf(path) = target {
                files.push(path.clone());
            }
            for (address, origin) in addresses(target, &options.resolver).await? {
                let way = match &tls_config {
                    Some(config) if has_tls(target) => Way::Tls {
                        server_name: server_name(target, options, address)?,
                        config: Arc::clone(config),
                    },
                    Some(_) | None => Way::Dns,
                };
                let probe = probe_zone.and_then(Probe::new);
                let metrics = metrics.upstream(address);
                upstreams.push(Upstream { address, origin, way, metrics, probe });
            }
        }
        if upstreams.len() > UPSTREAMS_MAX {
            return Err(SettingsError::TooMany { count: upstreams.len() });
        }
        Ok(Self { options: options.clone(), upstreams, files })
    }
}

/// The addresses that a target stands for; at least one.
async fn addresses(
    target: &Target,
    resolvers: &[SocketAddr],
) -> Result<Vec<(SocketAddr, Origin)>, SettingsError> {
    match target {
        Target::Dns(address) | Target::Tls { address, .. } => {
            Ok(vec![(*address, Origin::Corefile)])
        }
        Target::Host { name, port, .. } => {
            let found = host::look_up(name, resolvers).await;
            let found = found
                .map_err(|problem| SettingsError::Host { name: name.clone(), problem })?
                .into_iter();
            Ok(found.map(|ip| (SocketAddr::new(ip, *port), Origin::Host(name.clone()))).collect())
        }
        Target::ResolvConf(path) => {
            let text = std::fs::read(path).map_err(|error| SettingsError::file(path, &error))?;
            let servers = name_servers(&text);
            if servers.is_empty() {
                return Err(SettingsError::file(path, &"it has no line `nameserver ADDRESS`"));
            }
            Ok(servers
                .into_iter()
                .map(|address| (address, Origin::ResolvConf(path.clone())))
                .collect())
        }
    }
}

/// The name servers of a resolv.conf, each once. Lines that make no sense are passed over, as every resolver does.
fn name_servers(text: &[u8]) -> Vec<SocketAddr> {
    let (config, _) = Config::parse_with_errors(text);
    let mut servers = Vec::new();
    for server in config.nameservers {
        let address = match server {
            ScopedIp::V4(ip) => SocketAddr::new(IpAddr::V4(ip), 53),
            ScopedIp::V6(ip, None) => SocketAddr::new(IpAddr::V6(ip), 53),
            ScopedIp::V6(ip, Some(scope)) => match scope_id(&scope) {
                Some(scope_id) => SocketAddr::V6(SocketAddrV6::new(ip, 53, 0, scope_id)),
                None => continue,
            },
        };
        if !servers.contains(&address) {
            servers.push(address);
        }
    }
    servers
}

/// The index of an interface, given by number or name (RFC 4007, section 11.2).
fn scope_id(scope: &str) -> Option<u32> {
    scope.parse().ok().or_else(|| {
        let interfaces = if_addrs::get_if_addrs().ok()?;
        interfaces.iter().find(|interface| interface.name == scope)?.index
    })
}

/// The name that the upstream must prove: its own, else that of `tls_servername`, else its host's, else its address.
fn server_name(
    target: &Target,
    options: &Forward,
    address: SocketAddr,
) -> Result<ServerName<'static>, SettingsError> {
    let (own, host) = match target {
        Target::Tls { server_name, .. } => (server_name.as_ref(), None),
        Target::Host { name, .. } => (None, Some(name)),
        Target::Dns(_) | Target::ResolvConf(_) => (None, None),
    };
    match own.or(options.tls_servername.as_ref()).or(host) {
        Some(name) => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .map_err(|_| SettingsError::ServerName(name.clone())),
        None => Ok(ServerName::IpAddress(address.ip().into())),
    }
}

impl SettingsError {
    pub(super) fn file(path: &Path, problem: &dyn fmt::Display) -> Self {
        Self::File { path: path.to_owned(), problem: problem.to_string() }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, problem } => write!(formatter, "{}: {problem}", path.display()),
            Self::Host { name, problem } => {
                write!(formatter, "no upstream at {name}: looking up its address: {problem}")
            }
            Self::ServerName(name) => {
                write!(formatter, "{name} is no name that a certificate can be for")
            }
            Self::NoSystemCertificates(problem) => write!(
                formatter,
                "no certificates of authorities on this system ({problem}): name a file of them: `tls CA`, or install ca-certificates"
            ),
            Self::Tls(error) => write!(formatter, "tls: {error}"),
            Self::TooMany { count } => {
                write!(formatter, "more than {UPSTREAMS_MAX} TOs configured: {count}")
            }
        }
    }
}

impl std::error::Error for SettingsError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let expected: Vec<SocketAddr> =
            expected.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(name_servers(text.as_bytes()), expected, "{text}");
    }

    #[test]
    fn name_servers_of_a_resolv_conf() {
        check(
            "# nameserver 10.0.0.9\n; nameserver 10.0.0.8\nsearch a.example b.example\n\
             nameserver 10.0.0.1\n  nameserver\t10.0.0.2 # the second\noptions ndots:5 new-option\n\
             sortlist 10.0.0.0/33\nnonsense\nnameserver 10.0.0.1\nnameserver fd00::1\n",
            &["10.0.0.1:53", "10.0.0.2:53", "[fd00::1]:53"],
        );
        check("nameserver 127.0.0.53\r\noptions edns0 trust-ad\r\n", &["127.0.0.53:53"]);
        check("nameserver fe80::1%7\nnameserver fe80::2%no-such-if0\n", &["[fe80::1%7]:53"]);
        check("nameserver fe80::1%lo\n", &["[fe80::1%1]:53"]);
        check("", &[]);
        check(
            "nameserver\nnameserver dns.example\nnameserver 10.0.0.300\nNAMESERVER 1.1.1.1\n",
            &[],
        );
        assert_eq!(
            name_servers(b"nameserver \xFF\nnameserver 10.0.0.1"),
            ["10.0.0.1:53".parse().unwrap()]
        );
    }
}
