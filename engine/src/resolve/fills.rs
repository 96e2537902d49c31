//! Upstream responses that one shard passes to the caches of the others: a bounded channel into
//! each shard, which reads it before its next batch.
//!
//! An idle shard may read hours later, so each response carries the time when it was received. A
//! full channel drops its oldest response: the newest has the most of its TTL left.
//! Invariant: no shard ever waits for another here.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use wire::response::Response;

use crate::limits::{FILL_TRIES_MAX, FILLS_WAITING_MAX};
use crate::plan::CachePlan;
use crate::question::OwnedQuestion;

/// One upstream's response, for the caches of other shards.
#[derive(Clone)]
pub struct Fill {
    pub(crate) cache: Arc<CachePlan>,
    pub(crate) question: Arc<OwnedQuestion>,
    pub(crate) response: Arc<Response>,
    /// When the querying shard received it.
    pub(crate) received: Instant,
}

/// One shard's ends of all these channels. A clone is for the thread that takes the shard's place.
#[derive(Clone)]
pub struct Fills {
    from_others: Receiver<Fill>,
    to_others: Vec<OtherShard>,
}

/// The channel into another shard. The receiver is for dropping the oldest response.
#[derive(Clone)]
struct OtherShard {
    sender: Sender<Fill>,
    oldest: Receiver<Fill>,
}

impl Fills {
    /// The ends of each of `shard_count` shards, by index.
    #[must_use]
    pub fn between(shard_count: usize) -> Vec<Self> {
        let channels = (0..shard_count).map(|_| bounded(FILLS_WAITING_MAX));
        let channels: Vec<OtherShard> =
            channels.map(|(sender, oldest)| OtherShard { sender, oldest }).collect();
        let ends_of = |(index, own): (usize, &OtherShard)| {
            let others = channels.iter().enumerate().filter(|(other, _)| *other != index);
            Self {
                from_others: own.oldest.clone(),
                to_others: others.map(|(_, other)| other.clone()).collect(),
            }
        };
        channels.iter().enumerate().map(ends_of).collect()
    }

    pub(crate) fn publish(&self, fill: &Fill) {
        for other in &self.to_others {
            other.offer(fill.clone());
        }
    }

    /// The responses that have arrived, oldest first.
    pub(crate) fn received(&self) -> impl Iterator<Item = Fill> {
        self.from_others.try_iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.from_others.is_empty()
    }
}

impl OtherShard {
    /// Gives up if other shards keep taking the room that was made: that shard will query upstreams
    /// itself.
    fn offer(&self, mut fill: Fill) {
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
        let build = Build::default();
        let labels = LabelSet { server: String::new(), zone: String::new(), view: String::new() };
        let metrics = Metrics::new(build, 2).cache(&labels, ".");
        Arc::new(CachePlan { settings, metrics })
    }

    /// Shard 0 gets SERVFAIL for `COUNT` names, one per millisecond, while the others sleep; then
    /// they wake. A failure is cached for five seconds.
    #[test]
    fn an_idle_shard_learns_the_newest_and_nothing_expired() {
        const COUNT: usize = 6000;
        let began = Instant::now();
        let plan = cache_plan();
        let shards = Fills::between(3);
        let name = |index: usize| [&[4][..], format!("{index:04}").as_bytes(), &[0]].concat();
        let response = Arc::new(Response::server_failure());
        for index in 0..COUNT {
            shards[0].publish(&Fill {
                cache: Arc::clone(&plan),
                question: Arc::new(OwnedQuestion::new(&name(index), 1)),
                response: Arc::clone(&response),
                received: began + Duration::from_millis(index as u64),
            });
        }
        assert!(shards[0].is_empty(), "no shard sends to itself");
        let now = began + Duration::from_millis(10_500);
        for idle in &shards[1..] {
            let mut cache = Cache::new(&plan.settings, 7);
            let mut received = BTreeSet::new();
            for fill in idle.received() {
                received.insert(fill.question.key().name.to_vec());
                let times = Times { received: fill.received, now, unix_secs: 0 };
                cache.learn(&fill.question.key(), &fill.response, times);
            }
            let newest: BTreeSet<_> = (COUNT - FILLS_WAITING_MAX..COUNT).map(name).collect();
            assert_eq!(received, newest);
            for index in COUNT - FILLS_WAITING_MAX..COUNT {
                let question = OwnedQuestion::new(&name(index), 1);
                let is_known = matches!(cache.look_up(&question.key(), now), LookUp::Hit { .. });
                assert_eq!(is_known, index > 5500, "{index}");
            }
        }
    }
}
