//! The flush loop of a data directory: gathers dirty partitions, flushes them in one round, moves their watermarks, wakes who waits.
//!
//! A round starts as soon as anything waits, never on a timer; while one runs the next gathers. In the real world the loop has a thread of the blocking pool to itself, so that
//! between an append and its flush there is one wake-up and no queue; simulated, it is a task. Relaxed (page-cache) partitions are flushed on the side, each
//! [`BACKGROUND_MS`] or 64 MiB: that moves their recovery point and keeps dirty pages few.

use super::{Open, Partition, Phase, waiters::Wakers};
use crate::{Env, metrics::Metrics};
use millstream_storage::{Directory, Error};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// Longest that an append of a relaxed partition stays unflushed, ms.
pub const BACKGROUND_MS: i64 = 5_000;

/// Wait before a flush that found no file descriptors or memory is tried again, ms.
const RETRY_MS: u64 = 100;

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
    due: BTreeMap<(Instant, u64), Weak<Partition>>,
    next: u64,
}

impl Flusher {
    /// Starts the loops over `directory`.
    pub fn start(env: &Env, directory: &Directory, metrics: &Metrics) -> Flusher {
        let queue = Arc::<Queue>::default();
        let (q, e, d, m) = (queue.clone(), env.clone(), directory.clone(), metrics.clone());
        env.spawn("flusher", async move {
            if e.disk().deterministic() {
                while !q.stopped.load(Ordering::Acquire) {
                    let batch = std::mem::take(&mut lock(&q.state).dirty);
                    if batch.is_empty() {
                        q.task.notified().await;
                        continue;
                    }
                    let (d, m) = (d.clone(), m.clone());
                    e.blocking(move || round(&d, &m, batch)).await;
                }
            } else {
                e.blocking(move || {
                    while let Some(batch) = q.wait() {
                        round(&d, &m, batch);
                    }
                })
                .await;
            }
        });
        let (q, e, d, m) = (queue.clone(), env.clone(), directory.clone(), metrics.clone());
        env.spawn("background flusher", async move {
            while !q.stopped.load(Ordering::Acquire) {
                let batch = q.due_by(Instant::now());
                if !batch.is_empty() {
                    let (d, m) = (d.clone(), m.clone());
                    e.blocking(move || round(&d, &m, batch)).await;
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
        if partition.background.load(Ordering::Acquire) && !now {
            return;
        }
        let known = partition.background.swap(true, Ordering::AcqRel);
        if known && (!now || partition.queued.swap(true, Ordering::AcqRel)) {
            return;
        }
        let at = Instant::now() + if now { Duration::ZERO } else { Duration::from_millis(period_ms) };
        let mut relaxed = lock(&self.queue.relaxed);
        relaxed.next += 1;
        let key = (at, relaxed.next);
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
        let later = relaxed.due.split_off(&(now, u64::MAX));
        std::mem::replace(&mut relaxed.due, later).into_values().filter_map(|p| p.upgrade()).collect()
    }
}

/// One round. Blocks.
fn round(directory: &Directory, metrics: &Metrics, partitions: Vec<Arc<Partition>>) {
    let mut wakers = Wakers::default();
    let mut dirty = Vec::with_capacity(partitions.len());
    let mut flushed = Vec::with_capacity(partitions.len());
    for partition in partitions {
        // Before the look at the log: what is appended from now on marks it again.
        partition.queued.store(false, Ordering::Release);
        partition.background.store(false, Ordering::Release);
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
                partition.shared.flusher.mark_relaxed(partition, RETRY_MS, false);
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
            let env = partition.shared.env.clone();
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
