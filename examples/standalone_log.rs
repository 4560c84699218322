//! The storage crate by itself, without the broker: append, make durable, read, stop, start again.
//!
//! `cargo run --example standalone_log -- DIR`; run it twice to see the log continue.

use millstream_storage::{
    Directory, DirectoryOptions, LogConfig, OsDisk, PartitionId, TimestampType, batch,
    record::{self, BatchBuilder},
};
use std::{error::Error, path::PathBuf, sync::Arc};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = PathBuf::from(std::env::args().nth(1).ok_or("usage: standalone_log DIR")?);
    // Time always comes in from outside; a program that keeps records for a week passes the real one.
    let now_ms = 1_700_000_000_000;
    let options = DirectoryOptions {
        node_id: 1,
        cluster_id: "standalone".into(),
        directory_id: "standalone".into(),
        now_ms,
        open_segments_max: OsDisk::raise_open_files(),
    };
    let directory = Directory::open(Arc::new(OsDisk), &dir, options)?;
    println!("{} opened, last stop clean: {}", dir.display(), directory.was_clean());

    let id = PartitionId { topic_id: *b"standalone topic", partition: 0 };
    let mut log = directory.open_log(id, "greetings", LogConfig::default(), now_ms)?;
    println!("offsets {}..{}", log.reader().log_start(), log.reader().log_end());

    // One batch of three records, as a producer would send it.
    let mut builder = BatchBuilder::new();
    for word in ["good", "morning", "world"] {
        builder.push(now_ms, Some(b"key"), Some(word.as_bytes()), &[("language", Some(b"en"))]);
    }
    let bytes = builder.build();
    let header = batch::check(&bytes)?;
    let appended = log.append_as_leader(&bytes, &header, 0, TimestampType::CreateTime, now_ms)?;
    println!("appended {}..={}", appended.base_offset, appended.last_offset);

    // One flush round for everything that wants one. Before it returns, a power loss may take the records back.
    let dirty: Vec<_> = log.reader().dirty().into_iter().collect();
    for end in directory.flush(&dirty).ends {
        println!("durable below {}", end?);
    }

    // A reader needs no lock and no copy: its slice is the mapped file.
    let reader = log.reader().clone();
    let mut at = reader.log_start();
    while let Some(slice) = reader.read(at, 1 << 20, reader.durable_end(), true)? {
        let mut bytes = &slice.bytes[..];
        while !bytes.is_empty() {
            let header = batch::Batch::parse(bytes)?;
            for record in record::records(&bytes[batch::HEADER_BYTES..header.size_bytes], header.record_count) {
                let record = record?;
                let value = String::from_utf8_lossy(record.value.unwrap_or_default()).into_owned();
                println!("  {:>4}  {value}", record.offset(&header));
            }
            at = header.next_offset();
            bytes = &bytes[header.size_bytes..];
        }
    }

    log.close(now_ms)?;
    directory.close(now_ms)?;
    Ok(())
}
