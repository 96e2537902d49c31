//! Reads what the kernel knows of a thread, from its files in /proc.
//!
//! Invariant: a kernel without such a file costs the answer, nothing else.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::process::Pid;

use super::pulse::ThreadTimes;

pub(super) struct ThreadClock {
    /// How long it ran and waited for a core, in nanoseconds.
    schedstat: Option<File>,
    /// Its state, among much else.
    stat: Option<File>,
}

impl ThreadClock {
    /// `thread`: one of this process.
    pub(super) fn of(thread: Pid) -> Self {
        let open =
            |name| File::open(format!("/proc/self/task/{}/{name}", thread.as_raw_pid())).ok();
        Self { schedstat: open("schedstat"), stat: open("stat") }
    }

    pub(super) fn read(&self) -> ThreadTimes {
        let [mut times, mut stat] = [[0; 256]; 2];
        let times = text_of(self.schedstat.as_ref(), &mut times);
        let mut numbers = times.split_ascii_whitespace().map(|number| number.parse().ok());
        let mut next = || numbers.next().flatten().map(Duration::from_nanos).unwrap_or_default();
        // The state follows the thread's name, which is in parentheses.
        let state = text_of(self.stat.as_ref(), &mut stat).rsplit_once(") ");
        // One that waits for the kernel, mostly for memory, can answer no sooner than a new one.
        let is_runnable = state.is_some_and(|(_, rest)| rest.starts_with(['R', 'D']));
        ThreadTimes { ran: next(), queued: next(), is_runnable }
    }
}

fn text_of<'b>(file: Option<&File>, buffer: &'b mut [u8]) -> &'b str {
    let len = file.and_then(|file| file.read_at(buffer, 0).ok()).unwrap_or(0);
    str::from_utf8(&buffer[..len]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rustix::thread::gettid;

    use super::*;

    #[test]
    fn a_thread_that_reads_its_own_clock_is_running() {
        let clock = ThreadClock::of(gettid());
        if clock.schedstat.is_none() || clock.stat.is_none() {
            eprintln!("fleet: !!! NO schedstat: the clock of a thread IS NOT TESTED");
            return;
        }
        let mut read = clock.read();
        assert!(read.is_runnable, "{read:?}");
        while read.ran.is_zero() {
            read = clock.read();
        }
    }
}
