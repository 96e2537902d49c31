//! Changes that nobody waits for, at a steady rate, and those of the real API server: endpoints of
//! Services with a cluster address.
//!
//! None of them is a Service whose changes are measured: those are headless.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::scene::Scene;
use crate::world::{endpoints, namespace_of, service_name};

/// Clients that change objects at the same time: one waits for the API server after each change.
const CLIENT_COUNT: u32 = 4;

/// Runs `measure` while `rate` slices per second change. Also returns how many did.
pub(crate) fn while_stirring<T>(scene: &Scene, rate: u32, measure: impl FnOnce() -> T) -> (T, f64) {
    while_changing(CLIENT_COUNT, rate, |number| change(scene, number), measure)
}

/// Runs `measure` while so many threads call `change` with 0, 1, 2, …, `rate` times per second.
/// Also returns how many times per second they did.
pub(crate) fn while_changing<T>(
    thread_count: u32,
    rate: u32,
    change: impl Fn(u32) + Sync,
    measure: impl FnOnce() -> T,
) -> (T, f64) {
    let (ends, next, done) = (AtomicBool::new(false), AtomicU32::new(0), AtomicU32::new(0));
    let began = Instant::now();
    let stir = || {
        while !ends.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let due = began + Duration::from_secs(1) * number / rate;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            change(number);
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        (0..thread_count).for_each(|_| drop(scope.spawn(stir)));
        let measured = measure();
        ends.store(true, Ordering::Relaxed);
        let done = done.load(Ordering::Relaxed);
        (measured, f64::from(done) / began.elapsed().as_secs_f64())
    })
}

/// Gives a slice another first endpoint, or its own one again.
fn change(scene: &Scene, number: u32) {
    let with_address = scene.service_count / 5 * 4;
    let turn = number as usize / with_address;
    let place = number as usize % with_address;
    let index = place / 4 * 5 + 1 + place % 4;
    let mut endpoints = endpoints(index);
    if turn.is_multiple_of(2) {
        let [c, d] = (index as u16).to_be_bytes();
        endpoints[0]["addresses"] = json!([format!("10.251.{c}.{d}")]);
    }
    let patch = json!({ "endpoints": endpoints });
    scene.cluster.objects().patch(
        "EndpointSlice",
        &namespace_of(index),
        &service_name(index),
        patch,
    );
}
