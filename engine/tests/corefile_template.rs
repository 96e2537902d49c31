//! The options of `template` and `no_aaaa`, and mistakes in them. `plugins/template.scn` has what
//! templates answer.

#[path = "corefile/rows.rs"]
mod rows;

use engine::plugin::no_aaaa::NoAaaa;
use engine::plugin::template::TemplateLine;

use rows::{check_mistakes, check_warnings, parse, texts};

/// Checks the templates of a block, one line each.
fn check(lines: &str, expected: &[&str]) {
    let config = parse(&format!("test 10.1.0.0/15 {{\n{lines}\n}}")).expect("no mistakes");
    let found = config.blocks[0].lines::<TemplateLine>().map(|TemplateLine(template)| {
        let zones: Vec<_> = template.zones.iter().map(|zone| zone.text.as_str()).collect();
        let fallthrough: Vec<_> =
            template.fallthrough.iter().map(|zone| zone.text.as_str()).collect();
        let patterns: Vec<_> = template.patterns.iter().map(ToString::to_string).collect();
        let records = template.records.each_ref().map(|section| {
            section.iter().map(|record| record.text.clone()).collect::<Vec<_>>().join(", ")
        });
        let error = template.extended_error.as_ref();
        let error = error.map(|error| format!(" ede={} {:?}", error.code, error.text));
        format!(
            "{} {} {} match={} records={} rcode={}{} fallthrough={}",
            template.qclass,
            template.qtype,
            zones.join(" "),
            patterns.join(" "),
            records.join(" / "),
            template.rcode.mnemonic(),
            error.unwrap_or_default(),
            fallthrough.join(" "),
        )
    });
    assert_eq!(found.collect::<Vec<_>>(), expected, "{lines}");
}

#[test]
fn template_options() {
    check(
        "template IN A",
        &["1 A test. 0.10.in-addr.arpa. 1.10.in-addr.arpa. match= records= /  /  rcode=NOERROR \
           fallthrough="],
    );
    check(
        "template ANY ANY a b. {\n match x (y) \"z\"\n match w\n answer \"a. A 192.0.2.1\" \
         \"a. 5 A 192.0.2.2\"\n answer \"{{ .Name }} A 192.0.2.3\"\n authority \"a. NS b.\"\n \
         additional \"b. A 192.0.2.4\"\n rcode NXDOMAIN\n ederror 15 \"not here\"\n fallthrough\n \
         upstream\n}\ntemplate CH TXT {\n rcode NOTIMPL\n ederror 4\n fallthrough c d\n upstream x \
         y\n}",
        &[
            "255 ANY a. b. match=x (y) z w records=a. A 192.0.2.1, a. 5 A 192.0.2.2, {{ .Name }} \
             A 192.0.2.3 / a. NS b. / b. A 192.0.2.4 rcode=NXDOMAIN ede=15 \"not here\" \
             fallthrough=.",
            "3 TXT test. 0.10.in-addr.arpa. 1.10.in-addr.arpa. match= records= /  /  rcode=NOTIMP \
             ede=4 \"\" fallthrough=c. d.",
        ],
    );
}

#[test]
fn template_mistakes() {
    let long = "x".repeat(10_001);
    check_mistakes(
        &format!(
            ". {{\n template\n template IN\n template in A\n template IN a\n template IN TYPE1\n \
             template IN A {{\n match\n match (x\n match {long}\n answer\n rcode\n rcode OK\n \
             rcode nxdomain\n rcode BADVERS\n rcode NOERROR x\n ederror\n ederror x\n ederror 15 a \
             b\n ederror 65536\n ttl 5\n var a 1\n expr true\n }}\n}}"
        ),
        &[
            (2, 2, "Wrong argument count or unexpected line ending after 'template'"),
            (3, 11, "Wrong argument count or unexpected line ending after 'IN'"),
            (4, 11, "invalid query class in"),
            (5, 14, "invalid RR class a"),
            (6, 14, "invalid RR class TYPE1"),
            (8, 2, "Wrong argument count or unexpected line ending after 'match'"),
            (9, 8, "could not parse regex: (x, missing closing ): `(x`"),
            (10, 8, "regex pattern too long: 10001 > 10000"),
            (11, 2, "Wrong argument count or unexpected line ending after 'answer'"),
            (12, 2, "Wrong argument count or unexpected line ending after 'rcode'"),
            (13, 8, "unknown rcode OK"),
            (14, 8, "unknown rcode nxdomain"),
            (15, 8, "unknown rcode BADVERS"),
            (16, 16, "Wrong argument count or unexpected line ending after 'x'"),
            (17, 2, "Wrong argument count or unexpected line ending after 'ederror'"),
            (18, 10, "error parsing extended DNS error code x"),
            (19, 15, "Wrong argument count or unexpected line ending after 'b'"),
            (20, 10, "error parsing extended DNS error code 65536"),
            (21, 2, "unknown property 'ttl'"),
            (22, 2, "'var' is known but not built yet"),
            (23, 2, "'expr' is known but not built yet"),
        ],
    );
}

/// Records that no query changes are checked when the Corefile is read.
#[test]
fn record_mistakes() {
    let check = |record: &str, message: &str, help: &str| {
        let text = format!("a. {{\n template IN A {{\n answer \"{record}\"\n }}\n}}");
        let report = parse(&text).expect_err("a mistake");
        let finding = report.findings().next().expect("a finding");
        let place = "plugin/template: Corefile:3 - Error during parsing: ";
        assert_eq!(finding.message, format!("{place}{message}"), "{record}");
        assert_eq!((finding.line, finding.column), (3, 9), "{record}");
        assert!(finding.help.is_some_and(|text| text.contains(help)), "{record}: {finding:?}");
    };
    check("", "invalid record: : it is empty", "owner, TTL");
    check(
        "a. 60 IN A 192.0.2",
        "invalid record: a. 60 IN A 192.0.2: expected IPv4 address",
        "owner, TTL",
    );
    check("a..b 60 IN A 192.0.2.1", "invalid record: a..b 60 IN A 192.0.2.1: bad name", "owner");
    check("a. CNAME \\# 2 0161", "invalid record: a. CNAME \\# 2 0161: malformed data", "owner");
    check(
        "{{ .Name }} 60 IN A {{ .Type }}",
        "invalid record: . 60 IN A A: expected IPv4 address",
        "owner, TTL",
    );
    check(
        "{{ .Zone }} 60 IN NOPE x",
        "invalid record: a. 60 IN NOPE x: expected rtype",
        "owner, TTL",
    );
    check(
        "{{ .Nam }} A 192.0.2.1",
        "could not compile template: {{ .Nam }} A 192.0.2.1, there is no field .Nam here; did you \
         mean .Name?",
        "the mistake is at `.Nam }} A 192.0.2.1`",
    );
    check(
        "{{ .Var.x }} A 192.0.2.1",
        "could not compile template: {{ .Var.x }} A 192.0.2.1, .Var needs `var`, which is not \
         built",
        "the mistake is at `.Var.x",
    );
    check(
        "{{ .Name }} A {{ index .Match 1",
        "could not compile template: {{ .Name }} A {{ index .Match 1, unclosed action",
        "the mistake is at",
    );
    check(
        "{{ parseInt .Class 16 8 }}",
        "could not run template: parseInt: invalid syntax",
        "correct it",
    );
}

#[test]
fn no_aaaa() {
    let config = parse("a b {\n no_aaaa\n}\nc {\n no_aaaa d 10.0.0.0/8\n}").expect("no mistakes");
    let zones = |index: usize| {
        let block = &config.blocks[index];
        texts(&block.line::<NoAaaa>().expect("the line").zones)
    };
    assert_eq!(zones(0), "a.,b.");
    assert_eq!(zones(1), "d.,10.in-addr.arpa.");
    check_mistakes(
        ". {\n no_aaaa\n no_aaaa\n}\na {\n no_aaaa {\n x\n }\n}",
        &[
            (3, 2, "this plugin can only be used once per Server Block"),
            (6, 10, "'no_aaaa' takes no block"),
        ],
    );
    check_warnings("a {\n no_aaaa b..c\n}", &[(2, 10, "zone is not a valid domain name: b..c")]);
}
