//! Fetch sessions (KIP-227): what a consumer wants is remembered between its requests, so that a poll names only what changed and looks only where
//! something happened.
//!
//! A [`FetchSet`] is the partitions of one session, or of one fetch without a session. It registers once with each partition; whatever moves there puts
//! the partition's slot on the set's ready list, and a poll looks at the slots on it. The table of sessions is bounded; each set has a mutex of its own,
//! never held across an await. What a set holds is bounded too: [`FETCH_PARTITIONS_MAX`] each, [`SESSION_PARTITIONS_MAX`] in all sessions together. Beyond it a consumer
//! is served without a session, or told that it has none (any more).

use super::partitions::Table;
use crate::{
    limits::{FETCH_PARTITIONS_MAX, SESSION_PARTITIONS_MAX, TOPIC_NAME_BYTES_MAX},
    partition::{
        Partition,
        waiters::{ReadyList, Watcher},
    },
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};
use uuid::Uuid;

/// A session unused for this long makes room for another, ms (Kafka: min.incremental.fetch.session.eviction.ms).
const EVICTION_MS: i64 = 120_000;

/// How a request names a topic: by id from Fetch v13 on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey {
    Id(Uuid),
    Name(Arc<str>),
}

/// What a consumer wants of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub offset: i64,
    pub bytes_max: usize,
    /// -1 = not given.
    pub current_leader_epoch: i32,
    /// -1 = not given.
    pub last_fetched_epoch: i32,
}

/// One partition of a set.
#[derive(Debug)]
pub struct Entry {
    pub topic: TopicKey,
    pub index: i32,
    pub wanted: Wanted,
    /// `None` while the broker knows no such partition.
    pub partition: Option<Arc<Partition>>,
    /// Watermark and log start last told to the consumer; `None` = tell it again whatever they are.
    pub told: Option<(i64, i64)>,
    watcher: Arc<Watcher>,
}

/// Partitions that are polled together.
#[derive(Debug, Default)]
pub struct FetchSet {
    entries: Vec<Option<Entry>>,
    free: Vec<u32>,
    /// Where each partition is.
    slots: HashMap<(TopicKey, i32), u32>,
    ready: Arc<ReadyList>,
    /// Whether the partitions know of us.
    watching: bool,
    /// Sessions only: what counts its partitions.
    kept: Option<Arc<Kept>>,
}

/// A set, or all sessions together, would hold more partitions than they may (or a topic name that no topic can have).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyPartitions;

/// Partitions that all sessions hold.
#[derive(Debug)]
struct Kept {
    partitions: AtomicUsize,
    partitions_max: usize,
}

impl Kept {
    fn has_room(&self, partitions: usize) -> bool {
        self.partitions.load(Ordering::Relaxed).saturating_add(partitions) <= self.partitions_max
    }
}

impl FetchSet {
    /// The set of a fetch without a session: registers with its partitions only if it has to wait ([`FetchSet::watch`]).
    pub fn without_session() -> FetchSet {
        FetchSet::default()
    }

    /// The set of a session: registered from the start.
    fn of_session(kept: &Arc<Kept>) -> FetchSet {
        let mut set = FetchSet::default();
        set.watching = true;
        set.kept = Some(kept.clone());
        set
    }

    /// Slots to look at. May be waited for without the set's lock.
    pub fn ready(&self) -> &Arc<ReadyList> {
        &self.ready
    }

    /// Number of partitions.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a partition, or changes what is wanted of it (of one named twice the last counts, as in Kafka): ready.
    pub fn put(&mut self, table: &Table, topic: TopicKey, index: i32, wanted: Wanted) -> Result<(), TooManyPartitions> {
        let key = (topic, index);
        if let Some(slot) = self.slots.get(&key) {
            if let Some(entry) = &mut self.entries[*slot as usize] {
                entry.wanted = wanted;
                mark(&entry.watcher);
            }
            return Ok(());
        }
        self.count(&key.0)?;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.entries.push(None);
                (self.entries.len() - 1) as u32
            }
        };
        let watcher = Watcher::new(&self.ready, slot);
        let mut entry = Entry { topic: key.0.clone(), index, wanted, partition: None, told: None, watcher };
        entry.resolve(table, self.watching);
        mark(&entry.watcher);
        self.entries[slot as usize] = Some(entry);
        self.slots.insert(key, slot);
        Ok(())
    }

    /// Counts one more partition, if there may be one.
    fn count(&self, topic: &TopicKey) -> Result<(), TooManyPartitions> {
        if self.len() >= FETCH_PARTITIONS_MAX {
            return Err(TooManyPartitions);
        }
        let Some(kept) = &self.kept else { return Ok(()) };
        // Nothing of an outsider's choosing is kept beyond what a name can be.
        if matches!(topic, TopicKey::Name(name) if name.len() > TOPIC_NAME_BYTES_MAX) {
            return Err(TooManyPartitions);
        }
        if kept.partitions.fetch_add(1, Ordering::Relaxed) >= kept.partitions_max {
            kept.partitions.fetch_sub(1, Ordering::Relaxed);
            return Err(TooManyPartitions);
        }
        Ok(())
    }

    /// Takes a partition out of a session.
    pub fn forget(&mut self, topic: TopicKey, index: i32) {
        if let Some(slot) = self.slots.remove(&(topic, index))
            && let Some(entry) = self.entries[slot as usize].take()
        {
            entry.unwatch();
            self.free.push(slot);
            if let Some(kept) = &self.kept {
                kept.partitions.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Registers with the partitions, if that was not done, and makes all ready: they are looked at again after it.
    pub fn watch(&mut self) {
        if std::mem::replace(&mut self.watching, true) {
            return;
        }
        for entry in self.entries.iter().flatten() {
            entry.watch();
            mark(&entry.watcher);
        }
    }

    /// The slot that has been ready for longest, ready to be read: what moves from now on makes it ready again. `None` when no slot is ready; slots of
    /// partitions that were forgotten are passed over.
    pub fn next_ready(&mut self, table: &Table) -> Option<(u32, &mut Entry)> {
        let slot = loop {
            let slot = self.ready.pop()?;
            if let Some(Some(entry)) = self.entries.get(slot as usize) {
                entry.watcher.rearm();
                break slot;
            }
        };
        let watching = self.watching;
        let entry = self.entries[slot as usize].as_mut()?;
        entry.resolve(table, watching);
        Some((slot, entry))
    }

    /// A slot's partition, if it was not forgotten.
    pub fn entry(&mut self, slot: u32) -> Option<&mut Entry> {
        self.entries.get_mut(slot as usize)?.as_mut()
    }
}

impl Drop for FetchSet {
    fn drop(&mut self) {
        if self.watching {
            self.entries.iter().flatten().for_each(Entry::unwatch);
        }
        if let Some(kept) = &self.kept {
            kept.partitions.fetch_sub(self.len(), Ordering::Relaxed);
        }
    }
}

impl Entry {
    /// The next poll looks at it again.
    pub fn make_ready(&self) {
        mark(&self.watcher);
    }

    /// Finds the partition where it is not known (any more): a topic named by name may have been created anew.
    fn resolve(&mut self, table: &Table, watching: bool) {
        if self.partition.as_ref().is_some_and(|p| !p.is_deleted()) {
            return;
        }
        let topic = match &self.topic {
            TopicKey::Id(id) => table.by_id(*id),
            TopicKey::Name(name) => table.by_name(name),
        };
        let found = topic.and_then(|t| t.partition(self.index)).cloned();
        if watching {
            self.unwatch();
        }
        self.partition = found;
        if watching {
            self.watch();
        }
    }

    fn watch(&self) {
        if let Some(partition) = &self.partition {
            // Too many wait there: this one hears of nothing and answers at its deadline.
            let _ = partition.waiters().watch(&self.watcher);
        }
    }

    fn unwatch(&self) {
        if let Some(partition) = &self.partition {
            partition.waiters().unwatch(&self.watcher);
        }
    }
}

fn mark(watcher: &Watcher) {
    if let Some(waker) = watcher.mark() {
        waker.wake();
    }
}

/// One session.
#[derive(Debug)]
pub struct Session {
    pub id: i32,
    state: Mutex<SessionState>,
}

/// What the session's mutex guards.
#[derive(Debug)]
pub struct SessionState {
    pub set: FetchSet,
    /// Epoch that the next request has to carry.
    next_epoch: i32,
}

/// Why a request does not belong to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionError {
    NotFound,
    InvalidEpoch,
}

impl Session {
    /// Its state; not to be held across an await.
    pub fn lock(&self) -> MutexGuard<'_, SessionState> {
        lock(&self.state)
    }
}

/// All sessions of the broker.
#[derive(Debug)]
pub struct Sessions {
    slots: AtomicUsize,
    kept: Arc<Kept>,
    table: Mutex<BTreeMap<i32, Cached>>,
}

#[derive(Debug)]
struct Cached {
    session: Arc<Session>,
    used_ms: i64,
}

impl Sessions {
    /// At most `slots` sessions (max.incremental.fetch.session.cache.slots; 0 = none).
    pub fn new(slots: usize) -> Sessions {
        Sessions::bounded(slots, SESSION_PARTITIONS_MAX)
    }

    fn bounded(slots: usize, partitions_max: usize) -> Sessions {
        let kept = Arc::new(Kept { partitions: AtomicUsize::new(0), partitions_max });
        Sessions { slots: AtomicUsize::new(slots), kept, table: Mutex::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        lock(&self.table).len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A new session over what `fill` puts into it (`named` partitions at most), under an id that `random` gives; its next request carries epoch 1. Sessions unused for
    /// two minutes make room for it, the oldest first. `None` when there is none all the same: then the fetch goes on without a session.
    pub fn create(
        &self,
        now_ms: i64,
        named: usize,
        random: impl Fn() -> u64,
        fill: impl FnOnce(&mut FetchSet) -> Result<(), TooManyPartitions>,
    ) -> Option<Arc<Session>> {
        if named > FETCH_PARTITIONS_MAX.min(self.kept.partitions_max) {
            return None;
        }
        let slots = self.slots.load(Ordering::Relaxed);
        let session = loop {
            let evicted = {
                let mut table = lock(&self.table);
                if table.len() < slots && self.kept.has_room(named) {
                    let id = loop {
                        let id = (random() & 0x7fff_ffff) as i32;
                        if id != 0 && !table.contains_key(&id) {
                            break id;
                        }
                    };
                    let state = SessionState { set: FetchSet::of_session(&self.kept), next_epoch: 1 };
                    let session = Arc::new(Session { id, state: Mutex::new(state) });
                    table.insert(id, Cached { session: session.clone(), used_ms: now_ms });
                    break session;
                }
                let oldest = table.iter().min_by_key(|(_, c)| c.used_ms).map(|(id, c)| (*id, c.used_ms));
                let (id, used_ms) = oldest?;
                if now_ms.saturating_sub(used_ms) < EVICTION_MS {
                    return None;
                }
                table.remove(&id)
            };
            // After the lock: dropping a set takes it out of its partitions.
            drop(evicted);
        };
        let filled = fill(&mut session.lock().set);
        if filled.is_err() {
            self.remove(session.id);
            return None;
        }
        Some(session)
    }

    /// The session of an incremental request, its epoch moved on.
    pub fn resume(&self, id: i32, epoch: i32, now_ms: i64) -> Result<Arc<Session>, SessionError> {
        let session = {
            let mut table = lock(&self.table);
            let cached = table.get_mut(&id).ok_or(SessionError::NotFound)?;
            cached.used_ms = now_ms;
            cached.session.clone()
        };
        {
            let mut state = session.lock();
            if state.next_epoch != epoch {
                return Err(SessionError::InvalidEpoch);
            }
            state.next_epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        }
        Ok(session)
    }

    /// Ends a session.
    pub fn remove(&self, id: i32) {
        let removed = lock(&self.table).remove(&id);
        drop(removed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const WANTED: Wanted = Wanted { offset: 0, bytes_max: 1, current_leader_epoch: -1, last_fetched_epoch: -1 };

    fn counter() -> impl Fn() -> u64 {
        let next = Cell::new(0);
        move || {
            next.set(next.get() + 1);
            next.get()
        }
    }

    #[test]
    fn epochs_follow_one_another_and_wrap_to_one() {
        let sessions = Sessions::new(10);
        let s = sessions.create(0, 0, counter(), |_| Ok(())).unwrap();
        assert_eq!(sessions.resume(s.id, 2, 0).unwrap_err(), SessionError::InvalidEpoch);
        assert!(sessions.resume(s.id, 1, 0).is_ok());
        assert_eq!(sessions.resume(s.id, 1, 0).unwrap_err(), SessionError::InvalidEpoch);
        s.lock().next_epoch = i32::MAX;
        assert!(sessions.resume(s.id, i32::MAX, 0).is_ok());
        assert!(sessions.resume(s.id, 1, 0).is_ok());
        sessions.remove(s.id);
        assert_eq!(sessions.resume(s.id, 2, 0).unwrap_err(), SessionError::NotFound);
    }

    #[test]
    fn slots_are_bounded_and_only_idle_sessions_make_room() {
        let sessions = Sessions::new(2);
        let random = counter();
        let a = sessions.create(0, 0, &random, |_| Ok(())).unwrap().id;
        let b = sessions.create(1, 0, &random, |_| Ok(())).unwrap().id;
        assert!(sessions.create(EVICTION_MS - 1, 0, &random, |_| Ok(())).is_none());
        sessions.resume(a, 1, 2).unwrap();
        let c = sessions.create(EVICTION_MS + 1, 0, &random, |_| Ok(())).unwrap().id;
        assert_eq!(sessions.len(), 2);
        assert!(sessions.resume(b, 1, 0).is_err());
        assert!(sessions.resume(a, 2, 0).is_ok() && sessions.resume(c, 1, 0).is_ok());
        assert!(Sessions::new(0).create(0, 0, random, |_| Ok(())).is_none());
    }

    #[test]
    fn a_set_hands_out_what_is_ready_once_and_passes_over_what_was_forgotten() {
        let table = Table::default();
        let mut set = FetchSet::without_session();
        let topic = |n| TopicKey::Id(Uuid::from_u128(n));
        for n in 0..3 {
            set.put(&table, topic(n), 0, WANTED).unwrap();
        }
        set.put(&table, topic(1), 0, Wanted { offset: 7, ..WANTED }).unwrap();
        set.forget(topic(0), 0);
        set.forget(topic(9), 0);
        let (slot, entry) = set.next_ready(&table).unwrap();
        assert_eq!((slot, entry.wanted.offset, set.len()), (1, 7, 2));
        assert_eq!(set.next_ready(&table).unwrap().0, 2);
        assert!(set.next_ready(&table).is_none());
        set.put(&table, topic(5), 0, WANTED).unwrap();
        assert_eq!(set.next_ready(&table).unwrap().0, 0, "the slot that was free is used again");
        set.put(&table, topic(5), 0, WANTED).unwrap();
        assert_eq!(set.next_ready(&table).unwrap().0, 0);
        assert!(set.next_ready(&table).is_none());
    }

    /// Partitions `from..to` of one topic.
    fn fill(from: i32, to: i32) -> impl FnOnce(&mut FetchSet) -> Result<(), TooManyPartitions> {
        let topic = TopicKey::Id(Uuid::from_u128(1));
        move |set| (from..to).try_for_each(|index| set.put(&Table::default(), topic.clone(), index, WANTED))
    }

    #[test]
    fn what_sessions_hold_is_bounded_and_given_back() {
        let sessions = Sessions::bounded(10, 100);
        let random = counter();
        let kept = || sessions.kept.partitions.load(Ordering::Relaxed);
        let a = sessions.create(0, 60, &random, fill(0, 60)).unwrap();
        assert!(sessions.create(0, 41, &random, fill(0, 41)).is_none(), "no room, and nobody is idle");
        let b = sessions.create(1, 40, &random, fill(0, 40)).unwrap();
        assert_eq!(kept(), 100);
        // An incremental fetch that names more: refused, and the same one again is not more.
        assert_eq!(fill(60, 61)(&mut a.lock().set), Err(TooManyPartitions));
        assert_eq!(fill(0, 60)(&mut a.lock().set), Ok(()));
        b.lock().set.forget(TopicKey::Id(Uuid::from_u128(1)), 7);
        assert_eq!((kept(), fill(60, 61)(&mut a.lock().set)), (99, Ok(())));
        // One that says less than it brings is not kept.
        let (id_a, id_b) = (a.id, b.id);
        drop((a, b));
        assert!(sessions.create(2, 0, &random, fill(0, 5)).is_none());
        assert_eq!((sessions.len(), kept()), (2, 100));
        // Idle ones make room, no more of them than needed.
        let c = sessions.create(EVICTION_MS, 30, &random, fill(0, 30)).unwrap();
        assert_eq!((sessions.len(), kept()), (2, 69));
        assert!(sessions.resume(id_a, 1, 0).is_err() && sessions.resume(id_b, 1, 0).is_ok());
        sessions.remove(c.id);
        sessions.remove(id_b);
        drop(c);
        assert_eq!((sessions.len(), kept()), (0, 0));
        assert!(sessions.create(0, 101, &random, fill(0, 1)).is_none());
    }

    #[test]
    fn a_partition_named_many_times_is_one() {
        let (table, mut set) = (Table::default(), FetchSet::without_session());
        for offset in 0..1000 {
            set.put(&table, TopicKey::Name("a".into()), 0, Wanted { offset, ..WANTED }).unwrap();
        }
        assert_eq!((set.len(), set.ready().len()), (1, 1));
        assert_eq!(set.next_ready(&table).unwrap().1.wanted.offset, 999, "the last one counts");
    }

    #[test]
    fn a_set_takes_no_more_than_its_bound_and_a_session_no_name_that_no_topic_has() {
        let mut set = FetchSet::without_session();
        fill(0, FETCH_PARTITIONS_MAX as i32)(&mut set).unwrap();
        assert_eq!(fill(-1, 0)(&mut set), Err(TooManyPartitions));
        let long = TopicKey::Name("x".repeat(TOPIC_NAME_BYTES_MAX + 1).into());
        let sessions = Sessions::new(1);
        let put = |set: &mut FetchSet| set.put(&Table::default(), long.clone(), 0, WANTED);
        assert!(sessions.create(0, 1, counter(), put).is_none());
        assert!(put(&mut FetchSet::without_session()).is_ok(), "without a session it is only answered");
    }
}
