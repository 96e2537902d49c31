//! The words of an expression, as the language of `expr` (expr-lang.org) splits them.
//!
//! Invariant: every token has its place, so that a fault can be shown where it is.

/// A word, and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ExprToken {
    pub(super) kind: TokenKind,
    /// Characters before it.
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Number(i64),
    Text(String),
    Word(String),
    /// Also the words that are operators.
    Operator(String),
    Bracket(char),
    End,
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExprFault {
    /// In the words of CoreDNS.
    pub(super) message: String,
    /// Characters before the place; `None` if there is no text.
    pub(super) at: Option<usize>,
    /// CoreDNS knows it, ringdns does not.
    pub(super) is_not_built: bool,
}

impl ExprFault {
    pub(super) fn new(message: impl Into<String>, at: usize) -> Self {
        Self { message: message.into(), at: Some(at), is_not_built: false }
    }

    pub(super) fn not_built(what: &str, at: usize) -> Self {
        let message = format!("'{what}' is known but not built yet");
        Self { message, at: Some(at), is_not_built: true }
    }
}

const WORD_OPERATORS: [&str; 11] = [
    "not",
    "in",
    "or",
    "and",
    "matches",
    "contains",
    "startsWith",
    "endsWith",
    "let",
    "if",
    "else",
];

/// Longest first.
const SIGNS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "**", "..", "??", "?.", "::", "=", "<", ">", "!", "|", "+",
    "-", "*", "/", "%", "^", ".", ",", "?",
];

/// Splits an expression; the last token is its end.
///
/// # Errors
/// The first character or text that is no token.
pub(super) fn tokens(text: &str) -> Result<Vec<ExprToken>, ExprFault> {
    let characters: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = characters.get(at) {
        let rest = &characters[at..];
        let (kind, len) = match first {
            ' ' | '\t' | '\r' | '\n' => {
                at += 1;
                continue;
            }
            '(' | ')' | '[' | ']' | '{' | '}' => (TokenKind::Bracket(first), 1),
            '\'' | '"' | '`' => quoted_text(rest, at)?,
            '0'..='9' => number(rest, at)?,
            first if first.is_alphabetic() || matches!(first, '_' | '$') => word(rest),
            ':' | ';' | '#' => (TokenKind::Operator(first.to_string()), 1),
            _ => sign(rest, at)?,
        };
        tokens.push(ExprToken { kind, at });
        at += len;
    }
    // As in CoreDNS, the end is shown at the last character.
    tokens.push(ExprToken { kind: TokenKind::End, at: characters.len().saturating_sub(1) });
    Ok(tokens)
}

fn word(rest: &[char]) -> (TokenKind, usize) {
    let is_in = |c: &&char| c.is_alphanumeric() || matches!(c, '_' | '$');
    let word: String = rest.iter().take_while(is_in).collect();
    let len = word.chars().count();
    if WORD_OPERATORS.contains(&word.as_str()) {
        return (TokenKind::Operator(word), len);
    }
    (TokenKind::Word(word), len)
}

fn sign(rest: &[char], at: usize) -> Result<(TokenKind, usize), ExprFault> {
    let is_next = |sign: &&&str| sign.chars().eq(rest.iter().copied().take(sign.len()));
    match SIGNS.iter().find(is_next) {
        Some(sign) => Ok((TokenKind::Operator((*sign).to_owned()), sign.len())),
        None => {
            let character = rest.first().copied().unwrap_or_default();
            let code = u32::from(character);
            let message = format!("unrecognized character: U+{code:04X} '{character}'");
            Err(ExprFault::new(message, at))
        }
    }
}

fn number(rest: &[char], at: usize) -> Result<(TokenKind, usize), ExprFault> {
    let is_in = |c: &&char| c.is_alphanumeric() || **c == '_';
    let text: String = rest.iter().take_while(is_in).collect();
    let len = text.len();
    let is_float = rest.get(len) == Some(&'.') && rest.get(len + 1) != Some(&'.');
    let digits = text.replace('_', "").to_ascii_lowercase();
    let parsed = match digits.get(..2) {
        Some("0x") => i64::from_str_radix(&digits[2..], 16),
        Some("0o") => i64::from_str_radix(&digits[2..], 8),
        Some("0b") => i64::from_str_radix(&digits[2..], 2),
        _ => digits.parse(),
    };
    match parsed {
        Ok(number) if !is_float => Ok((TokenKind::Number(number), len)),
        Ok(_) => Err(ExprFault::not_built("a number with a fraction", at)),
        Err(_) => Err(ExprFault::new(format!("bad number syntax: \"{text}\""), at)),
    }
}

/// A text with Go's escapes; between backticks there are none.
fn quoted_text(rest: &[char], at: usize) -> Result<(TokenKind, usize), ExprFault> {
    let quote = rest.first().copied().unwrap_or_default();
    let mut text = String::new();
    let mut index = 1;
    loop {
        let character = *rest
            .get(index)
            .ok_or_else(|| ExprFault::new("literal not terminated", at + rest.len()))?;
        index += 1;
        match character {
            c if c == quote => return Ok((TokenKind::Text(text), index)),
            '\\' if quote != '`' => {
                let (escaped, len) = rest
                    .get(index..)
                    .and_then(escape)
                    .ok_or_else(|| ExprFault::new("invalid char escape", at + index))?;
                text.push(escaped);
                index += len;
            }
            c => text.push(c),
        }
    }
}

/// The character after a backslash, and how many characters spell it.
fn escape(rest: &[char]) -> Option<(char, usize)> {
    let hex = |len: usize| {
        let digits: String = rest.get(1..=len)?.iter().collect();
        Some((char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?, 1 + len))
    };
    match rest.first()? {
        'n' => Some(('\n', 1)),
        't' => Some(('\t', 1)),
        'r' => Some(('\r', 1)),
        'a' => Some(('\u{7}', 1)),
        'b' => Some(('\u{8}', 1)),
        'f' => Some(('\u{c}', 1)),
        'v' => Some(('\u{b}', 1)),
        quote @ ('\\' | '\'' | '"' | '`') => Some((*quote, 1)),
        'x' => hex(2),
        'u' => hex(4),
        'U' => hex(8),
        _ => None,
    }
}
