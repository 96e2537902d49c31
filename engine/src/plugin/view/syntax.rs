//! The syntax of expressions: tokens to a tree, without types.
//!
//! Invariant: a tree has at most `VIEW_NODES_MAX` nodes and is at most `VIEW_DEPTH_MAX` deep, so
//! neither its check nor its evaluation can exhaust the stack.

use super::token::{ExprFault, ExprToken, TokenKind, tokens};
use crate::limits::{VIEW_DEPTH_MAX, VIEW_NODES_MAX};

/// An expression, and where its operator or first token is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Expr {
    pub(super) form: ExprForm,
    /// Characters before it.
    pub(super) at: usize,
    /// Levels below it.
    depth: usize,
}

/// One more operand of a chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ChainLink {
    pub(super) operator: String,
    pub(super) at: usize,
    pub(super) operand: Expr,
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
    /// `a or b or c`.
    Or(Box<Expr>, Vec<ChainLink>),
    /// `a and b and c`.
    And(Box<Expr>, Vec<ChainLink>),
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

/// Of `and`; that of `or` is lower.
const AND_PRECEDENCE: u16 = 15;

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
    let mut parser = ExprParser { tokens: &tokens, next: 0, node_count: 0, depth: 0 };
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
    /// Operands inside operands.
    depth: usize,
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

    fn deepen(&mut self, at: usize) -> Result<(), ExprFault> {
        self.depth += 1;
        if self.depth > VIEW_DEPTH_MAX { Err(too_deep(at)) } else { Ok(()) }
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
        let depth = match &form {
            ExprForm::Number(_)
            | ExprForm::Text(_)
            | ExprForm::Bool(_)
            | ExprForm::Nil
            | ExprForm::Name(_) => 0,
            ExprForm::Call(_, items) | ExprForm::List(items) => deepest(items),
            ExprForm::Unary(_, inner) => inner.depth,
            ExprForm::Binary(_, left, right) => left.depth.max(right.depth),
            ExprForm::Or(first, links) | ExprForm::And(first, links) => {
                first.depth.max(deepest(links.iter().map(|link| &link.operand)))
            }
            ExprForm::Choice(condition, then, or_else) => {
                condition.depth.max(then.depth).max(or_else.depth)
            }
        };
        if depth >= VIEW_DEPTH_MAX {
            return Err(too_deep(at));
        }
        Ok(Expr { form, at, depth: depth + 1 })
    }

    /// Adds an operand to a chain, or begins one.
    fn chained(
        &mut self,
        left: Expr,
        link: ChainLink,
        is_or: bool,
        at: usize,
    ) -> Result<Expr, ExprFault> {
        let form = match (left.form, is_or) {
            (ExprForm::Or(first, mut links), true) => {
                links.push(link);
                ExprForm::Or(first, links)
            }
            (ExprForm::And(first, mut links), false) => {
                links.push(link);
                ExprForm::And(first, links)
            }
            (form, true) => ExprForm::Or(Box::new(Expr { form, ..left }), vec![link]),
            (form, false) => ExprForm::And(Box::new(Expr { form, ..left }), vec![link]),
        };
        self.node(form, at)
    }

    /// An expression whose operators bind at least as tightly as `precedence_min`.
    fn expression(&mut self, precedence_min: u16) -> Result<Expr, ExprFault> {
        let mut left = self.operand()?;
        loop {
            let begin = self.next;
            let at = self.peek().at;
            let is_negated = self.takes("not");
            let next = &self.peek().kind;
            let is_next = |name: &str| matches!(next, TokenKind::Operator(one) if one == name);
            let known = BINARY.iter().find(|(name, _)| is_next(name)).copied();
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
            let operator = operator.to_owned();
            if precedence <= AND_PRECEDENCE {
                let link = ChainLink { operator, at, operand: right };
                left = self.chained(left, link, precedence < AND_PRECEDENCE, at)?;
                continue;
            }
            let form = ExprForm::Binary(operator, Box::new(left), Box::new(right));
            left = self.node(form, at)?;
            if is_negated {
                left = self.node(ExprForm::Unary("not".to_owned(), Box::new(left)), at)?;
            }
        }
        if precedence_min == 0 && self.takes("?") {
            let at = left.at;
            self.deepen(at)?;
            let then = self.expression(0)?;
            if !self.takes(":") {
                return Err(unexpected(self.peek()));
            }
            let or_else = self.expression(0)?;
            self.depth -= 1;
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
        let ExprForm::Call(_, args) = &mut called.form else {
            return Err(ExprFault::new("expected a call after |", called.at));
        };
        args.insert(0, first);
        Ok(called)
    }

    fn operand(&mut self) -> Result<Expr, ExprFault> {
        let token = self.take();
        let at = token.at;
        self.deepen(at)?;
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
        self.depth -= 1;
        let ExprToken { kind: next, at } = self.peek();
        if *next == TokenKind::Bracket('[') {
            return Err(ExprFault::not_built("[", *at));
        }
        if let TokenKind::Operator(sign) = next
            && matches!(sign.as_str(), "." | "?.")
        {
            return Err(ExprFault::not_built(sign, *at));
        }
        Ok(operand)
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

fn deepest<'e>(items: impl IntoIterator<Item = &'e Expr>) -> usize {
    items.into_iter().map(|item| item.depth).max().unwrap_or_default()
}

fn too_deep(at: usize) -> ExprFault {
    ExprFault::new(format!("nested more than {VIEW_DEPTH_MAX} levels deep"), at)
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
