//! Numbers of Services. What answers are made of is checked in `tests/history`.

use super::*;

fn cluster() -> Cluster {
    Cluster::new(Arc::new(Options::of_tests()))
}

fn key(name: &str) -> ObjectKey {
    ObjectKey { namespace: "shop".into(), name: name.into() }
}

fn slice(service: &str) -> object::EndpointSlice {
    object::EndpointSlice {
        key: key(service),
        service: service.into(),
        endpoints: Box::default(),
        hosts: Box::default(),
        ports: Box::default(),
        triggered: None,
    }
}

#[test]
fn numbers_of_services_are_freed_after_a_list_of_slices_broke_off() {
    let mut cluster = cluster();
    let is_numbered =
        |cluster: &Cluster, name| cluster.services.find((&key(name)).into()).is_some();
    for event in [Change::Init, Change::InitDone, Change::Init, Change::InitApply(slice("new"))] {
        cluster.apply(Event::EndpointSlice(event));
    }
    let kind = ServiceKind::Headless;
    let (ports, external) = (Box::default(), Box::default());
    let service = object::Service { key: key("old"), kind, ports, external };
    cluster.apply(Event::Service(Change::Apply(service)));
    cluster.apply(Event::Service(Change::Delete(key("old"))));
    cluster.take_dirty();
    assert!(is_numbered(&cluster, "new"), "the list may be completed");
    cluster.apply(Event::EndpointSlice(Change::InitDropped));
    cluster.take_dirty();
    assert!(!is_numbered(&cluster, "new") && !is_numbered(&cluster, "old"));
}
