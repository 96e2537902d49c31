//! The files that the lines of a block name. Whether they exist is not looked up here: a machine
//! that checks a Corefile may lack files that the cluster has.

use std::net::IpAddr;
use std::path::PathBuf;

use super::{LintBlock, options};
use crate::corefile::lexer::Token;
use crate::corefile::report::NamedFile;
use crate::corefile::statement::Statement;
use crate::corefile::value::target::{self, Target};

/// The words of a directive that name files.
type FileWords = fn(&Statement) -> Vec<&Token>;

const FILES: &[(&str, FileWords)] = &[
    ("tls", |line| line.args.iter().collect()),
    ("hosts", |line| {
        // The lint `entry` warns of an address.
        let is_file = |word: &&Token| word.text.parse::<IpAddr>().is_err();
        line.args.first().filter(is_file).into_iter().collect()
    }),
    ("kubernetes", |line| {
        let kubeconfig = options(line, "kubeconfig").filter_map(|option| option.args.first());
        let tls = options(line, "tls").flat_map(|option| &option.args);
        let manifests = options(line, "manifests").flat_map(|option| &option.args);
        kubeconfig.chain(tls).chain(manifests).collect()
    }),
    ("file", |line| line.args.first().into_iter().collect()),
    ("forward", |line| {
        let upstreams = line.args.iter().skip(1);
        let is_file = |word: &&Token| match target::read(&word.text) {
            Ok(Target::ResolvConf(_)) => true,
            Ok(Target::Dns(_) | Target::LinkLocal { .. } | Target::Tls { .. }) => false,
            Ok(Target::Host { .. }) | Err(_) => false,
        };
        let tls = options(line, "tls").flat_map(|option| &option.args);
        upstreams.filter(is_file).chain(tls).collect()
    }),
    ("autopath", |line| {
        line.args.last().filter(|word| !word.text.starts_with('@')).into_iter().collect()
    }),
];

/// In the order of the Corefile. Relative paths start from `root` if the plugin's do.
pub(crate) fn named(blocks: &[LintBlock<'_>]) -> Vec<NamedFile> {
    let mut named = Vec::new();
    for block in blocks {
        // The last one counts.
        let root = block.lines("root").filter_map(|line| line.args.first()).last();
        let root = root.map_or_else(PathBuf::new, |word| PathBuf::from(&word.text));
        for line in &block.parsed.statements {
            let Some((plugin, words)) = FILES.iter().find(|(name, _)| *name == line.name.text)
            else {
                continue;
            };
            for word in words(line).into_iter().filter(|word| !word.text.is_empty()) {
                let is_argument = line.args.iter().any(|arg| arg.span == word.span);
                let path = match *plugin {
                    "file" | "hosts" | "tls" => root.join(&word.text),
                    // The option `tls`.
                    "forward" if !is_argument => root.join(&word.text),
                    _ => PathBuf::from(&word.text),
                };
                named.push(NamedFile { path, span: word.span, plugin });
            }
        }
    }
    named
}
