//! A partition that Apache Kafka 4.4.0 wrote (see `golden/README.md`), opened and read record by record.

use millstream_storage::{Batch, batch, record};
use std::{
    io::Read,
    path::{Path, PathBuf},
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
