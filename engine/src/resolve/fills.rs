//! What upstreams told one shard, on its way to the caches of the others: a bounded channel into each shard, read by that
//! shard before its next batch.
//!
//! An idle shard may read hours later, so each response carries the time when it was received. A full channel loses its
//! oldest response: the newest has the most of its TTL left. Invariant: nobody waits for anybody here.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use wire::response::Response;

use crate::limits::{FILL_TRIES_MAX, FILLS_WAITING_MAX};
use crate::plan::CachePlan;
use crate::resolve::Asked;

/// One upstream's response, for the caches of other shards.
#[derive(Clone)]
pub struct Fill {
    pub(crate) cache: Arc<CachePlan>,
    pub(crate) asked: Arc<Asked>,
    pub(crate) response: Arc<Response>,
    /// When the shard that asked had it.
    pub(crate) received: Instant,
}

/// A shard's ends of all these channels.
pub struct Fills {
    from_others: Receiver<Fill>,
    to_others: Vec<Other>,
}

/// The channel into another shard. Its reading end is for making room.
#[derive(Clone)]
struct Other {
    sender: Sender<Fill>,
    oldest: Receiver<Fill>,
}

impl Fills {
    /// The ends of so many shards, by index.
    #[must_use]
    pub fn between(shard_count: usize) -> Vec<Self> {
        let channels = (0..shard_count).map(|_| bounded(FILLS_WAITING_MAX));
        let channels: Vec<Other> =
            channels.map(|(sender, oldest)| Other { sender, oldest }).collect();
        let ends_of = |(index, own): (usize, &Other)| {
            let others = channels.iter().enumerate().filter(|(other, _)| *other != index);
            Self {
                from_others: own.oldest.clone(),
                to_others: others.map(|(_, other)| other.clone()).collect(),
            }
        };
        channels.iter().enumerate().map(ends_of).collect()
    }

    pub(crate) fn tell(&self, fill: &Fill) {
        for other in &self.to_others {
            other.take(fill.clone());
        }
    }

    /// What has come, oldest first.
    pub(crate) fn come(&self) -> impl Iterator<Item = Fill> {
        self.from_others.try_iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from_others.is_empty()
    }
}

impl Other {
    /// Where others take the room that was made, time and again, the response is lost: that shard asks for itself.
    fn take(&self, mut fill: Fill) {
        for _ in 0..FILL_TRIES_MAX {
            match self.sender.try_send(fill) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => return,
                Err(TrySendError::Full(back)) => {
                    fill = back;
                    let _ = self.oldest.try_recv();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;
    use crate::cache::settings::CacheSettings;
    use crate::cache::{Cache, LookUp, Times};
    use crate::corefile::value::zone::Zone;
    use crate::metrics::{Build, LabelSet, Metrics};

    fn cache_plan() -> Arc<CachePlan> {
        let settings = CacheSettings { zones: vec![Zone::root()], ..CacheSettings::default() };
        let build =
            Build { version: String::new(), revision: String::new(), compiler: String::new() };
        let labels = LabelSet { server: String::new(), zone: String::new(), view: String::new() };
        let metrics = Metrics::new(build, 2).cache(&labels, ".");
        Arc::new(CachePlan { settings, metrics })
    }

    /// Shard 0 is told SERVFAIL of so many names, one a millisecond, while the others sleep; then they wake. A failure is kept for
    /// five seconds.
    #[test]
    fn an_idle_shard_learns_the_newest_and_nothing_expired() {
        const COUNT: usize = 6000;
        let began = Instant::now();
        let plan = cache_plan();
        let shards = Fills::between(3);
        let name = |index: usize| [&[4][..], format!("{index:04}").as_bytes(), &[0]].concat();
        let response = Arc::new(Response::server_failure());
        for index in 0..COUNT {
            shards[0].tell(&Fill {
                cache: Arc::clone(&plan),
                asked: Arc::new(Asked::of(&name(index), 1)),
                response: Arc::clone(&response),
                received: began + Duration::from_millis(index as u64),
            });
        }
        assert!(shards[0].is_empty(), "nobody tells itself");
        let now = began + Duration::from_millis(10_500);
        for idle in &shards[1..] {
            let mut cache = Cache::new(&plan.settings, 7);
            let mut come = BTreeSet::new();
            for fill in idle.come() {
                come.insert(fill.asked.key().name.to_vec());
                let times = Times { received: fill.received, now, unix_secs: 0 };
                cache.learn(&fill.asked.key(), &fill.response, times);
            }
            let newest: BTreeSet<_> = (COUNT - FILLS_WAITING_MAX..COUNT).map(name).collect();
            assert_eq!(come, newest);
            for index in COUNT - FILLS_WAITING_MAX..COUNT {
                let asked = Asked::of(&name(index), 1);
                let is_known = matches!(cache.look_up(&asked.key(), now), LookUp::Hit { .. });
                assert_eq!(is_known, index > 5500, "{index}");
            }
        }
    }
}
