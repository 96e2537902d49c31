//! Converts Kubernetes objects, given as JSON, to the objects that answers are made from.

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
fn slice(json: &str, expected: &str) {
    let show = |slice: Option<k8s_sync::object::EndpointSlice>| {
        let Some(slice) = slice else { return "nothing".to_owned() };
        let mut text = format!("{}:", slice.service);
        for endpoint in &slice.endpoints {
            let name = endpoint.hostname.as_deref().unwrap_or("-");
            let pod = endpoint.pod_name.as_deref().unwrap_or("-");
            text += &format!(" {:?} {name} {pod};", endpoint.addresses);
        }
        for host in &slice.hosts {
            text += &format!(" ={host};");
        }
        for port in &slice.ports {
            text += &format!(" {}/{:?}/{:?};", port.name, port.protocol, port.number);
        }
        text
    };
    let metadata = r#""metadata":{"namespace":"a","name":"web.x",
        "labels":{"kubernetes.io/service-name":"web"}}"#;
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
    v4("", "web:");
    v4(r#"{"addresses":["10.0.0.1"]}"#, "web: [10.0.0.1] - -;");
    v4(r#"{"addresses":["10.0.0.1"],"conditions":{}}"#, "web: [10.0.0.1] - -;");
    v4(r#"{"addresses":["10.0.0.1"],"conditions":{"ready":true}}"#, "web: [10.0.0.1] - -;");
    v4(
        r#"{"addresses":["10.0.0.1"],"conditions":{"ready":null,"terminating":true}}"#,
        "web: [10.0.0.1] - -;",
    );
    v4(r#"{"addresses":["10.0.0.1"],"conditions":{"ready":false,"serving":true}}"#, "web:");
    v4(r#"{"addresses":["10.0.0.1","10.0.0.2","10.0.0.1"]}"#, "web: [10.0.0.1, 10.0.0.2] - -;");
    v4(
        r#"{"addresses":[]},{"addresses":null},{},null,{"addresses":["10.0.0.1"]}"#,
        "web: [10.0.0.1] - -; | endpoints[0].addresses contains no address | \
         endpoints[1].addresses contains no address | endpoints[2].addresses contains no address \
         | endpoints[3].addresses contains no address",
    );
    v4(r#"{"addresses":["10.0.0.1"],"hostname":"web-0"}"#, "web: [10.0.0.1] web-0 -;");
    v4(r#"{"addresses":["10.0.0.1"],"hostname":""}"#, "web: [10.0.0.1] - -;");
    let pod = r#"{"addresses":["10.0.0.1"],"targetRef":{"kind":"Pod","name":"web-7f"}}"#;
    v4(pod, "web: [10.0.0.1] - web-7f;");
    v4(&pod.replace("web-7f", "web.7f"), "web: [10.0.0.1] - -;");
    v4(&pod.replace("web-7f", &"w".repeat(64)), "web: [10.0.0.1] - -;");
    slice(r#""addressType":"IPv6","endpoints":[{"addresses":["fd00::1"]}]"#, "web: [fd00::1] - -;");
    slice(
        r#""addressType":"IPv4","endpoints":null,"ports":[{"name":"http","port":80},{"name":"",
            "protocol":"UDP","port":null}]"#,
        "web: http/Tcp/Some(80); /Udp/None;",
    );
}

#[test]
fn slices_that_affect_no_answer() {
    slice(r#""addressType":"IPv4","metadata":{"namespace":"a","name":"x"}"#, "nothing");
    let multicluster = r#""addressType":"IPv4","metadata":{"namespace":"a","name":"x",
        "labels":{"multicluster.kubernetes.io/service-name":"web"}}"#;
    slice(multicluster, "nothing");
}

#[test]
fn slices_of_host_names() {
    let fqdn = |endpoints: &str, expected: &str| {
        slice(&format!(r#""addressType":"FQDN","endpoints":[{endpoints}]"#), expected);
    };
    fqdn(
        r#"{"addresses":["a.org"]},{"addresses":["B.org."],"conditions":{"ready":false}}"#,
        "web: =a.org;",
    );
    fqdn(
        r#"{"addresses":["a..b"]},{"addresses":["a.org"]}"#,
        r#"web: =a.org; | endpoints[0].addresses[0] is "a..b", which is not a host name"#,
    );
}

/// A slice of `endpoint` and a good one.
#[track_caller]
fn beside(endpoint: &str, expected: &str) {
    let good = r#"{"addresses":["10.0.0.1"]}"#;
    let json = format!(r#""addressType":"IPv4","endpoints":[{endpoint},{good}]"#);
    slice(&json, &format!("web: {expected}"));
}

/// Every fault costs the smallest part that contains it.
#[test]
fn a_bad_address_costs_its_endpoint() {
    let kept = "[10.0.0.1] - -;";
    let address = |text: &str| {
        let expected =
            format!("{kept} | endpoints[0].addresses[0] is {text:?}, which is not an IP address");
        beside(&format!(r#"{{"addresses":["{text}"]}}"#), &expected);
    };
    for text in ["", "10.0.0", "10.0.0.256", "x", "10.0.0.9/32", "fe80::1%eth0"] {
        address(text);
    }
    beside(r#"{"addresses":["010.000.0.09"]}"#, &format!("[10.0.0.9] - -; {kept}"));
    beside(r#"{"addresses":["::ffff:10.0.0.9"]}"#, &format!("[10.0.0.9] - -; {kept}"));
    beside(
        r#"{"addresses":["x","10.0.0.9"]}"#,
        &format!(
            "[10.0.0.9] - -; {kept} | endpoints[0].addresses[0] is \"x\", which is not an IP \
             address"
        ),
    );
    beside(
        r#"{"addresses":["fd00::1"]}"#,
        &format!("{kept} | endpoints[0].addresses[0] is fd00::1, but addressType is IPv4"),
    );
    beside(
        r#"{"addresses":"10.0.0.9"}"#,
        &format!(
            "{kept} | endpoints[0].addresses is \"10.0.0.9\", not a list | endpoints[0].addresses \
             contains no address"
        ),
    );
    beside(
        r#"{"addresses":[true]}"#,
        &format!(
            "{kept} | endpoints[0].addresses[0] is true, not a string: put it in quotes | \
             endpoints[0].addresses contains no address"
        ),
    );
    let huge = "x".repeat(1 << 20);
    beside(
        &format!(r#"{{"addresses":["{huge}"]}}"#),
        &format!(
            "{kept} | endpoints[0].addresses[0] is \"{}\"… (1048576 bytes), which is not an IP \
             address",
            &huge[..80]
        ),
    );
}

#[test]
fn a_bad_name_or_condition_of_an_endpoint_costs_itself() {
    let kept = "[10.0.0.1] - -;";
    beside("7", &format!("{kept} | endpoints[0] is 7, not a map"));
    beside(
        r#"{"addresses":["10.0.0.9"],"hostname":"a.b"}"#,
        &format!(
            "[10.0.0.9] - -; {kept} | endpoints[0].hostname is \"a.b\", which is not a lower-case \
             DNS label (1 to 63 bytes)"
        ),
    );
    beside(
        r#"{"addresses":["10.0.0.9"],"hostname":{},"targetRef":[],"conditions":"x"}"#,
        &format!(
            "[10.0.0.9] - -; {kept} | endpoints[0].conditions is \"x\", not a map | \
             endpoints[0].hostname is a map, not a string | endpoints[0].targetRef is a list, not \
             a map"
        ),
    );
    beside(
        r#"{"addresses":["10.0.0.9"],"conditions":{"ready":"never"}}"#,
        &format!(
            "[10.0.0.9] - -; {kept} | endpoints[0].conditions.ready is \"never\", not true or false"
        ),
    );
    // Unready endpoints are not validated.
    beside(r#"{"addresses":["x"],"conditions":{"ready":false}}"#, kept);
}

#[test]
fn a_bad_port_of_a_slice_costs_its_srv_record() {
    let ports = |ports: &str, expected: &str| {
        let json = format!(
            r#""addressType":"IPv4","endpoints":[{{"addresses":["10.0.0.1"]}}],"ports":{ports}"#
        );
        slice(&json, &format!("web: [10.0.0.1] - -;{expected}"));
    };
    for number in [0, -1, 65536] {
        ports(
            &format!(r#"[{{"name":"http","port":{number}}},{{"port":80}}]"#),
            &format!(
                " http/Tcp/None; /Tcp/Some(80); | ports[0].port is {number}, which is not in 1 to \
                 65535: the port gets no SRV record"
            ),
        );
    }
    ports("[null]", " /Tcp/None;");
    ports("7", " | ports is 7, not a list");
}

#[test]
fn addresses_of_an_unknown_type_are_used_by_family() {
    let check = |address_type: &str, shown: &str| {
        slice(
            &format!(
                r#"{address_type}"endpoints":[{{"addresses":["10.0.0.1","fd00::1","a.org"]}}]"#
            ),
            &format!(
                "web: [10.0.0.1, fd00::1] - -; | addressType is {shown}, which is not IPv4, IPv6 \
                 or FQDN: each address is used by its own family | endpoints[0].addresses[2] is \
                 \"a.org\", which is not an IP address"
            ),
        );
    };
    check(r#""addressType":"IP","#, "\"IP\"");
    check("", "\"\"");
}

#[test]
fn refused_slices() {
    let metadata = |metadata: &str, expected: &str| {
        let json = format!(r#""addressType":"IPv4","metadata":{{{metadata}}}"#);
        slice(&json, &format!("refused: metadata.{expected}"));
    };
    let label = r#""labels":{"kubernetes.io/service-name":"web"}"#;
    metadata(&format!(r#""namespace":"a",{label}"#), "name is missing: every object needs a name");
    metadata(
        r#""namespace":"a","name":"b","labels":{"kubernetes.io/service-name":"w.x"}"#,
        "labels[\"kubernetes.io/service-name\"] is \"w.x\", which is not a lower-case DNS label \
         (1 to 63 bytes)",
    );
}

#[test]
fn endpoints_become_slices() {
    let show = |slices: Vec<k8s_sync::object::EndpointSlice>| {
        let slices = slices.iter().map(|slice| {
            let endpoints = slice.endpoints.iter();
            let endpoints = endpoints.map(|one| format!(" {:?} {:?}", one.addresses, one.hostname));
            let ports = slice.ports.iter().map(|port| format!(" {}/{:?}", port.name, port.number));
            format!(
                "{} of {}:{}{};",
                slice.key.name,
                slice.service,
                endpoints.collect::<String>(),
                ports.collect::<String>()
            )
        });
        slices.collect::<String>()
    };
    let check = |subsets: &str, expected: &str| {
        let json = format!(r#""metadata":{{"namespace":"a","name":"web"}},"subsets":{subsets}"#);
        check(convert::endpoints, show, &json, expected);
    };
    check("null", "");
    check(
        r#"[{"addresses":[{"ip":"10.0.0.1","hostname":"a","targetRef":{"name":"p"}},{"ip":"x"},
            {"ip":"fd00::1"}],
            "notReadyAddresses":[{"ip":"10.0.0.2"}],
            "ports":[{"name":"http","port":80,"protocol":"TCP"}]},
            {"addresses":[{"ip":"10.0.0.3"}]}]"#,
        "web/0 of web: [10.0.0.1] Some(\"a\") [fd00::1] None http/Some(80);web/1 of web: \
         [10.0.0.3] None; | subsets[0].addresses[1].ip is \"x\", which is not an IP address",
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
