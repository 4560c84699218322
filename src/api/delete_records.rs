//! DeleteRecords (key 21): moves the log start, -1 = to the high watermark. An offset that is appended but not yet settled is waited for.
//!
//! Served: v0–2. v2+ have tagged fields.

use super::{Outcome, Request, errors, reply};
use crate::broker::{opening::Opening, trimming::delete_records};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
};
use std::time::Duration;
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
                let (index, offset) = (wanted.partition_index, wanted.offset);
                let done = delete_records(&broker, &mut opening, &topic.name, index, offset, deadline).await;
                let error_code = done.as_ref().err().map_or(0, |e| errors::change(e).code());
                let response = DeleteRecordsPartitionResult::default()
                    .with_partition_index(index)
                    .with_low_watermark(done.unwrap_or(-1))
                    .with_error_code(error_code);
                partitions.push(response);
            }
            answers.push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions));
        }
        reply::message(&header, &DeleteRecordsResponse::default().with_topics(answers))
    }))
}
