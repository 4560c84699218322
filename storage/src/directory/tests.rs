use super::*;
use crate::{OsDisk, TimestampType, batch, record::BatchBuilder, sim::SimDisk};

fn options() -> DirectoryOptions {
    DirectoryOptions {
        node_id: 1,
        cluster_id: "cluster".into(),
        directory_id: "directory".into(),
        now_ms: 1_000,
        open_segments_max: 64,
    }
}

fn small() -> LogConfig {
    LogConfig { segment_bytes: 64 << 10, ..LogConfig::default() }
}

fn id(topic: u8, partition: i32) -> PartitionId {
    PartitionId { topic_id: [topic; 16], partition }
}

fn open(disk: &SimDisk) -> Directory {
    Directory::open(Arc::new(disk.clone()), Path::new("/d"), options()).unwrap()
}

fn value(offset: i64) -> Vec<u8> {
    format!("value {offset}").into_bytes()
}

/// Appends one record that says its own offset.
fn append(log: &mut Log) -> Result<i64> {
    let offset = log.reader().log_end();
    append_bytes(log, &value(offset))
}

fn append_bytes(log: &mut Log, value: &[u8]) -> Result<i64> {
    let bytes = BatchBuilder::new().record(1_000, None, Some(value), &[]).build();
    let header = batch::check(&bytes).unwrap();
    Ok(log.append_as_leader(&bytes, &header, 0, TimestampType::CreateTime, 1_000)?.last_offset + 1)
}

fn flush(directory: &Directory, logs: &[&Log]) -> Result<()> {
    let dirty: Vec<_> = logs.iter().filter_map(|l| l.reader().dirty()).collect();
    directory.flush(&dirty).ends.into_iter().collect::<Result<Vec<_>>>().map(|_| ())
}

/// Checks that the records 0..end are there and say what they should.
fn assert_holds(log: &Log, end: i64) {
    let reader = log.reader();
    assert!(reader.log_end() >= end, "log ends at {}, {end} was acknowledged", reader.log_end());
    let mut at = 0;
    while at < end {
        let slice = reader.read(at, 1 << 20, reader.log_end(), true).unwrap().unwrap();
        let mut bytes = &slice.bytes[..];
        while !bytes.is_empty() {
            let header = batch::check_stored(bytes).unwrap();
            let payload = &bytes[batch::HEADER_BYTES..header.size_bytes];
            for record in crate::record::records(payload, header.record_count) {
                let record = record.unwrap();
                assert_eq!(record.value.unwrap(), value(record.offset(&header)));
            }
            at = header.next_offset();
            bytes = &bytes[header.size_bytes..];
        }
    }
}

#[test]
fn a_clean_stop_is_remembered_exactly_and_costs_no_recovery() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    assert!(directory.was_clean());
    assert_eq!(directory.stat(id(1, 0)), None);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    assert!(!disk.exists(Path::new("/d/t-0")), "a partition has no directory before its first append");
    for _ in 0..10 {
        append(&mut log).unwrap();
    }
    flush(&directory, &[&log]).unwrap();
    assert_eq!(log.reader().durable_end(), 10);
    let stat = log.close(2_000).unwrap();
    assert_eq!(directory.stat(id(1, 0)), Some(stat));
    directory.close(2_000).unwrap();

    let directory = open(&disk.crash(7));
    assert!(directory.was_clean() && directory.damage().is_none());
    assert_eq!(directory.stat(id(1, 0)), Some(stat));
    assert_eq!((stat.log_start, stat.log_end, stat.recovery_point), (0, 10, 10));
    assert!(directory.to_recover().is_empty());
    let log = directory.open_log(id(1, 0), "t", small(), 3_000).unwrap();
    assert_holds(&log, 10);
    assert_eq!(directory.cluster_id(), "cluster");
}

#[test]
fn a_killed_process_finds_what_it_appended_even_before_any_flush() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 3), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    let directory = open(&disk.kill());
    assert!(!directory.was_clean());
    assert_eq!(directory.to_recover(), [id(1, 3)]);
    assert!(directory.stat(id(1, 3)).unwrap().needs_recovery);
    let log = directory.open_log(id(1, 3), "t", small(), 1_000).unwrap();
    assert_holds(&log, 1);
    assert!(directory.to_recover().is_empty());
}

#[test]
fn a_partition_open_across_a_catalogue_is_found_after_it() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    flush(&directory, &[&log]).unwrap();
    directory.write_catalogue(2_000).unwrap();
    append(&mut log).unwrap(); // says nothing to `opened` any more: the rotation named it
    flush(&directory, &[&log]).unwrap();
    let directory = open(&disk.crash(1));
    assert_eq!(directory.to_recover(), [id(1, 0)]);
    assert_holds(&directory.open_log(id(1, 0), "t", small(), 1_000).unwrap(), 2);
}

#[test]
fn a_partition_that_went_cold_is_exactly_as_catalogued_after_a_kill() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    let stat = log.close(1_500).unwrap();
    directory.write_catalogue(2_000).unwrap();
    let ops = disk.ops();
    directory.write_catalogue(3_000).unwrap();
    assert_eq!(disk.ops(), ops, "an idle directory writes no catalogue");
    let directory = open(&disk.kill());
    assert!(!directory.was_clean() && directory.to_recover().is_empty());
    assert_eq!(directory.stat(id(1, 0)), Some(stat));
    // Only read: it stays as it is.
    drop(directory.open_log(id(1, 0), "t", small(), 1_000).unwrap());
    assert!(open(&disk.kill()).to_recover().is_empty());
}

#[test]
fn a_log_given_up_without_a_close_is_recovered_when_opened_again() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    drop(log);
    directory.write_catalogue(2_000).unwrap();
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    flush(&directory, &[&log]).unwrap();
    assert_holds(&log, 2);
    let log = open(&disk.crash(5)).open_log(id(1, 0), "t", small(), 1_000).unwrap();
    assert_holds(&log, 2);
}

/// Boot, two partitions, two catalogues, a log that goes cold, another boot: as far as the disk lets it. Returns what was
/// acknowledged: the flushed end of each partition, and the appended one.
fn life(disk: &SimDisk) -> Vec<(PartitionId, i64, i64)> {
    let mut acked = vec![(id(1, 0), 0, 0), (id(2, 1), 0, 0)];
    let mut go = || -> Result<(), OpenError> {
        let directory = Directory::open(Arc::new(disk.clone()), Path::new("/d"), options())?;
        let mut a = directory.open_log(id(1, 0), "t", small(), 1_000)?;
        acked[0].2 = append(&mut a)?;
        flush(&directory, &[&a])?;
        acked[0].1 = 1;
        directory.write_catalogue(1_000)?;
        acked[0].2 = append(&mut a)?;
        let mut b = directory.open_log(id(2, 1), "u", small(), 1_000)?;
        acked[1].2 = append(&mut b)?;
        flush(&directory, &[&a, &b])?;
        (acked[0].1, acked[1].1) = (2, 1);
        a.close(1_000)?;
        directory.write_catalogue(2_000)?;
        acked[1].2 = append(&mut b)?;
        flush(&directory, &[&b])?;
        acked[1].1 = 2;
        b.close(1_000)?;
        directory.close(3_000)?;
        let directory = Directory::open(Arc::new(disk.clone()), Path::new("/d"), options())?;
        let mut a = directory.open_log(id(1, 0), "t", small(), 1_000)?;
        acked[0].2 = append(&mut a)?;
        flush(&directory, &[&a])?;
        acked[0].1 = 3;
        Ok(())
    };
    let _ = go();
    acked
}

/// Power cuts tried at each operation; more by hand.
const SEEDS: u64 = 3;

#[test]
fn a_kill_or_power_cut_at_every_operation_loses_nothing_acknowledged() {
    let whole = SimDisk::new();
    assert_eq!(life(&whole), [(id(1, 0), 3, 3), (id(2, 1), 2, 2)]);
    for n in 0..=whole.ops() {
        let disk = SimDisk::new();
        disk.crash_after_ops(n);
        let acked = life(&disk);
        let killed = [(disk.kill(), true)];
        let cut = (0..SEEDS).map(|seed| (disk.crash(seed * 1000 + n), false));
        for (disk, is_kill) in killed.into_iter().chain(cut) {
            let directory = open(&disk);
            for (id, flushed, appended) in &acked {
                let topic = if id.topic_id[0] == 1 { "t" } else { "u" };
                let mut log = directory.open_log(*id, topic, small(), 1_000).unwrap();
                let end = if is_kill { *appended } else { *flushed };
                assert_holds(&log, end);
                append(&mut log).unwrap();
                flush(&directory, &[&log]).unwrap_or_else(|e| panic!("after operation {n}: {e}"));
                log.close(5_000).unwrap();
            }
            assert!(directory.damage().is_none(), "after operation {n}: {:?}", directory.damage());
            directory.close(5_000).unwrap();
            assert!(open(&disk.kill()).was_clean());
        }
    }
}

#[test]
fn a_damaged_or_lost_catalogue_loses_no_partition() {
    for lost in [false, true] {
        let disk = SimDisk::new();
        let directory = open(&disk);
        for partition in 0..3 {
            let mut log = directory.open_log(id(1, partition), "t", small(), 1_000).unwrap();
            append(&mut log).unwrap();
            log.close(1_000).unwrap();
        }
        directory.close(2_000).unwrap();
        let disk = disk.kill();
        if lost {
            disk.remove_file(Path::new("/d/catalogue")).unwrap();
        } else {
            disk.flip_bit(Path::new("/d/catalogue"), 50, 3).unwrap();
        }
        let directory = open(&disk);
        assert_eq!(directory.damage().is_some(), !lost);
        assert!(!directory.was_clean());
        assert_eq!(directory.to_recover(), [id(1, 0), id(1, 1), id(1, 2)]);
        for partition in 0..3 {
            let log = directory.open_log(id(1, partition), "t", small(), 1_000).unwrap();
            assert_holds(&log, 1);
        }
        let again = open(&disk.kill());
        assert!(again.damage().is_none(), "the new catalogue is sound");
        assert_eq!(again.to_recover().len(), 3);
    }
}

#[test]
fn a_deleted_partition_is_gone_at_once_and_its_files_after_the_delay() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    flush(&directory, &[&log]).unwrap();
    let reader = log.reader().clone();
    let slice = reader.read(0, 1 << 20, 1, true).unwrap().unwrap();
    directory.delete_partition(id(1, 0), "t", Some(&mut log)).unwrap();
    assert_eq!(directory.stat(id(1, 0)), None);
    assert!(append(&mut log).is_err());
    drop(log);
    assert!(batch::check_stored(&slice.bytes).is_ok(), "bytes handed out stay");
    let deleted = || disk.read_dir(Path::new("/d")).unwrap().iter().filter(|e| e.name.ends_with("-delete")).count();
    assert_eq!(deleted(), 1);
    directory.remove_deleted(10_000);
    directory.remove_deleted(69_999);
    assert_eq!(deleted(), 1);
    // The same name again, as another topic.
    let mut log = directory.open_log(id(2, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    assert_eq!(log.reader().log_end(), 1);
    directory.remove_deleted(70_000);
    assert_eq!(deleted(), 0);
    directory.delete_partition(id(2, 0), "t", Some(&mut log)).unwrap();
    directory.delete_partition(id(9, 9), "never", None).unwrap();
    let disk = disk.kill();
    let directory = open(&disk);
    assert!(directory.to_recover().is_empty());
    directory.remove_deleted(80_000);
    assert!(disk.read_dir(Path::new("/d")).unwrap().iter().all(|e| !e.is_dir), "leftovers of an earlier run go");
}

#[test]
fn a_deletion_cut_off_after_the_rename_is_completed() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    log.close(1_000).unwrap();
    directory.close(1_000).unwrap();
    let disk = disk.kill();
    let name = format!("/d/{}", names::deleted_dir(id(1, 0), "t", 0));
    disk.rename(Path::new("/d/t-0"), Path::new(&name)).unwrap();
    let vanished = disk.kill();
    let directory = open(&disk);
    let log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    assert_eq!(log.reader().log_end(), 0);
    assert!(directory.stat(id(1, 0)).is_none_or(|s| s.recovery_point == 0), "nothing of the old log is known");
    // A directory that vanished without a trace is another matter.
    vanished.remove_dir_all(Path::new(&name)).unwrap();
    let e = open(&vanished).open_log(id(1, 0), "t", small(), 1_000).unwrap_err();
    assert!(e.to_string().contains("missing"), "{e}");
}

#[test]
fn unknown_directories_are_quarantined_not_removed() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    for topic in [1, 2] {
        let name = ["", "known", "stray"][topic as usize];
        let mut log = directory.open_log(id(topic, 0), name, small(), 1_000).unwrap();
        append(&mut log).unwrap();
        log.close(1_000).unwrap();
    }
    disk.create_dir_all(Path::new("/d/not-a-partition")).unwrap();
    disk.create_dir_all(Path::new("/d/quarantine/stray-0")).unwrap();
    let known = |p: PartitionId| p.topic_id[0] == 1;
    assert_eq!(directory.quarantine_unknown(&known).unwrap(), ["stray-0"]);
    assert!(disk.files().contains(&PathBuf::from("/d/quarantine/stray-0.1/00000000000000000000.log")));
    assert_eq!(directory.stat(id(2, 0)), None);
    assert!(directory.quarantine_unknown(&known).unwrap().is_empty());
    assert_holds(&directory.open_log(id(1, 0), "known", small(), 1_000).unwrap(), 1);
    assert!(disk.exists(Path::new("/d/not-a-partition")));
}

#[test]
fn a_directory_left_by_another_topic_of_that_name_is_moved_away() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    log.close(1_000).unwrap();
    let mut log = directory.open_log(id(2, 0), "t", small(), 1_000).unwrap();
    assert_eq!(log.reader().log_end(), 0);
    append(&mut log).unwrap();
    assert!(disk.exists(Path::new("/d/quarantine/t-0")) && disk.exists(Path::new("/d/t-0")));
}

#[test]
fn a_failed_sync_is_final_for_the_directory() {
    for nth in 1..=3 {
        let disk = SimDisk::new();
        let directory = open(&disk);
        let mut a = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        let mut b = directory.open_log(id(1, 1), "t", small(), 1_000).unwrap();
        append(&mut a).unwrap();
        append(&mut b).unwrap();
        disk.fail_nth_sync(nth);
        let dirty: Vec<_> = [&a, &b].iter().filter_map(|l| l.reader().dirty()).collect();
        let ends = directory.flush(&dirty).ends;
        assert!(ends.len() == 2 && ends.iter().all(|e| e.is_err()), "{nth}: {ends:?}");
        assert!(directory.failure().is_some());
        assert!(matches!(append(&mut a), Err(Error::DirectoryFailed { .. })));
        assert!(directory.flush(&dirty).ends.iter().all(|e| e.is_err()), "no retry that acknowledges");
        assert!(directory.write_catalogue(2_000).is_err());
        assert!(directory.close(2_000).is_err());
        let log = open(&disk.kill()).open_log(id(1, 0), "t", small(), 1_000).unwrap();
        assert!(log.reader().log_end() <= 1);
    }
}

#[test]
fn recovery_starts_near_the_end_of_a_large_log() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Directory::open(Arc::new(OsDisk), dir.path(), options()).unwrap();
    let directory = open();
    let config = LogConfig { segment_bytes: 256 << 20, ..LogConfig::default() };
    let mut log = directory.open_log(id(1, 0), "t", config, 1_000).unwrap();
    let value = vec![7; 8 << 20];
    for _ in 0..9 {
        append_bytes(&mut log, &value).unwrap();
        flush(&directory, &[&log]).unwrap();
    }
    drop((directory, log)); // no close
    let stat = open().stat(id(1, 0)).unwrap();
    assert!(stat.recovery_point >= 7, "{stat:?}");
}

#[test]
fn a_second_process_and_another_node_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let first = Directory::open(Arc::new(OsDisk), &path, options()).unwrap();
    let e = Directory::open(Arc::new(OsDisk), &path, options()).unwrap_err();
    assert!(matches!(e, OpenError::Locked { .. }), "{e}");
    first.close(1_000).unwrap();
    let e = Directory::open(Arc::new(OsDisk), &path, DirectoryOptions { node_id: 2, ..options() }).unwrap_err();
    assert!(matches!(e, OpenError::Foreign { .. }), "{e}");
    assert_eq!(Directory::open(Arc::new(OsDisk), &path, options()).unwrap().directory_id(), "directory");
}

#[test]
fn many_logs_flush_in_one_round_with_threads() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(Arc::new(OsDisk), dir.path(), options()).unwrap();
    let mut logs: Vec<_> = (0..9).map(|p| directory.open_log(id(1, p), "t", small(), 1_000).unwrap()).collect();
    for (n, log) in logs.iter_mut().enumerate() {
        for _ in 0..=n {
            append(log).unwrap();
        }
    }
    let dirty: Vec<_> = logs.iter().filter_map(|l| l.reader().dirty()).collect();
    let ends: Vec<_> = directory.flush(&dirty).ends.into_iter().map(Result::unwrap).collect();
    assert_eq!(ends, (1..=9).collect::<Vec<i64>>());
    assert!(logs.iter().all(|l| l.reader().dirty().is_none()));
    assert!(directory.flush(&[]).ends.is_empty());
}

#[test]
fn a_full_disk_refuses_appends_and_nothing_else() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut a = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut a).unwrap();
    flush(&directory, &[&a]).unwrap();
    a.close(1_000).unwrap();
    directory.write_catalogue(1_000).unwrap(); // no `opened` file now: the next first append must make one
    disk.set_capacity(Some(disk.used_bytes()));
    let mut a = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    assert!(matches!(append_bytes(&mut a, &[0; 9000]), Err(Error::NoSpace { .. })));
    assert_holds(&a, 1);
    assert_eq!(directory.failure(), None);
    directory.delete_partition(id(1, 0), "t", Some(&mut a)).unwrap();
    drop(a);
    directory.remove_deleted(1_000);
    directory.remove_deleted(100_000);
    // Room was made by that alone.
    let mut b = directory.open_log(id(2, 0), "t", small(), 1_000).unwrap();
    append(&mut b).unwrap();
    flush(&directory, &[&b]).unwrap();
    disk.set_capacity(None);
    directory.write_catalogue(2_000).unwrap();
    let directory = open(&disk.crash(3));
    assert_eq!((directory.stat(id(1, 0)), directory.partitions()), (None, vec![id(2, 0)]));
    assert_holds(&directory.open_log(id(2, 0), "t", small(), 1_000).unwrap(), 1);
}

#[test]
fn a_catalogue_that_cannot_be_written_is_written_later() {
    for nth in 1..=4 {
        let disk = SimDisk::new();
        let directory = open(&disk);
        let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        append(&mut log).unwrap();
        flush(&directory, &[&log]).unwrap();
        let now = disk.used_bytes();
        disk.set_capacity(Some(now + 4096 * (nth - 1)));
        let _ = directory.write_catalogue(1_000);
        append(&mut log).unwrap();
        flush(&directory, &[&log]).unwrap();
        let log2 = open(&disk.crash(nth)).open_log(id(1, 0), "t", small(), 1_000).unwrap();
        assert_holds(&log2, 2);
        disk.set_capacity(None);
        directory.write_catalogue(2_000).unwrap();
        log.close(2_000).unwrap();
        directory.close(2_000).unwrap();
        let directory = open(&disk.crash(nth));
        assert!(directory.was_clean() && directory.to_recover().is_empty(), "{nth}");
        assert_eq!(directory.stat(id(1, 0)).unwrap().log_end, 2);
    }
}

#[test]
fn a_damaged_opened_file_makes_every_partition_recover() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    for partition in 0..2 {
        let mut log = directory.open_log(id(1, partition), "t", small(), 1_000).unwrap();
        append(&mut log).unwrap();
        log.close(1_000).unwrap();
    }
    directory.write_catalogue(1_000).unwrap();
    let mut logs = Vec::new();
    for partition in 2..5 {
        let mut log = directory.open_log(id(1, partition), "t", small(), 1_000).unwrap();
        append(&mut log).unwrap();
        logs.push(log);
    }
    let disk = disk.kill();
    let opened = disk.files().into_iter().find(|f| f.to_string_lossy().contains("opened")).unwrap();
    disk.flip_bit(&opened, 40, 0).unwrap(); // partition 3's name
    let directory = open(&disk);
    assert!(directory.damage().unwrap().contains("opened"));
    assert_eq!(directory.to_recover().len(), 5);
    for partition in 0..5 {
        assert_holds(&directory.open_log(id(1, partition), "t", small(), 1_000).unwrap(), 1);
    }
    assert!(open(&disk.kill()).damage().is_none());
}

#[test]
fn names_entered_while_catalogues_are_written_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(Arc::new(OsDisk), dir.path(), options()).unwrap();
    std::thread::scope(|scope| {
        for topic in 0..3u8 {
            let directory = &directory;
            scope.spawn(move || {
                for partition in 0..30 {
                    let mut log =
                        directory.open_log(id(topic, partition), &format!("t{topic}"), small(), 1_000).unwrap();
                    append(&mut log).unwrap();
                    if partition % 3 > 0 {
                        flush(directory, &[&log]).unwrap();
                    }
                    match partition % 2 {
                        0 => drop(log.close(1_000).unwrap()),
                        _ => drop(log), // given up: as in a crash
                    }
                }
            });
        }
        scope.spawn(|| (0..30).for_each(|_| directory.write_catalogue(2_000).unwrap()));
    });
    drop(directory); // no close
    let directory = Directory::open(Arc::new(OsDisk), dir.path(), options()).unwrap();
    for topic in 0..3u8 {
        for partition in 0..30 {
            let stat = directory.stat(id(topic, partition)).unwrap();
            assert!(partition % 2 == 1 || stat.log_end == 1 || stat.needs_recovery, "{partition}: {stat:?}");
            assert!(partition % 2 == 0 || stat.needs_recovery, "{partition}: {stat:?}");
            let log = directory.open_log(id(topic, partition), &format!("t{topic}"), small(), 1_000).unwrap();
            assert_holds(&log, 1);
        }
    }
}

#[test]
fn retention_and_delete_records_make_room_on_a_full_disk() {
    for by_retention in [false, true] {
        let disk = SimDisk::new();
        let directory = open(&disk);
        let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        for _ in 0..40 {
            append_bytes(&mut log, &[0; 9000]).unwrap();
        }
        flush(&directory, &[&log]).unwrap();
        directory.write_catalogue(1_000).unwrap();
        disk.set_capacity(Some(disk.used_bytes()));
        while append_bytes(&mut log, &[0; 9000]).is_ok() {}
        let end = log.reader().log_end();
        flush(&directory, &[&log]).unwrap();
        if by_retention {
            log.set_config(LogConfig { retention_bytes: 100 << 10, ..small() });
            assert!(log.retain(2_000, end).unwrap() > 0);
        } else {
            assert_eq!(log.delete_records(35, end, 2_000).unwrap(), 35);
        }
        let start = log.reader().log_start();
        assert!(start > 20, "{start}");
        // A power loss now comes back to the same start.
        let after = open(&disk.crash(1)).open_log(id(1, 0), "t", small(), 3_000).unwrap();
        assert_eq!((after.reader().log_start(), after.reader().log_end()), (start, end));
        log.remove_deleted(100_000);
        append_bytes(&mut log, &[0; 9000]).unwrap();
        flush(&directory, &[&log]).unwrap();
        let after = open(&disk.crash(2)).open_log(id(1, 0), "t", small(), 3_000).unwrap();
        assert_eq!((after.reader().log_start(), after.reader().log_end()), (start, end + 1));
    }
}

#[test]
fn a_log_of_many_segments_is_read_with_few_of_them_open() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::open(Arc::new(OsDisk), dir.path(), options()).unwrap();
    let config = LogConfig { segment_bytes: 1024, ..LogConfig::default() };
    let mut log = directory.open_log(id(1, 0), "t", config.clone(), 1_000).unwrap();
    for _ in 0..700 {
        append(&mut log).unwrap();
        log.roll(1_000).unwrap();
    }
    log.close(1_000).unwrap();
    let log = directory.open_log(id(1, 0), "t", config, 1_000).unwrap();
    let held = log.reader().read(0, 1000, 700, true).unwrap().unwrap();
    assert_holds(&log, 700);
    assert_holds(&log, 700);
    let open = log.reader().shared.segments.load().iter().filter(|s| s.opened().is_some()).count();
    assert!(open < 300, "{open} of 700 are open");
    batch::check_stored(&held.bytes).unwrap(); // a slice keeps what it needs
}

#[test]
fn a_start_that_only_the_files_know_is_written_down() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    for _ in 0..3 {
        append(&mut log).unwrap();
        log.roll(1_000).unwrap();
    }
    log.close(1_000).unwrap();
    directory.close(1_000).unwrap();
    // A partition that comes from elsewhere, its oldest segment gone; the directory has never heard of it.
    let disk = disk.kill();
    disk.remove_file(Path::new("/d/catalogue")).unwrap();
    disk.rename(Path::new("/d/t-0"), Path::new("/t-0")).unwrap();
    drop(open(&disk));
    let disk = disk.kill();
    disk.rename(Path::new("/t-0"), Path::new("/d/t-0")).unwrap();
    disk.remove_file(Path::new("/d/t-0/00000000000000000000.log")).unwrap();
    let _ = disk.remove_file(Path::new("/d/t-0/log-start"));
    disk.sync_dir(Path::new("/d/t-0")).unwrap();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    assert_eq!((log.reader().log_start(), log.reader().log_end()), (1, 3));
    append(&mut log).unwrap();
    flush(&directory, &[&log]).unwrap();
    for disk in [disk.kill(), disk.crash(1), disk.crash(2)] {
        let log = open(&disk).open_log(id(1, 0), "t", small(), 1_000).unwrap();
        assert_eq!((log.reader().log_start(), log.reader().log_end()), (1, 4));
    }
}

#[test]
fn a_flush_that_finds_no_descriptors_is_made_later_and_fails_nothing() {
    for seed in 0..10 {
        let disk = SimDisk::new();
        let directory = open(&disk);
        let mut settled = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        append(&mut settled).unwrap();
        flush(&directory, &[&settled]).unwrap();
        append(&mut settled).unwrap();
        let mut new = directory.open_log(id(1, 1), "t", small(), 1_000).unwrap();
        append(&mut new).unwrap();
        disk.set_no_descriptors(true);
        let dirty = [settled.reader().dirty().unwrap(), new.reader().dirty().unwrap()];
        let ends = directory.flush(&dirty).ends;
        assert!(matches!(ends[..], [Ok(2), Err(Error::Exhausted { .. })]), "{ends:?}");
        assert_eq!((directory.failure(), new.reader().durable_end()), (None, 0));
        append(&mut new).unwrap();
        disk.set_no_descriptors(false);
        flush(&directory, &[&new]).unwrap();
        let directory = open(&disk.crash(seed));
        assert_holds(&directory.open_log(id(1, 0), "t", small(), 1_000).unwrap(), 2);
        assert_holds(&directory.open_log(id(1, 1), "t", small(), 1_000).unwrap(), 2);
    }
}

#[test]
fn a_timestamp_is_not_looked_for_in_segments_that_cannot_be_opened() {
    let disk = SimDisk::new();
    let directory = open(&disk);
    let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
    append(&mut log).unwrap();
    log.roll(1_000).unwrap();
    append(&mut log).unwrap();
    log.close(2_000).unwrap();
    let log = directory.open_log(id(1, 0), "t", small(), 3_000).unwrap();
    disk.set_no_descriptors(true);
    let (found, max) = (log.reader().offset_for_timestamp(1_000, 2, None), log.reader().max_timestamp(2, None));
    assert!(matches!(found, Err(Error::Exhausted { .. })), "{found:?}");
    assert!(matches!(max, Err(Error::Exhausted { .. })), "{max:?}");
    disk.set_no_descriptors(false);
    assert_eq!(log.reader().offset_for_timestamp(1_000, 2, None).unwrap(), Some((1_000, 0, 0)));
    assert_eq!(log.reader().max_timestamp(2, None).unwrap(), Some((1_000, 0, 0)));
}

#[test]
fn a_log_closed_after_its_first_append_was_refused_loses_nothing_later() {
    // Room for nothing, and for `partition.metadata` only.
    for room in [0, 4096] {
        for seed in 0..20 {
            let disk = SimDisk::new();
            let directory = open(&disk);
            let mut other = directory.open_log(id(1, 1), "t", small(), 1_000).unwrap();
            append(&mut other).unwrap();
            flush(&directory, &[&other]).unwrap(); // syncs names that would be synced below
            let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
            disk.set_capacity(Some(disk.used_bytes() + room));
            assert!(matches!(append(&mut log), Err(Error::NoSpace { .. })));
            log.close(1_000).unwrap();
            disk.set_capacity(None);
            let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
            append(&mut log).unwrap();
            flush(&directory, &[&log]).unwrap();
            let directory = open(&disk.crash(seed));
            assert_holds(&directory.open_log(id(1, 0), "t", small(), 1_000).unwrap(), 1);
        }
    }
}

#[test]
fn the_file_of_a_failed_roll_does_not_come_back_after_a_close() {
    for seed in 0..40 {
        let disk = SimDisk::new();
        let directory = open(&disk);
        let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        append_bytes(&mut log, &[7; 60_000]).unwrap();
        flush(&directory, &[&log]).unwrap();
        disk.set_capacity(Some(disk.used_bytes()));
        assert!(matches!(append_bytes(&mut log, &[7; 10_000]), Err(Error::NoSpace { .. })));
        log.close(1_000).unwrap();
        disk.set_capacity(None);
        let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        append_bytes(&mut log, &[7; 1_000]).unwrap();
        flush(&directory, &[&log]).unwrap();
        let directory = open(&disk.crash(seed));
        let log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        assert_eq!(log.reader().log_end(), 2, "seed {seed}");
    }
}

#[test]
fn a_producer_snapshot_of_records_that_a_crash_took_is_gone_for_good() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        let directory = open(&disk);
        let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        append(&mut log).unwrap();
        flush(&directory, &[&log]).unwrap();
        append(&mut log).unwrap();
        log.write_producer_snapshot(2, b"of a record that is lost").unwrap();
        disk.sync_dir(Path::new("/d/t-0")).unwrap();
        let disk = disk.crash(seed);
        let directory = open(&disk);
        let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        if log.reader().log_end() == 2 {
            continue; // it was not lost
        }
        append(&mut log).unwrap();
        append(&mut log).unwrap();
        assert_eq!(log.producer_snapshots(), [], "seed {seed}");
        flush(&directory, &[&log]).unwrap();
        let log = open(&disk.crash(seed)).open_log(id(1, 0), "t", small(), 1_000).unwrap();
        assert_eq!(log.reader().log_end(), 3);
        assert_eq!(log.producer_snapshots(), [], "seed {seed}");
    }
}

#[test]
fn whose_directory_it_is_survives_where_a_log_begins_with_a_truncation() {
    for seed in 0..20 {
        let disk = SimDisk::new();
        let directory = open(&disk);
        let mut log = directory.open_log(id(1, 0), "t", small(), 1_000).unwrap();
        log.truncate_fully_and_start_at(5).unwrap();
        let disk = disk.crash(seed);
        assert_eq!(partition_of(&disk, Path::new("/d/t-0")).unwrap(), Some(id(1, 0)), "seed {seed}");
    }
}
