//! Tests of the log on the real file system.

use super::*;
use crate::{OsDisk, record::BatchBuilder};
use std::fs;

struct Place {
    _tmp: tempfile::TempDir,
    dir: PathBuf,
}

fn place() -> Place {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("t-0");
    Place { _tmp: tmp, dir }
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 4096, index_interval_bytes: 256, ..LogConfig::default() }
}

impl Place {
    fn open(&self, stat: Option<LogStat>, config: LogConfig) -> Log {
        self.try_open(stat, config).unwrap()
    }
    fn try_open(&self, stat: Option<LogStat>, config: LogConfig) -> Result<Log> {
        Log::open(OpenLog {
            disk: Arc::new(OsDisk),
            dir: self.dir.clone(),
            id: PartitionId { topic_id: [7; 16], partition: 0 },
            config,
            stat,
            health: Health::new(),
            seat: Seat::alone(),
            now_ms: 1000,
        })
    }
    fn file(&self, base: i64, extension: &str) -> PathBuf {
        segment::file_name(&self.dir, base, extension)
    }
    fn bases(&self, extension: &str) -> Vec<i64> {
        let mut bases: Vec<i64> = fs::read_dir(&self.dir)
            .unwrap()
            .filter_map(|e| segment::base_of(e.unwrap().file_name().to_str().unwrap(), extension))
            .collect();
        bases.sort();
        bases
    }
}

/// A crash: the log is dropped as it is, what a catalogue of that moment knows is returned.
fn crash(log: Log, recovery_point: i64) -> Option<LogStat> {
    let stat = log.stat();
    Some(LogStat { recovery_point, needs_recovery: true, ..stat })
}

fn batch(records: usize, size: usize, timestamp: i64) -> Vec<u8> {
    let mut b = BatchBuilder::new();
    for i in 0..records {
        b.push(timestamp + i as i64, None, Some(&vec![b'v'; size]), &[]);
    }
    b.build()
}

fn append(log: &mut Log, records: usize, size: usize) -> Appended {
    append_at(log, records, size, 0, 1000)
}

fn append_at(log: &mut Log, records: usize, size: usize, epoch: i32, timestamp: i64) -> Appended {
    let bytes = batch(records, size, timestamp);
    let header = batch::check(&bytes).unwrap();
    log.append_as_leader(&bytes, &header, epoch, TimestampType::CreateTime, timestamp).unwrap()
}

fn flush(log: &Log) -> i64 {
    match log.reader().dirty() {
        Some(d) => d.flush().unwrap(),
        None => log.reader().durable_end(),
    }
}

/// Base offsets of all batches from `offset` on, each read checked.
fn offsets(log: &Log, mut offset: i64) -> Vec<i64> {
    let mut found = Vec::new();
    let r = log.reader();
    while offset < r.log_end() {
        let slice = r.read(offset, 1000, i64::MAX, true).unwrap().unwrap_or_else(|| panic!("nothing at {offset}"));
        slice.populate().unwrap();
        let mut at = 0;
        while at < slice.bytes.len() {
            let b = batch::check_stored(&slice.bytes[at..]).unwrap();
            found.push(b.base_offset);
            at += b.size_bytes;
            offset = b.next_offset();
        }
    }
    found
}

#[test]
fn appends_roll_and_read_back() {
    for durable in [false, true] {
        let p = place();
        let mut log = p.open(None, LogConfig { durable, ..small() });
        assert!(!p.dir.exists(), "no directory before the first append");
        assert!(log.reader().read(0, 100, i64::MAX, true).unwrap().is_none());
        let mut rolled = 0;
        for i in 0..100 {
            let a = append(&mut log, 2, 100);
            assert_eq!((a.base_offset, a.last_offset), (2 * i, 2 * i + 1));
            rolled += usize::from(a.rolled);
        }
        assert!(rolled > 3);
        assert_eq!(p.bases("log").len(), rolled + 1);
        assert_eq!(offsets(&log, 0), (0..100).map(|i| 2 * i).collect::<Vec<_>>());
        assert_eq!(offsets(&log, 51)[0], 50);
        assert_eq!(log.reader().durable_end(), 0);
        assert!(log.reader().dirty_bytes() > 0);
        assert_eq!(flush(&log), 200);
        assert_eq!(log.reader().dirty_bytes(), 0);
        assert!(log.reader().dirty().is_none());
        let size = log.reader().size_bytes();
        let stat = log.close(2000).unwrap();
        assert_eq!((stat.log_end, stat.recovery_point, stat.size_bytes), (200, 200, size));
        let on_disk: u64 = p.bases("log").iter().map(|b| fs::metadata(p.file(*b, "log")).unwrap().len()).sum();
        assert_eq!(on_disk, size, "no allocated tail after a clean stop");
        assert_eq!(
            fs::read_to_string(p.dir.join("partition.metadata")).unwrap(),
            "version: 0\ntopic_id: BwcHBwcHBwcHBwcHBwcHBw"
        );

        let mut log = p.open(Some(stat), LogConfig { durable, ..small() });
        assert_eq!(log.stat().size_bytes, size);
        assert_eq!(offsets(&log, 0), (0..100).map(|i| 2 * i).collect::<Vec<_>>());
        assert_eq!(append(&mut log, 1, 10).base_offset, 200);
        assert_eq!(offsets(&log, 198), [198, 200]);
    }
}

#[test]
fn a_crash_loses_only_what_was_not_whole() {
    let p = place();
    let mut log = p.open(None, small());
    for _ in 0..50 {
        append(&mut log, 1, 100);
    }
    flush(&log);
    let stat = crash(log, 20);
    let last = *p.bases("log").last().unwrap();
    let path = p.file(last, "log");
    // A torn batch behind the end.
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap() + 2; // the last record's header count is 0
    let torn = batch(1, 200, 5);
    bytes.truncate(end);
    bytes.extend_from_slice(&torn[..100]);
    fs::write(&path, bytes).unwrap();

    let mut log = p.open(stat, small());
    assert_eq!(log.reader().log_end(), 50);
    assert_eq!(log.reader().durable_end(), 50);
    assert_eq!(offsets(&log, 0), (0..50).collect::<Vec<_>>());
    assert_eq!(fs::metadata(&path).unwrap().len(), end as u64);
    append(&mut log, 1, 100);
    assert_eq!(offsets(&log, 48), [48, 49, 50]);
    assert!(p.bases("cut").is_empty());
}

#[test]
fn the_first_batch_that_does_not_follow_ends_the_log_and_whole_ones_behind_it_are_kept() {
    let p = place();
    let mut log = p.open(None, LogConfig::default());
    for _ in 0..10 {
        append(&mut log, 1, 100);
    }
    let size = log.reader().size_bytes() as usize / 10;
    flush(&log);
    let stat = crash(log, 4);
    let path = p.file(0, "log");
    let mut bytes = fs::read(&path).unwrap();
    bytes[6 * size + 80] ^= 1; // batch 6 of 0..10
    fs::write(&path, &bytes).unwrap();
    let mut log = p.open(stat, LogConfig::default());
    assert_eq!(log.reader().log_end(), 6);
    assert_eq!(p.bases("cut"), [6]);
    assert_eq!(fs::read(p.file(6, "cut")).unwrap(), &bytes[6 * size..10 * size]);
    assert_eq!(append(&mut log, 1, 100).base_offset, 6);
    let stat = crash(log, 4);
    let log = p.open(stat, LogConfig::default());
    assert_eq!(log.reader().log_end(), 7, "what was cut does not come back behind a batch of the same size");
}

#[test]
fn damage_below_the_recovery_point_costs_its_batch_only() {
    let p = place();
    let mut log = p.open(None, LogConfig::default());
    for _ in 0..10 {
        append(&mut log, 2, 100);
    }
    let size = log.reader().size_bytes() as usize / 10;
    flush(&log);
    // A flipped bit in the records, in the length, and in the magic.
    for (what, byte, bit) in [
        ("records", 80, 1),
        ("length", 10, 1),
        ("magic", 16, 1),
        ("offset", 0, 0x40),
        ("offset", 7, 4),
        ("last delta", 25, 1),
        ("last delta", 26, 1),
        ("last delta", 23, 0x80),
        ("count", 60, 4),
        ("length", 11, 0x40),
        ("length", 11, 1),
        ("timestamp", 40, 1),
        ("crc", 17, 1),
    ] {
        let stat = Some(LogStat { needs_recovery: true, ..log.stat() });
        let path = p.file(0, "log");
        let good = fs::read(&path).unwrap();
        let mut bytes = good.clone();
        bytes[3 * size + byte] ^= bit;
        fs::write(&path, &bytes).unwrap();
        let log = p.open(stat, LogConfig::default());
        let r = log.reader();
        assert_eq!(r.log_end(), 20, "{what}");
        let read = |offset| {
            let slice = r.read(offset, 1 << 20, i64::MAX, true)?.unwrap();
            slice.populate()?;
            Ok(slice)
        };
        let mut first = read(0);
        if let Err(Error::Corrupt { offset: 6, .. }) = first {
            first = read(0); // found by the check, quarantined since
        }
        assert_eq!(first.unwrap().bytes.len(), 3 * size, "{what}: up to the damage");
        for offset in [6, 7] {
            let e = read(offset).unwrap_err();
            assert!(matches!(e, Error::Corrupt { offset: o, .. } if o == offset), "{what}: {e}");
        }
        let behind = read(8).unwrap();
        assert_eq!((behind.first_offset, behind.bytes.len()), (8, 6 * size), "{what}");
        assert!(p.bases("cut").is_empty());
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn a_length_that_leads_to_another_batch_hides_none() {
    let p = place();
    let mut log = p.open(None, LogConfig { index_interval_bytes: 1 << 20, ..LogConfig::default() });
    let value = (0..600).find(|n| batch(1, *n, 0).len() == 512).unwrap();
    for _ in 0..10 {
        append(&mut log, 1, value);
    }
    flush(&log);
    let stat = crash(log, 10);
    let path = p.file(0, "log");
    let mut bytes = fs::read(&path).unwrap();
    let length = &mut bytes[3 * 512 + 8..3 * 512 + 12];
    length.copy_from_slice(&(1024u32 - 12).to_be_bytes()); // one bit would do with another size
    fs::write(&path, &bytes).unwrap();
    let log = p.open(stat, LogConfig::default());
    let r = log.reader();
    assert_eq!(r.read(4, 1000, i64::MAX, true).unwrap().unwrap().first_offset, 4);
    assert!(matches!(r.read(3, 1000, i64::MAX, true), Err(Error::Corrupt { offset: 3, .. })));
    assert_eq!(r.read(0, 1 << 20, i64::MAX, true).unwrap().unwrap().bytes.len(), 3 * 512);
    assert_eq!(r.log_end(), 10);
}

#[test]
fn bytes_missing_below_the_recovery_point_are_an_error_and_the_log_goes_on() {
    let p = place();
    let mut log = p.open(None, LogConfig::default());
    for _ in 0..10 {
        append(&mut log, 1, 100);
    }
    let size = log.reader().size_bytes() / 10;
    flush(&log);
    let stat = crash(log, 10);
    let file = fs::OpenOptions::new().write(true).open(p.file(0, "log")).unwrap();
    file.set_len(size * 7 + 10).unwrap();
    let mut log = p.open(stat, LogConfig::default());
    assert_eq!(log.reader().log_end(), 10, "an offset that was durable is never given out again");
    assert_eq!(append(&mut log, 1, 100).base_offset, 10);
    let r = log.reader();
    assert_eq!(r.read(0, 1 << 20, i64::MAX, true).unwrap().unwrap().bytes.len() as u64, size * 7);
    for offset in 7..10 {
        assert!(matches!(r.read(offset, 1000, i64::MAX, true), Err(Error::Corrupt { .. })), "{offset}");
    }
    assert_eq!(r.read(10, 1000, i64::MAX, true).unwrap().unwrap().first_offset, 10);
    flush(&log);
    let stat = log.close(5000).unwrap();
    let log = p.open(Some(stat), LogConfig::default());
    assert_eq!(log.reader().log_end(), 11);
    assert!(matches!(log.reader().read(8, 1000, i64::MAX, true), Err(Error::Corrupt { .. }) | Ok(None)));
}

#[test]
fn truncation_keeps_bytes_already_handed_out() {
    let p = place();
    let mut log = p.open(None, small());
    for _ in 0..60 {
        append(&mut log, 2, 100);
    }
    let before = log.reader().read(50, 100, i64::MAX, true).unwrap().unwrap();
    let copy = before.bytes.to_vec();
    assert_eq!(log.truncate_to(500).unwrap(), 120, "beyond the end nothing is cut");
    assert_eq!(log.truncate_to(51).unwrap(), 50);
    assert_eq!((log.reader().log_end(), log.reader().durable_end()), (50, 50));
    assert!(matches!(log.reader().read(51, 100, i64::MAX, true), Err(Error::OffsetOutOfRange { .. })));
    for _ in 0..10 {
        append_at(&mut log, 1, 50, 3, 9);
    }
    assert_eq!(&before.bytes[..], &copy[..]);
    let all: Vec<i64> = (0..25).map(|i| i * 2).chain(50..60).collect();
    assert_eq!(offsets(&log, 0), all);
    // After a crash the bytes behind the seal stay out.
    flush(&log);
    let stat = crash(log, 50);
    let mut log = p.open(stat, small());
    assert_eq!(offsets(&log, 0), all);
    assert_eq!(log.reader().end_of_epoch(0), Some((0, 50)));
    assert!(p.bases("log.deleted").is_empty(), "removed at open");
    // Again and again at the same place, and down to nothing.
    for _ in 0..3 {
        assert_eq!(log.truncate_to(50).unwrap(), 50);
        append_at(&mut log, 1, 50, 4, 9);
    }
    assert_eq!(log.truncate_to(0).unwrap(), 0);
    assert!(log.reader().read(0, 100, i64::MAX, true).unwrap().is_none());
    assert_eq!(log.reader().latest_epoch(), -1);
    assert_eq!(append(&mut log, 1, 10).base_offset, 0);
    assert_eq!(log.reader().size_bytes(), log.reader().dirty_bytes());
    let stat = log.close(1).unwrap();
    assert_eq!(offsets(&p.open(Some(stat), small()), 0), [0]);
}

#[test]
fn a_flush_that_began_before_a_truncation_moves_nothing_past_it() {
    let p = place();
    let mut log = p.open(None, small());
    for _ in 0..10 {
        append(&mut log, 1, 100);
    }
    let dirty = log.reader().dirty().unwrap();
    log.truncate_to(5).unwrap();
    append(&mut log, 1, 100);
    assert_eq!(dirty.flush().unwrap(), 5);
    assert_eq!(flush(&log), 6);
}

#[test]
fn a_log_that_is_given_up_leaves_its_file_to_the_next() {
    let p = place();
    let mut log = p.open(None, LogConfig::default());
    for _ in 0..7 {
        append(&mut log, 1, 100);
        flush(&log);
    }
    // A round that is still running when the log is dropped and opened again.
    append(&mut log, 1, 100);
    let dirty = log.reader().dirty().unwrap();
    let stat = crash(log, 7);
    let mut log = p.open(stat, LogConfig::default());
    for _ in 0..20 {
        append(&mut log, 1, 100);
    }
    for _ in 0..10 {
        dirty.flush().unwrap();
    }
    assert_eq!(offsets(&log, 0), (0..28).collect::<Vec<_>>());
}

#[test]
fn starting_anew_forgets_everything() {
    let p = place();
    let mut log = p.open(None, small());
    for _ in 0..60 {
        append(&mut log, 1, 100);
    }
    log.truncate_fully_and_start_at(1000).unwrap();
    let r = log.reader().clone();
    assert_eq!((r.log_start(), r.log_end(), r.durable_end(), r.size_bytes()), (1000, 1000, 1000, 0));
    assert_eq!(append(&mut log, 1, 100).base_offset, 1000);
    log.truncate_fully_and_start_at(10).unwrap();
    assert_eq!((r.log_start(), r.log_end()), (10, 10));
    append(&mut log, 1, 100);
    flush(&log);
    // The catalogue still says 1000.
    let stat = Some(LogStat { log_start: 1000, recovery_point: 10, needs_recovery: true, ..log.stat() });
    drop(log);
    let log = p.open(stat, small());
    assert_eq!((log.reader().log_start(), log.reader().log_end()), (10, 11));
}

#[test]
fn delete_records_moves_the_start_durably_and_whole_segments_go() {
    let p = place();
    let mut log = p.open(None, LogConfig { file_delete_delay_ms: 100, ..small() });
    for _ in 0..100 {
        append(&mut log, 1, 100);
    }
    assert!(matches!(log.delete_records(51, 50, 0), Err(Error::OffsetOutOfRange { offset: 51, start: 0, end: 50 })));
    assert_eq!(log.delete_records(50, 50, 1000).unwrap(), 50);
    assert_eq!(log.delete_records(10, 50, 1000).unwrap(), 50);
    let first = p.bases("log")[0];
    assert!(first > 0 && first <= 50);
    assert!(matches!(log.reader().read(49, 10, i64::MAX, true), Err(Error::OffsetOutOfRange { .. })));
    assert_eq!(offsets(&log, 50), (50..100).collect::<Vec<_>>());
    assert!(!p.bases("log.deleted").is_empty());
    log.remove_deleted(1099);
    assert!(!p.bases("log.deleted").is_empty());
    log.remove_deleted(1100);
    assert!(p.bases("log.deleted").is_empty());
    flush(&log);
    // A catalogue from before.
    let stat = Some(LogStat { log_start: 0, recovery_point: 0, needs_recovery: true, ..log.stat() });
    drop(log);
    let mut log = p.open(stat, small());
    assert_eq!((log.reader().log_start(), log.reader().log_end()), (50, 100));
    assert_eq!(log.delete_records(100, 100, 0).unwrap(), 100);
    assert_eq!(log.reader().size_bytes(), 0, "the last segment's bytes go too");
    assert_eq!(append(&mut log, 1, 1).base_offset, 100);
}

#[test]
fn retention_takes_old_segments_and_rolls_an_expired_active_one() {
    let p = place();
    let config = LogConfig { retention_ms: 1000, file_delete_delay_ms: 0, ..small() };
    let mut log = p.open(None, config.clone());
    for i in 0..100 {
        append_at(&mut log, 1, 100, 0, 10_000 + i * 10);
    }
    let segments = p.bases("log");
    let expires = log.stat().expires_ms;
    let last_of_first = segments[1] - 1;
    assert_eq!(expires, 10_000 + last_of_first * 10 + 1000);
    assert_eq!(log.retain(expires, 100).unwrap(), 0);
    assert_eq!(log.retain(expires + 1, 0).unwrap(), 0, "never above the high watermark");
    assert_eq!(log.retain(expires + 1, 100).unwrap(), 1);
    assert_eq!(log.reader().log_start(), segments[1]);
    let size = log.reader().size_bytes();
    log.set_config(LogConfig { retention_bytes: size as i64 / 2, ..config.clone() });
    assert!(log.retain(expires + 1, 100).unwrap() > 0);
    let left = log.reader().size_bytes();
    assert!(left >= size / 2 && left < size / 2 + 4096);
    let files = p.bases("log").len();
    assert_eq!(log.retain(99_999, 100).unwrap(), files);
    assert_eq!(p.bases("log"), [100]);
    assert_eq!((log.reader().log_start(), log.reader().size_bytes()), (100, 0));
    assert_eq!(log.stat().expires_ms, i64::MAX);
    let stat = log.close(99_999).unwrap();
    let mut log = p.open(Some(stat), config);
    assert_eq!((log.reader().log_start(), log.reader().log_end()), (100, 100));
    assert_eq!(append(&mut log, 1, 1).base_offset, 100);
}

#[test]
fn segments_roll_by_age_index_and_request() {
    let p = place();
    let config = LogConfig { segment_ms: 500, segment_bytes: 1 << 20, index_interval_bytes: 0, ..LogConfig::default() };
    let mut log = p.open(None, config.clone());
    assert!(!append_at(&mut log, 1, 10, 0, 1000).rolled);
    assert!(!append_at(&mut log, 1, 10, 0, 1500).rolled);
    assert!(append_at(&mut log, 1, 10, 0, 1501).rolled);
    log.set_config(LogConfig { segment_index_bytes: 16, ..config });
    let rolled: Vec<bool> = (0..6).map(|_| append_at(&mut log, 1, 10, 0, 1501).rolled).collect();
    assert_eq!(rolled.iter().filter(|r| **r).count(), 2, "{rolled:?}");
    log.roll(1501).unwrap();
    let end = log.reader().log_end();
    log.roll(1501).unwrap();
    assert_eq!(*p.bases("log").last().unwrap(), end);
    assert_eq!(offsets(&log, 0).len() as i64, end);
    assert_eq!(flush(&log), end);
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let p = place();
    let mut log = p.open(None, small());
    append(&mut log, 1, 10);
    assert!(append(&mut log, 1, 100_000).rolled);
    assert!(append(&mut log, 1, 10).rolled);
    log.truncate_to(2).unwrap();
    append(&mut log, 1, 300_000); // into an empty segment that is mapped smaller
    assert_eq!(offsets(&log, 0), [0, 1, 2]);
    let stat = log.close(0).unwrap();
    let mut log = p.open(Some(stat), small());
    append(&mut log, 1, 300_000);
    assert_eq!(offsets(&log, 0), [0, 1, 2, 3]);
}

#[test]
fn followers_append_what_the_leader_has() {
    let (a, b) = (place(), place());
    let mut leader = a.open(None, small());
    for i in 0..40 {
        append_at(&mut leader, 2, 100, i / 10, 50);
    }
    let mut follower = b.open(None, LogConfig { durable: false, ..small() });
    while follower.reader().log_end() < 80 {
        let at = follower.reader().log_end();
        let s = leader.reader().read(at, 1500, i64::MAX, true).unwrap().unwrap();
        let done = follower.append_as_follower(&s.bytes, 60).unwrap();
        assert_eq!(done.base_offset, at);
        assert_eq!(follower.reader().log_end(), done.last_offset + 1);
    }
    assert_eq!(offsets(&follower, 0), offsets(&leader, 0));
    for epoch in 0..5 {
        assert_eq!(follower.reader().end_of_epoch(epoch), leader.reader().end_of_epoch(epoch), "{epoch}");
    }
    assert_eq!(follower.reader().epoch_of(25), Some(1));
    let again = leader.reader().read(78, 10, i64::MAX, true).unwrap().unwrap();
    let e = follower.append_as_follower(&again.bytes, 0).unwrap_err();
    assert!(matches!(e, Error::NotContiguous { expected: 80, found: 78 }));
    let mut bad = BatchBuilder::new().base_offset(80).leader_epoch(3).record(1, None, None, &[]).build();
    bad.extend(BatchBuilder::new().base_offset(81).leader_epoch(3).record(1, None, None, &[]).build());
    let n = bad.len();
    bad[n - 1] ^= 1;
    assert!(matches!(follower.append_as_follower(&bad, 0), Err(Error::Batch(BatchError::Crc { .. }))));
    assert_eq!(follower.reader().log_end(), 80, "nothing of it was appended");
    assert!(follower.append_as_follower(&[], 0).is_err());
}

#[test]
fn log_append_time_is_stamped_under_a_right_crc() {
    let p = place();
    let mut log = p.open(None, LogConfig { durable: false, ..small() });
    let bytes = batch(3, 20, 77);
    let header = batch::check(&bytes).unwrap();
    let a = log.append_as_leader(&bytes, &header, 5, TimestampType::LogAppendTime, 9999).unwrap();
    assert_eq!(a.log_append_time_ms, 9999);
    let s = log.reader().read(0, 1000, i64::MAX, true).unwrap().unwrap();
    let mut expected = bytes.clone();
    batch::patch(&mut expected, 0, 5);
    batch::set_log_append_time(&mut expected, 9999);
    assert_eq!(&s.bytes[..], &expected[..]);
    let old = log.append_as_leader(&bytes, &header, 4, TimestampType::CreateTime, 1);
    assert!(
        matches!(old, Err(Error::Batch(BatchError::Invalid(_)))),
        "an epoch that goes back would be cut by recovery"
    );
}

#[test]
fn reads_stop_at_the_end_they_are_given() {
    let p = place();
    let mut log = p.open(None, LogConfig::default());
    for _ in 0..10 {
        append(&mut log, 10, 10);
    }
    let size = log.reader().size_bytes() as usize / 10;
    let read = |offset, max, end, one| log.reader().read(offset, max, end, one).unwrap().map(|s| s.bytes.len() / size);
    assert_eq!(read(0, 1 << 20, 100, true), Some(10));
    assert_eq!(read(0, 1 << 20, 99, true), Some(9));
    assert_eq!(read(95, 1 << 20, 99, true), None, "a batch that reaches past the end is left out");
    assert_eq!(read(5, size * 3 - 1, 100, true), Some(2));
    assert_eq!(read(5, size - 1, 100, true), Some(1));
    assert_eq!(read(5, size - 1, 100, false), None);
    assert_eq!(read(100, size, 100, true), None);
    assert!(log.reader().read(101, 1, 100, true).is_err());
    assert!(log.reader().read(-1, 1, 100, true).is_err());
}

#[test]
fn timestamps_lead_to_the_record() {
    let p = place();
    let mut log = p.open(None, small());
    // Timestamps 1000, 1010, … with one far ahead in the middle.
    for i in 0..100i64 {
        let t = if i == 57 { 50_000 } else { 1000 + i * 10 };
        append_at(&mut log, 5, 60, 2, t);
    }
    let check = |log: &Log| {
        let r = log.reader();
        let at = |t| r.offset_for_timestamp(t, i64::MAX, None).unwrap();
        assert_eq!(at(0), Some((1000, 0, 2)));
        assert_eq!(at(1002), Some((1002, 2, 2)));
        assert_eq!(at(1005), Some((1010, 5, 2)));
        assert_eq!(at(1000 + 40 * 10 + 3), Some((1403, 203, 2)));
        assert_eq!(at(1571), Some((50_000, 57 * 5, 2)));
        assert_eq!(at(1990), Some((50_000, 57 * 5, 2)));
        assert_eq!(at(50_004), Some((50_004, 57 * 5 + 4, 2)));
        assert_eq!(at(50_005), None);
        assert_eq!(r.offset_for_timestamp(1571, 57 * 5, None).unwrap(), None, "not beyond the end given");
        assert_eq!(r.max_timestamp(i64::MAX, None).unwrap(), Some((50_004, 57 * 5 + 4, 2)));
        assert_eq!(r.max_timestamp(57 * 5, None).unwrap(), Some((1564, 284, 2)));
    };
    check(&log);
    flush(&log);
    check(&log);
    let stat = crash(log, 300);
    let mut log = p.open(stat, small());
    check(&log);
    append_at(&mut log, 1, 1, 2, 1);
    check(&log);
    for base in p.bases("timeindex") {
        fs::write(p.file(base, "timeindex"), [0xff; 77]).unwrap();
        fs::remove_file(p.file(base, "index")).unwrap();
    }
    let stat = log.close(0).unwrap();
    fs::write(p.file(0, "index"), b"garbage").unwrap();
    let log = p.open(Some(stat), small());
    check(&log);
    assert_eq!(log.reader().max_timestamp(0, None).unwrap(), None);
}

#[test]
fn timestamps_of_compressed_batches_are_the_batchs_unless_unpacked() {
    let p = place();
    let mut log = p.open(None, small());
    let mut b = BatchBuilder::new();
    for t in [10, 20, 30] {
        b.push(t, None, Some(b"x"), &[]);
    }
    let packed: Vec<u8> = b.payload().iter().map(|b| b ^ 0xff).collect();
    let bytes = b.build_with(1, &packed);
    let header = batch::check(&bytes).unwrap();
    log.append_as_leader(&bytes, &header, 0, TimestampType::CreateTime, 0).unwrap();
    let r = log.reader();
    let unpack = |codec: u8, bytes: &[u8]| (codec == 1).then(|| bytes.iter().map(|b| b ^ 0xff).collect());
    assert_eq!(r.offset_for_timestamp(15, 9, None).unwrap(), Some((30, 0, 0)));
    assert_eq!(r.offset_for_timestamp(15, 9, Some(&unpack)).unwrap(), Some((20, 1, 0)));
    assert_eq!(r.max_timestamp(9, Some(&unpack)).unwrap(), Some((30, 2, 0)));
}

#[test]
fn the_epochs_file_is_made_anew_from_the_batches() {
    for clean in [true, false] {
        let p = place();
        let mut log = p.open(None, small());
        for i in 0..60 {
            append_at(&mut log, 1, 100, i / 25, 0);
        }
        flush(&log);
        let path = p.dir.join("leader-epoch-checkpoint");
        assert_eq!(fs::read_to_string(&path).unwrap(), "0\n3\n0 0\n1 25\n2 50\n");
        let stat = if clean { Some(log.close(0).unwrap()) } else { crash(log, 55) };
        for damage in ["", "0\n1\n0 0\n", "nonsense"] {
            fs::write(&path, damage).unwrap();
            let log = p.open(stat, small());
            assert_eq!(log.reader().end_of_epoch(1), Some((1, 50)), "{damage:?}");
            assert_eq!(log.reader().end_of_epoch(0), Some((0, 25)), "{damage:?}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(p.open(stat, small()).reader().latest_epoch(), 2);
    }
}

#[test]
fn snapshots_keep_the_newest_two_below_the_end() {
    let p = place();
    let mut log = p.open(None, small());
    log.write_producer_snapshot(0, b"nothing").unwrap();
    assert!(log.producer_snapshots().is_empty() && !p.dir.exists());
    for i in 0..10 {
        append(&mut log, 1, 10);
        log.write_producer_snapshot(i + 1, format!("s{i}").as_bytes()).unwrap();
    }
    assert_eq!(log.producer_snapshots(), [(10, b"s9".to_vec()), (9, b"s8".to_vec())]);
    log.truncate_to(9).unwrap();
    assert_eq!(log.producer_snapshots(), [(9, b"s8".to_vec())]);
    append(&mut log, 2, 10);
    assert_eq!(log.producer_snapshots(), [(9, b"s8".to_vec())], "what was cut does not come back");
    log.truncate_fully_and_start_at(20).unwrap();
    assert!(log.producer_snapshots().is_empty(), "another past");
    log.write_producer_snapshot(20, b"new").unwrap();
    assert_eq!(p.bases("snapshot"), [20]);
    log.remove_producer_snapshot(20);
    assert!(log.producer_snapshots().is_empty());
}

#[test]
fn a_closed_log_says_so_and_slices_outlive_it() {
    let p = place();
    let mut log = p.open(None, small());
    append(&mut log, 1, 10);
    let r = log.reader().clone();
    let slice = r.read(0, 1000, i64::MAX, true).unwrap().unwrap();
    log.close(0).unwrap();
    assert!(matches!(r.read(0, 1000, i64::MAX, true), Err(Error::Closed)));
    assert!(matches!(r.max_timestamp(9, None), Err(Error::Closed)));
    fs::remove_dir_all(&p.dir).unwrap();
    slice.populate().unwrap();
    batch::check_stored(&slice.bytes).unwrap();
}

#[test]
fn files_of_length_zero_and_strays_do_no_harm() {
    let p = place();
    fs::create_dir_all(&p.dir).unwrap();
    for name in ["00000000000000000000.log", "00000000000000000000.index", "x.log", "00000000000000000007.log.deleted"]
    {
        fs::write(p.dir.join(name), b"").unwrap();
    }
    let mut log = p.open(None, small());
    assert_eq!(log.reader().log_end(), 0);
    append(&mut log, 1, 10);
    flush(&log);
    let stat = crash(log, 1);
    fs::write(p.file(1, "log"), b"").unwrap();
    fs::write(p.file(2, "log"), [0; 5000]).unwrap();
    let log = p.open(stat, small());
    assert_eq!(log.reader().log_end(), 1);
    assert_eq!(p.bases("log"), [0, 1], "a segment that does not follow is gone");
}

#[test]
fn readers_see_only_whole_batches_while_the_log_grows_shrinks_and_rolls() {
    let p = place();
    let mut log = p.open(None, LogConfig { durable: false, file_delete_delay_ms: 0, ..small() });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..3i64 {
            let (r, done) = (log.reader().clone(), &done);
            scope.spawn(move || {
                let mut reads = 0u64;
                while !done.load(Ordering::Relaxed) || reads == 0 {
                    let (start, end) = (r.log_start(), r.log_end());
                    let offset = start + (reads as i64 * 7 + thread) % (end - start + 1).max(1);
                    match r.read(offset, 2000, i64::MAX, true) {
                        Ok(Some(slice)) => {
                            let (mut at, mut first) = (0, true);
                            while at < slice.bytes.len() {
                                let b = batch::check_stored(&slice.bytes[at..]).expect("a whole batch");
                                assert!(!first || b.base_offset <= offset && offset < b.next_offset());
                                (at, first) = (at + b.size_bytes, false);
                            }
                        }
                        Ok(None) | Err(Error::OffsetOutOfRange { .. }) => {}
                        Err(e) => panic!("{e}"),
                    }
                    reads += 1;
                }
            });
        }
        let r = log.reader().clone();
        scope.spawn(|| {
            let r = r;
            while !done.load(Ordering::Relaxed) {
                if let Some(d) = r.dirty() {
                    d.flush().unwrap();
                }
            }
        });
        for i in 0..3000i64 {
            append_at(&mut log, 1 + (i % 3) as usize, (i % 400) as usize, 0, i);
            match i % 100 {
                40 => assert!(log.truncate_to(log.reader().log_end() - i % 37).is_ok()),
                70 => {
                    let end = log.reader().log_end();
                    log.delete_records(log.reader().log_start().max(end - 60), end, 0).unwrap();
                }
                71 => log.remove_deleted(i64::MAX),
                _ => {}
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let start = log.reader().log_start();
    let found = offsets(&log, start);
    assert!(!found.is_empty());
    let end = log.reader().log_end();
    assert_eq!(flush(&log), end);
}

/// Power cuts over the simulated disk: what was flushed is there, whatever else the disk kept.
#[cfg(feature = "sim")]
mod power_cuts {
    use super::*;
    use crate::sim::{Rng, SimDisk};

    const DIR: &str = "/data/t-0";

    fn open(disk: &SimDisk, stat: Option<LogStat>, config: &LogConfig) -> Result<Log> {
        Log::open(OpenLog {
            disk: Arc::new(disk.clone()),
            dir: PathBuf::from(DIR),
            id: PartitionId { topic_id: [1; 16], partition: 0 },
            config: config.clone(),
            stat,
            health: Health::new(),
            seat: Seat::alone(),
            now_ms: 0,
        })
    }

    /// (base offset, payload) of every batch from `offset` on.
    fn contents(log: &Log) -> Vec<(i64, Vec<u8>)> {
        let mut found = Vec::new();
        let mut offset = log.reader().log_start();
        while offset < log.reader().log_end() {
            let s = log.reader().read(offset, 1 << 20, i64::MAX, true).unwrap().expect("a batch");
            s.populate().unwrap();
            let mut at = 0;
            while at < s.bytes.len() {
                let b = batch::check_stored(&s.bytes[at..]).unwrap();
                found.push((b.base_offset, s.bytes[at + HEADER_BYTES..at + b.size_bytes].to_vec()));
                at += b.size_bytes;
                offset = b.next_offset();
            }
        }
        found
    }

    fn run(seed: u64) {
        let mut rng = Rng::new(seed);
        let mut disk = SimDisk::new();
        disk.create_dir_all(Path::new("/data")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let config = LogConfig {
            segment_bytes: 2048,
            index_interval_bytes: 100,
            durable: rng.percent(50),
            ..LogConfig::default()
        };
        let mut stat: Option<LogStat> = None;
        // What the log held, and the part that may not get lost.
        let mut model: Vec<(i64, Vec<u8>)> = Vec::new();
        let mut durable = 0;
        let mut start = 0;
        let mut epoch = 0;
        for _ in 0..6 {
            let mut log = open(&disk, stat, &config).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            let found = contents(&log);
            let end = log.reader().log_end();
            assert!(end >= durable, "seed {seed}: {durable} was durable, {end} is left");
            assert!(log.reader().log_start() >= start || found.is_empty(), "seed {seed}");
            model.retain(|m| m.0 >= log.reader().log_start() && m.0 < end);
            assert_eq!(found, model, "seed {seed}");
            assert_eq!(log.reader().durable_end(), end);
            durable = end;
            // The catalogue as of some moment; truncations lower it, as the directory does.
            let mut catalogued = LogStat { needs_recovery: true, ..log.stat() };
            if rng.percent(70) {
                disk.crash_after_ops(rng.below(150));
            }
            for _ in 0..rng.below(120) {
                if disk.crashed() {
                    break;
                }
                let _ = disk.sync_dir(Path::new("/data")); // the directory's part of a round
                match rng.below(100) {
                    0..70 => {
                        let mut b = BatchBuilder::new();
                        for i in 0..1 + rng.below(3) {
                            let value: Vec<u8> = (0..rng.below(300)).map(|_| rng.next_u64() as u8).collect();
                            b.push(i as i64, None, Some(&value), &[]);
                        }
                        let bytes = b.build();
                        let header = batch::check(&bytes).unwrap();
                        match log.append_as_leader(&bytes, &header, epoch, TimestampType::CreateTime, 0) {
                            Ok(a) => model.push((a.base_offset, bytes[HEADER_BYTES..].to_vec())),
                            Err(_) => assert!(disk.crashed(), "seed {seed}"),
                        }
                    }
                    70..85 => {
                        if let Some(d) = log.reader().dirty()
                            && let Ok(end) = d.flush()
                        {
                            durable = end;
                        }
                    }
                    85..88 => {
                        let _ = log.roll(0);
                    }
                    88..91 => epoch += 1,
                    91..94 => {
                        let to = log.reader().log_end() - 1 - rng.below(8) as i64;
                        let to = to.max(log.reader().log_start());
                        if to >= log.reader().log_end() {
                            continue; // nothing to cut
                        }
                        // Nothing at or above it may be trusted from here on.
                        let before: Vec<i64> = model.iter().map(|m| m.0).filter(|o| *o <= to).collect();
                        let cut = before.last().copied().unwrap_or(to).min(to);
                        durable = durable.min(cut);
                        catalogued.recovery_point = catalogued.recovery_point.min(cut);
                        if let Ok(end) = log.truncate_to(to) {
                            model.retain(|m| m.0 < end);
                            durable = end;
                        }
                    }
                    94..97 => {
                        let to = log.reader().durable_end();
                        if to > log.reader().log_start() {
                            catalogued.log_start = catalogued.log_start.max(to);
                            if log.delete_records(to, to, 0).is_ok() {
                                start = to;
                            }
                        }
                    }
                    97 => catalogued = LogStat { needs_recovery: true, ..log.stat() },
                    98 => log.remove_deleted(i64::MAX),
                    _ => {
                        if let Ok(s) = log.close(0) {
                            (durable, catalogued) = (s.log_end, s);
                            log = match open(&disk, Some(s), &config) {
                                Ok(log) => log,
                                Err(_) => break,
                            };
                            assert_eq!(log.reader().log_end(), s.log_end, "seed {seed}");
                            catalogued.needs_recovery = true;
                        } else {
                            assert!(disk.crashed(), "seed {seed}");
                            break;
                        }
                    }
                }
            }
            stat = Some(catalogued);
            disk = if rng.percent(80) { disk.crash(rng.next_u64()) } else { disk.kill() };
        }
    }

    #[test]
    fn what_was_flushed_survives() {
        let seeds = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).map_or(0..120, |s: u64| s..s + 1);
        for seed in seeds {
            run(seed);
        }
    }

    #[test]
    fn a_full_disk_refuses_appends_and_loses_nothing() {
        let disk = SimDisk::new();
        let config = LogConfig { segment_bytes: 256 << 10, ..LogConfig::default() };
        let open = |disk: &SimDisk| {
            let options = crate::DirectoryOptions {
                node_id: 1,
                cluster_id: "c".into(),
                directory_id: "d".into(),
                now_ms: 0,
                open_segments_max: 100,
            };
            let directory = crate::Directory::open(Arc::new(disk.clone()), Path::new("/data"), options).unwrap();
            let log = directory.open_log(PartitionId { topic_id: [1; 16], partition: 0 }, "t", config.clone(), 0);
            (directory, log.unwrap())
        };
        let (directory, mut log) = open(&disk);
        disk.set_capacity(Some(1_000_000));
        let mut refused = 0;
        while refused < 5 {
            let bytes = batch(1, 3000, 0);
            let header = batch::check(&bytes).unwrap();
            match log.append_as_leader(&bytes, &header, 0, TimestampType::CreateTime, 0) {
                Ok(_) => assert_eq!(refused, 0),
                Err(Error::NoSpace { .. }) => refused += 1,
                Err(e) => panic!("{e}"),
            }
        }
        let end = log.reader().log_end();
        assert!(log.reader().size_bytes() > 900_000, "{} of 1,000,000 bytes were used", log.reader().size_bytes());
        assert_eq!(*directory.flush(&[log.reader().dirty().unwrap()]).ends[0].as_ref().unwrap(), end);
        assert_eq!(contents(&log).len() as i64, end);
        // Recovery needs no room.
        let again = disk.kill();
        again.set_capacity(Some(again.used_bytes()));
        let (_directory, mut log) = open(&again);
        assert_eq!(contents(&log).len() as i64, end);
        assert!(append_some(&mut log).is_err());
        // Room is made by deleting, and appends go on.
        log.delete_records(end - 1, end, 0).unwrap();
        log.remove_deleted(i64::MAX);
        assert_eq!(append_some(&mut log).unwrap().base_offset, end);
        drop(log);
        let (_directory, log) = open(&again.kill());
        assert_eq!((log.reader().log_start(), log.reader().log_end()), (end - 1, end + 1));
        log.close(0).unwrap();
    }

    /// With damage in the middle of what is recovered, on a full disk.
    #[test]
    fn what_is_cut_is_kept_without_free_space() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/data")).unwrap();
        let config = LogConfig::default();
        let mut log = open(&disk, None, &config).unwrap();
        for _ in 0..20 {
            append_some(&mut log).unwrap();
        }
        let size = log.reader().size_bytes() / 20;
        log.reader().dirty().unwrap().flush().unwrap();
        let path = segment::file_name(Path::new(DIR), 0, "log");
        disk.flip_bit(&path, 10 * size + 100, 3).unwrap();
        let stat = Some(LogStat { recovery_point: 0, needs_recovery: true, ..log.stat() });
        disk.set_capacity(Some(disk.used_bytes()));
        let mut log = open(&disk, stat, &config).unwrap();
        assert_eq!(log.reader().log_end(), 10);
        assert_eq!(contents(&log).len(), 10);
        assert!(
            disk.open(&path, Open::Read).unwrap().len().unwrap() >= 20 * size,
            "no room for a copy: the bytes stay"
        );
        disk.set_capacity(None);
        append_some(&mut log).unwrap();
        log.reader().dirty().unwrap().flush().unwrap();
        let stat = Some(LogStat { recovery_point: 0, needs_recovery: true, ..log.stat() });
        let log = open(&disk.kill(), stat, &config).unwrap();
        assert_eq!(log.reader().log_end(), 11, "and do not come back");
    }

    #[test]
    fn a_failed_sync_is_final() {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/data")).unwrap();
        let mut log = open(&disk, None, &LogConfig::default()).unwrap();
        append_some(&mut log).unwrap();
        disk.fail_nth_sync(1);
        let dirty = log.reader().dirty().unwrap();
        assert!(dirty.flush().is_err());
        assert_eq!(log.reader().durable_end(), 0);
        assert!(matches!(dirty.flush(), Err(Error::DirectoryFailed { .. })));
        assert!(matches!(append_some(&mut log), Err(Error::DirectoryFailed { .. })));
        assert_eq!(contents(&log).len(), 1, "reads go on");
        assert!(log.close(0).is_err());
    }

    fn append_some(log: &mut Log) -> Result<Appended> {
        let bytes = batch(1, 1000, 0);
        let header = batch::check(&bytes).unwrap();
        log.append_as_leader(&bytes, &header, 0, TimestampType::CreateTime, 0)
    }
}
