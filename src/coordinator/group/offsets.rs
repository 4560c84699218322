//! What a group has committed (Kafka's `OffsetMetadataManager`).

/// Offsets of one group.
#[derive(Debug, Default)]
pub struct Offsets {}

/// What is remembered of an append until its outcome is known.
#[derive(Debug)]
pub enum Pending {}
