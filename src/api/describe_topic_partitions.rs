//! DescribeTopicPartitions (75), v0: topics and their partitions, page by page in the order of names.
//!
//! No topics named = all. A page holds at most the partitions asked for and `max.request.partition.size.limit`; the cursor says where the next one begins. There are no eligible leader
//! replicas (KIP-966) here: the lists are empty.

use super::{Outcome, Request, errors::ResponseError, reply, topics};
use crate::{
    broker::changes::ChangeError,
    metadata::{Image, PartitionFacts, Topic},
};
use kafka_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
    describe_topic_partitions_response::{
        Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
    },
};
use std::{collections::BTreeSet, ops::Bound};
use uuid::Uuid;

/// Answers one page from the image.
pub async fn handle(request: Request<'_>, message: DescribeTopicPartitionsRequest) -> Outcome {
    let most = request.broker.settings().request_partitions_max;
    let response = page(&request.broker.quorum.image(), &message, most);
    Outcome::Reply(reply::message(&request.header, &response))
}

fn page(image: &Image, message: &DescribeTopicPartitionsRequest, most: usize) -> DescribeTopicPartitionsResponse {
    let asked: BTreeSet<&str> = message.topics.iter().map(|t| t.name.as_str()).collect();
    let mut response = DescribeTopicPartitionsResponse::default();
    let start = message.cursor.as_ref().map(|c| (c.topic_name.as_str(), c.partition_index));
    if start.is_some_and(|(_, partition)| partition < 0) {
        let refused = |name: &&str| failed(ResponseError::InvalidRequest, name);
        return response.with_topics(asked.iter().map(refused).collect());
    }
    let pages: (Bound<&str>, Bound<&str>) = (Bound::Included(start.map_or("", |(name, _)| name)), Bound::Unbounded);
    let names: Vec<&str> = match asked.is_empty() {
        true => image.topics.range::<_, str>(pages).map(|(name, _)| &**name).collect(),
        false => asked.range::<str, _>(pages).copied().collect(),
    };
    let mut left = usize::try_from(message.response_partition_limit).unwrap_or(0).clamp(1, most.max(1));
    let cursor = |name: &str, partition: usize| {
        Some(Cursor::default().with_topic_name(topics::topic_name(name)).with_partition_index(partition as i32))
    };
    for name in names {
        let Some(found) = image.topic(name) else {
            let error = match topics::check_name(name) {
                Err(ChangeError::InvalidName(_)) => ResponseError::InvalidTopicException,
                _ => ResponseError::UnknownTopicOrPartition,
            };
            response.topics.push(failed(error, name));
            continue;
        };
        let first = match start {
            Some((topic, partition)) if topic == name => usize::try_from(partition).unwrap_or(0),
            _ => 0,
        };
        let count = found.partitions.len();
        if left == 0 {
            response.next_cursor = cursor(name, first);
            return response;
        }
        let end = count.min(first.saturating_add(left));
        let shown = topic(image, found, first.min(end)..end);
        left -= shown.partitions.len();
        response.topics.push(shown);
        if end < count {
            response.next_cursor = cursor(name, end);
            return response;
        }
    }
    response
}

fn failed(error: ResponseError, name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(topics::topic_name(name)))
        .with_topic_id(Uuid::nil())
        .with_is_internal(topics::is_internal(name))
}

fn topic(image: &Image, topic: &Topic, range: std::ops::Range<usize>) -> DescribeTopicPartitionsResponseTopic {
    let first = range.start;
    let partition = |(n, p): (usize, &PartitionFacts)| {
        let (error, leader) = topics::leader(image, p);
        DescribeTopicPartitionsResponsePartition::default()
            .with_error_code(error)
            .with_partition_index((first + n) as i32)
            .with_leader_id(leader)
            .with_leader_epoch(p.leader_epoch)
            .with_replica_nodes(topics::ids(&p.replicas))
            .with_isr_nodes(topics::ids(&p.isr))
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
            .with_offline_replicas(topics::offline(image, p))
    };
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topics::topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(topic.partitions[range].iter().enumerate().map(partition).collect())
        .with_topic_authorized_operations(topics::TOPIC_OPERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::tests::{cluster, with_topic};
    use kafka_protocol::messages::describe_topic_partitions_request as asked;

    /// All pages one after another: (topic, partition, error), and how many pages.
    fn pages(image: &Image, names: &[&str], limit: i32) -> (Vec<(String, i32)>, usize) {
        let topic = |name: &&str| asked::TopicRequest::default().with_name(topics::topic_name(name));
        let mut message = DescribeTopicPartitionsRequest::default()
            .with_topics(names.iter().map(topic).collect())
            .with_response_partition_limit(limit);
        let (mut seen, mut count) = (Vec::new(), 0);
        loop {
            let response = page(image, &message, 2000);
            count += 1;
            for t in &response.topics {
                let name = t.name.as_ref().unwrap().to_string();
                seen.extend(t.partitions.iter().map(|p| (name.clone(), p.partition_index)));
                if t.error_code != 0 {
                    seen.push((name, -i32::from(t.error_code)));
                }
            }
            let Some(next) = response.next_cursor else { return (seen, count) };
            let cursor = asked::Cursor::default().with_topic_name(next.topic_name);
            message.cursor = Some(cursor.with_partition_index(next.partition_index));
        }
    }

    #[test]
    fn pages_of_any_size_add_up_to_the_whole() {
        let image = with_topic(&with_topic(&with_topic(&cluster(1), "b", 3), "a", 2), "c", 1);
        let all: Vec<_> = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0)]
            .iter()
            .map(|(n, p)| (n.to_string(), *p))
            .collect();
        for (limit, count) in [(1, 6), (2, 3), (3, 2), (4, 2), (5, 2), (6, 1), (2000, 1), (0, 6), (-1, 6)] {
            assert_eq!(pages(&image, &[], limit), (all.clone(), count), "limit {limit}");
            assert_eq!(pages(&image, &["c", "b", "a", "b"], limit), (all.clone(), count), "limit {limit}");
        }
    }

    #[test]
    fn a_topic_that_is_not_there_is_said() {
        let image = with_topic(&cluster(1), "b", 1);
        let (seen, _) = pages(&image, &["a", "b", "x/y"], 10);
        assert_eq!(seen, [("a".to_string(), -3), ("b".to_string(), 0), ("x/y".to_string(), -17)]);
    }

    #[test]
    fn a_cursor_behind_the_end_shows_nothing_twice() {
        let image = with_topic(&with_topic(&cluster(1), "a", 2), "b", 1);
        let cursor = asked::Cursor::default().with_topic_name(topics::topic_name("a")).with_partition_index(7);
        let message =
            DescribeTopicPartitionsRequest::default().with_response_partition_limit(5).with_cursor(Some(cursor));
        let response = page(&image, &message, 2000);
        let counts: Vec<_> = response.topics.iter().map(|t| t.partitions.len()).collect();
        assert_eq!(counts, [0, 1]);
        assert!(response.next_cursor.is_none());
    }
}
