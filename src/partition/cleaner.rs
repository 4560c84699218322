//! Housekeeping of logs: retention, expiry of producers, closing what is idle. The loop that calls this is the broker's.

use super::{Partition, PartitionError, Phase, waiters::Wakers};
use std::sync::{Arc, atomic::Ordering};

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

    /// When the log was used last (wall ms), if it is open and all durable.
    pub fn idle_since_ms(&self) -> Option<i64> {
        match &*self.lock() {
            Phase::Open(open) if open.log.reader().dirty_bytes() == 0 => Some(open.used_ms),
            _ => None,
        }
    }
}
