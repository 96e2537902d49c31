//! What many pods add to the memory with `pods verified`.

use std::time::{Duration, Instant};

use e2e::corefile::Corefile;
use e2e::deadline::poll;

use crate::scene::{KINDS, SETTLED, Scene};
use crate::table::{Row, median_and_ends};
use crate::world::{POD_NAMESPACE, pod, pod_name, pod_question, pod_status};

/// How long the last pod may take to be answered.
const LAST_LIMIT: Duration = Duration::from_secs(60);

/// Pods made between two lines of progress.
const PROGRESS: usize = 5_000;

pub(crate) fn measure(scene: &Scene, pod_count: usize, rounds: usize) -> Vec<Row> {
    let corefile = Corefile::new(scene.corefile.text().replace("pods insecure", "pods verified"));
    let without = resident(scene, &corefile, rounds, 0);
    make(scene, pod_count);
    let with = resident(scene, &corefile, rounds, pod_count);
    let more = [0, 1].map(|kind| {
        let median = |kib: &[Vec<u64>; 2]| {
            let [median, ..] = median_and_ends(kib[kind].iter().map(|kib| *kib as f64).collect());
            median / 1_024.0
        };
        format!("+{:.0} MiB", median(&with) - median(&without))
    });
    vec![
        Row::mebibytes("resident with `pods verified`, no pods", without),
        Row::mebibytes(format!("the same with {pod_count} pods"), with),
        Row::new("the pods alone", more),
    ]
}

/// Settled memory of new servers, in KiB.
fn resident(scene: &Scene, corefile: &Corefile, rounds: usize, pod_count: usize) -> [Vec<u64>; 2] {
    let mut all: [Vec<u64>; 2] = [Vec::new(), Vec::new()];
    for round in 1..=rounds {
        for (kind, of_kind) in KINDS.into_iter().zip(&mut all) {
            let (server, _) = scene.launch(kind, corefile);
            if let Some(last) = pod_count.checked_sub(1) {
                let (question, address) = pod_question(last);
                poll(LAST_LIMIT, "the last pod", || {
                    let answer = server.answer(&question);
                    (answer.data_of(question.rtype) == [&address]).then_some(())
                });
            }
            std::thread::sleep(SETTLED);
            of_kind.push(server.resident_kib());
            println!("{pod_count} pods {round}: {kind:?} {} KiB", server.resident_kib());
        }
    }
    all
}

/// Creates running pods. Two requests each: only a second one may set the status.
fn make(scene: &Scene, pod_count: usize) {
    let began = Instant::now();
    let objects = scene.cluster.objects();
    for from in (0..pod_count).step_by(PROGRESS) {
        let batch = from..pod_count.min(from + PROGRESS);
        objects.create_all(batch.clone().map(pod));
        objects.patch_status_of_all(
            "Pod",
            batch
                .clone()
                .map(|index| (POD_NAMESPACE.to_owned(), pod_name(index), pod_status(index))),
        );
        println!("{} of {pod_count} pods made in {:.1?}", batch.end, began.elapsed());
    }
}
