//! Who waits for a partition to move on, and how they are woken without one wake-up being lost.
//!
//! Two kinds wait. A parked acknowledgement ([`Acks`], one a Produce request) waits for an offset to be passed; a long poll ([`ReadyList`], one a fetch session
//! or a sessionless fetch) wants to hear which of its partitions moved. Both register first and look after: a mover publishes the new offset first
//! and takes the registered ones after, under the same small lock. Whatever way the two interleave, either the one who registers sees the new offset or the mover sees the
//! registration. (The tests walk over all interleavings.)
//!
//! The lock here is a leaf: nothing else is locked while it is held, no task is woken under it. Movers collect [`Wakers`] and wake when they hold no lock,
//! each task once.

use crate::limits::WAITERS_PER_PARTITION_MAX;
use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};
use tokio::time::Instant;

/// Tasks to wake once no lock is held. Dropping it wakes them.
#[derive(Debug, Default)]
pub struct Wakers {
    list: Vec<Waker>,
    /// When the first of what they waited for came to its end.
    now: Option<Instant>,
}

impl Wakers {
    /// Adds one; a task that is already there is kept once.
    pub fn push(&mut self, waker: Option<Waker>) {
        let Some(waker) = waker else { return };
        if !self.list.iter().rev().take(64).any(|w| w.will_wake(&waker)) {
            self.list.push(waker);
        }
    }

    /// The time, looked at once.
    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Wakes all.
    pub fn wake(&mut self) {
        for waker in self.list.drain(..) {
            waker.wake();
        }
    }
}

impl Drop for Wakers {
    fn drop(&mut self) {
        self.wake();
    }
}

/// What an acknowledgement waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// The high watermark reaches the offset (acks=all).
    Watermark,
    /// The durable end reaches the offset (flush.messages).
    Durable,
}

/// One request's parked acknowledgements, over several partitions.
#[derive(Debug, Default)]
pub struct Acks {
    state: Mutex<AcksState>,
}

#[derive(Debug, Default)]
struct AcksState {
    pending: usize,
    failed: Vec<u32>,
    waker: Option<Waker>,
    ended: Option<Instant>,
}

impl Acks {
    /// Nothing parked.
    pub fn new() -> Arc<Acks> {
        Arc::default()
    }

    fn begin(&self) {
        lock(&self.state).pending += 1;
    }

    fn finish(&self, slot: u32, ok: bool, now: Instant) -> Option<Waker> {
        let mut state = lock(&self.state);
        state.pending -= 1;
        if !ok {
            state.failed.push(slot);
        }
        if state.pending > 0 {
            return None;
        }
        state.ended = Some(now);
        state.waker.take()
    }

    /// Whether nothing is parked (any more).
    pub fn is_done(&self) -> bool {
        lock(&self.state).pending == 0
    }

    /// When the last of what was parked came to its end; `None` while something is parked, and where nothing ever was.
    pub fn ended(&self) -> Option<Instant> {
        let state = lock(&self.state);
        state.ended.filter(|_| state.pending == 0)
    }

    /// The slots that have failed so far.
    pub fn take_failed(&self) -> Vec<u32> {
        std::mem::take(&mut lock(&self.state).failed)
    }

    /// Waits until all that was parked has come to an end; gives the slots that failed.
    pub fn done(self: Arc<Acks>) -> AcksDone {
        AcksDone(self)
    }
}

/// See [`Acks::done`].
#[derive(Debug)]
pub struct AcksDone(Arc<Acks>);

impl Future for AcksDone {
    type Output = Vec<u32>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<u32>> {
        let mut state = lock(&self.0.state);
        if state.pending == 0 {
            return Poll::Ready(std::mem::take(&mut state.failed));
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// Which partitions of a fetch moved since it looked. One consumer, any number of movers.
#[derive(Debug, Default)]
pub struct ReadyList {
    state: Mutex<ReadyState>,
}

#[derive(Debug, Default)]
struct ReadyState {
    slots: VecDeque<u32>,
    waker: Option<Waker>,
}

impl ReadyList {
    /// An empty one.
    pub fn new() -> Arc<ReadyList> {
        Arc::default()
    }

    /// The slot that has been ready for longest. Its watcher has to be [`Watcher::rearm`]ed before the partition is read.
    pub fn pop(&self) -> Option<u32> {
        lock(&self.state).slots.pop_front()
    }

    /// How many slots are ready now.
    pub fn len(&self) -> usize {
        lock(&self.state).slots.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until a slot is ready.
    pub fn ready(self: &Arc<Self>) -> Ready {
        Ready(self.clone())
    }

    fn push(&self, slot: u32) -> Option<Waker> {
        let mut state = lock(&self.state);
        state.slots.push_back(slot);
        state.waker.take()
    }
}

/// See [`ReadyList::ready`].
#[derive(Debug)]
pub struct Ready(Arc<ReadyList>);

impl Future for Ready {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.0.state);
        if !state.slots.is_empty() {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

/// One partition's place in a [`ReadyList`].
#[derive(Debug)]
pub struct Watcher {
    list: Arc<ReadyList>,
    slot: u32,
    /// Whether `slot` is on the list: it is there at most once.
    queued: AtomicBool,
    /// To be told once: struck off the partition's list then.
    once: AtomicBool,
    /// Its place among the watchers of its partition; read and written under that partition's lock only.
    place: AtomicUsize,
}

impl Watcher {
    /// A watcher for `slot` of `list`, not yet ready.
    pub fn new(list: &Arc<ReadyList>, slot: u32) -> Arc<Watcher> {
        Arc::new(Watcher {
            list: list.clone(),
            slot,
            queued: AtomicBool::new(false),
            once: AtomicBool::new(false),
            place: AtomicUsize::new(0),
        })
    }

    /// Puts the slot on the list unless it is there.
    pub fn mark(&self) -> Option<Waker> {
        if self.queued.swap(true, Ordering::AcqRel) { None } else { self.list.push(self.slot) }
    }

    /// Call after the slot was popped and before the partition is read: whatever moves from now on marks it again.
    pub fn rearm(&self) {
        self.queued.swap(false, Ordering::AcqRel);
    }
}

/// All that waits for one partition.
#[derive(Debug, Default)]
pub struct Waiters {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// In order of their offset.
    watermark: VecDeque<Parked>,
    durable: VecDeque<Parked>,
    watchers: Vec<Arc<Watcher>>,
}

#[derive(Debug)]
struct Parked {
    /// Done when the goal's offset is this or more.
    offset: i64,
    slot: u32,
    acks: Arc<Acks>,
}

/// More wait for this partition than [`WAITERS_PER_PARTITION_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Waiters {
    /// Parks slot `slot` of `acks` until `goal` reaches `offset`. `reached` reads the goal's offset now (`None`: nothing will be acknowledged any more, which fails the
    /// slot): it is asked under the lock that a mover takes after publishing, so that no move is missed.
    pub fn park(
        &self,
        goal: Goal,
        offset: i64,
        slot: u32,
        acks: &Arc<Acks>,
        reached: impl FnOnce() -> Option<i64>,
    ) -> Result<(), TooMany> {
        let mut inner = lock(&self.inner);
        match reached() {
            Some(now) if now >= offset => return Ok(()),
            Some(_) => {}
            None => {
                lock(&acks.state).failed.push(slot);
                return Ok(());
            }
        }
        let queue = inner.queue(goal);
        if queue.len() >= WAITERS_PER_PARTITION_MAX {
            return Err(TooMany);
        }
        acks.begin();
        let at = queue.iter().rposition(|p| p.offset <= offset).map_or(0, |i| i + 1);
        queue.insert(at, Parked { offset, slot, acks: acks.clone() });
        Ok(())
    }

    /// The goal has been published as `offset`: ends what waited for it.
    pub fn reached(&self, goal: Goal, offset: i64, wakers: &mut Wakers) {
        let mut inner = lock(&self.inner);
        let queue = inner.queue(goal);
        while queue.front().is_some_and(|p| p.offset <= offset) {
            if let Some(p) = queue.pop_front() {
                let now = wakers.now();
                wakers.push(p.acks.finish(p.slot, true, now));
            }
        }
        if queue.is_empty() && queue.capacity() > 64 {
            *queue = VecDeque::new();
        }
    }

    /// What is parked will never be acknowledged.
    pub fn fail(&self, wakers: &mut Wakers) {
        let mut inner = lock(&self.inner);
        for goal in [Goal::Watermark, Goal::Durable] {
            for p in std::mem::take(inner.queue(goal)) {
                let now = wakers.now();
                wakers.push(p.acks.finish(p.slot, false, now));
            }
        }
    }

    /// Registers a long poll's interest; stays until [`Waiters::unwatch`]. Read the partition after it, not before. A watcher is registered with one partition at a time.
    pub fn watch(&self, watcher: &Arc<Watcher>) -> Result<(), TooMany> {
        let mut inner = lock(&self.inner);
        if inner.watchers.len() >= WAITERS_PER_PARTITION_MAX {
            return Err(TooMany);
        }
        if inner.place_of(watcher).is_none() {
            watcher.place.store(inner.watchers.len(), Ordering::Relaxed);
            inner.watchers.push(watcher.clone());
        }
        Ok(())
    }

    /// As [`Waiters::watch`], but only until the partition moves: one that does not come for its mark costs those that move the partition nothing more.
    pub fn watch_once(&self, watcher: &Arc<Watcher>) -> Result<(), TooMany> {
        watcher.once.store(true, Ordering::Relaxed);
        self.watch(watcher)
    }

    /// Ends it.
    pub fn unwatch(&self, watcher: &Arc<Watcher>) {
        let mut inner = lock(&self.inner);
        if let Some(place) = inner.place_of(watcher) {
            inner.strike_off(place);
        }
        if inner.watchers.is_empty() {
            inner.watchers = Vec::new();
        }
    }

    /// Something that a fetch shows has been published (watermark, log start, leader, end of the partition): marks every watcher.
    pub fn moved(&self, wakers: &mut Wakers) {
        let mut inner = lock(&self.inner);
        let mut place = 0;
        while let Some(watcher) = inner.watchers.get(place) {
            wakers.push(watcher.mark());
            if watcher.once.load(Ordering::Relaxed) {
                inner.strike_off(place);
            } else {
                place += 1;
            }
        }
    }
}

impl Inner {
    fn queue(&mut self, goal: Goal) -> &mut VecDeque<Parked> {
        match goal {
            Goal::Watermark => &mut self.watermark,
            Goal::Durable => &mut self.durable,
        }
    }

    /// Takes a watcher off the list; the last one takes its place.
    fn strike_off(&mut self, place: usize) {
        self.watchers.swap_remove(place);
        if let Some(moved) = self.watchers.get(place) {
            moved.place.store(place, Ordering::Relaxed);
        }
    }

    /// Where a watcher is, if it is registered here.
    fn place_of(&self, watcher: &Arc<Watcher>) -> Option<usize> {
        let place = watcher.place.load(Ordering::Relaxed);
        self.watchers.get(place).is_some_and(|w| Arc::ptr_eq(w, watcher)).then_some(place)
    }
}

/// Nothing under these locks can leave them half changed, so a panic elsewhere does not spoil them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicI64;

    struct Count(AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn counter() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count(AtomicUsize::new(0)));
        (count.clone(), Waker::from(count))
    }

    fn poll<F: Future + Unpin>(f: &mut F, waker: &Waker) -> Poll<F::Output> {
        Pin::new(f).poll(&mut Context::from_waker(waker))
    }

    /// Every way to interleave the steps of several actors, each actor's steps in order: calls `run` with a schedule of actor numbers.
    fn interleavings(steps: &[usize], run: &mut dyn FnMut(&[usize])) {
        fn go(left: &mut Vec<usize>, schedule: &mut Vec<usize>, run: &mut dyn FnMut(&[usize])) {
            if left.iter().all(|n| *n == 0) {
                return run(schedule);
            }
            for actor in 0..left.len() {
                if left[actor] > 0 {
                    left[actor] -= 1;
                    schedule.push(actor);
                    go(left, schedule, run);
                    schedule.pop();
                    left[actor] += 1;
                }
            }
        }
        go(&mut steps.to_vec(), &mut Vec::new(), run);
    }

    /// A model partition: publish first, tell after, as the real one does.
    #[derive(Default)]
    struct World {
        end: AtomicI64,
        gone: AtomicBool,
        waiters: Waiters,
    }

    /// One step of: 0 = the poll (register, mark, pop, rearm, read, poll), 1 = an append that is settled (publish, tell), 2 = a truncation (publish, tell), 3 = a
    /// deletion (publish, tell).
    #[test]
    fn no_wake_up_of_a_long_poll_is_lost_at_any_point_of_its_registration() {
        let mut schedules = 0;
        interleavings(&[6, 2, 2, 2], &mut |schedule| {
            schedules += 1;
            let world = World::default();
            let (count, waker) = counter();
            let list = ReadyList::new();
            let watcher = Watcher::new(&list, 0);
            let mut at = [0usize; 4];
            let (mut seen, mut parked, mut woken) = (None, false, false);
            let tell = |world: &World| world.waiters.moved(&mut Wakers::default());
            for actor in schedule {
                match (actor, at[*actor]) {
                    (0, 0) => world.waiters.watch(&watcher).unwrap(),
                    (0, 1) => drop(watcher.mark()),
                    (0, 2) => assert_eq!(list.pop(), Some(0)),
                    (0, 3) => watcher.rearm(),
                    (0, 4) => seen = Some((world.end.load(Ordering::Acquire), world.gone.load(Ordering::Acquire))),
                    (0, _) => match poll(&mut list.ready(), &waker) {
                        Poll::Ready(()) => woken = true,
                        Poll::Pending => parked = true,
                    },
                    (1, 0) => world.end.store(5, Ordering::Release),
                    (2, 0) => world.end.store(3, Ordering::Release),
                    (3, 0) => world.gone.store(true, Ordering::Release),
                    _ => tell(&world),
                }
                at[*actor] += 1;
            }
            let now = (world.end.load(Ordering::Acquire), world.gone.load(Ordering::Acquire));
            if parked && seen != Some(now) {
                assert_eq!(count.0.load(Ordering::SeqCst), 1, "lost in {schedule:?}");
            }
            if parked || woken {
                assert!(list.len() <= 1, "a slot is on the list once, {schedule:?}");
            }
            let looked = list.pop().is_some();
            assert!(looked || seen == Some(now), "stale in {schedule:?}");
        });
        assert_eq!(schedules, 83_160);
    }

    /// 0 = a produce that parks (park, poll); then either flush rounds (1 and 2: publish, tell) or one that fails (3: publish, tell).
    #[test]
    fn no_acknowledgement_stays_parked_at_any_interleaving_with_flush_rounds() {
        for (failing, steps) in [(false, [2, 2, 2, 0]), (true, [2, 0, 0, 2])] {
            interleavings(&steps, &mut |schedule| {
                let world = World::default();
                let (count, waker) = counter();
                let acks = Acks::new();
                let mut done = acks.clone().done();
                let mut at = [0usize; 4];
                let mut outcome = None;
                let mut pended = false;
                for actor in schedule {
                    match (actor, at[*actor]) {
                        (0, 0) => {
                            let end =
                                || (!world.gone.load(Ordering::Acquire)).then(|| world.end.load(Ordering::Acquire));
                            world.waiters.park(Goal::Watermark, 10, 0, &acks, end).unwrap();
                        }
                        (0, _) => match poll(&mut done, &waker) {
                            Poll::Ready(failed) => outcome = Some(failed),
                            Poll::Pending => pended = true,
                        },
                        (1, 0) => _ = world.end.fetch_max(10, Ordering::AcqRel),
                        (2, 0) => _ = world.end.fetch_max(20, Ordering::AcqRel),
                        (3, 0) => world.gone.store(true, Ordering::Release),
                        (3, _) => world.waiters.fail(&mut Wakers::default()),
                        _ => {
                            let end = world.end.load(Ordering::Acquire);
                            world.waiters.reached(Goal::Watermark, end, &mut Wakers::default());
                        }
                    }
                    at[*actor] += 1;
                }
                if pended {
                    assert_eq!(count.0.load(Ordering::SeqCst), 1, "lost in {schedule:?}");
                    let Poll::Ready(failed) = poll(&mut done, &waker) else {
                        panic!("parked for ever in {schedule:?}")
                    };
                    outcome = Some(failed);
                }
                let want: &[u32] = if failing { &[0] } else { &[] };
                assert_eq!(outcome.unwrap(), want, "{schedule:?}");
            });
        }
    }

    #[test]
    fn acknowledgements_end_in_order_of_offset_however_they_were_parked() {
        let waiters = Waiters::default();
        let all: Vec<_> = [30, 10, 20].map(|offset| (offset, Acks::new())).into();
        for (offset, acks) in &all {
            waiters.park(Goal::Watermark, *offset, 0, acks, || Some(0)).unwrap();
        }
        let done = || all.iter().map(|(_, a)| a.is_done()).collect::<Vec<_>>();
        waiters.reached(Goal::Watermark, 20, &mut Wakers::default());
        assert_eq!(done(), [false, true, true]);
        waiters.reached(Goal::Durable, 30, &mut Wakers::default());
        assert_eq!(done(), [false, true, true]);
        waiters.reached(Goal::Watermark, 30, &mut Wakers::default());
        assert_eq!(done(), [true, true, true]);
    }

    #[test]
    fn one_request_over_many_partitions_is_woken_once_when_the_last_one_ends() {
        let partitions = [Waiters::default(), Waiters::default(), Waiters::default()];
        let (count, waker) = counter();
        let acks = Acks::new();
        for (slot, w) in partitions.iter().enumerate() {
            w.park(Goal::Watermark, 1, slot as u32, &acks, || Some(0)).unwrap();
        }
        let mut done = acks.clone().done();
        assert!(poll(&mut done, &waker).is_pending());
        partitions[2].reached(Goal::Watermark, 1, &mut Wakers::default());
        partitions[0].fail(&mut Wakers::default());
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        partitions[1].reached(Goal::Watermark, 1, &mut Wakers::default());
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(poll(&mut done, &waker), Poll::Ready(vec![0]));
    }

    #[test]
    fn a_task_is_woken_once_a_round() {
        let (count, waker) = counter();
        let mut wakers = Wakers::default();
        for _ in 0..10 {
            wakers.push(Some(waker.clone()));
        }
        drop(wakers);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_unwatched_partition_marks_nobody() {
        let waiters = Waiters::default();
        let list = ReadyList::new();
        let watcher = Watcher::new(&list, 3);
        waiters.watch(&watcher).unwrap();
        waiters.moved(&mut Wakers::default());
        waiters.moved(&mut Wakers::default());
        assert_eq!((list.len(), list.pop()), (1, Some(3)));
        watcher.rearm();
        waiters.unwatch(&watcher);
        waiters.moved(&mut Wakers::default());
        assert!(list.is_empty());
    }

    #[test]
    fn a_watcher_that_watches_once_is_told_once_until_it_watches_again() {
        let (waiters, list) = (Waiters::default(), ReadyList::new());
        let watchers: Vec<_> = (0..4).map(|slot| Watcher::new(&list, slot)).collect();
        for w in &watchers[..3] {
            waiters.watch_once(w).unwrap();
        }
        waiters.watch(&watchers[3]).unwrap();
        waiters.moved(&mut Wakers::default());
        let told: Vec<_> = std::iter::from_fn(|| list.pop()).collect();
        assert_eq!(told.len(), 4);
        watchers.iter().for_each(|w| w.rearm());
        assert_eq!(lock(&waiters.inner).watchers.len(), 1);
        waiters.watch_once(&watchers[1]).unwrap();
        waiters.moved(&mut Wakers::default());
        let mut told: Vec<_> = std::iter::from_fn(|| list.pop()).collect();
        told.sort();
        assert_eq!(told, [1, 3]);
        waiters.unwatch(&watchers[1]);
        waiters.unwatch(&watchers[3]);
        assert!(lock(&waiters.inner).watchers.is_empty());
    }

    #[test]
    fn watchers_come_and_go_in_any_order_and_each_is_told_or_not() {
        let (waiters, list) = (Waiters::default(), ReadyList::new());
        let watchers: Vec<_> = (0..5).map(|slot| Watcher::new(&list, slot)).collect();
        for w in &watchers {
            waiters.watch(w).unwrap();
            waiters.watch(w).unwrap();
        }
        // The first (another takes its place), that other one, one that is gone already.
        for gone in [0, 4, 0] {
            waiters.unwatch(&watchers[gone]);
        }
        waiters.moved(&mut Wakers::default());
        let told: Vec<_> = std::iter::from_fn(|| list.pop()).collect();
        assert_eq!(told.len(), 3);
        assert!([1, 2, 3].iter().all(|slot| told.contains(slot)), "{told:?}");
    }
}
