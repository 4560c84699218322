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
            "version: 0\ntopic_id: BwcHBwcHBwcHBwcHBwcHBw\n"
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
