//! A `forward` line ready for use: resolv.conf files read, host names resolved, certificates
//! loaded. The control plane does that.
//!
//! All shards share the settings. They are immutable but for which upstreams loop, and how many
//! questions are in flight.
//! Invariant: 1 to `UPSTREAMS_MAX` upstreams.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

use super::in_flight::InFlight;
use super::looping::Probe;
use super::resolv_conf::{name_servers, upstream_address};
use super::{host, tls};
use crate::corefile::Place;
use crate::corefile::value::target::Target;
use crate::corefile::value::zone::Zone;
use crate::forward::options::{ForwardOptions, UpstreamTls};
use crate::limits::{FORWARD_TIMEOUT, RESOLV_CONF_LEN_MAX, UPSTREAMS_MAX};
use crate::metrics::{Metrics, UpstreamMetrics};

/// A `forward` line, ready for the shards.
#[derive(Debug)]
pub struct ForwardSettings {
    pub options: ForwardOptions,
    /// In the order of the line; a file or a host may yield several.
    pub upstreams: Vec<Upstream>,
    /// The files read. If one of them changes, load the settings again.
    pub files: Vec<PathBuf>,
    /// Messages for the log: what was skipped, and what to do about it.
    pub warnings: Vec<String>,
    pub(super) in_flight: InFlight,
}

/// One upstream server.
#[derive(Debug)]
pub struct Upstream {
    pub address: SocketAddr,
    pub origin: AddressOrigin,
    pub way: Way,
    pub(super) metrics: Arc<UpstreamMetrics>,
    /// `None` without `loop`.
    pub(super) probe: Option<Probe>,
}

/// Where an upstream's address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOrigin {
    Corefile,
    /// A name server of this file.
    ResolvConf(PathBuf),
    /// An address of this host.
    Host(String),
}

/// Plain DNS or DNS over TLS.
#[derive(Clone, Debug)]
pub enum Way {
    /// Over UDP and TCP.
    Dns,
    /// Over TLS (RFC 7858). The certificate must be for this name.
    Tls { server_name: ServerName<'static>, config: Arc<ClientConfig> },
}

/// Why a `forward` line cannot be used.
#[derive(Debug)]
pub enum SettingsError {
    File { path: PathBuf, problem: String },
    Host { name: String, problem: String },
    ServerName(String),
    NoSystemCertificates(Vec<String>),
    Tls(rustls::Error),
    NoUpstream(Vec<String>),
}

impl ForwardSettings {
    /// Reads the files and resolves the hosts of the line. `probe_zone`: the block's zone, if the
    /// block has `loop`.
    ///
    /// # Errors
    /// The file or host that is unavailable, and why.
    pub async fn load(
        options: &ForwardOptions,
        probe_zone: Option<&Zone>,
        metrics: &Metrics,
    ) -> Result<Self, SettingsError> {
        let mut files: Vec<PathBuf> = Vec::new();
        let mut upstreams = Vec::new();
        let mut tls_config = None;
        let has_tls = |target: &Target| match target {
            Target::Tls { .. } | Target::Host { is_tls: true, .. } => true,
            Target::Dns(_) | Target::LinkLocal { .. } => false,
            Target::Host { is_tls: false, .. } | Target::ResolvConf(_) => false,
        };
        if options.to.iter().any(has_tls) {
            let default = UpstreamTls::default();
            let chosen = options.tls.as_ref().unwrap_or(&default);
            files.extend(tls::files(chosen).cloned());
            tls_config = Some(tls::client_config(chosen)?);
        }
        let mut found = ResolvedTargets::default();
        for target in &options.to {
            if let Target::ResolvConf(path) = target {
                files.push(path.clone());
            }
            found.add(target, &options.resolver).await?;
        }
        for (target, address, origin) in found.take_usable()? {
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
        let in_flight = InFlight::new(metrics.shard_count(), options.max_concurrent);
        let (options, warnings) = (options.clone(), found.warnings);
        Ok(Self { options, upstreams, files, warnings, in_flight })
    }
}

type Located<'t> = (&'t Target, SocketAddr, AddressOrigin);

/// The addresses of the targets so far.
#[derive(Default)]
struct ResolvedTargets<'t> {
    upstreams: Vec<Located<'t>>,
    /// Their interface is missing. Used only if there is no other upstream: the error of connecting
    /// says what is wrong.
    unreachable: Vec<Located<'t>>,
    warnings: Vec<String>,
}

impl<'t> ResolvedTargets<'t> {
    async fn add(
        &mut self,
        target: &'t Target,
        resolvers: &[SocketAddr],
    ) -> Result<(), SettingsError> {
        match target {
            Target::Dns(address) | Target::Tls { address, .. } => {
                match upstream_address(address.ip(), None, address.port()) {
                    Ok(address) => self.upstreams.push((target, address, AddressOrigin::Corefile)),
                    // The Corefile's parser has warned.
                    Err(error) => {
                        let bare = error.bare(address.port());
                        self.unreachable.push((target, bare, AddressOrigin::Corefile));
                    }
                }
            }
            Target::LinkLocal { ip, interface, port } => {
                match upstream_address((*ip).into(), Some(interface), *port) {
                    Ok(address) => self.upstreams.push((target, address, AddressOrigin::Corefile)),
                    Err(error) => {
                        self.warnings.push(error.to_string());
                        self.unreachable.push((target, error.bare(*port), AddressOrigin::Corefile));
                    }
                }
            }
            Target::Host { name, port, .. } => {
                let found = host::look_up(name, resolvers).await;
                let found = found
                    .map_err(|problem| SettingsError::Host { name: name.clone(), problem })?
                    .into_iter();
                let origin = AddressOrigin::Host(name.clone());
                self.upstreams
                    .extend(found.map(|ip| (target, SocketAddr::new(ip, *port), origin.clone())));
            }
            Target::ResolvConf(path) => {
                let text = read(path).await.map_err(|error| SettingsError::file(path, &error))?;
                let found = name_servers(&text);
                let origin = AddressOrigin::ResolvConf(path.clone());
                let located = |address| (target, address, origin.clone());
                if found.addresses.is_empty() && found.unreachable.is_empty() {
                    let message = "it has no line `nameserver ADDRESS` that can be used";
                    self.warnings.push(format!("{}: {message}", path.display()));
                }
                self.upstreams.extend(found.addresses.into_iter().map(located));
                self.unreachable.extend(found.unreachable.into_iter().map(located));
                let problems = found.problems.iter();
                self.warnings
                    .extend(problems.map(|problem| format!("{}: {problem}", path.display())));
            }
        }
        Ok(())
    }

    /// 1 to `UPSTREAMS_MAX` upstreams.
    fn take_usable(&mut self) -> Result<Vec<Located<'t>>, SettingsError> {
        let mut upstreams = std::mem::take(&mut self.upstreams);
        if upstreams.is_empty() {
            upstreams = std::mem::take(&mut self.unreachable);
        }
        if upstreams.is_empty() {
            return Err(SettingsError::NoUpstream(std::mem::take(&mut self.warnings)));
        }
        if upstreams.len() > UPSTREAMS_MAX {
            self.warnings.push(format!(
                "only the first {UPSTREAMS_MAX} of {} upstreams are used: shorten the list, or \
                 split it between server blocks",
                upstreams.len()
            ));
            upstreams.truncate(UPSTREAMS_MAX);
        }
        Ok(upstreams)
    }
}

/// A file's bytes. A file that hangs, on a network or as a pipe, does not block the control plane.
async fn read(path: &Path) -> io::Result<Vec<u8>> {
    let path = path.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        File::open(path)?.take(RESOLV_CONF_LEN_MAX).read_to_end(&mut bytes)?;
        Ok::<_, io::Error>(bytes)
    });
    match tokio::time::timeout(FORWARD_TIMEOUT, reading).await {
        Ok(read) => read.unwrap_or_else(|error| Err(io::Error::other(error))),
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not read within {FORWARD_TIMEOUT:?}"),
        )),
    }
}

/// The name that the upstream's certificate must be for: the target's own, else `tls_servername`,
/// else the host's name, else the address.
fn server_name(
    target: &Target,
    options: &ForwardOptions,
    address: SocketAddr,
) -> Result<ServerName<'static>, SettingsError> {
    let (own, host) = match target {
        Target::Tls { server_name, .. } => (server_name.as_ref(), None),
        Target::Host { name, .. } => (None, Some(name)),
        Target::Dns(_) | Target::LinkLocal { .. } | Target::ResolvConf(_) => (None, None),
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

impl SettingsError {
    /// The place in the Corefile that the error is about.
    #[must_use]
    pub fn place<'o>(&self, options: &'o ForwardOptions) -> &'o Place {
        let is_of_tls = match self {
            Self::Tls(_) | Self::NoSystemCertificates(_) => true,
            Self::File { path, .. } => {
                options.tls.iter().flat_map(tls::files).any(|file| file == path)
            }
            Self::Host { .. } | Self::ServerName(_) | Self::NoUpstream(_) => false,
        };
        options.tls_place.as_ref().filter(|_| is_of_tls).unwrap_or(&options.place)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, problem } => write!(formatter, "{}: {problem}", path.display()),
            Self::Host { name, problem } => {
                write!(formatter, "look up upstream {name}: {problem}")
            }
            Self::ServerName(name) => {
                write!(formatter, "{name} is not a valid name for a TLS certificate")
            }
            Self::NoSystemCertificates(problems) => {
                formatter.write_str("no CA certificates on this system")?;
                if !problems.is_empty() {
                    write!(formatter, " ({})", problems.join("; "))?;
                }
                formatter
                    .write_str(": name a file of them with `tls CA`, or install ca-certificates")
            }
            Self::Tls(error) => write!(formatter, "tls: {error}"),
            Self::NoUpstream(problems) => {
                write!(formatter, "no usable upstream: {}", problems.join("; "))
            }
        }
    }
}

impl std::error::Error for SettingsError {}
