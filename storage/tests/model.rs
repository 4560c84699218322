//! A log against a list: any sequence of calls gives what the list gives, across clean stops and kills.

use millstream_storage::{
    Directory, DirectoryOptions, Error, Log, LogConfig, OsDisk, PartitionId, TimestampType, batch, record::BatchBuilder,
};
use proptest::prelude::*;
use std::{path::Path, sync::Arc};

const ID: PartitionId = PartitionId { topic_id: [9; 16], partition: 3 };

#[derive(Debug, Clone)]
enum Op {
    Append {
        records: u8,
        bytes: u16,
        follower: bool,
    },
    NewEpoch,
    Flush,
    Roll,
    /// Parts of a thousand of the log.
    Truncate(u16),
    StartAt(u8),
    DeleteRecords(u16),
    Retain(u16),
    Config {
        durable: bool,
        segment_bytes: u16,
    },
    Catalogue,
    Reopen,
    Kill,
    Read {
        at: u16,
        bytes_max: u16,
        back: u8,
    },
    Timestamp(u16),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        30 => (1u8..5, 0u16..700, any::<bool>()).prop_map(|(records, bytes, follower)| Op::Append { records, bytes, follower }),
        1 => (1u8..3, 30_000u16..60_000, any::<bool>()).prop_map(|(records, bytes, follower)| Op::Append { records, bytes, follower }),
        2 => Just(Op::NewEpoch),
        6 => Just(Op::Flush),
        2 => Just(Op::Roll),
        3 => (0u16..=1000).prop_map(Op::Truncate),
        1 => (0u8..100).prop_map(Op::StartAt),
        2 => (0u16..=1000).prop_map(Op::DeleteRecords),
        2 => (0u16..=1000).prop_map(Op::Retain),
        1 => (any::<bool>(), 1024u16..8192).prop_map(|(durable, segment_bytes)| Op::Config { durable, segment_bytes }),
        1 => Just(Op::Catalogue),
        3 => Just(Op::Reopen),
        3 => Just(Op::Kill),
        12 => (0u16..=1000, 0u16..5000, 0u8..10).prop_map(|(at, bytes_max, back)| Op::Read { at, bytes_max, back }),
        4 => (0u16..=1000).prop_map(Op::Timestamp),
    ];
    prop::collection::vec(op, 1..120)
}

/// One batch as the log should hold it.
#[derive(Debug, Clone)]
struct Held {
    base: i64,
    next: i64,
    epoch: i32,
    timestamp: i64,
    bytes: Vec<u8>,
}

struct Model {
    batches: Vec<Held>,
    start: i64,
    end: i64,
    epoch: i32,
    clock: i64,
}

fn directory(path: &Path) -> Directory {
    let options = DirectoryOptions {
        node_id: 1,
        cluster_id: "c".into(),
        directory_id: "d".into(),
        now_ms: 0,
        open_segments_max: 100,
    };
    Directory::open(Arc::new(OsDisk), path, options).unwrap()
}

fn open(directory: &Directory, config: &LogConfig) -> Log {
    directory.open_log(ID, "topic", config.clone(), 0).unwrap()
}

fn flush(directory: &Directory, log: &Log) {
    let dirty: Vec<_> = log.reader().dirty().into_iter().collect();
    for end in directory.flush(&dirty).ends {
        end.unwrap();
    }
    assert_eq!(log.reader().durable_end(), log.reader().log_end());
    assert_eq!(log.reader().dirty_bytes(), 0);
}

impl Model {
    fn build(&mut self, records: u8, bytes: u16) -> Vec<u8> {
        self.clock += 10;
        let mut b = BatchBuilder::new().base_offset(self.end).leader_epoch(self.epoch);
        for i in 0..records {
            b.push(self.clock + i64::from(i), Some(&[i]), Some(&vec![self.clock as u8; bytes as usize]), &[]);
        }
        b.build()
    }

    fn part(&self, thousandths: u16) -> i64 {
        self.start + (self.end - self.start) * i64::from(thousandths) / 1000
    }

    fn cut_below(&mut self, start: i64) {
        self.start = start;
        self.batches.retain(|b| b.next > start);
    }

    /// Everything that can be asked without changing the log.
    fn compare(&self, log: &Log) {
        let r = log.reader();
        assert_eq!((r.log_start(), r.log_end()), (self.start, self.end));
        let held: u64 = self.batches.iter().map(|b| b.bytes.len() as u64).sum();
        assert!(r.size_bytes() >= held, "{} < {held}", r.size_bytes());
        let mut at = self.start;
        for b in &self.batches {
            if b.next <= at {
                continue;
            }
            let s = r.read(at, 1, i64::MAX, true).unwrap().unwrap_or_else(|| panic!("nothing at {at}"));
            s.populate().unwrap();
            assert_eq!(s.first_offset, b.base);
            assert_eq!(&s.bytes[..], &b.bytes[..]);
            at = b.next;
        }
        assert!(r.read(self.end, 1, i64::MAX, true).unwrap().is_none());
        let newest = self.batches.last().map_or(-1, |b| b.epoch);
        if newest >= 0 {
            assert_eq!(r.latest_epoch(), newest);
            let first = self.batches.iter().find(|b| b.epoch == newest).unwrap();
            assert_eq!(r.epoch_of(first.base.max(self.start)), Some(newest));
            if newest > 0 && first.base > self.start {
                assert_eq!(r.end_of_epoch(newest - 1).unwrap().1, first.base);
            }
        }
    }

    fn read(&self, log: &Log, offset: i64, bytes_max: usize, end: i64) {
        let got = log.reader().read(offset, bytes_max, end, true).unwrap();
        let first = self.batches.iter().position(|b| b.next > offset);
        let Some(first) = first.filter(|f| offset < end && self.batches[*f].next <= end) else {
            assert!(got.is_none());
            return;
        };
        let slice = got.unwrap_or_else(|| panic!("nothing at {offset} below {end}"));
        assert_eq!(slice.first_offset, self.batches[first].base);
        let (mut rest, mut i) = (&slice.bytes[..], first);
        while !rest.is_empty() {
            let b = &self.batches[i];
            assert!(b.next <= end);
            assert_eq!(&rest[..b.bytes.len()], &b.bytes[..]);
            rest = &rest[b.bytes.len()..];
            i += 1;
        }
        assert!(i == first + 1 || slice.bytes.len() <= bytes_max);
        // It ended at a limit or at the end of a segment, not earlier.
        let more = self.batches.get(i).filter(|b| b.next <= end && slice.bytes.len() + b.bytes.len() <= bytes_max);
        if let Some(next) = more {
            let s = log.reader().read(next.base, 1, end, true).unwrap().unwrap();
            assert_eq!(s.position, 0, "a slice ended in the middle of a segment");
        }
    }
}

fn run(ops: Vec<Op>) {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("data");
    let mut config = LogConfig {
        segment_bytes: 4096,
        index_interval_bytes: 300,
        retention_ms: -1,
        file_delete_delay_ms: 0,
        durable: false,
        ..LogConfig::default()
    };
    let mut dir = directory(&path);
    let mut log = open(&dir, &config);
    let mut m = Model { batches: Vec::new(), start: 0, end: 0, epoch: 0, clock: 1000 };
    for op in ops {
        match op {
            Op::Append { records, bytes, follower } => {
                let bytes = m.build(records, bytes);
                let header = batch::check(&bytes).unwrap();
                let done = match follower {
                    true => log.append_as_follower(&bytes, m.clock).unwrap(),
                    false => {
                        log.append_as_leader(&bytes, &header, m.epoch, TimestampType::CreateTime, m.clock).unwrap()
                    }
                };
                let next = m.end + i64::from(records);
                assert_eq!((done.base_offset, done.last_offset), (m.end, next - 1));
                m.batches.push(Held { base: m.end, next, epoch: m.epoch, timestamp: header.max_timestamp, bytes });
                m.end = next;
            }
            Op::NewEpoch => m.epoch += 1,
            Op::Flush => flush(&dir, &log),
            Op::Roll => log.roll(m.clock).unwrap(),
            Op::Truncate(part) => {
                let to = m.part(part);
                let end = log.truncate_to(to).unwrap();
                if to < m.end {
                    m.batches.retain(|b| b.next <= to);
                    m.end = m.batches.last().map_or(end, |b| b.next);
                    assert!(m.batches.is_empty() || end == m.end, "{end} {}", m.end);
                    m.start = m.start.min(m.end);
                    assert_eq!(log.reader().durable_end(), m.end);
                }
            }
            Op::StartAt(offset) => {
                log.truncate_fully_and_start_at(i64::from(offset)).unwrap();
                m.batches.clear();
                (m.start, m.end) = (i64::from(offset), i64::from(offset));
            }
            Op::DeleteRecords(part) => {
                let to = m.part(part);
                assert_eq!(log.delete_records(to, m.end, m.clock).unwrap(), to);
                m.cut_below(to);
                let beyond = log.delete_records(m.end + 1, m.end, m.clock);
                assert!(matches!(beyond, Err(Error::OffsetOutOfRange { .. })));
            }
            Op::Retain(part) => {
                let keep = log.reader().size_bytes() as i64 * i64::from(part) / 1000;
                log.set_config(LogConfig { retention_bytes: keep, ..config.clone() });
                log.retain(m.clock, m.end).unwrap();
                log.set_config(config.clone());
                assert!(log.reader().size_bytes() as i64 >= keep);
                let start = log.reader().log_start();
                assert!(start >= m.start && (start == m.start || m.batches.iter().any(|b| b.base == start)));
                m.cut_below(start);
            }
            Op::Config { durable, segment_bytes } => {
                config = LogConfig { durable, segment_bytes: u32::from(segment_bytes), ..config };
                log.set_config(config.clone());
            }
            Op::Catalogue => dir.write_catalogue(m.clock).unwrap(),
            Op::Reopen => {
                let size = log.reader().size_bytes();
                let stat = log.close(m.clock).unwrap();
                assert_eq!((stat.log_start, stat.log_end, stat.recovery_point), (m.start, m.end, m.end));
                assert_eq!(stat.size_bytes, size);
                dir.close(m.clock).unwrap();
                drop(dir);
                dir = directory(&path);
                assert!(dir.was_clean());
                log = open(&dir, &config);
                m.compare(&log);
            }
            Op::Kill => {
                drop(log);
                drop(dir);
                dir = directory(&path);
                log = open(&dir, &config);
                assert_eq!(log.reader().durable_end(), m.end);
                m.compare(&log);
            }
            Op::Read { at, bytes_max, back } => {
                let offset = m.part(at);
                m.read(&log, offset, bytes_max as usize, m.end - i64::from(back));
            }
            Op::Timestamp(part) => {
                let Some(b) = m.batches.get(m.batches.len() * usize::from(part) / 1001) else { continue };
                // The first record at or after the batch's last timestamp is its last one: time rises with offsets.
                let wanted = (b.timestamp, b.next - 1, b.epoch);
                assert_eq!(log.reader().offset_for_timestamp(b.timestamp, i64::MAX, None).unwrap(), Some(wanted));
                let newest = m.batches.last().unwrap();
                let max = log.reader().max_timestamp(i64::MAX, None).unwrap();
                assert_eq!(max, Some((newest.timestamp, newest.next - 1, newest.epoch)));
            }
        }
    }
    m.compare(&log);
    log.close(m.clock).unwrap();
}

fn cases() -> u32 {
    std::env::var("CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

proptest! {
    // More of them: CASES=2000 TMPDIR=/dev/shm
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_does_what_a_list_does(ops in ops()) {
        run(ops);
    }
}
