//! The options of `kubernetes` that select the cluster and the way to reach it. No connection is
//! made here.

use std::path::PathBuf;

use super::KubernetesReading;
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::source::Span;
use crate::corefile::statement::Statement;
use crate::corefile::word::quoted;

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// The API server of the cluster that the pod runs in, by its service account.
    OwnPod,
    Endpoint {
        url: String,
        tls: Option<ClientTls>,
    },
    /// `None`: the file's current context. A relative path is relative to the working directory, as
    /// in CoreDNS.
    Kubeconfig {
        file: PathBuf,
        context: Option<String>,
    },
    /// Output of `kubectl get … -o yaml`: files and folders, at least one.
    Manifests(Vec<PathBuf>),
}

/// `tls CERT KEY CA`: PEM files; a relative path is relative to the working directory, as in
/// CoreDNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

/// Limits of the client's own requests [none].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ApiLimits {
    /// Finite, not negative.
    pub qps: Option<f32>,
    pub burst: Option<u32>,
    pub max_inflight: Option<u32>,
}

/// The options with their positions, validated after all of them have been read.
#[derive(Default)]
pub(crate) struct ClusterReading {
    endpoint: Option<(String, Span)>,
    tls: Option<(ClientTls, Span)>,
    kubeconfig: Option<(PathBuf, Option<String>, Span)>,
    manifests: Option<(Vec<PathBuf>, Span)>,
    snapshot: Option<(PathBuf, Span)>,
}

pub(crate) const ENDPOINT: &str = "endpoint URL";
pub(crate) const TLS: &str = "tls CERT KEY CA";
pub(crate) const KUBECONFIG: &str = "kubeconfig FILE [CONTEXT]";
pub(crate) const MANIFESTS: &str = "manifests PATH…";
pub(crate) const SNAPSHOT: &str = "snapshot FILE";
pub(crate) const QPS: &str = "apiserver_qps NUMBER";
pub(crate) const BURST: &str = "apiserver_burst NUMBER";
pub(crate) const MAX_INFLIGHT: &str = "apiserver_max_inflight NUMBER";

impl ClusterReading {
    pub(crate) fn snapshot(&self) -> Option<PathBuf> {
        self.snapshot.as_ref().map(|(file, _)| file.clone())
    }

    /// The cluster, and the position of the option that selects it.
    pub(crate) fn finish(self, context: &mut Context<'_>) -> (Cluster, Option<Span>) {
        match (self.manifests, self.kubeconfig, self.endpoint) {
            (Some((paths, at)), kubeconfig, endpoint) => {
                let others = [
                    ("kubeconfig", kubeconfig.map(|(_, _, at)| at)),
                    ("endpoint", endpoint.map(|(_, at)| at)),
                    ("tls", self.tls.map(|(_, at)| at)),
                    ("snapshot", self.snapshot.map(|(_, at)| at)),
                ];
                for (name, other) in others {
                    if let Some(other) = other {
                        let message = format!("manifests and {name} cannot both be set");
                        let mistake =
                            Mistake::error(other, message).label("the API server is not used");
                        context.report(mistake.also(at, "because of this"));
                    }
                }
                (Cluster::Manifests(paths), Some(at))
            }
            (None, Some((file, name, at)), endpoint) => {
                unused("endpoint", endpoint.map(|(_, at)| at), at, context);
                unused("tls", self.tls.map(|(_, at)| at), at, context);
                (Cluster::Kubeconfig { file, context: name }, Some(at))
            }
            (None, None, Some((url, at))) => {
                // A URL is seldom unreadable; a file may be.
                let (tls, at) = match self.tls {
                    Some((files, tls_at)) => (Some(files), tls_at),
                    None => (None, at),
                };
                (Cluster::Endpoint { url, tls }, Some(at))
            }
            (None, None, None) => {
                if let Some((_, at)) = self.tls {
                    let mistake = Mistake::warning(at, "'tls' is used only with 'endpoint'");
                    context.report(mistake.label("ignored"));
                }
                (Cluster::OwnPod, None)
            }
        }
    }
}

/// Warns of a setting that `kubeconfig` overrides.
fn unused(name: &str, at: Option<Span>, kubeconfig_at: Span, context: &mut Context<'_>) {
    let Some(at) = at else { return };
    let mistake = Mistake::warning(at, format!("'{name}' is ignored because 'kubeconfig' is set"))
        .label("ignored")
        .also(kubeconfig_at, "because of this");
    context.report(mistake);
}

pub(crate) fn endpoint(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some([first, others @ ..]) = line.at_least_one(ENDPOINT, context) else { return };
    if let Some(other) = others.first() {
        let message = format!(
            "Multiple endpoints have been deprecated, only the first specified endpoint '{}' is \
             used",
            quoted(&first.text)
        );
        context.report(Mistake::warning(other.span, message).label("ignored"));
    }
    draft.cluster.endpoint = Some((first.text.clone(), line.name.span));
}

pub(crate) fn tls(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some([certificate, key, authority]) = line.exactly(TLS, context) else { return };
    let file = |word: &Token| PathBuf::from(&word.text);
    let files =
        ClientTls { certificate: file(certificate), key: file(key), authority: file(authority) };
    draft.cluster.tls = Some((files, line.name.span));
}

pub(crate) fn kubeconfig(
    line: &Statement,
    draft: &mut KubernetesReading,
    context: &mut Context<'_>,
) {
    let (file, name) = match line.args.as_slice() {
        [file] => (file, None),
        [file, name] => (file, Some(name.text.clone())),
        _ => return line.wrong_count(2, KUBECONFIG, context),
    };
    draft.cluster.kubeconfig = Some((PathBuf::from(&file.text), name, line.name.span));
}

pub(crate) fn manifests(
    line: &Statement,
    draft: &mut KubernetesReading,
    context: &mut Context<'_>,
) {
    let Some(words) = line.at_least_one(MANIFESTS, context) else { return };
    let (paths, _) = draft.cluster.manifests.get_or_insert((Vec::new(), line.name.span));
    paths.extend(words.iter().map(|word| context.folder(word.span).join(&word.text)));
}

pub(crate) fn snapshot(line: &Statement, draft: &mut KubernetesReading, context: &mut Context<'_>) {
    let Some([word]) = line.exactly(SNAPSHOT, context) else { return };
    let file = context.folder(word.span).join(&word.text);
    if file.file_name().is_none() || word.text.ends_with('/') {
        let message = format!("'{}' is not the name of a file", quoted(&word.text));
        let refusal = Refusal::new(message, "a folder");
        return context.refuse(word.span, refusal.help("name a file in it: it is written anew"));
    }
    draft.cluster.snapshot = Some((file, line.name.span));
}

pub(crate) fn apiserver_qps(
    line: &Statement,
    draft: &mut KubernetesReading,
    context: &mut Context<'_>,
) {
    let Some([word]) = line.exactly(QPS, context) else { return };
    match word.text.parse::<f32>() {
        Ok(qps) if qps.is_finite() && qps >= 0.0 => draft.api_limits.qps = Some(qps),
        Ok(_) | Err(_) => not_a_limit("apiserver_qps", word, context),
    }
}

pub(crate) fn apiserver_burst(
    line: &Statement,
    draft: &mut KubernetesReading,
    context: &mut Context<'_>,
) {
    let Some([word]) = line.exactly(BURST, context) else { return };
    match word.text.parse() {
        Ok(burst) => draft.api_limits.burst = Some(burst),
        Err(_) => not_a_limit("apiserver_burst", word, context),
    }
}

pub(crate) fn apiserver_max_inflight(
    line: &Statement,
    draft: &mut KubernetesReading,
    context: &mut Context<'_>,
) {
    let Some([word]) = line.exactly(MAX_INFLIGHT, context) else { return };
    match word.text.parse() {
        Ok(max) => draft.api_limits.max_inflight = Some(max),
        Err(_) => not_a_limit("apiserver_max_inflight", word, context),
    }
}

fn not_a_limit(name: &str, word: &Token, context: &mut Context<'_>) {
    let message = format!("invalid {name} \"{}\"", quoted(&word.text));
    context
        .refuse(word.span, Refusal::new(message, "not such a number").help("a number, 0 or more"));
}
