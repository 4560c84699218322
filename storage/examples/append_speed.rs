//! What an append, a flush and a read cost: wall and CPU seconds per GiB for a few batch sizes.
//!
//! `cargo run --release -p millstream-storage --example append_speed -- <directory> [MiB a run]`; `ONLY=3` makes run 3 alone.

use millstream_storage::{
    Directory, DirectoryOptions, LogConfig, OsDisk, PartitionId, TimestampType, batch, record::BatchBuilder,
};
use std::{path::Path, sync::Arc, time::Instant};

/// User and system seconds of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("procfs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks = |i: usize| fields[i].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn main() {
    let mut args = std::env::args().skip(1);
    let path = args.next().expect("a directory");
    let mib: usize = args.next().map_or(1024, |n| n.parse().expect("a number of MiB"));
    let options = DirectoryOptions {
        node_id: 1,
        cluster_id: "speed".into(),
        directory_id: "speed".into(),
        now_ms: 0,
        open_segments_max: 1000,
    };
    let directory = Directory::open(Arc::new(OsDisk), Path::new(&path), options).expect("a data directory");
    println!(
        "{:>9} {:>8} {:>10} {:>10} {:>12} {:>12}",
        "batch", "durable", "MiB/s", "CPU s/GiB", "read MiB/s", "read CPU s/GiB"
    );
    // The first run pays for memory that the machine has not touched lately: it is made twice.
    let runs =
        [(1 << 20, false), (1 << 20, false), (16 << 10, false), (1 << 10, false), (1 << 20, true), (16 << 10, true)];
    let only: Option<usize> = std::env::var("ONLY").ok().and_then(|n| n.parse().ok());
    for (partition, (size, durable)) in runs.into_iter().enumerate() {
        if only.is_some_and(|only| only != partition) {
            continue;
        }
        let id = PartitionId { topic_id: [size as u8; 16], partition: partition as i32 };
        let config = LogConfig { durable, ..LogConfig::default() };
        let mut log = directory.open_log(id, "speed", config, 0).expect("a log");
        let bytes = BatchBuilder::new().record(1, None, Some(&vec![7; size - 80]), &[]).build();
        let count = (mib << 20) / size;
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        for i in 0..count {
            let header = batch::check(&bytes).expect("a good batch");
            log.append_as_leader(&bytes, &header, 0, TimestampType::CreateTime, i as i64).expect("an append");
            if durable {
                directory.flush(&[log.reader().dirty().expect("dirty")]).ends.remove(0).expect("a flush");
            }
        }
        let gib = (count * size) as f64 / (1 << 30) as f64;
        let (appended, append_cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
        let (wall, cpu) = (Instant::now(), cpu_seconds());
        let (reader, mut offset, mut sum) = (log.reader(), 0, 0u64);
        while offset < reader.log_end() {
            let slice = reader.read(offset, 1 << 20, i64::MAX, true).expect("a read").expect("a slice");
            // One byte a page: what a send would at least touch.
            sum += slice.bytes.iter().step_by(4096).map(|b| u64::from(*b)).sum::<u64>();
            offset = slice.first_offset + (slice.bytes.len() / bytes.len()) as i64;
        }
        assert!(sum > 0);
        println!(
            "{size:>9} {durable:>8} {:>10.0} {:>10.3} {:>12.0} {:>12.3}",
            gib * 1024.0 / appended,
            append_cpu / gib,
            gib * 1024.0 / wall.elapsed().as_secs_f64(),
            (cpu_seconds() - cpu) / gib,
        );
        // As after kill -9: the log is given up, and opened again from its recovery point.
        directory.flush(&log.reader().dirty().into_iter().collect::<Vec<_>>());
        let end = log.reader().log_end();
        let config = LogConfig { durable, ..LogConfig::default() };
        drop(log);
        let wall = Instant::now();
        let log = directory.open_log(id, "speed", config, 0).expect("a recovered log");
        println!("{:>9} recovered in {:.1} ms", "", wall.elapsed().as_secs_f64() * 1e3);
        assert_eq!(log.reader().log_end(), end);
        log.close(0).expect("a close");
        directory.delete_partition(id, "speed", None).expect("a delete");
        directory.remove_deleted(i64::MAX);
    }
}
