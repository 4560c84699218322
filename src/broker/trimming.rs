//! Deleting records from the start of a partition, whoever asks.

use super::{Broker, changes::ChangeError, opening::Opening, topics};
use crate::partition::{
    Partition, PartitionError,
    waiters::{Acks, Goal},
};
use std::sync::Arc;
use tokio::time::Instant;

/// Moves the log start of a partition to `offset`, -1 = to the high watermark; gives the new start. An offset that is appended but not yet settled is waited for, until
/// `deadline`.
pub async fn delete_records(
    broker: &Broker,
    opening: &mut Opening<'_>,
    topic: &str,
    index: i32,
    offset: i64,
    deadline: Instant,
) -> Result<i64, ChangeError> {
    if topics::is_internal(topic) {
        return Err(ChangeError::Internal(topic.into()));
    }
    match broker.partitions.get(topic, index) {
        Some(p) if !p.topic().settings.load().cleanup_delete => Err(ChangeError::CompactedOnly(topic.into())),
        Some(p) => Ok(delete(broker, opening, p, offset, deadline).await?),
        None if broker.partitions.table().by_name(topic).is_none() => Err(ChangeError::UnknownTopic(topic.into())),
        None => Err(ChangeError::UnknownPartition { topic: topic.into(), partition: index }),
    }
}

async fn delete(
    broker: &Broker,
    opening: &mut Opening<'_>,
    partition: Arc<Partition>,
    offset: i64,
    deadline: Instant,
) -> Result<i64, PartitionError> {
    loop {
        partition.check_leader(-1)?;
        let reader = opening.wait(partition.opened_reader()).await?;
        if offset > partition.offsets()?.high_watermark && offset <= reader.log_end() {
            // Appended, and settled in a moment.
            let acks = Acks::new();
            partition.park(Goal::Watermark, offset, 0, &acks)?;
            let _ = tokio::time::timeout_at(deadline, acks.done()).await;
        }
        let deleting = partition.clone();
        match broker.env.blocking(move || deleting.delete_records(offset)).await {
            Err(PartitionError::NotOpen) => {}
            done => return done,
        }
    }
}
