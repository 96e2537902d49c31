//! A valid Corefile: its server blocks, each with the settings of its plugins. Parsing lives in
//! `corefile`, the directives in `plugin`.
//!
//! Invariant: a `Config` comes from a text without mistakes.

use std::io;
use std::path::{Path, PathBuf};

use crate::convert::{self, custom::TextPart};
use crate::corefile::parser::ParsedBlock;
use crate::corefile::report::{Contents, Mistake, Report, Severity};
use crate::corefile::stream::{self, MountedFile, Stream};
use crate::corefile::{Context, Surroundings, parser};
use crate::lint::{self, LintBlock};
use crate::plugin::{ServerBlock, directives, imported, overlap};

/// A Corefile without mistakes.
#[derive(Debug)]
pub struct Config {
    /// At least one, in the order of the Corefile.
    pub blocks: Vec<ServerBlock>,
    /// Every file read: the Corefile, then what it imports.
    pub files: Vec<PathBuf>,
    /// Every folder that an `import` with a wildcard looked into: a new file there may change the
    /// configuration.
    pub folders: Vec<PathBuf>,
    /// SHA-512 in hexadecimal over the words, imports included. Comments and white space do not
    /// change it.
    pub digest: String,
    /// Warnings: what is unusual but works.
    pub warnings: Report,
    /// The text has no server block. `blocks` are those that are served in its place.
    pub is_empty: bool,
}

/// Reads the Corefile at `path` with the environment variables and interfaces of this process.
///
/// # Errors
/// The mistakes in it, or why it cannot be read.
pub fn load(path: &Path, default_port: u16) -> Result<Config, Report> {
    let text = match stream::read(path) {
        Ok(text) => text,
        Err(error) => return Err(unreadable(path, &error, NamedBy::Flag)),
    };
    let surroundings = Surroundings::of_process(default_port);
    read(&path.display().to_string(), Some(path), &text, &surroundings)
}

/// Where the path of a Corefile comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedBy {
    /// `-conf`
    Flag,
    /// `-basecorefile`
    BaseFlag,
    /// `ringdns check PATH`
    Check,
}

/// The report of a Corefile that cannot be read: why, and what to do.
pub(crate) fn unreadable(path: &Path, error: &io::Error, named_by: NamedBy) -> Report {
    let help = match (error.kind(), named_by) {
        (io::ErrorKind::NotFound, NamedBy::Flag) => {
            "`-conf FILE` names the Corefile; in a pod, see `volumeMounts` and the ConfigMap's keys"
                .to_owned()
        }
        (io::ErrorKind::PermissionDenied, _) => {
            format!("the user of this process may not read it: `ls -l {}`", path.display())
        }
        (_, NamedBy::BaseFlag) => {
            "`-basecorefile FILE` names the base Corefile; in a pod, see `volumeMounts`".to_owned()
        }
        _ if path.is_dir() => {
            format!("name the file in it: `-conf {}`", path.join("Corefile").display())
        }
        (_, NamedBy::Flag) => "`-conf FILE` names the Corefile".to_owned(),
        (_, NamedBy::Check) => {
            "name a Corefile, a folder with one, or a file of ConfigMaps; `-` is standard input"
                .to_owned()
        }
    };
    let mistake = Mistake::without_place(format!("open {}: {error}", path.display())).help(help);
    Report::of(mistake, vec![path.to_path_buf()])
}

/// Reads `text`, called `name` in messages. Relative imports are relative to the folder of `name`.
///
/// # Errors
/// The mistakes in it.
pub fn parse(name: &str, text: &str, surroundings: &Surroundings<'_>) -> Result<Config, Report> {
    read(name, None, text, surroundings)
}

/// Reads `text`, which came from the file `path`, if any.
///
/// # Errors
/// The mistakes in it.
pub(crate) fn read(
    name: &str,
    path: Option<&Path>,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Report> {
    read_rendered(name, path, text, Vec::new(), surroundings)
}

/// Reads `text`, which was rendered from the file `path`, if any, with mistakes that are known
/// already.
///
/// # Errors
/// These and the other mistakes in it.
pub(crate) fn read_rendered(
    name: &str,
    path: Option<&Path>,
    text: &str,
    known: Vec<Mistake>,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Report> {
    if convert::is_object(text) {
        return Err(not_a_corefile(name, path));
    }
    let mut stream = Stream::new(name, path, text, surroundings);
    known.into_iter().for_each(|mistake| stream.mistakes.push(mistake));
    let parsed = parser::blocks(&mut stream);
    compile(Some(name), path, stream, parsed, surroundings)
}

/// Reads a text that a Corefile imports, as the part of it that it is.
///
/// # Errors
/// The mistakes in it.
pub(crate) fn read_imported(
    name: &str,
    path: Option<&Path>,
    text: &str,
    part: TextPart,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Report> {
    let mut stream = Stream::new(name, path, text, surroundings);
    let parsed = parsed_as(Some(part), &mut stream);
    compile(None, path, stream, parsed, surroundings)
}

/// Reads a key of a ConfigMap, which may import others of its keys, with mistakes that are known
/// already. Also returns the keys that it imports.
///
/// # Errors
/// The mistakes in them.
pub(crate) fn read_mounted(
    file: &MountedFile,
    others: &[MountedFile],
    known: Vec<Mistake>,
    surroundings: &Surroundings<'_>,
) -> (Result<Config, Report>, Vec<PathBuf>) {
    let mut stream = Stream::of_mounted(file, others, surroundings);
    known.into_iter().for_each(|mistake| stream.mistakes.push(mistake));
    let part = TextPart::of(&file.key);
    let parsed = parsed_as(part, &mut stream);
    let imported = stream.files.clone();
    let name = part.is_none().then_some(file.name.as_str());
    (compile(name, None, stream, parsed, surroundings), imported)
}

/// A part of a server block is directives without a block around them.
fn parsed_as(part: Option<TextPart>, stream: &mut Stream<'_>) -> Vec<ParsedBlock> {
    match part {
        Some(TextPart::Block) => vec![parser::part(stream)],
        Some(TextPart::Corefile) | None => parser::blocks(stream),
    }
}

/// `name`: of a whole Corefile, which has a server block.
fn compile(
    name: Option<&str>,
    path: Option<&Path>,
    stream: Stream<'_>,
    parsed: Vec<ParsedBlock>,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Report> {
    let digest = stream.digest();
    let is_stopped = stream.stopped;
    let Stream { sources, mistakes, files, mut folders, .. } = stream;
    folders.sort();
    folders.dedup();
    let mut context =
        Context { surroundings, sources: &sources, mistakes, plugin: None, zone_count: 0 };
    let parsed = imported::resolve(parsed, &mut context);
    let blocks: Vec<_> = parsed.iter().map(|block| directives::read(block, &mut context)).collect();
    overlap::check_overlaps(&blocks, &mut context);
    let linted: Vec<_> = parsed
        .iter()
        .zip(&blocks)
        .map(|(parsed, (server, key_spans))| LintBlock { parsed, server, key_spans })
        .collect();
    let named_files = lint::files::named(&linted);
    lint::check(linted, &mut context);
    let is_empty = blocks.is_empty() && context.mistakes.errors.is_empty() && !is_stopped;
    if is_empty && let Some(name) = name {
        context.mistakes.push(empty(name));
    }
    let mut mistakes = context.mistakes;
    mistakes.sort();
    let files: Vec<PathBuf> = path.map(Path::to_path_buf).into_iter().chain(files).collect();
    let has_errors = !mistakes.errors.is_empty();
    let contents = Contents {
        files: files.clone(),
        folders: folders.clone(),
        digest: digest.clone(),
        sources,
        mistakes,
        named_files,
    };
    let report = Report(Box::new(contents));
    if has_errors {
        return Err(report);
    }
    let blocks = match is_empty {
        true => without_corefile(surroundings)?.blocks,
        false => blocks.into_iter().map(|(block, _)| block).collect(),
    };
    Ok(Config { blocks, files, folders, digest, warnings: report, is_empty })
}

/// What is served without a Corefile, as in CoreDNS.
///
/// # Errors
/// Never: the text has no mistakes.
pub fn without_corefile(surroundings: &Surroundings<'_>) -> Result<Config, Report> {
    let text = format!(".:{} {{\n    whoami\n    log\n}}\n", surroundings.default_port);
    parse("no Corefile", &text, surroundings)
}

/// The text is a ConfigMap in a file, where its Corefile belongs.
fn not_a_corefile(name: &str, path: Option<&Path>) -> Report {
    let message = format!(
        "{name}:1 - Error during parsing: this is YAML or JSON, such as a ConfigMap, \
             not a Corefile"
    );
    let file = path.map_or_else(|| "-".to_owned(), |path| path.display().to_string());
    let help =
        format!("`ringdns convert {file} > Corefile` extracts the Corefile from a ConfigMap");
    let files = path.map(Path::to_path_buf).into_iter().collect();
    Report::of(Mistake::without_place(message).help(help), files)
}

fn empty(name: &str) -> Mistake {
    let message = format!(
        "{name}:1 - no server block: every query is answered by `whoami`, and logged, as in CoreDNS"
    );
    let warning = Mistake::of_loading(Severity::Warning, None, message);
    warning.help("name a Corefile with a server block by `-conf FILE`")
}
