//! What clients were told, and whether a log still agrees with it.

use millstream_storage::{batch, record};
use std::collections::{BTreeMap, BTreeSet};

/// A record's name: producer and sequence. Its value begins with both.
pub type Name = (u32, u32);

/// What clients know of one partition.
#[derive(Debug, Default, Clone)]
pub struct Known {
    /// Acknowledged with acks=all: offset → name.
    pub acked: BTreeMap<i64, Name>,
    /// Shown to a consumer: offset → name.
    pub shown: BTreeMap<i64, Name>,
    /// Log start that a DeleteRecords was answered with.
    pub deleted_below: i64,
    /// Highest watermark seen.
    pub watermark: i64,
    /// A DeleteRecords that may have been carried out without an answer.
    pub may_be_deleted_below: i64,
}

/// Value of a record, with padding of `bytes` that depends on the name.
pub fn value(name: Name, bytes: usize) -> Vec<u8> {
    let mut v = Vec::with_capacity(8 + bytes);
    v.extend_from_slice(&name.0.to_be_bytes());
    v.extend_from_slice(&name.1.to_be_bytes());
    v.resize(8 + bytes, (name.0 * 31 + name.1) as u8);
    v
}

/// Records of the batches in `bytes`: (offset, name), each checked to the byte.
pub fn records(mut bytes: &[u8]) -> Vec<(i64, Name)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = batch::check(bytes).expect("a whole batch was fetched");
        let payload = &bytes[batch::HEADER_BYTES..header.size_bytes];
        for (i, r) in record::records(payload, header.record_count).enumerate() {
            let v = r.expect("a readable record").value.expect("a value");
            let name =
                (u32::from_be_bytes(v[..4].try_into().unwrap()), u32::from_be_bytes(v[4..8].try_into().unwrap()));
            assert_eq!(v, value(name, v.len() - 8), "bytes of {name:?}");
            found.push((header.base_offset + i as i64, name));
        }
        bytes = &bytes[header.size_bytes..];
    }
    found
}

impl Known {
    /// Checks a whole log against what is known: it starts at `log_start` and holds `log`.
    pub fn check(&self, log_start: i64, log: &[(i64, Name)]) -> Result<(), String> {
        if log_start < self.deleted_below {
            return Err(format!("log starts at {log_start}, records below {} were deleted", self.deleted_below));
        }
        if log_start > self.deleted_below.max(self.may_be_deleted_below) {
            return Err(format!("log starts at {log_start}, nobody deleted above {}", self.may_be_deleted_below));
        }
        for (i, (offset, _)) in log.iter().enumerate() {
            if *offset != log_start + i as i64 {
                return Err(format!("offset {offset} where {} was due: not dense", log_start + i as i64));
            }
        }
        let end = log_start + log.len() as i64;
        if end < self.watermark {
            return Err(format!("log ends at {end}, a watermark of {} was shown", self.watermark));
        }
        let at = |offset: i64| log.get((offset - log_start) as usize).map(|(_, name)| *name);
        for (what, facts) in [("acknowledged", &self.acked), ("shown", &self.shown)] {
            for (offset, name) in facts.range(log_start..) {
                if at(*offset) != Some(*name) {
                    return Err(format!("{what} {name:?} at {offset}, found {:?}", at(*offset)));
                }
            }
        }
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (offset, name) in log {
            if !seen.insert(*name) {
                return Err(format!("{name:?} stands twice, again at {offset}"));
            }
            if last.insert(name.0, name.1).is_some_and(|before| before > name.1) {
                return Err(format!("{name:?} at {offset} is out of order"));
            }
        }
        Ok(())
    }
}
