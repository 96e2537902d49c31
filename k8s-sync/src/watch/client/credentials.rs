//! The `Authorization` header of each request, in client-go's order: token file, token, basic, exec
//! plugin.
//!
//! A client certificate is sent in the handshake in addition to these, except that it replaces the
//! plugin.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::HeaderValue;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::exec::Plugin;
use super::kubeconfig::{AuthProvider, KubeconfigCluster, KubeconfigUser};
use super::{ConnectError, SettingError};

pub(super) enum Credentials {
    Anonymous,
    Fixed(HeaderValue),
    File(TokenFile),
    Plugin(Box<Plugin>),
}

/// How long a request waits for its token file, which may be on a file system that hangs.
const TOKEN_WAIT_MAX: Duration = Duration::from_secs(1);

/// A token file that is read for each request, because rotation is not announced.
pub(super) struct TokenFile {
    file: PathBuf,
    /// The last token that was read: some files are removed after they have been read
    /// (kubernetes#68164).
    last: Arc<Mutex<HeaderValue>>,
    /// Held while the file is being read: by one thread at a time, because it may never end.
    reading: Arc<tokio::sync::Mutex<()>>,
}

impl Credentials {
    /// `authority`: the CA of the cluster, for plugins that ask for it.
    pub(super) fn of(
        user: &KubeconfigUser,
        cluster: &KubeconfigCluster,
        authority: Option<&[u8]>,
    ) -> Result<Self, SettingError> {
        let has_basic = !user.username.is_empty() || !user.password.is_empty();
        let has_token = !user.token.is_empty() || !user.token_file.is_empty();
        match (&user.auth_provider, &user.exec) {
            (Some(_), Some(_)) => {
                return Err("auth-provider and exec are mutually exclusive".into());
            }
            (Some(provider), None) if !has_basic && !has_token => return of_provider(provider),
            (Some(_), None) | (None, _) => {}
        }
        if has_basic && has_token {
            return Err("a token and a username are mutually exclusive".into());
        }
        if has_basic {
            let (name, password) = (&user.username, &user.password);
            let encoded = BASE64_STANDARD.encode(format!("{name}:{password}"));
            return Ok(Self::Fixed(header("Basic", &encoded, "username")?));
        }
        if !user.token_file.is_empty() {
            let token = Some(user.token.as_str()).filter(|token| !token.is_empty());
            return Self::of_file(PathBuf::from(&user.token_file), token);
        }
        if !user.token.is_empty() {
            return Ok(Self::Fixed(bearer(&user.token, "token")?));
        }
        let has_certificate =
            !user.client_certificate.is_empty() || !user.client_certificate_data.is_empty();
        match &user.exec {
            Some(exec) if !has_certificate => {
                Ok(Self::Plugin(Box::new(Plugin::new(exec, cluster, authority)?)))
            }
            Some(_) | None => Ok(Self::Anonymous),
        }
    }

    /// `token` is used while the file cannot be read.
    pub(super) fn of_file(file: PathBuf, token: Option<&str>) -> Result<Self, SettingError> {
        let last = match (read(&file), token) {
            (Ok(header), _) => header,
            (Err(_), Some(token)) => bearer(token, "token")?,
            (Err(fault), None) => return Err(fault),
        };
        let last = Arc::new(Mutex::new(last));
        Ok(Self::File(TokenFile { file, last, reading: Arc::default() }))
    }

    /// The header of the next request.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, ConnectError> {
        match self {
            Self::Anonymous => Ok(None),
            Self::Fixed(header) => Ok(Some(header.clone())),
            Self::File(file) => Ok(Some(file.header().await)),
            Self::Plugin(plugin) => plugin.header().await,
        }
    }
}

impl TokenFile {
    async fn header(&self) -> HeaderValue {
        if let Ok(reading) = Arc::clone(&self.reading).try_lock_owned() {
            let (file, last) = (self.file.clone(), Arc::clone(&self.last));
            let read = spawn_blocking(move || {
                if let Ok(header) = read(&file) {
                    *lock(&last) = header;
                }
                drop(reading);
            });
            // Otherwise the next request has the new token.
            let _ = timeout(TOKEN_WAIT_MAX, read).await;
        }
        lock(&self.last).clone()
    }
}

fn lock(last: &Mutex<HeaderValue>) -> MutexGuard<'_, HeaderValue> {
    last.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KubeconfigUser {
    /// Whether the user has anything that must not be sent over plain http.
    pub(super) fn has_credentials(&self) -> bool {
        let texts = [&self.token, &self.token_file, &self.username, &self.password];
        texts.into_iter().any(|text| !text.is_empty())
            || self.exec.is_some()
            || self.auth_provider.is_some()
    }
}

/// client-go has removed some of these. Others are refreshed in ways that would need one library
/// each.
fn of_provider(provider: &AuthProvider) -> Result<Credentials, SettingError> {
    let name = provider.name.as_str();
    let failed = |cause: String, next_step| Err(SettingError { cause, next_step: Some(next_step) });
    match (name, provider.config.get("id-token").filter(|token| !token.is_empty())) {
        ("oidc", Some(token)) => Ok(Credentials::Fixed(bearer(token, "id-token")?)),
        ("oidc", None) => failed(
            "auth-provider oidc has no id-token".to_owned(),
            "log in with kubectl once, or use an exec plugin such as kubelogin, which also \
             refreshes the token",
        ),
        ("gcp", _) => failed(
            "auth-provider gcp is not supported: client-go removed it too".to_owned(),
            "use the exec plugin gke-gcloud-auth-plugin: `gcloud container clusters \
             get-credentials` writes it",
        ),
        ("azure", _) => failed(
            "auth-provider azure is not supported: client-go removed it too".to_owned(),
            "use the exec plugin kubelogin: `kubelogin convert-kubeconfig` writes it",
        ),
        _ => failed(
            format!("unknown auth-provider {name}"),
            "use a token, a client certificate or an exec plugin",
        ),
    }
}

fn read(file: &PathBuf) -> Result<HeaderValue, SettingError> {
    let name = format!("token file {}", file.display());
    let token = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    if token.trim().is_empty() {
        return Err(format!("{name} is empty").into());
    }
    bearer(&token, &name)
}

/// Trims the token: editors and `echo` end files with a newline.
pub(super) fn bearer(token: &str, name: &str) -> Result<HeaderValue, SettingError> {
    header("Bearer", token.trim(), name)
}

fn header(scheme: &str, value: &str, name: &str) -> Result<HeaderValue, SettingError> {
    let mut header =
        HeaderValue::try_from(format!("{scheme} {value}")).map_err(|_| SettingError {
            cause: format!(
                "{name} contains a line break or a control character, which no header can carry"
            ),
            next_step: Some("it must contain exactly one token"),
        })?;
    header.set_sensitive(true);
    Ok(header)
}
