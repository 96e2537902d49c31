//! The options of the Corefile's plugins that decide about single queries or change single
//! responses, and mistakes in them.

#[path = "corefile/rows.rs"]
mod rows;

use std::time::Duration;

use engine::plugin::acl::{Acl, AclRule};
use engine::plugin::erratic::Erratic;
use engine::plugin::tls::Tls;
use rows::{check_mistakes, check_warnings};

/// A block with these lines, which cause no warning, has these plugins.
fn check(lines: &str, expected: &[&str]) {
    let config = check_warnings(&format!("test {{\n{lines}\n}}"), &[]);
    let found: Vec<String> = config.blocks[0].plugins().map(|line| format!("{line:?}")).collect();
    assert_eq!(found, expected, "{lines}");
}

#[test]
fn whoami_takes_nothing() {
    check("whoami", &["Whoami"]);
    check_mistakes(
        ". {\n whoami now\n whoami {\n }\n}",
        &[
            (2, 9, "Wrong argument count or unexpected line ending after 'now'"),
            (3, 9, "'whoami' takes no block"),
        ],
    );
}

#[test]
fn chaos_takes_a_version_and_authors() {
    let default = concat!(
        "Chaos { version: \"ringdns-",
        env!("CARGO_PKG_VERSION"),
        "\", authors: [\"The ringdns authors\"] }"
    );
    check("chaos", &[default]);
    check("chaos v1", &["Chaos { version: \"v1\", authors: [\"The ringdns authors\"] }"]);
    check("chaos v1 b a b", &["Chaos { version: \"v1\", authors: [\"a\", \"b\"] }"]);
    check_mistakes(". {\n chaos v1 {\n x\n }\n}", &[(2, 11, "'chaos' takes no block")]);
}

#[test]
fn local_has_one_option() {
    check("local", &["Local { takes_prefix: true }"]);
    check("local {\n localhost_prefix off\n}", &["Local { takes_prefix: false }"]);
    check("local {\n localhost_prefix off\n}\nlocal", &["Local { takes_prefix: false }"]);
    check_mistakes(
        ". {\n local x\n local {\n localhost_prefix\n localhost_prefix no\n prefix on\n }\n}",
        &[
            (2, 8, "Wrong argument count or unexpected line ending after 'x'"),
            (4, 2, "Wrong argument count or unexpected line ending after 'localhost_prefix'"),
            (5, 19, "localhost_prefix expects 'on' or 'off', got \"no\""),
            (6, 2, "unknown property 'prefix'"),
        ],
    );
}

#[test]
fn nsid_takes_words() {
    check("nsid", &["Nsid { data: None }"]);
    check("nsid Use The Force", &["Nsid { data: Some(\"Use The Force\") }"]);
    check_mistakes(
        ". {\n nsid a {\n }\n nsid b\n}",
        &[
            (2, 9, "'nsid' takes no block"),
            (4, 2, "this plugin can only be used once per Server Block"),
        ],
    );
}

#[test]
fn acl_rules_are_read() {
    let check_rule = |lines: &str, policies: &str| {
        let config = check_warnings(&format!("test {{\nacl {{\n{lines}\n}}\n}}"), &[]);
        let acl = config.blocks[0].line::<Acl>().expect("an acl");
        let AclRule { zones, policies: found } = &acl.rules[0];
        assert_eq!(zones.iter().map(|zone| zone.text.as_str()).collect::<Vec<_>>(), ["test."]);
        let found: Vec<String> = found
            .iter()
            .map(|policy| {
                let nets = policy
                    .nets
                    .as_ref()
                    .map(|nets| nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
                format!("{:?} {:?} {nets:?}", policy.action, policy.types)
            })
            .collect();
        assert_eq!(found.join("; "), policies, "{lines}");
    };
    check_rule("", "");
    check_rule("block", "Block None None");
    check_rule("ALLOW Type A AAAA", "Allow Some([1, 28]) None");
    check_rule(
        "drop net 10.0.0.0/8 192.0.2.1 fd00::1 type MX net ::/0",
        "Drop Some([15]) Some(\"10.0.0.0/8 192.0.2.1/32 fd00::1/128 ::/0\")",
    );
    check_rule("filter type A * net *\nallow net *", "Filter None None; Allow None None");
    check_mistakes(
        "test {\n acl {\n deny\n block from x\n block type\n block type A net\n \
         block type a\n block type TYPE65\n block net 10.0.0.300 10.0.0.0/33\n \
         block net fd00:::1\n allow {\n }\n }\n}",
        &[
            (3, 2, "unexpected token \"deny\"; expect 'allow', 'block', 'filter' or 'drop'"),
            (4, 8, "unexpected token \"from\"; expect 'type | net'"),
            (5, 8, "no token specified in \"type\" section"),
            (6, 15, "no token specified in \"net\" section"),
            (7, 13, "unexpected token \"a\"; expect legal QTYPE"),
            (8, 13, "unexpected token \"TYPE65\"; expect legal QTYPE"),
            (9, 12, "illegal CIDR notation \"10.0.0.300/32\""),
            (10, 12, "illegal CIDR notation \"fd00:::1/128\""),
            (11, 8, "'allow' takes no block"),
        ],
    );
}

#[test]
fn header_changes_flags() {
    let none = "FlagChange { set: 0, clear: 0 }";
    check(
        "header {\n response set ra AA\n}",
        &[&format!("Header {{ query: {none}, response: FlagChange {{ set: 1152, clear: 0 }} }}")],
    );
    check(
        "header {\n Query clear rd aa\n query set aa\n}",
        &[&format!("Header {{ query: FlagChange {{ set: 1024, clear: 256 }}, response: {none} }}")],
    );
    check_mistakes(
        ". {\n header\n header x\n header {\n reply set ra\n query\n query set\n \
         query toggle rd\n response set ad\n }\n}",
        &[
            (2, 2, "Wrong argument count or unexpected line ending after 'header'"),
            (3, 9, "Wrong argument count or unexpected line ending after 'x'"),
            (5, 2, "setting up rule: invalid selector=reply should be query or response"),
            (6, 2, "setting up rule: no flag action provided"),
            (7, 8, "setting up rule: invalid length for flags, at least one should be provided"),
            (8, 8, "setting up rule: unknown flag action=toggle, should be set or clear"),
            (9, 15, "setting up rule: unknown/unsupported flag=ad"),
        ],
    );
    check_warnings(
        ". {\n header {\n query set rd\n }\n header {\n query set rd\n }\n}",
        &[(5, 2, "a second 'header' in this block")],
    );
}

#[test]
fn lines_that_take_little() {
    check("minimal", &["Minimal"]);
    check("minimal\nminimal", &["Minimal"]);
    check("cancel", &["Cancel { timeout: 5.001s }"]);
    check("cancel 1s\ncancel 300ms", &["Cancel { timeout: 300ms }"]);
    let place = "Place { file: \"Corefile\", line: 2 }";
    check("root /etc/x", &[&format!("Root {{ folder: \"/etc/x\", place: {place} }}")]);
    check("debug", &[&format!("Debugging {{ place: {place} }}")]);
    check("multisocket", &[&format!("MultiSocket {{ count: None, place: {place} }}")]);
    check("multisocket 5", &[&format!("MultiSocket {{ count: Some(5), place: {place} }}")]);
    let localhost = "HttpAddress { host: Name(\"localhost\"), port: 6053 }";
    check("pprof {\n block\n}", &[&format!("Pprof {{ address: {localhost}, place: {place} }}")]);
    let every = "HttpAddress { host: Every, port: 6060 }";
    check(
        "pprof :6060 {\n block 5\n}",
        &[&format!("Pprof {{ address: {every}, place: {place} }}")],
    );
    check_mistakes(
        ". {\n minimal x\n cancel soon\n cancel -1s\n cancel 0s\n cancel 1s 2s\n root\n \
         root a b\n debug all\n}",
        &[
            (2, 10, "Wrong argument count or unexpected line ending after 'x'"),
            (3, 9, "invalid duration: \"soon\""),
            (4, 9, "invalid negative duration: \"-1s\""),
            (5, 9, "invalid negative duration: \"0s\""),
            (6, 12, "Wrong argument count or unexpected line ending after '2s'"),
            (7, 2, "Wrong argument count or unexpected line ending after 'root'"),
            (8, 9, "Wrong argument count or unexpected line ending after 'b'"),
            (9, 8, "Wrong argument count or unexpected line ending after 'all'"),
        ],
    );
    for (number, message) in [
        ("0", "num sockets can not be zero or negative: 0"),
        ("-3", "num sockets can not be zero or negative: -3"),
        ("1025", "num sockets exceeds maximum (1024): 1025"),
        ("x", "invalid num sockets: strconv.Atoi: parsing \"x\": invalid syntax"),
    ] {
        check_mistakes(&format!(". {{\n multisocket {number}\n}}"), &[(2, 14, message)]);
    }
    let message = "Wrong argument count or unexpected line ending after 'multisocket'";
    check_mistakes(". {\n multisocket\n whoami\n multisocket 2\n}", &[(4, 2, message)]);
    check_mistakes(
        ". {\n pprof x {\n block often\n blocks\n }\n pprof\n}",
        &[
            (2, 8, "address x: missing port in address"),
            (3, 8, "property 'block' invalid integer value 'often'"),
            (4, 2, "unknown property 'blocks'"),
            (6, 2, "this plugin can only be used once per Server Block"),
        ],
    );
}

#[test]
fn tls_names_its_files() {
    let check = |lines: &str, expected: &str| {
        let config = check_warnings(&format!("tls://. {{\n{lines}\n}}"), &[]);
        let key = &config.blocks[0].keys[0];
        assert_eq!((key.to_string().as_str(), key.names_port), ("tls://.:853", false));
        let Tls { certificate, key, authority, client_auth, .. } =
            config.blocks[0].line::<Tls>().expect("a line");
        assert_eq!(format!("{certificate:?} {key:?} {authority:?} {client_auth:?}"), expected);
    };
    check("tls cert.pem key.pem", "\"cert.pem\" \"key.pem\" None NoCert");
    check(
        "tls a b c {\n client_auth require_and_verify\n}",
        "\"a\" \"b\" Some(\"c\") RequireAndVerify",
    );
    check_mistakes(
        "tls://. {\n tls\n}\ntls://a {\n tls a\n}\ntls://b {\n tls a b c d\n}\n\
         tls://c {\n tls a b {\n client_auth\n client_auth never\n keylog x\n ca x\n }\n \
         tls a b\n}",
        &[
            (2, 2, "certificates by ACME are known but not built yet"),
            (5, 6, "Wrong argument count or unexpected line ending after 'a'"),
            (8, 12, "Wrong argument count or unexpected line ending after 'd'"),
            (12, 2, "Wrong argument count or unexpected line ending after 'client_auth'"),
            (13, 14, "unknown authentication type 'never'"),
            (14, 2, "'keylog' is known but not built yet"),
            (15, 2, "unknown property 'ca'"),
            (17, 2, "this plugin can only be used once per Server Block"),
        ],
    );
    check_warnings(
        ". {\n tls a b\n}",
        &[(2, 2, "'tls' in a block without a zone that begins with `tls://` or `https://`")],
    );
}

/// `amounts`: of `drop`, `truncate` and `delay`.
fn check_erratic(
    lines: &str,
    amounts: (Option<u32>, u32, u32),
    delay_ms: u64,
    warnings: &[(usize, usize, &str)],
) {
    let config = check_warnings(&format!(". {{\n {lines}\n}}"), warnings);
    let line = config.blocks[0].line::<Erratic>().expect("its line");
    let (drop_amount, truncate_amount, delay_amount) = amounts;
    let delay = Duration::from_millis(delay_ms);
    let is_large = lines.contains("large");
    let expected = Erratic { drop_amount, truncate_amount, delay_amount, delay, is_large };
    assert_eq!(line, &expected, "{lines}");
}

#[test]
fn erratic_options() {
    let check = |lines, amounts, delay_ms| check_erratic(lines, amounts, delay_ms, &[]);
    check("erratic", (None, 0, 0), 100);
    check("erratic {\n large\n }", (None, 0, 0), 100);
    check("erratic {\n drop 0\n truncate +3\n delay 1 4s\n }", (Some(0), 3, 1), 4000);
    // As in CoreDNS, `drop` without an amount changes nothing.
    check("erratic {\n drop\n truncate\n delay\n }", (None, 2, 2), 100);
    // Several lines add up.
    check(
        "erratic {\n drop 4\n delay 3 5ms\n }\n erratic {\n drop\n delay 5\n }",
        (Some(4), 0, 5),
        100,
    );
}

#[test]
fn erratic_takes_what_coredns_takes() {
    let check = |lines, amounts, delay_ms, warning| {
        check_erratic(lines, amounts, delay_ms, &[warning]);
    };
    check(
        "erratic {\n delay 1 4001ms\n }",
        (None, 0, 1),
        4000,
        (3, 10, "a delay of 4.001s is longer than 4s"),
    );
    check("erratic {\n delay 1 -5ms\n }", (None, 0, 1), 0, (3, 10, "the delay is negative"));
    check("erratic now", (None, 0, 0), 100, (2, 10, "'now' is one word too many"));
}

#[test]
fn erratic_mistakes() {
    check_mistakes(
        ". {\n erratic {\n drop -1\n drop 1 2\n truncate x\n truncate 2147483648\n delay 1 5\n \
         delay 2ms\n delay 1 2s 3\n delay 1 -5\n large 1\n slow\n }\n}",
        &[
            (3, 7, "illegal amount value given \"-1\""),
            (4, 9, "Wrong argument count or unexpected line ending after '2'"),
            (5, 11, "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (6, 11, "strconv.ParseInt: parsing \"2147483648\": value out of range"),
            (7, 10, "time: missing unit in duration \"5\""),
            (8, 8, "strconv.ParseInt: parsing \"2ms\": invalid syntax"),
            (9, 13, "Wrong argument count or unexpected line ending after '3'"),
            (10, 10, "negative duration \"-5\""),
            (11, 8, "Wrong argument count or unexpected line ending after '1'"),
            (12, 2, "unknown property 'slow'"),
        ],
    );
}
