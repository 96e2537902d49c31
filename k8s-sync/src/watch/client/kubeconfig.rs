//! Parses a kubeconfig and selects the cluster and the user of a context. The files it refers to
//! are not read here.
//!
//! As in client-go, a missing field and an empty one are the same, and only what the context refers
//! to has to be complete.

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(deserialize_with = "or_default")]
    current_context: String,
    #[serde(deserialize_with = "or_default")]
    contexts: Vec<NamedContext>,
    #[serde(deserialize_with = "or_default")]
    clusters: Vec<NamedCluster>,
    #[serde(deserialize_with = "or_default")]
    users: Vec<NamedUser>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedContext {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    context: KubeconfigContext,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KubeconfigContext {
    #[serde(deserialize_with = "or_default")]
    cluster: String,
    #[serde(deserialize_with = "or_default")]
    user: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedCluster {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    cluster: KubeconfigCluster,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NamedUser {
    #[serde(deserialize_with = "or_default")]
    name: String,
    #[serde(deserialize_with = "or_default")]
    user: KubeconfigUser,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct KubeconfigCluster {
    #[serde(deserialize_with = "or_default")]
    pub(super) server: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) tls_server_name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) insecure_skip_tls_verify: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) certificate_authority: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) certificate_authority_data: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) proxy_url: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) disable_compression: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) extensions: Vec<Extension>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Extension {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    pub(super) extension: Value,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct KubeconfigUser {
    #[serde(deserialize_with = "or_default")]
    pub(super) token: String,
    #[serde(rename = "tokenFile", deserialize_with = "or_default")]
    pub(super) token_file: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) username: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) password: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client_certificate: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client_certificate_data: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client_key: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client_key_data: String,
    #[serde(rename = "as", deserialize_with = "or_default")]
    pub(super) impersonate: String,
    #[serde(rename = "as-uid", deserialize_with = "or_default")]
    pub(super) impersonate_uid: String,
    #[serde(rename = "as-groups", deserialize_with = "or_default")]
    pub(super) impersonate_groups: Vec<String>,
    #[serde(rename = "as-user-extra", deserialize_with = "or_default")]
    pub(super) impersonate_extra: HashMap<String, Vec<String>>,
    pub(super) auth_provider: Option<AuthProvider>,
    pub(super) exec: Option<Exec>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AuthProvider {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) config: HashMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Exec {
    #[serde(deserialize_with = "or_default")]
    pub(super) api_version: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) command: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) args: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub(super) env: Vec<Variable>,
    #[serde(deserialize_with = "or_default")]
    pub(super) install_hint: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) provide_cluster_info: bool,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Variable {
    #[serde(deserialize_with = "or_default")]
    pub(super) name: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) value: String,
}

/// What a context selects.
pub(super) enum SelectedContext {
    Entries(Box<(KubeconfigCluster, KubeconfigUser)>),
    /// There is no cluster; the text says why. client-go then uses the pod's service account, if
    /// there is one.
    Nothing(String),
}

/// The cluster and the user of `context`, or of the current context. Paths are made absolute,
/// relative to `folder`.
///
/// # Errors
/// The text is not a kubeconfig, or the context is missing.
pub(super) fn select(
    text: &str,
    folder: &Path,
    context: Option<&str>,
) -> Result<SelectedContext, String> {
    let config = parse(text)?;
    let name = context.unwrap_or(&config.current_context);
    let found = config.contexts.into_iter().find(|context| context.name == name);
    let context = match found {
        Some(found) => found.context,
        None if name.is_empty() => KubeconfigContext::default(),
        None => return Err(format!("it has no context {name}")),
    };
    let cluster_name = &context.cluster;
    let mut cluster = match config.clusters.into_iter().find(|it| it.name == *cluster_name) {
        Some(found) if !found.cluster.server.trim().is_empty() => found.cluster,
        Some(_) => {
            return Ok(SelectedContext::Nothing(format!("cluster {cluster_name} has no server")));
        }
        None if name.is_empty() => {
            return Ok(SelectedContext::Nothing("it has no current-context".to_owned()));
        }
        None => {
            let cause = format!(
                "context {name} names cluster {cluster_name:?}, which the file does not define"
            );
            return Ok(SelectedContext::Nothing(cause));
        }
    };
    // As in client-go, a missing user is anonymous.
    let user = config.users.into_iter().find(|user| user.name == context.user);
    let mut user = user.map(|found| found.user).unwrap_or_default();
    let paths = [
        &mut cluster.certificate_authority,
        &mut user.client_certificate,
        &mut user.client_key,
        &mut user.token_file,
    ];
    paths.into_iter().for_each(|path| make_absolute(path, folder));
    // A command without a slash is looked up in PATH.
    if let Some(exec) = user.exec.as_mut().filter(|exec| exec.command.contains('/')) {
        make_absolute(&mut exec.command, folder);
    }
    Ok(SelectedContext::Entries(Box::new((cluster, user))))
}

/// The last of duplicate keys counts. Several documents are merged: the first of several equal
/// names counts.
fn parse(text: &str) -> Result<Kubeconfig, String> {
    // A snippet would put tokens into the log.
    let options = serde_saphyr::options! {
        budget: None,
        with_snippet: false,
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
    };
    let documents = serde_saphyr::from_multiple_with_options::<Option<Kubeconfig>>(text, options)
        .map_err(|error| error.to_string())?;
    let mut config = Kubeconfig::default();
    for mut document in documents.into_iter().flatten() {
        if config.current_context.is_empty() {
            config.current_context = document.current_context;
        }
        config.contexts.append(&mut document.contexts);
        config.clusters.append(&mut document.clusters);
        config.users.append(&mut document.users);
    }
    Ok(config)
}

fn make_absolute(path: &mut String, folder: &Path) {
    if !path.is_empty() {
        *path = folder.join(&*path).display().to_string();
    }
}

/// `null` means the default, as in Go.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}
