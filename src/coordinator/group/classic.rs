//! Members and rebalances of one classic group (Kafka's `ClassicGroup`, KIP-62, 345, 394, 429, 814).

/// Members, generation and state of a group.
#[derive(Debug, Default)]
pub struct Classic {}

/// What is remembered of an append until its outcome is known.
#[derive(Debug)]
pub enum Pending {}
