//! Words that CoreDNS has retired from its Corefile, and what to write instead.

use super::Conversion;
use super::proxy;
use crate::corefile::outline::{Section, Statement};

/// An option that is gone from a plugin.
struct Gone {
    plugins: &'static [&'static str],
    option: &'static str,
    why: &'static str,
}

const GONE: &[Gone] = &[
    Gone {
        plugins: &[
            "kubernetes",
            "k8s_external",
            "template",
            "file",
            "auto",
            "secondary",
            "etcd",
            "route53",
        ],
        option: "upstream",
        why: "the targets of CNAME records are looked up without it since CoreDNS 1.7",
    },
    Gone {
        plugins: &["kubernetes"],
        option: "resyncperiod",
        why: "since CoreDNS 1.7 the API server is watched, and nothing is read again",
    },
    Gone {
        plugins: &["kubernetes"],
        option: "transfer",
        why: "since CoreDNS 1.8 this is the plugin `transfer`, which ringdns does not have: \
              no zone is given away",
    },
];

/// Brings one section up to date.
pub(super) fn convert(section: &Section, draft: &mut Conversion<'_>) {
    proxy::convert(section, draft);
    for statement in &section.statements {
        match statement.name.text.as_str() {
            "federation" if !statement.has_long_quote() => {
                draft.edits.delete(draft.text, statement);
                draft.note(
                    statement,
                    "`federation` is deleted with its block: Kubernetes has no federation of this \
                     kind any more, and CoreDNS no such plugin since 1.7; names like \
                     `SERVICE.NAMESPACE.FEDERATION.svc` are not answered",
                );
            }
            "loadbalance" => loadbalance(statement, draft),
            _ => options(statement, draft),
        }
    }
}

fn loadbalance(statement: &Statement, draft: &mut Conversion<'_>) {
    if let [policy] = statement.args.as_slice()
        && policy.text == "round_robin"
    {
        draft.edits.replace(statement.line_range(), "loadbalance");
        draft.note(
            statement,
            "`round_robin` is left out: it is the only policy, and need not be named",
        );
    }
}

fn options(statement: &Statement, draft: &mut Conversion<'_>) {
    let plugin = statement.name.text.as_str();
    for option in statement.body.iter().flat_map(|body| &body.statements) {
        if plugin == "kubernetes" && option.name.text == "endpoint" {
            endpoints(option, draft);
        }
        let is_it =
            |gone: &&Gone| gone.option == option.name.text && gone.plugins.contains(&plugin);
        let Some(gone) = GONE.iter().find(is_it).filter(|_| !option.has_long_quote()) else {
            continue;
        };
        draft.edits.delete(draft.text, option);
        draft.note(option, &format!("`{}` of `{plugin}` is deleted: {}", gone.option, gone.why));
    }
}

fn endpoints(option: &Statement, draft: &mut Conversion<'_>) {
    if let [first, .., _] = option.args.as_slice() {
        let rest = first.range.end..option.line_range().end;
        draft.edits.replace(rest, "");
        let why = "of several the first alone counts since CoreDNS 1.4";
        draft.note(option, &format!("only `{}` is left of the endpoints: {why}", first.text));
    }
}
