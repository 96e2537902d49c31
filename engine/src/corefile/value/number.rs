//! Whole numbers as CoreDNS reads them, refused in its words.

use crate::corefile::lexer::Token;
use crate::corefile::report::Refusal;
use crate::corefile::word::quoted;

/// A whole number. What to think of a negative one is the caller's to say.
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

/// `digits` would be a number if it were not too large a one.
fn refusal(function: &str, text: &str, digits: &str) -> Refusal {
    let are_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let why = if are_digits { "value out of range" } else { "invalid syntax" };
    let message = format!("strconv.{function}: parsing \"{}\": {why}", quoted(text));
    Refusal::new(message, "not such a number").help("a whole number in digits, no unit")
}
