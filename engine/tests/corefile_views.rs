//! `view` and `metadata` in a Corefile: every option that works, and mistakes in them.

#[path = "corefile/rows.rs"]
mod rows;

use engine::plugin::metadata::QueryMetadata;
use engine::plugin::view::ViewSettings;
use proptest::prelude::*;

use rows::{check_mistakes, check_warnings, parse, texts};

/// The block with this expression has exactly this mistake: column in the line, message.
fn check_expression(expression: &str, column: usize, message: &str) {
    let text = format!(". {{\n view v {{\n  expr {expression}\n }}\n}}");
    check_mistakes(&text, &[(3, column, message)]);
}

#[test]
fn expressions_fail_in_the_words_of_coredns() {
    for (expression, column, message) in [
        ("", 3, "unexpected token EOF"),
        ("invalid expression", 16, "unexpected token Identifier(\"expression\") (1:9)"),
        ("foo()", 8, "unknown name foo (1:1)"),
        ("foo", 8, "unknown name foo (1:1)"),
        ("name() ==", 15, "unexpected token EOF (1:9)"),
        ("name() == 1", 15, "invalid operation: == (mismatched types string and int) (1:8)"),
        ("(name() == 'a'", 19, "unexpected token EOF (1:14)"),
        ("name() + 1 == 'a'", 15, "invalid operation: + (mismatched types string and int) (1:8)"),
        ("'abc", 8, "literal not terminated (1:5)"),
        ("incidr(client_ip())", 8, "not enough arguments to call incidr (1:1)"),
        ("name(1)", 8, "too many arguments to call name (1:1)"),
        ("incidr(1, 2)", 8, "cannot use int as argument (type string) to call incidr (1:8)"),
        ("type() in 'A'", 15, "invalid operation: in (mismatched types string and string) (1:8)"),
        ("'a' in 1..3", 12, "cannot use string as type int in array (1:5)"),
        ("size() > '1'", 15, "invalid operation: > (mismatched types int and string) (1:8)"),
        ("not name()", 8, "invalid operation: not (mismatched type string) (1:1)"),
        ("-name() == 1", 8, "invalid operation: - (mismatched type string) (1:1)"),
        ("name() and true", 15, "invalid operation: and (mismatched types string and bool) (1:8)"),
        ("name() = 'a'", 15, "unexpected token Operator(\"=\") (1:8)"),
        ("do() == 1", 13, "invalid operation: == (mismatched types bool and int) (1:6)"),
        ("name() == 'a' xyz", 22, "unexpected token Identifier(\"xyz\") (1:15)"),
        ("@", 8, "unrecognized character: U+0040 '@' (1:1)"),
        ("name() matches '('", 15, "error parsing regexp: unclosed group: `(` (1:8)"),
        ("type == 'A'", 8, "'type' is a function: write `type()` (1:1)"),
        (
            "metadata('kubernetes/client-namespace') == 'dev'",
            8,
            "'kubernetes/client-namespace' is known but not built yet",
        ),
        ("date('2020') == 1", 8, "'date' is known but not built yet"),
        ("name()[0] == 'a'", 8, "'[' is known but not built yet"),
        ("size() / 2 == 1", 15, "'/' is known but not built yet"),
        ("1.5 > 1", 8, "'a number with a fraction' is known but not built yet"),
        (
            "name() matches name()",
            15,
            "'matches with a computed pattern' is known but not built yet",
        ),
    ] {
        check_expression(expression, column, message);
    }
    let many = "true or ".repeat(1000);
    check_mistakes(
        &format!(". {{\n view v {{\n  expr \"{many} true\"\n }}\n}}"),
        &[(3, 8, "more than 1000 operators and values (1:3998)")],
    );
    check_expression(&"(".repeat(200), 8, "nested more than 50 levels deep (1:51)");
    check_expression(
        &format!("1{} > 1", "+1".repeat(60)),
        8,
        "nested more than 50 levels deep (1:100)",
    );
    for nesting in ["(", "not ", "-", "[", "!", "true ? "] {
        let text = format!(". {{\n view v {{\n  expr \"{}\"\n }}\n}}", nesting.repeat(50_000));
        assert!(parse(&text).is_err(), "{nesting}");
    }
}

#[test]
fn views() {
    let config = check_warnings(
        "a {\n view v {\n expr type() == 'A'\n expr do()\n }\n}\na {\n view w\n}\na {\n}\n\
         b:54 {\n bind lo\n view v\n}\nb:54 {\n bind lo\n}",
        &[],
    );
    let view = |index: usize| config.blocks[index].line::<ViewSettings>();
    assert_eq!(view(0).map(|view| view.name.as_str()), Some("v"));
    assert_eq!(view(1).map(|view| view.name.as_str()), Some("w"));
    assert!(view(2).is_none());
    check_warnings(
        "a {\n}\na {\n view v {\n expr 'a' + 'b'\n }\n}",
        &[
            (3, 1, "dns://a.:53 is served by a block without a view: this one gets no query"),
            (5, 7, "the expression is never true"),
        ],
    );
    check_mistakes(
        ". {\n view\n}\na {\n view v w\n}\nb {\n view v {\n xpr do()\n }\n view w\n}",
        &[
            (2, 2, "Wrong argument count or unexpected line ending after 'view'"),
            (5, 9, "Wrong argument count or unexpected line ending after 'w'"),
            (9, 2, "unknown property 'xpr'"),
            (11, 2, "this plugin can only be used once per Server Block"),
        ],
    );
    check_mistakes(
        "a {\n bind 127.0.0.1\n}\na {\n view v\n}",
        &[(
            4,
            1,
            "cannot serve dns://a.:53 - zone overlap listener capacity with dns://a.:53 on \
             127.0.0.1",
        )],
    );
    check_mistakes(
        "a {\n view v\n}\na {\n}\na {\n}",
        &[(6, 1, "cannot serve dns://a.:53 - it is already defined")],
    );
}

#[test]
fn metadata() {
    let config = check_warnings("a b {\n metadata\n}\nc {\n metadata x 10.0.0.0/8\n}", &[]);
    let zones = |index: usize| {
        config.blocks[index].line::<QueryMetadata>().map(|metadata| texts(&metadata.zones))
    };
    assert_eq!(zones(0).as_deref(), Some("a.,b."));
    assert_eq!(zones(1).as_deref(), Some("x.,10.in-addr.arpa."));
    check_mistakes(
        "a {\n metadata {\n x\n }\n metadata\n}",
        &[
            (2, 11, "'metadata' takes no block"),
            (5, 2, "this plugin can only be used once per Server Block"),
        ],
    );
}

proptest! {
    /// Words of expressions in any order: the reader ends.
    #[test]
    fn any_expression_is_read_or_refused(
        words in proptest::collection::vec(
            proptest::sample::select(vec![
                "name()", "type()", "size()", "do()", "(", ")", "[", "]", ",", "and", "or", "not",
                "in", "==", "<", "+", "-", "..", "?", ":", "|", "matches", "'a'", "1", "true",
                "len(", "incidr(", "'10.0.0.0/8'", "#", "nil", "let", "ä",
            ]),
            0..12,
        ),
    ) {
        let _ = parse(&format!(". {{\n view v {{\n  expr {}\n }}\n}}", words.join(" ")));
    }
}
