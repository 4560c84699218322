//! OffsetCommit (key 8): a group's place in partitions, stored before it is answered.
//!
//! Served: v2–10. v2–4 how long to keep it, v3+ throttle time, v6+ leader epochs, v7+ instance ids (KIP-345), v8+ tagged fields, v9 as v8 (member epochs of KIP-848 groups in the
//! place of the generation; a group that is not known is GROUP_ID_NOT_FOUND, before ILLEGAL_GENERATION). v10 topic ids. A partition that is not there is
//! UNKNOWN_TOPIC_OR_PARTITION (a topic id, UNKNOWN_TOPIC_ID) alone. Metadata of more
//! than 32,767 bytes is OFFSET_METADATA_TOO_LARGE whatever `offset.metadata.max.bytes` allows: OffsetFetch before v6 has no room for it. An error of the group stands at every other partition: there is no other place.

use super::{
    Outcome, Request,
    errors::ResponseError,
    groups::{self, kept},
    reply,
};
use crate::{
    broker::{Broker, latency::GroupStage},
    coordinator::group::{Commit, CommitPartition, CommitTopic, Event, GroupError, Reply},
    limits::{OFFSET_METADATA_BYTES_MAX, OFFSETS_PER_REQUEST_MAX},
    metadata::Image,
    wire::offset_ids::{OffsetCommitRequest, TOPIC_IDS},
};
use kafka_protocol::messages::{
    OffsetCommitResponse,
    offset_commit_request::OffsetCommitRequestTopic,
    offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic},
};
use std::time::Duration;
use uuid::Uuid;

pub(super) async fn handle(request: Request<'_>, OffsetCommitRequest(message): OffsetCommitRequest) -> Outcome {
    let header = request.header;
    let by_id = header.api_version >= TOPIC_IDS;
    let (mut response, topics) = known(&request.broker.quorum.image(), message.topics, by_id);
    if topics.is_empty() {
        return Outcome::Reply(reply::message(&header, &response));
    }
    let partitions: usize = topics.iter().map(|t| t.partitions.len()).sum();
    if partitions > OFFSETS_PER_REQUEST_MAX {
        fill(&mut response, Err(GroupError::CommitTooLarge));
        return Outcome::Reply(reply::message(&header, &response));
    }
    let broker = request.broker.clone();
    let group = kept(&message.group_id);
    let committed_to = if broker.latency.is_on() { committed_to(&topics) } else { Vec::new() };
    let event = Event::Commit(Commit {
        group: group.clone(),
        generation: message.generation_id_or_member_epoch,
        member_id: kept(&message.member_id),
        instance_id: message.group_instance_id.as_deref().map(kept),
        retention_ms: (message.retention_time_ms >= 0).then_some(message.retention_time_ms),
        topics,
    });
    let asked = request.broker.ask_group(&message.group_id, event).await;
    Outcome::Later(Box::pin(async move {
        let committed = groups::answer(asked, |reply| match reply {
            Reply::Commit(result) => Some(result),
            _ => None,
        });
        let committed = committed.await.map_err(|e| known_to(header.api_version, e));
        if let Ok(results) = &committed {
            note(&broker, &group, &committed_to, results);
        }
        fill(&mut response, committed);
        reply::message(&header, &response)
    }))
}

/// A partition's result: the offset committed before.
type Before = Result<Option<i64>, GroupError>;

/// Topic, and partitions with their offsets, in the order of the request.
fn committed_to(topics: &[CommitTopic]) -> Vec<(Uuid, Vec<(i32, i64)>)> {
    let partitions = |t: &CommitTopic| t.partitions.iter().map(|p| (p.index, p.offset)).collect();
    topics.iter().map(|t| (t.id, partitions(t))).collect()
}

/// How long after their append the records before the committed offsets are committed, where the group went forward.
fn note(broker: &Broker, group: &str, committed: &[(Uuid, Vec<(i32, i64)>)], results: &[Vec<Before>]) {
    let now_ms = broker.env.now_ms();
    let table = broker.partitions.table();
    for ((topic, partitions), results) in committed.iter().zip(results) {
        let Some(topic) = table.by_id(*topic) else { continue };
        for (&(index, offset), result) in partitions.iter().zip(results) {
            let forward = matches!(result, Ok(before) if before.is_none_or(|before| before < offset));
            let Some(partition) = topic.partition(index).filter(|_| forward) else { continue };
            if let Some(appended_ms) = partition.appended_ms(offset.saturating_sub(1)) {
                let took = Duration::from_millis(u64::try_from(now_ms - appended_ms).unwrap_or(0));
                broker.latency.group(group, GroupStage::Commit, took, now_ms);
            }
        }
    }
}

/// The answer with what is not there marked in it, and the rest for the coordinator, in the same order.
fn known(image: &Image, asked: Vec<OffsetCommitRequestTopic>, by_id: bool) -> (OffsetCommitResponse, Vec<CommitTopic>) {
    let none = kept("");
    let mut topics = Vec::with_capacity(asked.len());
    let mut answered = Vec::with_capacity(asked.len());
    for wanted in asked {
        let topic = if by_id { image.topic_by_id(wanted.topic_id) } else { image.topic(&wanted.name) };
        let not_there = match topic {
            None if by_id => ResponseError::UnknownTopicId,
            _ => ResponseError::UnknownTopicOrPartition,
        };
        let count = topic.map_or(0, |t| t.partitions.len());
        let mut partitions = Vec::with_capacity(if topic.is_some() { wanted.partitions.len() } else { 0 });
        let mut codes = Vec::with_capacity(wanted.partitions.len());
        for p in wanted.partitions {
            let code = match usize::try_from(p.partition_index).is_ok_and(|index| index < count) {
                false => not_there.code(),
                true if p.committed_metadata.as_ref().is_some_and(|m| m.len() > OFFSET_METADATA_BYTES_MAX) => {
                    ResponseError::OffsetMetadataTooLarge.code()
                }
                true => {
                    partitions.push(CommitPartition {
                        index: p.partition_index,
                        offset: p.committed_offset,
                        leader_epoch: p.committed_leader_epoch,
                        metadata: match p.committed_metadata.as_deref() {
                            None | Some("") => none.clone(),
                            Some(metadata) => kept(metadata),
                        },
                    });
                    0
                }
            };
            codes.push(
                OffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code),
            );
        }
        let answer = OffsetCommitResponseTopic::default().with_name(wanted.name).with_topic_id(wanted.topic_id);
        answered.push(answer.with_partitions(codes));
        if let Some(topic) = topic.filter(|_| !partitions.is_empty()) {
            topics.push(CommitTopic { name: topic.name.clone(), id: topic.id, partitions });
        }
    }
    (OffsetCommitResponse::default().with_topics(answered), topics)
}

/// That there is no such group is told since v9; before, the generation is wrong.
fn known_to(version: i16, error: GroupError) -> GroupError {
    match error {
        GroupError::GroupIdNotFound if version < 9 => GroupError::IllegalGeneration { given: 0, current: -1 },
        error => error,
    }
}

/// Puts the coordinator's results where no other error stands.
fn fill(response: &mut OffsetCommitResponse, committed: Result<Vec<Vec<Before>>, GroupError>) {
    let open = response.topics.iter_mut().flat_map(|t| &mut t.partitions).filter(|p| p.error_code == 0);
    match committed {
        Ok(results) => open
            .zip(results.into_iter().flatten())
            .for_each(|(partition, result)| partition.error_code = groups::code(&result)),
        Err(error) => {
            let code = groups::code::<()>(&Err(error));
            open.for_each(|partition| partition.error_code = code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::{
        tests::{cluster, with_topic},
        text, topic_name,
    };
    use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;

    fn topic(name: &str, partitions: &[i32]) -> OffsetCommitRequestTopic {
        let partition = |i: &i32| {
            OffsetCommitRequestPartition::default()
                .with_partition_index(*i)
                .with_committed_offset(10 + i64::from(*i))
                .with_committed_metadata((*i > 0).then(|| text("m")))
        };
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(name))
            .with_partitions(partitions.iter().map(partition).collect())
    }

    fn codes(response: &OffsetCommitResponse) -> Vec<Vec<i16>> {
        response.topics.iter().map(|t| t.partitions.iter().map(|p| p.error_code).collect()).collect()
    }

    #[test]
    fn what_is_not_there_is_answered_alone_and_the_rest_goes_on() {
        let image = with_topic(&with_topic(&cluster(1), "a", 2), "b", 1);
        let asked = || vec![topic("a", &[-1, 0, 2, 1]), topic("none", &[0]), topic("b", &[0])];
        let (mut response, topics) = known(&image, asked(), false);
        let shown: Vec<_> = topics
            .iter()
            .map(|t| {
                (&*t.name, t.id, t.partitions.iter().map(|p| (p.index, p.offset, &*p.metadata)).collect::<Vec<_>>())
            })
            .collect();
        let (a, b) = (image.topic("a").unwrap().id, image.topic("b").unwrap().id);
        assert_eq!(shown, [("a", a, vec![(0, 10, ""), (1, 11, "m")]), ("b", b, vec![(0, 10, "")])]);
        let too_large = || Err(GroupError::OffsetMetadataTooLarge { size_bytes: 9, max_bytes: 8 });
        fill(&mut response, Ok(vec![vec![Ok(None), too_large()], vec![Ok(Some(3))]]));
        assert_eq!(codes(&response), [vec![3, 0, 3, 12], vec![3], vec![0]]);

        let (mut response, _) = known(&image, asked(), false);
        fill(&mut response, Err(GroupError::IllegalGeneration { given: 1, current: 2 }));
        assert_eq!(codes(&response), [vec![3, 22, 3, 22], vec![3], vec![22]], "a group's error stands everywhere else");
    }

    #[test]
    fn metadata_fits_every_version_of_offset_fetch() {
        let image = with_topic(&cluster(1), "a", 2);
        let mut asked = topic("a", &[0, 1]);
        for (n, p) in asked.partitions.iter_mut().enumerate() {
            p.committed_metadata = Some(text(&"m".repeat(OFFSET_METADATA_BYTES_MAX + n)));
        }
        let (response, topics) = known(&image, vec![asked], false);
        assert_eq!(codes(&response), [[0, 12]]);
        assert_eq!(topics[0].partitions.iter().map(|p| p.index).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn an_unknown_group_is_a_wrong_generation_to_old_clients() {
        let code = |version| groups::code::<()>(&Err(known_to(version, GroupError::GroupIdNotFound)));
        assert_eq!((code(8), code(9)), (22, 69));
    }

    #[test]
    fn topics_may_be_named_by_id() {
        let image = with_topic(&cluster(1), "a", 1);
        let id = image.topic("a").unwrap().id;
        let named = |id, partitions: &[i32]| topic("", partitions).with_topic_id(id);
        let (response, topics) =
            known(&image, vec![named(id, &[0, 1]), named(Uuid::from_u128(9), &[0]), named(Uuid::nil(), &[0])], true);
        assert_eq!((&*topics[0].name, topics[0].id, topics.len()), ("a", id, 1));
        assert_eq!(codes(&response), [vec![0, 3], vec![100], vec![100]]);
        assert_eq!(response.topics[0].topic_id, id);
    }

    #[test]
    fn nothing_is_left_for_the_coordinator_of_what_is_not_there() {
        let (response, topics) = known(&cluster(1), vec![topic("none", &[0, 1])], false);
        assert!(topics.is_empty());
        assert_eq!(codes(&response), [[3, 3]]);
    }
}
