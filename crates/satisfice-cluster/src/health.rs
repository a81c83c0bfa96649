//! Whether a node's answers lack what they can do without for now: another replica, or the pace of a peer.

use crate::{
    GroupState, Waits,
    group::Shared,
    hello::{Hello, call, hear},
    node::NodeStatus,
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// Longest wait for a node of another replica.
const ANSWER_MAX: Duration = Duration::from_millis(500);

/// For how long slow rounds are held against a peer.
const WINDOW: Duration = Duration::from_secs(30);

/// Slow rounds within the window that make a peer a slow one.
const SLOW_ROUNDS: u64 = 3;

/// What was seen at the last look.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Seen>);

#[derive(Debug, Clone, Default)]
struct Seen {
    /// Other replicas, and whether their groups are whole.
    replicas: BTreeMap<usize, bool>,
    /// The peer that is slow again and again, in words.
    slow: Option<String>,
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other replicas whose groups are whole.
    pub(crate) fn replicas_whole(&self) -> usize {
        self.lock()
            .replicas
            .values()
            .filter(|whole| **whole)
            .count()
    }

    /// How a node is whose own group is in `group`.
    pub(crate) fn state(&self, group: GroupState) -> GroupState {
        let seen = self.lock();
        let answers = seen.replicas.iter().find(|(_, whole)| **whole);
        let broken = seen.replicas.iter().find(|(_, whole)| !**whole);
        let why = match (&group, answers, broken) {
            (GroupState::Forming { why }, Some((replica, _)), _) => {
                format!("replica {replica} answers for its group: {why}")
            }
            (GroupState::Ready { .. }, _, Some((replica, _))) => {
                format!("replica {replica} is not whole")
            }
            (GroupState::Ready { .. }, ..) if seen.slow.is_some() => {
                seen.slow.clone().unwrap_or_default()
            }
            _ => return group,
        };
        GroupState::Degraded { why }
    }

    /// Looks once a second until the node stops.
    pub(crate) fn watch(shared: &Shared) {
        let mut slow = SlowPeers::default();
        let mut last: Option<Instant> = None;
        while !shared.stopped() {
            if last.is_some_and(|last| last.elapsed() < LOOK) {
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            let now = Instant::now();
            last = Some(now);
            let seen = Seen {
                replicas: shared
                    .others
                    .iter()
                    .map(|(&replica, addresses)| (replica, is_whole(shared, addresses)))
                    .collect(),
                slow: slow.look(now, &shared.counters.waits()),
            };
            *shared.health.lock() = seen;
        }
    }
}

/// Whether one of a replica's nodes says that its group is whole.
fn is_whole(shared: &Shared, addresses: &[String]) -> bool {
    addresses.iter().any(|address| {
        let asked = || -> std::io::Result<NodeStatus> {
            hear(
                &mut call(&shared.network, address, &Hello::Status)?,
                ANSWER_MAX,
            )
        };
        !shared.stopped() && asked().is_ok_and(|status| status.whole)
    })
}

/// Slow rounds by worker, as they were at the looks within the window; the earliest look first.
#[derive(Debug, Default)]
struct SlowPeers(VecDeque<(Instant, BTreeMap<usize, u64>)>);

impl SlowPeers {
    /// The worker with the most slow rounds within the window, if they are too many, in words.
    fn look(&mut self, now: Instant, waits: &BTreeMap<usize, Waits>) -> Option<String> {
        let rounds: BTreeMap<usize, u64> = waits
            .iter()
            .map(|(&worker, waits)| (worker, waits.slow_rounds))
            .collect();
        while self.0.len() > 1 && now.duration_since(self.0[0].0) > WINDOW {
            self.0.pop_front();
        }
        let before = self.0.front().map(|(_, rounds)| rounds.clone());
        let before = before.unwrap_or_default();
        self.0.push_back((now, rounds.clone()));
        let since = |(worker, rounds): (usize, u64)| {
            (rounds - before.get(&worker).copied().unwrap_or(0), worker)
        };
        let (rounds, worker) = rounds.into_iter().map(since).max()?;
        (rounds >= SLOW_ROUNDS).then(|| {
            let seconds = WINDOW.as_secs();
            format!("worker {worker} was slow in {rounds} rounds of the last {seconds} s")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(slow: &[(usize, u64)]) -> BTreeMap<usize, Waits> {
        let of = |&(worker, slow_rounds): &(usize, u64)| {
            let waits = Waits {
                rounds: 1_000,
                slow_rounds,
                waited_us: 0,
            };
            (worker, waits)
        };
        slow.iter().map(of).collect()
    }

    #[test]
    fn a_peer_is_slow_when_it_was_so_again_and_again_and_not_for_ever() {
        let (start, mut peers) = (Instant::now(), SlowPeers::default());
        let mut look = |seconds: u64, slow: &[(usize, u64)]| {
            peers.look(start + Duration::from_secs(seconds), &waits(slow))
        };
        assert_eq!(look(0, &[(1, 0)]), None);
        assert_eq!(look(1, &[(1, 2), (2, 1)]), None, "it may happen");
        let slow = look(2, &[(1, 2), (2, 4)]).expect("four rounds");
        assert!(
            slow.contains("worker 2") && slow.contains("4 rounds"),
            "{slow}"
        );
        assert!(look(31, &[(1, 2), (2, 4)]).is_some(), "within the window");
        assert_eq!(look(40, &[(1, 2), (2, 4)]), None, "that is long ago");
    }

    #[test]
    fn a_node_is_degraded_when_something_is_missing_that_answers_do_without() {
        let forming = || GroupState::Forming {
            why: "waiting for node 1".to_owned(),
        };
        let ready = || GroupState::Ready { generation: 7 };
        let health = |replicas: &[(usize, bool)], slow: Option<&str>| {
            Health(Mutex::new(Seen {
                replicas: replicas.iter().copied().collect(),
                slow: slow.map(str::to_owned),
            }))
        };
        let why = |state| match state {
            GroupState::Degraded { why } => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(health(&[], None).state(ready()), ready());
        assert_eq!(health(&[(1, true)], None).state(ready()), ready());
        assert_eq!(health(&[], None).state(forming()), forming());
        assert_eq!(health(&[(1, false)], None).state(forming()), forming());
        let by_other = why(health(&[(1, true)], None).state(forming()));
        assert!(by_other.contains("replica 1") && by_other.contains("node 1"));
        assert!(why(health(&[(0, true), (2, false)], None).state(ready())).contains("replica 2"));
        assert_eq!(why(health(&[], Some("slow")).state(ready())), "slow");
        assert_eq!(health(&[], Some("slow")).state(forming()), forming());
        let stopped = GroupState::Stopped;
        assert_eq!(health(&[(1, true)], None).state(stopped.clone()), stopped);
    }
}
