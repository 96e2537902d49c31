//! Runs under a real seccomp filter that denies io_uring, as the default profiles of container
//! runtimes do.
//!
//! A filter holds for the thread that installs it and for its children, and can never be removed.

use std::collections::BTreeMap;
use std::panic::resume_unwind;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// io_uring_setup, io_uring_enter and io_uring_register, on every architecture.
const IO_URING: [i64; 3] = [425, 426, 427];

/// What a runtime's default profile answers to a call that it denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// containerd and Docker.
    Eperm,
    /// CRI-O and Podman.
    Enosys,
}

/// Runs in a thread, whose children have no io_uring.
pub fn without_io_uring<T: Send>(denial: Denial, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            deny_io_uring(denial);
            run()
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn deny_io_uring(denial: Denial) {
    let errno = match denial {
        Denial::Eperm => rustix::io::Errno::PERM,
        Denial::Enosys => rustix::io::Errno::NOSYS,
    };
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("a known architecture");
    let filter = SeccompFilter::new(
        IO_URING.map(|call| (call, Vec::new())).into_iter().collect::<BTreeMap<_, _>>(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno.raw_os_error() as u32),
        architecture,
    );
    let program: BpfProgram =
        filter.expect("a filter of three calls").try_into().expect("a BPF program");
    apply_filter(&program).expect("a filter for this thread");
}
