//! The interface with the node's DNS addresses: a dummy, which sends nothing anywhere.
//!
//! Invariant: an interface that ringdns has not made loses its addresses of DNS at the end, and
//! stays.

use std::ffi::CStr;
use std::io;
use std::net::IpAddr;

use engine::cli::node::NodeOptions;
use netlink_bindings::rt_addr::{self, Ifaddrmsg};
use netlink_bindings::rt_link::{self, Ifinfomsg};
use netlink_socket2::{NetlinkSocket, ReplyError};

/// Takes the addresses where the kernel has no dummy interfaces.
const LOOPBACK: &str = "lo";
/// The alias of interfaces that ringdns has made.
const OURS: &CStr = c"ringdns";

/// The interface, which may not be there yet.
pub(super) struct Interface {
    name: String,
    ips: Vec<IpAddr>,
}

/// The kernel's interface of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NodeLink {
    index: u32,
    /// Made by ringdns.
    is_ours: bool,
}

impl Interface {
    pub(super) fn new(options: &NodeOptions) -> Self {
        let NodeOptions { interface_name, local_ips, .. } = options;
        Self { name: interface_name.clone(), ips: local_ips.clone() }
    }

    /// Adds the interface and its addresses, as far as they are missing.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn ensure(&mut self) -> io::Result<()> {
        let mut socket = NetlinkSocket::new();
        let found = match link(&mut socket, &self.name) {
            Some(link) => Some(link),
            None => match add_dummy(&mut socket, &self.name) {
                Ok(()) => {
                    let made = link(&mut socket, &self.name);
                    made.map(|made| NodeLink { is_ours: true, ..made })
                }
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    tracing::warn!(
                        "node mode: this kernel has no dummy interfaces, so {LOOPBACK} gets the \
                         addresses instead of {}",
                        self.name
                    );
                    self.name = LOOPBACK.to_owned();
                    link(&mut socket, LOOPBACK)
                }
                Err(error) => return Err(error),
            },
        };
        let Some(NodeLink { index, is_ours }) = found else {
            return Err(io::ErrorKind::NotFound.into());
        };
        set_up(&mut socket, index, is_ours)?;
        for ip in &self.ips {
            add_address(&mut socket, index, *ip)?;
        }
        Ok(())
    }

    /// Also if an earlier process added it. What fails stays.
    pub(super) fn remove(&self) {
        let mut socket = NetlinkSocket::new();
        let Some(NodeLink { index, is_ours }) = link(&mut socket, &self.name) else { return };
        if is_ours {
            let header = Ifinfomsg { ifi_index: index as i32, ..Ifinfomsg::new() };
            let request = rt_link::Request::new().op_dellink_do(&header);
            let _ = acknowledged(socket.request(&request).map(|mut reply| reply.recv_ack()));
            return;
        }
        for ip in &self.ips {
            let mut request = rt_addr::Request::new().op_deladdr_do(&address_header(index, *ip));
            // Without the second attribute the kernel takes the first network with this address.
            request.encode().push_local(*ip).push_address(*ip);
            let _ = acknowledged(socket.request(&request).map(|mut reply| reply.recv_ack()));
        }
    }
}

/// `None` if there is no interface of this name.
fn link(socket: &mut NetlinkSocket, name: &str) -> Option<NodeLink> {
    let mut request = rt_link::Request::new().op_getlink_do(&Ifinfomsg::new());
    request.encode().push_ifname_bytes(name.as_bytes());
    let mut reply = socket.request(&request).ok()?;
    let (header, attributes) = reply.recv_one().ok()?;
    let is_ours = attributes.get_ifalias() == Ok(OURS);
    Some(NodeLink { index: u32::try_from(header.ifi_index).ok()?, is_ours })
}

fn add_dummy(socket: &mut NetlinkSocket, name: &str) -> io::Result<()> {
    let header = Ifinfomsg::new();
    let mut request = rt_link::Request::new().set_create().set_excl().op_newlink_do(&header);
    request.encode().push_ifname_bytes(name.as_bytes()).nested_linkinfo().push_kind(c"dummy");
    acknowledged(socket.request(&request).map(|mut reply| reply.recv_ack()))
}

/// IPv6 addresses need an interface that is up. The kernel takes no alias when it makes one.
fn set_up(socket: &mut NetlinkSocket, index: u32, is_ours: bool) -> io::Result<()> {
    let up = libc::IFF_UP as u32;
    let index = index as i32;
    let header = Ifinfomsg { ifi_index: index, ifi_flags: up, ifi_change: up, ..Ifinfomsg::new() };
    let mut request = rt_link::Request::new().op_setlink_do(&header);
    if is_ours {
        request.encode().push_ifalias_bytes(OURS.to_bytes());
    }
    acknowledged(socket.request(&request).map(|mut reply| reply.recv_ack()))
}

/// The interface may have it already.
fn add_address(socket: &mut NetlinkSocket, index: u32, ip: IpAddr) -> io::Result<()> {
    let header = address_header(index, ip);
    let mut request = rt_addr::Request::new().set_create().set_excl().op_newaddr_do(&header);
    request.encode().push_local(ip);
    match acknowledged(socket.request(&request).map(|mut reply| reply.recv_ack())) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// One address, not a network. Nobody else has it, so IPv6 need not look for duplicates.
fn address_header(index: u32, ip: IpAddr) -> Ifaddrmsg {
    let (family, prefix_len) = match ip {
        IpAddr::V4(_) => (libc::AF_INET, 32),
        IpAddr::V6(_) => (libc::AF_INET6, 128),
    };
    Ifaddrmsg {
        ifa_family: family as u8,
        ifa_prefixlen: prefix_len,
        ifa_flags: libc::IFA_F_NODAD as u8,
        ifa_index: index,
        ..Ifaddrmsg::new()
    }
}

/// The kernel's response to a request, or why it was not sent.
fn acknowledged(reply: io::Result<Result<(), ReplyError>>) -> io::Result<()> {
    reply?.map_err(io::Error::from)
}
