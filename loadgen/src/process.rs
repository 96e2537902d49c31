//! CPU time of this thread and of the measured servers.

use std::fmt;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::schedule::NANOS_PER_SEC;

/// CPU time of the calling thread, in nanoseconds.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has it"))
}

fn nanoseconds(time: TimeSpec) -> u64 {
    time.tv_sec() as u64 * NANOS_PER_SEC + time.tv_nsec() as u64
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchProcess {
    pid: u32,
}

impl fmt::Display for NoSuchProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot read the CPU time of process {}: there is no such process", self.pid)
    }
}

impl std::error::Error for NoSuchProcess {}

/// CPU time of a process in nanoseconds, including ended threads: the kernel's schedstat sum, up to
/// date.
pub fn process_cpu_ns(pid: u32) -> Result<u64, NoSuchProcess> {
    let fail = |_| NoSuchProcess { pid };
    // The kernel takes 0 for the caller.
    let pid = i32::try_from(pid).ok().filter(|&pid| pid > 0).ok_or(NoSuchProcess { pid })?;
    let clock = clock_getcpuclockid(Pid::from_raw(pid)).map_err(fail)?;
    clock_gettime(clock).map_err(fail).map(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_shows_in_both_clocks() {
        let (thread, process) = (thread_cpu_ns(), process_cpu_ns(std::process::id()).unwrap());
        let mut x = 1u64;
        while thread_cpu_ns() < thread + 20_000_000 {
            x = std::hint::black_box(x.wrapping_mul(31));
        }
        assert!(process_cpu_ns(std::process::id()).unwrap() >= process + 20_000_000);
    }

    #[test]
    fn a_missing_process_is_an_error() {
        for pid in [0, u32::MAX] {
            assert_eq!(process_cpu_ns(pid), Err(NoSuchProcess { pid }));
        }
    }
}
