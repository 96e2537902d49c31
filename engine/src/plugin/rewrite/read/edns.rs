//! Reads `edns0` rules.

use super::{Reading, fault};
use crate::corefile::lexer::Token;
use crate::corefile::word::quoted;
use crate::limits::EDNS_OPTIONS_LEN_MAX;
use crate::plugin::rewrite::edns::{EdnsAction, EdnsRule, RuleOption, Variable};

const EDNS_USAGE: &str =
    "edns0 local|nsid|subnet set|append|replace|unset [CODE DATA|IPV4_BITS IPV6_BITS] [revert]";

pub(super) fn edns_rule<'t>(field: &'t Token, args: &[&'t Token]) -> Reading<'t, EdnsRule> {
    let [kind_word, action_word, ..] = args else {
        let last = args.last().unwrap_or(&field);
        let message = "too few arguments for an EDNS0 rule";
        return Err(fault(Some(last), message, "an argument is missing after this", EDNS_USAGE));
    };
    let (kind, action_name) = (kind_word.text.to_lowercase(), action_word.text.to_lowercase());
    let action = match action_name.as_str() {
        "set" => EdnsAction::Set,
        "append" => EdnsAction::Append,
        "replace" => EdnsAction::Replace,
        "unset" => EdnsAction::Unset,
        _ => {
            let message = format!("invalid action: \"{}\"", quoted(&action_name));
            return Err(fault(Some(action_word), message, "not an action", EDNS_USAGE));
        }
    };
    let unset = action == EdnsAction::Unset;
    let reverts = !unset && args.last().is_some_and(|last| last.text == "revert");
    let rest = &args[2..args.len() - usize::from(reverts)];
    let wrong_count = |message: &str| {
        let word = rest.last().unwrap_or(action_word);
        fault(Some(word), message, "not as many as needed", EDNS_USAGE)
    };
    let option = match (kind.as_str(), unset, rest) {
        ("local", false, [code, data]) => local_option(code, data)?,
        ("local", true, [code]) => RuleOption::Local { code: option_code(code)?, data: vec![] },
        ("local", false, _) => {
            return Err(wrong_count("EDNS0 local rules require three or four args"));
        }
        ("local", true, _) => {
            return Err(wrong_count("local unset action requires exactly two arguments"));
        }
        ("nsid", _, []) => RuleOption::Nsid,
        ("nsid", false, _) => {
            return Err(wrong_count("EDNS0 NSID rules can accept no more than one arg"));
        }
        ("nsid", true, _) => {
            return Err(wrong_count("nsid unset action requires exactly one argument"));
        }
        ("subnet", false, [ipv4, ipv6]) => RuleOption::Subnet {
            ipv4_bits: mask_len(ipv4, "IPv4", 32)?,
            ipv6_bits: mask_len(ipv6, "IPv6", 128)?,
        },
        ("subnet", true, []) => RuleOption::Subnet { ipv4_bits: 0, ipv6_bits: 0 },
        ("subnet", false, _) => {
            return Err(wrong_count("EDNS0 subnet rules require three or four args"));
        }
        ("subnet", true, _) => {
            return Err(wrong_count("subnet unset action requires exactly one argument"));
        }
        _ => {
            let message = format!("invalid rule type \"{}\"", quoted(&kind));
            return Err(fault(Some(kind_word), message, "not an option", EDNS_USAGE));
        }
    };
    Ok(EdnsRule { action, option, reverts })
}

/// `0xCODE DATA`, `0xCODE {VARIABLE}`
fn local_option<'t>(code_word: &'t Token, word: &'t Token) -> Reading<'t, RuleOption> {
    let code = option_code(code_word)?;
    let text = word.text.as_str();
    if let Some(name) = text.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
        let is_label = name.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
        let variable = match name {
            "qname" => Variable::Qname,
            "qtype" => Variable::Qtype,
            "client_ip" => Variable::ClientIp,
            "client_port" => Variable::ClientPort,
            "protocol" => Variable::Protocol,
            "server_ip" => Variable::ServerIp,
            "server_port" => Variable::ServerPort,
            label if is_label => Variable::Label(label.to_owned()),
            _ => {
                let message = format!("unsupported variable name \"{}\"", quoted(text));
                return Err(fault(Some(word), message, "not a variable", EDNS_USAGE));
            }
        };
        return Ok(RuleOption::Variable { code, variable });
    }
    let data = match text.strip_prefix("0x") {
        Some(digits) => hexadecimal(digits).ok_or_else(|| {
            let message = format!("encoding/hex: invalid data: {}", quoted(text));
            fault(Some(word), message, "not pairs of hexadecimal digits", EDNS_USAGE)
        })?,
        None => text.as_bytes().to_vec(),
    };
    if data.len() + 4 > EDNS_OPTIONS_LEN_MAX {
        let message = format!("option longer than {} bytes", EDNS_OPTIONS_LEN_MAX - 4);
        return Err(fault(Some(word), message, "too long", EDNS_USAGE));
    }
    Ok(RuleOption::Local { code, data })
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let byte = |pair: &[u8; 2]| {
        let text = str::from_utf8(pair).ok().filter(|_| pair.iter().all(u8::is_ascii_hexdigit))?;
        u8::from_str_radix(text, 16).ok()
    };
    rest.is_empty().then(|| pairs.iter().map(byte).collect())?
}

fn option_code(word: &Token) -> Reading<'_, u16> {
    go_number(word)
}

/// A mask's length, at most `bits_max`.
fn mask_len<'t>(word: &'t Token, family: &str, bits_max: u8) -> Reading<'t, u8> {
    let bits = go_number(word)?;
    u8::try_from(bits).ok().filter(|bits| *bits <= bits_max).ok_or_else(|| {
        let message = format!("invalid {family} bit mask length {bits}");
        fault(Some(word), message, "too many bits", EDNS_USAGE)
    })
}

/// A number of 16 bits as Go reads one without a given base: `65518`, `0xffee`, `0o17`, `0b1`.
fn go_number(word: &Token) -> Reading<'_, u16> {
    let text = word.text.to_lowercase();
    let number = match (text.strip_prefix("0x"), text.strip_prefix("0o"), text.strip_prefix("0b")) {
        (Some(digits), ..) => u64::from_str_radix(digits, 16),
        (_, Some(digits), _) => u64::from_str_radix(digits, 8),
        (.., Some(digits)) => u64::from_str_radix(digits, 2),
        _ if text.len() > 1 && text.starts_with('0') => u64::from_str_radix(&text, 8),
        _ => text.parse(),
    };
    let shown = quoted(&word.text);
    let number = number.map_err(|_| "invalid syntax");
    let number = number.and_then(|number| u16::try_from(number).map_err(|_| "value out of range"));
    number.map_err(|why| {
        let message = format!("strconv.ParseUint: parsing \"{shown}\": {why}");
        fault(Some(word), message, "not a number of 16 bits", EDNS_USAGE)
    })
}
