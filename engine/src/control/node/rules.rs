//! Rules of nftables that keep the node's DNS out of connection tracking. Tracked UDP fills the
//! node's table of connections, and two queries from one port at once can lose one of them.
//!
//! Each process has a table of its own for each family, owned by its netlink socket: no other
//! program can change it, and the kernel removes it with the socket, also of a killed process.
//! Invariant: rules are added all at once or not at all.

use std::ffi::CString;
use std::io;
use std::net::IpAddr;

use engine::cli::node::NodeOptions;
use netlink_bindings::nftables::{
    Chained, CmpOps, MetaKeys, Nfgenmsg, PayloadBase, PushExprListAttrs, Registers, TableFlags,
};
use netlink_bindings::traits::Pusher;
use netlink_socket2::NetlinkSocket;

/// nf_tables' number among the subsystems of netfilter.
const NFTABLES: u16 = 10;
/// Before connection tracking, as iptables' table `raw`.
const BEFORE_TRACKING: i32 = -300;
/// Where packets from other machines and pods come in, and where this node's own go out.
const HOOKS: [(&std::ffi::CStr, u32); 2] = [
    (c"prerouting", libc::NF_INET_PRE_ROUTING as u32),
    (c"output", libc::NF_INET_LOCAL_OUT as u32),
];

/// Rules that stay while this lives.
pub(super) struct TrackingRules {
    _socket: NetlinkSocket,
}

/// The packets that a rule keeps out of tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packets {
    ip: IpAddr,
    end: PacketEnd,
    protocol: i32,
    port: u16,
}

/// Which end of a packet is the DNS server's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PacketEnd {
    Source,
    Destination,
}

impl TrackingRules {
    /// # Errors
    /// The kernel's: it lacks nf_tables, or owned tables (before Linux 5.12).
    pub(super) fn add(options: &NodeOptions, port: u16) -> io::Result<Self> {
        let mut socket = NetlinkSocket::new();
        let table = format!("ringdns-{}-{:x}", options.interface_name, rand::random::<u32>());
        let table = CString::new(table)?;
        for family in [libc::AF_INET, libc::AF_INET6] {
            let ips: Vec<_> =
                options.local_ips.iter().filter(|ip| family_of(**ip) == family).collect();
            if ips.is_empty() {
                continue;
            }
            let mut batch = Chained::new(socket.reserve_seq(256));
            let mut whole = Nfgenmsg::new();
            whole.set_res_id(NFTABLES);
            let header = Nfgenmsg { nfgen_family: family as u8, ..Nfgenmsg::new() };
            batch.request().op_batch_begin_do(&whole);
            let mut request = batch.request().set_create().op_newtable_do(&header);
            request.encode().push_name(&table).push_flags(TableFlags::Owner as u32);
            drop(request);
            for (chain, hook) in HOOKS {
                let mut request = batch.request().set_create().op_newchain_do(&header);
                let chained = request.encode().push_table(&table).push_name(chain);
                chained
                    .nested_hook()
                    .push_num(hook)
                    .push_priority(BEFORE_TRACKING)
                    .end_nested()
                    .push_type(c"filter");
                drop(request);
                for packets in
                    ips.iter().flat_map(|ip| packets(**ip, port, options.health_port, hook))
                {
                    let create = batch.request().set_create().set_append();
                    let mut request = create.op_newrule_do(&header);
                    let rule = request.encode().push_table(&table).push_chain(chain);
                    untracked(rule.nested_expressions(), packets);
                }
            }
            batch.request().op_batch_end_do(&whole);
            socket.request_chained(&batch.finalize())?.recv_all().map_err(io::Error::from)?;
        }
        Ok(Self { _socket: socket })
    }
}

fn family_of(ip: IpAddr) -> i32 {
    if ip.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

/// Queries and responses of one address. Those that come in are queries; those that go out are
/// either, because clients run on the node too.
fn packets(ip: IpAddr, port: u16, health_port: u16, hook: u32) -> Vec<Packets> {
    let ends: &[PacketEnd] = match hook == libc::NF_INET_LOCAL_OUT as u32 {
        true => &[PacketEnd::Destination, PacketEnd::Source],
        false => &[PacketEnd::Destination],
    };
    let ports =
        [(libc::IPPROTO_UDP, port), (libc::IPPROTO_TCP, port), (libc::IPPROTO_TCP, health_port)];
    let with_end =
        |end: &PacketEnd| ports.map(|(protocol, port)| Packets { ip, end: *end, protocol, port });
    ends.iter().flat_map(with_end).collect()
}

/// Compares parts of the packet with `packets`, counts it, and keeps it out of tracking.
fn untracked<P: Pusher>(list: PushExprListAttrs<P>, packets: Packets) {
    let Packets { ip, end, protocol, port } = packets;
    let (address, address_offset) = match (ip, end) {
        (IpAddr::V4(ip), PacketEnd::Source) => (ip.octets().to_vec(), 12),
        (IpAddr::V4(ip), PacketEnd::Destination) => (ip.octets().to_vec(), 16),
        (IpAddr::V6(ip), PacketEnd::Source) => (ip.octets().to_vec(), 8),
        (IpAddr::V6(ip), PacketEnd::Destination) => (ip.octets().to_vec(), 24),
    };
    let port_offset = match end {
        PacketEnd::Source => 0,
        PacketEnd::Destination => 2,
    };
    let list = list
        .nested_elem()
        .nested_data_meta()
        .push_dreg(Registers::Reg1 as u32)
        .push_key(MetaKeys::L4Proto as u32)
        .end_nested()
        .end_nested();
    let list = equals(list, &[protocol as u8]);
    let list = load(list, PayloadBase::NetworkHeader, address_offset, address.len());
    let list = equals(list, &address);
    let list = load(list, PayloadBase::TransportHeader, port_offset, size_of::<u16>());
    let list = equals(list, &port.to_be_bytes());
    list.nested_elem()
        .nested_data_counter()
        .push_bytes(0)
        .push_packets(0)
        .end_nested()
        .end_nested()
        .nested_elem()
        .push_name(c"notrack")
        .end_nested()
        .end_nested();
}

/// Loads bytes of the packet into the first register.
fn load<P: Pusher>(
    list: PushExprListAttrs<P>,
    base: PayloadBase,
    offset: u32,
    len: usize,
) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_payload()
        .push_dreg(Registers::Reg1 as u32)
        .push_base(base as u32)
        .push_offset(offset)
        .push_len(len as u32)
        .end_nested()
        .end_nested()
}

/// The rule ends here unless the first register has this value.
fn equals<P: Pusher>(list: PushExprListAttrs<P>, value: &[u8]) -> PushExprListAttrs<P> {
    list.nested_elem()
        .nested_data_cmp()
        .push_sreg(Registers::Reg1 as u32)
        .push_op(CmpOps::Eq as u32)
        .nested_data()
        .push_value(value)
        .end_nested()
        .end_nested()
        .end_nested()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_come_in_and_both_go_out() {
        let ip = IpAddr::from([169, 254, 20, 10]);
        let count = |hook: i32, end| {
            let all = packets(ip, 53, 8080, hook as u32);
            all.iter().filter(|packets| packets.end == end).count()
        };
        assert_eq!(count(libc::NF_INET_PRE_ROUTING, PacketEnd::Destination), 3);
        assert_eq!(count(libc::NF_INET_PRE_ROUTING, PacketEnd::Source), 0);
        assert_eq!(count(libc::NF_INET_LOCAL_OUT, PacketEnd::Destination), 3);
        assert_eq!(count(libc::NF_INET_LOCAL_OUT, PacketEnd::Source), 3);
    }
}
