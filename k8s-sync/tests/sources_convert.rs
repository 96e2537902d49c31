//! Kubernetes objects, as JSON, to the objects that answers are made of.

use k8s_sync::convert::{self, Refusal};
use k8s_sync::raw;
use serde::de::DeserializeOwned;

/// `json`: an object without its outer braces. The result in short, as `Debug` would say it at length.
#[track_caller]
fn check<T: DeserializeOwned, R>(
    convert: impl Fn(T) -> R,
    show: impl Fn(R) -> String,
    json: &str,
    expected: &str,
) {
    let raw: T = serde_json::from_str(&format!("{{{json}}}")).expect("a test's JSON");
    assert_eq!(show(convert(raw)), expected, "{json}");
}

#[track_caller]
fn service(spec: &str, expected: &str) {
    let show = |result: Result<k8s_sync::object::Service, Refusal>| match result {
        Ok(service) => {
            let ports = service.ports.iter();
            let ports =
                ports.map(|port| format!(" {}/{:?}/{}", port.name, port.protocol, port.port));
            format!("{:?}{}", service.kind, ports.collect::<String>())
        }
        Err(refusal) => format!("refused: {refusal}"),
    };
    let json = format!(r#""metadata":{{"namespace":"a","name":"web"}},"spec":{{{spec}}}"#);
    check(convert::service, show, &json, expected);
}

#[test]
fn services() {
    let many = r#""clusterIP":"10.96.0.9","clusterIPs":["10.96.0.1","fd00::1"]"#;
    service(many, "ClusterIp([10.96.0.1, fd00::1])");
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
        r#"[{"name":"dns","port":53,"protocol":"UDP"},{"name":"s","port":65535,"protocol":"SCTP"}]"#,
        "Headless dns/Udp/53 s/Sctp/65535",
    );
    ports(r#"[{"port":0}]"#, "refused: port 0 is not within 1 to 65535");
    ports(r#"[{"port":65536}]"#, "refused: port 65536 is not within 1 to 65535");
    ports(r#"[{"name":"x"}]"#, "refused: a port has no number");
    ports(
        r#"[{"port":1,"protocol":"QUIC"}]"#,
        r#"refused: protocol "QUIC" is none of TCP, UDP, SCTP"#,
    );
    ports(
        r#"[{"port":1,"name":"a_b"}]"#,
        r#"refused: ports[].name is "a_b", which is not a lower-case DNS label (1 to 63 bytes)"#,
    );
}

#[test]
fn refused_services() {
    let none = "refused: it has no clusterIP: the API server gives one to each Service; write clusterIP: None if it is headless";
    service("", none);
    service(r#""clusterIP":"""#, none);
    service(r#""clusterIPs":[""]"#, none);
    let address = |text: &str| {
        let spec = format!(r#""clusterIP":"{text}""#);
        let expected =
            format!("refused: spec.clusterIPs holds {text:?}, which is not an IP address");
        service(&spec, &expected);
    };
    for text in
        ["10.96.0.256", "010.96.0.1", "10.96.0.1 ", "::ffff:10.96.0.1", "fe80::1%eth0", "none"]
    {
        address(text);
    }
    let twice = r#""clusterIPs":["fd00::1","fd00:0::1"]"#;
    service(twice, "refused: spec.clusterIPs holds fd00::1 twice");
    let external = |name: &str| {
        let spec = format!(r#""type":"ExternalName","externalName":"{name}""#);
        service(
            &spec,
            &format!("refused: spec.externalName is {name:?}, which is not a host name"),
        );
    };
    let long_label = format!("{}.org", "a".repeat(64));
    let long_name = format!("{}org", "abc.".repeat(63));
    for name in ["", ".", "a..b", ".a", "a b", "é.org", &long_label, &long_name] {
        external(name);
    }
}

#[test]
fn names() {
    let check = |namespace: &str, name: &str, is_good: bool| {
        let json = format!(
            r#"{{"metadata":{{"namespace":"{namespace}","name":"{name}"}},"spec":{{"clusterIP":"None"}}}}"#
        );
        let raw: raw::Service = serde_json::from_str(&json).expect("a test's JSON");
        assert_eq!(convert::service(raw).is_ok(), is_good, "{namespace} {name}");
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
    let nothing: raw::Namespace = serde_json::from_str("{}").expect("empty");
    assert!(matches!(convert::namespace(nothing), Err(Refusal::Label { .. })));
}

#[track_caller]
fn slice(json: &str, expected: &str) {
    let show = |result: Result<Option<k8s_sync::object::EndpointSlice>, Refusal>| match result {
        Ok(Some(slice)) => {
            let endpoints = slice.endpoints.iter().map(|endpoint| {
                let name = endpoint.hostname.as_deref().unwrap_or("-");
                let pod = endpoint.pod_name.as_deref().unwrap_or("-");
                format!("{:?} {name} {pod}; ", endpoint.addresses)
            });
            let ports = slice.ports.iter();
            let ports =
                ports.map(|port| format!("{}/{:?}/{:?}; ", port.name, port.protocol, port.port));
            format!(
                "{}: {}{}",
                slice.service,
                endpoints.collect::<String>(),
                ports.collect::<String>()
            )
        }
        Ok(None) => "nothing".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    };
    let metadata = r#""metadata":{"namespace":"a","name":"web.x","labels":{"kubernetes.io/service-name":"web"}}"#;
    let json =
        if json.contains("metadata") { json.to_owned() } else { format!("{metadata},{json}") };
    check(convert::endpoint_slice, show, &json, expected);
}

#[test]
fn slices() {
    let v4 = |endpoints: &str, expected: &str| {
        let json = format!(r#""addressType":"IPv4","endpoints":[{endpoints}],"ports":null"#);
        slice(&json, expected);
    };
    v4("", "web: ");
    v4(r#"{"addresses":["10.0.0.1"]}"#, "web: [10.0.0.1] - -; ");
    v4(r#"{"addresses":["10.0.0.1"],"conditions":{}}"#, "web: [10.0.0.1] - -; ");
    v4(r#"{"addresses":["10.0.0.1"],"conditions":{"ready":true}}"#, "web: [10.0.0.1] - -; ");
    v4(
        r#"{"addresses":["10.0.0.1"],"conditions":{"ready":null,"terminating":true}}"#,
        "web: [10.0.0.1] - -; ",
    );
    v4(r#"{"addresses":["10.0.0.1"],"conditions":{"ready":false,"serving":true}}"#, "web: ");
    v4(r#"{"addresses":["10.0.0.1","10.0.0.2","10.0.0.1"]}"#, "web: [10.0.0.1, 10.0.0.2] - -; ");
    v4(r#"{"addresses":[]},{"addresses":null},{}"#, "web: ");
    v4(r#"{"addresses":["10.0.0.1"],"hostname":"web-0"}"#, "web: [10.0.0.1] web-0 -; ");
    v4(r#"{"addresses":["10.0.0.1"],"hostname":""}"#, "web: [10.0.0.1] - -; ");
    let pod = r#"{"addresses":["10.0.0.1"],"targetRef":{"kind":"Pod","name":"web-7f"}}"#;
    v4(pod, "web: [10.0.0.1] - web-7f; ");
    v4(&pod.replace("web-7f", "web.7f"), "web: [10.0.0.1] - -; ");
    v4(&pod.replace("web-7f", &"w".repeat(64)), "web: [10.0.0.1] - -; ");
    slice(
        r#""addressType":"IPv6","endpoints":[{"addresses":["fd00::1"]}]"#,
        "web: [fd00::1] - -; ",
    );
    slice(
        r#""addressType":"IPv4","endpoints":null,"ports":[{"name":"http","port":80},{"name":"","protocol":"UDP","port":null}]"#,
        "web: http/Tcp/Some(80); /Udp/None; ",
    );
}

#[test]
fn slices_without_a_part_in_answers() {
    slice(r#""addressType":"FQDN","endpoints":[{"addresses":["a.org"]}]"#, "nothing");
    slice(r#""addressType":"IPv4","metadata":{"namespace":"a","name":"x"}"#, "nothing");
    let multicluster = r#""addressType":"IPv4","metadata":{"namespace":"a","name":"x","labels":{"multicluster.kubernetes.io/service-name":"web"}}"#;
    slice(multicluster, "nothing");
}

#[test]
fn refused_slices() {
    slice(r#""addressType":"IPX""#, r#"refused: addressType "IPX" is none of IPv4, IPv6, FQDN"#);
    slice(r#""endpoints":[]"#, r#"refused: addressType "" is none of IPv4, IPv6, FQDN"#);
    let endpoint = |family: &str, endpoint: &str, expected: &str| {
        let json = format!(r#""addressType":"{family}","endpoints":[{endpoint}]"#);
        slice(&json, &format!("refused: {expected}"));
    };
    let v4 = r#"{"addresses":["10.0.0.1"]}"#;
    endpoint("IPv6", v4, "addressType is IPv6, but an endpoint has 10.0.0.1");
    endpoint(
        "IPv4",
        &v4.replace("10.0.0.1", "fd00::1"),
        "addressType is IPv4, but an endpoint has fd00::1",
    );
    let bad = r#"endpoints[].addresses holds "10.0.0", which is not an IP address"#;
    endpoint("IPv4", &v4.replace("10.0.0.1", "10.0.0"), bad);
    let hostname = r#"{"addresses":["10.0.0.1"],"hostname":"a.b"}"#;
    let bad =
        r#"endpoints[].hostname is "a.b", which is not a lower-case DNS label (1 to 63 bytes)"#;
    endpoint("IPv4", hostname, bad);
    // What is not ready is not looked at.
    slice(
        &format!(
            r#""addressType":"IPv4","endpoints":[{}]"#,
            hostname.replace(r#""hostname""#, r#""conditions":{"ready":false},"hostname""#)
        ),
        "web: ",
    );
}

#[track_caller]
fn pod(json: &str, expected: &str) {
    let show = |result: Result<Option<k8s_sync::object::Pod>, Refusal>| match result {
        Ok(Some(pod)) => format!("{}/{} {:?}", pod.key.namespace, pod.key.name, pod.ips),
        Ok(None) => "nothing".to_owned(),
        Err(refusal) => format!("refused: {refusal}"),
    };
    check(convert::pod, show, json, expected);
}

#[test]
fn pods() {
    let running = |metadata: &str, status: &str, expected: &str| {
        let json = format!(
            r#""metadata":{{"namespace":"a","name":"p.0"{metadata}}},"status":{{"phase":"Running"{status}}}"#
        );
        pod(&json, expected);
    };
    let both = r#","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]"#;
    running("", both, "a/p.0 [10.0.0.1, fd00::1]");
    running("", r#","podIP":"10.0.0.1""#, "a/p.0 [10.0.0.1]");
    running("", "", "nothing");
    running("", r#","podIP":"","podIPs":null"#, "nothing");
    running(r#","deletionTimestamp":"2026-11-21T09:26:07Z""#, both, "nothing");
    running(
        "",
        r#","podIP":"x""#,
        r#"refused: status.podIPs holds "x", which is not an IP address"#,
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
    let json = r#"{"metadata":{"name":"going","deletionTimestamp":"2026-11-21T09:26:07Z"},"status":{"phase":"Terminating"}}"#;
    let raw: raw::Namespace = serde_json::from_str(json).expect("a test's JSON");
    assert_eq!(&*convert::namespace(raw).expect("valid").name, "going");
}

#[test]
fn fields_that_are_not_read_may_hold_anything() {
    let json = r#"{"apiVersion":"v1","kind":"Service","metadata":{"namespace":"a","name":"b","managedFields":[{"fieldsV1":{"f:x":{}}}],"annotations":{"a":"b"},"creationTimestamp":null},
        "spec":{"clusterIP":"None","selector":{"a":"b"},"sessionAffinity":7},"status":{"loadBalancer":{}}}"#;
    let raw: raw::Service = serde_json::from_str(json).expect("a test's JSON");
    assert!(convert::service(raw).is_ok());
}
