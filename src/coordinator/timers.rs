//! Deadlines of a machine: pure, by key.
//!
//! Made for deadlines that move far more often than they pass (a session moves with every heartbeat): a later deadline only overwrites a number, and the
//! queue finds out when the old one comes up.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
    hash::Hash,
};

/// Entries of the queue that nobody stands behind any more are thrown out when they are more than those that count, and this many.
const STALE_MAX: usize = 64;

/// Deadlines by key, each key at most one. What is due comes out in order of its deadline; of the same deadline in the order queued.
#[derive(Debug)]
pub struct Timers<K> {
    deadlines: HashMap<K, Deadline>,
    queue: BinaryHeap<Queued<K>>,
    sequence: u64,
}

#[derive(Clone, Copy, Debug)]
struct Deadline {
    at: u64,
    /// Its entry in the queue: never later than `at`.
    queued_at: u64,
    sequence: u64,
}

#[derive(Debug)]
struct Queued<K> {
    at: u64,
    sequence: u64,
    key: K,
}

impl<K> Ord for Queued<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the largest first: the earliest is to be that.
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}
impl<K> PartialOrd for Queued<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> PartialEq for Queued<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl<K> Eq for Queued<K> {}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Timers { deadlines: HashMap::new(), queue: BinaryHeap::new(), sequence: 0 }
    }
}

impl<K: Clone + Eq + Hash> Timers<K> {
    /// No deadline.
    pub fn new() -> Self {
        Timers::default()
    }

    /// Sets or moves the deadline of `key`. A later one than before costs one look into a map.
    pub fn set(&mut self, key: K, at: u64) {
        if let Some(deadline) = self.deadlines.get_mut(&key) {
            deadline.at = at;
            if at >= deadline.queued_at {
                return;
            }
        }
        self.queue(key, at);
        self.sweep();
    }

    /// The deadline of `key`.
    pub fn get(&self, key: &K) -> Option<u64> {
        self.deadlines.get(key).map(|deadline| deadline.at)
    }

    /// Takes the deadline of `key` away; says whether there was one.
    pub fn remove(&mut self, key: &K) -> bool {
        let was = self.deadlines.remove(key).is_some();
        if was {
            self.sweep();
        }
        was
    }

    /// How many deadlines there are.
    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }

    /// When to call [`Timers::pop_due`] next: never after the earliest deadline, though maybe before it (once for each deadline that was moved or removed). `None` =
    /// no deadline. Cheap.
    pub fn next(&self) -> Option<u64> {
        if self.deadlines.is_empty() {
            return None;
        }
        self.queue.peek().map(|queued| queued.at)
    }

    /// The earliest deadline at or before `now`; it is removed. Call until `None`.
    pub fn pop_due(&mut self, now: u64) -> Option<K> {
        while self.queue.peek().is_some_and(|queued| queued.at <= now) {
            let Queued { sequence, key, .. } = self.queue.pop()?;
            match self.deadlines.get(&key) {
                Some(deadline) if deadline.sequence == sequence => {
                    if deadline.at == deadline.queued_at {
                        self.deadlines.remove(&key);
                        return Some(key);
                    }
                    // It was moved: it comes in its own place, not in that of its old deadline.
                    let at = deadline.at;
                    self.queue(key, at);
                }
                _ => {}
            }
        }
        None
    }

    fn queue(&mut self, key: K, at: u64) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.deadlines.insert(key.clone(), Deadline { at, queued_at: at, sequence });
        self.queue.push(Queued { at, sequence, key });
    }

    /// Keeps the queue in proportion to the deadlines.
    fn sweep(&mut self) {
        if self.queue.len() > 2 * self.deadlines.len() + STALE_MAX {
            let deadlines = &self.deadlines;
            self.queue.retain(|queued| deadlines.get(&queued.key).is_some_and(|d| d.sequence == queued.sequence));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_deadline_passes_once_at_its_time() {
        let mut timers = Timers::new();
        assert_eq!(timers.next(), None);
        timers.set("a", 10);
        timers.set("b", 5);
        assert_eq!((timers.next(), timers.len()), (Some(5), 2));
        assert_eq!(timers.pop_due(4), None);
        assert_eq!(timers.pop_due(10), Some("b"));
        assert_eq!(timers.pop_due(10), Some("a"));
        assert_eq!(timers.pop_due(u64::MAX), None);
        assert!(timers.is_empty() && timers.next().is_none());
    }

    #[test]
    fn a_later_deadline_adds_nothing_to_the_queue() {
        let mut timers = Timers::new();
        for at in 100..10_000 {
            timers.set(1, at);
        }
        assert_eq!(timers.queue.len(), 1);
        assert_eq!(timers.pop_due(9_998), None, "the old deadline is requeued");
        assert_eq!((timers.next(), timers.get(&1)), (Some(9_999), Some(9_999)));
        assert_eq!(timers.pop_due(9_999), Some(1));
    }

    #[test]
    fn the_queue_stays_in_proportion() {
        let mut timers = Timers::new();
        for round in 0..1_000u64 {
            for key in 0..10 {
                timers.set(key, 1_000_000 - round);
            }
            timers.set(100 + round, 5);
            timers.remove(&(100 + round));
        }
        assert!(timers.queue.len() <= 2 * timers.len() + STALE_MAX, "{}", timers.queue.len());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, u64),
        Remove(u8),
        Due(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..12u8, 0..60u64).prop_map(|(key, ahead)| Step::Set(key, ahead)),
            1 => (0..12u8).prop_map(Step::Remove),
            2 => (0..20u64).prop_map(Step::Due),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        #[test]
        fn it_does_what_a_list_of_deadlines_does(steps in steps()) {
            let (mut timers, mut model, mut now) = (Timers::new(), BTreeMap::new(), 0);
            for step in steps {
                match step {
                    Step::Set(key, ahead) => {
                        timers.set(key, now + ahead);
                        model.insert(key, now + ahead);
                    }
                    Step::Remove(key) => prop_assert_eq!(timers.remove(&key), model.remove(&key).is_some()),
                    Step::Due(ms) => {
                        now += ms;
                        let mut last = 0;
                        while let Some(key) = timers.pop_due(now) {
                            let at = model.remove(&key);
                            prop_assert!(at.is_some_and(|at| at <= now && at >= last), "{:?} at {}", at, now);
                            last = at.unwrap_or(0);
                        }
                        prop_assert!(model.values().all(|at| *at > now));
                    }
                }
                let earliest = model.values().min().copied();
                prop_assert_eq!(timers.next().is_some(), earliest.is_some());
                prop_assert!(timers.next() <= earliest, "{:?} {:?}", timers.next(), earliest);
                prop_assert_eq!(timers.len(), model.len());
            }
        }
    }
}
