//! The answers for ExternalName Services: where their CNAMEs lead, and where chains end.

mod objects;

use k8s_sync::options::Options;
use objects::{check, usual};
use wire::pod::PodMode;

#[test]
fn external_names() {
    let objects = [
        "ns n",
        "svc n/web 10.96.0.1 http:80/tcp",
        "svc n/out =www.Example.org",
        "svc n/in =web.n.svc.cluster.local",
        "svc n/missing =gone.n.svc.cluster.local",
        "svc n/self =self.n.svc.cluster.local",
        "svc n/ping =pong.n.svc.cluster.local",
        "svc n/pong =ping.n.svc.cluster.local",
        "svc n/two =in.n.svc.cluster.local",
        "svc n/far =out.n.svc.cluster.local",
        "svc n/port =_http._tcp.web.n.svc.cluster.local",
        "svc n/zone =cluster.local",
        "svc n/space =n.svc.cluster.local",
        "svc n/nospace =m.svc.cluster.local",
        "svc n/proto =_tcp.web.n.svc.cluster.local",
        "svc n/reverse =1.0.96.10.in-addr.arpa",
        "svc n/literal =192.0.2.1",
    ];
    let web = "web.n.svc.cluster.local";
    let rows = [
        ("out", "A", "CNAME www.example.org".to_owned()),
        ("out", "MX", "CNAME www.example.org".to_owned()),
        ("out", "CNAME", "CNAME www.example.org".to_owned()),
        ("in", "A", format!("CNAME {web}, {web} A 10.96.0.1")),
        // The address, the type and the name do not exist.
        ("in", "AAAA", format!("CNAME {web}, then NODATA")),
        ("in", "MX", format!("CNAME {web}, then NODATA")),
        ("in", "SRV", format!("CNAME {web}, then more")),
        ("in", "CNAME", format!("CNAME {web}")),
        ("missing", "A", "CNAME gone.n.svc.cluster.local, then NXDOMAIN".to_owned()),
        ("missing", "TXT", "CNAME gone.n.svc.cluster.local, then NXDOMAIN".to_owned()),
        ("zone", "A", "CNAME cluster.local, then NODATA".to_owned()),
        ("space", "A", "CNAME n.svc.cluster.local, then NODATA".to_owned()),
        ("nospace", "A", "CNAME m.svc.cluster.local, then NXDOMAIN".to_owned()),
        ("proto", "A", format!("CNAME _tcp.{web}, then NODATA")),
        ("reverse", "A", "CNAME 1.0.96.10.in-addr.arpa, then NXDOMAIN".to_owned()),
        ("reverse", "PTR", "CNAME 1.0.96.10.in-addr.arpa, then more".to_owned()),
        ("self", "A", "CNAME self.n.svc.cluster.local, then CNAMEs".to_owned()),
        (
            "ping",
            "A",
            "CNAME pong.n.svc.cluster.local, \
             pong.n.svc.cluster.local CNAME ping.n.svc.cluster.local, then CNAMEs"
                .to_owned(),
        ),
        (
            "two",
            "A",
            format!(
                "CNAME in.n.svc.cluster.local, in.n.svc.cluster.local CNAME {web}, {web} A \
                 10.96.0.1"
            ),
        ),
        ("two", "CNAME", "CNAME in.n.svc.cluster.local".to_owned()),
        (
            "far",
            "AAAA",
            "CNAME out.n.svc.cluster.local, out.n.svc.cluster.local CNAME www.example.org"
                .to_owned(),
        ),
        ("port", "A", format!("CNAME _http._tcp.{web}, _http._tcp.{web} A 10.96.0.1")),
        ("literal", "A", "NXDOMAIN".to_owned()),
        ("_http._tcp.in", "A", "NXDOMAIN".to_owned()),
        ("_tcp.in", "A", "NXDOMAIN".to_owned()),
    ];
    let table = objects::table(usual(), &objects);
    for (name, rtype, expected) in rows {
        let question = format!("{name}.n.svc.cluster.local {rtype}");
        assert_eq!(objects::ask(&table, &question), expected, "{question}");
    }
}

#[test]
fn external_names_of_pods_and_name_servers() {
    let objects = [
        "ns n",
        "svc n/pod =10-1-0-1.n.pod.cluster.local",
        "svc n/odd =010-1-0-1.n.pod.cluster.local",
        "svc n/ns =ns.dns.cluster.local",
        "pod n/p 10.1.0.1",
    ];
    let pod = "10-1-0-1.n.pod.cluster.local";
    for pods in [PodMode::Disabled, PodMode::Insecure, PodMode::Verified] {
        let server_addresses = vec![[192, 0, 2, 53].into()];
        let options = Options { pods, server_addresses, ..usual() };
        let expected = match pods {
            PodMode::Disabled => format!("CNAME {pod}, then NXDOMAIN"),
            PodMode::Insecure | PodMode::Verified => format!("CNAME {pod}, {pod} A 10.1.0.1"),
        };
        check(
            options,
            &objects,
            &[
                ("pod.n.svc.cluster.local A", &expected),
                ("odd.n.svc.cluster.local A", "CNAME 010-1-0-1.n.pod.cluster.local, then NXDOMAIN"),
                (
                    "ns.n.svc.cluster.local A",
                    "CNAME ns.dns.cluster.local, ns.dns.cluster.local A 192.0.2.53",
                ),
            ],
        );
    }
}

#[test]
fn chains_end() {
    let mut lines = vec!["ns n".to_owned(), "svc n/s0 10.96.0.1".to_owned()];
    for index in 1..20 {
        lines.push(format!("svc n/s{index} =s{}.n.svc.cluster.local", index - 1));
    }
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let table = objects::table(usual(), &lines);
    for (service, records) in [("s1", 2), ("s10", 11), ("s11", 10), ("s19", 10)] {
        let answer = objects::ask(&table, &format!("{service}.n.svc.cluster.local A"));
        let (cnames, _) = answer.split_once(", then").unwrap_or((&answer, ""));
        assert_eq!(cnames.split(", ").count(), records, "{service}: {answer}");
    }
}
