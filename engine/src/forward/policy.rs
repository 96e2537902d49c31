//! The order in which one question tries the upstreams.
//!
//! Pure: states, turn and dice are arguments. Invariant: an `Order` ends. It holds no upstream that
//! is down or loops, and each of the others at most twice; a single upstream may add one repeat.

use super::health::UpstreamState;
use crate::forward::options::Policy;
use crate::limits::FORWARD_TRIES_MAX;

/// The tries of one question.
#[derive(Debug)]
pub(super) struct Order {
    /// Indices: healthy upstreams first, then suspect ones, each group ordered by the policy.
    upstreams: Vec<usize>,
    healthy_count: usize,
    tried_count: usize,
    tries_max: usize,
    /// Tries without a response that are still allowed. One in flight is taken from them.
    failures_left: usize,
    /// A single upstream may be queried twice at once, in one of its tries.
    may_repeat: bool,
}

impl Order {
    /// `states`: by upstream. `turn` counts questions. `dice(n)` returns a number in 0..n.
    /// `failures_max`: tries without a response; 0 means no bound but ours.
    pub(super) fn new(
        policy: Policy,
        states: &[UpstreamState],
        turn: usize,
        mut dice: impl FnMut(usize) -> usize,
        failures_max: usize,
    ) -> Self {
        let mut upstreams: Vec<usize> = (0..states.len()).collect();
        match policy {
            Policy::Sequential => {}
            Policy::RoundRobin => upstreams.rotate_left(turn % states.len().max(1)),
            Policy::Random => {
                for at in (1..upstreams.len()).rev() {
                    upstreams.swap(at, dice(at + 1));
                }
            }
        }
        upstreams.retain(|index| {
            matches!(states[*index], UpstreamState::Healthy | UpstreamState::Suspect)
        });
        upstreams.sort_by_key(|index| states[*index] != UpstreamState::Healthy);
        let healthy_count =
            upstreams.iter().filter(|index| states[**index] == UpstreamState::Healthy).count();
        // Each once, or twice as long as the total stays within FORWARD_TRIES_MAX.
        let tries_max = upstreams.len().max(FORWARD_TRIES_MAX.min(2 * upstreams.len()));
        let failures_left = if failures_max == 0 { tries_max } else { failures_max };
        let may_repeat = upstreams.len() == 1 && failures_left > 1;
        Self { upstreams, healthy_count, tried_count: 0, tries_max, failures_left, may_repeat }
    }

    /// One try, at one upstream.
    pub(super) fn only(index: usize) -> Self {
        Self {
            upstreams: vec![index],
            healthy_count: 0,
            tried_count: 0,
            tries_max: 1,
            failures_left: 1,
            may_repeat: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.upstreams.is_empty()
    }

    /// The next upstream to try.
    pub(super) fn next(&mut self) -> Option<usize> {
        if self.tried_count == self.tries_max || self.failures_left == 0 {
            return None;
        }
        let index = *self.upstreams.get(self.tried_count % self.upstreams.len().max(1))?;
        self.tried_count += 1;
        self.failures_left -= 1;
        Some(index)
    }

    /// A try had a response, even if that fails over to the next upstream.
    pub(super) fn responded(&mut self) {
        self.failures_left += 1;
    }

    /// Whether `next` would return a healthy upstream that was not tried yet: worth a hedge.
    pub(super) fn has_healthy_untried(&self) -> bool {
        self.tried_count < self.healthy_count && self.failures_left > 0
    }

    /// Whether a single upstream may be queried again within the current try; true at most once.
    pub(super) fn repeat(&mut self) -> bool {
        std::mem::take(&mut self.may_repeat)
    }

    /// Whether there is an upstream that was not tried yet.
    pub(super) fn has_untried(&self) -> bool {
        self.tried_count < self.upstreams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::UpstreamState::{Down, Healthy, Loops, Suspect};
    use super::*;

    fn check(
        policy: Policy,
        states: &[UpstreamState],
        turn: usize,
        failures_max: usize,
        tries: &[usize],
    ) {
        let mut order = Order::new(policy, states, turn, |count| count - 1, failures_max);
        let tried: Vec<usize> = std::iter::from_fn(|| order.next()).collect();
        assert_eq!(tried, tries, "{policy:?} {states:?} {turn} {failures_max}");
    }

    #[test]
    fn orders() {
        let well = [Healthy; 3];
        check(Policy::Sequential, &well, 5, 0, &[0, 1, 2, 0]);
        check(Policy::RoundRobin, &well, 0, 0, &[0, 1, 2, 0]);
        check(Policy::RoundRobin, &well, 5, 0, &[2, 0, 1, 2]);
        check(Policy::Sequential, &[Healthy], 0, 0, &[0, 0]);
        check(Policy::Sequential, &[Healthy; 6], 0, 0, &[0, 1, 2, 3, 4, 5]);
        check(Policy::Sequential, &well, 0, 1, &[0]);
        check(Policy::Sequential, &well, 0, 100, &[0, 1, 2, 0]);
        check(Policy::Sequential, &[Suspect, Healthy, Down], 0, 0, &[1, 0, 1, 0]);
        check(Policy::RoundRobin, &[Suspect, Healthy, Loops, Healthy], 3, 0, &[3, 1, 0, 3]);
        check(Policy::Sequential, &[Down, Loops], 0, 0, &[]);
        check(Policy::RoundRobin, &[], 1, 0, &[]);
    }

    #[test]
    fn an_only_upstream_may_be_repeated_within_one_try() {
        let check = |states: &[UpstreamState], failures_max, expected| {
            let mut order = Order::new(Policy::Sequential, states, 0, |_| 0, failures_max);
            order.next();
            assert_eq!([order.repeat(), order.repeat()], expected, "{states:?} {failures_max}");
        };
        check(&[Healthy], 0, [true, false]);
        check(&[Down, Suspect], 2, [true, false]);
        check(&[Healthy], 1, [false, false]);
        check(&[Healthy, Suspect], 0, [false, false]);
        assert!(!Order::only(0).repeat());
    }

    #[test]
    fn a_response_is_no_failure() {
        let mut order = Order::new(Policy::Sequential, &[Healthy; 6], 0, |_| 0, 2);
        for index in 0..4 {
            assert_eq!(order.next(), Some(index));
            order.responded();
        }
        // A hedge is a second try in flight.
        assert_eq!((order.next(), order.has_healthy_untried()), (Some(4), true));
        assert_eq!((order.next(), order.next()), (Some(5), None));
        order.responded();
        assert_eq!((order.has_untried(), order.next()), (false, None), "each was tried");

        let mut order = Order::new(Policy::Sequential, &[Healthy; 2], 0, |_| 0, 1);
        assert_eq!((order.next(), order.has_healthy_untried()), (Some(0), false));
        order.responded();
        assert_eq!((order.next(), order.next()), (Some(1), None));
    }

    #[test]
    fn random_orders_are_equally_likely() {
        let mut seed = 7_u64;
        let mut dice = |count: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
            (seed >> 33) as usize % count
        };
        let mut counts = std::collections::BTreeMap::<Vec<usize>, u32>::new();
        for _ in 0..6000 {
            let order = Order::new(Policy::Random, &[Healthy; 3], 0, &mut dice, 0);
            *counts.entry(order.upstreams).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_hedge_goes_to_a_healthy_upstream_that_was_not_tried() {
        let mut order = Order::new(Policy::Sequential, &[Healthy, Suspect, Healthy], 0, |_| 0, 0);
        assert_eq!((order.next(), order.has_healthy_untried()), (Some(0), true));
        assert_eq!((order.next(), order.has_healthy_untried()), (Some(2), false));
        assert_eq!(
            (order.has_untried(), order.next(), order.has_untried()),
            (true, Some(1), false)
        );
    }
}
