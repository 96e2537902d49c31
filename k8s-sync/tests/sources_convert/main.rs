//! Converts Kubernetes objects, given as JSON, to the objects that answers are made from.

mod slices;

use k8s_sync::convert;
use k8s_sync::fault::{Fault, Faults};
use k8s_sync::raw::{RawNamespace, RawService};
use serde::de::DeserializeOwned;

/// `json` is an object without its outer braces. `expected` is the result in short form, followed
/// by the faults, separated by bars.
#[track_caller]
fn check<T: DeserializeOwned, R>(
    convert: impl Fn(T, &mut Faults) -> Result<R, Fault>,
    show: impl Fn(R) -> String,
    json: &str,
    expected: &str,
) {
    let raw: T = serde_json::from_str(&format!("{{{json}}}")).expect("a test's JSON");
    let mut faults = Faults::default();
    let mut got = match convert(raw, &mut faults) {
        Ok(object) => show(object),
        Err(refusal) => format!("refused: {refusal}"),
    };
    for fault in &faults.first {
        got += &format!(" | {fault}");
    }
    assert_eq!(got, expected, "{json}");
}

#[track_caller]
fn service(spec: &str, expected: &str) {
    let show = |service: k8s_sync::object::Service| {
        let ports = service.ports.iter();
        let ports = ports.map(|port| {
            let number = port.number.map_or_else(|| "-".to_owned(), |number| number.to_string());
            format!(" {}/{:?}/{number}", port.name, port.protocol)
        });
        format!("{:?}{}", service.kind, ports.collect::<String>())
    };
    let json = format!(r#""metadata":{{"namespace":"a","name":"web"}},"spec":{{{spec}}}"#);
    check(convert::service, show, &json, expected);
}

#[test]
fn services() {
    let many = r#""clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1","fd00::1"]"#;
    service(many, "ClusterIp([10.96.0.1, fd00::1])");
    // The same address, spelled differently.
    service(r#""clusterIP":"10.96.0.1","clusterIPs":["10.096.0.1"]"#, "ClusterIp([10.96.0.1])");
    service(r#""clusterIP":"10.96.0.1""#, "ClusterIp([10.96.0.1])");
    service(r#""clusterIP":"10.96.0.1","clusterIPs":[]"#, "ClusterIp([10.96.0.1])");
    service(r#""type":"LoadBalancer","clusterIP":"10.96.0.1""#, "ClusterIp([10.96.0.1])");
    service(r#""clusterIP":"None","clusterIPs":["None"]"#, "Headless");
    service(r#""clusterIP":"None""#, "Headless");
    let external =
        r#""type":"ExternalName","externalName":"Www.Example.org.","clusterIP":"10.96.0.1""#;
    service(external, r#"ExternalName("Www.Example.org.")"#);
    // The type decides, not the field.
    service(r#""externalName":"example.org","clusterIP":"10.96.0.1""#, "ClusterIp([10.96.0.1])");
}

#[test]
fn service_ports() {
    let ports = |ports: &str, expected: &str| {
        let spec = format!(r#""clusterIP":"None","ports":{ports}"#);
        service(&spec, expected);
    };
    ports("null", "Headless");
    ports("[]", "Headless");
    ports(r#"[{"port":53,"targetPort":"dns"}]"#, "Headless /Tcp/53");
    ports(
        r#"[{"name":"dns","port":53,"protocol":"UDP"},{"name":"s","port":65535,
            "protocol":"SCTP"}]"#,
        "Headless dns/Udp/53 s/Sctp/65535",
    );
    ports(r#"[{"port":80,"protocol":"tcp"}]"#, "Headless /Tcp/80");
}

#[test]
fn a_bad_port_of_a_service_costs_itself() {
    let ports = |ports: &str, expected: &str| {
        let spec = format!(r#""clusterIP":"None","ports":{ports}"#);
        service(&spec, expected);
    };
    let no_srv = "which is not in 1 to 65535: the port gets no SRV record";
    for number in ["0", "-1", "65536", "4294967376"] {
        ports(
            &format!(r#"[{{"name":"a","port":{number}}},{{"port":80}}]"#),
            &format!("Headless a/Tcp/- /Tcp/80 | spec.ports[0].port is {number}, {no_srv}"),
        );
    }
    ports(
        r#"[{"name":"x"}]"#,
        "Headless x/Tcp/- | spec.ports[0].port is missing: the port gets no SRV record",
    );
    ports(
        r#"[{"port":"80"},{"port":81}]"#,
        r#"Headless /Tcp/- /Tcp/81 | spec.ports[0].port is "80", not a whole number"#,
    );
    ports(
        r#"[{"port":1,"protocol":"QUIC"},{"port":2}]"#,
        r#"Headless /Tcp/2 | spec.ports[0].protocol is "QUIC", which is not TCP, UDP or SCTP"#,
    );
    ports(
        r#"[{"port":1,"name":"a_b"}]"#,
        "Headless /Tcp/1 | spec.ports[0].name is \"a_b\", which is not a lower-case DNS label (1 \
         to 63 bytes)",
    );
    ports(r#"[7,{"port":2}]"#, "Headless /Tcp/2 | spec.ports[0] is 7, not a map");
    ports(r#"{"port":2}"#, "Headless | spec.ports is a map, not a list");
}

#[test]
fn refused_services() {
    let none = "refused: spec.clusterIP is missing: the API server assigns one to every Service; \
                write `clusterIP: None` for a headless one";
    service("", none);
    service(r#""clusterIP":"""#, none);
    service(r#""clusterIPs":[""]"#, none);
    service(r#""clusterIP":[7]"#, &format!("{none} | spec.clusterIP is a list, not a string"));
    for text in ["10.96.0.256", "10.96.0.1 ", "fe80::1%eth0", "none"] {
        let expected = format!("refused: spec.clusterIP is {text:?}, which is not an IP address");
        service(&format!(r#""clusterIP":"{text}""#), &expected);
    }
    let external = |name: &str| {
        let spec = format!(r#""type":"ExternalName","externalName":"{name}""#);
        service(
            &spec,
            &format!("refused: spec.externalName is {name:?}, which is not a host name"),
        );
    };
    let long_label = format!("{}.org", "a".repeat(64));
    for name in ["", ".", "a..b", ".a", "a b", "é.org", &long_label] {
        external(name);
    }
    service(
        r#""type":"ExternalName","externalName":["a.org"]"#,
        "refused: spec.externalName is a list, not a string",
    );
}

#[test]
fn a_bad_cluster_ip_costs_itself() {
    service(r#""clusterIP":"10.96.011.012""#, "ClusterIp([10.96.11.12])");
    service(r#""clusterIP":"::ffff:10.96.0.1""#, "ClusterIp([10.96.0.1])");
    service(
        r#""clusterIPs":["10.96.0.1","x"]"#,
        r#"ClusterIp([10.96.0.1]) | spec.clusterIPs[1] is "x", which is not an IP address"#,
    );
    service(
        r#""clusterIPs":["x"],"clusterIP":"10.96.0.1""#,
        "ClusterIp([10.96.0.1]) | spec.clusterIP is \"10.96.0.1\", but spec.clusterIPs begins \
         with \"x\": clusterIPs takes precedence, as in CoreDNS | spec.clusterIPs[0] is \"x\", \
         which is not an IP address",
    );
    service(
        r#""clusterIPs":[true,null],"clusterIP":"10.96.0.1""#,
        "ClusterIp([10.96.0.1]) | spec.clusterIPs[0] is true, not a string: put it in quotes",
    );
    service(
        r#""clusterIPs":"10.96.0.1","clusterIP":"10.96.0.1""#,
        r#"ClusterIp([10.96.0.1]) | spec.clusterIPs is "10.96.0.1", not a list"#,
    );
    service(
        r#""clusterIPs":["fd00::1","fd00:0::1"]"#,
        "ClusterIp([fd00::1]) | spec.clusterIPs[1] is fd00::1, a duplicate",
    );
    service(
        r#""clusterIPs":["10.96.0.1","None"]"#,
        r#"ClusterIp([10.96.0.1]) | spec.clusterIPs[1] is "None", which is not an IP address"#,
    );
    for (one, first, kind) in [
        ("10.96.0.9", "10.96.0.1", "ClusterIp([10.96.0.1])"),
        ("None", "10.96.0.1", "ClusterIp([10.96.0.1])"),
        ("10.96.0.9", "None", "Headless"),
    ] {
        service(
            &format!(r#""clusterIP":"{one}","clusterIPs":["{first}"]"#),
            &format!(
                "{kind} | spec.clusterIP is {one:?}, but spec.clusterIPs begins with {first:?}: \
                 clusterIPs takes precedence, as in CoreDNS"
            ),
        );
    }
    service(r#""clusterIP":"None","type":{}"#, "Headless | spec.type is a map, not a string");
}

#[test]
fn names() {
    let check = |namespace: &str, name: &str, is_good: bool| {
        let json = format!(
            r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}"}},
                "spec":{{"clusterIP":"None"}}}}"#
        );
        let raw: RawService = serde_json::from_str(&json).expect("a test's JSON");
        assert_eq!(
            convert::service(raw, &mut Faults::default()).is_ok(),
            is_good,
            "{namespace} {name}"
        );
    };
    let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
    check("default", "kubernetes", true);
    check("0", "9-a", true);
    check(&longest, &longest, true);
    check(&too_long, "a", false);
    for name in [&too_long, "", "a.b", "A", "a_b", "-a", "a-", "ä", " ", "*", "\\u0000"] {
        check("a", name, false);
    }
    check("", "a", false);
}

#[test]
fn invalid_names_and_labels() {
    let namespace = |metadata: &str, expected: &str| {
        check(
            convert::namespace,
            |namespace: k8s_sync::object::Namespace| namespace.name.into(),
            metadata,
            expected,
        );
    };
    namespace("", "refused: metadata.name is missing: every object needs a name");
    namespace(r#""metadata":{"name":"a"}"#, "a");
    namespace(r#""metadata":{"name":7}"#, "7");
    namespace(
        r#""metadata":{"name":7.5}"#,
        "refused: metadata.name is 7.5, not a string: put it in quotes",
    );
    namespace(r#""metadata":7"#, "refused: metadata.name is missing: every object needs a name");
    namespace(
        r#""metadata":{"name":"a","labels":{"x":true,"y":"z","n":null}}"#,
        r#"a | metadata.labels["x"] is true, not a string: put it in quotes"#,
    );
    namespace(r#""metadata":{"name":"a","labels":[]}"#, "a | metadata.labels is a list, not a map");
    check(
        convert::service,
        |_| String::new(),
        r#""metadata":{"name":"a"}"#,
        "refused: metadata.namespace is missing, as in the output of helm and kustomize: add it, \
         or export the objects from the cluster (kubectl get -A -o yaml)",
    );
}

#[track_caller]
fn pod(json: &str, expected: &str) {
    let show = |pod: Option<k8s_sync::object::Pod>| {
        pod.map_or_else(
            || "nothing".to_owned(),
            |pod| format!("{}/{} {:?}", pod.key.namespace, pod.key.name, pod.ips),
        )
    };
    check(convert::pod, show, json, expected);
}

#[test]
fn pods() {
    let running = |metadata: &str, status: &str, expected: &str| {
        let json = format!(
            r#""metadata":{{"namespace":"a","name":"p.0"{metadata}}},
                "status":{{"phase":"Running"{status}}}"#
        );
        pod(&json, expected);
    };
    let both = r#","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]"#;
    running("", both, "a/p.0 [10.0.0.1, fd00::1]");
    running("", r#","podIP":"10.0.0.1""#, "a/p.0 [10.0.0.1]");
    running("", "", "nothing");
    running("", r#","podIP":"","podIPs":null"#, "nothing");
    running(r#","deletionTimestamp":"2026-11-21T09:26:07Z""#, both, "nothing");
    running("", r#","podIP":"x""#, r#"nothing | status.podIP is "x", which is not an IP address"#);
    running(
        "",
        r#","podIP":"10.0.0.1","podIPs":[{"ip":"x"},7,{"ip":"fd00::1"}]"#,
        "a/p.0 [fd00::1] | status.podIPs[1] is 7, not a map | status.podIPs[0].ip is \"x\", which \
         is not an IP address",
    );
    for phase in ["Succeeded", "Failed", "Unknown"] {
        pod(
            &format!(
                r#""metadata":{{"namespace":"a","name":"p"}},"status":{{"phase":"{phase}"{both}}}"#
            ),
            "nothing",
        );
    }
    pod(
        &format!(
            r#""metadata":{{"namespace":"a","name":"p"}},"status":{{"phase":"Pending"{both}}}"#
        ),
        "a/p [10.0.0.1, fd00::1]",
    );
}

#[test]
fn a_terminating_namespace_exists() {
    let json = r#"{"metadata":{"name":"going","deletionTimestamp":"2026-11-21T09:26:07Z"},
        "status":{"phase":"Terminating"}}"#;
    let raw: RawNamespace = serde_json::from_str(json).expect("a test's JSON");
    assert_eq!(&*convert::namespace(raw, &mut Faults::default()).expect("valid").name, "going");
}

#[test]
fn fields_that_are_not_read_may_hold_anything() {
    let json = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"a","name":"b",
        "managedFields":[{"fieldsV1":{"f:x":{}}}],"annotations":{"a":"b"},
        "creationTimestamp":null},
        "spec":{"clusterIP":"None","selector":{"a":"b"},
        "sessionAffinity":7},"status":{"loadBalancer":{}}}"#;
    let raw: RawService = serde_json::from_str(json).expect("a test's JSON");
    assert!(convert::service(raw, &mut Faults::default()).is_ok());
}
