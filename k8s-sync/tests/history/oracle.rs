//! What each name must answer, from the Kubernetes DNS specification and docs/differences.md alone:
//! no code of k8s-sync is used.
//!
//! It reads the lines of the objects. Not here: aliases (ExternalName, slices of host names), the
//! names of the zone itself, and reverse names; `expected` has no opinion about them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_sync::options::Options;
use wire::pod::PodMode;

use crate::streams::Known;

/// Types that the oracle knows.
pub(crate) const TYPES: &[&str] = &["A", "AAAA", "SRV", "TXT"];

/// Name, protocol and number, as in the line.
type Port = (String, String, Option<u16>);

/// The end of an SRV record, and its addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Backend {
    target: String,
    address: IpAddr,
    ports: Vec<Port>,
}

enum Kind {
    ClusterIp(Vec<IpAddr>),
    Headless,
    Alias,
}

/// The answer for a name below the zone, its labels in lower case, in the words of `objects::ask`.
/// `None`: no opinion.
pub(crate) fn expected(
    options: &Options,
    known: &[Known; 4],
    labels: &[&str],
    zone: &str,
    rtype: &str,
) -> Option<String> {
    let oracle = Oracle { options, known, zone };
    let answer = match labels {
        [namespace, tree @ ("svc" | "pod")] => {
            let exists = oracle.has_namespace(namespace)
                && (*tree == "svc" || options.pods != PodMode::Disabled);
            exists.then(|| "NODATA".to_owned())
        }
        [label, namespace, "pod"] => oracle.pod(label, namespace, rtype)?,
        [below @ .., service, namespace, "svc"] => {
            oracle.service(below, service, namespace, rtype)?
        }
        _ => return None,
    };
    let absent = if oracle.is_synced() { "NXDOMAIN" } else { "UNSYNCED" };
    Some(answer.unwrap_or_else(|| absent.to_owned()))
}

struct Oracle<'o> {
    options: &'o Options,
    known: &'o [Known; 4],
    zone: &'o str,
}

impl Oracle<'_> {
    fn is_synced(&self) -> bool {
        let [namespaces, services, slices, pods] = self.known;
        let pods_matter = self.options.indexes_pods || self.options.pods == PodMode::Verified;
        namespaces.synced
            && services.synced
            && (slices.synced || self.options.no_endpoints)
            && (pods.synced || !pods_matter)
    }

    fn has_namespace(&self, namespace: &str) -> bool {
        let served = &self.options.namespaces;
        (served.is_empty() || served.iter().any(|name| name == namespace))
            && self.known[0].objects.contains_key(&format!("ns {namespace}"))
    }

    /// The outer `None`: no opinion. The inner one: the name does not exist.
    fn pod(&self, label: &str, namespace: &str, rtype: &str) -> Option<Option<String>> {
        if !self.has_namespace(namespace) {
            return Some(None);
        }
        match self.options.pods {
            PodMode::Disabled => Some(None),
            PodMode::Insecure => None,
            PodMode::Verified => {
                let address: IpAddr = label.replace('-', ".").parse().ok()?;
                let prefix = format!("pod {namespace}/");
                let mut pods = self.known[3].objects.iter();
                let exists = pods.any(|(key, line)| {
                    key.starts_with(&prefix)
                        && line.split_whitespace().nth(2) == Some(&*address.to_string())
                });
                Some(exists.then(|| match rtype {
                    "A" | "SRV" => format!("POD {address}"),
                    _ => "NODATA".to_owned(),
                }))
            }
        }
    }

    fn service(
        &self,
        below: &[&str],
        service: &str,
        namespace: &str,
        rtype: &str,
    ) -> Option<Option<String>> {
        let line = self.known[1].objects.get(&format!("svc {namespace}/{service}"));
        let Some(line) = line.filter(|_| self.has_namespace(namespace)) else { return Some(None) };
        let base = format!("{service}.{namespace}.svc.{}", self.zone);
        let words: Vec<&str> = line.split_whitespace().collect();
        let (endpoints, has_hosts) = self.endpoints(service, namespace, &base);
        let kind = match words[2] {
            "headless" if has_hosts && endpoints.is_empty() => Kind::Alias,
            "headless" => Kind::Headless,
            alias if alias.starts_with('=') => Kind::Alias,
            addresses => Kind::ClusterIp(addresses.split(',').map(address).collect()),
        };
        let own = match kind {
            Kind::Alias => return None,
            Kind::Headless => endpoints.clone(),
            Kind::ClusterIp(addresses) => {
                let ports: Vec<Port> = words[3..].iter().filter_map(|word| port(word)).collect();
                let own = |address| Backend { target: base.clone(), address, ports: ports.clone() };
                addresses.into_iter().map(own).collect()
            }
        };
        let is_empty = endpoints.is_empty() && !(has_hosts && words[2] != "headless");
        let is_hidden = words[2] == "headless" || self.options.ignore_empty_service;
        if is_empty && is_hidden {
            return Some(None);
        }
        Some(match below {
            [] => Some(records(&base, &own, |_| true, rtype)),
            [one] => self.one_label_below(one, &base, &own, &endpoints, rtype),
            [port, protocol] if port.starts_with('_') && protocol.starts_with('_') => {
                let is_it = |(name, of, _): &Port| {
                    *name == port[1..] && *of == protocol[1..] && !name.is_empty()
                };
                let of_port: Vec<Backend> =
                    own.into_iter().filter(|backend| backend.ports.iter().any(is_it)).collect();
                let name = format!("{port}.{protocol}.{base}");
                (!of_port.is_empty()).then(|| records(&name, &of_port, is_it, rtype))
            }
            _ => None,
        })
    }

    fn one_label_below(
        &self,
        label: &str,
        base: &str,
        own: &[Backend],
        endpoints: &[Backend],
        rtype: &str,
    ) -> Option<String> {
        let name = format!("{label}.{base}");
        if let Some(protocol) = label.strip_prefix('_') {
            let mut ports = own.iter().flat_map(|backend| &backend.ports);
            let exists = ports.any(|(name, of, _)| of == protocol && !name.is_empty());
            return exists.then(|| "NODATA".to_owned());
        }
        let named: Vec<Backend> =
            endpoints.iter().filter(|endpoint| endpoint.target == name).cloned().collect();
        (!named.is_empty()).then(|| records(&name, &named, |_| true, rtype))
    }

    /// The endpoints in the slices of a Service, and whether the slices name hosts instead.
    fn endpoints(&self, service: &str, namespace: &str, base: &str) -> (Vec<Backend>, bool) {
        let (mut endpoints, mut has_hosts) = (Vec::new(), false);
        if self.options.no_endpoints {
            return (endpoints, has_hosts);
        }
        let prefix = format!("eps {namespace}/");
        for (_, line) in self.known[2].objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words[2] != service {
                continue;
            }
            let ports: Vec<Port> = words[3..].iter().filter_map(|word| port(word)).collect();
            for word in words[3..].iter().filter(|word| port(word).is_none()) {
                if word.starts_with('=') {
                    has_hosts = true;
                    continue;
                }
                let at = word.find(['+', '^']).unwrap_or(word.len());
                let address = address(&word[..at]);
                let label = match (word.get(at..=at), word.get(at + 1..)) {
                    (Some("+"), Some(hostname)) => hostname.to_owned(),
                    (Some("^"), Some(pod))
                        if self.options.endpoint_pod_names && !pod.contains('.') =>
                    {
                        pod.to_owned()
                    }
                    _ => label_of(address),
                };
                let target = format!("{label}.{base}");
                endpoints.push(Backend { target, address, ports: ports.clone() });
            }
        }
        (endpoints, has_hosts)
    }
}

/// `10-1-0-1`, or `fd00-1--0`: an address that ends in `::` gets a digit, because a label does not
/// end with a hyphen.
fn label_of(address: IpAddr) -> String {
    let label = address.to_string().replace(['.', ':'], "-");
    if label.ends_with('-') { label + "0" } else { label }
}

/// An IPv4-mapped address is the IPv4 address.
fn address(text: &str) -> IpAddr {
    text.parse::<IpAddr>().expect(text).to_canonical()
}

/// `name:80/tcp`; the number may be `*`.
fn port(word: &str) -> Option<Port> {
    let (name, number) = word.rsplit_once(':')?;
    let (number, protocol) = number.split_once('/')?;
    Some((name.to_owned(), protocol.to_owned(), number.parse().ok()))
}

/// The records that a name with these backends has.
fn records(
    owner: &str,
    backends: &[Backend],
    counts: impl Fn(&Port) -> bool,
    rtype: &str,
) -> String {
    let of_owner = |name: &str| if name == owner { String::new() } else { format!("{name} ") };
    let address = |owner: &str, address: IpAddr| {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        format!("{}{kind} {address}", of_owner(owner))
    };
    let join = |lines: BTreeSet<String>| lines.into_iter().collect::<Vec<_>>().join(", ");
    let text = match rtype {
        "A" | "AAAA" => {
            let of_type = backends.iter().filter(|one| one.address.is_ipv4() == (rtype == "A"));
            join(of_type.map(|backend| address(owner, backend.address)).collect())
        }
        "SRV" => {
            let mut pairs = BTreeSet::new();
            for backend in backends {
                for port in backend.ports.iter().filter(|port| counts(port) && port.2.is_some()) {
                    pairs.insert((&backend.target, backend.address, port));
                }
            }
            let weight = 100_usize.checked_div(pairs.len()).unwrap_or_default().max(1);
            let answers = pairs.iter().map(|(target, _, (_, _, number))| {
                format!("SRV 0 {weight} {} {target}", number.expect("counted"))
            });
            let more = pairs.iter().map(|(target, of, _)| address(target, *of));
            let (answers, more) = (join(answers.collect()), join(more.collect()));
            if answers.is_empty() { String::new() } else { format!("{answers} + {more}") }
        }
        _ => String::new(),
    };
    if text.is_empty() { "NODATA".to_owned() } else { text }
}
