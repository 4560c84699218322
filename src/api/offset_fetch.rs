//! OffsetFetch (key 9): what groups have committed.
//!
//! Served: v1–10. v2+ null for everything the group has, and an error of the group at the top (before, at each partition), v3+ throttle time, v5+ leader epochs, v6+ tagged
//! fields, v7+ only stable offsets where asked (nothing is ever unstable yet: there are no transactions), v8+ several groups, each with its error (KIP-709), v9 member epochs (KIP-848), v10
//! topic ids (one that is not there is UNKNOWN_TOPIC_ID).
//! A partition without a commit, or that is not there, is -1 without an error. One named twice is answered once, in its first place. A group that the answer has no room for is told
//! to be asked about anew (COORDINATOR_LOAD_IN_PROGRESS), one that no answer has room for INVALID_REQUEST.

use super::{
    CloseReason, Outcome, Request,
    errors::ResponseError,
    groups::{self, Room, kept},
    reply, topics,
};
use crate::{
    coordinator::group::{Committed, Event, Fetch, FetchTopic, Reply},
    limits::{GROUPS_PER_REQUEST_MAX, OFFSET_METADATA_BYTES_MAX, OFFSETS_PER_REQUEST_MAX},
    metadata::{Image, Topic},
    wire::offset_ids::{OffsetFetchRequest, TOPIC_IDS},
};
use kafka_protocol::messages::{
    self, GroupId, OffsetFetchResponse, TopicName,
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    offset_fetch_response::{
        OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
        OffsetFetchResponseTopic, OffsetFetchResponseTopics,
    },
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

/// First version with several groups.
const GROUPS: i16 = 8;
/// First version with tagged fields, and with texts of any length.
const TAGGED: i16 = 6;

/// One group asked about.
struct Wanted {
    group: GroupId,
    /// `None` = everything.
    topics: Option<Vec<WantedTopic>>,
}

/// By name; since v10 by id, the name of which is looked up.
struct WantedTopic {
    name: TopicName,
    id: Option<Uuid>,
    partitions: Vec<i32>,
}

pub(super) async fn handle(request: Request<'_>, OffsetFetchRequest(message): OffsetFetchRequest) -> Outcome {
    let (broker, header) = (request.broker.clone(), request.header);
    let version = header.api_version;
    // v1 has no null (the decoder takes it).
    if version < 2 && message.topics.is_none() {
        return Outcome::Close(CloseReason::Unreadable("null topics".into()));
    }
    let wanted = wanted(message, version);
    let partitions = |w: &Wanted| w.topics.iter().flatten().map(|topic| topic.partitions.len()).sum::<usize>();
    let named = wanted.iter().map(partitions).sum::<usize>();
    if wanted.len() > GROUPS_PER_REQUEST_MAX || named > OFFSETS_PER_REQUEST_MAX {
        return Outcome::Close(CloseReason::Unreadable(format!("{} groups, {named} partitions", wanted.len())));
    }
    let image = broker.quorum.image();
    let mut left = wanted.into_iter().map(Wanted::distinct).collect::<Vec<_>>().into_iter();
    let mut asked = groups::ask_some(&broker, &mut left, |w| question(w, &image)).await;
    Outcome::Later(Box::pin(async move {
        let mut answers = Vec::with_capacity(asked.len() + left.len());
        let mut room = Room::new();
        while !asked.is_empty() {
            for (wanted, asked) in asked {
                let found = groups::answer(asked, |reply| match reply {
                    Reply::Fetch(result) => Some(result),
                    _ => None,
                });
                let found = found.await.map_err(|e| groups::fetch_error(&e));
                let found = found.and_then(|found| room.take(size_bytes(&found)).map(|()| found));
                answers.push(one(wanted, found, &image, version));
            }
            asked = groups::ask_some(&broker, &mut left, |w| question(w, &image)).await;
        }
        reply::message(&header, &response(answers, version))
    }))
}

/// About what offsets take in the answer, their topics aside (of which the request or the log bounds the number).
fn size_bytes(found: &[Committed]) -> usize {
    found.iter().map(|c| 100 + c.metadata.len()).sum()
}

fn wanted(message: messages::OffsetFetchRequest, version: i16) -> Vec<Wanted> {
    if version < GROUPS {
        let topic =
            |t: OffsetFetchRequestTopic| WantedTopic { name: t.name, id: None, partitions: t.partition_indexes };
        let topics = message.topics.map(|list| list.into_iter().map(topic).collect());
        return vec![Wanted { group: message.group_id, topics }];
    }
    let topic = |t: OffsetFetchRequestTopics| WantedTopic {
        name: t.name,
        id: (version >= TOPIC_IDS).then_some(t.topic_id),
        partitions: t.partition_indexes,
    };
    let one = |group: OffsetFetchRequestGroup| Wanted {
        group: group.group_id,
        topics: group.topics.map(|list| list.into_iter().map(topic).collect()),
    };
    message.groups.into_iter().map(one).collect()
}

impl Wanted {
    /// Each partition once: naming one again costs the asker 4 bytes, and may cost the answer all that was committed with it. A topic left with none goes.
    fn distinct(mut self) -> Wanted {
        let mut seen: HashMap<(TopicName, Option<Uuid>), HashSet<i32>> = HashMap::new();
        if let Some(topics) = &mut self.topics {
            topics.retain_mut(|topic| {
                let named = topic.partitions.len();
                let seen = seen.entry((topic.name.clone(), topic.id)).or_default();
                topic.partitions.retain(|&partition| seen.insert(partition));
                named == 0 || !topic.partitions.is_empty()
            });
        }
        self
    }
}

impl WantedTopic {
    fn there<'a>(&self, image: &'a Image) -> Option<&'a Arc<Topic>> {
        match self.id {
            Some(id) => image.topic_by_id(id),
            None => image.topic(&self.name),
        }
    }
}

fn question(wanted: &Wanted, image: &Image) -> (Arc<str>, Event) {
    let group = kept(&wanted.group);
    let topic = |wanted: &WantedTopic| match wanted.there(image) {
        Some(topic) => FetchTopic { name: topic.name.clone(), id: topic.id, partitions: wanted.partitions.clone() },
        None => FetchTopic { name: kept(&wanted.name), id: Uuid::nil(), partitions: Vec::new() },
    };
    let fetch =
        Fetch { group: group.clone(), topics: wanted.topics.as_ref().map(|list| list.iter().map(topic).collect()) };
    (group, Event::Fetch(fetch))
}

/// The answer about one group.
fn one(
    wanted: Wanted,
    found: Result<Vec<Committed>, ResponseError>,
    image: &Image,
    version: i16,
) -> OffsetFetchResponseGroup {
    let answer = OffsetFetchResponseGroup::default().with_group_id(wanted.group);
    let answer = match &found {
        Ok(_) => answer,
        Err(error) => answer.with_error_code(error.code()),
    };
    let topics = match (wanted.topics, found) {
        (Some(topics), Ok(found)) => named(topics, &found, image, version),
        (None, Ok(found)) => all(found, image, version),
        // Before v2 the error has no other place than the partitions.
        (Some(topics), Err(_)) if version < 2 => named(topics, &[], image, version),
        (_, Err(_)) => Vec::new(),
    };
    answer.with_topics(topics)
}

/// Every partition asked for, in the order asked.
fn named(topics: Vec<WantedTopic>, found: &[Committed], image: &Image, version: i16) -> Vec<OffsetFetchResponseTopics> {
    let found: HashMap<(&str, i32), &Committed> = found.iter().map(|c| ((&*c.topic, c.partition), c)).collect();
    let topic = |wanted: WantedTopic| {
        let there = wanted.there(image);
        let name = there.map_or("", |topic| &topic.name);
        let code = match (there, wanted.id) {
            (None, Some(_)) => ResponseError::UnknownTopicId.code(),
            _ => 0,
        };
        let partition = |&index: &i32| match partition(index, found.get(&(name, index)).copied(), version) {
            partition if code == 0 => partition,
            partition => partition.with_error_code(code),
        };
        let partitions = wanted.partitions.iter().map(partition).collect();
        let answer = OffsetFetchResponseTopics::default().with_partitions(partitions);
        answer.with_topic_id(wanted.id.unwrap_or_default()).with_name(wanted.name)
    };
    topics.into_iter().map(topic).collect()
}

/// Everything there is, by topic and partition; what was committed to topics that are gone is about to go.
fn all(mut found: Vec<Committed>, image: &Image, version: i16) -> Vec<OffsetFetchResponseTopics> {
    let there = |c: &Committed| image.topic(&c.topic).is_some_and(|t| c.topic_id.is_nil() || t.id == c.topic_id);
    found.retain(there);
    found.sort_unstable_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    let topic = |list: &[Committed]| {
        let partitions = list.iter().map(|c| partition(c.partition, Some(c), version)).collect();
        let answer = OffsetFetchResponseTopics::default().with_partitions(partitions);
        match image.topic(&list[0].topic) {
            Some(topic) if version >= TOPIC_IDS => answer.with_topic_id(topic.id),
            _ => answer.with_name(topics::topic_name(&list[0].topic)),
        }
    };
    found.chunk_by(|a, b| a.topic == b.topic).map(topic).collect()
}

fn partition(index: i32, found: Option<&Committed>, version: i16) -> OffsetFetchResponsePartitions {
    let answer = OffsetFetchResponsePartitions::default().with_partition_index(index);
    let none = |answer: OffsetFetchResponsePartitions| answer.with_committed_offset(-1).with_committed_leader_epoch(-1);
    match found {
        // Not committed here, but in a log that may have come from elsewhere. Half of it would pass for the whole.
        Some(committed) if version < TAGGED && committed.metadata.len() > OFFSET_METADATA_BYTES_MAX => {
            none(answer).with_error_code(ResponseError::UnknownServerError.code())
        }
        Some(committed) => answer
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.leader_epoch)
            .with_metadata(Some(topics::text(&committed.metadata))),
        None => none(answer),
    }
}

fn response(mut answers: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    if version >= GROUPS {
        return OffsetFetchResponse::default().with_groups(answers);
    }
    let group = answers.pop().unwrap_or_default();
    let error_code = group.error_code;
    let topic = |topic: OffsetFetchResponseTopics| {
        let partition = |p: OffsetFetchResponsePartitions| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_committed_offset(p.committed_offset)
                .with_committed_leader_epoch(p.committed_leader_epoch)
                .with_metadata(p.metadata)
                .with_error_code(if error_code != 0 { error_code } else { p.error_code })
        };
        let partitions = topic.partitions.into_iter().map(partition).collect();
        OffsetFetchResponseTopic::default().with_name(topic.name).with_partitions(partitions)
    };
    let response = OffsetFetchResponse::default().with_topics(group.topics.into_iter().map(topic).collect());
    if version >= 2 { response.with_error_code(error_code) } else { response }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::{
        tests::{cluster, with_topic},
        topic_name,
    };
    use bytes::BytesMut;
    use kafka_protocol::protocol::Encodable;

    fn committed(topic: &str, topic_id: Uuid, partition: i32, offset: i64) -> Committed {
        let topic = topic.into();
        Committed { topic, topic_id, partition, offset, leader_epoch: 3, metadata: "m".into(), commit_ms: 1 }
    }

    fn ask(topics: Option<&[(&str, &[i32])]>) -> Wanted {
        let topic = |(name, partitions): &(&str, &[i32])| WantedTopic {
            name: topic_name(name),
            id: None,
            partitions: partitions.to_vec(),
        };
        let topics = topics.map(|list| list.iter().map(topic).collect());
        Wanted { group: GroupId(topics::text("g")), topics }
    }

    /// Partition, offset, leader epoch.
    type Shown = Vec<(i32, i64, i32)>;

    fn shown(group: &OffsetFetchResponseGroup) -> Vec<(String, Shown)> {
        let partition =
            |p: &OffsetFetchResponsePartitions| (p.partition_index, p.committed_offset, p.committed_leader_epoch);
        let topic = |t: &OffsetFetchResponseTopics| (t.name.to_string(), t.partitions.iter().map(partition).collect());
        group.topics.iter().map(topic).collect()
    }

    #[test]
    fn each_partition_asked_for_is_answered_in_the_order_asked() {
        let image = with_topic(&cluster(1), "a", 3);
        let id = image.topic("a").unwrap().id;
        let found = Ok(vec![committed("a", id, 0, 5), committed("a", id, 2, 7)]);
        let answer = one(ask(Some(&[("none", &[0]), ("a", &[2, 1, 0])])), found, &image, 8);
        let expected = [("none".into(), vec![(0, -1, -1)]), ("a".to_string(), vec![(2, 7, 3), (1, -1, -1), (0, 5, 3)])];
        assert_eq!((answer.error_code, &shown(&answer)[..]), (0, &expected[..]));
        assert_eq!(answer.topics[0].partitions[0].metadata.as_deref(), Some(""));
        assert_eq!(answer.topics[1].partitions[0].metadata.as_deref(), Some("m"));
    }

    #[test]
    fn a_partition_named_twice_is_answered_once() {
        let named = |topics| {
            let wanted = ask(Some(topics)).distinct();
            let topic = |t: &WantedTopic| (t.name.to_string(), t.partitions.clone());
            wanted.topics.iter().flatten().map(topic).collect::<Vec<_>>()
        };
        let a = |partitions: &[i32]| ("a".to_string(), partitions.to_vec());
        assert_eq!(
            named(&[("a", &[1, 0, 1]), ("b", &[]), ("a", &[0, 2]), ("a", &[1])]),
            [a(&[1, 0]), ("b".to_string(), vec![]), a(&[2])]
        );
        assert_eq!(named(&[("a", &[7; 100_000])]), [a(&[7])]);
        let id = |n| WantedTopic { name: TopicName::default(), id: Some(Uuid::from_u128(n)), partitions: vec![0] };
        let by_id = Wanted { topics: Some(vec![id(1), id(2), id(1)]), ..ask(None) }.distinct();
        let ids: Vec<_> = by_id.topics.iter().flatten().map(|t| t.id.unwrap().as_u128()).collect();
        assert_eq!(ids, [1, 2]);
    }

    #[test]
    fn what_offsets_take_in_the_answer_is_counted() {
        let mut long = committed("a", Uuid::nil(), 0, 1);
        long.metadata = "m".repeat(10_000).into();
        let found = vec![long; 50];
        let counted = size_bytes(&found);
        let partitions = found.iter().map(|c| partition(c.partition, Some(c), 8)).collect();
        let topic = OffsetFetchResponseTopics::default().with_partitions(partitions);
        let group = OffsetFetchResponseGroup::default().with_topics(vec![topic]);
        let encoded = response(vec![group], 8).compute_size(8).unwrap();
        assert!(counted >= encoded && counted < encoded + 50 * 100, "{counted} counted, {encoded} encoded");
    }

    #[test]
    fn metadata_that_a_version_has_no_room_for_is_an_error_of_its_partition() {
        let image = with_topic(&cluster(1), "a", 2);
        let id = image.topic("a").unwrap().id;
        for version in 1..=10 {
            for (length, fits) in [(32_767, true), (32_768, version >= 6)] {
                let mut long = committed("a", id, 0, 5);
                long.metadata = "m".repeat(length).into();
                let topic = WantedTopic {
                    name: topic_name("a"),
                    id: (version >= TOPIC_IDS).then_some(id),
                    partitions: vec![0, 1],
                };
                for topics in [None, Some(vec![topic])] {
                    let asked = Wanted { topics, ..ask(None) };
                    let found = Ok(vec![long.clone(), committed("a", id, 1, 6)]);
                    let response = response(vec![one(asked, found, &image, version)], version);
                    let (old, new) = (response.topics.iter(), response.groups.iter().flat_map(|g| &g.topics));
                    let old = old.flat_map(|t| &t.partitions).map(|p| (p.error_code, p.committed_offset));
                    let new = new.flat_map(|t| &t.partitions).map(|p| (p.error_code, p.committed_offset));
                    let first = if fits { (0, 5) } else { (-1, -1) };
                    assert_eq!(old.chain(new).collect::<Vec<_>>(), [first, (0, 6)], "v{version}, {length} bytes");
                    assert!(response.encode(&mut BytesMut::new(), version).is_ok(), "v{version}, {length} bytes");
                }
            }
        }
    }

    #[test]
    fn everything_is_what_belongs_to_topics_that_are_there() {
        let image = with_topic(&with_topic(&cluster(1), "a", 3), "b", 1);
        let (a, nil) = (image.topic("a").unwrap().id, Uuid::nil());
        let found = vec![
            committed("b", nil, 0, 1),
            committed("a", a, 2, 7),
            committed("a", a, 0, 5),
            committed("a", Uuid::from_u128(99), 1, 9),
            committed("gone", Uuid::from_u128(98), 0, 9),
        ];
        let answer = one(ask(None), Ok(found), &image, 8);
        let expected = [("a".to_string(), vec![(0, 5, 3), (2, 7, 3)]), ("b".to_string(), vec![(0, 1, 3)])];
        assert_eq!(shown(&answer), expected);
    }

    #[test]
    fn topics_may_be_named_by_id() {
        let image = with_topic(&cluster(1), "a", 1);
        let id = image.topic("a").unwrap().id;
        let named = |id| WantedTopic { name: TopicName::default(), id: Some(id), partitions: vec![0, 1] };
        let asked = Wanted { topics: Some(vec![named(id), named(Uuid::from_u128(9))]), ..ask(None) };
        let (_, Event::Fetch(fetch)) = question(&asked, &image) else { panic!() };
        let shown: Vec<_> = fetch.topics.iter().flatten().map(|t| (&*t.name, t.id, t.partitions.len())).collect();
        assert_eq!(shown, [("a", id, 2), ("", Uuid::nil(), 0)]);
        let answer = one(asked, Ok(vec![committed("a", id, 0, 5)]), &image, 10);
        let topic = |t: &OffsetFetchResponseTopics| {
            let partition = |p: &OffsetFetchResponsePartitions| (p.committed_offset, p.error_code);
            (t.topic_id, t.partitions.iter().map(partition).collect::<Vec<_>>())
        };
        let shown: Vec<_> = answer.topics.iter().map(topic).collect();
        assert_eq!(shown, [(id, vec![(5, 0), (-1, 0)]), (Uuid::from_u128(9), vec![(-1, 100), (-1, 100)])]);
        let answer = one(ask(None), Ok(vec![committed("a", id, 0, 5)]), &image, 10);
        assert_eq!(topic(&answer.topics[0]), (id, vec![(5, 0)]));
        assert!(answer.topics[0].name.is_empty());
    }

    #[test]
    fn an_error_of_the_group_stands_where_the_version_has_room_for_it() {
        let failed = |version| {
            let answer = one(
                ask(Some(&[("a", &[0, 1])])),
                Err(ResponseError::NotCoordinator),
                &with_topic(&cluster(1), "a", 3),
                version,
            );
            response(vec![answer], version)
        };
        let old = failed(1);
        let codes: Vec<_> = old.topics[0].partitions.iter().map(|p| (p.committed_offset, p.error_code)).collect();
        assert_eq!((old.error_code, &codes[..]), (0, &[(-1, 16), (-1, 16)][..]));
        for version in 2..GROUPS {
            let top = failed(version);
            assert_eq!((top.error_code, top.topics.len()), (16, 0), "v{version}");
        }
        for version in GROUPS..=9 {
            let own = failed(version);
            let group = &own.groups[0];
            assert_eq!((own.error_code, group.error_code, group.topics.len(), &**group.group_id), (0, 16, 0, "g"));
        }
    }
}
