//! What a server must answer for the objects of a fake API server.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::base::iana::Rtype;
use e2e::deadline::try_poll;
use e2e::fake_api::FakeApi;
use e2e::fake_api::object::FakeObject;
use e2e::question::Question;
use e2e::server::Server;

/// Names that some test has used; most of them do not exist at any time.
const OTHERS: &[&str] = &["new1.a", "new2.a", "s6.a", "s8.a", "s10.a", "none.a", "s1.none"];

pub(crate) fn question(labels: &str) -> Question {
    Question::new(format!("{labels}.svc.cluster.local."), Rtype::A)
}

/// Waits until all answers are right.
#[track_caller]
pub(crate) fn wait(fake: &FakeApi, server: &Server, limit: Duration) {
    let mut wrong = None;
    let right = try_poll(limit, || {
        wrong = first_wrong(fake, server);
        wrong.is_none().then_some(())
    });
    assert!(right.is_some(), "still wrong after {limit:?}: {wrong:?}\n{}", server.log());
}

#[track_caller]
pub(crate) fn check_now(fake: &FakeApi, server: &Server) {
    let wrong = first_wrong(fake, server);
    assert!(wrong.is_none(), "{wrong:?}");
}

/// The first wrong answer.
fn first_wrong(fake: &FakeApi, server: &Server) -> Option<String> {
    expected(fake).into_iter().find_map(|(labels, addresses)| {
        let answer = server.answer(&question(&labels));
        let found: BTreeSet<String> =
            answer.data_of(Rtype::A).into_iter().map(str::to_owned).collect();
        let rcode = if addresses.is_empty() { "NXDOMAIN" } else { "NOERROR" };
        (found != addresses || answer.rcode != rcode)
            .then(|| format!("{labels}: expected {addresses:?}, found {} {found:?}", answer.rcode))
    })
}

/// The addresses of each name; none: it does not exist.
fn expected(fake: &FakeApi) -> BTreeMap<String, BTreeSet<String>> {
    let objects = fake.objects();
    let namespaces: BTreeSet<String> = objects
        .iter()
        .filter(|object| matches!(object, FakeObject::Namespace(_)))
        .map(|object| object.key().1)
        .collect();
    let mut endpoints: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for object in &objects {
        if let FakeObject::Slice(slice) = object {
            let service = &slice.metadata.labels["kubernetes.io/service-name"];
            let key = (slice.metadata.namespace.clone(), service.clone());
            let addresses = slice.endpoints.iter().flat_map(|endpoint| endpoint.addresses.clone());
            endpoints.entry(key).or_default().extend(addresses);
        }
    }
    let mut all: BTreeMap<String, BTreeSet<String>> =
        OTHERS.iter().map(|name| ((*name).to_owned(), BTreeSet::new())).collect();
    for object in &objects {
        let FakeObject::Service(service) = object else { continue };
        let (namespace, name) = object.key();
        let addresses = match &*service.spec.cluster_ip {
            "None" => endpoints.remove(&(namespace.clone(), name.clone())).unwrap_or_default(),
            address => BTreeSet::from([address.to_owned()]),
        };
        let is_shown = namespaces.contains(&namespace);
        all.insert(
            format!("{name}.{namespace}"),
            if is_shown { addresses } else { BTreeSet::new() },
        );
    }
    all
}
