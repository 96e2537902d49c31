//! An exec plugin of a kubeconfig (`aws eks get-token`, `kubelogin` …): run when a client is made,
//! and again when the token that it gave ends.
//!
//! Invariant: a client runs it once at a time. Requests of that client wait where its token has
//! ended, each for no longer than for an answer; those of an older client do not.

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

/// Cloud tools take seconds; one that waits for somebody to log in waits in vain.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// So long before its end a token is no longer used: it has to get to the server, whose clock may
/// be ahead.
const BEFORE_END: Duration = Duration::from_secs(10);
/// Of what it wrote to stderr, at the end.
const STDERR_SHOWN_MAX: usize = 300;
/// The reserved name of the cluster's extension that is meant for plugins.
const EXTENSION: &str = "client.authentication.k8s.io/exec";

pub(super) struct Plugin {
    exec: Exec,
    /// KUBERNETES_EXEC_INFO.
    info: String,
    held: Mutex<PluginCredentials>,
}

/// What the last run gave.
#[derive(Default)]
struct PluginCredentials {
    header: Option<HeaderValue>,
    has_certificate: bool,
    ends: Option<SystemTime>,
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
        Ok(Self { exec: exec.clone(), info: info.to_string(), held: Mutex::default() })
    }

    /// Runs it. `Some`: it gave a certificate for the handshake.
    pub(super) async fn log_in(&self) -> Result<Option<Identity>, ConnectError> {
        let (held, identity) = self.run().await.map_err(|fault| self.failed(fault))?;
        *self.held.lock().await = held;
        Ok(identity)
    }

    /// The token, a new one if it ends.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, ConnectError> {
        let mut held = self.held.lock().await;
        if held.ends.is_some_and(|ends| ends < SystemTime::now() + BEFORE_END) {
            if held.has_certificate {
                // Handshakes show it: a new client is made, which runs the plugin.
                return Err(self.failed("its certificate has ended".into()));
            }
            let (next, _) = self.run().await.map_err(|fault| self.failed(fault))?;
            *held = next;
        }
        Ok(held.header.clone())
    }

    fn failed(&self, fault: SettingError) -> ConnectError {
        let next_step =
            "run it by hand as the user that ringdns runs as; it is tried again until it works";
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
            Err(_) => Err(format!("it has not ended after {RUN_TIME_MAX:?}").into()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                let hint = self.exec.install_hint.trim();
                let hint = if hint.is_empty() { String::new() } else { format!(" ({hint})") };
                Err(SettingError {
                    cause: format!("there is no such program{hint}"),
                    next_step: Some(
                        "put it into ringdns's image, or mount it; a token file needs none",
                    ),
                })
            }
            Ok(Err(error)) => Err(format!("it cannot be run: {error}").into()),
            Ok(Ok(output)) => read(output),
        }
    }
}

fn read(output: Output) -> Result<(PluginCredentials, Option<Identity>), SettingError> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.split_whitespace().collect();
        let said = said.join(" ");
        let begin = said.ceil_char_boundary(said.len().saturating_sub(STDERR_SHOWN_MAX));
        return Err(format!("{}: {}", output.status, &said[begin..]).into());
    }
    // Without serde's words, which may quote a token.
    let answer: ExecCredential = serde_json::from_slice(&output.stdout).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        format!("it printed no ExecCredential in JSON: line {line}, column {column} is wrong")
    })?;
    let status = answer.status.ok_or("it printed an ExecCredential without status")?;
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let token = text(status.token);
    let pair = (text(status.client_certificate_data), text(status.client_key_data));
    let identity = match &pair {
        (Some(certificate), Some(key)) => {
            Some(Identity::parse(certificate.as_bytes(), key.as_bytes())?)
        }
        (None, None) if token.is_none() => {
            return Err("it gave neither a token nor a certificate".into());
        }
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            return Err("it gave only one of certificate and key".into());
        }
    };
    let ends = status.expiration_timestamp.map(|time| {
        let secs = u64::try_from(time.0.as_second()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_secs(secs)
    });
    let header = token.map(|token| bearer(&token, "its token")).transpose()?;
    Ok((PluginCredentials { header, has_certificate: identity.is_some(), ends }, identity))
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
