//! A partition that Apache Kafka 4.4.0 wrote (see `golden/README.md`), opened and read record by record.

use millstream_storage::{
    Batch, Directory, DirectoryOptions, Log, LogConfig, LogStat, OsDisk, PartitionId, TimestampType, batch,
    catalogue::Catalogue, record,
};
use std::{
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/kafka-4.4.0")
}

/// Unpacks one batch's records: codec, compressed bytes.
fn unpack(codec: u8, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match codec {
        0 => out.extend_from_slice(bytes),
        1 => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).ok()?),
        2 => match bytes.strip_prefix(b"\x82SNAPPY\0") {
            // The Java library's frame: two versions, then blocks behind their lengths.
            Some(framed) => {
                let mut rest = framed.get(8..)?;
                while let Some((length, tail)) = rest.split_first_chunk::<4>() {
                    let (block, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
                    out.extend(snap::raw::Decoder::new().decompress_vec(block).ok()?);
                    rest = tail;
                }
            }
            None => out = snap::raw::Decoder::new().decompress_vec(bytes).ok()?,
        },
        3 => drop(lz4_flex::frame::FrameDecoder::new(bytes).read_to_end(&mut out).ok()?),
        4 => drop(ruzstd::decoding::StreamingDecoder::new(bytes).ok()?.read_to_end(&mut out).ok()?),
        _ => return None,
    }
    Some(out)
}

/// The lines a consumer would write of these batches: offset, timestamp, key, value, headers, in the format of `records.txt`.
/// Control records are left out, as a consumer does.
fn lines(mut bytes: &[u8], codecs: &mut Vec<u8>) -> Vec<String> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let header = batch::check(bytes).unwrap();
        let payload = &bytes[batch::HEADER_BYTES..header.size_bytes];
        bytes = &bytes[header.size_bytes..];
        codecs.push(header.compression());
        let payload = unpack(header.compression(), payload).unwrap();
        for record in record::records(&payload, header.record_count) {
            let record = record.unwrap();
            if !header.is_control() {
                lines.push(line(&header, &record));
            }
        }
    }
    lines
}

fn line(header: &Batch, record: &record::Record<'_>) -> String {
    let hex = |bytes: Option<&[u8]>| match bytes {
        None => "-".to_string(),
        Some(bytes) => bytes.iter().fold(".".to_string(), |text, b| text + &format!("{b:02x}")),
    };
    let headers: Vec<String> =
        record.headers().map(|(k, v)| format!("{}={}", String::from_utf8_lossy(k), hex(v))).collect();
    format!(
        "{} {} {} {} {}",
        record.offset(header),
        record.timestamp(header),
        hex(record.key),
        hex(record.value),
        headers.join(",")
    )
}

fn expected() -> Vec<String> {
    std::fs::read_to_string(golden().join("records.txt")).unwrap().lines().map(str::to_string).collect()
}

#[test]
fn every_batch_passes_the_check_and_every_record_is_what_a_consumer_saw() {
    let mut codecs = Vec::new();
    let mut found = Vec::new();
    for base in ["00000000000000000000", "00000000000000000235"] {
        let bytes = std::fs::read(golden().join(format!("golden-0/{base}.log"))).unwrap();
        found.extend(lines(&bytes, &mut codecs));
    }
    assert_eq!(found, expected());
    assert_eq!(found.len(), 279);
    for codec in 0..=4 {
        assert!(codecs.contains(&codec), "no batch with codec {codec}");
    }
}

/// Of `partition.metadata`: 7ktPavO3TmunBgvMZldJ4Q.
const TOPIC_ID: [u8; 16] = [238, 75, 79, 106, 243, 183, 78, 107, 167, 6, 11, 204, 102, 87, 73, 225];
const ID: PartitionId = PartitionId { topic_id: TOPIC_ID, partition: 0 };
const NOW_MS: i64 = 1_800_000_000_000;

/// A data directory with the golden partition in it.
fn data_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let partition = dir.path().join("golden-0");
    std::fs::create_dir(&partition).unwrap();
    for entry in std::fs::read_dir(golden().join("golden-0")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), partition.join(entry.file_name())).unwrap();
    }
    dir
}

fn open(dir: &Path) -> (Directory, Log) {
    let options = DirectoryOptions {
        node_id: 1,
        cluster_id: "cluster".into(),
        directory_id: "6ba7b810-9dad-11d1-80b4-00c04fd430c8".into(),
        now_ms: NOW_MS,
        open_segments_max: 64,
    };
    let directory = Directory::open(Arc::new(OsDisk), dir, options).unwrap();
    let log = directory.open_log(ID, "golden", LogConfig { retention_ms: -1, ..LogConfig::default() }, NOW_MS).unwrap();
    (directory, log)
}

/// Reads all there is and compares it with what a consumer saw of Kafka.
fn assert_reads_all(log: &Log) {
    let reader = log.reader();
    assert_eq!((reader.log_start(), reader.log_end(), reader.latest_epoch()), (0, 281, 0));
    let (mut next, mut codecs, mut found) = (0, Vec::new(), Vec::new());
    while next < 281 {
        let slice = reader.read(next, 1500, 281, true).unwrap().unwrap();
        slice.populate().unwrap();
        found.extend(lines(&slice.bytes, &mut codecs));
        let mut rest = &slice.bytes[..];
        while !rest.is_empty() {
            let header = Batch::parse(rest).unwrap();
            next = header.next_offset();
            rest = &rest[header.size_bytes..];
        }
    }
    assert_eq!(found, expected());
    // Every offset by itself, and every record by its timestamp, through Kafka's indexes.
    let end = reader.log_end();
    for line in expected() {
        let mut fields = line.split(' ').map(|f| f.parse::<i64>());
        let (Some(Ok(offset)), Some(Ok(timestamp))) = (fields.next(), fields.next()) else { panic!("{line}") };
        let slice = reader.read(offset, 1, end, true).unwrap().unwrap();
        let header = Batch::parse(&slice.bytes).unwrap();
        assert!(header.base_offset <= offset && offset <= header.last_offset(), "{offset} in {header:?}");
        assert_eq!(slice.first_offset, header.base_offset);
        let by_time = reader.offset_for_timestamp(timestamp, end, Some(&unpack)).unwrap();
        // The marker at 235 has the wall clock's time, which is later than all records' own.
        let wanted = if offset < 235 { offset } else { 235 };
        assert_eq!(by_time.map(|(_, offset, epoch)| (offset, epoch)), Some((wanted, 0)), "timestamp {timestamp}");
    }
}

#[test]
fn a_partition_of_kafka_is_recovered_whole_from_its_files() {
    let dir = data_dir();
    let (directory, log) = open(dir.path());
    assert_reads_all(&log);
    assert_eq!(log.producer_snapshots().first().map(|s| s.0), Some(281));
    log.close(NOW_MS).unwrap();
    directory.close(NOW_MS).unwrap();
    // And again, as catalogued.
    let (_directory, log) = open(dir.path());
    assert_reads_all(&log);
}

#[test]
fn a_partition_of_kafka_opens_cold_with_the_indexes_kafka_wrote() {
    let dir = data_dir();
    let stat = LogStat {
        log_start: 0,
        log_end: 281,
        recovery_point: 281,
        high_watermark: 281,
        size_bytes: 13_742 + 3_474,
        expires_ms: i64::MAX,
        latest_epoch: 0,
        needs_recovery: false,
    };
    Catalogue { generation: 1, clean: true, written_ms: NOW_MS, partitions: vec![(ID, stat)] }
        .store(&OsDisk, dir.path())
        .unwrap();
    let (directory, log) = open(dir.path());
    assert_eq!(directory.stat(ID).unwrap().log_end, 281);
    assert_reads_all(&log);
}

#[test]
fn a_partition_of_kafka_is_appended_to_and_still_has_kafkas_bytes() {
    let dir = data_dir();
    let (directory, mut log) = open(dir.path());
    let bytes = record::BatchBuilder::new().record(NOW_MS, Some(b"k"), Some(b"ours"), &[]).build();
    let header = batch::check(&bytes).unwrap();
    let appended = log.append_as_leader(&bytes, &header, 1, TimestampType::CreateTime, NOW_MS).unwrap();
    assert_eq!(appended.base_offset, 281);
    let dirty = log.reader().dirty().unwrap();
    assert_eq!(directory.flush(&[dirty]).ends.remove(0).unwrap(), 282);
    log.close(NOW_MS).unwrap();
    directory.close(NOW_MS).unwrap();
    let before = std::fs::read(golden().join("golden-0/00000000000000000235.log")).unwrap();
    let mut logs: Vec<_> = std::fs::read_dir(dir.path().join("golden-0"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .collect();
    logs.sort();
    let all: Vec<u8> = logs[1..].iter().flat_map(|p| std::fs::read(p).unwrap()).collect();
    assert_eq!(all[..before.len()], before);
    assert_eq!(Batch::parse(&all[before.len()..]).unwrap().base_offset, 281);
    assert_eq!(all.len() - before.len(), bytes.len(), "nothing but the batch was added");
}
