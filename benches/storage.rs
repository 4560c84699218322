//! The parts of the storage engine, one by one: `cargo bench -p millstream-storage`.
//!
//! The files lie in `TMPDIR`: for numbers about a disk, point it at one. Disk timings drift; compare within one run.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use millstream_storage::{
    Batch, Directory, DirectoryOptions, Log, LogConfig, OsDisk, PartitionId, TimestampType, batch,
    catalogue::Catalogue, record::BatchBuilder,
};
use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

fn directory(path: &Path) -> Directory {
    let options = DirectoryOptions {
        node_id: 1,
        cluster_id: "bench".into(),
        directory_id: "bench".into(),
        now_ms: 0,
        open_segments_max: OsDisk::raise_open_files(),
    };
    Directory::open(Arc::new(OsDisk), path, options).unwrap()
}

fn id(partition: i32) -> PartitionId {
    PartitionId { topic_id: [7; 16], partition }
}

/// Few bytes are kept, so that a long run does not fill the disk.
fn config(durable: bool) -> LogConfig {
    LogConfig { durable, segment_bytes: 256 << 20, retention_bytes: 512 << 20, ..LogConfig::default() }
}

fn batch_of(bytes: usize) -> (Vec<u8>, Batch) {
    let value = vec![b'v'; bytes - batch::HEADER_BYTES - 12];
    let bytes = BatchBuilder::new().record(0, None, Some(&value), &[]).build();
    let header = batch::check(&bytes).unwrap();
    (bytes, header)
}

/// Appends, and lets go of what is old now and then.
fn append(log: &mut Log, bytes: &[u8], header: &Batch) {
    let appended = log.append_as_leader(bytes, header, 0, TimestampType::CreateTime, 0).unwrap();
    if appended.rolled {
        log.retain(0, appended.last_offset).unwrap();
        log.remove_deleted(i64::MAX);
    }
}

fn checks(c: &mut Criterion) {
    let mut group = c.benchmark_group("check");
    for size in [1_100, 16 << 10, 1 << 20] {
        let (bytes, _) = batch_of(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| batch::check(black_box(&bytes))));
    }
}

fn appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for size in [1_100, 16 << 10, 1 << 20] {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        let mut log = directory.open_log(id(0), "bench", config(false), 0).unwrap();
        let (bytes, header) = batch_of(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| b.iter(|| append(&mut log, &bytes, &header)));
    }
}

fn durable_appends(c: &mut Criterion) {
    let mut group = c.benchmark_group("append and flush");
    for size in [1_100, 16 << 10, 256 << 10] {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        let mut log = directory.open_log(id(0), "bench", config(true), 0).unwrap();
        let (bytes, header) = batch_of(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                append(&mut log, &bytes, &header);
                let dirty: Vec<_> = log.reader().dirty().into_iter().collect();
                assert!(directory.flush(&dirty).ends.iter().all(Result::is_ok));
            })
        });
    }
}

/// One append to each of several logs, and one round for all of them.
fn rounds(c: &mut Criterion) {
    let mut group = c.benchmark_group("round of logs");
    for logs in [1, 2, 4, 8, 64] {
        let dir = tempfile::tempdir().unwrap();
        let directory = directory(dir.path());
        let open = |n| directory.open_log(id(n), "bench", config(true), 0).unwrap();
        let mut open: Vec<_> = (0..logs).map(open).collect();
        let (bytes, header) = batch_of(1_100);
        group.throughput(Throughput::Elements(logs as u64));
        group.bench_function(BenchmarkId::from_parameter(logs), |b| {
            b.iter(|| {
                open.iter_mut().for_each(|log| append(log, &bytes, &header));
                let dirty: Vec<_> = open.iter().filter_map(|log| log.reader().dirty()).collect();
                assert!(directory.flush(&dirty).ends.iter().all(Result::is_ok));
            })
        });
    }
}

fn reads(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let directory = directory(dir.path());
    let mut log = directory.open_log(id(0), "bench", config(false), 0).unwrap();
    let (bytes, header) = batch_of(16 << 10);
    (0..4_000).for_each(|_| append(&mut log, &bytes, &header));
    let reader = log.reader();
    let mut at = 0;
    let mut group = c.benchmark_group("read");
    for size in [16 << 10, 1 << 20] {
        group.bench_function(BenchmarkId::new("find a slice", size), |b| {
            b.iter(|| {
                at = (at + 1_237) % 3_900; // not in order
                black_box(reader.read(at, size, reader.log_end(), true).unwrap())
            })
        });
    }
}

/// A directory that catalogues 10,000 cold partitions, of which the first hundred have files.
fn starts(c: &mut Criterion) {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, header) = batch_of(1_100);
    let first = directory(dir.path());
    let mut stat = None;
    for partition in 0..100 {
        let mut log = first.open_log(id(partition), "bench", config(false), 0).unwrap();
        append(&mut log, &bytes, &header);
        stat = Some(log.close(0).unwrap());
    }
    first.close(0).unwrap();
    let mut catalogue = Catalogue::load(&OsDisk, dir.path()).unwrap().unwrap();
    catalogue.partitions = (0..10_000).map(|n| (id(n), stat.unwrap())).collect();
    catalogue.store(&OsDisk, dir.path()).unwrap();

    let mut group = c.benchmark_group("10,000 partitions");
    group.bench_function("open and close the directory", |b| b.iter(|| directory(dir.path()).close(0).unwrap()));
    group.bench_function("open the directory", |b| b.iter(|| directory(dir.path())));
    let directory = directory(dir.path());
    let mut log = directory.open_log(id(0), "bench", config(false), 0).unwrap();
    group.bench_function("write the catalogue", |b| {
        b.iter(|| {
            append(&mut log, &bytes, &header);
            directory.write_catalogue(0).unwrap();
        })
    });
    let mut next = 0;
    group.bench_function("open a cold log", |b| {
        b.iter(|| {
            next = next % 99 + 1;
            black_box(directory.open_log(id(next), "bench", config(false), 0).unwrap())
        })
    });
}

/// A start after a kill: every batch above the recovery point is checked again. The bytes are in memory and on disk already.
fn recoveries(c: &mut Criterion) {
    let mut group = c.benchmark_group("recover a log");
    for mib in [1, 64] {
        let dir = tempfile::tempdir().unwrap();
        let (bytes, header) = batch_of(16 << 10);
        let killed = directory(dir.path());
        let mut log = killed.open_log(id(0), "bench", config(false), 0).unwrap();
        let batches = (mib << 20) / bytes.len();
        (0..batches).for_each(|_| append(&mut log, &bytes, &header));
        drop((log, killed)); // no close
        group.throughput(Throughput::Bytes((batches * bytes.len()) as u64));
        group.bench_function(BenchmarkId::from_parameter(format!("{mib} MiB above its recovery point")), |b| {
            b.iter(|| {
                let directory = directory(dir.path());
                assert_eq!(directory.to_recover(), [id(0)]);
                let log = directory.open_log(id(0), "bench", config(false), 0).unwrap();
                assert_eq!(log.reader().log_end(), batches as i64);
            })
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(20);
    targets = checks, appends, durable_appends, rounds, reads, starts, recoveries
}
criterion_main!(benches);
