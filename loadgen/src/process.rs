//! CPU time of this thread and of the measured servers.

use std::fmt;
use std::fs;

use nix::errno::Errno;
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
/// date. A process that has exited is an error, even if its parent has not waited for it yet: its
/// CPU time can still be read.
pub fn process_cpu_ns(pid: u32) -> Result<u64, NoSuchProcess> {
    let fail = |_| NoSuchProcess { pid };
    // The kernel takes 0 for the caller.
    let positive = i32::try_from(pid).ok().filter(|&pid| pid > 0).ok_or(NoSuchProcess { pid })?;
    let clock = clock_getcpuclockid(Pid::from_raw(positive)).map_err(fail)?;
    let used = clock_gettime(clock).map_err(fail)?;
    // Without permission to read it, the clock decides.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    if has_exited(&stat) { Err(fail(Errno::ESRCH)) } else { Ok(nanoseconds(used)) }
}

/// Whether a process's stat file (proc_pid_stat(5)) shows one that nobody has waited for yet.
fn has_exited(stat: &str) -> bool {
    // The name before the state may hold blanks and parentheses.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut words = after_name.split_ascii_whitespace();
    let state = words.next();
    // Fields 3 and 20. A first thread that has ended does not end the others.
    let thread_count: Option<u32> = words.nth(20 - 4).and_then(|word| word.parse().ok());
    matches!(state, Some("Z" | "X")) && thread_count.is_none_or(|count| count <= 1)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use nix::sys::wait::{Id, WaitPidFlag, waitid};

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

    #[test]
    fn a_process_that_nobody_has_waited_for_has_exited() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        assert!(process_cpu_ns(pid).is_ok());
        drop(child.stdin.take());
        // Waits for the exit and leaves the process as it is.
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(Pid::from_raw(pid as i32)), flags).unwrap();
        assert_eq!(process_cpu_ns(pid), Err(NoSuchProcess { pid }));
        child.wait().unwrap();
        assert_eq!(process_cpu_ns(pid), Err(NoSuchProcess { pid }));
    }

    #[test]
    fn a_first_thread_that_has_ended_is_no_exit() {
        let stat = |state: &str, thread_count: u32| {
            format!("7 (a) Z (b) {state} 1{} {thread_count} 0 5", " 0".repeat(15))
        };
        let rows = [
            (stat("S", 1), false),
            (stat("Z", 1), true),
            (stat("X", 0), true),
            (stat("Z", 3), false),
            (String::new(), false),
        ];
        for (text, expected) in rows {
            assert_eq!(has_exited(&text), expected, "{text}");
        }
    }
}
