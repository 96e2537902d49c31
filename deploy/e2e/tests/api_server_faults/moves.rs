//! An endpoint that moves between two slices of its Service is never missing in between.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use domain::base::iana::Rtype;
use e2e::fake_api::object::{FakeObject, service, slice};

use crate::expect::{question, wait};
use crate::{RIGHT_LIMIT, cluster, start};

/// How long endpoints move.
const MOVE_TIME: Duration = Duration::from_secs(3);

/// Sometimes both changes come in one piece, sometimes one by one.
#[test]
fn an_endpoint_moves_between_slices() {
    let fake = cluster();
    let server = start(&fake);
    let [stays, moves] = [1, 2].map(|last| Ipv4Addr::new(10, 4, 0, last));
    let first = |with: bool| -> FakeObject {
        let all = [stays, moves];
        slice("a", "home", "moving", &all[..1 + usize::from(with)]).into()
    };
    let second = |with: bool| -> FakeObject {
        slice("a", "other", "moving", &[moves][..usize::from(with)]).into()
    };
    fake.put_all([service("a", "moving", None).into(), first(true), second(false)]);
    wait(&fake, &server, RIGHT_LIMIT);
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let names = [
                question("moving.a"),
                question("10-4-0-2.moving.a"),
                question("10-4-0-1.moving.a"),
            ];
            let mut count = 0;
            while !ends.load(Ordering::Relaxed) {
                for name in &names {
                    let answer = server.answer(name);
                    let addresses = answer.data_of(Rtype::A).len();
                    let expected = if name.name.starts_with("moving") { 2 } else { 1 };
                    assert_eq!(addresses, expected, "{name} after {count} answers: {answer:?}");
                    count += 1;
                }
            }
            count
        });
        let began = Instant::now();
        let mut move_count = 0;
        while began.elapsed() < MOVE_TIME && !asking.is_finished() {
            // It is in both slices in between: the controller adds before it removes.
            let steps = [[second(true), first(false)], [first(true), second(false)]];
            for [add, remove] in steps {
                if move_count % 3 == 0 {
                    fake.put_all([add, remove]);
                } else {
                    fake.put(add);
                    fake.put(remove);
                }
                move_count += 1;
                std::thread::sleep(Duration::from_millis(move_count % 4));
            }
        }
        ends.store(true, Ordering::Relaxed);
        let count = asking.join().expect("right answers");
        e2e::say::say(&format!("{count} answers while an endpoint moved {move_count} times"));
    });
    wait(&fake, &server, RIGHT_LIMIT);
}

/// The change that removes it comes first, but in the same piece: a burst is one table.
#[test]
fn an_endpoint_moves_within_one_piece() {
    let fake = cluster();
    let server = start(&fake);
    let moves = Ipv4Addr::new(10, 4, 1, 1);
    let with = |name: &str, has: bool| -> FakeObject {
        slice("a", name, "moving", &[moves][..usize::from(has)]).into()
    };
    fake.put_all([service("a", "moving", None).into(), with("home", true), with("other", false)]);
    wait(&fake, &server, RIGHT_LIMIT);
    for _ in 0..20 {
        fake.put_all([with("home", false), with("other", true)]);
        wait(&fake, &server, RIGHT_LIMIT);
        fake.put_all([with("other", false), with("home", true)]);
        wait(&fake, &server, RIGHT_LIMIT);
    }
}
