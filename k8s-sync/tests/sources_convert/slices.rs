//! EndpointSlices, and Endpoints that become slices.

use super::*;

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
