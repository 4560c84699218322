//! The flush loop of a data directory: gathers dirty partitions, flushes them in one round, moves their watermarks, wakes who waits.
//!
//! A round starts as soon as anything waits, never on a timer; while one runs the next gathers. In the real world the loop has a thread of the blocking pool to itself, so that
//! between an append and its flush there is one wake-up and no queue; simulated, it is a task. Relaxed (page-cache) partitions are flushed on the side, each
//! [`BACKGROUND_MS`] or 64 MiB: that moves their recovery point and keeps dirty pages few.
//!
//! A panic in a round or a loop ends the node ([`Vital`]). What waits then, and what comes before the node has stopped, is told that it will not be acknowledged.

use super::{Open, Partition, Phase, vital::Vital, waiters::Wakers};
use crate::{config::TopicSettings, metrics::Metrics};
use millstream_storage::{Directory, Error};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering, fence},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Longest that an append of a relaxed partition stays unflushed, ms.
pub const BACKGROUND_MS: i64 = 5_000;

/// Wait before a flush that found no file descriptors or memory is tried again, ms.
const RETRY_MS: u64 = 100;

/// Longest that an append of a topic with these settings, a relaxed one, stays unflushed, ms.
pub fn period_ms(settings: &TopicSettings) -> u64 {
    settings.flush_ms.clamp(1, BACKGROUND_MS) as u64
}

/// The way to the flush loop. Dropping it ends the loop.
#[derive(Debug, Default)]
pub struct Flusher {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
    /// Wakes the thread (real).
    thread: Condvar,
    /// Wakes the task (simulated).
    task: Notify,
    relaxed: Mutex<Relaxed>,
    relaxed_changed: Notify,
    stopped: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    dirty: Vec<Arc<Partition>>,
    sleeping: bool,
}

/// Relaxed partitions with unflushed bytes, by when they are due (and a number that keeps them apart).
#[derive(Debug, Default)]
struct Relaxed {
    /// Weak, since a partition holds the flusher: what nobody else holds any more was closed.
    due: BTreeMap<(Instant, u32), Weak<Partition>>,
    /// Number of the newest entry, 1 or more. Only the entry whose number its partition holds counts.
    newest: u32,
}

impl Flusher {
    /// Starts the loops over the directory of `vital`.
    pub fn start(vital: &Vital, metrics: &Metrics) -> Flusher {
        let queue = Arc::<Queue>::default();
        let (q, v, m) = (queue.clone(), vital.clone(), metrics.clone());
        vital.spawn("flusher", async move {
            let _ended = Ended(q.clone());
            let e = v.env().clone();
            if e.disk().deterministic() {
                while !q.stopped.load(Ordering::Acquire) {
                    let batch = std::mem::take(&mut lock(&q.state).dirty);
                    if batch.is_empty() {
                        q.task.notified().await;
                        continue;
                    }
                    let (v, m) = (v.clone(), m.clone());
                    e.blocking(move || watched_round(&v, &m, &batch)).await;
                }
            } else {
                e.blocking(move || {
                    while let Some(batch) = q.wait() {
                        watched_round(&v, &m, &batch);
                    }
                })
                .await;
            }
        });
        let (q, v, m) = (queue.clone(), vital.clone(), metrics.clone());
        vital.spawn("background flusher", async move {
            while !q.stopped.load(Ordering::Acquire) {
                let batch = q.due_by(Instant::now());
                if !batch.is_empty() {
                    let (round, m) = (v.clone(), m.clone());
                    v.env().blocking(move || watched_round(&round, &m, &batch)).await;
                    continue;
                }
                let next = lock(&q.relaxed).due.keys().next().map(|(at, _)| *at);
                match next {
                    Some(at) => {
                        let _ = tokio::time::timeout_at(at, q.relaxed_changed.notified()).await;
                    }
                    None => q.relaxed_changed.notified().await,
                }
            }
        });
        Flusher { queue }
    }

    /// These have appends that somebody waits for: flush them with the next round.
    pub fn mark(&self, partitions: Vec<Arc<Partition>>) {
        let mut state = lock(&self.queue.state);
        if self.queue.stopped.load(Ordering::Acquire) {
            drop(state);
            return fail(&partitions);
        }
        let before = state.dirty.len();
        state.dirty.extend(partitions.into_iter().filter(|p| !p.queued.swap(true, Ordering::AcqRel)));
        if before == 0 && !state.dirty.is_empty() {
            let sleeping = std::mem::take(&mut state.sleeping);
            drop(state);
            if sleeping {
                self.queue.thread.notify_one();
            }
            self.queue.task.notify_one();
        }
    }

    /// This relaxed partition has unflushed bytes: flush it within `period_ms`, or soon when `now`.
    pub fn mark_relaxed(&self, partition: &Arc<Partition>, period_ms: u64, now: bool) {
        // The log end is published before the look at the number, the number is taken away before the look at the log end: one of both sees the other.
        fence(Ordering::SeqCst);
        if now {
            if !partition.queued.swap(true, Ordering::AcqRel) {
                self.list(partition, Duration::ZERO, |_| false);
            }
        } else if partition.background.load(Ordering::Relaxed) == 0 {
            self.list(partition, Duration::from_millis(period_ms), |p| p.background.load(Ordering::Relaxed) != 0);
        }
    }

    /// The time to flush this partition's unflushed bytes in the background is `period_ms` from now on, whatever it was.
    pub fn remark_relaxed(&self, partition: &Arc<Partition>, period_ms: u64) {
        // What a round will take soon has no other time.
        self.list(partition, Duration::from_millis(period_ms), |p| p.queued.load(Ordering::Acquire));
    }

    /// Lists a partition as due in a while, in place of an entry that it has. `unless` is asked under the list's lock.
    fn list(&self, partition: &Arc<Partition>, wait: Duration, unless: impl FnOnce(&Partition) -> bool) {
        let mut relaxed = lock(&self.queue.relaxed);
        if unless(partition) {
            return;
        }
        relaxed.newest = relaxed.newest.wrapping_add(1).max(1);
        let key = (Instant::now() + wait, relaxed.newest);
        partition.background.store(relaxed.newest, Ordering::Relaxed);
        relaxed.due.insert(key, Arc::downgrade(partition));
        let first = relaxed.due.keys().next() == Some(&key);
        drop(relaxed);
        if first {
            self.queue.relaxed_changed.notify_one();
        }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.queue.stopped.store(true, Ordering::Release);
        lock(&self.queue.relaxed).due.clear();
        drop(lock(&self.queue.state));
        self.queue.thread.notify_all();
        self.queue.task.notify_one();
        self.queue.relaxed_changed.notify_one();
    }
}

impl Queue {
    /// The next batch, waiting for it; `None` when the loop is to end. Blocks.
    fn wait(&self) -> Option<Vec<Arc<Partition>>> {
        let mut state = lock(&self.state);
        loop {
            if self.stopped.load(Ordering::Acquire) {
                return None;
            }
            if !state.dirty.is_empty() {
                return Some(std::mem::take(&mut state.dirty));
            }
            state.sleeping = true;
            state = self.thread.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    /// Takes what is due.
    fn due_by(&self, now: Instant) -> Vec<Arc<Partition>> {
        let mut relaxed = lock(&self.relaxed);
        let later = relaxed.due.split_off(&(now, u32::MAX));
        let due = std::mem::replace(&mut relaxed.due, later);
        // An entry that another took the place of is not the one its partition knows.
        let valid = |p: &Arc<Partition>, number| {
            p.background.compare_exchange(number, 0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        };
        due.into_iter().filter_map(|((_, number), p)| p.upgrade().filter(|p| valid(p, number))).collect()
    }
}

/// Held by the flush loop: when that ends, by a panic too, nothing on its queue will be acknowledged, nor what is put there after.
struct Ended(Arc<Queue>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::Release);
        // Its own turn of the lock: whoever holds it either is seen below or sees the mark.
        let queued = std::mem::take(&mut lock(&self.0.state).dirty);
        self.0.thread.notify_all();
        fail(&queued);
    }
}

/// Tells all that waits for these that it will not be acknowledged.
fn fail(partitions: &[Arc<Partition>]) {
    let mut wakers = Wakers::default();
    partitions.iter().for_each(|p| p.fail(&mut wakers));
    wakers.wake();
}

/// One round; a panic in it ends what waits for its partitions, then the loop. Blocks.
fn watched_round(vital: &Vital, metrics: &Metrics, partitions: &[Arc<Partition>]) {
    let run = || round(vital.directory(), metrics, partitions);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        // First: whoever is told here may look at once.
        vital.panicked("flush round", &*panic);
        fail(partitions);
        resume_unwind(panic);
    }
}

/// One round. Blocks.
fn round(directory: &Directory, metrics: &Metrics, partitions: &[Arc<Partition>]) {
    let mut wakers = Wakers::default();
    let mut dirty = Vec::with_capacity(partitions.len());
    let mut flushed = Vec::with_capacity(partitions.len());
    fence(Ordering::SeqCst);
    for partition in partitions {
        // Before the look at the log: what is appended from now on marks it again, and what found the mark set has published its end.
        partition.queued.swap(false, Ordering::AcqRel);
        match partition.reader.load().as_ref().and_then(|reader| reader.dirty()) {
            Some(d) => {
                dirty.push(d);
                flushed.push(partition);
            }
            None => partition.settle(&mut wakers),
        }
    }
    if dirty.is_empty() {
        return;
    }
    let ends = directory.flush(&dirty).ends;
    drop(dirty);
    metrics.flush_rounds.increment(1);
    for (partition, end) in flushed.iter().zip(&ends) {
        match end {
            Ok(_) => partition.settle(&mut wakers),
            Err(Error::Exhausted { path }) => {
                let path = path.display();
                tracing::warn!(topic = %partition.topic.name, partition = partition.index, %path, "no file descriptors or memory left to flush with: tried again");
                partition.shared.flusher.remark_relaxed(partition, RETRY_MS);
            }
            Err(e) => {
                metrics.flush_failures.increment(1);
                tracing::error!(topic = %partition.topic.name, partition = partition.index, error = %e, "flush failed: no more writes until a restart");
                partition.fail(&mut wakers);
            }
        }
    }
    wakers.wake();
    for (partition, end) in flushed.into_iter().zip(ends) {
        if end.is_ok() && partition.snapshot_due.load(Ordering::Acquire) {
            let (partition, env) = (partition.clone(), partition.shared.env.clone());
            env.clone().spawn("producer snapshot", async move {
                env.blocking(move || partition.snapshot_producers()).await;
            });
        }
    }
}

impl Partition {
    /// Takes the producers' snapshot at the log end, and writes it once all below that is durable (else a crash could leave one that knows of records
    /// which are gone). Blocks.
    fn snapshot_producers(&self) {
        let mut phase = self.lock();
        let Phase::Open(open) = &mut *phase else { return };
        let Open { log, producers, bytes_since_snapshot, snapshot, .. } = &mut **open;
        let reader = log.reader();
        let (offset, bytes) = snapshot.take().unwrap_or_else(|| (reader.log_end(), producers.encode()));
        if reader.durable_end() < offset {
            *snapshot = Some((offset, bytes));
            return;
        }
        *bytes_since_snapshot = 0;
        self.snapshot_due.store(false, Ordering::Release);
        if let Err(e) = log.write_producer_snapshot(offset, &bytes) {
            tracing::warn!(topic = %self.topic.name, partition = self.index, error = %e, "producers were not written down");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
