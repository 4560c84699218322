//! What a power cut would take now: records appended and not yet durable.

use super::{Broker, partitions::TopicEntry};

/// Records of a topic that are appended and not yet durable: of one with millstream.durability=page-cache they may be acknowledged and seen by consumers, of the others those that
/// wait for the flush under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtRisk {
    pub records: u64,
    pub bytes: u64,
    /// Age of the oldest of them, ms; `None` where there are none, and where figures are off.
    pub oldest_ms: Option<i64>,
}

impl Broker {
    /// What is at risk of a topic's partitions here. Takes no lock that appends hold for long; its cost grows with the partitions.
    pub fn at_risk(&self, topic: &TopicEntry) -> AtRisk {
        let now_ms = self.env.now_ms();
        let mut all = AtRisk::default();
        for undurable in topic.partitions.iter().map(|p| p.undurable()) {
            all.records += undurable.records;
            all.bytes += undurable.bytes;
            let age_ms = undurable.since_ms.map(|since_ms| (now_ms - since_ms).max(0));
            all.oldest_ms = all.oldest_ms.max(age_ms);
        }
        all
    }
}
