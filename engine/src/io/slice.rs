//! How soon a thread that wakes up gets the core that another thread is using.
//!
//! Linux lets a thread use a core for a slice of 0.7 to 3 ms, and often longer, until the next
//! tick. One that wakes up meanwhile waits, unless its own slices are shorter: then it comes at
//! once, if it has had less than its share. It is not given more of the core.

use std::io;
use std::mem::size_of;
use std::time::Duration;

use libc::{SYS_sched_getattr, SYS_sched_setattr, c_long, sched_attr, syscall};

/// The shortest that the kernel allows is 0.1 ms.
const SHORT_SLICE: Duration = Duration::from_micros(100);

/// The calling thread, and those that it starts, wake up soon from now on. Without effect before
/// Linux 6.12.
///
/// # Errors
/// A sandbox denies the call. Or somebody has given the thread another policy than SCHED_OTHER.
pub fn wake_up_soon() -> io::Result<()> {
    let mut attributes = scheduling()?;
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    attributes.sched_runtime = SHORT_SLICE.as_nanos() as u64;
    // SAFETY: the kernel reads as many bytes as `size` says, from a struct that lives until the
    // call returns. 0 is the calling thread, and there are no flags.
    done(unsafe { syscall(SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// How the calling thread is scheduled.
fn scheduling() -> io::Result<sched_attr> {
    // SAFETY: a plain C struct of integers, for which all zeros are a valid value.
    let mut attributes: sched_attr = unsafe { std::mem::zeroed() };
    let size = size_of::<sched_attr>() as u32;
    // SAFETY: the kernel writes at most `size` bytes, all of a struct that lives until the call
    // returns. 0 is the calling thread, and there are no flags.
    done(unsafe { syscall(SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(attributes)
}

fn done(returned: c_long) -> io::Result<()> {
    if returned < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_slice_changes() {
        let before = scheduling().expect("every thread is scheduled");
        wake_up_soon().expect("no sandbox");
        let after = scheduling().expect("every thread is scheduled");
        let others = |one: &sched_attr| (one.sched_policy, one.sched_nice, one.sched_flags);
        assert_eq!(others(&after), others(&before));
        // Older kernels report no slice.
        let is_known = before.sched_runtime > 0;
        let expected = if is_known { SHORT_SLICE.as_nanos() as u64 } else { 0 };
        assert_eq!(after.sched_runtime, expected);
    }
}
