//! Templates beside what Go's text/template writes for them.

use wire::header::RD;
use wire::query::Query;

use super::*;
use crate::limits::TEMPLATE_NESTING_MAX;

/// Templates, and what Go writes for them.
const WRITTEN: &[(&str, &str)] = &[
    ("{{ .Name }} 60 IN A 192.0.2.1", "web-7.example. 60 IN A 192.0.2.1"),
    (
        "{{ .Zone }}|{{ .Class }}|{{ .Type }}|{{ .Remote }}|{{ .Regex }}",
        "example.|IN|A|192.0.2.9|^(web)-(?P<n>\\d+)(x)?\\.",
    ),
    ("{{ index .Match 1 }}-{{ index .Match 2 }}{{ index .Match 3 }}", "web-7"),
    ("{{ .Match }} {{ .Group }}", "[web-7. web 7 ] map[0:web-7. 1:web 2:7 3: n:7]"),
    (
        "{{ .Group.n }} {{ .Group.none }} {{ index .Group \"none\" }} {{ index .Group \"n\" }}",
        "7 <no value>  7",
    ),
    ("{{ range .Match }}<{{ . }}>{{ end }}", "<web-7.><web><7><>"),
    (
        "{{ range $i, $m := .Match }}{{ if $i }}, {{ end }}{{ $i }}={{ $m }}{{ end }}",
        "0=web-7., 1=web, 2=7, 3=",
    ),
    ("{{ range $k, $v := .Group }}{{ $k }}:{{ $v }};{{ end }}", "0:web-7.;1:web;2:7;3:;n:7;"),
    ("{{ range $v := .Match }}{{ $v }}{{ else }}none{{ end }}", "web-7.web7"),
    ("{{ range .Group.none }}x{{ else }}none{{ end }}", "none"),
    ("{{ range 3 }}{{ . }}{{ end }}", "012"),
    (
        "{{ range .Match }}{{ if eq . \"web\" }}{{ continue }}{{ end }}{{ if eq . \"7\" }}{{ break \
         }}{{ end }}{{ . }}{{ end }}",
        "web-7.",
    ),
    ("{{ if eq .Type \"A\" }}a{{ else if eq .Type \"AAAA\" }}b{{ else }}c{{ end }}", "a"),
    ("{{ if and (eq .Class \"IN\") (ne .Type \"MX\") }}yes{{ else }}no{{ end }}", "yes"),
    (
        "{{ if or .Group.none .Group.n }}yes{{ end }}{{ or .Group.none \"d\" }}{{ and .Group.n \
         \"e\" }}",
        "yesde",
    ),
    ("{{ if not .Group.none }}yes{{ end }}", "yes"),
    ("{{ with .Group.n }}{{ . }}{{ $.Name }}{{ else }}none{{ end }}", "7web-7.example."),
    ("{{ with $x := .Group.n }}{{ $x }}{{ . }}{{ end }}", "77"),
    ("{{ with .Group.none }}a{{ else with .Type }}{{ . }}{{ else }}c{{ end }}", "A"),
    ("{{ $x := index .Match 2 }}{{ $x }}{{ $x = \"8\" }}{{ $x }}", "78"),
    (
        "{{ $x := 1 }}{{ if true }}{{ $x := 2 }}{{ $x }}{{ end }}{{ $x }}{{ if true }}{{ $x = 3 \
         }}{{ end }}{{ $x }}",
        "213",
    ),
    (
        "{{ printf \"%s-%s %d %v %q %x %X %05d %-5d| %5s|%-5s|%.2s %t %% %c %b %o %#x %+d\" .Name \
         .Zone 5 .Match .Type \"hi\" 255 42 42 \"ab\" \"ab\" \"abcd\" true 65 5 8 255 7 }}",
        "web-7.example.-example. 5 [web-7. web 7 ] \"A\" 6869 FF 00042 42   |    ab|ab   |ab true \
         % A 101 10 0xff +7",
    ),
    (
        "{{ printf \"%d %s\" \"a\" 1 }} {{ printf \"%d\" }} {{ printf \"x\" 1 \"a\" }} {{ printf \
         \"%s\" .Group.none }} {{ printf \"%v\" .Group.none }}",
        "%!d(string=a) %!s(int=1) %!d(MISSING) x%!(EXTRA int=1, string=a) %!s(<nil>) <nil>",
    ),
    ("{{ print 1 2 \"a\" 3 4 }} {{ print \"a\" \"b\" }} {{ println \"a\" 1 }}", "1 2a3 4 ab a 1\n"),
    ("{{ len .Match }} {{ len .Name }} {{ len .Group }}", "4 14 5"),
    (
        "{{ slice .Name 0 3 }} {{ slice .Name 4 }} {{ slice .Match 1 3 }} {{ slice .Name }}",
        "web 7.example. [web 7] web-7.example.",
    ),
    ("{{ index .Name 0 }} {{ index \"abc\" 1 }}", "119 98"),
    (
        "{{ parseInt \"ff\" 16 8 }} {{ parseInt .Group.n 10 8 }} {{ parseInt \"0x1f\" 0 64 }}",
        "255 7 31",
    ),
    ("{{ .Name | printf \"%s.%s\" .Zone }}", "example..web-7.example."),
    ("{{ \"7b\" | printf \"0x%s\" | len }}", "4"),
    (
        "{{ eq 1 1 }} {{ eq 1 2 3 1 }} {{ ne \"a\" \"b\" }} {{ lt 1 2 }} {{ le 2 2 }} {{ gt \"b\" \
         \"a\" }} {{ ge 1 2 }}",
        "true true true true true true false",
    ),
    ("{{ eq .Group.none \"\" }} {{ eq .Group.none nil }}", "false true"),
    ("{{ eq (index .Match 1) \"web\" }} {{ eq (len .Match) 4 }}", "true true"),
    (
        "{{ .Question.Name }} {{ .Question.Qtype }} {{ .Question.Qclass }} {{ .Message.Id }} {{ \
         .Message.RecursionDesired }} {{ .Message.Opcode }} {{ .Message.Rcode }}",
        "Web-7.Example. 1 1 4660 true 0 0",
    ),
    (
        "{{ (index .Message.Question 0).Name }} {{ range .Message.Question }}{{ .Qtype }}{{ end }} \
         {{ len .Message.Question }}",
        "Web-7.Example. 1 1",
    ),
    (
        "{{ .Meta \"a/b\" }}|{{ if .Meta \"a/b\" }}x{{ end }}|{{ printf \"%s\" (.Meta \"a/b\") }}",
        "||",
    ),
    ("  {{- \" a \" -}}  b {{- /* c */ -}} d", " a bd"),
    (
        "{{ `raw \"x\"` }} {{ \"q\\\"\\t\\\\ \\x41\" }} {{ 'a' }} {{ 0x10 }} {{ -3 }} {{ 010 }} {{ \
         0b11 }} {{ 1_000 }}",
        "raw \"x\" q\"\t\\ A 97 16 -3 8 3 1000",
    ),
    ("{{ true }} {{ false }}", "true false"),
    ("{{ $.Group.n }} {{ $.Question.Name }}", "7 Web-7.Example."),
    (
        "{{ range $i, $m := .Match }}{{ if eq $i 1 }}{{ $m }}{{ $.Zone }}{{ end }}{{ end }}",
        "webexample.",
    ),
    ("{{ if eq .Question.Qtype 1 }}one{{ end }}", "one"),
    ("{{ printf \"%03d.%s\" (parseInt .Group.n 10 8) .Zone }}", "007.example."),
    ("{{ and 1 0 2 }} {{ or 0 \"\" \"x\" }} {{ not 0 }} {{ and true }}", "0 x true true"),
    ("{{ if eq .Group.n \"7\" \"8\" }}m{{ end }}", "m"),
    ("{{ printf \"%v %v\" true 3 }} {{ print true false }} {{ print }}", "true 3 true false "),
    ("{{ printf \"%6.2s|%x|%q|%U\" \"abc\" \"hi\" 65 65 }}", "    ab|6869|'A'|U+0041"),
    ("{{ if true }}a{{ else if false }}b{{ end }}", "a"),
    ("{{ print (.Meta \"x\") }}", ""),
    ("{{ range $x := 2 }}{{ $x }}{{ end }}", "01"),
    ("{{ (.Group).n }} {{ (index .Match 1) }}", "7 web"),
];

/// Templates that are refused, with the place and the reason.
const REFUSED: &[(&str, &str)] = &[
    ("{{ nil }}", "3: nil is not a command"),
    ("{{ .Nope }}", "3: there is no field .Nope here; did you mean .Zone?"),
    ("{{ .Name.Foo }}", "8: there is no field .Foo here"),
    ("{{ .Match.Foo }}", "9: there is no field .Foo here"),
    ("{{ nope 1 }}", "3: function \"nope\" not defined"),
    ("{{ html .Name }}", "3: html is not built"),
    ("{{ if }}x{{ end }}", "3: missing value for command"),
    ("{{ if true }}", "13: missing {{end}}"),
    ("{{ end }}", "3: unexpected {{end}}"),
    ("{{ else }}", "3: unexpected {{else}}"),
    ("{{ range .Match }}{{ else }}{{ else }}{{ end }}", "31: unexpected {{else}}"),
    ("{{ break }}", "3: {{break}} outside {{range}}"),
    ("{{ $y }}", "3: undefined variable \"$y\""),
    ("{{ $y = 1 }}", "3: undefined variable \"$y\""),
    ("{{ eq 1 }}", "3: wrong number of args for eq: want 2 got 1"),
    ("{{ not 1 2 }}", "3: wrong number of args for not: want 1 got 2"),
    ("{{ .Name 1 }}", "3: only a function takes arguments"),
    ("{{ \"a\" | .Name }}", "9: only a function can follow `|`"),
    ("{{ (1 }}", "3: unclosed left paren"),
    ("{{ 1) }}", "4: unexpected word after the action"),
    ("{{}}", "0: missing value for command"),
    ("{{ 1 | }}", "5: missing value for command"),
    ("{{ \"a\"\"b\" }}", "6: a space is missing before this argument"),
    ("{{ with $x, $y := .Match }}{{ end }}", "12: too many declarations"),
    ("{{ define \"a\" }}{{ end }}", "3: define is not built"),
    ("{{ template \"a\" }}", "3: template is not built"),
    ("{{ printf \"%s\" \"a\"", "3: unclosed action"),
    ("{{ .Group.n.x }}", "11: there is no field .x here"),
    ("{{ else if true }}", "3: unexpected {{else}}"),
    (
        "{{ printf \"%d%%\" 5 }} {{ printf \"%\" }} {{ printf \"%!\" }}",
        "42: the verb %! of printf is not built",
    ),
    ("{{ printf \"%z\" 5 }}", "3: the verb %z of printf is not built"),
    (
        "{{ print .Question.Nope }}",
        "18: there is no field .Nope here; the fields are .Name, .Qtype, .Qclass",
    ),
    ("{{ .Group.1 }}", "9: numbers with a fraction are not built"),
];

/// Templates that fail at a query.
const FAILING: &[(&str, &str)] = &[
    ("{{ parseInt \"fff\" 16 8 }}", "parseInt: value out of range"),
    ("{{ parseInt \"g\" 16 8 }}", "parseInt: invalid syntax"),
    ("{{ parseInt .Group.none 16 8 }}", "parseInt takes a text, a base and a number of bits"),
    ("{{ eq \"1\" 1 }}", "incompatible types for comparison"),
    ("{{ lt \"a\" 1 }}", "incompatible types for comparison"),
    ("{{ index .Match 9 }}", "index out of range"),
    ("{{ index .Match -1 }}", "index out of range"),
    ("{{ slice .Name 5 2 }}", "index out of range"),
    ("{{ len 3 }}", "len of something without a length"),
    ("{{ index .Match \"a\" }}", "index of another type than it has"),
    ("{{ range .Name }}x{{ end }}", "range cannot go through this"),
    ("{{ . | len }}", "len of something without a length"),
    ("{{ $ }}", "only the fields of a struct can be written"),
    ("{{ index .Group 1 }}", "index of another type than it has"),
];

const QUERY: Query = Query { kept_flags: RD, qtype: 1, qclass: 1, name_len: 15, edns: None };

fn facts() -> TemplateFacts<'static> {
    TemplateFacts {
        zone: "example.",
        name: "web-7.example.",
        class: "IN",
        rtype: "A",
        regex: r"^(web)-(?P<n>\d+)(x)?\.",
        groups: &[(None, "web-7."), (None, "web"), (Some("n"), "7"), (None, "")],
        peer: Some(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 9))),
        query: Some(&QUERY),
        asked_name: "Web-7.Example.",
        id: 4660,
        labels: None,
    }
}

fn run(text: &str) -> Result<String, String> {
    let program =
        Program::parse(text).map_err(|error| format!("{}: {}", error.at, error.message))?;
    program.run(&facts()).map_err(|error| error.0.to_owned())
}

#[test]
fn templates_write_what_go_writes() {
    for (text, expected) in WRITTEN {
        assert_eq!(run(text).as_deref(), Ok(*expected), "{text}");
    }
}

#[test]
fn mistakes_are_found_before_any_query() {
    for (text, expected) in REFUSED {
        assert_eq!(run(text), Err((*expected).to_owned()), "{text}");
        assert!(Program::parse(text).is_err(), "{text}");
    }
}

#[test]
fn some_templates_fail() {
    for (text, expected) in FAILING {
        assert_eq!(run(text), Err((*expected).to_owned()), "{text}");
        assert!(Program::parse(text).is_ok(), "{text}");
    }
}

/// A text that names no field is the same for every query, so none may be missed.
#[test]
fn fields_are_noted_wherever_they_are_named() {
    for (text, expected) in [
        ("192.0.2.1", &[][..]),
        ("{{ printf \"%s\" \"a\" }}", &[]),
        ("{{ .Zone }}{{ $.Class }}", &["Zone", "Class"]),
        ("{{ if .Meta \"a/b\" }}x{{ end }}", &["Meta"]),
        ("{{ with .Zone }}{{ $.Meta \"a/b\" }}{{ end }}", &["Zone", "Meta"]),
        // Values that are known at the query only.
        ("{{ $x := 1 }}{{ $x = . }}{{ $x.Remote }}", &["Remote"]),
        ("{{ with or . 1 }}{{ .Question.Name }}{{ end }}", &["Question", "Name"]),
        ("{{ (and 1 .).Message.Id }}", &["Message"]),
    ] {
        assert_eq!(Program::parse(text).unwrap().fields, expected, "{text}");
    }
}

#[test]
fn a_run_ends() {
    let nested =
        |count: usize| format!("{}1{}", "{{ if true }}".repeat(count), "{{ end }}".repeat(count));
    assert!(run(&nested(TEMPLATE_NESTING_MAX)).is_ok());
    assert!(run(&nested(TEMPLATE_NESTING_MAX + 1)).is_err());
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(run(&deep).is_err());
    for (text, expected) in [
        ("{{ range 1000000000000 }}{{ end }}", "the template runs too long"),
        ("{{ range 100000 }}abc{{ end }}", "the text is too long"),
        ("{{ printf \"%1000000d\" 1 }}", "the text is too long"),
        ("{{ printf \"%99999999999999999999d\" 1 }}", "the text is too long"),
        (
            "{{ $x := \"ab\" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}",
            "the text is too long",
        ),
    ] {
        assert_eq!(run(text), Err(expected.to_owned()), "{text}");
    }
}
