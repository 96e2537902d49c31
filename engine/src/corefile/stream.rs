//! The words of a Corefile in the order that the parser sees them: snippets and files appear where
//! they are imported.
//!
//! Nothing is copied: imports are frames on a stack, so a cycle is detected when it closes.
//!
//! Invariant: the imports and the words are counted and bounded, so that reading always ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sha2::{Digest as _, Sha512};

use super::Surroundings;
use super::glob;
use super::lexer::{self, Kind, Token};
use super::report::{Mistake, Mistakes};
use super::source::{Source, Span};
use super::word::{nearest, quoted};
use crate::limits::{COREFILE_IMPORTS_MAX, COREFILE_LEN_MAX, COREFILE_WORDS_MAX};

pub(crate) struct Stream<'a> {
    surroundings: &'a Surroundings<'a>,
    pub(crate) sources: Vec<Source>,
    pub(crate) mistakes: Mistakes,
    /// Every file read, in order.
    pub(crate) files: Vec<PathBuf>,
    /// Every folder that a pattern listed.
    pub(crate) folders: Vec<PathBuf>,
    /// Files that imports find by their name alone, before those of this machine.
    mounted: &'a [MountedFile],
    /// Files already split into words.
    lexed: HashMap<PathBuf, Rc<[Token]>>,
    snippets: HashMap<String, Snippet>,
    /// The text being read is the last. Below it are the texts that import it, and the later files
    /// of its pattern. A finished text stays until the next token is taken: its last words may have
    /// been an import.
    frames: Vec<Frame>,
    import_count: usize,
    token_count: usize,
    /// Reading stopped at a bound, not at the end of the text.
    pub(crate) stopped: bool,
    digest: Sha512,
}

/// A key of a ConfigMap, which is a file where the ConfigMap is mounted.
#[derive(Debug)]
pub(crate) struct MountedFile {
    /// Its file name there.
    pub(crate) key: String,
    /// For messages.
    pub(crate) name: String,
    pub(crate) text: String,
    /// Lines before it in the file called `name`.
    pub(crate) lines_before: usize,
}

struct Snippet {
    tokens: Rc<[Token]>,
    defined_at: Span,
}

struct Frame {
    origin: Origin,
    tokens: Rc<[Token]>,
    /// The index of the next token.
    next: usize,
}

impl Frame {
    fn is_read(&self) -> bool {
        self.next >= self.tokens.len()
    }
}

#[derive(PartialEq, Eq)]
enum Origin {
    File(PathBuf),
    Snippet(String),
}

impl<'a> Stream<'a> {
    /// `path` is the file that `text` came from, if any.
    pub(crate) fn new(
        name: &str,
        path: Option<&Path>,
        text: &str,
        surroundings: &'a Surroundings<'a>,
    ) -> Self {
        let mut stream = Self::empty(surroundings);
        let path = path.map_or_else(|| PathBuf::from(name), Path::to_path_buf);
        let tokens = stream.lex(name.to_owned(), &path, text, 0);
        stream.frames.push(Frame { origin: Origin::File(path), tokens, next: 0 });
        stream
    }

    fn empty(surroundings: &'a Surroundings<'a>) -> Self {
        Self {
            surroundings,
            sources: Vec::new(),
            mistakes: Mistakes::default(),
            files: Vec::new(),
            folders: Vec::new(),
            mounted: &[],
            lexed: HashMap::new(),
            snippets: HashMap::new(),
            frames: Vec::new(),
            import_count: 0,
            token_count: 0,
            stopped: false,
            digest: Sha512::new(),
        }
    }

    /// A key of a ConfigMap. Imports find the others by name, whatever folder they name: where a
    /// ConfigMap is mounted is not known here.
    pub(crate) fn of_mounted(
        file: &MountedFile,
        others: &'a [MountedFile],
        surroundings: &'a Surroundings<'a>,
    ) -> Self {
        let mut stream = Self::empty(surroundings);
        stream.mounted = others;
        let path = PathBuf::from(&file.name);
        let tokens = stream.lex(file.name.clone(), &path, &file.text, file.lines_before);
        stream.frames.push(Frame { origin: Origin::File(path), tokens, next: 0 });
        stream
    }

    /// The next token, without following imports.
    pub(crate) fn peek(&self) -> Option<&Token> {
        let frame = self.frames.iter().rev().find(|frame| !frame.is_read())?;
        frame.tokens.get(frame.next)
    }

    /// Whether the next token is on the same line as those before it. Imported text begins a line.
    pub(crate) fn line_goes_on(&self) -> bool {
        let frame = self.frames.iter().rev().find(|frame| !frame.is_read());
        frame.is_some_and(|frame| {
            frame.next > 0 && frame.tokens.get(frame.next).is_some_and(|token| !token.starts_line)
        })
    }

    /// Takes the next token. Only taken tokens are part of the digest.
    pub(crate) fn take(&mut self) -> Option<Token> {
        let goes_on = self.line_goes_on();
        let token = self.peek()?.clone();
        while self.frames.pop_if(|frame| frame.is_read()).is_some() {}
        self.frames.last_mut()?.next += 1;
        let kind = match token.kind {
            Kind::Word => 0,
            Kind::Open => 1,
            Kind::Close => 2,
        };
        self.digest.update([kind, u8::from(goes_on)]);
        self.digest.update(token.text.len().to_le_bytes());
        self.digest.update(&token.text);
        self.token_count += 1;
        if self.token_count == COREFILE_WORDS_MAX {
            let message = format!("more than {COREFILE_WORDS_MAX} words after all imports");
            self.mistakes.push(Mistake::error(token.span, message).label("stopped reading here"));
            self.stop();
        }
        Some(token)
    }

    /// The next token where an `import` may stand, after following all imports there.
    pub(crate) fn peek_importing(&mut self) -> Option<&Token> {
        while self.peek().is_some_and(|t| t.kind == Kind::Word && t.text == "import") {
            if let Some(import) = self.take() {
                self.import(&import);
            }
        }
        self.peek()
    }

    /// The SHA-512 of all taken tokens, in hexadecimal.
    pub(crate) fn digest(&self) -> String {
        self.digest.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Defines a snippet; a second one with the same name is a mistake.
    pub(crate) fn define(&mut self, name: &str, tokens: Vec<Token>, defined_at: Span) {
        if let Some(first) = self.snippets.get(name) {
            let message = format!("redeclaration of previously declared snippet {}", quoted(name));
            let mistake = Mistake::error(defined_at, message)
                .label("declared again here")
                .also(first.defined_at, "first declared here")
                .help("give one of the two another name");
            self.mistakes.push(mistake);
            return;
        }
        let imports = tokens.windows(2).filter(|pair| pair.iter().all(|t| t.kind == Kind::Word));
        for pair in imports {
            if let [import, target] = pair
                && import.text == "import"
                && import.starts_line
                && target.text == name
            {
                self.mistakes.push(endless(target.span, "snippet"));
            }
        }
        let snippet = Snippet { tokens: tokens.into(), defined_at };
        self.snippets.insert(name.to_owned(), snippet);
    }

    fn lex(&mut self, name: String, path: &Path, text: &str, lines_before: usize) -> Rc<[Token]> {
        let index = self.sources.len();
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        self.sources.push(Source::new(name, folder, text, lines_before));
        let lexed = lexer::lex(text, index, self.surroundings.variable);
        self.sources[index].unset = lexed.unset;
        if let Some(span) = lexed.unclosed_quote {
            let mistake = Mistake::error(span, "quoted text is not closed before the end of file")
                .label("the quote opens here")
                .help("CoreDNS reads on to the end of the file; close it with `\"`");
            self.mistakes.push(mistake);
        }
        lexed.tokens.into()
    }

    /// Follows `import NAME`, whose first word has been taken.
    fn import(&mut self, import: &Token) {
        if !self.line_goes_on() {
            let message = "Wrong argument count or unexpected line ending after 'import'";
            let mistake = Mistake::error(import.span, message).label("import a snippet or a file");
            self.mistakes.push(mistake);
            return;
        }
        let Some(target) = self.take() else { return };
        if self.line_goes_on() {
            let surplus = self.take_line();
            let message = "Import takes only one argument (glob pattern or file)";
            let span = surplus.unwrap_or(target.span);
            let mistake = Mistake::error(span, message).label("one too many");
            self.mistakes.push(mistake.help("write one `import` per file or snippet"));
            return;
        }
        if target.text.is_empty() {
            let message = "Import requires a non-empty filepath";
            self.mistakes.push(Mistake::error(target.span, message).label("is empty"));
            return;
        }
        if let Some(snippet) = self.snippets.get(&target.text) {
            let tokens = Rc::clone(&snippet.tokens);
            self.enter(Origin::Snippet(target.text.clone()), tokens, &target, "snippet");
        } else {
            self.import_files(&target);
        }
    }

    fn import_files(&mut self, target: &Token) {
        let folder = self.sources.get(target.span.source).map(|source| source.folder.clone());
        let path = folder.unwrap_or_default().join(&target.text);
        let pattern = path.to_string_lossy().into_owned();
        if !glob::is_allowed(&pattern) {
            let message = format!(
                "Glob pattern may only contain one wildcard (*), but has others: {}",
                quoted(&pattern)
            );
            self.mistakes.push(Mistake::error(target.span, message).label("too many wildcards"));
            return;
        }
        if self.import_mounted(&path, target) {
            return;
        }
        if !glob::is_pattern(&pattern) {
            return self.import_file(path, target);
        }
        let files = glob::files(&path);
        self.folders.push(glob::folder(&path));
        if files.is_empty() {
            let message =
                format!("No files matching import glob pattern: {}", quoted(&target.text));
            let mistake = Mistake::warning(target.span, message).label("matches no file");
            self.mistakes.push(mistake.help(
                "nothing to do if there is nothing to import; a relative path starts from the \
                 folder of the file that imports",
            ));
        }
        // The last frame is read first.
        for file in files.into_iter().rev() {
            self.import_file(file, target);
        }
    }

    /// Whether a mounted file has the name that `path` ends with.
    fn import_mounted(&mut self, path: &Path, target: &Token) -> bool {
        let Some(pattern) = path.file_name().and_then(|name| name.to_str()) else { return false };
        let mounted = self.mounted;
        let named = mounted.iter().filter(|file| glob::is_match(pattern, &file.key));
        let named: Vec<&MountedFile> = named.collect();
        // The last frame is read first.
        for file in named.iter().rev() {
            let path = PathBuf::from(&file.key);
            let tokens = match self.lexed.get(&path) {
                Some(tokens) => Rc::clone(tokens),
                None => {
                    self.files.push(path.clone());
                    let MountedFile { name, text, lines_before, .. } = file;
                    let tokens = self.lex(name.clone(), Path::new(name), text, *lines_before);
                    self.lexed.insert(path.clone(), Rc::clone(&tokens));
                    tokens
                }
            };
            self.enter(Origin::File(path), tokens, target, "file");
        }
        !named.is_empty()
    }

    fn import_file(&mut self, path: PathBuf, target: &Token) {
        let tokens = match self.lexed.get(&path) {
            Some(tokens) => Rc::clone(tokens),
            None => match read(&path) {
                Ok(text) => {
                    self.files.push(path.clone());
                    let tokens = self.lex(path.display().to_string(), &path, &text, 0);
                    self.lexed.insert(path.clone(), Rc::clone(&tokens));
                    tokens
                }
                Err(error) => return self.not_read(&path, target, &error),
            },
        };
        self.enter(Origin::File(path), tokens, target, "file");
    }

    fn not_read(&mut self, path: &Path, target: &Token, error: &io::Error) {
        if error.kind() != io::ErrorKind::NotFound {
            let message = format!("Could not import {}: {error}", quoted(&path.to_string_lossy()));
            self.mistakes.push(Mistake::error(target.span, message).label("cannot be read"));
            return;
        }
        let message = format!("File to import not found: {}", quoted(&target.text));
        let snippets = self.snippets.keys().map(String::as_str);
        let help = nearest(&target.text, snippets)
            .map(|name| format!("did you mean the snippet `{name}`?"));
        let mistake = Mistake::error(target.span, message)
            .label("neither a file nor a snippet defined above")
            .help("define a snippet above its use; a pattern like `*.server` may match nothing")
            .maybe_help(help);
        self.mistakes.push(mistake);
    }

    /// Continues with `tokens`, unless that would never end.
    fn enter(&mut self, origin: Origin, tokens: Rc<[Token]>, target: &Token, what: &str) {
        // A later file of a pattern is on the stack too, but has imported nothing yet.
        if self.frames.iter().any(|frame| frame.next > 0 && frame.origin == origin) {
            let is_direct = self.frames.last().is_some_and(|frame| frame.origin == origin);
            // For a snippet that imports itself, its definition has reported this.
            if !(is_direct && matches!(origin, Origin::Snippet(_))) {
                self.mistakes.push(endless(target.span, what));
            }
            return;
        }
        self.import_count += 1;
        if self.import_count > COREFILE_IMPORTS_MAX {
            let message = too_deep(what);
            self.mistakes.push(Mistake::error(target.span, message).label("stopped reading here"));
            self.stop();
            return;
        }
        self.frames.push(Frame { origin, tokens, next: 0 });
    }

    /// Stops at a bound: the text ends here, and braces that are still open are not reported.
    fn stop(&mut self) {
        self.frames.clear();
        self.stopped = true;
    }

    /// Takes the rest of the line; returns the span of its first word.
    pub(crate) fn take_line(&mut self) -> Option<Span> {
        let mut first = None;
        while self.line_goes_on() {
            let token = self.take()?;
            first = first.or(Some(token.span));
        }
        first
    }
}

fn too_deep(what: &str) -> String {
    format!("maximum {what} import depth ({COREFILE_IMPORTS_MAX}) exceeded")
}

fn endless(target: Span, what: &str) -> Mistake {
    Mistake::error(target, too_deep(what))
        .label(format!("this {what} imports itself, maybe through others"))
}

/// Reads a file. Bytes that are not UTF-8 become replacement characters: they are harmless in a
/// comment.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::other("is a directory"));
    }
    read_bounded(file)
}

/// Reads standard input or anything else that is not a file.
pub(crate) fn read_bounded(source: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    source.take(COREFILE_LEN_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > COREFILE_LEN_MAX {
        return Err(io::Error::other(format!("is longer than {COREFILE_LEN_MAX} bytes")));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
