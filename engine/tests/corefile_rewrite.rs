//! `rewrite` in a Corefile: rules in all their spellings, and mistakes in them, in CoreDNS's words.

#[path = "corefile/rows.rs"]
mod rows;

use engine::plugin::rewrite::{Field, Mode, Rewrite};

use rows::{check_mistakes, check_warnings, parse};

/// The rules of these lines.
fn rules(lines: &str) -> Rewrite {
    let config = check_warnings(&format!(". {{\n{lines}\n}}"), &[]);
    let rewrites: Vec<_> = config.blocks[0].lines::<Rewrite>().cloned().collect();
    let [rewrite] = rewrites.as_slice() else { panic!("{lines}: {rewrites:?}") };
    rewrite.clone()
}

/// Lines that mean the same.
fn check_equal(spellings: &[&str]) {
    let [first, others @ ..] = spellings else { panic!("nothing to compare") };
    for other in others {
        assert_eq!(rules(first), rules(other), "{first} and {other}");
    }
}

#[test]
fn spellings() {
    check_equal(&[
        "rewrite name A.test b.test",
        "rewrite stop name a.test. B.test.",
        "rewrite STOP NAME EXACT a.test b.test",
        "rewrite {\nname exact a.test b.test\n}",
        "rewrite stop {\nname\na.test\nb.test\n}",
        "rewrite name exact a.test b.test answer auto",
    ]);
    check_equal(&[
        "rewrite continue {\nname regex (.*)\\.a {1}.b\nanswer name (.*)\\.b {1}.a\nanswer value b \
         a\n}",
        "rewrite continue name regex (.*)\\.a {1}.b answer name (.*)\\.b {1}.a value b a",
    ]);
    check_equal(&["rewrite ttl a 30", "rewrite ttl exact a. 30-30"]);
    check_equal(&["rewrite ttl suffix .a -30", "rewrite ttl suffix .A. 0-30"]);
    check_equal(&["rewrite ttl a 30-", "rewrite ttl a 30-2147483647"]);
    check_equal(&["rewrite rcode a SERVFAIL noerror", "rewrite rcode exact a 2 0"]);
    check_equal(&["rewrite type any HINFO", "rewrite stop type ANY hinfo"]);
    check_equal(&["rewrite cname a b", "rewrite cname exact a. B."]);
    check_equal(&[
        "rewrite edns0 local set 0xffee abcd",
        "rewrite edns0 LOCAL SET 65518 0x61626364",
    ]);
    let several = rules("rewrite name a b\nrewrite continue class CH IN\nrewrite edns0 nsid unset");
    let modes: Vec<Mode> = several.rules.iter().map(|rule| rule.mode).collect();
    assert_eq!(modes, [Mode::Stop, Mode::Continue, Mode::Stop]);
    assert_eq!(several.rules[1].field, Field::Class { from: 3, to: 1 });
}

#[test]
fn every_field_is_read() {
    for line in [
        "name prefix a b",
        "name suffix .a .b answer auto",
        "name substring a b answer auto value (.*)\\.b {1}.a",
        "name regex ^(\\pL+)\\.\\Qa.b\\E\\.$ {1}.{plugin/label}. metadata answer auto",
        "name regex (?i)a b answer name a b answer value a b name c d",
        "ttl regex ^a 1-2",
        "rcode suffix .a NXDOMAIN 0",
        "rcode a 16 BADCOOKIE",
        "cname regex (.*)\\.a\\.$ {1}.b.",
        "cname suffix .a. .b.",
        "edns0 local append 0xffee {client_ip}",
        "edns0 local replace 1 {plugin/label} revert",
        "edns0 local unset 0xffee",
        "edns0 nsid set revert",
        "edns0 subnet set 24 56 revert",
        "edns0 subnet unset",
        "type NSAP-PTR A",
    ] {
        assert_eq!(rules(&format!("rewrite {line}")).rules.len(), 1, "{line}");
    }
}

/// One line, the column of the word to blame, and the message.
fn check(line: &str, column: usize, message: &str) {
    check_mistakes(&format!(". {{\n {line}\n}}"), &[(2, column, message)]);
}

#[test]
fn mistakes_in_rules() {
    check("rewrite", 2, "no rule type specified for rewrite");
    check("rewrite continue", 10, "continue rule must begin with a rule type");
    check("rewrite stop", 10, "stop rule must begin with a rule type");
    check("rewrite nam a b", 10, "invalid rule type \"nam\"");
    check("rewrite stop nam a b", 15, "invalid rule type \"stop\"");
    check("rewrite answer name a b", 10, "response rewrites must begin with a name rule");
    check("rewrite name a b {\n }", 19, "'rewrite' takes no block");
    check("rewrite type A", 15, "type rules must have exactly two arguments");
    check("rewrite class IN CH HS", 22, "class rules must have exactly two arguments");
    check("rewrite type A bogus", 17, "invalid type \"BOGUS\"");
    check("rewrite class in xy", 19, "invalid class \"XY\"");
    let report = parse(". {\n rewrite nam a b\n}").expect_err("a mistake");
    let help = report.findings().next().and_then(|finding| finding.help.map(str::to_owned));
    assert_eq!(help.as_deref(), Some("did you mean `name`?"));
}

#[test]
fn mistakes_in_name_rules() {
    check("rewrite name a", 15, "too few arguments for a name rule");
    check(
        "rewrite name sufix a b",
        15,
        "name rule supports only exact, prefix, suffix, substring, and regex name matching, \
         received: sufix",
    );
    check("rewrite name a b answer auto", 26, "invalid arguments for a rule");
    check(
        "rewrite name suffix a b c d",
        26,
        "exceeded the number of arguments for a non-answer rule argument for suffix rule",
    );
    check("rewrite name suffix a b answer", 26, "invalid arguments for suffix rule");
    check(
        "rewrite name suffix a b answer auto answer",
        38,
        "type missing for answer rule for suffix rule",
    );
    check(
        "rewrite name suffix a b answer nam c d",
        33,
        "invalid type \"nam\" for answer rule for suffix rule",
    );
    check(
        "rewrite name suffix a b answer name c",
        38,
        "name answer rule for suffix rule: 2 arguments required",
    );
    check(
        "rewrite name suffix a b answer value (c d",
        39,
        "value answer rule for suffix rule: invalid regex matching pattern: (c",
    );
    check(
        "rewrite name suffix a b answer auto name c d",
        26,
        "auto name answer rule cannot be combined with explicit name anwer rules",
    );
    check("rewrite name regex (a b", 21, "invalid regex matching pattern: (a");
    check(
        "rewrite name regex (a)b {1}.{2}.b",
        21,
        "the rewrite regex pattern ({1}.{2}.b) uses more subexpressions than its corresponding \
         matching regex pattern ((a)b)",
    );
    check(
        &format!("rewrite name regex {} b", "x".repeat(10_001)),
        21,
        "regex pattern too long: 10001 > 10000",
    );
}

#[test]
fn mistakes_in_labels_of_name_rules() {
    check(
        "rewrite name suffix a b metadata",
        26,
        "metadata is only supported for regex name rules",
    );
    check(
        "rewrite name regex a {1} metadata",
        23,
        "capture group 1 does not exist in name matching pattern",
    );
    check(
        "rewrite name regex a {b} metadata",
        23,
        "invalid metadata label \"b\" in name replacement",
    );
    check(
        "rewrite name regex a {a/b metadata",
        23,
        "unclosed placeholder in metadata name replacement",
    );
    check(
        "rewrite name regex a a/b} metadata",
        23,
        "unmatched closing brace in metadata name replacement",
    );
}

#[test]
fn mistakes_in_rules_about_responses() {
    check("rewrite ttl a", 14, "too few (1) arguments for a ttl rule");
    check("rewrite ttl a 5m", 16, "invalid TTL '5m' for a ttl rule");
    check("rewrite ttl a 30-20", 16, "invalid TTL '30-20' for a ttl rule");
    check("rewrite ttl a -", 16, "invalid TTL '-' for a ttl rule");
    check("rewrite ttl a 4294967296", 16, "invalid TTL '4294967296' for a ttl rule");
    check("rewrite ttl exact a 5 6", 24, "invalid TTL '' for a ttl rule");
    check(
        "rewrite ttl nothing a 5",
        14,
        "ttl rule supports only exact, prefix, suffix, substring, and regex name matching",
    );
    check("rewrite ttl regex (a 5", 20, "invalid regex pattern in a ttl rule: (a");
    check("rewrite rcode a 0", 18, "too few (2) arguments for a rcode rule");
    check("rewrite rcode a 24 0", 18, "invalid matching RCODE '24' for a rcode rule");
    check("rewrite rcode a 0 no", 20, "invalid replacement RCODE 'no' for a rcode rule");
    check("rewrite rcode exact a 0 1 2", 28, "invalid matching RCODE '' for a rcode rule");
    check(
        "rewrite rcode nothing a 0 1",
        16,
        "rcode rule supports only exact, prefix, suffix, substring, and regex name matching",
    );
    check("rewrite cname a", 16, "too few (1) arguments for a cname rule");
    check("rewrite cname exact a b c", 26, "too few (4) arguments for a cname rule");
    check("rewrite cname nothing a b", 16, "unknown cname rewrite type: nothing");
    check(
        "rewrite cname regex (A b",
        22,
        "invalid cname rewrite regex pattern: error parsing regexp: missing closing ): `(a`",
    );
}

#[test]
fn mistakes_in_edns0_rules() {
    check("rewrite edns0 local", 16, "too few arguments for an EDNS0 rule");
    check("rewrite edns0 local add 1 2", 22, "invalid action: \"add\"");
    check("rewrite edns0 locale set 1 2", 16, "invalid rule type \"locale\"");
    check("rewrite edns0 local set 1", 26, "EDNS0 local rules require three or four args");
    check("rewrite edns0 local unset 1 2", 30, "local unset action requires exactly two arguments");
    check("rewrite edns0 nsid set 1", 25, "EDNS0 NSID rules can accept no more than one arg");
    check("rewrite edns0 nsid unset 1", 27, "nsid unset action requires exactly one argument");
    check("rewrite edns0 subnet set 24", 27, "EDNS0 subnet rules require three or four args");
    check("rewrite edns0 subnet unset 1", 29, "subnet unset action requires exactly one argument");
    check("rewrite edns0 subnet set 33 0", 27, "invalid IPv4 bit mask length 33");
    check("rewrite edns0 subnet set 0 129", 29, "invalid IPv6 bit mask length 129");
    check("rewrite edns0 local set 1 {qnam}", 28, "unsupported variable name \"{qnam}\"");
    check("rewrite edns0 local set x 1", 26, "strconv.ParseUint: parsing \"x\": invalid syntax");
    check(
        "rewrite edns0 local set 65536 1",
        26,
        "strconv.ParseUint: parsing \"65536\": value out of range",
    );
    check("rewrite edns0 local set 1 0x123", 28, "encoding/hex: invalid data: 0x123");
}
