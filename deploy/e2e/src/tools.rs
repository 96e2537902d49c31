//! Finds the programs: those built by `deploy/e2e/build.sh`, those of the distribution, and
//! ringdns.

use std::path::{Path, PathBuf};

use crate::say::say;

/// The programs built by `deploy/e2e/build.sh`.
#[derive(Clone, Debug)]
pub struct Tools {
    pub etcd: PathBuf,
    /// An old one: see `cluster::Etcd`.
    pub etcd_old: PathBuf,
    pub kube_apiserver: PathBuf,
    pub coredns: PathBuf,
}

impl Tools {
    /// The three programs. If one is missing, prints one loud line that says what was not tested,
    /// and returns `None`.
    pub fn find(test: &str) -> Option<Self> {
        let found = || {
            Some(Self {
                etcd: built("etcd")?,
                etcd_old: built("etcd-old")?,
                kube_apiserver: built("kube-apiserver")?,
                coredns: built("coredns")?,
            })
        };
        let tools = found();
        if tools.is_none() {
            say(&format!(
                "e2e: !!! {test} WAS SKIPPED: etcd, kube-apiserver or CoreDNS is not built. \
                 Run deploy/e2e/build.sh (it needs Go), then run the tests again."
            ));
        }
        tools
    }
}

/// The clients of an API server that `deploy/e2e/build.sh` builds.
#[derive(Clone, Debug)]
pub struct Clients {
    /// With kustomize.
    pub kubectl: PathBuf,
    pub helm: PathBuf,
    pub kubeconform: PathBuf,
    /// The Prometheus operator's definition of ServiceMonitors.
    pub service_monitors: PathBuf,
}

impl Clients {
    /// All of them. If one is missing, prints one loud line that says what was not tested,
    /// and returns `None`.
    pub fn find(test: &str) -> Option<Self> {
        let found = || {
            Some(Self {
                kubectl: built("kubectl")?,
                helm: built("helm")?,
                kubeconform: built("kubeconform")?,
                service_monitors: built("monitoring.coreos.com_servicemonitors.yaml")?,
            })
        };
        let clients = found();
        if clients.is_none() {
            say(&format!(
                "e2e: !!! {test} WAS SKIPPED: kubectl, helm or kubeconform is not built. Run \
                 deploy/e2e/build.sh (it needs Go), then run the tests again."
            ));
        }
        clients
    }
}

/// DNS servers of the distribution, used as upstreams.
#[derive(Clone, Debug)]
pub struct Upstreams {
    /// Knot DNS: an authoritative server.
    pub knotd: PathBuf,
    /// Unbound: a resolver, which also offers TLS.
    pub unbound: PathBuf,
}

impl Upstreams {
    /// Both. If one is missing, prints one loud line that says what was not tested, and returns
    /// `None`.
    pub fn find(test: &str) -> Option<Self> {
        let missing = |package: &str| {
            say(&format!(
                "e2e: !!! {test} WAS SKIPPED: {package} is not installed. Install the package \
                 '{package}' (Debian: apt-get install --no-install-recommends knot unbound), then \
                 run the tests again."
            ));
        };
        let found = |program: &str, package: &str| {
            let path = installed(program);
            path.is_none().then(|| missing(package));
            path
        };
        let (knotd, unbound) = (found("knotd", "knot"), found("unbound", "unbound"));
        Some(Self { knotd: knotd?, unbound: unbound? })
    }
}

/// A program that `deploy/e2e/build.sh` has built.
pub fn built(name: &str) -> Option<PathBuf> {
    let mut folders = target_folders().map(|folder| folder.join("e2e/bin"));
    let path = folders.find(|bin| bin.is_dir())?.join(name);
    path.is_file().then_some(path)
}

/// Servers are in folders that a user's PATH may lack.
fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders =
        std::env::split_paths(&path).chain(["/usr/sbin", "/usr/local/sbin"].map(Into::into));
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The ringdns that cargo built beside this test: `$E2E_RINGDNS`, or the one in the profile's
/// folder of the running executable.
///
/// Panics if there is none: a test of ringdns without ringdns has failed, not been skipped.
pub fn ringdns() -> PathBuf {
    beside("ringdns", "engine", "E2E_RINGDNS")
}

/// The loadgen that cargo built beside this program: `$E2E_LOADGEN`, or the one in its folder.
///
/// Panics if there is none.
pub fn loadgen() -> PathBuf {
    beside("loadgen", "loadgen", "E2E_LOADGEN")
}

/// The program of a package, or the one that the variable names.
fn beside(program: &str, package: &str, variable: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let found = target_folders().map(|folder| folder.join(program)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{program} is not built beside {}: run 'cargo build -p {package}' with the profile of \
             the tests, or name a binary in {variable}",
            own_path().display()
        )
    })
}

/// `target/PROFILE/deps`, `target/PROFILE`, `target` and their parents, innermost first.
fn target_folders() -> impl Iterator<Item = PathBuf> {
    let own = own_path();
    own.ancestors().skip(1).map(Path::to_path_buf).collect::<Vec<_>>().into_iter()
}

fn own_path() -> PathBuf {
    std::env::current_exe().expect("the path of the running test")
}
