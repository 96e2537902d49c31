//! The streams of the four kinds, with the faults of a real API server, and what a client knows.
//!
//! A stream lists, and reports changes, also while it lists. Events are lost, repeated, and arrive
//! late (an older state after a newer one); lists break off; endpoints move between slices; the
//! kinds overtake each other; and a snapshot of an older state comes before, in the middle of or
//! after the first list. What a client has received is the truth that its tables must show; the
//! next list repairs what it missed.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_sync::object::{Change, Event};

use crate::objects::{apply, delete};
use crate::random::Random;
use crate::world::object;

/// The objects of one kind as a client knows them, as lines, by identity.
pub(crate) type Objects = BTreeMap<String, String>;

/// The simple model of one kind.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) objects: Objects,
    listed: Option<Objects>,
    pub(crate) synced: bool,
}

/// One step of a kind's stream.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Init,
    List(String),
    InitDone,
    InitDropped,
    Apply(String),
    Delete(String),
    Remembered(Vec<String>),
}

/// The identity of the object of a line.
fn identity(line: &str) -> String {
    line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
}

impl Known {
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Init => self.listed = Some(Objects::new()),
            Step::List(line) => {
                let list = self.listed.as_mut().expect("Init comes before InitApply");
                list.insert(identity(line), line.clone());
            }
            Step::InitDone => {
                self.objects = self.listed.take().expect("Init comes before InitDone");
                self.synced = true;
            }
            Step::InitDropped => self.listed = None,
            Step::Apply(line) => {
                self.objects.insert(identity(line), line.clone());
            }
            Step::Delete(line) => {
                self.objects.remove(&identity(line));
                self.listed.iter_mut().for_each(|listed| drop(listed.remove(&identity(line))));
            }
            // It is older than everything else.
            Step::Remembered(_) if self.synced || !self.objects.is_empty() => {}
            Step::Remembered(lines) => {
                self.objects = lines.iter().map(|line| (identity(line), line.clone())).collect();
                self.synced = true;
            }
        }
    }
}

/// The step as an event of its kind.
pub(crate) fn event(kind: usize, step: &Step) -> Event {
    match step {
        Step::Init => match kind {
            0 => Event::Namespace(Change::Init),
            1 => Event::Service(Change::Init),
            2 => Event::EndpointSlice(Change::Init),
            _ => Event::Pod(Change::Init),
        },
        Step::InitDone => match kind {
            0 => Event::Namespace(Change::InitDone),
            1 => Event::Service(Change::InitDone),
            2 => Event::EndpointSlice(Change::InitDone),
            _ => Event::Pod(Change::InitDone),
        },
        Step::InitDropped => match kind {
            0 => Event::Namespace(Change::InitDropped),
            1 => Event::Service(Change::InitDropped),
            2 => Event::EndpointSlice(Change::InitDropped),
            _ => Event::Pod(Change::InitDropped),
        },
        Step::Apply(line) => apply(line),
        Step::Delete(line) => delete(line),
        Step::List(line) => match apply(line) {
            Event::Namespace(Change::Apply(one)) => Event::Namespace(Change::InitApply(one)),
            Event::Service(Change::Apply(one)) => Event::Service(Change::InitApply(one)),
            Event::EndpointSlice(Change::Apply(one)) => {
                Event::EndpointSlice(Change::InitApply(one))
            }
            Event::Pod(Change::Apply(one)) => Event::Pod(Change::InitApply(one)),
            other => panic!("not applied: {other:?}"),
        },
        Step::Remembered(lines) => remembered(kind, lines),
    }
}

/// A snapshot of one kind.
fn remembered(kind: usize, lines: &[String]) -> Event {
    match kind {
        0 => Event::Namespace(all(lines, |event| match event {
            Event::Namespace(change) => change,
            other => panic!("not a Namespace: {other:?}"),
        })),
        1 => Event::Service(all(lines, |event| match event {
            Event::Service(change) => change,
            other => panic!("not a Service: {other:?}"),
        })),
        2 => Event::EndpointSlice(all(lines, |event| match event {
            Event::EndpointSlice(change) => change,
            other => panic!("not an EndpointSlice: {other:?}"),
        })),
        _ => Event::Pod(all(lines, |event| match event {
            Event::Pod(change) => change,
            other => panic!("not a Pod: {other:?}"),
        })),
    }
}

fn all<T: Debug, K: Debug>(
    lines: &[String],
    of_kind: impl Fn(Event) -> Change<T, K>,
) -> Change<T, K> {
    let object = |line: &String| match of_kind(apply(line)) {
        Change::Apply(object) => object,
        other => panic!("not applied: {other:?}"),
    };
    Change::Remembered(lines.iter().map(object).collect())
}

/// The objects of one kind in the API server, and the events about them.
struct Server<'r> {
    random: &'r mut Random,
    kind: usize,
    truth: Objects,
    steps: Vec<Step>,
}

/// The streams of all kinds, interleaved. Each keeps its own order.
pub(crate) fn history(random: &mut Random) -> Vec<(usize, Step)> {
    let mut streams: Vec<_> =
        (0..4).map(|kind| stream(random, kind).into_iter().peekable()).collect();
    let mut mixed = Vec::new();
    while streams.iter_mut().any(|stream| stream.peek().is_some()) {
        let kind = random.below(4);
        // A kind keeps its turn for a while, so that both whole lists and single events pass.
        for _ in 0..1 + random.below(8) {
            mixed.extend(streams[kind].next().map(|step| (kind, step)));
        }
    }
    mixed
}

fn stream(random: &mut Random, kind: usize) -> Vec<Step> {
    let mut server = Server { random, kind, truth: Objects::new(), steps: Vec::new() };
    for _ in 0..server.random.below(6) {
        server.change();
    }
    let snapshot = Step::Remembered(server.truth.values().cloned().collect());
    for _ in 0..1 + server.random.below(3) {
        // These changes are missed, and found by the list.
        for _ in 0..server.random.below(5) {
            server.change();
        }
        server.list();
        for _ in 0..server.random.below(10) {
            let events = server.change();
            server.send(events);
        }
    }
    let mut steps = server.steps;
    if random.one_in(2) {
        let is_done = |step: &Step| matches!(step, Step::InitDone);
        let first_list = steps.iter().position(is_done).unwrap_or_default();
        steps.insert(random.below(first_list + 3).min(steps.len()), snapshot);
    }
    steps
}

impl Server<'_> {
    /// Changes an object, or moves an endpoint between two, and returns the events.
    fn change(&mut self) -> Vec<Step> {
        if self.kind == 2
            && self.random.one_in(4)
            && let Some(events) = self.move_endpoint()
        {
            return events;
        }
        if self.random.one_in(3) && !self.truth.is_empty() {
            let index = self.random.below(self.truth.len());
            let key = self.truth.keys().nth(index).unwrap().clone();
            let gone = Step::Delete(self.truth.remove(&key).unwrap());
            return match self.random.below(4) {
                // Deleted and made again under the same name.
                0 => {
                    let again = object(self.random, self.kind);
                    let [kind, _, rest] = split(&again);
                    let name = key.split_once(' ').unwrap().1;
                    let again = format!("{kind} {name} {rest}");
                    self.truth.insert(key, again.clone());
                    vec![gone, Step::Apply(again)]
                }
                _ => vec![gone],
            };
        }
        let line = object(self.random, self.kind);
        self.truth.insert(identity(&line), line.clone());
        vec![Step::Apply(line)]
    }

    /// Moves the first endpoint of a slice to another slice of its Service, which gets it before or
    /// after the first one loses it.
    fn move_endpoint(&mut self) -> Option<Vec<Step>> {
        let with_endpoint = |line: &&String| {
            line.split_whitespace().nth(3).is_some_and(|word| word.starts_with("10."))
        };
        let from = self.truth.values().find(with_endpoint)?.clone();
        let words: Vec<&str> = from.split_whitespace().collect();
        let [_, key, service, endpoint, rest @ ..] = words.as_slice() else { return None };
        let namespace = key.split_once('/')?.0;
        let without = format!("eps {key} {service} {}", rest.join(" "));
        let name = format!("eps {namespace}/e{}", self.random.below(4));
        if name == identity(&from) {
            return None;
        }
        let already = self.truth.get(&name).cloned().unwrap_or_default();
        let [_, _, more] = split(&already);
        let more = more.split_once(' ').map_or("", |(_, more)| more);
        let with = format!("{name} {service} {endpoint} {more}");
        self.truth.insert(name, with.clone());
        self.truth.insert(identity(&from), without.clone());
        let mut events = vec![Step::Apply(with), Step::Apply(without)];
        if self.random.one_in(2) {
            events.reverse();
        }
        Some(events)
    }

    /// A complete list, perhaps after one that breaks off.
    fn list(&mut self) {
        if self.random.one_in(4) {
            self.steps.push(Step::Init);
            let seen = self.random.below(3);
            self.steps.extend(self.truth.values().take(seen).cloned().map(Step::List));
            // The watch goes on for a while.
            if self.random.one_in(2) {
                self.steps.push(Step::InitDropped);
                for _ in 0..self.random.below(4) {
                    let events = self.change();
                    self.send(events);
                }
            }
        }
        self.steps.push(Step::Init);
        self.steps.extend(self.truth.values().cloned().map(Step::List));
        // Changes in the middle of a list. No API server sends them, but the consumer allows it.
        let changes = if self.random.one_in(3) { self.random.below(4) } else { 0 };
        for event in (0..changes).flat_map(|_| self.change()).collect::<Vec<_>>() {
            self.steps.push(match event {
                Step::Apply(line) => Step::List(line),
                other => other,
            });
        }
        self.steps.push(Step::InitDone);
    }

    /// Reports events: some are lost, some are repeated, and some come late.
    fn send(&mut self, events: Vec<Step>) {
        for event in events {
            match self.random.below(16) {
                0 => continue,
                1 | 2 => self.steps.push(event.clone()),
                3 => {
                    let before = self.random.below(3);
                    let changes = self
                        .steps
                        .iter()
                        .rev()
                        .filter(|step| matches!(step, Step::Apply(_) | Step::Delete(_)));
                    let late = changes.clone().nth(before).cloned();
                    self.steps.extend(late);
                }
                _ => {}
            }
            self.steps.push(event);
        }
    }
}

/// The first two words and the rest.
fn split(line: &str) -> [&str; 3] {
    let mut words = line.splitn(3, ' ');
    std::array::from_fn(|_| words.next().unwrap_or_default())
}
