//! Walks and builds the records inside a batch (Kafka's `DefaultRecord`), uncompressed.
//!
//! ```text
//! length varint | attributes i8 | timestampDelta varlong | offsetDelta varint | key | value | headerCount varint | headers
//! key, value: length varint (-1 = null), bytes      header: key length varint, UTF-8 bytes, value as above
//! ```
//! Varints are zigzag, base 128, least significant group first (protobuf's `sint32` and `sint64`).

use crate::batch::{self, Batch, BatchError, HEADER_BYTES};

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Offset less the batch's base offset.
    pub offset_delta: i32,
    /// Timestamp less the batch's base timestamp, ms.
    pub timestamp_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    header_count: i32,
    header_bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Timestamp, ms since 1970: the batch's where it is LogAppendTime.
    pub fn timestamp(&self, batch: &Batch) -> i64 {
        if batch.is_log_append_time() {
            batch.max_timestamp
        } else {
            batch.base_timestamp.saturating_add(self.timestamp_delta)
        }
    }
    /// Offset, given the batch.
    pub fn offset(&self, batch: &Batch) -> i64 {
        batch.base_offset.saturating_add(i64::from(self.offset_delta))
    }
    /// Headers in order: key bytes (UTF-8 by convention, not checked) and value.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut reader = Reader { bytes: self.header_bytes };
        // Read once before, in `record`: an error cannot come up here.
        (0..self.header_count).map_while(move |_| reader.header().ok())
    }
    /// How many headers.
    pub fn header_count(&self) -> usize {
        self.header_count as usize
    }
}

/// Walks the `count` records of an uncompressed payload (what follows a batch's header). Ends after the first error; bytes
/// left behind the last record are one. Never panics, never allocates.
pub fn records(payload: &[u8], count: i32) -> Records<'_> {
    Records { reader: Reader { bytes: payload }, left: count, failed: count < 0 }
}

/// See [`records`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    reader: Reader<'a>,
    left: i32,
    failed: bool,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.left == 0 {
            if self.reader.bytes.is_empty() {
                return None;
            }
            self.failed = true;
            return Some(Err(BatchError::Invalid("bytes after the last record")));
        }
        self.left -= 1;
        let record = self.reader.record();
        self.failed = record.is_err();
        Some(record)
    }
}

/// Checks that `payload` holds exactly `count` well-formed records with offset deltas 0, 1, 2 and so on.
pub(crate) fn check_dense(payload: &[u8], count: i32) -> Result<(), BatchError> {
    for (record, delta) in records(payload, count).zip(0i32..) {
        if record?.offset_delta != delta {
            return Err(BatchError::Invalid("offset deltas are not 0, 1, 2 and so on"));
        }
    }
    Ok(())
}

#[derive(Debug, Clone)]
struct Reader<'a> {
    bytes: &'a [u8],
}

const SHORT: BatchError = BatchError::Invalid("record ends beyond its bytes");

impl<'a> Reader<'a> {
    #[inline(always)]
    fn take(&mut self, n: usize) -> Result<&'a [u8], BatchError> {
        let (head, tail) = self.bytes.split_at_checked(n).ok_or(SHORT)?;
        self.bytes = tail;
        Ok(head)
    }

    #[inline(always)]
    fn varlong(&mut self) -> Result<i64, BatchError> {
        // Most are one byte.
        let (&first, tail) = self.bytes.split_first().ok_or(SHORT)?;
        if first < 0x80 {
            self.bytes = tail;
            return Ok(unzigzag(u64::from(first)));
        }
        let mut raw = u64::from(first & 0x7f);
        for (i, &byte) in tail.iter().take(9).enumerate() {
            let shift = 7 * (i as u32 + 1);
            if shift == 63 && byte > 1 {
                break;
            }
            raw |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                self.bytes = &tail[i + 1..];
                return Ok(unzigzag(raw));
            }
        }
        Err(BatchError::Invalid("varint is cut short or too long"))
    }

    #[inline(always)]
    fn varint(&mut self) -> Result<i32, BatchError> {
        i32::try_from(self.varlong()?).map_err(|_| BatchError::Invalid("varint exceeds 32 bits"))
    }

    #[inline(always)]
    fn nullable(&mut self) -> Result<Option<&'a [u8]>, BatchError> {
        match self.varint()? {
            -1 => Ok(None),
            n if n < 0 => Err(BatchError::Invalid("length is negative")),
            n => self.take(n as usize).map(Some),
        }
    }

    #[inline(always)]
    fn header(&mut self) -> Result<(&'a [u8], Option<&'a [u8]>), BatchError> {
        let key = self.nullable()?.ok_or(BatchError::Invalid("header key is null"))?;
        Ok((key, self.nullable()?))
    }

    #[inline(always)]
    fn record(&mut self) -> Result<Record<'a>, BatchError> {
        let length = self.varint()?;
        let length = usize::try_from(length).map_err(|_| BatchError::Invalid("record length is negative"))?;
        let mut r = Reader { bytes: self.take(length)? };
        r.take(1)?; // attributes, unused
        let timestamp_delta = r.varlong()?;
        let offset_delta = r.varint()?;
        let key = r.nullable()?;
        let value = r.nullable()?;
        let header_count = r.varint()?;
        if header_count < 0 {
            return Err(BatchError::Invalid("header count is negative"));
        }
        let header_bytes = r.bytes;
        // A header takes two bytes at least, so a claimed count ends with the bytes.
        for _ in 0..header_count {
            r.header()?;
        }
        if !r.bytes.is_empty() {
            return Err(BatchError::Invalid("record is longer than its fields"));
        }
        Ok(Record { offset_delta, timestamp_delta, key, value, header_count, header_bytes })
    }
}

fn unzigzag(raw: u64) -> i64 {
    (raw >> 1) as i64 ^ -((raw & 1) as i64)
}

/// Appends a zigzag varint.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut raw = ((value << 1) ^ (value >> 63)) as u64;
    while raw >= 0x80 {
        out.push(raw as u8 | 0x80);
        raw >>= 7;
    }
    out.push(raw as u8);
}

/// A header to write: key and value (`None` = null).
pub type Header<'a> = (&'a str, Option<&'a [u8]>);

/// Builds one batch: for the raft log, the CLI, the broker's own topics, and tests. Offsets are dense from
/// [`BatchBuilder::base_offset`]. Without records it builds an empty batch, which [`batch::check`] refuses.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    base_offset: i64,
    leader_epoch: i32,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: i32,
    records: Vec<u8>,
    scratch: Vec<u8>,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder {
            base_offset: 0,
            leader_epoch: -1,
            attributes: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 0,
            records: Vec::new(),
            scratch: Vec::new(),
        }
    }
}

impl BatchBuilder {
    /// No producer, base offset 0, leader epoch -1, CreateTime.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }
    /// Base offset (producers send 0).
    pub fn base_offset(mut self, offset: i64) -> BatchBuilder {
        self.base_offset = offset;
        self
    }
    /// Partition leader epoch.
    pub fn leader_epoch(mut self, epoch: i32) -> BatchBuilder {
        self.leader_epoch = epoch;
        self
    }
    /// Producer id, its epoch, sequence of the first record.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }
    /// Sets attribute bit 4.
    pub fn transactional(mut self) -> BatchBuilder {
        self.attributes |= 0x10;
        self
    }
    /// Sets attribute bit 5.
    pub fn control(mut self) -> BatchBuilder {
        self.attributes |= 0x20;
        self
    }
    /// Adds a record; see [`BatchBuilder::push`].
    pub fn record(
        mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> BatchBuilder {
        self.push(timestamp_ms, key, value, headers);
        self
    }
    /// Adds a record. The first one's timestamp is the batch's base.
    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let r = &mut self.scratch;
        r.clear();
        r.push(0);
        put_varint(r, timestamp_ms - self.base_timestamp);
        put_varint(r, i64::from(self.count));
        put_nullable(r, key);
        put_nullable(r, value);
        put_varint(r, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(r, Some(key.as_bytes()));
            put_nullable(r, *value);
        }
        put_varint(&mut self.records, r.len() as i64);
        self.records.extend_from_slice(r);
        self.count += 1;
    }
    /// Records so far.
    pub fn record_count(&self) -> i32 {
        self.count
    }
    /// Bytes the batch has now, uncompressed.
    pub fn size_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }
    /// The records' bytes so far, for a compressor.
    pub fn payload(&self) -> &[u8] {
        &self.records
    }
    /// The batch, uncompressed.
    pub fn build(&self) -> Vec<u8> {
        self.build_with(0, &self.records)
    }
    /// The batch with `payload`, which is [`BatchBuilder::payload`] compressed by `codec` (1 gzip, 2 snappy, 3 lz4,
    /// 4 zstd; nobody checks that it is).
    pub fn build_with(&self, codec: u8, payload: &[u8]) -> Vec<u8> {
        assert!(codec < 8, "codec {codec} has three bits");
        let length = i32::try_from(HEADER_BYTES - 12 + payload.len()).expect("a batch is under 2 GiB");
        let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
        out.extend_from_slice(&self.base_offset.to_be_bytes());
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&self.leader_epoch.to_be_bytes());
        out.push(2);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(self.attributes | i16::from(codec)).to_be_bytes());
        out.extend_from_slice(&(self.count - 1).to_be_bytes());
        out.extend_from_slice(&self.base_timestamp.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.to_be_bytes());
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.base_sequence.to_be_bytes());
        out.extend_from_slice(&self.count.to_be_bytes());
        out.extend_from_slice(payload);
        let crc = batch::crc32c(&out[21..]);
        out[17..21].copy_from_slice(&crc.to_be_bytes());
        out
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(b) => {
            put_varint(out, b.len() as i64);
            out.extend_from_slice(b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owned = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
    }

    fn owned() -> impl Strategy<Value = Owned> {
        (0i64..1 << 45, bytes(), bytes(), proptest::collection::vec(("[a-zé]{0,9}", bytes()), 0..4))
    }

    proptest! {
        #[test]
        fn what_was_built_is_read_back(input in proptest::collection::vec(owned(), 1..20)) {
            let mut builder = BatchBuilder::new().base_offset(1_000);
            for (ts, key, value, headers) in &input {
                let headers: Vec<Header<'_>> = headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
                builder.push(*ts, key.as_deref(), value.as_deref(), &headers);
            }
            let bytes = builder.build();
            let batch = batch::check(&bytes).unwrap();
            prop_assert_eq!(batch.max_timestamp, input.iter().map(|r| r.0).max().unwrap());
            let mut seen = 0;
            for (i, (record, (ts, key, value, headers))) in
                records(&bytes[HEADER_BYTES..], batch.record_count).zip(&input).enumerate()
            {
                let record = record.unwrap();
                prop_assert_eq!(record.offset(&batch), 1_000 + i as i64);
                prop_assert_eq!(record.timestamp(&batch), *ts);
                prop_assert_eq!(record.key, key.as_deref());
                prop_assert_eq!(record.value, value.as_deref());
                prop_assert_eq!(record.header_count(), headers.len());
                let read: Vec<_> = record.headers().map(|(k, v)| (String::from_utf8(k.to_vec()).unwrap(), v.map(<[u8]>::to_vec))).collect();
                prop_assert_eq!(&read, headers);
                seen += 1;
            }
            prop_assert_eq!(seen, input.len());
        }

        #[test]
        fn varints_go_round(value: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut reader = Reader { bytes: &out };
            prop_assert_eq!(reader.varlong().unwrap(), value);
            prop_assert!(reader.bytes.is_empty());
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), count: i32) {
            for record in records(&bytes, count).flatten() {
                let _ = record.headers().count();
            }
        }
    }

    #[test]
    fn varints_have_the_bytes_of_protobuf() {
        for (value, bytes) in [
            (0i64, &[0u8][..]),
            (-1, &[1]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 0x01]),
            (300, &[0xd8, 0x04]),
            (i64::from(i32::MAX), &[0xfe, 0xff, 0xff, 0xff, 0x0f]),
            (i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]),
        ] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
        }
    }

    #[test]
    fn too_long_varints_are_refused() {
        for bytes in [&[0x80u8; 11][..], &[0xff; 9], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]] {
            assert!(Reader { bytes }.varlong().is_err(), "{bytes:x?}");
        }
        assert!(Reader { bytes: &[0x80, 0x80, 0x80, 0x80, 0x10] }.varint().is_err());
    }

    #[test]
    fn claimed_counts_and_lengths_are_bounded_by_the_bytes() {
        // length 8: attributes, deltas, null key, null value, two bytes of header count (over 8,000).
        let record = [16u8, 0, 0, 0, 1, 1, 0xfe, 0x7f, 0];
        assert!(records(&record, 1).next().unwrap().is_err());
        // A key of 2 GiB.
        let record = [18u8, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1];
        assert!(records(&record, 1).next().unwrap().is_err());
        // Two billion records.
        assert_eq!(records(&[], i32::MAX).count(), 1);
    }
}
