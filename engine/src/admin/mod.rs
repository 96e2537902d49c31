//! The HTTP endpoints `/health`, `/ready` and `/metrics`, and the status page: their listeners.
//!
//! They run in the control plane's tokio runtime. Plugins with the same address share its listener.
//! Invariant: after a failed `open` everything listens as before.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::{Arc, OnceLock};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, lookup_host};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

mod bind_error;
mod connection;
mod endpoint;
mod explain;
mod readiness;
mod self_poll;
mod status;

pub use bind_error::{BindCause, BindError};
pub use endpoint::EndpointKind;
pub use explain::ExplainCall;
pub use readiness::{Monitor, Readiness, ReadyVerdict, Reason};

use crate::io::reuseport::{attach, program_to};
use crate::io::socket::{PortClaim, until_released};
use crate::limits::{EXPLAIN_CALLS_WAITING_MAX, FILE_TIMEOUT, HTTP_BACKLOG};
use crate::metrics::Metrics;
use crate::ports;
use connection::{EndpointData, Plugins};

/// A plugin of the Corefile that listens for HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub plugin: EndpointKind,
    /// `HOST:PORT` or `:PORT`, as written in the Corefile, or `EndpointKind::default_address`.
    pub address: String,
    /// `FILE:LINE` of the directive, for errors.
    pub place: String,
}

/// All listeners. They close when this is dropped.
#[derive(Debug)]
pub struct Admin {
    listeners: Vec<AdminListener>,
    served: Arc<EndpointData>,
    claim: PortClaim,
}

#[derive(Debug)]
struct AdminListener {
    /// As configured; a reload compares it.
    address: SocketAddr,
    /// As bound: another port if `address` has port 0, another wildcard on a host without IPv6.
    local: SocketAddr,
    plugins: Arc<Plugins>,
    socket: Arc<TcpListener>,
    accepting: AbortHandle,
    /// Runs if `health` is among the plugins.
    polling: Option<AbortHandle>,
}

/// The addresses that endpoints listen at, and the plugins at each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<(SocketAddr, Vec<EndpointKind>)>);

/// Endpoints of one address.
struct Wanted<'e> {
    address: SocketAddr,
    /// For errors.
    endpoint: &'e Endpoint,
    plugins: Vec<EndpointKind>,
}

impl Admin {
    /// Listens on all addresses, or on none. Must be called in a tokio runtime. Resolves host
    /// names.
    ///
    /// # Errors
    /// The first endpoint that cannot listen.
    pub async fn bind(
        endpoints: &[Endpoint],
        metrics: Arc<Metrics>,
        readiness: Arc<Readiness>,
        claim: PortClaim,
    ) -> Result<Self, BindError> {
        let explainer = OnceLock::new();
        let served = Arc::new(EndpointData { metrics, readiness, explainer });
        let mut admin = Self { listeners: Vec::new(), served, claim };
        admin.open(endpoints).await?;
        Ok(admin)
    }

    /// Listens at the addresses of the next Corefile as well, and serves its plugins there at once.
    /// What listens already stays as it is. `keep` ends one of the two.
    ///
    /// # Errors
    /// The first endpoint that cannot listen; nothing has changed then.
    pub async fn open(&mut self, endpoints: &[Endpoint]) -> Result<Layout, BindError> {
        let wanted = by_address(endpoints).await?;
        let before = self.layout();
        for Wanted { address, endpoint, plugins } in &wanted {
            let known = self.listeners.iter_mut().find(|listener| listener.address == *address);
            if let Some(listener) = known {
                let mut both = listener.plugins.get();
                both.extend(plugins);
                listener.serve(both, &self.served);
                continue;
            }
            let ours: Vec<_> = self.listeners.iter().map(|listener| listener.local).collect();
            match until_released(|| listen(*address, &ours, self.claim)).await {
                Ok((socket, local)) => {
                    let mut listener = AdminListener::start(*address, local, socket, &self.served);
                    listener.serve(plugins.clone(), &self.served);
                    self.listeners.push(listener);
                }
                Err(error) => {
                    self.keep(&before);
                    return Err(endpoint.error(BindCause::of(error, *address)));
                }
            }
        }
        Ok(Layout(wanted.into_iter().map(|one| (one.address, one.plugins)).collect()))
    }

    /// What listens now.
    #[must_use]
    pub fn layout(&self) -> Layout {
        let of = |listener: &AdminListener| (listener.address, listener.plugins.get());
        Layout(self.listeners.iter().map(of).collect())
    }

    /// Closes the listeners, and the endpoints of others, that are not in this layout.
    pub fn keep(&mut self, layout: &Layout) {
        for mut listener in std::mem::take(&mut self.listeners) {
            match layout.0.iter().find(|(address, _)| *address == listener.address) {
                Some((_, plugins)) => {
                    listener.serve(plugins.clone(), &self.served);
                    self.listeners.push(listener);
                }
                None => {
                    connection::accept_waiting(&listener.socket, &listener.plugins, &self.served);
                }
            }
        }
    }

    /// Requests for `/explain` that are to be answered. Call it once.
    pub fn explain_calls(&self) -> mpsc::Receiver<ExplainCall> {
        let (sender, calls) = mpsc::channel(EXPLAIN_CALLS_WAITING_MAX);
        let _ = self.served.explainer.set(sender);
        calls
    }

    /// Closes the listeners that another process has too: it responds from now on.
    pub fn hand_over(&mut self) {
        let is_shared = |listener: &mut AdminListener| {
            ports::is_shared(listener.local, ports::PortProtocol::Tcp)
        };
        for listener in self.listeners.extract_if(.., is_shared) {
            // The other process's program already gives it what comes now.
            connection::accept_waiting(&listener.socket, &listener.plugins, &self.served);
        }
    }

    /// The listeners, for the log line at start-up. A wildcard shows as `[::]`.
    pub fn listening(&self) -> impl Iterator<Item = (EndpointKind, SocketAddr)> {
        self.listeners.iter().flat_map(|listener| {
            listener.plugins.get().into_iter().map(|plugin| (plugin, listener.local))
        })
    }
}

impl AdminListener {
    fn start(
        address: SocketAddr,
        local: SocketAddr,
        socket: Arc<TcpListener>,
        served: &Arc<EndpointData>,
    ) -> Self {
        let plugins = Arc::<Plugins>::default();
        let accepting =
            connection::accept(Arc::clone(&socket), Arc::clone(&plugins), Arc::clone(served));
        let accepting = tokio::spawn(accepting).abort_handle();
        Self { address, local, plugins, socket, accepting, polling: None }
    }

    fn serve(&mut self, plugins: Vec<EndpointKind>, served: &Arc<EndpointData>) {
        match (&self.polling, plugins.contains(&EndpointKind::Health)) {
            (None, true) => {
                let poll = self_poll::poll(self.local, Arc::clone(&served.metrics));
                self.polling = Some(tokio::spawn(poll).abort_handle());
            }
            (Some(polling), false) => {
                polling.abort();
                self.polling = None;
            }
            (None, false) | (Some(_), true) => {}
        }
        self.plugins.set(plugins);
    }
}

impl Drop for AdminListener {
    fn drop(&mut self) {
        self.accepting.abort();
        // The aborted task drops the socket when it is next polled; this closes it now. Queued
        // clients are reset.
        let _ = SockRef::from(self.socket.as_ref()).shutdown(Shutdown::Read);
        if let Some(polling) = &self.polling {
            polling.abort();
        }
    }
}

impl Endpoint {
    fn error(&self, cause: BindCause) -> BindError {
        let (address, place) = (self.address.clone(), self.place.clone());
        BindError { plugin: self.plugin, address, place, cause }
    }

    /// The address to bind, by the rules of Go's listeners: no host and `0.0.0.0` mean every
    /// address, IPv6 and IPv4; a name means its first IPv4 address if it has one.
    async fn resolve(&self) -> Result<SocketAddr, BindError> {
        let malformed = || self.error(BindCause::Malformed);
        let (host, port) = self.address.rsplit_once(':').ok_or_else(malformed)?;
        let port: u16 = port.parse().map_err(|_| malformed())?;
        if host.is_empty() {
            return Ok((Ipv6Addr::UNSPECIFIED, port).into());
        }
        let is_bracketed = host.starts_with('[') && host.ends_with(']');
        if host.contains(':') && !is_bracketed {
            return Err(malformed());
        }
        // A resolver that does not respond must not block the control loop.
        let addresses: Vec<SocketAddr> = timeout(FILE_TIMEOUT, lookup_host(&self.address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|error| self.error(BindCause::Unresolved(error)))?
            .collect();
        let first_v4 = addresses.iter().find(|address| address.is_ipv4());
        match first_v4.or_else(|| addresses.first()) {
            Some(address) if address.ip().is_unspecified() => {
                Ok((Ipv6Addr::UNSPECIFIED, port).into())
            }
            Some(address) => Ok(*address),
            None => Err(self.error(BindCause::Unresolved(io::ErrorKind::NotFound.into()))),
        }
    }
}

async fn by_address(endpoints: &[Endpoint]) -> Result<Vec<Wanted<'_>>, BindError> {
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for endpoint in endpoints {
        let address = endpoint.resolve().await?;
        match wanted.iter_mut().find(|other| other.address == address) {
            Some(shared) if shared.plugins.contains(&endpoint.plugin) => {}
            Some(shared) => shared.plugins.push(endpoint.plugin),
            None => wanted.push(Wanted { address, endpoint, plugins: vec![endpoint.plugin] }),
        }
    }
    Ok(wanted)
}

/// Binds and listens. `[::]` includes IPv4; on a host without IPv6 it becomes 0.0.0.0.
fn listen(
    address: SocketAddr,
    ours: &[SocketAddr],
    claim: PortClaim,
) -> io::Result<(Arc<TcpListener>, SocketAddr)> {
    let socket = match open_beside(address, ours, claim) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            open_beside((Ipv4Addr::UNSPECIFIED, address.port()).into(), ours, claim)?
        }
        outcome => outcome?,
    };
    let listener = TcpListener::from_std(socket.into())?;
    let local = listener.local_addr()?;
    Ok((Arc::new(listener), local))
}

/// Binds alone on the port, so that another process's listener is an error instead of silently
/// taking a part of the requests. Only our own listeners may overlap, like `:8080` and
/// `127.0.0.1:8080`, and those of the process that this one takes over from.
fn open_beside(address: SocketAddr, ours: &[SocketAddr], claim: PortClaim) -> io::Result<Socket> {
    let error = match open(address, Port::Alone) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => error,
        outcome => return outcome,
    };
    let overlaps_ours = ours.iter().any(|local| local.port() == address.port())
        && ports::is_ours_alone(address, ports::PortProtocol::Tcp);
    match claim {
        PortClaim::TakeOver => {
            let socket = open(address, Port::Shared)?;
            // The older process has the first place. Once that has left, this has it, and no other
            // choice is left. Where the kernel refuses, either process may respond meanwhile.
            let _ = attach(&socket, &program_to(1));
            Ok(socket)
        }
        PortClaim::Alone if overlaps_ours => open(address, Port::Shared),
        PortClaim::Alone => Err(error),
    }
}

/// Whether other sockets of this user may share the port.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Port {
    Alone,
    Shared,
}

fn open(address: SocketAddr, port: Port) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let SocketAddr::V6(address) = address {
        socket.set_only_v6(*address.ip() != Ipv6Addr::UNSPECIFIED)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(port == Port::Shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // From now on others may share it that ask for it.
    socket.set_reuse_port(true)?;
    socket.listen(HTTP_BACKLOG)?;
    Ok(socket)
}
