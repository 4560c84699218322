//! Appending as the leader.

use super::{Effects, Partition, PartitionError, Phase, flusher, producers::Verdict, waiters::Goal};
use crate::{config::TopicSettings, limits::UNPACKED_BATCH_BYTES_MAX, wire::codec};
use millstream_storage::{
    Batch, TimestampType,
    batch::{self, HEADER_BYTES},
    record,
};
use std::sync::{Arc, atomic::Ordering};

/// Appended bytes after which the producers are written down again.
const SNAPSHOT_BYTES: u64 = 64 << 20;
/// Bytes of a relaxed partition after which it is flushed in the background.
const BACKGROUND_BYTES: u64 = 64 << 20;

/// A batch is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub base_offset: i64,
    /// -1 with CreateTime.
    pub log_append_time_ms: i64,
    pub log_start: i64,
    /// What an acknowledgement has to wait for, if anything: the goal reaching this offset.
    pub wait: Option<(Goal, i64)>,
}

/// Judges the records a producer sent for one partition before any lock is taken: exactly one sound batch that the topic's settings allow.
pub fn check(bytes: &[u8], settings: &TopicSettings, now_ms: i64) -> Result<Batch, PartitionError> {
    // Before the sum over its bytes: a batch too large is refused for that.
    let size_bytes = Batch::parse(bytes)?.size_bytes;
    let max_bytes = settings.max_message_bytes;
    if size_bytes > max_bytes {
        return Err(PartitionError::TooLarge { size_bytes, max_bytes });
    }
    let header = batch::check(bytes)?;
    if bytes.len() != size_bytes {
        return Err(PartitionError::InvalidRecord("a partition takes exactly one record batch a request"));
    }
    if header.is_control() {
        return Err(PartitionError::InvalidRecord("clients may not write control records"));
    }
    if header.is_transactional() {
        return Err(PartitionError::InvalidTransactionState("transactions are not supported by this broker"));
    }
    if !settings.log_append_time {
        check_timestamps(&header, settings, now_ms)?;
    }
    let compressed = header.compression() != 0;
    if settings.cleanup_compact || (settings.validate_full && compressed) {
        check_records(&header, &bytes[HEADER_BYTES..size_bytes], settings.cleanup_compact)?;
    }
    Ok(header)
}

/// What an acknowledgement of records that end at `next_offset` waits for. `flush_now`: flush.messages wants them on disk before it.
fn wait_for(acks: i16, settings: &TopicSettings, flush_now: bool, next_offset: i64) -> Option<(Goal, i64)> {
    let goal = match acks {
        0 => return None,
        // The watermark of a durable topic waits for every replica's disk, this one's included; and it is what a reader goes by.
        -1 if settings.durable || !flush_now => Goal::Watermark,
        // The watermark of a relaxed topic with one replica passes the records with their append, so that the disk is all that is left to wait for.
        _ if flush_now => Goal::Durable,
        _ => return None,
    };
    Some((goal, next_offset))
}

/// Looks at each record of a batch, unpacked first where it is compressed: as many as the header says, offset deltas 0, 1, 2 and so on, with a key where one is needed.
fn check_records(header: &Batch, payload: &[u8], keyed: bool) -> Result<(), PartitionError> {
    let unpacked = unpack(header, payload)?;
    check_each(header, unpacked.as_deref().unwrap_or(payload), keyed)
}

/// The records of a batch; `None` where they are not compressed.
pub(super) fn unpack(header: &Batch, payload: &[u8]) -> Result<Option<Vec<u8>>, PartitionError> {
    match header.compression() {
        0 => Ok(None),
        codec => {
            let unpacked = codec::unpack(codec, payload, UNPACKED_BATCH_BYTES_MAX);
            Ok(Some(unpacked.ok_or(PartitionError::InvalidRecord("the batch cannot be unpacked"))?))
        }
    }
}

/// Each record of a batch, unpacked: as many as the header says, offset deltas 0, 1, 2 and so on, with a key where one is needed.
pub(super) fn check_each(header: &Batch, plain: &[u8], keyed: bool) -> Result<(), PartitionError> {
    for (n, r) in record::records(plain, header.record_count).enumerate() {
        let r = r?;
        if r.offset_delta as usize != n {
            return Err(PartitionError::InvalidRecord("offset deltas are not 0, 1, 2 and so on"));
        }
        if keyed && r.key.is_none() {
            return Err(PartitionError::InvalidRecord("a compacted topic takes no records without a key"));
        }
    }
    Ok(())
}

fn check_timestamps(header: &Batch, settings: &TopicSettings, now_ms: i64) -> Result<(), PartitionError> {
    let invalid = |timestamp| Err(PartitionError::InvalidTimestamp { timestamp, now_ms });
    if header.is_log_append_time() {
        return invalid(header.max_timestamp);
    }
    if header.max_timestamp >= 0 && header.max_timestamp.saturating_sub(now_ms) > settings.timestamp_after_max_ms {
        return invalid(header.max_timestamp);
    }
    if header.base_timestamp >= 0 && now_ms.saturating_sub(header.base_timestamp) > settings.timestamp_before_max_ms {
        return invalid(header.base_timestamp);
    }
    Ok(())
}

impl Partition {
    /// Appends one batch that [`check`] accepted. `acks` is -1, 0 or 1. `NotOpen` when the log is cold: await [`Partition::open`], then again.
    pub fn append_as_leader(
        self: &Arc<Self>,
        bytes: &[u8],
        header: &Batch,
        acks: i16,
        now_ms: i64,
        effects: &mut Effects,
    ) -> Result<Appended, PartitionError> {
        self.check_leader(-1)?;
        let settings = self.topic.settings.load();
        if acks == -1 {
            self.check_in_sync(&settings)?;
        }
        if self.failed.load(Ordering::Acquire) {
            let reason = self.shared.directory.failure();
            return Err(PartitionError::Storage(reason.unwrap_or_else(|| "a flush failed".into()).into()));
        }
        let leader_epoch = self.leader_epoch.load(Ordering::Acquire);
        let kind = if settings.log_append_time { TimestampType::LogAppendTime } else { TimestampType::CreateTime };
        let mut phase = self.lock();
        let Phase::Open(open) = &mut *phase else { return Err(phase.refusal()) };
        if let Verdict::Duplicate { base_offset, last_offset, timestamp } = open.producers.check(header)? {
            let (log_start, durable_end) = (open.log.reader().log_start(), open.log.reader().durable_end());
            drop(phase);
            let log_append_time_ms = if settings.log_append_time { timestamp } else { -1 };
            // It waits as the original does. How many records were unflushed then is not known any more: with flush.messages it is flushed in any case.
            let flush_now = settings.flush_messages < i64::MAX && durable_end <= last_offset;
            if flush_now {
                effects.dirty.push(self.clone());
            }
            let wait = wait_for(acks, &settings, flush_now, last_offset + 1);
            return Ok(Appended { base_offset, log_append_time_ms, log_start, wait });
        }
        let appended = open.log.append_as_leader(bytes, header, leader_epoch, kind, now_ms).inspect_err(|e| {
            if matches!(e, millstream_storage::Error::NoSpace { .. }) {
                self.shared.room_wanted_bytes.store(bytes.len() as u64, Ordering::Release);
                self.shared.disk_full.notify_one();
            }
        })?;
        let timestamp = if settings.log_append_time { appended.log_append_time_ms } else { header.max_timestamp };
        open.producers.record(header, appended.base_offset, timestamp, now_ms);
        open.bytes_since_snapshot += bytes.len() as u64;
        let snapshot = appended.rolled || open.bytes_since_snapshot >= SNAPSHOT_BYTES;
        let reader = open.log.reader();
        let log_start = reader.log_start();
        let dirty_bytes = if settings.durable { 0 } else { reader.dirty_bytes() };
        let unflushed = appended.last_offset + 1 - reader.durable_end();
        if self.shared.figures {
            // Under the lock, so that marks stand in the order of the appends.
            self.clock().note(appended.base_offset, appended.last_offset + 1, now_ms);
        }
        drop(phase);

        if self.shared.figures {
            let records = appended.last_offset + 1 - appended.base_offset;
            self.shared.active.appended(&self.topic, bytes.len() as u64, records as u64);
        }

        if snapshot {
            self.snapshot_due.store(true, Ordering::Release);
        }
        self.note_change();
        self.touch(now_ms);
        self.shared.metrics.appended_bytes.increment(bytes.len() as u64);
        self.shared.metrics.appended_batches.increment(1);
        let next_offset = appended.last_offset + 1;
        let flush_now = unflushed >= settings.flush_messages;
        if settings.durable || flush_now {
            effects.dirty.push(self.clone());
        } else {
            self.shared.flusher.mark_relaxed(self, flusher::period_ms(&settings), dirty_bytes >= BACKGROUND_BYTES);
        }
        if !settings.durable {
            self.settle(&mut effects.wakers);
        }
        Ok(Appended {
            base_offset: appended.base_offset,
            log_append_time_ms: appended.log_append_time_ms,
            log_start,
            wait: wait_for(acks, &settings, flush_now, next_offset),
        })
    }

    /// acks=all needs min.insync.replicas in sync, or all there are when that is fewer.
    fn check_in_sync(&self, settings: &TopicSettings) -> Result<(), PartitionError> {
        let needed = settings.min_insync_replicas.min(self.replica_count.load(Ordering::Acquire));
        let in_sync = self.isr_count.load(Ordering::Acquire);
        if in_sync < needed { Err(PartitionError::NotEnoughReplicas { in_sync, needed }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Dynamic};
    use millstream_storage::record::BatchBuilder;
    use std::{collections::BTreeMap, io::Write};

    const NOW: i64 = 1_000_000;

    fn settings(own: &[(&str, &str)]) -> TopicSettings {
        let own: BTreeMap<String, String> = own.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::local("/nowhere").topic(&own, &Dynamic::default())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        w.write_all(bytes).unwrap();
        w.finish().unwrap()
    }

    /// A gzip batch of two records, and the same claiming three, cut short, and with a null key.
    fn batches() -> [Vec<u8>; 4] {
        let two = BatchBuilder::new().record(NOW, Some(b"a"), None, &[]).record(NOW, Some(b"b"), None, &[]);
        let three = two.clone().record(NOW, Some(b"c"), None, &[]);
        let keyless = two.clone().record(NOW, None, Some(b"v"), &[]);
        let packed = gzip(two.payload());
        [
            two.build_with(1, &packed),
            three.build_with(1, &packed),
            two.build_with(1, &packed[..packed.len() / 2]),
            keyless.build_with(1, &gzip(keyless.payload())),
        ]
    }

    #[test]
    fn full_validation_looks_into_compressed_batches() {
        let [good, wrong_count, damaged, keyless] = batches();
        let headers = settings(&[]);
        for batch in [&good, &wrong_count, &damaged, &keyless] {
            assert!(check(batch, &headers, NOW).is_ok(), "its header is sound");
        }
        let full = settings(&[("millstream.validate", "full")]);
        assert!(check(&good, &full, NOW).is_ok() && check(&keyless, &full, NOW).is_ok());
        assert!(check(&wrong_count, &full, NOW).is_err());
        assert!(check(&damaged, &full, NOW).is_err());
    }

    #[test]
    fn a_compacted_topic_takes_no_records_without_a_key() {
        let [good, _, damaged, keyless] = batches();
        let compacted = settings(&[("cleanup.policy", "compact")]);
        assert!(check(&good, &compacted, NOW).is_ok());
        assert!(matches!(check(&keyless, &compacted, NOW), Err(PartitionError::InvalidRecord(_))));
        assert!(check(&damaged, &compacted, NOW).is_err());
        let plain = BatchBuilder::new().record(NOW, None, Some(b"v"), &[]).build();
        assert!(matches!(check(&plain, &compacted, NOW), Err(PartitionError::InvalidRecord(_))));
        assert!(check(&plain, &settings(&[]), NOW).is_ok());
    }

    #[test]
    fn timestamps_outside_the_bounds_are_refused() {
        let bounds = settings(&[("message.timestamp.before.max.ms", "10"), ("message.timestamp.after.max.ms", "20")]);
        let at = |ms| check(&BatchBuilder::new().record(ms, None, None, &[]).build(), &bounds, NOW).is_ok();
        assert!(at(NOW - 10) && at(NOW + 20) && at(NOW));
        assert!(!at(NOW - 11) && !at(NOW + 21));
        let appended =
            settings(&[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.before.max.ms", "1")]);
        assert!(check(&BatchBuilder::new().record(5, None, None, &[]).build(), &appended, NOW).is_ok());
    }
}
