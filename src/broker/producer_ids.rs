//! Producer ids for InitProducerId: taken from the quorum in blocks, handed out one by one.

use super::Broker;
use crate::{
    limits::PRODUCER_ID_BLOCK,
    metadata::{Command, Outcome, ProposeError},
};
use std::ops::Range;
use tokio::sync::Mutex;

/// Ids of this broker's block that are not yet handed out.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    /// A task that fetches a block holds it while it waits: the others want the same block.
    left: Mutex<Range<i64>>,
}

impl Broker {
    /// An id that no producer of the cluster ever had.
    pub async fn next_producer_id(&self) -> Result<i64, ProposeError> {
        let mut left = self.producer_ids.left.lock().await;
        if let Some(id) = left.next() {
            return Ok(id);
        }
        let command = Command::AllocateProducerIds { node_id: self.config().node_id, count: PRODUCER_ID_BLOCK };
        let outcomes = self.quorum.propose(command).await?;
        match outcomes.first() {
            Some(Outcome::ProducerIds { first, count }) => *left = *first..first.saturating_add(*count),
            other => tracing::error!(outcome = ?other, "no producer ids were handed out"),
        }
        left.next().ok_or(ProposeError::NoLeader)
    }
}
