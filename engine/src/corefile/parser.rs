//! Builds server blocks from words: keys, braces, directives and their options, snippets. The
//! meaning of a directive is not known here.
//!
//! Invariant: a mistake never ends the parse. It is reported, and parsing continues where CoreDNS
//! would continue after the correction.

use super::lexer::{Kind, Token};
use super::report::Mistake;
use super::source::Span;
use super::statement::{Body, Statement};
use super::stream::Stream;
use super::word::quoted;
use crate::limits::COREFILE_NESTING_MAX;

/// A server block as written.
pub(crate) struct ParsedBlock {
    /// At least one, not empty, commas removed.
    pub(crate) keys: Vec<Token>,
    pub(crate) statements: Vec<Statement>,
    /// Not a block, but directives that a block imports; the key is made up.
    pub(crate) is_part: bool,
}

/// Reads the stream to its end.
pub(crate) fn blocks(stream: &mut Stream<'_>) -> Vec<ParsedBlock> {
    let mut parser =
        Parser { stream, last: None, told_of_end: false, told_of_close: false, has_block: false };
    let mut blocks = Vec::new();
    while parser.stream.peek_importing().is_some() {
        blocks.extend(parser.block());
        parser.has_block = !blocks.is_empty();
    }
    blocks
}

/// Reads a text that a server block imports, as the statements of a block for every name.
pub(crate) fn part(stream: &mut Stream<'_>) -> ParsedBlock {
    let mut parser =
        Parser { stream, last: None, told_of_end: false, told_of_close: false, has_block: true };
    let mut statements = Vec::new();
    while parser.stream.peek_importing().is_some() {
        statements.extend(parser.statements(None, 0));
    }
    let key = Token {
        text: ".".to_owned(),
        kind: Kind::Word,
        is_quoted: false,
        starts_line: true,
        span: Span { source: 0, start: 0, end: 0 },
    };
    ParsedBlock { keys: vec![key], statements, is_part: true }
}

struct Parser<'p, 's> {
    stream: &'p mut Stream<'s>,
    /// The last token taken: its span and its text.
    last: Option<(Span, String)>,
    /// Set once a missing brace has been reported, however many are open.
    told_of_end: bool,
    /// A brace after other words closed a block, so a later brace may have nothing left to close.
    told_of_close: bool,
    /// A server block has been read.
    has_block: bool,
}

/// How a line of keys ended.
enum AfterKeys {
    /// The brace was taken.
    Open(Span),
    /// The block's directives follow without braces.
    NoBrace,
    End,
}

impl Parser<'_, '_> {
    fn take(&mut self) -> Option<Token> {
        let token = self.stream.take()?;
        self.last = Some((token.span, token.text.clone()));
        Some(token)
    }

    fn mistake(&mut self, mistake: Mistake) {
        self.stream.mistakes.push(mistake);
    }

    /// `None` for a snippet or a block without a key.
    fn block(&mut self) -> Option<ParsedBlock> {
        let (keys, after) = self.keys()?;
        if let [key] = keys.as_slice()
            && let Some(name) = key.text.strip_prefix('(').and_then(|name| name.strip_suffix(')'))
        {
            self.snippet(name, key.span, after);
            return None;
        }
        let statements = match after {
            AfterKeys::Open(open) => self.statements(Some(open), 0),
            AfterKeys::NoBrace => self.statements(None, 0),
            AfterKeys::End => Vec::new(),
        };
        (!keys.is_empty()).then_some(ParsedBlock { keys, statements, is_part: false })
    }

    /// The keys of a block and what follows them; `None` where no block starts.
    fn keys(&mut self) -> Option<(Vec<Token>, AfterKeys)> {
        let mut keys = Vec::new();
        let mut comma = None;
        loop {
            if keys.is_empty() || (comma.is_some() && !self.stream.line_goes_on()) {
                self.stream.peek_importing();
            }
            let Some(mut token) = self.take() else {
                if let Some(comma) = comma {
                    self.mistake(
                        Mistake::error(comma, "Unexpected EOF").label("nothing follows this comma"),
                    );
                }
                return Some((keys, AfterKeys::End));
            };
            match token.kind {
                Kind::Open => {
                    self.check_before_brace(&token, comma, keys.is_empty());
                    return Some((keys, AfterKeys::Open(token.span)));
                }
                Kind::Close if keys.is_empty() => {
                    self.closes_nothing(token.span);
                    return None;
                }
                Kind::Close | Kind::Word => {}
            }
            comma = token.text.ends_with(',').then_some(token.span);
            let len = token.text.trim_end_matches(',').len();
            token.text.truncate(len);
            if !token.text.is_empty() {
                keys.push(token);
            }
            if comma.is_none() && !self.stream.line_goes_on() {
                return Some((keys, self.after_keys()));
            }
        }
    }

    /// A brace that opens a block may stand on the line after the keys.
    fn after_keys(&mut self) -> AfterKeys {
        match self.stream.peek().map(|token| token.kind) {
            Some(Kind::Open) => match self.take() {
                Some(open) => AfterKeys::Open(open.span),
                None => AfterKeys::End,
            },
            Some(Kind::Word | Kind::Close) => AfterKeys::NoBrace,
            None => AfterKeys::End,
        }
    }

    fn check_before_brace(&mut self, open: &Token, comma: Option<Span>, nameless: bool) {
        if let Some(comma) = comma {
            let message = "Expected another address but had '{' - check for extra comma";
            let mistake = Mistake::error(open.span, message)
                .label("instead of another zone")
                .also(comma, "announced by this comma");
            self.mistake(mistake);
        } else if nameless {
            let mistake = Mistake::warning(open.span, "server block without a zone")
                .label("ignored")
                .help("write zones before the brace: `.:53 {` serves every name");
            self.mistake(mistake);
        }
    }

    /// Removes a `{` from the end of a word. CoreDNS reads both as one name and then misreads what
    /// follows. (In a zone's name the brace is part of the name here too: such a block is a block
    /// without braces.)
    fn unglue(&mut self, token: &mut Token) -> bool {
        let Some(text) = token.text.strip_suffix('{') else { return false };
        if token.is_quoted || text.is_empty() || text.ends_with('{') {
            return false;
        }
        let mistake = Mistake::error(token.span, "no space before '{'")
            .label("CoreDNS reads this as one word")
            .help(format!("write `{} {{`", quoted(text)));
        token.text = text.to_owned();
        self.mistake(mistake);
        true
    }

    /// Stores the words up to the brace that closes a snippet.
    fn snippet(&mut self, name: &str, key: Span, after: AfterKeys) {
        let AfterKeys::Open(open) = after else {
            let message = format!("Unexpected token '({})', expecting '{{'", quoted(name));
            let mistake = Mistake::error(key, message).syntax().label("a snippet needs braces");
            self.mistake(mistake);
            return;
        };
        let mut tokens = Vec::new();
        let mut depth = 1usize;
        while let Some(token) = self.take() {
            match token.kind {
                Kind::Open => depth += 1,
                Kind::Close => depth -= 1,
                Kind::Word => {}
            }
            if depth == 0 {
                self.stream.define(name, tokens, key);
                return;
            }
            tokens.push(token);
        }
        self.end_of_text(open, true);
    }

    /// The statements up to the closing brace, which is taken; or up to the end of the text if no
    /// brace was opened.
    fn statements(&mut self, open: Option<Span>, depth: usize) -> Vec<Statement> {
        let mut statements = Vec::new();
        loop {
            let Some(token) = self.stream.peek_importing() else {
                if let Some(open) = open {
                    self.end_of_text(open, depth == 0);
                }
                return statements;
            };
            match token.kind {
                Kind::Word => statements.extend(self.statement(depth)),
                Kind::Open => self.stray_block(depth),
                Kind::Close => {
                    let close = self.take();
                    if let (None, Some(close)) = (open, close) {
                        self.unopened_brace(close.span);
                    }
                    return statements;
                }
            }
        }
    }

    /// One directive or option: its name, the words of its line, the contents of its braces.
    fn statement(&mut self, depth: usize) -> Option<Statement> {
        let mut name = self.take()?;
        let mut glued = self.unglue(&mut name);
        let mut statement = Statement { name, args: Vec::new(), body: None, closed_by: None };
        let open = loop {
            if glued {
                break self.last.as_ref().map(|(span, _)| *span);
            }
            let goes_on = self.stream.line_goes_on();
            match self.stream.peek().map(|token| token.kind) {
                Some(Kind::Open) => {
                    let open = self.take().map(|token| token.span);
                    if let (false, Some(open)) = (goes_on, open) {
                        self.brace_on_next_line(open, &statement.name);
                    }
                    break open;
                }
                Some(Kind::Word) if goes_on => {
                    let mut arg = self.take()?;
                    glued = self.unglue(&mut arg);
                    statement.args.push(arg);
                }
                Some(Kind::Close) if goes_on && depth == 0 => {
                    self.close_on_line();
                    break None;
                }
                Some(Kind::Close) if goes_on => {
                    statement.closed_by = self.stream.peek().map(|token| token.span);
                    break None;
                }
                Some(Kind::Word | Kind::Close) | None => break None,
            }
        };
        if let Some(open) = open {
            let lines = self.nested(open, depth + 1);
            statement.body = Some(Body { open, lines });
            self.after_body();
        }
        Some(statement)
    }

    /// The contents of braces at nesting level `depth`.
    fn nested(&mut self, open: Span, depth: usize) -> Vec<Statement> {
        if depth <= COREFILE_NESTING_MAX {
            return self.statements(Some(open), depth);
        }
        let message = format!("more than {COREFILE_NESTING_MAX} nested braces");
        self.mistake(Mistake::error(open, message).label("nested too deeply"));
        let mut depth = 1usize;
        while depth > 0 {
            match self.take().map(|token| token.kind) {
                Some(Kind::Open) => depth += 1,
                Some(Kind::Close) => depth -= 1,
                Some(Kind::Word) => {}
                None => {
                    self.end_of_text(open, false);
                    break;
                }
            }
        }
        Vec::new()
    }

    /// Only the end of the line may follow a closing brace.
    fn after_body(&mut self) {
        if !self.stream.line_goes_on() {
            return;
        }
        match self.stream.peek() {
            Some(token) if token.kind == Kind::Close => self.close_on_line(),
            Some(token) => {
                let message = format!("Unexpected '{}' after '}}'", quoted(&token.text));
                let mistake =
                    Mistake::error(token.span, message).label("a directive starts its own line");
                self.mistake(mistake);
            }
            None => {}
        }
    }

    /// A brace without a directive before it.
    fn stray_block(&mut self, depth: usize) {
        let Some(open) = self.take() else { return };
        let message = "Unknown directive '{'";
        let mistake = Mistake::error(open.span, message).label("a directive's name comes first");
        self.mistake(mistake);
        self.nested(open.span, depth + 1);
    }

    fn brace_on_next_line(&mut self, open: Span, name: &Token) {
        let message = "'{' must stand at the end of its directive's line";
        let mistake = Mistake::error(open, message)
            .label("CoreDNS does not read this as the directive's brace")
            .also(name.span, format!("`{}` ends with this line", quoted(&name.text)))
            .help("move the brace up, to the end of that line");
        self.mistake(mistake);
    }

    /// The next token is a closing brace after other words. It stays, to close its block.
    fn close_on_line(&mut self) {
        let Some(span) = self.stream.peek().map(|token| token.span) else { return };
        let mistake = Mistake::error(span, "Unexpected '}' because no matching opening brace")
            .label("must start its own line")
            .help("write each directive and each `}` on a line of its own");
        self.mistake(mistake);
        self.told_of_close = true;
    }

    /// The end of a block without braces, which CoreDNS accepts. A block whose brace was written as
    /// part of its zone ends this way too.
    fn unopened_brace(&mut self, close: Span) {
        if std::mem::take(&mut self.told_of_close) {
            return;
        }
        let mistake = Mistake::warning(close, "'}' without an opening brace")
            .label("ends the server block")
            .help("write a brace after the zone, with a space before it: `.:53 {`");
        self.mistake(mistake);
    }

    /// Between blocks. At the end of the text CoreDNS reads it as a zone, and starts.
    fn closes_nothing(&mut self, close: Span) {
        if std::mem::take(&mut self.told_of_close) {
            return;
        }
        if self.stream.peek().is_none() && self.has_block {
            let mistake = Mistake::warning(close, "'}' without an opening brace");
            return self.mistake(mistake.label("closes nothing").help("delete it"));
        }
        let mistake = Mistake::error(close, "Unexpected '}' because no matching opening brace")
            .label("closes nothing");
        self.mistake(mistake);
    }

    /// The text ended inside braces.
    fn end_of_text(&mut self, open: Span, of_block: bool) {
        if self.told_of_end || self.stream.stopped {
            return;
        }
        self.told_of_end = true;
        let (last, word) = self.last.clone().unwrap_or((open, String::new()));
        let mistake = if of_block {
            let message = format!("Unexpected token '{}', expecting '}}'", quoted(&word));
            Mistake::error(last, message).syntax()
        } else {
            Mistake::error(last, "Unexpected EOF")
        };
        let mistake = mistake
            .label("the text ends here")
            .also(open, "this brace is not closed")
            .help("write a `}` on a line of its own where this block ends");
        self.mistake(mistake);
    }
}
