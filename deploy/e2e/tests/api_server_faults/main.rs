//! An API server that fails, in front of the real program: after each fault the answers are again
//! those of the objects, and meanwhile they are those that were known.

mod expect;
mod moves;

use std::net::Ipv4Addr;
use std::time::Duration;

use e2e::corefile::{Corefile, STOCK};
use e2e::deadline::poll;
use e2e::fake_api::FakeApi;
use e2e::fake_api::fault::{Fault, Habit};
use e2e::fake_api::object::{
    FakeObject, Resource, namespace, service, slice, terminating_namespace,
};
use e2e::server::{Kind, Server};
use e2e::tools::Tools;

use expect::{check_now, wait};

/// How long it may take until the answers are right again: pauses between failed lists grow to
/// several seconds, and a silent watch is suspicious after 24 s.
const RIGHT_LIMIT: Duration = Duration::from_secs(60);

const SERVICE_COUNT: u8 = 30;

/// Starts the fake with a small cluster.
fn cluster() -> FakeApi {
    let fake = FakeApi::start();
    let mut objects: Vec<FakeObject> = vec![namespace("a").into(), namespace("b").into()];
    for index in 0..SERVICE_COUNT {
        let of = if index % 2 == 0 { "a" } else { "b" };
        let name = format!("s{index}");
        let address = (index % 3 != 0).then(|| Ipv4Addr::new(10, 96, 1, index));
        objects.push(service(of, &name, address).into());
        let endpoints = [1, 2].map(|last| Ipv4Addr::new(10, 1, index, last));
        objects.push(slice(of, &format!("{name}-x"), &name, &endpoints).into());
    }
    fake.put_all(objects);
    fake
}

fn start(fake: &FakeApi) -> Server {
    let corefile = Corefile::new(STOCK).with_kubeconfig(&fake.kubeconfig());
    let kind = Kind::subject();
    let tools = (kind == Kind::CoreDns).then(|| Tools::find("api_server_faults")).flatten();
    Server::start(kind, &corefile, tools.as_ref())
}

/// Some changes of every sort. `round` makes them differ.
fn change(fake: &FakeApi, round: u8) {
    let address = |last| Ipv4Addr::new(10, 2, round, last);
    fake.put_all([
        service("a", &format!("new{round}"), Some(Ipv4Addr::new(10, 96, 2, round))).into(),
        service("b", "s1", Some(Ipv4Addr::new(10, 96, 3, round))).into(),
        service("b", &format!("headless{round}"), None).into(),
        slice("b", &format!("h{round}"), &format!("headless{round}"), &[address(1), address(2)])
            .into(),
        slice("a", "s0-x", "s0", &[address(3), address(4), address(5)]).into(),
        slice("b", "s3-x", "s3", &[address(6)]).into(),
    ]);
    fake.delete(Resource::Services, "a", &format!("s{}", 2 * round + 4));
    fake.delete(Resource::Slices, "b", &format!("s{}-x", 2 * round + 5));
    fake.put(namespace(&format!("n{round}")));
}

fn inject(fake: &FakeApi, fault: Fault, count: usize) {
    for resource in [Resource::Namespaces, Resource::Services, Resource::Slices] {
        fake.inject(resource, fault, count);
    }
}

fn wait_for_faults(fake: &FakeApi) {
    poll(RIGHT_LIMIT, "the faults to happen", || (fake.faults_left() == 0).then_some(()));
}

#[test]
fn no_fault() {
    let fake = cluster();
    let server = start(&fake);
    check_now(&fake, &server);
    for round in 1..5 {
        change(&fake, round);
        wait(&fake, &server, RIGHT_LIMIT);
    }
}

#[test]
fn gone_in_a_watch() {
    let fake = cluster();
    let server = start(&fake);
    let lists = || fake.list_count(Resource::Services);
    let before = lists();
    inject(&fake, Fault::GoneInWatch, 2);
    change(&fake, 1);
    wait_for_faults(&fake);
    change(&fake, 2);
    wait(&fake, &server, RIGHT_LIMIT);
    // Each 410 needs a list, and no more than that.
    assert!((1..=4).contains(&(lists() - before)), "{} lists", lists() - before);
}

#[test]
fn gone_as_a_status() {
    let fake = cluster();
    let server = start(&fake);
    inject(&fake, Fault::GoneAsStatus, 2);
    fake.cut();
    wait_for_faults(&fake);
    change(&fake, 1);
    wait(&fake, &server, RIGHT_LIMIT);
}

#[test]
fn gone_after_a_compaction() {
    let fake = cluster();
    let server = start(&fake);
    fake.adopt(Habit::IsDown);
    fake.cut();
    change(&fake, 1);
    fake.compact();
    check_known(&fake, &server);
    fake.drop_habit(Habit::IsDown);
    wait(&fake, &server, RIGHT_LIMIT);
}

/// During an outage the old answers go on.
fn check_known(_: &FakeApi, server: &Server) {
    for name in ["s4", "s10"] {
        let answer = server.answer(&expect::question(&format!("{name}.a")));
        assert_eq!(answer.rcode, "NOERROR", "{name}: {answer:?}");
    }
}

#[test]
fn gone_while_paging() {
    let fake = cluster();
    // More than one page of any size.
    let many = (0..2_500).map(|index: u16| {
        let address = Ipv4Addr::new(10, 97, (index >> 8) as u8, index as u8);
        service("a", &format!("many-{index}"), Some(address)).into()
    });
    fake.put_all(many);
    let server = start(&fake);
    wait(&fake, &server, RIGHT_LIMIT);
    // ringdns asks for pages after a list that failed.
    fake.inject(Resource::Services, Fault::Fail, 1);
    fake.inject(Resource::Services, Fault::GoneWhilePaging, 1);
    inject(&fake, Fault::GoneInWatch, 1);
    change(&fake, 1);
    if server.kind() == Kind::Ringdns {
        wait_for_faults(&fake);
    }
    wait(&fake, &server, RIGHT_LIMIT);
}

#[test]
fn lists_that_break_off() {
    survives_a_list(Fault::CutList, 3);
}

#[test]
fn lists_that_are_throttled() {
    survives_a_list(Fault::Throttle, 2);
}

#[test]
fn lists_that_fail() {
    survives_a_list(Fault::Fail, 3);
}

/// The fault happens at start-up and again when everything is listed anew.
fn survives_a_list(fault: Fault, count: usize) {
    let fake = cluster();
    inject(&fake, fault, count);
    let server = start(&fake);
    wait_for_faults(&fake);
    wait(&fake, &server, RIGHT_LIMIT);
    inject(&fake, fault, count);
    inject(&fake, Fault::GoneInWatch, 1);
    change(&fake, 1);
    wait_for_faults(&fake);
    wait(&fake, &server, RIGHT_LIMIT);
}

#[test]
fn repeated_events() {
    survives_changes(Fault::Repeat);
}

#[test]
fn events_in_the_wrong_order() {
    survives_changes(Fault::Swap);
}

/// The fault happens to changes of Services and slices.
fn survives_changes(fault: Fault) {
    let fake = cluster();
    let server = start(&fake);
    fake.inject(Resource::Services, fault, 2);
    fake.inject(Resource::Slices, fault, 2);
    (1..4).for_each(|round| change(&fake, round));
    wait_for_faults(&fake);
    wait(&fake, &server, RIGHT_LIMIT);
}

/// Only a list can find them. Nothing asks for one soon, so a 410 does.
#[test]
fn lost_events_are_found_by_the_next_list() {
    let fake = cluster();
    let server = start(&fake);
    fake.inject(Resource::Services, Fault::Lose, 4);
    fake.inject(Resource::Slices, Fault::Lose, 4);
    change(&fake, 1);
    wait_for_faults(&fake);
    inject(&fake, Fault::GoneInWatch, 1);
    wait(&fake, &server, RIGHT_LIMIT);
}

#[test]
fn no_bookmarks() {
    let fake = cluster();
    fake.adopt(Habit::SendsNoBookmarks);
    let server = start(&fake);
    change(&fake, 1);
    wait(&fake, &server, RIGHT_LIMIT);
    fake.cut();
    change(&fake, 2);
    wait(&fake, &server, RIGHT_LIMIT);
}

#[test]
fn a_byte_at_a_time() {
    let fake = cluster();
    let server = start(&fake);
    fake.adopt(Habit::IsSlow);
    change(&fake, 1);
    wait(&fake, &server, RIGHT_LIMIT);
    fake.drop_habit(Habit::IsSlow);
    change(&fake, 2);
    wait(&fake, &server, RIGHT_LIMIT);
}

/// One of several API servers lags behind, and the list that replaces a watch that cannot be
/// resumed comes from it. Answers never go back to what they were, and are right again.
#[test]
fn a_list_from_a_server_that_lags_behind() {
    let fake = cluster();
    fake.lag();
    let server = start(&fake);
    // The watches are ahead of the lists.
    change(&fake, 1);
    wait(&fake, &server, RIGHT_LIMIT);
    let before = fake.list_count(Resource::Services);
    inject(&fake, Fault::Fail, 3);
    fake.cut();
    wait_for_faults(&fake);
    let listed = || fake.list_count(Resource::Services) > before;
    poll(RIGHT_LIMIT, "another list", || {
        check_now(&fake, &server);
        listed().then_some(())
    });
    assert!(fake.too_large_count() > 0 || server.kind() == Kind::CoreDns);
    change(&fake, 2);
    wait(&fake, &server, RIGHT_LIMIT);
}

#[test]
fn connections_that_are_half_open() {
    let fake = cluster();
    let server = start(&fake);
    fake.freeze();
    change(&fake, 1);
    check_known(&fake, &server);
    wait(&fake, &server, RIGHT_LIMIT);
}

/// A watch resumes where it was: nothing is listed again.
#[test]
fn connections_that_are_cut() {
    let fake = cluster();
    let server = start(&fake);
    let lists = || Resource::ALL.map(|resource| fake.list_count(resource));
    let before = lists();
    for round in 1..4 {
        fake.cut();
        change(&fake, round);
        wait(&fake, &server, RIGHT_LIMIT);
    }
    if server.kind() == Kind::Ringdns {
        assert_eq!(lists(), before, "lists of {:?}", Resource::ALL);
    }
}

#[test]
fn a_service_made_again_under_the_same_name() {
    let fake = cluster();
    let server = start(&fake);
    let again = |last| service("b", "s1", Some(Ipv4Addr::new(10, 96, 9, last)));
    for last in 1..5 {
        fake.replace(again(last));
        wait(&fake, &server, RIGHT_LIMIT);
    }
    // From a cluster IP to headless and back.
    fake.replace(service("b", "s1", None));
    wait(&fake, &server, RIGHT_LIMIT);
    fake.replace(again(9));
    wait(&fake, &server, RIGHT_LIMIT);
    // While the connections are cut.
    fake.cut();
    fake.replace(again(10));
    wait(&fake, &server, RIGHT_LIMIT);
}

#[test]
fn slices_before_their_service_and_before_their_namespace() {
    let fake = cluster();
    let server = start(&fake);
    fake.put(slice("late", "early-x", "early", &[Ipv4Addr::new(10, 3, 0, 1)]));
    fake.put(service("late", "early", None));
    let other = Ipv4Addr::new(10, 3, 0, 2);
    fake.put(slice("a", "orphan-x", "orphan", &[other]));
    wait(&fake, &server, RIGHT_LIMIT);
    fake.put(namespace("late"));
    fake.put(service("a", "orphan", None));
    wait(&fake, &server, RIGHT_LIMIT);
}

/// Its Services are answered until they are deleted.
#[test]
fn a_terminating_namespace() {
    let fake = cluster();
    let server = start(&fake);
    fake.put(terminating_namespace("a"));
    fake.put(service("b", "mark", Some(Ipv4Addr::new(10, 96, 9, 1))));
    wait(&fake, &server, RIGHT_LIMIT);
    for object in fake.objects() {
        let (of, name) = object.key();
        if of == "a" {
            fake.delete(object.resource(), &of, &name);
        }
    }
    wait(&fake, &server, RIGHT_LIMIT);
    fake.delete(Resource::Namespaces, "", "a");
    wait(&fake, &server, RIGHT_LIMIT);
}
