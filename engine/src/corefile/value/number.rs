//! Whole numbers as CoreDNS reads them, with its error messages.

use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;

/// A whole number. The caller decides about negative ones.
pub(crate) fn read(word: &Token) -> Result<i64, Refusal> {
    let text = word.text.as_str();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.parse().map_err(|_| refusal("Atoi", text, digits))
}

/// A number from 0 to 2^32 - 1, without a sign.
pub(crate) fn count(word: &Token) -> Result<u32, Refusal> {
    let text = word.text.as_str();
    match text.parse() {
        Ok(count) if !text.starts_with('+') => Ok(count),
        Ok(_) | Err(_) => Err(refusal("ParseUint", text, text)),
    }
}

/// A whole number of 32 bits. The caller decides about negative ones.
pub(crate) fn of_32_bits(word: &Token) -> Result<i32, Refusal> {
    let text = word.text.as_str();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    text.parse().map_err(|_| refusal("ParseInt", text, digits))
}

/// `digits` differ from `text` by a sign: they show whether a number was only too large.
fn refusal(function: &str, text: &str, digits: &str) -> Refusal {
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let why = if are_digits { "value out of range" } else { "invalid syntax" };
    let message = format!("strconv.{function}: parsing \"{}\": {why}", quoted(text));
    Refusal::new(message, "not such a number").help("a whole number in digits, no unit")
}
