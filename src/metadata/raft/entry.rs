//! A raft entry as a record batch: offset = raft index, leader epoch = term, one record, whose value is JSON.
//!
//! ```json
//! {"term":1,"leader":1,"payload":{"Commands":[{"DeleteTopics":{"ids":["…"]}}]}}
//! ```
//! The payload is `"Blank"` (a leader's first entry), `Commands` or `Membership` (openraft's form). Names never change; new fields get a default.

use super::{Entry, LogId, Membership, Proposal};
use crate::metadata::Command;
use millstream_storage::{
    Batch,
    batch::HEADER_BYTES,
    record::{BatchBuilder, records},
};
use openraft::{CommittedLeaderId, EntryPayload};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
struct Stored {
    term: u64,
    /// Node id of the term's leader.
    leader: i32,
    payload: Payload,
}

#[derive(Serialize, Deserialize)]
enum Payload {
    Blank,
    Commands(Arc<[Command]>),
    Membership(Membership),
}

/// The leader epoch of entries of `term`.
pub(super) fn epoch(term: u64) -> Result<i32, String> {
    i32::try_from(term).map_err(|_| format!("raft term {term} is beyond what a leader epoch can hold"))
}

/// The batch that holds `entry`. Its base offset and leader epoch are the storage log's to write.
pub(super) fn encode(entry: &Entry, now_ms: i64) -> Result<Vec<u8>, String> {
    let payload = match &entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(Proposal(commands)) => Payload::Commands(commands.clone()),
        EntryPayload::Membership(m) => Payload::Membership(m.clone()),
    };
    let id = entry.log_id.leader_id;
    let value = serde_json::to_vec(&Stored { term: id.term, leader: id.node_id, payload })
        .map_err(|e| format!("metadata entry {} cannot be written as JSON: {e}", entry.log_id.index))?;
    Ok(BatchBuilder::new().record(now_ms, None, Some(&value), &[]).build())
}

/// The entry in the batch at the start of `bytes`, and the size of the batch, bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<(Entry, usize), String> {
    let batch = Batch::parse(bytes).map_err(|e| e.to_string())?;
    let broken = |why: &str| format!("metadata entry {}: {why}", batch.base_offset);
    let payload = bytes.get(HEADER_BYTES..batch.size_bytes).ok_or_else(|| broken("cut short"))?;
    let mut all = records(payload, batch.record_count);
    let record = match (all.next(), all.next()) {
        (Some(Ok(record)), None) => record,
        (Some(Err(e)), _) => return Err(broken(&e.to_string())),
        _ => return Err(broken("not exactly one record")),
    };
    let value = record.value.ok_or_else(|| broken("no value"))?;
    let stored: Stored = serde_json::from_slice(value).map_err(|e| broken(&e.to_string()))?;
    if i64::from(batch.leader_epoch) != i64::try_from(stored.term).unwrap_or(i64::MAX) {
        return Err(broken("its term is not its leader epoch"));
    }
    let index = u64::try_from(batch.base_offset).map_err(|_| broken("a negative offset"))?;
    let log_id = LogId::new(CommittedLeaderId::new(stored.term, stored.leader), index);
    let payload = match stored.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Commands(commands) => EntryPayload::Normal(Proposal(commands)),
        Payload::Membership(m) => EntryPayload::Membership(m),
    };
    Ok((Entry { log_id, payload }, batch.size_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_storage::batch;
    use openraft::BasicNode;
    use std::collections::{BTreeMap, BTreeSet};

    fn entry(payload: EntryPayload<super::super::Types>) -> Entry {
        Entry { log_id: LogId::new(CommittedLeaderId::new(7, 3), 41), payload }
    }

    fn written(entry: &Entry) -> Vec<u8> {
        let mut bytes = encode(entry, 1_700_000_000_000).unwrap();
        batch::check(&bytes).unwrap();
        batch::patch(&mut bytes, entry.log_id.index as i64, epoch(entry.log_id.leader_id.term).unwrap());
        bytes
    }

    #[test]
    fn each_kind_of_entry_survives_its_batch() {
        let members = Membership::new(vec![BTreeSet::from([3])], BTreeMap::from([(3, BasicNode::new("h:1"))]));
        let commands = [Command::AllocateProducerIds { node_id: 3, count: 5 }];
        for payload in
            [EntryPayload::Blank, EntryPayload::Normal(Proposal(Arc::new(commands))), EntryPayload::Membership(members)]
        {
            let entry = entry(payload);
            let mut bytes = written(&entry);
            let size = bytes.len();
            bytes.extend([9; 5]);
            let (read, took) = decode(&bytes).unwrap();
            assert_eq!((read.log_id, took), (entry.log_id, size));
            assert_eq!(format!("{:?}", read.payload), format!("{:?}", entry.payload));
        }
    }

    #[test]
    fn bytes_that_are_no_entry_are_refused_not_a_panic() {
        let good = written(&entry(EntryPayload::Blank));
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut other_epoch = good.clone();
        batch::patch(&mut other_epoch, 41, 8);
        assert!(decode(&other_epoch).unwrap_err().contains("leader epoch"));
        let not_json = BatchBuilder::new().record(0, None, Some(b"{"), &[]).build();
        assert!(decode(&not_json).is_err());
        let two = BatchBuilder::new().record(0, None, Some(b"1"), &[]).record(0, None, Some(b"1"), &[]).build();
        assert!(decode(&two).unwrap_err().contains("exactly one"));
        assert!(epoch(1 << 40).is_err());
    }
}
