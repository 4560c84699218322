//! CreatePartitions (37), v0–3: topics grow, all those of one request in one proposal.
//!
//! v2 is flexible. Every topic asked for is answered. New partitions take records at once. Kafka's internal topics do not grow (INVALID_REQUEST; Kafka grows them): which partition, so
//! which coordinator, a group belongs to follows from their number, and nearly every group would be sent to one that knows nothing of it.

use super::{
    Outcome, Request,
    errors::{self, Fault},
    reply, topics,
};
use crate::broker::topics::{Growth, grow};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
    create_partitions_response::CreatePartitionsTopicResult,
};

/// Checks each topic, grows those that pass.
pub async fn handle(request: Request<'_>, message: CreatePartitionsRequest) -> Outcome {
    let asked: Vec<Growth<'_>> = message.topics.iter().map(growth).collect();
    let answers = grow(request.broker, &asked, message.validate_only).await.into_iter().map(|(name, result)| {
        let result = result.map_err(Fault::from);
        CreatePartitionsTopicResult::default()
            .with_name(topics::topic_name(name))
            .with_error_code(errors::code(&result))
            .with_error_message(errors::text(&result))
    });
    let response = CreatePartitionsResponse::default().with_results(answers.collect());
    Outcome::Reply(reply::message(&request.header, &response))
}

fn growth(topic: &CreatePartitionsTopic) -> Growth<'_> {
    let assignments = topic.assignments.as_ref();
    let assignments = assignments.map(|all| all.iter().map(|a| a.broker_ids.iter().map(|id| id.0).collect()).collect());
    Growth { name: topic.name.as_str(), partitions: topic.count, assignments }
}
