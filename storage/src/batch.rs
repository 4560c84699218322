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
        todo!("{}", bytes.len())
    }
    /// Offset of the last record: base offset + last offset delta.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }
    /// Offset that follows this batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
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
    /// Attributes bit 5.
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
}

/// Checks one whole batch at the start of `bytes`, as a producer sent it: lengths, magic, CRC-32C, count = last delta + 1,
/// count ≥ 1, codec known, timestamps, producer fields; record lengths too when uncompressed. Never panics.
/// `bytes` may continue after the batch ([`Batch::size_bytes`] says where).
pub fn check(bytes: &[u8]) -> Result<Batch, BatchError> {
    todo!("{}", bytes.len())
}

/// CRC-32C (Castagnoli) of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    todo!("{}", bytes.len())
}

/// Writes base offset and leader epoch into the batch at the start of `bytes` (both outside the CRC).
pub fn patch(bytes: &mut [u8], base_offset: i64, leader_epoch: i32) {
    bytes[..8].copy_from_slice(&base_offset.to_be_bytes());
    bytes[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets LogAppendTime: attribute bit 3, max timestamp = `now_ms`, and the CRC anew.
pub fn set_log_append_time(bytes: &mut [u8], now_ms: i64) {
    todo!("{} {now_ms}", bytes.len())
}
