//! partitions

/// Partitions.
#[derive(Debug)]
pub struct Partitions {}
