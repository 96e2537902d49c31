//! The syntax of expressions: tokens to a tree, without types.
//!
//! Invariant: a tree has at most `VIEW_NODES_MAX` nodes, so neither its check nor its evaluation
//! can exhaust the stack.

use super::token::{ExprFault, ExprToken, TokenKind, tokens};
use crate::limits::VIEW_NODES_MAX;

/// An expression, and where its operator or first token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expr {
    pub(super) form: ExprForm,
    /// Characters before it.
    pub(super) at: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ExprForm {
    Number(i64),
    Text(String),
    Bool(bool),
    Nil,
    Name(String),
    Call(String, Vec<Expr>),
    List(Vec<Expr>),
    Unary(String, Box<Expr>),
    Binary(String, Box<Expr>, Box<Expr>),
    /// Condition, then, else.
    Choice(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Binary operators and their precedence, the loosest first.
const BINARY: [(&str, u16); 25] = [
    ("|", 0),
    ("or", 10),
    ("||", 10),
    ("and", 15),
    ("&&", 15),
    ("==", 20),
    ("!=", 20),
    ("<", 20),
    (">", 20),
    (">=", 20),
    ("<=", 20),
    ("in", 20),
    ("matches", 20),
    ("contains", 20),
    ("startsWith", 20),
    ("endsWith", 20),
    ("..", 25),
    ("+", 30),
    ("-", 30),
    ("*", 60),
    ("/", 60),
    ("%", 60),
    ("**", 100),
    ("^", 100),
    ("??", 500),
];

const UNARY: [(&str, u16); 4] = [("not", 50), ("!", 50), ("-", 90), ("+", 90)];

/// `a not in b` is `not (a in b)`.
const NEGATED: [&str; 5] = ["contains", "matches", "startsWith", "endsWith", "in"];

/// Reads a whole expression.
///
/// # Errors
/// The first token that is wrong.
pub(super) fn parse(text: &str) -> Result<Expr, ExprFault> {
    if text.trim().is_empty() {
        let message = "unexpected token EOF".to_owned();
        return Err(ExprFault { message, at: None, is_not_built: false });
    }
    let tokens = tokens(text)?;
    let mut parser = ExprParser { tokens: &tokens, next: 0, node_count: 0 };
    let whole = parser.expression(0)?;
    match parser.peek() {
        ExprToken { kind: TokenKind::End, .. } => Ok(whole),
        token => Err(unexpected(token)),
    }
}

struct ExprParser<'t> {
    /// The last one is the end.
    tokens: &'t [ExprToken],
    next: usize,
    node_count: usize,
}

impl<'t> ExprParser<'t> {
    fn peek(&self) -> &'t ExprToken {
        &self.tokens[self.next.min(self.tokens.len() - 1)]
    }

    fn take(&mut self) -> &'t ExprToken {
        let token = self.peek();
        self.next += 1;
        token
    }

    /// Takes the next token if it is this operator.
    fn takes(&mut self, operator: &str) -> bool {
        let is_next = matches!(&self.peek().kind, TokenKind::Operator(next) if next == operator);
        self.next += usize::from(is_next);
        is_next
    }

    fn takes_bracket(&mut self, bracket: char) -> bool {
        let is_next = self.peek().kind == TokenKind::Bracket(bracket);
        self.next += usize::from(is_next);
        is_next
    }

    fn closes(&mut self, bracket: char) -> Result<(), ExprFault> {
        if self.takes_bracket(bracket) { Ok(()) } else { Err(unexpected(self.peek())) }
    }

    fn node(&mut self, form: ExprForm, at: usize) -> Result<Expr, ExprFault> {
        self.node_count += 1;
        if self.node_count > VIEW_NODES_MAX {
            let message = format!("more than {VIEW_NODES_MAX} operators and values");
            return Err(ExprFault::new(message, at));
        }
        Ok(Expr { form, at })
    }

    /// An expression whose operators bind at least as tightly as `precedence_min`.
    fn expression(&mut self, precedence_min: u16) -> Result<Expr, ExprFault> {
        let mut left = self.operand()?;
        loop {
            let begin = self.next;
            let at = self.peek().at;
            let is_negated = self.takes("not");
            let known = match &self.peek().kind {
                TokenKind::Operator(operator) => {
                    BINARY.iter().find(|(name, _)| name == operator).copied()
                }
                _ => None,
            };
            let known = known.filter(|(name, _)| !is_negated || NEGATED.contains(name));
            let Some((operator, precedence)) = known.filter(|(_, one)| *one >= precedence_min)
            else {
                self.next = begin;
                break;
            };
            let at = if is_negated { self.take().at } else { self.take_at(at) };
            if operator == "|" {
                left = self.piped(left)?;
                continue;
            }
            let right = self.expression(precedence + 1)?;
            let form = ExprForm::Binary(operator.to_owned(), Box::new(left), Box::new(right));
            left = self.node(form, at)?;
            if is_negated {
                left = self.node(ExprForm::Unary("not".to_owned(), Box::new(left)), at)?;
            }
        }
        if precedence_min == 0 && self.takes("?") {
            let at = left.at;
            let then = self.expression(0)?;
            if !self.takes(":") {
                return Err(unexpected(self.peek()));
            }
            let or_else = self.expression(0)?;
            let form = ExprForm::Choice(Box::new(left), Box::new(then), Box::new(or_else));
            return self.node(form, at);
        }
        Ok(left)
    }

    fn take_at(&mut self, at: usize) -> usize {
        self.next += 1;
        at
    }

    /// `x | f(y)` is `f(x, y)`.
    fn piped(&mut self, first: Expr) -> Result<Expr, ExprFault> {
        let mut called = self.operand()?;
        match &mut called.form {
            ExprForm::Call(_, args) => args.insert(0, first),
            _ => return Err(ExprFault::new("expected a call after |", called.at)),
        }
        Ok(called)
    }

    fn operand(&mut self) -> Result<Expr, ExprFault> {
        self.deepen()?;
        let token = self.take();
        let at = token.at;
        let operand = match &token.kind {
            TokenKind::Number(number) => self.node(ExprForm::Number(*number), at),
            TokenKind::Text(text) => self.node(ExprForm::Text(text.clone()), at),
            TokenKind::Word(word) => self.word(word, at),
            TokenKind::Operator(operator) => {
                let known = UNARY.iter().find(|(name, _)| name == operator);
                let (_, precedence) = known.ok_or_else(|| unexpected(token))?;
                let inner = self.expression(*precedence)?;
                self.node(ExprForm::Unary(operator.clone(), Box::new(inner)), at)
            }
            TokenKind::Bracket('(') => {
                let inner = self.expression(0)?;
                self.closes(')').map(|()| inner)
            }
            TokenKind::Bracket('[') => {
                let items = self.items(']')?;
                self.node(ExprForm::List(items), at)
            }
            TokenKind::Bracket('{') => Err(ExprFault::not_built("{", at)),
            TokenKind::Bracket(_) | TokenKind::End => Err(unexpected(token)),
        }?;
        match &self.peek().kind {
            TokenKind::Bracket('[') => Err(ExprFault::not_built("[", self.peek().at)),
            TokenKind::Operator(sign) if matches!(sign.as_str(), "." | "?.") => {
                Err(ExprFault::not_built(sign, self.peek().at))
            }
            _ => Ok(operand),
        }
    }

    /// Brackets and unary operators nest without a node of their own at first: they count too.
    fn deepen(&mut self) -> Result<(), ExprFault> {
        let at = self.peek().at;
        self.node(ExprForm::Nil, at).map(drop)
    }

    fn word(&mut self, word: &str, at: usize) -> Result<Expr, ExprFault> {
        match word {
            "true" | "false" => return self.node(ExprForm::Bool(word == "true"), at),
            "nil" => return self.node(ExprForm::Nil, at),
            _ => {}
        }
        if self.takes_bracket('(') {
            let args = self.items(')')?;
            return self.node(ExprForm::Call(word.to_owned(), args), at);
        }
        self.node(ExprForm::Name(word.to_owned()), at)
    }

    /// Expressions between commas, up to a bracket.
    fn items(&mut self, close: char) -> Result<Vec<Expr>, ExprFault> {
        let mut items = Vec::new();
        while !self.takes_bracket(close) {
            items.push(self.expression(0)?);
            if !self.takes(",") {
                self.closes(close)?;
                break;
            }
        }
        Ok(items)
    }
}

fn unexpected(token: &ExprToken) -> ExprFault {
    let text = match &token.kind {
        TokenKind::Number(number) => format!("Number(\"{number}\")"),
        TokenKind::Text(text) => format!("String({text:?})"),
        TokenKind::Word(word) => format!("Identifier(\"{word}\")"),
        TokenKind::Operator(operator) => format!("Operator(\"{operator}\")"),
        TokenKind::Bracket(bracket) => format!("Bracket(\"{bracket}\")"),
        TokenKind::End => "EOF".to_owned(),
    };
    ExprFault::new(format!("unexpected token {text}"), token.at)
}
