//! OffsetDelete (key 47): forgets what a group has committed to partitions nobody in it reads.
//!
//! Served: v0, which has no tagged fields. A partition that is not there is UNKNOWN_TOPIC_OR_PARTITION alone; one never committed to is deleted all the same.

use super::{
    Outcome, Request,
    errors::ResponseError,
    groups::{self, kept},
    reply,
};
use crate::{
    coordinator::group::{Event, GroupError, Reply},
    limits::OFFSETS_PER_REQUEST_MAX,
    metadata::Image,
};
use kafka_protocol::messages::{
    OffsetDeleteRequest, OffsetDeleteResponse,
    offset_delete_request::OffsetDeleteRequestTopic,
    offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic},
};
use std::sync::Arc;

pub(super) async fn handle(request: Request<'_>, message: OffsetDeleteRequest) -> Outcome {
    let header = request.header;
    if let Some(error) = refusal(&message) {
        let response = OffsetDeleteResponse::default().with_error_code(groups::code::<()>(&Err(error)));
        return Outcome::Reply(reply::message(&header, &response));
    }
    let (mut response, topics) = known(&request.broker.quorum.image(), message.topics);
    // Asked even where nothing is left of the request: whether there is such a group is told in any case.
    let event = Event::DeleteOffsets { group: kept(&message.group_id), topics };
    let asked = request.broker.ask_group(&message.group_id, event).await;
    Outcome::Later(Box::pin(async move {
        let deleted = groups::answer(asked, |reply| match reply {
            Reply::DeleteOffsets(result) => Some(result),
            _ => None,
        });
        match deleted.await {
            Ok(results) => fill(&mut response, results),
            Err(error) => {
                response = OffsetDeleteResponse::default().with_error_code(groups::code::<()>(&Err(error)));
            }
        }
        reply::message(&header, &response)
    }))
}

fn refusal(message: &OffsetDeleteRequest) -> Option<GroupError> {
    if message.group_id.is_empty() {
        return Some(GroupError::InvalidGroupId);
    }
    let partitions: usize = message.topics.iter().map(|t| t.partitions.len()).sum();
    (partitions > OFFSETS_PER_REQUEST_MAX).then(|| GroupError::InvalidRequest(format!("{partitions} partitions")))
}

type Topics = Vec<(Arc<str>, Vec<i32>)>;

/// The answer with what is not there marked in it, and the rest for the coordinator, in the same order.
fn known(image: &Image, asked: Vec<OffsetDeleteRequestTopic>) -> (OffsetDeleteResponse, Topics) {
    let mut topics = Vec::with_capacity(asked.len());
    let answered = asked.into_iter().map(|wanted| {
        let topic = image.topic(&wanted.name);
        let count = topic.map_or(0, |t| t.partitions.len());
        let there = |index: i32| usize::try_from(index).is_ok_and(|i| i < count);
        let partitions: Vec<i32> =
            wanted.partitions.iter().map(|p| p.partition_index).filter(|index| there(*index)).collect();
        if let Some(topic) = topic.filter(|_| !partitions.is_empty()) {
            topics.push((topic.name.clone(), partitions));
        }
        let answered = wanted.partitions.iter().map(|p| {
            let unknown = ResponseError::UnknownTopicOrPartition.code();
            let code = if there(p.partition_index) { 0 } else { unknown };
            OffsetDeleteResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
        });
        OffsetDeleteResponseTopic::default().with_partitions(answered.collect()).with_name(wanted.name)
    });
    let response = OffsetDeleteResponse::default().with_topics(answered.collect());
    (response, topics)
}

/// Puts the coordinator's results where no other error stands.
fn fill(response: &mut OffsetDeleteResponse, results: Vec<Vec<Result<(), GroupError>>>) {
    let open = response.topics.iter_mut().flat_map(|t| &mut t.partitions).filter(|p| p.error_code == 0);
    for (partition, result) in open.zip(results.into_iter().flatten()) {
        partition.error_code = groups::code(&result);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::{
        tests::{cluster, with_topic},
        topic_name,
    };
    use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestPartition;

    #[test]
    fn what_is_not_there_is_answered_alone() {
        let image = with_topic(&with_topic(&cluster(1), "a", 2), "b", 1);
        let topic = |name: &str, partitions: &[i32]| {
            let partition = |i: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*i);
            OffsetDeleteRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions.iter().map(partition).collect())
        };
        let asked = vec![topic("a", &[-1, 0, 2, 1]), topic("none", &[0]), topic("b", &[0])];
        let (mut response, topics) = known(&image, asked);
        assert_eq!(topics, [("a".into(), vec![0, 1]), ("b".into(), vec![0])]);
        fill(&mut response, vec![vec![Ok(()), Err(GroupError::GroupSubscribedToTopic)], vec![Ok(())]]);
        let codes = |t: &OffsetDeleteResponseTopic| t.partitions.iter().map(|p| p.error_code).collect::<Vec<_>>();
        let shown: Vec<_> = response.topics.iter().map(|t| (t.name.to_string(), codes(t))).collect();
        assert_eq!(shown, [("a".into(), vec![3, 0, 3, 86]), ("none".to_string(), vec![3]), ("b".to_string(), vec![0])]);
    }
}
