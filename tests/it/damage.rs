//! Damaged files: what is whole is served, what is derived is made again, nothing is thrown away, the rest is told.

use crate::{
    support::{Broker, Options, temp},
    wire::{ANYONE, Client, batch, code, now_ms, records},
};
use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Records written by [`written`], one a batch, each of about 16 KiB: some four segments of 1 MiB.
const RECORDS: i64 = 250;

fn options(dir: &Path) -> Options {
    Options::new(dir).set("log.segment.bytes", "1048576")
}

fn value(n: i64) -> Vec<u8> {
    let mut v = format!("{n:08}").into_bytes();
    v.resize(16 << 10, b'a' + (n % 26) as u8);
    v
}

/// Record `n` was created at this time.
fn time(n: i64) -> i64 {
    1_700_000_000_000 + n * 1000
}

/// A topic `a` of one partition with [`RECORDS`] acknowledged records of one idempotent producer, whose id is given.
fn written(broker: &Broker) -> i64 {
    let mut c = Client::connect(&broker.kafka);
    // Old timestamps: retention must not act on them.
    assert_eq!(c.create_topic("a", 1, &[("retention.ms", "-1")]), 0);
    let (id, epoch) = c.producer_id();
    for n in 0..RECORDS {
        let sent = c.produce(
            "a",
            0,
            batch((id, epoch, n as i32), time(n), &[value(n)]),
            if n == RECORDS - 1 { -1 } else { 1 },
        );
        assert_eq!((sent.error_code, sent.base_offset), (0, n));
    }
    id
}

/// Such a directory after a clean stop, and the producer's id.
fn stopped() -> (TempDir, i64) {
    let dir = temp();
    let broker = options(dir.path()).start();
    let id = written(&broker);
    assert_eq!(broker.stop().0, Some(0));
    (dir, id)
}

/// Such a directory after kill -9.
fn killed() -> TempDir {
    let dir = temp();
    let broker = options(dir.path()).start();
    written(&broker);
    broker.kill();
    dir
}

fn partition(dir: &Path) -> PathBuf {
    dir.join("a-0")
}

/// Files of the partition that end so, in the order of their base offsets.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).filter(|p| p.to_string_lossy().ends_with(end)).collect();
    all.sort();
    all
}

/// Positions and base offsets of the batches of a segment, to its first zero length.
fn batches(bytes: &[u8]) -> Vec<(usize, i64)> {
    let (mut at, mut found) = (0, Vec::new());
    while at + 61 <= bytes.len() {
        let length = i32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap());
        if length <= 0 {
            break;
        }
        found.push((at, i64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())));
        at += 12 + length as usize;
    }
    found.push((at, -1));
    found
}

/// Every record is there, by offset and by time, and the next one gets the next offset.
fn whole(broker: &Broker) {
    let mut c = Client::connect(&broker.kafka);
    let read = c.read_all("a", 0, 0);
    assert_eq!(read.len() as i64, RECORDS);
    for (n, r) in read.iter().enumerate() {
        assert!(r.0 == n as i64 && r.2 == value(n as i64), "record {n}");
    }
    for n in [0, 1, 77, 128, RECORDS - 1] {
        assert_eq!(c.list_offset("a", 0, time(n) - 500), (0, time(n), n));
        assert_eq!(records(&c.fetch("a", 0, n, 0))[0].offset, n);
    }
    assert_eq!(c.produce("a", 0, batch(ANYONE, time(RECORDS), &["next"]), -1).base_offset, RECORDS);
    assert_eq!(broker.get("/readyz").0, 200);
}

#[test]
fn a_torn_tail_is_cut_and_nothing_acknowledged_with_it() {
    for tail in ["half a batch", "garbage", "zeros"] {
        let dir = killed();
        let path = files(&partition(dir.path()), ".log").pop().unwrap();
        let bytes = fs::read(&path).unwrap();
        let found = batches(&bytes);
        let (end, first) = (found.last().unwrap().0, found[0].0);
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        match tail {
            "half a batch" => {
                // A copy of an earlier batch under the next offset, with its second half missing.
                let mut half = bytes[first..first + 8000].to_vec();
                half[..8].copy_from_slice(&RECORDS.to_be_bytes());
                file.write_all_at(&half, end as u64).unwrap();
            }
            "garbage" => file.write_all_at(&[0xa5; 5000], end as u64).unwrap(),
            _ => file.set_len(end as u64 + 100_000).unwrap(),
        }
        whole(&options(dir.path()).start());
    }
}

#[test]
fn a_flipped_bit_costs_its_batch_and_no_other() {
    let (dir, _) = stopped();
    let logs = files(&partition(dir.path()), ".log");
    assert!(logs.len() >= 4, "{logs:?}");
    let path = &logs[1];
    let bytes = fs::read(path).unwrap();
    let (at, bad) = batches(&bytes)[10];
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(&[bytes[at + 5000] ^ 4], at as u64 + 5000).unwrap();
    let broker = options(dir.path()).start();
    assert_eq!(broker.get("/readyz").0, 200);
    let mut c = Client::connect(&broker.kafka);
    // Everything before it is delivered, and everything behind it.
    let mut next = 0;
    let end = loop {
        let got = c.fetch("a", 0, next, 0);
        if got.error_code != 0 {
            break (got.error_code, next);
        }
        let found = records(&got);
        assert!(!found.is_empty(), "stuck at {next}");
        for r in found {
            assert!(r.value.as_deref() == Some(&value(r.offset)[..]), "record {}", r.offset);
            next = r.offset + 1;
        }
    };
    assert_eq!(end, (code::CORRUPT_MESSAGE, bad));
    let rest = c.read_all("a", 0, bad + 1);
    assert_eq!(rest.len() as i64, RECORDS - bad - 1);
    assert_eq!(c.list_offset("a", 0, -1), (0, -1, RECORDS));
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["next"]), -1).base_offset, RECORDS);
    // It stays so across kill -9: below the recovery point nothing is cut.
    broker.kill();
    let broker = options(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.fetch("a", 0, bad, 0).error_code, code::CORRUPT_MESSAGE);
    assert_eq!(c.read_all("a", 0, bad + 1).len() as i64, RECORDS - bad);
}

#[test]
fn indexes_are_made_again() {
    for end in [".index", ".timeindex"] {
        let (dir, _) = stopped();
        let found = files(&partition(dir.path()), end);
        assert!(found.len() >= 3, "{found:?}");
        fs::remove_file(&found[0]).unwrap();
        fs::write(&found[1], [0x5a; 4000]).unwrap();
        fs::write(&found[2], "").unwrap();
        whole(&options(dir.path()).start());
    }
    // All at once, and after kill -9.
    let dir = killed();
    for end in [".index", ".timeindex"] {
        for path in files(&partition(dir.path()), end) {
            fs::write(&path, [0xff; 800]).unwrap();
        }
    }
    whole(&options(dir.path()).start());
}

#[test]
fn a_lost_or_damaged_producer_snapshot_forgets_no_producer() {
    for damage in ["lost", "damaged", "empty"] {
        let (dir, id) = stopped();
        for path in files(&partition(dir.path()), ".snapshot") {
            match damage {
                "lost" => fs::remove_file(&path).unwrap(),
                "damaged" => {
                    let mut bytes = fs::read(&path).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x10;
                    fs::write(&path, bytes).unwrap();
                }
                _ => fs::write(&path, "").unwrap(),
            }
        }
        let broker = options(dir.path()).start();
        let mut c = Client::connect(&broker.kafka);
        let n = RECORDS - 1;
        let again = c.produce("a", 0, batch((id, 0, n as i32), time(n), &[value(n)]), -1);
        assert_eq!((again.error_code, again.base_offset), (0, n), "a retry of the last batch, {damage}");
        whole(&broker);
    }
}

#[test]
fn the_small_files_are_not_needed() {
    for name in ["catalogue", "opened", "leader-epoch-checkpoint", "partition.metadata"] {
        for damage in ["lost", "damaged", "empty"] {
            let (dir, _) = stopped();
            let places = [dir.path().to_owned(), partition(dir.path())];
            let mut hit = 0;
            for path in places.iter().flat_map(|d| fs::read_dir(d).unwrap()).map(|e| e.unwrap().path()) {
                if !path.is_file() || !path.file_name().unwrap().to_string_lossy().starts_with(name) {
                    continue;
                }
                hit += 1;
                match damage {
                    "lost" => fs::remove_file(&path).unwrap(),
                    "damaged" => {
                        let mut bytes = fs::read(&path).unwrap();
                        // In the middle; but not in the topic id, which would make it the directory of another topic.
                        let at = if name == "partition.metadata" { 0 } else { bytes.len() / 2 };
                        if let Some(b) = bytes.get_mut(at) {
                            *b ^= 0x10;
                        }
                        fs::write(&path, bytes).unwrap();
                    }
                    _ => fs::write(&path, "").unwrap(),
                }
            }
            assert!(hit > 0 || name == "opened", "no file {name}");
            println!("{name} {damage}");
            whole(&options(dir.path()).start());
        }
    }
}

#[test]
fn an_unknown_directory_is_set_aside_and_kept() {
    let (dir, _) = stopped();
    let ghost = dir.path().join("ghost-7");
    fs::create_dir(&ghost).unwrap();
    fs::copy(files(&partition(dir.path()), ".log")[0].as_path(), ghost.join("00000000000000000000.log")).unwrap();
    fs::write(ghost.join("partition.metadata"), "version: 0\ntopic_id: AAECAwQFBgcICQoLDA0ODw\n").unwrap();
    let size = fs::metadata(ghost.join("00000000000000000000.log")).unwrap().len();
    let broker = options(dir.path()).start();
    whole(&broker);
    // It is moved behind the ready line.
    let kept = crate::support::eventually("the directory is in quarantine", || {
        let entries = fs::read_dir(dir.path().join("quarantine")).ok()?;
        entries.map(|e| e.unwrap().path()).find(|p| p.file_name().unwrap().to_string_lossy().contains("ghost-7"))
    });
    assert!(!ghost.exists());
    assert_eq!(fs::metadata(kept.join("00000000000000000000.log")).unwrap().len(), size);
    let (_, stderr) = broker.stop();
    assert!(stderr.contains("ghost-7"), "{stderr}");
}

#[test]
fn a_segment_of_zero_length_costs_its_records_and_no_others() {
    let (dir, _) = stopped();
    let logs = files(&partition(dir.path()), ".log");
    let base = |p: &Path| p.file_stem().unwrap().to_string_lossy().parse::<i64>().unwrap();
    let (lost, next) = (base(&logs[1]), base(&logs[2]));
    fs::write(&logs[1], "").unwrap();
    let broker = options(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(records(&c.fetch("a", 0, lost - 1, 0)).last().unwrap().offset, lost - 1);
    let got = c.fetch("a", 0, lost, 0);
    let skipped = got.error_code == 0 && records(&got).first().is_some_and(|r| r.offset == next);
    assert!(got.error_code == code::CORRUPT_MESSAGE || skipped, "error {}", got.error_code);
    assert_eq!(c.read_all("a", 0, next).len() as i64, RECORDS - next);
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["next"]), -1).base_offset, RECORDS);
    assert_eq!(broker.get("/readyz").0, 200);
}
