//! The name of this machine, as `chaos` and `nsid` send it. In a pod it is the pod's name.

/// As the kernel has it; `localhost` if it has none.
pub(super) fn host_name() -> String {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy();
    if name.is_empty() { "localhost".to_owned() } else { name.into_owned() }
}
