//! `tls`: the certificate of a block's `tls://` and `https://` listeners, and what is asked of
//! clients.
//!
//! The options are read here; `config` reads the files. `crate::tcp` serves the connections.

pub mod config;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::draft::{BlockDraft, LoadContext, LoadError, Loading};
use super::{Plugin, ServerBlock};
use crate::corefile::report::{Mistake, Refusal};
use crate::corefile::statement::{Setting, Statement, not_built, sets};
use crate::corefile::value::key::Scheme;
use crate::corefile::word::quoted;
use crate::corefile::{Context, Place};
use crate::limits::FILE_TIMEOUT;
use config::ServerTls;

/// `tls CERT KEY [CA] { client_auth … }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Files in PEM format. Relative paths start at `root`.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Of the authority that clients' certificates are verified with [the system's certificates].
    pub authority: Option<PathBuf>,
    /// [nocert]
    pub client_auth: ClientAuth,
    pub place: Place,
}

/// The client's certificate, in CoreDNS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not asked for.
    NoCert,
    /// Asked for, and not verified.
    Request,
    /// Required, and not verified.
    Require,
    /// Asked for, and verified if there is one.
    VerifyIfGiven,
    /// Required and verified.
    RequireAndVerify,
}

impl ClientAuth {
    const ALL: [(&str, Self); 5] = [
        ("nocert", Self::NoCert),
        ("request", Self::Request),
        ("require", Self::Require),
        ("verify_if_given", Self::VerifyIfGiven),
        ("require_and_verify", Self::RequireAndVerify),
    ];
}

impl Plugin for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn sees_queries(&self) -> bool {
        false
    }

    fn put<'a>(&'a self, block: &'a mut BlockDraft, context: &'a LoadContext<'a>) -> Loading<'a> {
        Box::pin(async {
            let in_root = |path: &PathBuf| context.block.in_root(path);
            let tls = Self {
                certificate: in_root(&self.certificate),
                key: in_root(&self.key),
                authority: self.authority.as_ref().map(in_root),
                ..self.clone()
            };
            let loading = spawn_blocking(move || ServerTls::load(&tls));
            let problem = match timeout(FILE_TIMEOUT, loading).await {
                Ok(Ok(Ok(loaded))) => {
                    block.tls = Some(Arc::new(loaded));
                    return Ok(());
                }
                Ok(Ok(Err(problem))) => problem,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer from a file within {} s", FILE_TIMEOUT.as_secs()),
            };
            Err(LoadError { place: self.place.clone(), problem: problem.into() })
        })
    }
}

pub(crate) const USAGE: &str = "tls CERT KEY [CA] { … }";

pub(crate) const SETTINGS: &[Setting<Tls>] = &[
    sets("client_auth", CLIENT_AUTH, client_auth),
    not_built("keylog", "keylog FILE", "delete the line: ringdns never writes session keys"),
];

const CLIENT_AUTH: &str = "client_auth nocert|request|require|verify_if_given|require_and_verify";

pub(crate) fn read(statement: &Statement, block: &mut ServerBlock, context: &mut Context<'_>) {
    let (certificate, key, authority) = match statement.args.as_slice() {
        [] => {
            let message = "certificates by ACME are known but not built yet";
            let refusal = Refusal::new(message, "no certificate is named");
            let help = "write `tls CERT KEY`; another program can renew the files, and ringdns \
                        reads them again";
            return context.refuse(statement.name.span, refusal.help(help));
        }
        [certificate, key] => (certificate, key, None),
        [certificate, key, authority] => (certificate, key, Some(authority)),
        [_] | [_, _, _, ..] => return statement.wrong_count(3, USAGE, context),
    };
    let mut tls = Tls {
        certificate: certificate.text.clone().into(),
        key: key.text.clone().into(),
        authority: authority.map(|word| word.text.clone().into()),
        client_auth: ClientAuth::NoCert,
        place: context.place(statement.name.span),
    };
    statement.read_settings(SETTINGS, &mut tls, context);
    if block.keys.iter().all(|key| !matches!(key.scheme, Scheme::Tls | Scheme::Https)) {
        let message = "'tls' in a block without a zone that begins with `tls://` or `https://`";
        let mistake = Mistake::warning(statement.name.span, message).label("not used");
        context.report(mistake.help("write `tls://` before a zone, as in `tls://.`"));
    }
    block.push(tls);
}

fn client_auth(line: &Statement, tls: &mut Tls, context: &mut Context<'_>) {
    let Some([word]) = line.exactly::<1>(CLIENT_AUTH, context) else { return };
    match ClientAuth::ALL.iter().find(|(name, _)| *name == word.text) {
        Some((_, client_auth)) => tls.client_auth = *client_auth,
        None => {
            let message = format!("unknown authentication type '{}'", quoted(&word.text));
            let refusal = Refusal::new(message, "not one of the five");
            context.refuse(word.span, refusal.help(format!("usage: `{CLIENT_AUTH}`")));
        }
    }
}
