//! The queries that a pod's resolver sends for one look-up with the kubelet's resolv.conf:
//! `ndots:5` and the search list `NAMESPACE.svc.ZONE svc.ZONE ZONE`.
//!
//! glibc and musl send the same queries: A and AAAA together for each candidate, the search list
//! first for a name with fewer than five dots, until a candidate exists. (musl queries all name
//! servers at once, which makes no difference with one server.) Nodes with search domains of their
//! own send more.

use domain::base::Rtype;

use super::cluster::{Cluster, ServiceName};

const NDOTS: usize = 5;

/// How a program spells the Service that it looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// `web`, in its own namespace.
    Short,
    /// `web.shop`.
    WithNamespace,
    /// `web.shop.svc.cluster.local`: four dots, so the search list comes first here too.
    Full,
}

/// The questions of a look-up of a Service by a pod in namespace `from`.
pub fn service(
    cluster: &Cluster,
    service: &ServiceName,
    from: &str,
    spelling: Spelling,
) -> Vec<(String, Rtype)> {
    let ServiceName { namespace, name } = service;
    let zone = &cluster.zone;
    let whole = format!("{name}.{namespace}.svc.{zone}");
    let (asked, from) = match spelling {
        // A short name works only in its own namespace.
        Spelling::Short => (name.clone(), namespace.as_str()),
        Spelling::WithNamespace => (format!("{name}.{namespace}"), from),
        Spelling::Full => (whole.clone(), from),
    };
    look_up(zone, &asked, from, |candidate| candidate == whole)
}

/// The questions of a look-up of an external name.
pub fn external(cluster: &Cluster, name: &str, from: &str) -> Vec<(String, Rtype)> {
    look_up(&cluster.zone, name, from, |candidate| candidate == name)
}

fn look_up(
    zone: &str,
    asked: &str,
    from: &str,
    exists: impl Fn(&str) -> bool,
) -> Vec<(String, Rtype)> {
    let searched = [
        format!("{asked}.{from}.svc.{zone}"),
        format!("{asked}.svc.{zone}"),
        format!("{asked}.{zone}"),
    ];
    let itself = asked.to_owned();
    let is_searched_first = asked.bytes().filter(|&byte| byte == b'.').count() < NDOTS;
    let candidates: Vec<String> = match is_searched_first {
        true => searched.into_iter().chain([itself]).collect(),
        false => [itself].into_iter().chain(searched).collect(),
    };
    let mut questions = Vec::with_capacity(2 * candidates.len());
    for candidate in candidates {
        let is_found = exists(&candidate);
        questions.push((candidate.clone(), Rtype::A));
        questions.push((candidate, Rtype::AAAA));
        if is_found {
            break;
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn look_ups_match_glibcs() {
        let cluster = Cluster { zone: "cluster.local".to_owned(), ..Cluster::default() };
        let web = ServiceName { namespace: "shop".to_owned(), name: "web".to_owned() };
        type LookUpRow<'a> = (Vec<(String, Rtype)>, &'a [&'a str]);
        let rows: &[LookUpRow<'_>] = &[
            (service(&cluster, &web, "other", Spelling::Short), &["web.shop.svc.cluster.local"]),
            (
                service(&cluster, &web, "other", Spelling::WithNamespace),
                &["web.shop.other.svc.cluster.local", "web.shop.svc.cluster.local"],
            ),
            (
                service(&cluster, &web, "other", Spelling::Full),
                &[
                    "web.shop.svc.cluster.local.other.svc.cluster.local",
                    "web.shop.svc.cluster.local.svc.cluster.local",
                    "web.shop.svc.cluster.local.cluster.local",
                    "web.shop.svc.cluster.local",
                ],
            ),
            (
                external(&cluster, "www.example.com", "other"),
                &[
                    "www.example.com.other.svc.cluster.local",
                    "www.example.com.svc.cluster.local",
                    "www.example.com.cluster.local",
                    "www.example.com",
                ],
            ),
            (external(&cluster, "a.b.c.d.example.com", "other"), &["a.b.c.d.example.com"]),
        ];
        for (questions, names) in rows {
            let expected: Vec<(String, Rtype)> = names
                .iter()
                .flat_map(|name| [Rtype::A, Rtype::AAAA].map(|rtype| ((*name).to_owned(), rtype)))
                .collect();
            assert_eq!(*questions, expected);
        }
    }
}
