//! Converts directives and options that CoreDNS has removed from its Corefile.
//!
//! Invariant: every change has a note with the reason.

use super::Conversion;
use super::proxy;
use crate::corefile::outline::{OutlineStatement, Section};

/// An option that CoreDNS has removed.
struct RetiredOption {
    plugins: &'static [&'static str],
    option: &'static str,
    why: &'static str,
}

const RETIRED_OPTIONS: &[RetiredOption] = &[
    RetiredOption {
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
        why: "since CoreDNS 1.7 the targets of CNAME records are looked up without it",
    },
    RetiredOption {
        plugins: &["kubernetes"],
        option: "resyncperiod",
        why: "since CoreDNS 1.7 the API server is watched, and nothing is resynchronized",
    },
    RetiredOption {
        plugins: &["kubernetes"],
        option: "transfer",
        why: "since CoreDNS 1.8 this is the plugin `transfer`, which ringdns does not have: \
              it serves no zone transfers",
    },
];

/// Converts one section.
pub(super) fn convert(section: &Section, conversion: &mut Conversion<'_>) {
    proxy::convert(section, conversion);
    for statement in &section.statements {
        match statement.name.text.as_str() {
            "federation" if !statement.has_long_quote() => {
                conversion.edits.delete(conversion.text, statement);
                conversion.note(
                    statement,
                    "`federation` is deleted with its block: Kubernetes no longer has this kind of \
                     federation, and CoreDNS no such plugin since 1.7; names like \
                     `SERVICE.NAMESPACE.FEDERATION.svc` are not served",
                );
            }
            "loadbalance" => loadbalance(statement, conversion),
            _ => options(statement, conversion),
        }
    }
}

fn loadbalance(statement: &OutlineStatement, conversion: &mut Conversion<'_>) {
    if let [policy] = statement.args.as_slice()
        && policy.text == "round_robin"
    {
        conversion.edits.replace(statement.line_range(), "loadbalance");
        conversion
            .note(statement, "`round_robin` is left out: it is the only policy, and the default");
    }
}

fn options(statement: &OutlineStatement, conversion: &mut Conversion<'_>) {
    let plugin = statement.name.text.as_str();
    for option in statement.body.iter().flat_map(|body| &body.statements) {
        if plugin == "kubernetes" && option.name.text == "endpoint" {
            endpoints(option, conversion);
        }
        let is_it = |retired: &&RetiredOption| {
            retired.option == option.name.text && retired.plugins.contains(&plugin)
        };
        let Some(retired) = RETIRED_OPTIONS.iter().find(is_it).filter(|_| !option.has_long_quote())
        else {
            continue;
        };
        conversion.edits.delete(conversion.text, option);
        conversion.note(
            option,
            &format!("`{}` of `{plugin}` is deleted: {}", retired.option, retired.why),
        );
    }
}

fn endpoints(option: &OutlineStatement, conversion: &mut Conversion<'_>) {
    if let [first, .., _] = option.args.as_slice() {
        let rest = first.range.end..option.line_range().end;
        conversion.edits.replace(rest, "");
        let why = "only the first is used since CoreDNS 1.4";
        conversion.note(option, &format!("only `{}` is left of the endpoints: {why}", first.text));
    }
}
