//! A file cut behind the log's back costs its data directory, not the process.

use millstream_storage::{
    Directory, DirectoryOptions, Error, Log, LogConfig, OsDisk, PartitionId, TimestampType, batch, record::BatchBuilder,
};
use std::{fs::OpenOptions, path::Path, sync::Arc};

const ID: PartitionId = PartitionId { topic_id: [3; 16], partition: 0 };

fn open(path: &Path) -> (Directory, Log) {
    let options = DirectoryOptions {
        node_id: 1,
        cluster_id: "cluster".into(),
        directory_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
        now_ms: 0,
        open_segments_max: 64,
    };
    let directory = Directory::open(Arc::new(OsDisk), path, options).unwrap();
    let log = directory.open_log(ID, "t", LogConfig::default(), 0).unwrap();
    (directory, log)
}

fn append(log: &mut Log) -> Result<i64, Error> {
    append_at(log, 1)
}

fn append_at(log: &mut Log, timestamp: i64) -> Result<i64, Error> {
    let bytes = BatchBuilder::new().record(timestamp, Some(b"k"), Some(&[7; 3000]), &[]).build();
    let header = batch::check(&bytes).unwrap();
    log.append_as_leader(&bytes, &header, 0, TimestampType::CreateTime, 0).map(|a| a.base_offset)
}

#[test]
fn a_cut_segment_fails_its_directory_and_nothing_else() {
    let (cut_dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (directory, mut log) = open(cut_dir.path());
    let (other_directory, mut other) = open(other_dir.path());
    for _ in 0..20 {
        append(&mut log).unwrap();
        append(&mut other).unwrap();
    }
    let dirty = log.reader().dirty().unwrap();
    assert_eq!(directory.flush(&[dirty]).ends.remove(0).unwrap(), 20);
    let reader = log.reader().clone();
    let before = reader.read(0, 100, 20, true).unwrap().unwrap();
    let file = OpenOptions::new().write(true).open(cut_dir.path().join("t-0/00000000000000000000.log")).unwrap();
    file.set_len(4096).unwrap();

    // The slice handed out before still has its first page; reads beyond it are refused, whichever way they notice.
    assert_eq!(before.first_offset, 0);
    let beyond = reader.read(15, 4000, 20, true).and_then(|slice| slice.map_or(Ok(()), |s| s.populate()));
    assert!(beyond.is_err(), "read what is gone");
    // Touched without asking first: zeros instead of an end of the process.
    let all = reader.read(0, 1 << 20, 20, true);
    if let Ok(Some(slice)) = &all {
        assert!(slice.bytes.iter().map(|b| usize::from(*b)).sum::<usize>() > 0);
    }
    assert!(directory.failure().is_some(), "the directory does not know");
    assert!(matches!(append(&mut log), Err(Error::DirectoryFailed { .. })));

    assert_eq!(append(&mut other).unwrap(), 20);
    let dirty = other.reader().dirty().unwrap();
    assert_eq!(other_directory.flush(&[dirty]).ends.remove(0).unwrap(), 21);
    assert!(other_directory.failure().is_none());
}

#[test]
fn a_timestamp_in_pages_that_cannot_be_read_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, mut log) = open(dir.path());
    for i in 0..20 {
        append_at(&mut log, 100 + i).unwrap();
    }
    let dirty = log.reader().dirty().unwrap();
    assert_eq!(directory.flush(&[dirty]).ends.remove(0).unwrap(), 20);
    let reader = log.reader();
    assert_eq!(reader.offset_for_timestamp(115, 20, None).unwrap(), Some((115, 15, 0)));
    let file = OpenOptions::new().write(true).open(dir.path().join("t-0/00000000000000000000.log")).unwrap();
    file.set_len(4096).unwrap();
    // As it stands in memory, the segment has it; the pages are zeros.
    let found = reader.offset_for_timestamp(115, 20, None);
    assert!(matches!(found, Err(Error::DirectoryFailed { .. })), "{found:?}");
    let max = reader.max_timestamp(20, None);
    assert!(matches!(max, Err(Error::DirectoryFailed { .. })), "{max:?}");
}
