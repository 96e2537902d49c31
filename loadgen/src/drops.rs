//! Packets that the kernel dropped because a socket buffer was full: in our sockets, and in the
//! server's if it runs on this machine.
//!
//! A run that dropped responses in its own buffers measured itself, so the report must say so.

use std::collections::HashSet;
use std::fs;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// A row of /proc/net/udp or udp6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SocketRow {
    local_port: u16,
    /// 0 for a socket that is not connected, such as a server's.
    remote_port: u16,
    inode: u64,
    drops: u64,
}

fn rows() -> Vec<SocketRow> {
    ["/proc/net/udp", "/proc/net/udp6"]
        .into_iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|text| text.lines().skip(1).filter_map(row).collect::<Vec<_>>())
        .collect()
}

/// Columns as in the kernel's udp4_seq_show: 1 and 2 are the addresses, 9 the inode, the last the
/// drops.
fn row(line: &str) -> Option<SocketRow> {
    // No allocation per row: a machine may have thousands of sockets.
    let mut words = line.split_ascii_whitespace();
    let port = |word: &str| u16::from_str_radix(word.rsplit_once(':')?.1, 16).ok();
    Some(SocketRow {
        local_port: port(words.nth(1)?)?,
        remote_port: port(words.next()?)?,
        inode: words.nth(9 - 3)?.parse().ok()?,
        drops: words.nth(12 - 10)?.parse().ok()?,
    })
}

/// A socket's inode, which identifies it in /proc/net/udp.
pub fn inode(socket: &impl AsRawFd) -> Option<u64> {
    fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))
        .ok()
        .map(|metadata| metadata.ino())
}

/// Total drops of the sockets with these inodes.
pub fn own(inodes: &HashSet<u64>) -> u64 {
    rows().iter().filter(|row| inodes.contains(&row.inode)).map(|row| row.drops).sum()
}

/// Total drops of all sockets on the server's port; `None` unless the server is on loopback.
pub fn of_server(server: SocketAddr) -> Option<u64> {
    server.ip().is_loopback().then(|| {
        let is_servers = |row: &&SocketRow| row.local_port == server.port() && row.remote_port == 0;
        rows().iter().filter(is_servers).map(|row| row.drops).sum()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_kernels_rows_are_parsed() {
        let line = " 1234: 0100007F:14B4 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
                    0        0 90123 2 ffff888003b5a000 77";
        let expected = SocketRow { local_port: 5300, remote_port: 0, inode: 90_123, drops: 77 };
        assert_eq!(row(line), Some(expected));
        assert_eq!(row("sl local_address"), None);
    }

    #[test]
    fn drops_of_a_full_buffer_are_counted() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&receiver).set_recv_buffer_size(1).unwrap();
        for _ in 0..100 {
            sender.send_to(&[0; 512], receiver.local_addr().unwrap()).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        let mut kept = 0;
        while receiver.recv(&mut [0; 512]).is_ok() {
            kept += 1;
        }
        let drops = own(&HashSet::from([inode(&receiver).unwrap()]));
        assert_eq!(drops + kept, 100);
        assert_eq!(of_server(receiver.local_addr().unwrap()), Some(drops));
        assert_eq!(of_server("192.0.2.1:53".parse().unwrap()), None);
    }
}
