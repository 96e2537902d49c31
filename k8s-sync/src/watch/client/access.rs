//! Decides which server to ask and with which credentials: kubeconfig, else endpoint (+ tls), else
//! the service account, by client-go's rules.
//!
//! Nothing is sent and no program is run here; every file is read again on each call. Invariant: no
//! credentials go over plain http.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use http::uri::Scheme;
use kube::config::AuthInfo;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::credentials::Credentials;
use super::kubeconfig::{self, KubeconfigCluster, KubeconfigUser, SelectedContext};
use super::proxy::{self, Proxy};
use super::{ConnectError, SettingError, url};
use crate::options::{ApiServer, ClientTls};

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Environment variables that locate the API server.
const SERVICE_VARIABLES: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];

/// Settings of the process that are not in the Corefile.
pub(super) struct Environment {
    variables: HashMap<&'static str, String>,
    /// The folder of the service account.
    service_account: PathBuf,
}

/// Everything that a client needs.
pub(super) struct Access {
    /// Scheme (http or https), authority and path.
    pub(super) url: Uri,
    /// Present for https only.
    pub(super) tls: Option<Tls>,
    pub(super) credentials: Credentials,
    /// Contains only whom to impersonate.
    pub(super) impersonated: AuthInfo,
    pub(super) proxy: Option<Proxy>,
    /// Surprises in the settings, for the log.
    pub(super) notes: Vec<String>,
}

/// How both sides authenticate.
#[derive(Default)]
pub(super) struct Tls {
    pub(super) trust: Trust,
    /// Sent to the server and required in its certificate. `None` if it is the host of the URL.
    pub(super) server_name: Option<ServerName<'static>>,
    pub(super) identity: Option<Identity>,
}

/// Which server certificates are trusted.
#[derive(Default)]
pub(super) enum Trust {
    /// The CAs of the system.
    #[default]
    System,
    Given(Vec<CertificateDer<'static>>),
    /// `insecure-skip-tls-verify`.
    Anyone,
}

/// A client's key and its certificate chain.
pub(super) struct Identity {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Environment {
    pub(super) fn of_process() -> Self {
        let variable = |name: &&'static str| Some((*name, std::env::var(name).ok()?));
        let names = SERVICE_VARIABLES.iter().chain(proxy::VARIABLES.iter().flatten());
        Self {
            variables: names.filter_map(variable).collect(),
            service_account: PathBuf::from(SERVICE_ACCOUNT),
        }
    }

    #[cfg(test)]
    pub(super) fn of(variables: HashMap<&'static str, String>, service_account: &Path) -> Self {
        Self { variables, service_account: service_account.to_path_buf() }
    }

    /// The first of these variables that is set and not empty.
    pub(super) fn variable(&self, names: &[&'static str]) -> Option<&str> {
        let mut values = names.iter().filter_map(|name| self.variables.get(name));
        values.find(|value| !value.is_empty()).map(String::as_str)
    }
}

impl Access {
    /// # Errors
    /// The settings cannot be used. The error names the setting or file.
    pub(super) fn load(
        server: &ApiServer,
        environment: &Environment,
    ) -> Result<Self, ConnectError> {
        let mut access = match (&server.kubeconfig, &server.endpoint) {
            (Some((file, context)), _) => from_kubeconfig(file, context.as_deref(), environment)?,
            (None, Some(endpoint)) => from_endpoint(endpoint, server.tls.as_ref(), environment)?,
            (None, None) => from_service_account(environment)?,
        };
        if access.proxy.is_some() {
            // CONNECT needs a port; without one it would assume that of https.
            access.url = url::with_port(access.url);
        }
        Ok(access)
    }
}

fn from_kubeconfig(
    file: &Path,
    context: Option<&str>,
    environment: &Environment,
) -> Result<Access, ConnectError> {
    let context = context.filter(|context| !context.is_empty());
    let what = match context {
        Some(context) => format!("kubeconfig {}, context {context}", file.display()),
        None => format!("kubeconfig {}", file.display()),
    };
    let next_step = "try `kubectl get namespaces` with the same --kubeconfig and --context";
    let failed = |fault: SettingError| fault.of(&what, next_step);
    let bytes = std::fs::read(file).map_err(|error| {
        let next_step = "is it mounted there, and can the user that runs ringdns read it?";
        failed(SettingError { cause: error.to_string(), next_step: Some(next_step) })
    })?;
    let text = text_of(bytes).map_err(|cause| failed(cause.into()))?;
    let folder = file.parent().unwrap_or_else(|| Path::new(""));
    let selected = kubeconfig::select(&text, folder, context);
    match selected.map_err(|cause| failed(cause.into()))? {
        SelectedContext::Entries(entries) => from_entries(*entries, environment).map_err(failed),
        SelectedContext::Nothing(cause) if is_in_cluster(environment) => {
            let mut access = from_service_account(environment)?;
            access.notes.push(format!("{what}: {cause}; using the pod's service account"));
            Ok(access)
        }
        SelectedContext::Nothing(cause) => Err(failed(cause.into())),
    }
}

fn from_entries(
    (cluster, mut user): (KubeconfigCluster, KubeconfigUser),
    environment: &Environment,
) -> Result<Access, SettingError> {
    let (file, data) = (&cluster.certificate_authority, &cluster.certificate_authority_data);
    let authority = load("certificate-authority", file, data)?;
    let (file, data) = (&user.client_certificate, &user.client_certificate_data);
    let certificate = load("client-certificate", file, data)?;
    let is_tls = authority.is_some()
        || certificate.is_some()
        || cluster.insecure_skip_tls_verify
        || !cluster.tls_server_name.is_empty();
    let url = url::parse(&cluster.server, is_tls)?;
    let proxy = match cluster.proxy_url.as_str() {
        "" => proxy::of_environment(&url, environment)?,
        proxy => Some(Proxy::parse("proxy-url", proxy)?),
    };
    let mut access = Access { proxy, ..Access::anonymous(url) };
    access.impersonated = impersonated(&mut user);
    if access.url.scheme() == Some(&Scheme::HTTP) {
        // client-go drops them silently.
        if user.has_credentials() {
            access.notes.push(format!(
                "the credentials of the kubeconfig are not sent to {}, because plain http would \
                 expose them; write https:// unless it is a `kubectl proxy`",
                access.url
            ));
        }
        return Ok(access);
    }
    let identity = match certificate {
        None => None,
        Some(certificate) => {
            let key = load("client-key", &user.client_key, &user.client_key_data)?
                .ok_or("client-certificate is set but client-key is not")?;
            Some(Identity::parse(&certificate, &key)?)
        }
    };
    access.credentials = Credentials::of(&user, &cluster, authority.as_deref())?;
    let trust = match (authority, cluster.insecure_skip_tls_verify) {
        (Some(_), true) => {
            return Err(
                "certificate-authority and insecure-skip-tls-verify are mutually exclusive".into(),
            );
        }
        (Some(pem), false) => Trust::Given(certificates("certificate-authority", &pem)?),
        (None, true) => Trust::Anyone,
        (None, false) => Trust::System,
    };
    let server_name = match cluster.tls_server_name {
        name if name.is_empty() => None,
        name => Some(
            ServerName::try_from(name.clone())
                .map_err(|error| format!("tls-server-name {name}: {error}"))?,
        ),
    };
    access.tls = Some(Tls { trust, server_name, identity });
    Ok(access)
}

fn from_endpoint(
    endpoint: &str,
    files: Option<&ClientTls>,
    environment: &Environment,
) -> Result<Access, ConnectError> {
    let failed = |fault: SettingError| {
        fault.of(
            &format!("endpoint {}", url::shown(endpoint)),
            "write it like https://10.0.0.1:6443",
        )
    };
    let url = url::parse(endpoint, files.is_some()).map_err(failed)?;
    let proxy = proxy::of_environment(&url, environment).map_err(failed)?;
    let mut access = Access { proxy, ..Access::anonymous(url) };
    let is_https = access.url.scheme() == Some(&Scheme::HTTPS);
    match files {
        Some(files) if is_https => access.tls = Some(tls_of_files(files)?),
        Some(_) => access.notes.push(format!(
            "`tls` has no effect because {} is plain http: write https:// if the server uses TLS",
            access.url
        )),
        None if is_https => access.tls = Some(Tls::default()),
        None => {}
    }
    Ok(access)
}

fn tls_of_files(files: &ClientTls) -> Result<Tls, ConnectError> {
    let failed = |file: &Path, fault: SettingError| {
        let next_step = "`tls` takes the paths of CERT, KEY and CA in this order; are they \
                         mounted and readable?";
        fault.of(&format!("tls file {}", file.display()), next_step)
    };
    let read =
        |file: &Path| std::fs::read(file).map_err(|error| failed(file, error.to_string().into()));
    let (certificate, key) = (read(&files.certificate)?, read(&files.key)?);
    let authority = read(&files.authority)?;
    let identity = Identity::parse(&certificate, &key);
    let identity = identity.map_err(|fault| {
        let is_key = fault.cause.starts_with("client-key");
        failed(if is_key { &files.key } else { &files.certificate }, fault)
    })?;
    let authority = certificates("CA", &authority);
    let authority = authority.map_err(|fault| failed(&files.authority, fault))?;
    Ok(Tls { trust: Trust::Given(authority), server_name: None, identity: Some(identity) })
}

fn is_in_cluster(environment: &Environment) -> bool {
    SERVICE_VARIABLES.iter().all(|name| environment.variable(&[name]).is_some())
        && environment.service_account.join("token").is_file()
}

/// The folder's `namespace` is not needed, and `ca.crt` may be missing.
fn from_service_account(environment: &Environment) -> Result<Access, ConnectError> {
    let failed = |fault: SettingError| {
        let next_step = "in a cluster, check that automountServiceAccountToken is not false; \
            outside, add `kubeconfig FILE` or `manifests PATH` to the kubernetes block";
        fault.of("the pod's service account", next_step)
    };
    let [host, port] = SERVICE_VARIABLES.map(|name| environment.variable(&[name]));
    let (Some(host), Some(port)) = (host, port) else {
        let [host, port] = SERVICE_VARIABLES;
        return Err(failed(format!("{host} and {port} are not both set").into()));
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let url = url::parse(&format!("https://{host}:{port}"), true).map_err(failed)?;
    let proxy = proxy::of_environment(&url, environment).map_err(failed)?;
    let mut access = Access { proxy, ..Access::anonymous(url) };
    let token = environment.service_account.join("token");
    access.credentials = Credentials::of_file(token, None).map_err(failed)?;
    let file = environment.service_account.join("ca.crt");
    let authority = std::fs::read(&file).map_err(|error| error.to_string());
    let authority =
        authority.and_then(|pem| certificates("the file", &pem).map_err(|fault| fault.cause));
    let trust = match authority {
        Ok(authority) => Trust::Given(authority),
        Err(cause) => {
            let file = file.display();
            access.notes.push(format!(
                "cannot read the cluster's CA from {file}: {cause}; trusting the system's CAs \
                 instead"
            ));
            Trust::System
        }
    };
    access.tls = Some(Tls { trust, ..Tls::default() });
    Ok(access)
}

/// Inline base64 data of the kubeconfig, else a file. `None` if neither is set.
fn load(name: &str, file: &str, data: &str) -> Result<Option<Vec<u8>>, SettingError> {
    if !data.is_empty() {
        // Go accepts line breaks. Accept the indentation that YAML leaves in as well.
        let data: String = data.split_ascii_whitespace().collect();
        let decoded = BASE64_STANDARD.decode(data);
        return Ok(Some(
            decoded.map_err(|error| format!("{name}-data is not valid base64: {error}"))?,
        ));
    }
    if file.is_empty() {
        return Ok(None);
    }
    let read = std::fs::read(file).map_err(|error| format!("{name} {file}: {error}"))?;
    Ok(Some(read))
}

/// The certificates in `pem`. Other text is skipped, as in Go.
fn certificates(name: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SettingError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem).filter_map(Result::ok).collect();
    match found.is_empty() {
        false => Ok(found),
        true => Err(format!(
            "{name} contains no PEM certificate, which begins with -----BEGIN CERTIFICATE-----"
        )
        .into()),
    }
}

impl Identity {
    pub(super) fn parse(certificate: &[u8], key: &[u8]) -> Result<Self, SettingError> {
        let certificates = certificates("client-certificate", certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| {
            let is_encrypted = key.windows(9).any(|word| word == b"ENCRYPTED");
            if is_encrypted {
                "client-key is encrypted: `openssl pkey -in KEY -out PLAIN` removes the \
                 passphrase"
                    .to_owned()
            } else {
                format!("client-key contains no PEM private key: {error}")
            }
        })?;
        Ok(Self { certificates, key })
    }
}

impl Access {
    fn anonymous(url: Uri) -> Self {
        Self {
            url,
            tls: None,
            credentials: Credentials::Anonymous,
            impersonated: AuthInfo::default(),
            proxy: None,
            notes: Vec::new(),
        }
    }

    /// Names the server and the proxy, for the log.
    pub(super) fn server(&self) -> String {
        let url = self.url.to_string();
        let url = url.trim_end_matches('/');
        match &self.proxy {
            Some(proxy) => format!("{url} through the proxy {}", proxy.shown()),
            None => url.to_owned(),
        }
    }
}

fn impersonated(user: &mut KubeconfigUser) -> AuthInfo {
    let text = |text: &mut String| Some(std::mem::take(text)).filter(|text| !text.is_empty());
    AuthInfo {
        impersonate: text(&mut user.impersonate),
        impersonate_uid: text(&mut user.impersonate_uid),
        impersonate_groups: Some(std::mem::take(&mut user.impersonate_groups)),
        impersonate_user_extra: Some(std::mem::take(&mut user.impersonate_extra)),
        ..AuthInfo::default()
    }
}

/// Decodes UTF-8 and UTF-16. Windows editors write UTF-16, and UTF-8 with a byte order mark.
fn text_of(bytes: Vec<u8>) -> Result<String, &'static str> {
    let utf_16 = |unit: fn([u8; 2]) -> u16| {
        let (units, _) = bytes[2..].as_chunks();
        String::from_utf16(&units.iter().copied().map(unit).collect::<Vec<_>>()).ok()
    };
    let text = match bytes.as_slice() {
        [0xFF, 0xFE, ..] => utf_16(u16::from_le_bytes),
        [0xFE, 0xFF, ..] => utf_16(u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, rest @ ..] => String::from_utf8(rest.to_vec()).ok(),
        _ => String::from_utf8(bytes).ok(),
    };
    text.ok_or("the file is not UTF-8 or UTF-16 text")
}
