//! Batches packed anew: a topic may want another codec than its producer chose (compression.type).
//!
//! Pure work on bytes, before any lock is taken. Header, producer fields and records stay as they are; only codec, length and checksum change.

use super::{
    PartitionError,
    leader::{check, check_each, unpack},
};
use crate::{config::TopicSettings, wire::codec};
use bytes::Bytes;
use millstream_storage::{
    Batch,
    batch::{self, HEADER_BYTES},
};

/// Judges as [`check`] does, and packs the records anew where the topic wants another codec (compression.type) than the batch has. Slow where it unpacks or packs
/// ([`is_work`]).
pub fn prepare(bytes: &Bytes, settings: &TopicSettings, now_ms: i64) -> Result<(Bytes, Batch), PartitionError> {
    let header = check(bytes, settings, now_ms)?;
    let Some(codec) = settings.compression.filter(|codec| *codec != header.compression()) else {
        return Ok((bytes.clone(), header));
    };
    let payload = &bytes[HEADER_BYTES..header.size_bytes];
    let unpacked = unpack(&header, payload)?;
    if let Some(unpacked) = &unpacked {
        check_each(&header, unpacked, settings.cleanup_compact)?;
    }
    let packed = codec::pack(codec, unpacked.as_deref().unwrap_or(payload));
    let recoded =
        batch::recoded(bytes, codec, &packed).ok_or(PartitionError::InvalidRecord("the batch is too large"))?;
    let (size_bytes, max_bytes) = (recoded.len(), settings.max_message_bytes);
    if size_bytes > max_bytes {
        return Err(PartitionError::TooLarge { size_bytes, max_bytes });
    }
    let header = Batch::parse(&recoded)?;
    Ok((recoded.into(), header))
}

/// Whether [`prepare`] unpacks or packs a batch: work for where blocking is allowed. Bytes that are no batch, or too large, are refused without.
pub fn is_work(bytes: &[u8], settings: &TopicSettings) -> bool {
    Batch::parse(bytes).is_ok_and(|b| {
        let looks_inside = (settings.cleanup_compact || settings.validate_full) && b.compression() != 0;
        let packs_anew = settings.compression.is_some_and(|codec| codec != b.compression());
        (looks_inside || packs_anew) && b.size_bytes <= settings.max_message_bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Dynamic};
    use millstream_storage::record::BatchBuilder;
    use std::collections::BTreeMap;

    const NOW: i64 = 1_000_000;

    fn settings(pairs: &[(&str, &str)]) -> TopicSettings {
        let own: BTreeMap<_, _> = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        Config::local("/nowhere").topic(&own, &Dynamic::default())
    }

    fn builder() -> BatchBuilder {
        let mut b = BatchBuilder::new().producer(7, 2, 40);
        for n in 0..50 {
            b.push(NOW + n, Some(b"key"), Some(&[b'v'; 100]), &[]);
        }
        b
    }

    fn batch(codec: u8) -> Bytes {
        let b = builder();
        b.build_with(codec, &codec::pack(codec, b.payload())).into()
    }

    const NAMES: [&str; 5] = ["uncompressed", "gzip", "snappy", "lz4", "zstd"];

    #[test]
    fn a_batch_is_packed_as_its_topic_wants_it() {
        for (wanted, name) in NAMES.iter().enumerate() {
            let settings = settings(&[("compression.type", name)]);
            for sent in 0..=4u8 {
                let bytes = batch(sent);
                assert_eq!(is_work(&bytes, &settings), usize::from(sent) != wanted, "{sent} to {name}");
                let (stored, header) = prepare(&bytes, &settings, NOW).unwrap();
                assert_eq!(batch::check(&stored).unwrap(), header, "sound, and what is said of it");
                assert_eq!((usize::from(header.compression()), header.size_bytes), (wanted, stored.len()));
                let before = Batch::parse(&bytes).unwrap();
                let kept =
                    |b: &Batch| (b.producer_id, b.producer_epoch, b.base_sequence, b.record_count, b.max_timestamp);
                assert_eq!(kept(&header), kept(&before));
                let payload = &stored[HEADER_BYTES..];
                let plain = codec::unpack(header.compression(), payload, 1 << 20).unwrap();
                assert_eq!(plain, builder().payload());
                if usize::from(sent) == wanted {
                    assert_eq!(stored.as_ptr(), bytes.as_ptr(), "nothing to do: no copy");
                }
            }
        }
    }

    #[test]
    fn what_a_producer_chose_stays_where_the_topic_does_not_say() {
        let settings = settings(&[]);
        for sent in 0..=4 {
            let bytes = batch(sent);
            assert!(!is_work(&bytes, &settings));
            assert_eq!(prepare(&bytes, &settings, NOW).unwrap().0, bytes);
        }
    }

    #[test]
    fn damage_and_size_are_judged_before_and_after() {
        let plain = settings(&[("compression.type", "uncompressed"), ("max.message.bytes", "1000")]);
        let zipped = batch(1);
        assert!(zipped.len() < 1000);
        let refused = prepare(&zipped, &plain, NOW).unwrap_err();
        assert!(matches!(refused, PartitionError::TooLarge { max_bytes: 1000, size_bytes } if size_bytes > 5000));
        // A payload that is no gzip, with a sum that fits.
        let noise = Bytes::from(builder().build_with(1, b"no gzip at all"));
        let lz4 = settings(&[("compression.type", "lz4")]);
        assert!(matches!(prepare(&noise, &lz4, NOW), Err(PartitionError::InvalidRecord(_))));
        // Sound gzip of too few records.
        let short = Bytes::from(builder().build_with(1, &codec::pack(1, &builder().payload()[..200])));
        assert!(prepare(&short, &lz4, NOW).is_err());
        assert!(prepare(&short, &settings(&[]), NOW).is_ok(), "nobody looks inside, as in Kafka");
    }
}
