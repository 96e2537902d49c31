//! The Corefile, CoreDNS's configuration, read into plain data: no socket is opened, nothing is
//! started.
//!
//! A text goes through `lexer` (words), `stream` (imports), `parser` (blocks) and `directives`
//! (what they mean). All mistakes of a text are collected into one `Report`; a `Config` comes out
//! only if there was none.

mod bind;
mod cache;
mod cluster;
mod directives;
mod duration;
mod errors;
mod forward;
mod forward_options;
mod glob;
mod http;
mod keys;
mod kubernetes;
mod lexer;
mod loadbalance;
mod looping;
mod number;
pub(crate) mod outline;
mod parser;
mod reload;
mod report;
mod selector;
mod serve_stale;
mod source;
mod statement;
mod stream;
pub(crate) mod target;
mod timeouts;
mod word;
pub(crate) mod zone;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use bind::{Bind, ListenIp};
pub use cache::{Cache, Prefetch, Share};
pub use cluster::{ApiLimits, ClientTls, Cluster};
pub use directives::{DIRECTIVES, Directive};
pub use errors::{Consolidate, Errors, Level};
pub use forward::{Forward, HealthCheck, Policy, Transport as UpstreamTransport, UpstreamTls};
pub use http::{Health, Host, HttpAddress, Monitor, Prometheus, Ready};
pub use keys::{Key, Scheme};
pub use kubernetes::{Kubernetes, Namespaces, Pods};
pub use looping::Loop;
pub use reload::Reload;
pub use report::{Finding, Report, Severity};
pub use selector::{Operator, Requirement, Selector};
pub use serve_stale::{ServeStale, Stale};
pub use target::Target;
pub use timeouts::Timeouts;
pub use zone::Zone;

use crate::convert;
use report::{Contents, Mistake, Mistakes, Refusal};
use source::{Source, Span};
use stream::Stream;

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
    /// SHA-512 in hexadecimal over the words, imports included: what comments and blanks look like
    /// does not change it.
    pub digest: String,
    /// What is odd but works; no errors.
    pub warnings: Report,
}

/// What one block of the Corefile asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerBlock {
    /// Where its first key stands.
    pub place: Place,
    /// At least one; CIDRs expanded.
    pub keys: Vec<Key>,
    /// The addresses to listen on; none means every address, IPv6 and IPv4.
    pub bind: Vec<Bind>,
    pub kubernetes: Option<Kubernetes>,
    pub errors: Option<Errors>,
    pub health: Option<Health>,
    pub ready: Option<Ready>,
    pub prometheus: Option<Prometheus>,
    /// Addresses in answers are rotated.
    pub loadbalance: bool,
    pub reload: Option<Reload>,
    pub timeouts: Option<Timeouts>,
    pub cache: Option<Cache>,
    pub loop_probe: Option<Loop>,
    /// In the order of the Corefile: the first that takes a name is asked.
    pub forwards: Vec<Forward>,
}

impl ServerBlock {
    fn new(place: Place) -> Self {
        Self {
            place,
            keys: Vec::new(),
            bind: Vec::new(),
            kubernetes: None,
            errors: None,
            health: None,
            ready: None,
            prometheus: None,
            loadbalance: false,
            reload: None,
            timeouts: None,
            cache: None,
            loop_probe: None,
            forwards: Vec::new(),
        }
    }
}

/// A place in a Corefile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// As the file was named on the command line or by `import`.
    pub file: String,
    /// From 1.
    pub line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a Corefile's meaning depends on besides its text.
pub struct Surroundings<'a> {
    /// The port of a zone that names none: 53, or the flag `-dns.port`.
    pub default_port: u16,
    /// An environment variable's value.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The addresses of a network interface; `None` if there is none of that name.
    pub interface: &'a dyn Fn(&str) -> Option<Vec<ListenIp>>,
}

impl Surroundings<'static> {
    /// Those of this process and its machine.
    #[must_use]
    pub fn of_process(default_port: u16) -> Self {
        Self {
            default_port,
            variable: &|name| {
                std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
            },
            interface: &bind::interface_addresses,
        }
    }
}

/// A duration as Go and the Corefile write it, such as `50us` or `1m30s`; `None` if it is none.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    duration::read(text).ok()
}

/// A duration as Go and the Corefile write it, such as `1m30s`.
#[must_use]
pub fn show_duration(duration: Duration) -> String {
    duration::shown(duration)
}

/// Reads the Corefile at `path`, in the surroundings of this process.
///
/// # Errors
/// The mistakes in it, or why it cannot be read.
pub fn load(path: &Path, default_port: u16) -> Result<Config, Report> {
    let text = match stream::read(path) {
        Ok(text) => text,
        Err(error) => {
            let mistake = Mistake::without_place(format!("open {}: {error}", path.display()))
                .help(unreadable(path, &error));
            let mut mistakes = Mistakes::default();
            mistakes.push(mistake);
            let files = vec![path.to_path_buf()];
            return Err(Report(Box::new(Contents { files, mistakes, ..Contents::default() })));
        }
    };
    let surroundings = Surroundings::of_process(default_port);
    read(&path.display().to_string(), Some(path), &text, &surroundings)
}

/// What to do about a Corefile that cannot be read.
fn unreadable(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "`-conf FILE` names the Corefile; in a pod, see `volumeMounts` and the ConfigMap's keys"
                .to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("the user of this process may not read it: `ls -l {}`", path.display())
        }
        _ if path.is_dir() => {
            format!("name the file in it: `-conf {}`", path.join("Corefile").display())
        }
        _ => "`-conf FILE` names the Corefile".to_owned(),
    }
}

/// The text of a Corefile or of what one is made from. Bytes that are not UTF-8 become replacement
/// characters.
///
/// # Errors
/// Why it cannot be read; a file that is too long is one.
pub fn read_file(path: &Path) -> io::Result<String> {
    stream::read(path)
}

/// The same of standard input.
///
/// # Errors
/// As for a file.
pub fn read_standard_input() -> io::Result<String> {
    stream::read_bounded(io::stdin().lock())
}

/// Reads `text`, called `name` in messages. Relative imports are relative to the folder of `name`.
///
/// # Errors
/// The mistakes in it.
pub fn parse(name: &str, text: &str, surroundings: &Surroundings<'_>) -> Result<Config, Report> {
    read(name, None, text, surroundings)
}

fn read(
    name: &str,
    path: Option<&Path>,
    text: &str,
    surroundings: &Surroundings<'_>,
) -> Result<Config, Report> {
    if convert::is_object(text) {
        return Err(not_a_corefile(name, path));
    }
    let mut stream = Stream::new(name, path, text, surroundings);
    let parsed = parser::blocks(&mut stream);
    let digest = stream.digest();
    let is_stopped = stream.stopped;
    let Stream { sources, mistakes, files, mut folders, .. } = stream;
    folders.sort();
    folders.dedup();
    let mut context =
        Context { surroundings, sources: &sources, mistakes, plugin: None, zone_count: 0 };
    let blocks: Vec<_> = parsed.iter().map(|block| directives::read(block, &mut context)).collect();
    keys::check_overlaps(&blocks, &mut context);
    keys::check_shadows(&blocks, &mut context);
    if blocks.is_empty() && context.mistakes.errors.is_empty() && !is_stopped {
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
    };
    let report = Report(Box::new(contents));
    if has_errors {
        return Err(report);
    }
    let blocks = blocks.into_iter().map(|(block, _)| block).collect();
    Ok(Config { blocks, files, folders, digest, warnings: report })
}

/// A ConfigMap was written to a file, where its Corefile was meant.
fn not_a_corefile(name: &str, path: Option<&Path>) -> Report {
    let message = format!(
        "{name}:1 - Error during parsing: this is YAML or JSON, such as a ConfigMap, and no Corefile"
    );
    let file = path.map_or_else(|| "-".to_owned(), |path| path.display().to_string());
    let help = format!("`ringdns convert {file} > Corefile` takes the Corefile out of a ConfigMap");
    let mut mistakes = Mistakes::default();
    mistakes.push(Mistake::without_place(message).help(help));
    let files = path.map(Path::to_path_buf).into_iter().collect();
    Report(Box::new(Contents { files, mistakes, ..Contents::default() }))
}

fn empty(name: &str) -> Mistake {
    let message = format!("{name}:1 - Error during parsing: no server block");
    Mistake::without_place(message).help(
        "CoreDNS would now answer with the client's own address, ringdns has nothing to answer: \
         name a Corefile with a server block by `-conf FILE`",
    )
}

/// What the readers of directives need beside the words.
struct Context<'a> {
    surroundings: &'a Surroundings<'a>,
    sources: &'a [Source],
    mistakes: Mistakes,
    /// The directive being read, for the first line of its mistakes.
    plugin: Option<&'static str>,
    /// Zones so far, after expansion.
    zone_count: usize,
}

impl Context<'_> {
    fn report(&mut self, mistake: Mistake) {
        self.mistakes.push(mistake.of_plugin(self.plugin));
    }

    /// A word that is not what it should be.
    fn refuse(&mut self, span: Span, refusal: Refusal) {
        let mistake = Mistake::error(span, refusal.message).label(refusal.label);
        self.report(mistake.maybe_help(refusal.help));
    }

    fn place(&self, span: Span) -> Place {
        let source = self.sources.get(span.source);
        source.map_or_else(Place::default, |source| Place {
            file: source.name.clone(),
            line: source.place(span.start).0,
        })
    }

    /// What paths in a word's file are relative to.
    fn folder(&self, span: Span) -> PathBuf {
        self.sources.get(span.source).map(|source| source.folder.clone()).unwrap_or_default()
    }
}
