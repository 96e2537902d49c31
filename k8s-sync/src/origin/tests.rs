//! Reasons for the names of a small cluster.

use super::*;

/// A cluster in JSON, field by field.
fn cluster() -> ClusterObjects {
    fn read<T: serde::de::DeserializeOwned>(json: serde_json::Value) -> T {
        serde_json::from_value(json).expect("an object")
    }
    let metadata = |name: &str| serde_json::json!({"name": name, "namespace": "shop"});
    let endpoint = |address: &str, host: &str, ready: bool| {
        serde_json::json!({"addresses": [address], "hostname": host,
            "conditions": {"ready": ready}})
    };
    ClusterObjects {
        namespaces: vec![read(serde_json::json!({"metadata": {"name": "shop"}}))],
        services: vec![
            read(serde_json::json!({"metadata": metadata("web"), "spec": {"clusterIP": "None",
                "ports": [{"name": "http", "port": 80}]}})),
            read(serde_json::json!({"metadata": metadata("api"), "spec": {
                "clusterIP": "10.0.0.7", "ports": [{"port": 80}]}})),
            read(serde_json::json!({"metadata": metadata("six"), "spec": {
                "clusterIP": "fd00::7"}})),
            read(serde_json::json!({"metadata": metadata("none"), "spec": {
                "clusterIP": "None"}})),
            read(serde_json::json!({"metadata": metadata("sloppy"), "spec": {
                "clusterIP": "010.00.0.9"}})),
        ],
        slices: vec![read(serde_json::json!({"metadata": {"name": "web-1",
            "namespace": "shop", "labels": {SERVICE_NAME_LABEL: "web"}},
            "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
            "endpoints": [endpoint("10.1.0.1", "web-0", false)]}))],
        pods: vec![read(serde_json::json!({"metadata": metadata("web-0"),
            "status": {"podIP": "10.1.0.1"}}))],
        ..ClusterObjects::default()
    }
}

fn asked<'q>(name: &'q str, zone: &'q str, qtype: u16) -> AskedName<'q> {
    let (pods, endpoint_pod_names) = (PodMode::Verified, false);
    AskedName { name, zone, qtype, pods, endpoint_pod_names }
}

#[test]
fn endpoints_have_one_kind_of_name() {
    let endpoints = serde_json::json!([
        {"addresses": ["10.1.0.1"], "hostname": "web-0", "targetRef": {"name": "pod-a"}},
        {"addresses": ["10.1.0.2"], "targetRef": {"name": "pod-b"}},
        {"addresses": ["10.1.0.3"]},
    ]);
    for (host, endpoint_pod_names, expected) in [
        ("web-0", false, ""),
        ("10-1-0-1", false, "no endpoint 10-1-0-1; the endpoint with this address is named web-0"),
        ("pod-a", true, "the endpoint of this pod is named web-0"),
        ("10-1-0-2", false, ""),
        ("pod-b", false, "of this pod is named 10-1-0-2; `endpoint_pod_names` is off"),
        ("pod-b", true, ""),
        ("10-1-0-2", true, "the endpoint with this address is named pod-b"),
        ("10-1-0-3", true, ""),
        ("x", true, "has no endpoint x; those that are ready: 10-1-0-3, pod-b, web-0"),
    ] {
        let mut cluster = cluster();
        cluster.slices[0].endpoints = serde_json::from_value(endpoints.clone()).expect("endpoints");
        let name = format!("{host}.web.shop.svc.cluster.local.");
        let asked = AskedName { endpoint_pod_names, ..asked(&name, "cluster.local.", 1) };
        let reason = cluster.origin(asked).reason.unwrap_or_default();
        let is_expected = reason.is_empty() == expected.is_empty();
        assert!(is_expected && reason.ends_with(expected), "{host}: {reason}");
    }
}

#[test]
fn what_could_not_be_listed_proves_nothing() {
    for (kind, name, is_affected) in [
        (Kind::EndpointSlice, "none.shop.svc", true),
        (Kind::EndpointSlice, "web-9.web.shop.svc", true),
        (Kind::EndpointSlice, "_http._udp.web.shop.svc", true),
        (Kind::EndpointSlice, "_http._udp.api.shop.svc", false),
        (Kind::EndpointSlice, "x.shop.svc", false),
        (Kind::EndpointSlice, "api.shop.svc", false),
        (Kind::Service, "x.shop.svc", true),
        (Kind::Service, "x.other.svc", false),
        (Kind::Namespace, "x.other.svc", true),
        (Kind::Namespace, "x.shop.svc", false),
        (Kind::Pod, "10-1-0-9.shop.pod", true),
    ] {
        let incomplete = vec![(kind, "forbidden".to_owned())];
        let cluster = ClusterObjects { incomplete, ..cluster() };
        let name = format!("{name}.cluster.local.");
        let reason = cluster.origin(asked(&name, "cluster.local.", 1)).reason;
        assert_eq!(reason.as_deref() == Some("forbidden"), is_affected, "{name}: {reason:?}");
    }
    let incomplete = vec![(Kind::EndpointSlice, "forbidden".to_owned())];
    let cluster = ClusterObjects { incomplete, ..cluster() };
    let origin = cluster.origin(asked("9.9.9.9.in-addr.arpa.", "in-addr.arpa.", 12));
    assert_eq!(origin.reason.as_deref(), Some("forbidden"));
}

#[test]
fn reasons() {
    let six = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa.";
    for (name, qtype, pods, expected) in [
        ("web.shop.svc", 1, PodMode::Disabled, "Service shop/web exists; 1 endpoint, not ready"),
        ("web.shop.svc", 28, PodMode::Disabled, "none of its 1 endpoints has an address of"),
        ("none.shop.svc", 1, PodMode::Disabled, "Service shop/none exists; it has no endpoints"),
        ("api.shop.svc", 1, PodMode::Disabled, ""),
        ("api.shop.svc", 28, PodMode::Disabled, "Service shop/api exists, but has no IPv6"),
        ("_http._tcp.api.shop.svc", 33, PodMode::Disabled, "its ports have no names"),
        ("_http._udp.web.shop.svc", 33, PodMode::Disabled, "the ports are http (tcp)"),
        ("_http._tcp.web.shop.svc", 33, PodMode::Disabled, ""),
        ("web-0.web.shop.svc", 1, PodMode::Disabled, "endpoint web-0 of Service shop/web is not"),
        ("web-9.web.shop.svc", 1, PodMode::Disabled, "has no endpoint web-9; those that"),
        ("a.b.web.shop.svc", 1, PodMode::Disabled, "nothing is named so below it"),
        ("x.shop.svc", 1, PodMode::Disabled, "of shop: api, none, six, sloppy, web"),
        ("sloppy.shop.svc", 1, PodMode::Disabled, ""),
        ("x.other.svc", 1, PodMode::Disabled, "Namespace other does not exist"),
        ("shop.svc", 1, PodMode::Disabled, "shop is a Namespace"),
        ("10-1-0-1.shop.pod", 1, PodMode::Disabled, "names of pods are disabled"),
        ("10-1-0-1.shop.pod", 1, PodMode::Verified, ""),
        ("10-1-0-2.shop.pod", 1, PodMode::Verified, "no pod of Namespace shop has the address"),
        ("10-1-0-2.shop.pod", 1, PodMode::Insecure, "answers for every address"),
        ("web.shop.pod", 1, PodMode::Insecure, "'web' is no address with dashes"),
        ("web.shop", 1, PodMode::Insecure, "'shop' is neither"),
    ] {
        let (name, zone) = (format!("{name}.cluster.local."), "cluster.local.");
        let origin = cluster().origin(AskedName { pods, ..asked(&name, zone, qtype) });
        let reason = origin.reason.unwrap_or_default();
        let is_expected = reason.is_empty() == expected.is_empty();
        assert!(is_expected && reason.contains(expected), "{name}: {reason}");
    }
    for (name, zone, expected) in [
        ("7.0.0.10.in-addr.arpa.", "in-addr.arpa.", Some("shop/api")),
        ("9.0.0.10.in-addr.arpa.", "in-addr.arpa.", Some("shop/sloppy")),
        ("1.0.1.10.in-addr.arpa.", "in-addr.arpa.", Some("shop/web-1")),
        ("9.9.9.9.in-addr.arpa.", "in-addr.arpa.", None),
        (six, "ip6.arpa.", Some("shop/six")),
    ] {
        let origin = cluster().origin(asked(name, zone, 12));
        assert_eq!(origin.objects.first().map(|one| one.key.as_str()), expected, "{name}");
        assert_eq!(origin.reason.is_none(), expected.is_some(), "{name}");
    }
    assert_eq!(cluster().namespace_at("10.1.0.1".parse().unwrap()).as_deref(), Some("shop"));
}
