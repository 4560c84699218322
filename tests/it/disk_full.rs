//! A full disk costs producers an error, and nothing else: reads and deletes go on, production resumes once there is room.

use crate::{
    support::{Options, eventually, passed_over, temp},
    wire::{ANYONE, Client, batch, code, now_ms},
};
use std::{
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// A file system of a few MiB, unmounted when dropped.
struct Tmpfs {
    path: PathBuf,
    _dir: TempDir,
}

impl Tmpfs {
    /// `None` where mounting is not permitted.
    fn mount(mib: u32) -> Option<Tmpfs> {
        let dir = temp();
        let path = dir.path().join("small");
        std::fs::create_dir(&path).unwrap();
        let out = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "millstream-test"])
            .arg(&path)
            .output();
        let out = match out {
            Ok(out) => out,
            Err(e) => {
                passed_over("mount", &format!("mount cannot be run: {e}"));
                return None;
            }
        };
        if !out.status.success() {
            let stderr = String::from_utf8_lossy(&out.stderr);
            passed_over("mount", &format!("no tmpfs can be mounted here: {}", stderr.trim()));
            return None;
        }
        Some(Tmpfs { path, _dir: dir })
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

/// Produces batches of 64 KiB until the disk is full; gives how many records the partition has then.
fn fill(c: &mut Client, topic: &str, from: usize) -> usize {
    let mut n = from;
    loop {
        let mut value = format!("{n:08}").into_bytes();
        value.resize(64 << 10, b'x');
        let sent = c.produce(topic, 0, batch(ANYONE, now_ms(), &[value]), -1);
        if sent.error_code != 0 {
            assert_eq!(sent.error_code, code::KAFKA_STORAGE_ERROR, "{:?}", sent.error_message);
            return n;
        }
        assert_eq!(sent.base_offset, n as i64);
        n += 1;
        assert!(n < from + 10_000, "a small disk takes no end of records");
    }
}

fn all_there(c: &mut Client, topic: &str, from: usize, to: usize) {
    let read = c.read_all(topic, 0, from as i64);
    assert_eq!(read.len(), to - from);
    for (i, r) in read.iter().enumerate() {
        assert_eq!((r.0, &r.2[..8]), ((from + i) as i64, format!("{:08}", from + i).as_bytes()));
    }
}

fn options(path: &Path) -> Options {
    Options::new(&path.join("data")).set("log.segment.bytes", "1048576").set("log.segment.delete.delay.ms", "0")
}

#[test]
fn a_full_disk_refuses_producers_alone_and_production_resumes_without_a_restart() {
    let Some(disk) = Tmpfs::mount(32) else { return };
    let mut broker = options(&disk.path).start();
    let mut c = Client::connect(&broker.kafka);
    for topic in ["ballast", "a", "b"] {
        assert_eq!(c.create_topic(topic, 1, &[]), 0);
    }
    for i in 0..64 {
        let mut value = format!("{i:08}").into_bytes();
        value.resize(64 << 10, b'x');
        assert_eq!(c.produce("ballast", 0, batch(ANYONE, now_ms(), &[value]), -1).error_code, 0);
    }
    let full = fill(&mut c, "a", 0);
    assert!(full > 100, "{full} records of 64 KiB in 32 MiB");
    // Full for everybody; whoever asks again is refused again; nobody is shown a record that was refused.
    assert_eq!(fill(&mut c, "a", full), full);
    all_there(&mut c, "a", 0, full);
    all_there(&mut c, "ballast", 0, 64);
    assert_eq!(broker.get("/healthz").0, 200);
    let (status, why) = broker.get("/readyz");
    assert!(status == 503 && why.contains("the disk is full"), "{status} {why}");

    // Room by DeleteRecords.
    assert_eq!(c.delete_records("a", 0, full as i64 / 2), (0, full as i64 / 2));
    let resumed = eventually("production resumes after DeleteRecords", || {
        let n = fill(&mut c, "a", full);
        (n > full).then_some(n)
    });
    all_there(&mut c, "a", full / 2, resumed);
    assert_eq!(broker.get("/readyz").0, 503, "it was filled again");
    // Room by DeleteTopics: the broker is ready again before anybody appends.
    assert_eq!(c.delete_topic("ballast"), 0);
    eventually("ready after DeleteTopics", || (broker.get("/readyz").0 == 200).then_some(()));
    let resumed = eventually("production resumes after DeleteTopics", || {
        let n = fill(&mut c, "a", resumed);
        (n > resumed).then_some(n)
    });
    assert!(broker.alive());
    assert!(!broker.stderr().contains("panicked"), "{}", broker.stderr());

    // Recovery needs no room.
    broker.kill();
    let broker = options(&disk.path).start();
    let mut c = Client::connect(&broker.kafka);
    all_there(&mut c, "a", full / 2, resumed);
    assert_eq!(broker.stop().0, Some(0));
    let broker = options(&disk.path).start();
    all_there(&mut Client::connect(&broker.kafka), "a", full / 2, resumed);
}
