//! DescribeProducers (61), v0: the idempotent producers that partitions remember (KIP-664).
//!
//! There are no transactions yet: no coordinator epoch, no start of an open transaction. Each partition is answered once, however often it is named; a partition
//! beyond [`DESCRIBED_PRODUCERS_MAX`] producers in one answer is refused with INVALID_REQUEST.

use super::{
    Outcome, Request,
    errors::{self, Fault, ResponseError},
    reply, topics,
};
use crate::{
    broker::{Broker, opening::Opening},
    limits::DESCRIBED_PRODUCERS_MAX,
    partition::{PartitionError, producers::Active},
};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeProducersResponse, ProducerId,
    describe_producers_response::{PartitionResponse, ProducerState, TopicResponse},
};
use std::collections::HashSet;

pub(super) async fn handle(request: Request<'_>, message: DescribeProducersRequest) -> Outcome {
    let (broker, header, bytes) = (request.broker.clone(), request.header, request.body.len());
    Outcome::Later(Box::pin(async move {
        let mut opening = Opening::new(&broker.opening_bytes, bytes);
        let mut room = DESCRIBED_PRODUCERS_MAX;
        let mut seen = HashSet::new();
        let mut answers = Vec::with_capacity(message.topics.len());
        for topic in &message.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in &topic.partition_indexes {
                if !seen.insert((topic.name.as_str(), *index)) {
                    continue;
                }
                let found = match active(&broker, &mut opening, topic.name.as_str(), *index).await {
                    Ok(found) if found.len() > room => {
                        let why = "too many producers for one answer; ask for fewer partitions at once";
                        Err(Fault::new(ResponseError::InvalidRequest, why))
                    }
                    found => found,
                };
                room -= found.as_ref().map_or(0, Vec::len);
                let response = PartitionResponse::default()
                    .with_partition_index(*index)
                    .with_error_code(errors::code(&found))
                    .with_error_message(errors::text(&found))
                    .with_active_producers(found.unwrap_or_default().into_iter().map(state).collect());
                partitions.push(response);
            }
            answers.push(TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions));
        }
        reply::message(&header, &DescribeProducersResponse::default().with_topics(answers))
    }))
}

async fn active(broker: &Broker, opening: &mut Opening<'_>, topic: &str, index: i32) -> Result<Vec<Active>, Fault> {
    let fault = |e: PartitionError| Fault::new(errors::partition(&e), e.to_string());
    let Some(partition) = broker.partitions.get(topic, index) else {
        topics::check_name(topic)?;
        let why = format!("there is no partition {index} of topic {topic}");
        return Err(Fault::new(ResponseError::UnknownTopicOrPartition, why));
    };
    loop {
        partition.check_leader(-1).map_err(fault)?;
        match partition.active_producers() {
            Err(PartitionError::NotOpen) => opening.wait(partition.open()).await.map_err(fault)?,
            found => return found.map_err(fault),
        }
    }
}

fn state(producer: Active) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(producer.id))
        .with_producer_epoch(i32::from(producer.epoch))
        .with_last_sequence(producer.last_sequence)
        .with_last_timestamp(producer.last_timestamp)
        .with_coordinator_epoch(producer.coordinator_epoch)
        .with_current_txn_start_offset(producer.transaction_first_offset)
}
