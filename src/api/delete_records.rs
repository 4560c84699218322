//! DeleteRecords (key 21): moves the log start, -1 = to the high watermark. An offset that is appended but not yet settled is waited for.
//!
//! Served: v0–2. v2+ have tagged fields.

use super::{
    Outcome, Request,
    errors::{self, ResponseError},
    opening::Opening,
    reply, topics,
};
use crate::{
    broker::Broker,
    partition::{
        Partition, PartitionError,
        waiters::{Acks, Goal},
    },
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

pub(super) async fn handle(request: Request<'_>, message: DeleteRecordsRequest) -> Outcome {
    let (broker, header, bytes) = (request.broker.clone(), request.header, request.body.len());
    let deadline = Instant::now() + Duration::from_millis(message.timeout_ms.max(0) as u64);
    Outcome::Later(Box::pin(async move {
        let mut opening = Opening::new(&broker.opening_bytes, bytes);
        let mut answers = Vec::with_capacity(message.topics.len());
        for topic in message.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for wanted in topic.partitions {
                let found = match broker.partitions.get(&topic.name, wanted.partition_index) {
                    // Only the coordinators know what may go.
                    _ if topics::is_internal(&topic.name) => Err(ResponseError::InvalidTopicException),
                    // What only compaction may take from a topic is not deleted by hand.
                    Some(p) if !p.topic().settings.load().cleanup_delete => Err(ResponseError::PolicyViolation),
                    Some(p) => delete(&broker, &mut opening, p, wanted.offset, deadline)
                        .await
                        .map_err(|e| errors::partition(&e)),
                    None => Err(ResponseError::UnknownTopicOrPartition),
                };
                let error_code = found.as_ref().err().map_or(0, ResponseError::code);
                let response = DeleteRecordsPartitionResult::default()
                    .with_partition_index(wanted.partition_index)
                    .with_low_watermark(found.unwrap_or(-1))
                    .with_error_code(error_code);
                partitions.push(response);
            }
            answers.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
        }
        reply::message(&header, &DeleteRecordsResponse::default().with_topics(answers))
    }))
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
