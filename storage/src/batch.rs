//! A view over a record batch, format v2 (KIP-98; Kafka's `DefaultRecordBatch`).
//!
//! ```text
//!  0 baseOffset i64 | 8 batchLength i32 (bytes after this field) | 12 partitionLeaderEpoch i32 | 16 magic i8 (2)
//! 17 crc u32 (CRC-32C of bytes 21..) | 21 attributes i16 | 23 lastOffsetDelta i32 | 27 baseTimestamp i64
//! 35 maxTimestamp i64 | 43 producerId i64 | 51 producerEpoch i16 | 53 baseSequence i32 | 57 recordCount i32 | 61 records
//! ```
//! All big endian. Base offset and leader epoch lie outside the CRC, so a broker patches them without a new sum.

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;

/// Why bytes are not an acceptable batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BatchError {
    /// Fewer bytes than a header, or than the batch claims.
    Truncated { have: usize, need: usize },
    /// Not magic 2.
    Magic(i8),
    /// The stored CRC-32C differs from that of the bytes.
    Crc { stored: u32, computed: u32 },
    /// A field contradicts another or lies outside its range; says which.
    Invalid(&'static str),
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BatchError::Truncated { have, need } => write!(f, "batch of {need} bytes has only {have}"),
            BatchError::Magic(m) => write!(f, "record batch magic {m} is not supported, only 2"),
            BatchError::Crc { stored, computed } => {
                write!(f, "record batch CRC is {stored:#010x}, its bytes give {computed:#010x}")
            }
            BatchError::Invalid(what) => write!(f, "invalid record batch: {what}"),
        }
    }
}

impl std::error::Error for BatchError {}

/// The header of one batch, read from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    pub base_offset: i64,
    /// Whole batch in bytes, header and length field included (batchLength + 12).
    pub size_bytes: usize,
    pub leader_epoch: i32,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl Batch {
    /// Reads the header at the start of `bytes` (which may hold more than one batch, or less than the whole of one).
    /// Checks magic and that the length is at least a header's; no CRC. Never panics.
    pub fn parse(bytes: &[u8]) -> Result<Batch, BatchError> {
        if bytes.len() > 16 && bytes[16] != 2 {
            return Err(BatchError::Magic(bytes[16] as i8));
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_BYTES });
        };
        let length = i32::from_be_bytes(field(header, 8));
        if length < (HEADER_BYTES - LENGTH_END) as i32 {
            return Err(BatchError::Invalid("length is less than a header's"));
        }
        Ok(Batch {
            base_offset: i64::from_be_bytes(field(header, 0)),
            size_bytes: length as usize + LENGTH_END,
            leader_epoch: i32::from_be_bytes(field(header, 12)),
            crc: u32::from_be_bytes(field(header, 17)),
            attributes: i16::from_be_bytes(field(header, 21)),
            last_offset_delta: i32::from_be_bytes(field(header, 23)),
            base_timestamp: i64::from_be_bytes(field(header, 27)),
            max_timestamp: i64::from_be_bytes(field(header, 35)),
            producer_id: i64::from_be_bytes(field(header, 43)),
            producer_epoch: i16::from_be_bytes(field(header, 51)),
            base_sequence: i32::from_be_bytes(field(header, 53)),
            record_count: i32::from_be_bytes(field(header, 57)),
        })
    }
    /// Offset of the last record: base offset + last offset delta (held at the ends of i64: the header may be hostile).
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }
    /// Offset that follows this batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().saturating_add(1)
    }
    /// Sequence number of the last record of an idempotent producer's batch. Sequences wrap from `i32::MAX` to 0
    /// (Kafka's `DefaultRecordBatch.incrementSequence`); -1 when the batch has none.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        ((i64::from(self.base_sequence) + i64::from(self.last_offset_delta)) & i64::from(i32::MAX)) as i32
    }
    /// Compression codec, attributes bits 0 to 2: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; 5 to 7 are invalid.
    pub fn compression(&self) -> u8 {
        (self.attributes & 0x07) as u8
    }
    /// Attributes bit 3: timestamps are the broker's (LogAppendTime).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }
    /// Attributes bit 4.
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }
    /// Attributes bit 5. Producers must not send such a batch; refusing it is the caller's business (the broker's own
    /// markers pass the same [`check`]).
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

/// Checks one whole batch at the start of `bytes`, as a producer sent it: lengths, magic, CRC-32C, count = last delta + 1,
/// count ≥ 1, codec known, timestamps, producer fields; record lengths too when uncompressed. Never panics.
/// `bytes` may continue after the batch ([`Batch::size_bytes`] says where).
///
/// As in Kafka's `LogValidator`, the header's max timestamp is not compared with the records' own.
pub fn check(bytes: &[u8]) -> Result<Batch, BatchError> {
    let batch = checked(bytes)?;
    if batch.record_count < 1 {
        return Err(BatchError::Invalid("record count is less than 1"));
    }
    if i64::from(batch.record_count) != i64::from(batch.last_offset_delta) + 1 {
        return Err(BatchError::Invalid("record count differs from last offset delta + 1"));
    }
    if batch.base_timestamp < -1 || batch.max_timestamp < -1 {
        return Err(BatchError::Invalid("timestamp is negative"));
    }
    if batch.producer_id < -1 {
        return Err(BatchError::Invalid("producer id is less than -1"));
    }
    if batch.producer_id == -1 && batch.is_transactional() {
        return Err(BatchError::Invalid("transactional without a producer id"));
    }
    if batch.producer_id >= 0 && batch.producer_epoch < 0 {
        return Err(BatchError::Invalid("producer id without an epoch"));
    }
    // The markers of a transaction carry a producer id and no sequence.
    if batch.producer_id >= 0 && batch.base_sequence < 0 && !batch.is_control() {
        return Err(BatchError::Invalid("producer id without a sequence"));
    }
    let payload = &bytes[HEADER_BYTES..batch.size_bytes];
    if batch.compression() == 0 {
        crate::record::check_dense(payload, batch.record_count)?;
    } else if payload.is_empty() {
        return Err(BatchError::Invalid("no records"));
    }
    Ok(batch)
}

/// Checks one whole batch at the start of `bytes` as a log may hold it: lengths, magic, CRC-32C, codec, offsets ≥ 0.
/// Looser than [`check`], because compaction leaves batches with gaps in their offsets, or with no record at all.
/// Records are not walked. Never panics.
pub fn check_stored(bytes: &[u8]) -> Result<Batch, BatchError> {
    let batch = checked(bytes)?;
    if batch.record_count < 0 || i64::from(batch.record_count) > i64::from(batch.last_offset_delta) + 1 {
        return Err(BatchError::Invalid("record count exceeds last offset delta + 1"));
    }
    Ok(batch)
}

/// CRC-32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// Writes base offset and leader epoch into the batch at the start of `bytes` (both outside the CRC).
pub fn patch(bytes: &mut [u8], base_offset: i64, leader_epoch: i32) {
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets LogAppendTime: attribute bit 3, max timestamp = `now_ms`, and the CRC anew. `bytes` is exactly one batch.
pub fn set_log_append_time(bytes: &mut [u8], now_ms: i64) {
    bytes[22] |= 0x08;
    bytes[35..43].copy_from_slice(&now_ms.to_be_bytes());
    let crc = crc32c(&bytes[CRC_START..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The batch at the start of `bytes` with `payload` in the place of its records, which are those records compressed by `codec` (0 none, 1 gzip, 2 snappy, 3 lz4,
/// 4 zstd; nobody checks that they are). `None` when the batch would not stay under 2 GiB.
pub fn recoded(bytes: &[u8], codec: u8, payload: &[u8]) -> Option<Vec<u8>> {
    assert!(codec < 8, "codec {codec} has three bits");
    let length = i32::try_from(HEADER_BYTES - LENGTH_END + payload.len()).ok()?;
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    out.extend_from_slice(&bytes[..HEADER_BYTES]);
    out.extend_from_slice(payload);
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[22] = out[22] & !0x07 | codec;
    let crc = crc32c(&out[CRC_START..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    Some(out)
}

/// Bytes up to and with the length field, which the length does not count.
const LENGTH_END: usize = 12;
/// First byte the CRC covers.
const CRC_START: usize = 21;

/// What producers' and stored batches have in common.
fn checked(bytes: &[u8]) -> Result<Batch, BatchError> {
    let batch = Batch::parse(bytes)?;
    if bytes.len() < batch.size_bytes {
        return Err(BatchError::Truncated { have: bytes.len(), need: batch.size_bytes });
    }
    let computed = crc32c(&bytes[CRC_START..batch.size_bytes]);
    if computed != batch.crc {
        return Err(BatchError::Crc { stored: batch.crc, computed });
    }
    if batch.last_offset_delta < 0 {
        return Err(BatchError::Invalid("last offset delta is negative"));
    }
    if batch.base_offset < 0 || batch.base_offset.checked_add(i64::from(batch.last_offset_delta) + 1).is_none() {
        return Err(BatchError::Invalid("offset is out of range"));
    }
    if batch.compression() > 4 {
        return Err(BatchError::Invalid("unknown compression codec"));
    }
    Ok(batch)
}

fn field<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    header[at..at + N].try_into().expect("N bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::BatchBuilder;
    use proptest::prelude::*;

    /// CRC-32C a bit at a time, reflected polynomial 0x82F63B78: the other implementation.
    fn crc32c_by_bits(bytes: &[u8]) -> u32 {
        let table: [u32; 256] = std::array::from_fn(|i| {
            (0..8).fold(i as u32, |c, _| if c & 1 == 1 { (c >> 1) ^ 0x82F6_3B78 } else { c >> 1 })
        });
        !bytes.iter().fold(!0u32, |c, b| table[((c ^ u32::from(*b)) & 0xff) as usize] ^ (c >> 8))
    }

    fn sample() -> Vec<u8> {
        BatchBuilder::new()
            .producer(7, 1, 40)
            .record(1_000, Some(b"key"), Some(b"value"), &[("h", Some(b"x")), ("n", None)])
            .record(1_005, None, None, &[])
            .build()
    }

    /// Applies `edit` and sets the CRC right again, so that only the edited field can be the reason for a refusal.
    fn edited(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bytes = sample();
        edit(&mut bytes);
        recrc(&mut bytes);
        bytes
    }

    fn recrc(bytes: &mut [u8]) {
        let crc = crc32c(&bytes[CRC_START..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    }

    #[test]
    fn crc32c_gives_the_known_sums() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(b""), 0);
        // RFC 3720 B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xff; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(&std::array::from_fn::<u8, 32, _>(|i| i as u8)), 0x46DD_794E);
    }

    #[test]
    fn a_whole_batch_is_accepted_and_its_header_read() {
        let mut bytes = sample();
        let size = bytes.len();
        bytes.extend_from_slice(b"the next batch");
        let b = check(&bytes).unwrap();
        assert_eq!(b.size_bytes, size);
        assert_eq!((b.base_offset, b.last_offset(), b.next_offset(), b.record_count), (0, 1, 2, 2));
        assert_eq!((b.producer_id, b.producer_epoch, b.base_sequence, b.last_sequence()), (7, 1, 40, 41));
        assert_eq!((b.base_timestamp, b.max_timestamp), (1_000, 1_005));
        assert!(!b.is_control() && !b.is_transactional() && !b.is_log_append_time());
    }

    #[test]
    fn each_broken_field_is_refused() {
        type Edit = fn(&mut Vec<u8>);
        let cases: &[(&str, Edit)] = &[
            ("length too small", |b| b[8..12].copy_from_slice(&48i32.to_be_bytes())),
            ("length negative", |b| b[8..12].copy_from_slice(&(-1i32).to_be_bytes())),
            ("length beyond the bytes", |b| b[8..12].copy_from_slice(&i32::MAX.to_be_bytes())),
            ("magic 1", |b| b[16] = 1),
            ("magic 3", |b| b[16] = 3),
            ("codec 5", |b| b[22] |= 5),
            ("delta negative", |b| b[23..27].copy_from_slice(&(-1i32).to_be_bytes())),
            ("delta above count", |b| b[23..27].copy_from_slice(&2i32.to_be_bytes())),
            ("base timestamp", |b| b[27..35].copy_from_slice(&(-2i64).to_be_bytes())),
            ("max timestamp", |b| b[35..43].copy_from_slice(&(-2i64).to_be_bytes())),
            ("producer id", |b| b[43..51].copy_from_slice(&(-2i64).to_be_bytes())),
            ("producer epoch", |b| b[51..53].copy_from_slice(&(-1i16).to_be_bytes())),
            ("sequence", |b| b[53..57].copy_from_slice(&(-1i32).to_be_bytes())),
            ("count above records", |b| {
                b[23..27].copy_from_slice(&2i32.to_be_bytes());
                b[57..61].copy_from_slice(&3i32.to_be_bytes());
            }),
            ("count below records", |b| {
                b[23..27].copy_from_slice(&0i32.to_be_bytes());
                b[57..61].copy_from_slice(&1i32.to_be_bytes());
            }),
            ("no record", |b| {
                b[23..27].copy_from_slice(&(-1i32).to_be_bytes());
                b[57..61].copy_from_slice(&0i32.to_be_bytes());
            }),
            ("base offset negative", |b| b[..8].copy_from_slice(&(-1i64).to_be_bytes())),
            ("base offset at the end", |b| b[..8].copy_from_slice(&i64::MAX.to_be_bytes())),
            ("transactional without producer", |b| {
                b[22] |= 0x10;
                b[43..51].copy_from_slice(&(-1i64).to_be_bytes());
            }),
            ("record length", |b| b[61] += 2),
            ("compressed and empty", |b| {
                b.truncate(61);
                b[8..12].copy_from_slice(&49i32.to_be_bytes());
                b[22] |= 4;
            }),
        ];
        assert!(check(&edited(|_| ())).is_ok());
        for (name, edit) in cases {
            let bytes = edited(edit);
            assert!(check(&bytes).is_err(), "{name} was accepted");
        }
    }

    #[test]
    fn a_marker_without_sequence_is_accepted_as_control() {
        let bytes = BatchBuilder::new()
            .producer(9, 0, -1)
            .transactional()
            .control()
            .record(5, Some(&[0, 0, 0, 1]), Some(&[0; 6]), &[])
            .build();
        assert!(check(&bytes).unwrap().is_control());
    }

    #[test]
    fn a_compacted_batch_is_accepted_as_stored_only() {
        let bytes = edited(|b| b[23..27].copy_from_slice(&9i32.to_be_bytes()));
        assert!(check(&bytes).is_err());
        assert_eq!(check_stored(&bytes).unwrap().next_offset(), 10);
    }

    #[test]
    fn patching_leaves_the_crc_valid() {
        let mut bytes = sample();
        patch(&mut bytes, 1 << 40, 12);
        let b = check(&bytes).unwrap();
        assert_eq!((b.base_offset, b.leader_epoch), (1 << 40, 12));
    }

    #[test]
    fn log_append_time_is_stamped_under_a_new_crc() {
        let mut bytes = sample();
        set_log_append_time(&mut bytes, 99_000);
        let b = check(&bytes).unwrap();
        assert!(b.is_log_append_time());
        assert_eq!((b.base_timestamp, b.max_timestamp), (1_000, 99_000));
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let bytes =
            BatchBuilder::new().producer(1, 0, i32::MAX).record(0, None, None, &[]).record(0, None, None, &[]).build();
        assert_eq!(check(&bytes).unwrap().last_sequence(), 0);
    }

    proptest! {
        #[test]
        fn crc32c_agrees_with_the_bitwise_one(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(crc32c(&bytes), crc32c_by_bits(&bytes));
        }

        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), plausible: bool) {
            if plausible && bytes.len() > HEADER_BYTES {
                let length = (bytes.len() - LENGTH_END) as i32;
                bytes[8..12].copy_from_slice(&length.to_be_bytes());
                bytes[16] = 2;
                recrc(&mut bytes);
            }
            if let Ok(b) = Batch::parse(&bytes) {
                let _ = (b.last_offset(), b.next_offset(), b.last_sequence());
            }
            let _ = check(&bytes);
            let _ = check_stored(&bytes);
        }

        #[test]
        fn a_changed_byte_under_the_crc_is_noticed(at in 16usize..90, xor in 1u8..) {
            let mut bytes = sample();
            let at = 16 + (at - 16) % (bytes.len() - 16);
            bytes[at] ^= xor;
            prop_assert!(check(&bytes).is_err());
            prop_assert!(check_stored(&bytes).is_err());
        }

        #[test]
        fn mutated_records_under_a_right_crc_never_panic(
            edits in proptest::collection::vec((0usize..200, any::<u8>()), 1..6)
        ) {
            let mut bytes = sample();
            for (at, value) in edits {
                let at = CRC_START + at % (bytes.len() - CRC_START);
                bytes[at] = value;
            }
            recrc(&mut bytes);
            if let Ok(b) = check(&bytes) {
                let payload = &bytes[HEADER_BYTES..b.size_bytes];
                if b.compression() == 0 {
                    let mut n = 0;
                    for record in crate::record::records(payload, b.record_count) {
                        let record = record.unwrap();
                        prop_assert_eq!(record.headers().count(), record.header_count());
                        n += 1;
                    }
                    prop_assert_eq!(n, b.record_count);
                }
            }
        }
    }
}
