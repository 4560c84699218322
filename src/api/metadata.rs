//! Metadata (3), v0–13: brokers, topics, who leads.
//!
//! v0: no topics named = all. v1: null = all, empty = none; controller, rack, internal. v2: cluster id. v4: clients may forbid auto-creation (before, they allow it).
//! v5: offline replicas. v7: leader epochs. v8: authorized operations (of the cluster until v10). v9 is flexible. v10: topic ids in the answer; v12: in the question. v13: error at the
//! top. A topic asked for is never left out. One created on demand is answered at once with its leader (Kafka answers LEADER_NOT_AVAILABLE first).

use super::{
    Outcome, Request,
    endpoints::endpoints,
    errors::{Fault, ResponseError},
    reply, topics,
};
use crate::{
    broker::{
        Broker,
        changes::ChangeError,
        topics::{create_planned, place},
    },
    limits::{PARTITIONS_PER_REQUEST_MAX, TOPICS_PER_REQUEST_MAX},
    metadata::{Image, NewTopic, Refusal, Topic},
};
use kafka_protocol::messages::{
    BrokerId, MetadataRequest, MetadataResponse,
    metadata_request::MetadataRequestTopic,
    metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic},
};
use std::collections::{BTreeMap, HashSet};
use uuid::Uuid;

/// Answers from the image, after creating what is missing and may be created.
pub async fn handle(request: Request<'_>, message: MetadataRequest) -> Outcome {
    let broker = request.broker;
    let version = request.header.api_version;
    let all = match &message.topics {
        None => true,
        Some(topics) => version == 0 && topics.is_empty(),
    };
    let asked = message.topics.unwrap_or_default();
    let mut faults = BTreeMap::new();
    if !all && message.allow_auto_topic_creation && broker.settings().auto_create_topics {
        faults = create_missing(broker, &asked).await;
    }
    let image = broker.quorum.image();
    let operations =
        if message.include_topic_authorized_operations { topics::TOPIC_OPERATIONS } else { topics::NOT_ASKED };
    let shown = match all {
        true => image.topics.values().map(|t| topic(&image, t, operations)).collect(),
        false => answer(&image, &asked, version, &faults, operations),
    };
    let brokers = endpoints(&image, &broker.config(), request.connection).into_iter().filter(|e| !e.fenced).map(|e| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(e.node_id))
            .with_host(e.host.into())
            .with_port(e.port.into())
            .with_rack(e.rack.map(Into::into))
    });
    let mut response = MetadataResponse::default()
        .with_brokers(brokers.collect())
        .with_cluster_id(Some(topics::text(&image.cluster_id)))
        .with_controller_id(BrokerId(broker.config().node_id))
        .with_topics(shown);
    if message.include_cluster_authorized_operations {
        response.cluster_authorized_operations = topics::CLUSTER_OPERATIONS;
    }
    Outcome::Reply(reply::message(&request.header, &response))
}

/// Creates the topics asked for by name that do not exist, in one proposal. What went wrong, by name.
async fn create_missing(broker: &Broker, asked: &[MetadataRequestTopic]) -> BTreeMap<String, Fault> {
    let image = broker.quorum.image();
    let missing = missing(&image, asked);
    if missing.is_empty() {
        return BTreeMap::new();
    }
    let settings = broker.settings();
    let partitions = usize::try_from(settings.num_partitions).unwrap_or(1);
    let replicas = usize::try_from(settings.default_replication_factor).unwrap_or(1);
    let most = (PARTITIONS_PER_REQUEST_MAX / partitions.max(1)).clamp(1, TOPICS_PER_REQUEST_MAX);
    let mut faults = BTreeMap::new();
    let mut wanted = Vec::new();
    // What is over the bound stays unknown; the client asks again.
    for name in missing.into_iter().take(most) {
        match place(&image, 0, partitions, replicas, broker.env.random_u64()) {
            Ok(assignments) => {
                let name = name.to_owned();
                wanted.push(NewTopic { id: broker.env.random_uuid(), name, assignments, configs: BTreeMap::new() });
            }
            Err(error) => drop(faults.insert(name.to_owned(), error.into())),
        }
    }
    let names: Vec<String> = wanted.iter().map(|t| t.name.clone()).collect();
    for (name, result) in names.into_iter().zip(create_planned(broker, wanted).await) {
        match result {
            // Another client was first: then it is there.
            Ok(()) | Err(ChangeError::Refused(Refusal::TopicExists)) => {}
            Err(error) => drop(faults.insert(name, error.into())),
        }
    }
    faults
}

/// Names asked for that could be created: valid, not there, not internal (those come with their coordinator), each once.
fn missing<'a>(image: &Image, asked: &'a [MetadataRequestTopic]) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let names = asked.iter().filter(|t| t.topic_id.is_nil()).filter_map(|t| t.name.as_ref()).map(|name| name.as_str());
    names
        .filter(|name| image.topic(name).is_none() && topics::check_name(name).is_ok() && !topics::is_internal(name))
        .filter(|name| seen.insert(*name))
        .collect()
}

/// One answer for each topic asked for, each once, in the order asked.
fn answer(
    image: &Image,
    asked: &[MetadataRequestTopic],
    version: i16,
    faults: &BTreeMap<String, Fault>,
    operations: i32,
) -> Vec<MetadataResponseTopic> {
    let mut seen = HashSet::new();
    let mut shown = Vec::with_capacity(asked.len());
    for wanted in asked {
        let name = wanted.name.as_ref().map(|name| name.as_str());
        if !seen.insert((name, wanted.topic_id)) {
            continue;
        }
        shown.push(match name {
            // Ids in the question are known since v12 only.
            _ if version < 12 && (name.is_none() || !wanted.topic_id.is_nil()) => {
                failed(ResponseError::InvalidRequest, name, wanted.topic_id, version)
            }
            _ if !wanted.topic_id.is_nil() => match image.topic_by_id(wanted.topic_id) {
                Some(found) => topic(image, found, operations),
                None => failed(ResponseError::UnknownTopicId, None, wanted.topic_id, version),
            },
            None => failed(ResponseError::InvalidRequest, None, wanted.topic_id, version),
            Some(name) => match image.topic(name) {
                Some(found) => topic(image, found, operations),
                None => failed(unknown(name, faults), Some(name), Uuid::nil(), version),
            },
        });
    }
    shown
}

fn unknown(name: &str, faults: &BTreeMap<String, Fault>) -> ResponseError {
    match (faults.get(name), topics::check_name(name)) {
        (Some(fault), _) => fault.error,
        (None, Err(ChangeError::InvalidName(_))) => ResponseError::InvalidTopicException,
        (None, _) => ResponseError::UnknownTopicOrPartition,
    }
}

fn failed(error: ResponseError, name: Option<&str>, id: Uuid, version: i16) -> MetadataResponseTopic {
    // A null name exists since v12.
    let name = if version < 12 { Some(name.unwrap_or("")) } else { name };
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(name.map(topics::topic_name))
        .with_topic_id(id)
        .with_is_internal(name.is_some_and(topics::is_internal))
}

fn topic(image: &Image, topic: &Topic, operations: i32) -> MetadataResponseTopic {
    let partition = |(index, p): (usize, &crate::metadata::PartitionFacts)| {
        let (error, leader) = topics::leader(image, p);
        MetadataResponsePartition::default()
            .with_error_code(error)
            .with_partition_index(index as i32)
            .with_leader_id(leader)
            .with_leader_epoch(p.leader_epoch)
            .with_replica_nodes(topics::ids(&p.replicas))
            .with_isr_nodes(topics::ids(&p.isr))
            .with_offline_replicas(topics::offline(image, p))
    };
    MetadataResponseTopic::default()
        .with_name(Some(topics::topic_name(&topic.name)))
        .with_topic_id(topic.id)
        .with_is_internal(topics::is_internal(&topic.name))
        .with_partitions(topic.partitions.iter().enumerate().map(partition).collect())
        .with_topic_authorized_operations(operations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::topics::tests::{cluster, with_topic};

    fn by(name: Option<&str>, id: Uuid) -> MetadataRequestTopic {
        MetadataRequestTopic::default().with_name(name.map(topics::topic_name)).with_topic_id(id)
    }

    fn codes(image: &Image, asked: &[MetadataRequestTopic], version: i16) -> Vec<(Option<String>, Uuid, i16)> {
        let shown = answer(image, asked, version, &BTreeMap::new(), topics::NOT_ASKED);
        shown.into_iter().map(|t| (t.name.map(|n| n.to_string()), t.topic_id, t.error_code)).collect()
    }

    #[test]
    fn a_topic_asked_for_is_never_left_out() {
        let image = with_topic(&cluster(1), "a", 2);
        let id = image.topic("a").unwrap().id;
        let (nil, other) = (Uuid::nil(), Uuid::from_u128(77));
        let asked = [by(Some("a"), nil), by(Some("b"), nil), by(Some("b/c"), nil), by(Some("a"), nil)];
        let named = |n: &str| Some(n.to_string());
        let expected = [(named("a"), id, 0), (named("b"), nil, 3), (named("b/c"), nil, 17)];
        assert_eq!(codes(&image, &asked, 13), expected);
        assert_eq!(codes(&image, &asked, 1), expected);
        let asked = [by(None, id), by(None, other), by(None, nil)];
        assert_eq!(codes(&image, &asked, 12), [(named("a"), id, 0), (None, other, 100), (None, nil, 42)]);
        assert_eq!(codes(&image, &[by(None, id)], 10), [(named(""), id, 42)]);
    }

    #[test]
    fn only_valid_names_that_are_not_there_are_created() {
        let image = with_topic(&cluster(1), "a", 2);
        let nil = Uuid::nil();
        let names = ["a", "b", "b", "c/d", "__consumer_offsets", "__cluster_metadata", "e"];
        let mut asked: Vec<_> = names.iter().map(|name| by(Some(name), nil)).collect();
        asked.push(by(None, Uuid::from_u128(9)));
        assert_eq!(missing(&image, &asked), ["b", "e"]);
    }

    #[test]
    fn a_partition_says_who_leads_and_who_is_away() {
        let image = with_topic(&cluster(1), "a", 1);
        let mut t = (**image.topic("a").unwrap()).clone();
        let mut p = t.partitions[0].clone();
        p.replicas = [1, 9].into();
        let away = crate::metadata::PartitionFacts { leader: 9, ..p.clone() };
        t.partitions = [p, away].into();
        let shown = topic(&image, &t, topics::TOPIC_OPERATIONS);
        let [led, not] = &shown.partitions[..] else { panic!("{shown:?}") };
        assert_eq!((led.error_code, led.leader_id.0, led.offline_replicas.len()), (0, 1, 1));
        assert_eq!((not.error_code, not.leader_id.0, not.partition_index), (5, -1, 1));
        assert_eq!(shown.topic_authorized_operations, 3576);
    }
}
