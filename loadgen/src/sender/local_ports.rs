//! Local ports for connections that are replaced all the time: each takes the next one in turn.
//!
//! The kernel's own choice walks through every second port first. Once all of those are held by
//! connections that have just ended (TIME_WAIT), each walk takes milliseconds. The next port in
//! turn is the one that was left longest ago. Invariant: no two threads get the same port until all
//! others were tried.

use std::fs;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports that are tried for one connection: some belong to other programs.
const TRIES_MAX: usize = 16;
/// Linux's default range.
const DEFAULT_RANGE: (u16, u16) = (32_768, 60_999);

/// How many ports were taken, by all threads.
static TAKEN: AtomicU32 = AtomicU32::new(0);

pub(crate) struct LocalPorts {
    first: u16,
    count: u32,
    /// Runs of other processes begin at other ports.
    begin: u32,
}

impl LocalPorts {
    /// The ports that the kernel chooses from, too.
    pub(crate) fn of_kernel() -> Self {
        let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
        let (first, last) = range.ok().as_deref().and_then(parse).unwrap_or(DEFAULT_RANGE);
        let begin = std::process::id().wrapping_mul(9_973);
        Self { first, count: u32::from(last - first) + 1, begin }
    }

    /// Opens something at the next port, or at one of those after it if that is taken.
    ///
    /// # Errors
    /// Those of `open`; that the address is in use only after several tries.
    pub(crate) fn open<T>(&self, mut open: impl FnMut(u16) -> io::Result<T>) -> io::Result<T> {
        let mut result = Err(ErrorKind::AddrInUse.into());
        for _ in 0..TRIES_MAX {
            let index = self.begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
            result = open(self.first + (index % self.count) as u16);
            let is_taken = |error: &io::Error| {
                matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable)
            };
            if !result.as_ref().is_err_and(is_taken) {
                break;
            }
        }
        result
    }
}

/// The first and the last port.
fn parse(range: &str) -> Option<(u16, u16)> {
    let mut words = range.split_ascii_whitespace().map(str::parse);
    let (first, last) = (words.next()?.ok()?, words.next()?.ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_the_kernel_writes_them() {
        let rows = [
            ("32768\t60999\n", Some((32_768, 60_999))),
            ("1024 1024", Some((1_024, 1_024))),
            ("5 4", None),
            ("1024", None),
            ("", None),
            ("1 70000", None),
        ];
        for (text, expected) in rows {
            assert_eq!(parse(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_taken_port_is_passed_over_and_other_errors_end_the_search() {
        let ports = LocalPorts { first: 65_000, count: 536, begin: u32::MAX };
        let mut seen = Vec::new();
        let mut open = |answers: &[ErrorKind]| {
            let mut answers = answers.iter();
            ports.open(|port| {
                seen.push(port);
                answers.next().map_or(Ok(()), |&kind| Err(kind.into()))
            })
        };
        assert!(open(&[]).is_ok());
        assert!(open(&[ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable]).is_ok());
        let refused = open(&[ErrorKind::ConnectionRefused]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let taken = open(&[ErrorKind::AddrNotAvailable; 2 * TRIES_MAX]).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrNotAvailable);
        assert_eq!(seen.len(), 1 + 3 + 1 + TRIES_MAX);
        assert!(seen.iter().all(|port| *port >= 65_000));
        let different: std::collections::BTreeSet<&u16> = seen.iter().collect();
        assert_eq!(different.len(), seen.len());
    }
}
