//! OffsetForLeaderEpoch (key 23): where an epoch ended, so that a reader finds out whether its log left ours (KIP-101, KIP-320).
//!
//! Served: v2–4. v3+ name the replica that asks, v4+ have tagged fields.

use super::{
    Outcome, Request,
    errors::{self, ResponseError},
    reply,
};
use crate::{
    broker::opening::Opening,
    partition::{Partition, PartitionError},
};
use kafka_protocol::messages::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    offset_for_leader_epoch_request::OffsetForLeaderPartition,
    offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult},
};
use std::sync::Arc;

pub(super) async fn handle(request: Request<'_>, message: OffsetForLeaderEpochRequest) -> Outcome {
    let (broker, header, bytes) = (request.broker.clone(), request.header, request.body.len());
    Outcome::Later(Box::pin(async move {
        let mut opening = Opening::new(&broker.opening_bytes, bytes);
        let mut topics = Vec::with_capacity(message.topics.len());
        for topic in message.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in topic.partitions {
                let found = match broker.partitions.get(&topic.topic, wanted.partition) {
                    Some(partition) => end(&mut opening, &partition, &wanted).await.map_err(|e| errors::partition(&e)),
                    None => Err(ResponseError::UnknownTopicOrPartition),
                };
                let error_code = found.as_ref().err().map_or(0, ResponseError::code);
                let (epoch, offset) = found.unwrap_or((-1, -1));
                let response = EpochEndOffset::default().with_partition(wanted.partition).with_error_code(error_code);
                partitions.push(response.with_leader_epoch(epoch).with_end_offset(offset));
            }
            topics.push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions));
        }
        reply::message(&header, &OffsetForLeaderEpochResponse::default().with_topics(topics))
    }))
}

/// (epoch, its end); -1 and -1 when nothing is known of it.
async fn end(
    opening: &mut Opening<'_>,
    partition: &Arc<Partition>,
    wanted: &OffsetForLeaderPartition,
) -> Result<(i32, i64), PartitionError> {
    if wanted.current_leader_epoch < -1 {
        return Err(PartitionError::FencedLeaderEpoch {
            given: wanted.current_leader_epoch,
            current: partition.leader().1,
        });
    }
    partition.check_leader(wanted.current_leader_epoch)?;
    let reader = opening.wait(partition.opened_reader()).await?;
    Ok(partition.end_of_epoch(&reader, wanted.leader_epoch).unwrap_or((-1, -1)))
}
