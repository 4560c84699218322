//! CreatePartitions (37), v0–3: topics grow, all those of one request in one proposal.
//!
//! v2 is flexible. Every topic asked for is answered. New partitions take records at once. Kafka's internal topics do not grow (INVALID_REQUEST; Kafka grows them): which partition, so
//! which coordinator, a group belongs to follows from their number, and nearly every group would be sent to one that knows nothing of it.

use super::{
    Outcome, Request,
    errors::{self, Fault, ResponseError},
    reply, topics,
};
use crate::{
    limits::PARTITIONS_PER_REQUEST_MAX,
    metadata::{Command, Image, NewPartitions},
};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, create_partitions_request::CreatePartitionsTopic,
    create_partitions_response::CreatePartitionsTopicResult,
};
use std::collections::HashMap;

/// Checks each topic, grows those that pass.
pub async fn handle(request: Request<'_>, message: CreatePartitionsRequest) -> Outcome {
    let broker = request.broker;
    let image = broker.quorum.image();
    let mut times: HashMap<&str, usize> = HashMap::new();
    for topic in &message.topics {
        *times.entry(topic.name.as_str()).or_default() += 1;
    }
    let mut before = 0usize;
    let mut planned: Vec<(&str, Result<NewPartitions, Fault>)> = Vec::with_capacity(message.topics.len());
    for topic in &message.topics {
        let made = match times.remove(topic.name.as_str()) {
            // Answered already.
            None => continue,
            Some(1) => plan(&image, topic, broker.env.random_u64(), before),
            Some(_) => Err(Fault::new(ResponseError::InvalidRequest, "the request names this topic more than once")),
        };
        before += made.as_ref().map_or(0, |new| new.assignments.len());
        planned.push((topic.name.as_str(), made));
    }
    let wanted: Vec<NewPartitions> = planned.iter().filter_map(|(_, made)| made.as_ref().ok().cloned()).collect();
    let mut results = match (message.validate_only, wanted.len()) {
        (true, count) => vec![Ok(()); count],
        (false, 0) => Vec::new(),
        (false, count) => topics::propose(broker, Command::CreatePartitions { topics: wanted }, count).await,
    }
    .into_iter();
    let answers = planned.into_iter().map(|(name, made)| {
        let result = made.and_then(|_| results.next().unwrap_or(Ok(())));
        CreatePartitionsTopicResult::default()
            .with_name(topics::topic_name(name))
            .with_error_code(errors::code(&result))
            .with_error_message(errors::text(&result))
    });
    let response = CreatePartitionsResponse::default().with_results(answers.collect());
    Outcome::Reply(reply::message(&request.header, &response))
}

/// What is to be added to `topic`, or why nothing can be. `before` partitions are planned in the same request.
fn plan(image: &Image, topic: &CreatePartitionsTopic, seed: u64, before: usize) -> Result<NewPartitions, Fault> {
    let Some(found) = image.topic(&topic.name) else {
        return Err(Fault::new(ResponseError::UnknownTopicOrPartition, "this server has no such topic"));
    };
    if topics::is_internal(&found.name) {
        let why = format!("{} cannot grow: groups would be sought where their state is not", found.name);
        return Err(Fault::new(ResponseError::InvalidRequest, why));
    }
    let have = found.partitions.len();
    let wanted = usize::try_from(topic.count).unwrap_or(0);
    if wanted <= have {
        let why = format!("the topic has {have} partitions; {} is not more", topic.count);
        return Err(Fault::new(ResponseError::InvalidPartitions, why));
    }
    let added = wanted - have;
    if before.saturating_add(added) > PARTITIONS_PER_REQUEST_MAX {
        let why = format!("at most {PARTITIONS_PER_REQUEST_MAX} partitions can be created by one request");
        return Err(Fault::new(ResponseError::InvalidPartitions, why));
    }
    let replication_factor = found.partitions.first().map_or(1, |p| p.replicas.len());
    let assignments = match &topic.assignments {
        None => topics::place(image, have, added, replication_factor, seed)?,
        Some(chosen) => {
            if chosen.len() != added {
                let why = format!("{added} partitions are to be added, but {} are assigned", chosen.len());
                return Err(Fault::new(ResponseError::InvalidReplicaAssignment, why));
            }
            let chosen: Vec<Vec<i32>> = chosen.iter().map(|a| a.broker_ids.iter().map(|id| id.0).collect()).collect();
            topics::check_assignments(image, &chosen, Some(replication_factor))?;
            chosen
        }
    };
    Ok(NewPartitions { id: found.id, first: have as u32, assignments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::tests::{cluster, with_topic};
    use kafka_protocol::messages::{BrokerId, create_partitions_request::CreatePartitionsAssignment};

    #[test]
    fn topics_only_grow() {
        use ResponseError::*;
        let image = with_topic(&cluster(2), "t", 2);
        let asked = |name: &str, count: i32| {
            let name = topics::topic_name(name);
            CreatePartitionsTopic::default().with_name(name).with_count(count).with_assignments(None)
        };
        let by_hand = |count: i32, ids: &[&[i32]]| {
            let assignments = ids.iter().map(|ids| {
                CreatePartitionsAssignment::default().with_broker_ids(ids.iter().map(|id| BrokerId(*id)).collect())
            });
            asked("t", count).with_assignments(Some(assignments.collect()))
        };
        let error = |topic| plan(&image, &topic, 0, 0).map_err(|f| f.error).unwrap_err();
        assert_eq!(error(asked("x", 3)), UnknownTopicOrPartition);
        for count in [-1, 0, 1, 2, i32::MAX] {
            assert_eq!(error(asked("t", count)), InvalidPartitions);
        }
        assert_eq!(error(by_hand(4, &[&[1]])), InvalidReplicaAssignment);
        assert_eq!(error(by_hand(3, &[&[1, 2]])), InvalidReplicaAssignment);
        assert_eq!(error(by_hand(3, &[&[9]])), InvalidReplicaAssignment);
        let new = plan(&image, &by_hand(4, &[&[1], &[2]]), 0, 0).unwrap();
        assert_eq!((new.first, new.assignments), (2, vec![vec![1], vec![2]]));
        assert_eq!(plan(&image, &asked("t", 5), 0, 0).unwrap().assignments.len(), 3);
    }

    #[test]
    fn topics_of_coordinators_do_not_grow() {
        let image = with_topic(&cluster(1), "__consumer_offsets", 3);
        let name = topics::topic_name("__consumer_offsets");
        let asked = CreatePartitionsTopic::default().with_name(name).with_count(4).with_assignments(None);
        assert_eq!(plan(&image, &asked, 0, 0).map_err(|f| f.error), Err(ResponseError::InvalidRequest));
    }
}
