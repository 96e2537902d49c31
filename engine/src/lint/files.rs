//! The files that the lines of a block name. Whether they exist is not looked up here: a machine
//! that checks a Corefile may lack files that the cluster has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{LintBlock, options, warn};
use crate::corefile::Context;
use crate::corefile::lexer::Token;
use crate::corefile::report::{Mistake, NamedFile};
use crate::corefile::source::Span;
use crate::corefile::statement::Statement;
use crate::corefile::value::target::{self, Target};
use crate::corefile::word::quoted;

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
        kubeconfig.chain(tls).chain(manifests).chain(snapshots(line)).collect()
    }),
    ("file", |line| line.args.first().into_iter().collect()),
    ("auto", |line| options(line, "directory").filter_map(|option| option.args.first()).collect()),
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

/// The files that a `kubernetes` line keeps its cluster's last state in: one, or a mistake.
fn snapshots(line: &Statement) -> impl Iterator<Item = &Token> {
    let is_kubernetes = line.name.text == "kubernetes";
    let named = options(line, "snapshot").filter_map(|option| option.args.first());
    named.filter(move |_| is_kubernetes)
}

/// Warns of two lines that write the same file. Each would replace what the other has written.
pub(super) fn shared_snapshot(blocks: &[LintBlock<'_>], context: &mut Context<'_>) {
    let mut seen: HashMap<PathBuf, Span> = HashMap::new();
    for block in blocks {
        for line in block.lines("kubernetes") {
            for word in snapshots(line) {
                let file = context.folder(word.span).join(&word.text);
                let Some(other) = seen.insert(file, word.span) else { continue };
                let message = format!("two clusters keep their snapshot in {}", quoted(&word.text));
                let mistake = Mistake::warning(word.span, message)
                    .label("each replaces the other's")
                    .also(other, "the other")
                    .help("give each `kubernetes` a file of its own");
                warn(line, mistake, context);
            }
        }
    }
}

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
                let is_snapshot = snapshots(line).any(|snapshot| snapshot.span == word.span);
                let path = match *plugin {
                    // It is written there; only its folder must exist.
                    "kubernetes" if is_snapshot => match Path::new(&word.text).parent() {
                        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
                        Some(_) | None => continue,
                    },
                    "file" | "auto" | "hosts" | "tls" => root.join(&word.text),
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
