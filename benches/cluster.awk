#!/usr/bin/awk -f
# Generates the cluster for side-by-side.sh and its queries: 1,000 Services and 100 headless ones
# with three endpoints each, in 20 namespaces. Writes into -v dir=FOLDER: cluster.yaml, the same
# names as static zones, and a query file per row.

function yaml(text) { print text > (dir "/cluster.yaml") }
function ask(row, name, type) { print name, type > (dir "/" row ".txt") }
function has(owner, type, data) {
    print owner ". 30 IN " type " " data > (dir "/cluster.local.zone")
}
function points(address, name,    part) {
    split(address, part, ".")
    print part[4] "." part[3] "." part[2] ".10.in-addr.arpa. 30 IN PTR " name "." \
        > (dir "/10.in-addr.arpa.zone")
}
function apex(zone) {
    print zone ". 30 IN SOA ns.dns.cluster.local. hostmaster." zone ". 1 7200 1800 86400 30" \
        > (dir "/" zone ".zone")
    print zone ". 30 IN NS ns.dns.cluster.local." > (dir "/" zone ".zone")
}

function service(index_,    ns, name, address, pod) {
    ns = "ns" index_ % 20
    name = "svc" index_ "." ns ".svc.cluster.local"
    address = "10.96." int(index_ / 250) "." (index_ % 250 + 1)
    yaml("- {apiVersion: v1, kind: Service, metadata: {name: svc" index_ ", namespace: " ns "},")
    yaml("   spec: {type: ClusterIP, clusterIP: " address ", clusterIPs: [" address "], " \
        "ports: [{name: http, protocol: TCP, port: 80}]}}")
    has(name, "A", address)
    points(address, name)
    ask("a", name, "A")
    ask("nxdomain", "api" index_ ".example.com." ns ".svc.cluster.local", "A")
    pod = "10-244-" int(index_ / 250) "-" (index_ % 250 + 1) "." ns ".pod.cluster.local"
    has(pod, "A", "10.244." int(index_ / 250) "." (index_ % 250 + 1))
    ask("pod", pod, "A")
}

function headless(index_,    ns, name, host, address, target) {
    ns = "ns" index_ % 20
    name = "headless" index_ "." ns ".svc.cluster.local"
    yaml("- {apiVersion: v1, kind: Service, " \
        "metadata: {name: headless" index_ ", namespace: " ns "},")
    yaml("   spec: {type: ClusterIP, clusterIP: None, clusterIPs: [None], " \
        "ports: [{name: http, protocol: TCP, port: 80}]}}")
    yaml("- apiVersion: discovery.k8s.io/v1\n  kind: EndpointSlice\n  addressType: IPv4")
    yaml("  metadata: {name: headless" index_ "-1, namespace: " ns ", " \
        "labels: {kubernetes.io/service-name: headless" index_ "}}")
    yaml("  ports: [{name: http, protocol: TCP, port: 8080}]\n  endpoints:")
    for (host = 1; host <= 3; host++) {
        address = "10.245." index_ "." host
        target = "pod-" host "." name
        yaml("  - {addresses: [" address "], hostname: pod-" host ", conditions: {ready: true}}")
        has(name, "A", address)
        has(target, "A", address)
        has("_http._tcp." name, "SRV", "0 33 8080 " target ".")
        points(address, target)
        ask("ptr", host "." index_ ".245.10.in-addr.arpa", "PTR")
    }
    ask("srv", "_http._tcp." name, "SRV")
}

BEGIN {
    # One List: a file must not hold a thousand documents.
    yaml("apiVersion: v1\nkind: List\nitems:")
    apex("cluster.local")
    has("ns.dns.cluster.local", "A", "127.0.0.1")
    apex("10.in-addr.arpa")
    for (i = 0; i < 20; i++) yaml("- {apiVersion: v1, kind: Namespace, metadata: {name: ns" i "}}")
    for (i = 0; i < 1000; i++) service(i)
    for (i = 0; i < 100; i++) headless(i)
    # Ten times what CoreDNS's cache holds, so it must compute most of these responses.
    for (i = 0; i < 100000; i++)
        ask("nxdomain-many", "www" i ".example.com.ns" i % 20 ".svc.cluster.local", "A")
}
