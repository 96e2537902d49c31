//! A cluster without nodes: etcd and kube-apiserver on loopback, ready in one to two seconds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::credentials::Credentials;
use crate::deadline::try_poll;
use crate::objects::Objects;
use crate::port;
use crate::process::Process;
use crate::tools::Tools;

/// How long an API server may take to become ready.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// Attempts with another port, if the first was taken meanwhile.
const START_COUNT_MAX: u32 = 3;

/// Who may do what at the API server, and which APIs it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authorization {
    /// Everything is allowed; only what a DNS server reads is served, because it is ready sooner.
    Open,
    /// As in a cluster: every stable API, and RBAC decides.
    Rbac,
}

/// The API server's store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Etcd {
    Current,
    /// 3.5.7, whose progress an API server cannot request: it has no streaming lists, and reads
    /// lists as of now from etcd.
    WithoutProgress,
}

/// The APIs to serve: those that a DNS server watches, and those that the API server needs to
/// start.
const RUNTIME_CONFIG: &str = "api/all=false,api/v1=true,discovery.k8s.io/v1=true,\
    apiregistration.k8s.io/v1=true,apiextensions.k8s.io/v1=true,\
    admissionregistration.k8s.io/v1=true,networking.k8s.io/v1=true";

/// Admission plugins that would wait for things that do not exist here: service accounts, classes,
/// quotas, webhooks.
const ADMISSION_OFF: &str = "CertificateApproval,CertificateSigning,CertificateSubjectRestriction,\
    ClusterTrustBundleAttest,DefaultIngressClass,DefaultStorageClass,DefaultTolerationSeconds,\
    LimitRanger,MutatingAdmissionPolicy,MutatingAdmissionWebhook,PersistentVolumeClaimResize,\
    PodSecurity,PodTopologyLabels,Priority,ResourceQuota,RuntimeClass,ServiceAccount,\
    StorageObjectInUseProtection,TaintNodesByCondition,ValidatingAdmissionPolicy,\
    ValidatingAdmissionWebhook";

/// etcd and one API server; a second one can be started beside it.
pub struct Cluster {
    // Fields drop in this order: the API server stops before etcd, and both before their folder
    // goes.
    api_server: Option<ApiServer>,
    etcd: Option<Process>,
    tools: Tools,
    credentials: Credentials,
    authorization: Authorization,
    etcd_program: PathBuf,
    /// The API server's port, also while it is down.
    port: u16,
    dir: TempDir,
}

/// A running kube-apiserver.
pub struct ApiServer {
    process: Process,
    objects: Objects,
    port: u16,
}

impl Cluster {
    /// Starts both and waits until the API server is ready.
    pub fn start(tools: &Tools) -> Self {
        Self::start_with(Authorization::Open, tools)
    }

    /// Like [`start`](Self::start), with another authorization.
    pub fn start_with(authorization: Authorization, tools: &Tools) -> Self {
        Self::start_on(Etcd::Current, authorization, tools)
    }

    /// Like [`start_with`](Self::start_with), on another etcd.
    pub fn start_on(etcd: Etcd, authorization: Authorization, tools: &Tools) -> Self {
        let etcd_program = match etcd {
            Etcd::Current => tools.etcd.clone(),
            Etcd::WithoutProgress => tools.etcd_old.clone(),
        };
        let dir = tempfile::Builder::new().prefix("ringdns-e2e-").tempdir().expect("a folder");
        let etcd = Process::start("etcd", &etcd_program, &etcd_arguments(), dir.path());
        let credentials = Credentials::create(dir.path());
        let api_server = (0..START_COUNT_MAX)
            .find_map(|_| {
                ApiServer::start(authorization, port::free(), tools, &credentials, dir.path())
            })
            .expect("a free port");
        let port = api_server.port;
        Self {
            api_server: Some(api_server),
            etcd: Some(etcd),
            tools: tools.clone(),
            credentials,
            authorization,
            etcd_program,
            port,
            dir,
        }
    }

    /// The client of the API server. Panics while the API server is down.
    pub fn objects(&self) -> &Objects {
        &self.api_server.as_ref().expect("the API server is up").objects
    }

    /// CPU time of the API server. Panics while it is down.
    pub fn api_server_cpu_time(&self) -> Duration {
        self.api_server.as_ref().expect("the API server is up").process.cpu_time()
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.credentials.write_kubeconfig(self.port)
    }

    /// The API server's port, also while it is down.
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Stops it by SIGKILL.
    pub fn kill_api_server(&mut self) {
        self.api_server = None;
    }

    /// Starts it again at the same port and waits until it is ready.
    pub fn start_api_server(&mut self) {
        let api_server = ApiServer::start(
            self.authorization,
            self.port,
            &self.tools,
            &self.credentials,
            self.dir.path(),
        );
        self.api_server = Some(api_server.expect("its previous port"));
    }

    /// Stops it by SIGSTOP: connections stay open, and nothing is answered.
    pub fn suspend_api_server(&self) {
        self.api_server.as_ref().expect("the API server is up").process.suspend();
    }

    /// Lets a suspended API server go on.
    pub fn resume_api_server(&self) {
        self.api_server.as_ref().expect("the API server is up").process.resume();
    }

    /// Stops everything, copies etcd's data, and starts again.
    pub fn back_up(&mut self) {
        self.replace_data("etcd", "etcd.backup");
    }

    /// Restores the backup as an operator would; etcd's revision goes back with it.
    pub fn restore(&mut self) {
        self.replace_data("etcd.backup", "etcd");
    }

    /// Replaces `to` by a copy of `from` while everything is stopped.
    fn replace_data(&mut self, from: &str, to: &str) {
        (self.api_server, self.etcd) = (None, None);
        let dir = self.dir.path();
        let run = |program: &str, arguments: [&str; 3]| {
            let status = Command::new(program).args(arguments).current_dir(dir).status();
            assert!(status.expect("a standard program").success(), "{program} {from} {to}");
        };
        run("rm", ["-r", "-f", to]);
        run("cp", ["-a", from, to]);
        self.etcd = Some(Process::start("etcd", &self.etcd_program, &etcd_arguments(), dir));
        self.start_api_server();
    }

    /// Starts another API server on the same etcd. Changes made through it are invisible to a
    /// client of the first one while that is down.
    pub fn second_api_server(&self) -> ApiServer {
        (0..START_COUNT_MAX)
            .find_map(|_| {
                ApiServer::start(
                    self.authorization,
                    port::free(),
                    &self.tools,
                    &self.credentials,
                    self.dir.path(),
                )
            })
            .expect("a free port")
    }
}

impl ApiServer {
    /// `None` if the port was taken.
    fn start(
        authorization: Authorization,
        port: u16,
        tools: &Tools,
        credentials: &Credentials,
        dir: &Path,
    ) -> Option<Self> {
        let arguments = api_server_arguments(authorization, port, credentials);
        let name = format!("kube-apiserver-{port}");
        let mut process = Process::start(&name, &tools.kube_apiserver, &arguments, dir);
        let objects = Objects::connect(&credentials.write_kubeconfig(port));
        let ready = try_poll(READY_LIMIT, || {
            (process.exit_status().is_some() || objects.ready()).then_some(())
        });
        assert!(ready.is_some(), "not ready after {READY_LIMIT:?}:\n{}", process.log_tail());
        if process.exit_status().is_some() {
            let log = process.log();
            assert!(log.contains("address already in use"), "exited:\n{}", process.log_tail());
            return None;
        }
        Some(Self { process, objects, port })
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

/// A socket in the file system needs no free port; no data needs to survive a power cut.
fn etcd_arguments() -> Vec<String> {
    [
        "--data-dir=etcd",
        "--unsafe-no-fsync",
        "--log-level=error",
        "--listen-client-urls=unix://etcd.socket:0",
        "--advertise-client-urls=unix://etcd.socket:0",
        "--listen-peer-urls=unix://peer.socket:0",
        "--initial-advertise-peer-urls=unix://peer.socket:0",
        "--initial-cluster=default=unix://peer.socket:0",
    ]
    .map(str::to_owned)
    .to_vec()
}

fn api_server_arguments(
    authorization: Authorization,
    port: u16,
    credentials: &Credentials,
) -> Vec<String> {
    let file = |path: PathBuf| path.display().to_string();
    let (mode, apis) = match authorization {
        Authorization::Open => ("AlwaysAllow", RUNTIME_CONFIG),
        Authorization::Rbac => ("RBAC", "api/beta=false"),
    };
    vec![
        "--etcd-servers=unix://etcd.socket:0".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // A loopback address cannot be advertised, so it writes no endpoints for its own Service.
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112".to_owned(),
        format!("--tls-cert-file={}", file(credentials.certificate())),
        format!("--tls-private-key-file={}", file(credentials.key())),
        format!("--token-auth-file={}", file(credentials.tokens())),
        format!("--client-ca-file={}", file(credentials.authority())),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", file(credentials.key())),
        format!("--service-account-key-file={}", file(credentials.certificate())),
        format!("--authorization-mode={mode}"),
        "--anonymous-auth=false".to_owned(),
        "--enable-priority-and-fairness=false".to_owned(),
        "--profiling=false".to_owned(),
        format!("--runtime-config={apis}"),
        format!("--disable-admission-plugins={ADMISSION_OFF}"),
    ]
}
