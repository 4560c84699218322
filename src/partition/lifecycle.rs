//! The life of a partition's log: cold, opened by the first who needs it, closed again when the machine has no room for it, deleted, stopped.
//!
//! Only one of these is under way at a time (`Phase::Busy`); whoever comes meanwhile waits for its end and looks again.

use super::{
    Effects, Open, Partition, PartitionError, Phase, Producers,
    waiters::{Goal, Wakers},
};
use millstream_storage::{self as storage, Batch, Log, LogReader};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
};
use tokio::sync::oneshot;

impl Partition {
    /// The log's reader, opening it first where it is cold.
    pub async fn opened_reader(self: &Arc<Self>) -> Result<Arc<LogReader>, PartitionError> {
        loop {
            if let Some(reader) = self.reader.load_full() {
                return Ok(reader);
            }
            self.open().await?;
        }
    }

    /// Opens the log (and recovers it where that is due); others that ask meanwhile wait for the same opening. The work goes on when this is dropped.
    pub async fn open(self: &Arc<Self>) -> Result<(), PartitionError> {
        loop {
            let opened = {
                let mut phase = self.lock();
                match &mut *phase {
                    Phase::Open(_) => return Ok(()),
                    Phase::Offline(reason) => return Err(PartitionError::Storage(reason.clone())),
                    Phase::Deleted => return Err(PartitionError::Deleted),
                    Phase::Stopped => return Err(PartitionError::Stopping),
                    Phase::Busy(waiting) => {
                        let (sender, receiver) = oneshot::channel();
                        waiting.push(sender);
                        receiver
                    }
                    Phase::Cold => {
                        if self.is_deleted() {
                            return Err(PartitionError::Deleted);
                        }
                        let (sender, receiver) = oneshot::channel();
                        *phase = Phase::Busy(vec![sender]);
                        self.start_opening();
                        receiver
                    }
                }
            };
            if let Ok(Some(reason)) = opened.await {
                return Err(PartitionError::Storage(reason));
            }
        }
    }

    /// Starts to open the log where it is cold, without waiting for it.
    pub fn begin_opening(self: &Arc<Self>) {
        let mut phase = self.lock();
        if matches!(*phase, Phase::Cold) && !self.is_deleted() {
            *phase = Phase::Busy(Vec::new());
            self.start_opening();
        }
    }

    fn start_opening(self: &Arc<Self>) {
        let (partition, loading) = (self.clone(), self.clone());
        let env = self.shared.env.clone();
        self.shared.env.spawn("open partition", async move {
            // Its directory may still hold the data of a topic that had the name before. The sender lives as long as `shared`. A deletion of this one
            // waits for the end of `Busy` before the name is free: it ends the wait.
            let mut deleting = partition.shared.deleting.subscribe();
            let free = |names: &BTreeMap<_, _>| partition.is_deleted() || !names.contains_key(&partition.topic.name);
            let _ = deleting.wait_for(free).await;
            if partition.is_deleted() {
                partition.leave_busy(Phase::Cold, None);
                return;
            }
            let loaded = env
                .blocking(move || {
                    // A panic here must not leave everybody waiting.
                    catch_unwind(AssertUnwindSafe(|| loading.load()))
                })
                .await;
            partition.finish_opening(loaded);
        });
    }

    /// Opens the log and brings the producers up to its end. Blocks.
    fn load(&self) -> storage::Result<Open> {
        let now_ms = self.shared.env.now_ms();
        let config = self.topic.settings.load().log_of(self.id().topic_id, self.index);
        let log = self.shared.directory.open_log(self.id(), &self.topic.name, config, now_ms)?;
        let producers = load_producers(&log, now_ms);
        Ok(Open { log, producers, bytes_since_snapshot: 0, snapshot: None })
    }

    fn finish_opening(self: &Arc<Self>, loaded: std::thread::Result<storage::Result<Open>>) {
        let (next, failure) = match loaded {
            Ok(Ok(open)) => {
                let reader = Arc::new(open.log.reader().clone());
                self.high_watermark.fetch_max(self.settled_end(&reader), Ordering::AcqRel);
                self.touch(self.shared.env.now_ms());
                self.publish_reader(Some(reader));
                (Phase::Open(Box::new(open)), None)
            }
            Ok(Err(e)) => {
                tracing::error!(topic = %self.topic.name, partition = self.index, error = %e, "log could not be opened");
                let reason: Arc<str> = e.to_string().into();
                (Phase::Cold, Some(reason))
            }
            Err(_) => {
                let reason: Arc<str> = "opening the log panicked".into();
                (self.go_offline(reason.clone()), Some(reason))
            }
        };
        let mut effects = Effects::default();
        if let Some(reader) = &*self.reader.load()
            && reader.dirty_bytes() > 0
        {
            effects.dirty.push(self.clone());
        }
        self.leave_busy(next, failure);
        self.settle(&mut effects.wakers);
        // The watermark may have moved above, before there was a reader to show it: settling alone would take that for no move.
        self.waiters.reached(Goal::Watermark, self.high_watermark.load(Ordering::Acquire), &mut effects.wakers);
        self.waiters.moved(&mut effects.wakers);
    }

    pub(super) fn publish_reader(&self, reader: Option<Arc<LogReader>>) {
        let open_logs = &self.shared.open_logs;
        let opened = reader.is_some();
        let was_open = self.reader.swap(reader).is_some();
        if opened && !was_open {
            let others = open_logs.fetch_add(1, Ordering::Relaxed);
            if others >= self.shared.open_logs_max {
                self.shared.crowded.notify_one();
            }
        } else if was_open && !opened {
            open_logs.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A panic in the middle of an opening or a closing: nobody knows what the log is like. Gives the phase that comes of it.
    fn go_offline(&self, reason: Arc<str>) -> Phase {
        tracing::error!(topic = %self.topic.name, partition = self.index, reason = &*reason, "the partition is offline");
        self.shared.metrics.partitions_offline.increment(1.0);
        self.fail(&mut Wakers::default());
        Phase::Offline(reason)
    }

    /// Ends a `Busy` phase and tells who waited.
    fn leave_busy(&self, next: Phase, failure: Option<Arc<str>>) {
        let before = std::mem::replace(&mut *self.lock(), next);
        if let Phase::Busy(waiting) = before {
            for sender in waiting {
                let _ = sender.send(failure.clone());
            }
        }
    }

    /// The topic is gone: nothing is served from now on, and what waits is told.
    pub fn mark_deleted(&self) {
        if !self.deleted.swap(true, Ordering::AcqRel) {
            // An opening of it that waits for the name gives up.
            self.shared.deleting.send_modify(|_| ());
        }
        let mut wakers = Wakers::default();
        self.waiters.fail(&mut wakers);
        self.waiters.moved(&mut wakers);
    }

    /// Deletes the data (its files go after file.delete.delay.ms).
    pub async fn delete(self: &Arc<Self>) {
        self.mark_deleted();
        let Some(phase) = self.take_idle(Phase::Deleted).await else { return };
        self.publish_reader(None);
        let partition = self.clone();
        let delete = move || {
            let (id, topic) = (partition.id(), &partition.topic.name);
            match phase {
                Phase::Open(mut open) => partition.shared.directory.delete_partition(id, topic, Some(&mut open.log)),
                _ => partition.shared.directory.delete_partition(id, topic, None),
            }
        };
        // A panic must not keep the topic's other partitions.
        let deleted = self.shared.env.blocking(move || catch_unwind(AssertUnwindSafe(delete))).await;
        let failure = match deleted {
            Ok(deleted) => deleted.err().map(|e| e.to_string()),
            Err(_) => Some("a panic".to_string()),
        };
        if let Some(error) = failure {
            tracing::error!(topic = %self.topic.name, partition = self.index, error, "data of a deleted topic stays");
        }
        self.note_change();
        // The first sweep sets the delay going.
        self.shared.sweep.after(0);
        self.shared.sweep.after(60_000);
        self.hurry_when_full();
        self.waiters.moved(&mut Wakers::default());
    }

    /// The broker stops: no more appends; the log is flushed and closed.
    pub async fn stop(self: &Arc<Self>) {
        let Some(Phase::Open(open)) = self.take_idle(Phase::Stopped).await else { return };
        let partition = self.clone();
        let closed = self.shared.env.blocking(move || partition.close(*open)).await;
        // Whoever still waits hears that it is settled, or that it never will be.
        let mut wakers = Wakers::default();
        self.settle(&mut wakers);
        match closed {
            Ok(true) => self.waiters.fail(&mut wakers),
            // Nor does what is parked from now on.
            _ => self.fail(&mut wakers),
        }
    }

    /// Closes a log that nobody used lately: the partition is cold again. Does nothing when it is busy, not all durable, or could not be opened again since the
    /// directory or the partition has failed.
    pub async fn cool(self: &Arc<Self>) {
        let open = {
            let mut phase = self.lock();
            if self.failed.load(Ordering::Acquire) || self.shared.directory.failure().is_some() {
                return;
            }
            match std::mem::replace(&mut *phase, Phase::Busy(Vec::new())) {
                Phase::Open(open) if open.is_durable() => open,
                other => {
                    *phase = other;
                    return;
                }
            }
        };
        // The round that made it durable settles it after the slowest log of the round, and finds no reader then.
        let mut wakers = Wakers::default();
        self.settle(&mut wakers);
        wakers.wake();
        self.publish_reader(None);
        let (partition, env) = (self.clone(), self.shared.env.clone());
        // By a task of its own, so that `Busy` ends whatever becomes of the caller.
        let task = self.shared.env.spawn("close partition", async move {
            let closing = partition.clone();
            let next = match env.blocking(move || closing.close(*open)).await {
                Ok(_) => Phase::Cold,
                Err(_) => partition.go_offline("closing the log panicked".into()),
            };
            partition.leave_busy(next, None);
        });
        let _ = task.await;
    }

    /// Flush, snapshot, watermark, close; whether all is durable. A panic must not leave everybody waiting: it is the error. Blocks.
    fn close(&self, open: Open) -> std::thread::Result<bool> {
        catch_unwind(AssertUnwindSafe(|| self.close_log(open)))
    }

    fn close_log(&self, open: Open) -> bool {
        let (end, now_ms) = (open.log.reader().log_end(), self.shared.env.now_ms());
        // The snapshot comes after the flush: it must not know of records that a crash takes away. What the flush says, the close says again.
        if end > 0
            && let Err(e) =
                open.log.flush().and_then(|()| open.log.write_producer_snapshot(end, &open.producers.encode()))
        {
            tracing::warn!(topic = %self.topic.name, partition = self.index, error = %e, "producers were not written down");
        }
        open.log.note_high_watermark(self.high_watermark.load(Ordering::Acquire));
        self.note_change();
        let closed = open.log.close(now_ms);
        if let Err(e) = &closed {
            tracing::error!(topic = %self.topic.name, partition = self.index, error = %e, "log was not closed cleanly");
        }
        closed.is_ok()
    }

    /// Takes the phase when nothing is under way and leaves `next`. `None` when it was at its end already.
    async fn take_idle(&self, next: Phase) -> Option<Phase> {
        let mut next = Some(next);
        loop {
            let busy = {
                let mut phase = self.lock();
                match &mut *phase {
                    Phase::Busy(waiting) => {
                        let (sender, receiver) = oneshot::channel();
                        waiting.push(sender);
                        receiver
                    }
                    Phase::Deleted | Phase::Stopped => return None,
                    phase => return next.take().map(|next| std::mem::replace(phase, next)),
                }
            };
            let _ = busy.await;
        }
    }
}

/// The producers of a log just opened: the newest sound snapshot, then the headers of the batches behind it. Blocks.
fn load_producers(log: &Log, now_ms: i64) -> Producers {
    let reader = log.reader();
    let (mut at, mut producers) = (reader.log_start(), Producers::default());
    for (offset, bytes) in log.producer_snapshots() {
        match Producers::decode(&bytes, now_ms) {
            Ok(found) => {
                (at, producers) = (offset.max(reader.log_start()), found);
                break;
            }
            Err(e) => {
                tracing::warn!(offset, error = %e, "producer snapshot is ignored");
                log.remove_producer_snapshot(offset);
            }
        }
    }
    let end = reader.log_end();
    while at < end {
        match reader.read(at, 1 << 20, end, true) {
            Ok(Some(slice)) => {
                let mut bytes = &slice.bytes[..];
                let from = at;
                while let Ok(batch) = Batch::parse(bytes) {
                    // A batch that straddles the snapshot's offset is in it.
                    if batch.base_offset >= from {
                        producers.record(&batch, batch.base_offset, batch.max_timestamp, now_ms);
                    }
                    at = at.max(batch.next_offset());
                    bytes = bytes.get(batch.size_bytes..).unwrap_or_default();
                }
                if at == from {
                    break;
                }
            }
            Ok(None) => break,
            // Quarantined damage: whoever wrote it is not known any more; go on behind it.
            Err(storage::Error::Corrupt { offset, .. }) => at = at.max(offset) + 1,
            Err(e) => {
                tracing::warn!(offset = at, error = %e, "producers could not be read back in full");
                break;
            }
        }
    }
    producers
}
