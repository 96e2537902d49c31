//! An exec plugin of a kubeconfig (`aws eks get-token`, `kubelogin` …). It is run when a client is
//! made, and again when its token expires.
//!
//! Invariant: a client runs its plugin one at a time. Once the token has expired, requests of that
//! client wait for the run, but no longer than they wait for a response. Requests of older clients
//! do not wait.

use std::process::{Output, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::access::Identity;
use super::credentials::bearer;
use super::kubeconfig::{Exec, KubeconfigCluster};
use super::{ConnectError, SettingError};

/// Cloud tools take seconds. A plugin that waits for a user to log in would wait forever.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// A token is not used this close to its expiry: it must still reach the server, whose clock may be
/// ahead.
const EXPIRY_MARGIN: Duration = Duration::from_secs(10);
/// Bytes to show from the end of stderr.
const STDERR_SHOWN_MAX: usize = 300;
/// The reserved name of the cluster extension that is meant for plugins.
const EXTENSION: &str = "client.authentication.k8s.io/exec";

pub(super) struct Plugin {
    exec: Exec,
    /// KUBERNETES_EXEC_INFO.
    info: String,
    credentials: Mutex<PluginCredentials>,
}

/// The result of the last run.
#[derive(Default)]
struct PluginCredentials {
    header: Option<HeaderValue>,
    has_certificate: bool,
    expires: Option<SystemTime>,
}

#[derive(Deserialize)]
struct ExecCredential {
    status: Option<ExecCredentialStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExecCredentialStatus {
    expiration_timestamp: Option<Time>,
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
}

impl Plugin {
    pub(super) fn new(
        exec: &Exec,
        cluster: &KubeconfigCluster,
        authority: Option<&[u8]>,
    ) -> Result<Self, SettingError> {
        if exec.command.is_empty() {
            return Err("exec has no command".into());
        }
        let mut spec = json!({"interactive": false});
        if exec.provide_cluster_info {
            spec["cluster"] = cluster_info(cluster, authority);
        }
        let info = json!({"kind": "ExecCredential", "apiVersion": exec.api_version, "spec": spec});
        Ok(Self { exec: exec.clone(), info: info.to_string(), credentials: Mutex::default() })
    }

    /// Runs the plugin. `Some` if it returned a certificate for the handshake.
    pub(super) async fn log_in(&self) -> Result<Option<Identity>, ConnectError> {
        let (credentials, identity) = self.run().await.map_err(|fault| self.failed(fault))?;
        *self.credentials.lock().await = credentials;
        Ok(identity)
    }

    /// The header with the token. Runs the plugin again if the token expires.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, ConnectError> {
        let mut credentials = self.credentials.lock().await;
        if credentials.expires.is_some_and(|expires| expires < SystemTime::now() + EXPIRY_MARGIN) {
            if credentials.has_certificate {
                // A certificate is part of handshakes, so a new client is needed, which runs the
                // plugin.
                return Err(self.failed("its certificate has expired".into()));
            }
            let (next, _) = self.run().await.map_err(|fault| self.failed(fault))?;
            *credentials = next;
        }
        Ok(credentials.header.clone())
    }

    fn failed(&self, fault: SettingError) -> ConnectError {
        let next_step = "run it by hand as the user that runs ringdns; ringdns keeps trying";
        fault.of(&format!("exec plugin {}", self.exec.command), next_step)
    }

    async fn run(&self) -> Result<(PluginCredentials, Option<Identity>), SettingError> {
        let mut command = Command::new(&self.exec.command);
        command
            .args(&self.exec.args)
            .envs(self.exec.env.iter().map(|variable| (&variable.name, &variable.value)))
            .env("KUBERNETES_EXEC_INFO", &self.info)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match timeout(RUN_TIME_MAX, command.output()).await {
            Err(_) => Err(format!("timed out after {RUN_TIME_MAX:?}").into()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                let hint = self.exec.install_hint.trim();
                let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
                Err(SettingError {
                    cause: format!("no such program{hint}"),
                    next_step: Some("add it to ringdns's image or mount it, or use a token file"),
                })
            }
            Ok(Err(error)) => Err(format!("cannot run it: {error}").into()),
            Ok(Ok(output)) => read(output),
        }
    }
}

fn read(output: Output) -> Result<(PluginCredentials, Option<Identity>), SettingError> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let words: Vec<&str> = stderr.split_whitespace().collect();
        let stderr = words.join(" ");
        let begin = stderr.ceil_char_boundary(stderr.len().saturating_sub(STDERR_SHOWN_MAX));
        return Err(format!("{}: {}", output.status, &stderr[begin..]).into());
    }
    // Leave out serde's message, which may quote a token.
    let credential: ExecCredential = serde_json::from_slice(&output.stdout).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("its output is not an ExecCredential in JSON: line {line}, column {column}")
    })?;
    let status = credential.status.ok_or("its ExecCredential has no status")?;
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let token = text(status.token);
    let pair = (text(status.client_certificate_data), text(status.client_key_data));
    let identity = match &pair {
        (Some(certificate), Some(key)) => {
            Some(Identity::parse(certificate.as_bytes(), key.as_bytes())?)
        }
        (None, None) if token.is_none() => {
            return Err("it returned neither a token nor a certificate".into());
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("it returned only one of certificate and key".into());
        }
    };
    let expires = status.expiration_timestamp.map(|time| {
        let secs = u64::try_from(time.0.as_second()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    });
    let header = token.map(|token| bearer(&token, "its token")).transpose()?;
    Ok((PluginCredentials { header, has_certificate: identity.is_some(), expires }, identity))
}

/// `provideClusterInfo`.
fn cluster_info(cluster: &KubeconfigCluster, authority: Option<&[u8]>) -> Value {
    let mut info = json!({"server": cluster.server});
    let mut set = |name: &str, value: Value, is_set: bool| {
        if is_set {
            info[name] = value;
        }
    };
    let name = &cluster.tls_server_name;
    set("tls-server-name", json!(name), !name.is_empty());
    let is_insecure = cluster.insecure_skip_tls_verify;
    set("insecure-skip-tls-verify", json!(true), is_insecure);
    let authority = authority.map(|authority| BASE64_STANDARD.encode(authority));
    set("certificate-authority-data", json!(authority), authority.is_some());
    set("proxy-url", json!(cluster.proxy_url), !cluster.proxy_url.is_empty());
    set("disable-compression", json!(true), cluster.disable_compression);
    let config = cluster.extensions.iter().find(|extension| extension.name == EXTENSION);
    if let Some(config) = config {
        set("config", config.extension.clone(), true);
    }
    info
}
