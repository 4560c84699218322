//! Housekeeping of logs: retention, expiry of producers, closing what is idle, unlinking what was deleted. The loops that call this are the broker's.

use super::{Partition, PartitionError, Phase, waiters::Wakers};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// When deleted files are due to be unlinked: no timer runs while there is none.
#[derive(Debug, Default)]
pub struct Sweep {
    /// At most one entry a second of the longest delay.
    due: Mutex<BTreeSet<Instant>>,
    sooner: Notify,
}

impl Sweep {
    /// Something was deleted whose files go after `delay_ms` (file.delete.delay.ms).
    pub fn after(&self, delay_ms: i64) {
        // Later than the delay by what the clocks may differ, and in whole seconds, so that many deletions are one entry.
        let delay_ms = match delay_ms.max(0) as u64 {
            0 => 0,
            ms => ms.saturating_add(1_000).min(1 << 40),
        };
        let at = Instant::now() + Duration::from_millis(delay_ms);
        let mut due = self.lock();
        let crowded =
            due.range(..=at).next_back().is_some_and(|before| delay_ms > 0 && at - *before < Duration::from_secs(1));
        if crowded {
            // That one is early for us by less than a second: replace it.
            due.pop_last();
        }
        due.insert(at);
        if due.first() == Some(&at) {
            self.sooner.notify_one();
        }
    }

    /// Waits until something is due.
    pub async fn next(&self) {
        loop {
            let first = self.lock().first().copied();
            match first {
                Some(at) if at <= Instant::now() => {
                    let now = Instant::now();
                    self.lock().retain(|at| *at > now);
                    return;
                }
                Some(at) => _ = tokio::time::timeout_at(at, self.sooner.notified()).await,
                None => self.sooner.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Instant>> {
        self.due.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Partition {
    /// Whether [`Partition::clean`] would find something to do: the log is open, or the catalogue says that a segment has expired. No I/O.
    pub fn wants_cleaning(&self, now_ms: i64) -> bool {
        self.is_open() || self.stat().expires_ms <= now_ms
    }

    /// Applies retention (opening a cold log for it) and forgets producers that were silent for `producer_expiration_ms`.
    pub async fn clean(self: &Arc<Self>, producer_expiration_ms: i64) -> Result<(), PartitionError> {
        self.open().await?;
        let (partition, env) = (self.clone(), self.shared.env.clone());
        env.blocking(move || partition.clean_open(producer_expiration_ms)).await
    }

    /// Blocks.
    fn clean_open(&self, producer_expiration_ms: i64) -> Result<(), PartitionError> {
        let now_ms = self.shared.env.now_ms();
        let (delete, high_watermark) = {
            let settings = self.topic.settings.load();
            (settings.cleanup_delete, self.high_watermark.load(Ordering::Acquire))
        };
        let mut removed = 0;
        if let Phase::Open(open) = &mut *self.lock() {
            open.producers.expire(now_ms, producer_expiration_ms);
            open.log.note_high_watermark(high_watermark);
            if delete {
                removed = open.log.retain(now_ms, high_watermark)?;
            }
        }
        if removed > 0 {
            tracing::info!(topic = %self.topic.name, partition = self.index, segments = removed, "retention");
            self.note_change();
            self.sweep_later();
            self.waiters.moved(&mut Wakers::default());
        }
        Ok(())
    }

    /// Unlinks the files of removed segments whose delay has passed at `now_ms` (`i64::MAX`: all of them; what readers hold stays readable). Blocks.
    pub fn remove_deleted(&self, now_ms: i64) {
        if let Phase::Open(open) = &mut *self.lock() {
            open.log.remove_deleted(now_ms);
        }
    }

    /// When the log was used last (wall ms, to about a second), if it is open and all durable.
    pub fn idle_since_ms(&self) -> Option<i64> {
        let reader = self.reader.load();
        let idle = reader.as_ref().is_some_and(|reader| reader.dirty_bytes() == 0);
        idle.then(|| self.used_ms.load(Ordering::Relaxed))
    }

    /// The log is used at `now_ms`.
    pub(super) fn touch(&self, now_ms: i64) {
        // One store a second: readers on other cores load this line.
        if now_ms.saturating_sub(self.used_ms.load(Ordering::Relaxed)) >= 1_000 {
            self.used_ms.store(now_ms, Ordering::Relaxed);
        }
    }

    /// Files of this partition were deleted: they are unlinked when their delay has passed, on a full disk at once.
    pub(super) fn sweep_later(&self) {
        self.shared.sweep.after(self.topic.settings.load().log.file_delete_delay_ms);
        self.hurry_when_full();
    }

    /// Something was deleted: while the disk is full it goes without its delay.
    pub(super) fn hurry_when_full(&self) {
        if self.shared.room_wanted_bytes.load(Ordering::Acquire) > 0 {
            self.shared.disk_full.notify_one();
        }
    }
}
