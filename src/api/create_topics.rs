//! CreateTopics (19), v2–7: makes topics, all those of one request in one proposal.
//!
//! v4: partitions and replication factor may be -1 (here in every version). v5 is flexible and answers with the number of partitions, the replication factor and the settings. v7: the
//! topic's id. A topic that is answered with success takes records at once.

use super::{
    Outcome, Request, describe_configs,
    errors::{Fault, ResponseError},
    reply, topics,
};
use crate::{
    config::{BrokerSettings, validate_topic},
    limits::{PARTITIONS_PER_REQUEST_MAX, TOPICS_PER_REQUEST_MAX},
    metadata::{Image, NewTopic},
};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Checks each topic, creates those that pass, answers each name once.
pub async fn handle(request: Request<'_>, message: CreateTopicsRequest) -> Outcome {
    let broker = request.broker;
    let image = broker.quorum.image();
    let settings = broker.settings();
    let (config, dynamic) = (broker.config(), broker.dynamic());
    let mut planned: Vec<(&str, Result<NewTopic, Fault>)> = Vec::new();
    let mut partitions = 0usize;
    for (topic, duplicate) in once_each(&message.topics) {
        let made = match duplicate {
            _ if planned.len() >= TOPICS_PER_REQUEST_MAX => {
                let why = format!("at most {TOPICS_PER_REQUEST_MAX} topics can be created by one request");
                Err(Fault::new(ResponseError::PolicyViolation, why))
            }
            true => Err(Fault::new(ResponseError::InvalidRequest, "the request names this topic more than once")),
            false => plan(&image, &settings, topic, broker.env.random_uuid(), broker.env.random_u64(), partitions)
                .and_then(|new| match config.check_topic(&new.configs, &dynamic) {
                    Ok(()) => Ok(new),
                    Err(why) => Err(Fault::new(ResponseError::InvalidConfig, why)),
                }),
        };
        partitions += made.as_ref().map_or(0, |new| new.assignments.len());
        planned.push((topic.name.as_str(), made));
    }
    let wanted: Vec<NewTopic> = planned.iter().filter_map(|(_, made)| made.as_ref().ok().cloned()).collect();
    let mut results = match message.validate_only {
        true => vec![Ok(()); wanted.len()],
        false => topics::create(broker, wanted).await,
    }
    .into_iter();
    let answers = planned.into_iter().map(|(name, made)| {
        let made = made.and_then(|new| match results.next() {
            Some(Ok(())) => Ok(new),
            Some(Err(fault)) => Err(fault),
            None => Err(Fault::new(ResponseError::UnknownServerError, "the cluster did not answer for this topic")),
        });
        let result = CreatableTopicResult::default().with_name(topics::topic_name(name));
        match made {
            Ok(new) => {
                let resolved = config.resolve_topic(&new.configs, &dynamic);
                result
                    .with_error_message(None)
                    .with_topic_id(new.id)
                    .with_num_partitions(new.assignments.len() as i32)
                    .with_replication_factor(new.assignments.first().map_or(0, Vec::len) as i16)
                    .with_configs(Some(resolved.iter().map(setting).collect()))
            }
            Err(fault) => {
                result.with_error_code(fault.code()).with_error_message(fault.text()).with_configs(Some(Vec::new()))
            }
        }
    });
    let response = CreateTopicsResponse::default().with_topics(answers.collect());
    Outcome::Reply(reply::message(&request.header, &response))
}

fn setting(resolved: &crate::config::Resolved) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(resolved.definition.name.into())
        .with_value(resolved.value.as_deref().map(topics::text))
        .with_config_source(describe_configs::source_code(resolved.source))
}

/// The topics of a request, each name once in the order asked, with whether it was there more than once.
fn once_each(asked: &[CreatableTopic]) -> Vec<(&CreatableTopic, bool)> {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut once: Vec<(&CreatableTopic, bool)> = Vec::with_capacity(asked.len());
    for topic in asked {
        match places.get(topic.name.as_str()) {
            Some(place) => once[*place].1 = true,
            None => {
                places.insert(topic.name.as_str(), once.len());
                once.push((topic, false));
            }
        }
    }
    once
}

/// What is to be created for `topic`, or why nothing can be. `before` partitions are planned in the same request.
fn plan(
    image: &Image,
    settings: &BrokerSettings,
    topic: &CreatableTopic,
    id: Uuid,
    seed: u64,
    before: usize,
) -> Result<NewTopic, Fault> {
    let name = topic.name.as_str();
    topics::check_name(name)?;
    if image.topic(name).is_some() {
        return Err(Fault::new(ResponseError::TopicAlreadyExists, format!("topic {name} exists")));
    }
    if let Some(other) = image.collision(name) {
        let why = format!("topic {name} collides with topic {other}: '.' and '_' are one in metric names");
        return Err(Fault::new(ResponseError::InvalidTopicException, why));
    }
    let configs = settings_of(&topic.configs)?;
    let assignments = match topic.assignments.is_empty() {
        true => placed(image, settings, topic, seed, before)?,
        false => chosen(image, topic)?,
    };
    if before + assignments.len() > PARTITIONS_PER_REQUEST_MAX {
        return Err(too_many());
    }
    Ok(NewTopic { id, name: name.to_owned(), assignments, configs })
}

fn too_many() -> Fault {
    let why = format!("at most {PARTITIONS_PER_REQUEST_MAX} partitions can be created by one request");
    Fault::new(ResponseError::InvalidPartitions, why)
}

/// Replicas chosen here.
fn placed(
    image: &Image,
    settings: &BrokerSettings,
    topic: &CreatableTopic,
    seed: u64,
    before: usize,
) -> Result<Vec<Vec<i32>>, Fault> {
    let partitions = match topic.num_partitions {
        -1 => settings.num_partitions,
        n if n < 1 => return Err(Fault::new(ResponseError::InvalidPartitions, "a topic has at least one partition")),
        n => n,
    };
    let replication_factor = match topic.replication_factor {
        -1 => settings.default_replication_factor,
        n if n < 1 => {
            let why = "the replication factor is at least 1";
            return Err(Fault::new(ResponseError::InvalidReplicationFactor, why));
        }
        n => n,
    };
    let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
    if before.saturating_add(partitions) > PARTITIONS_PER_REQUEST_MAX {
        return Err(too_many());
    }
    topics::place(image, 0, partitions, usize::try_from(replication_factor).unwrap_or(0), seed)
}

/// Replicas chosen by the client.
fn chosen(image: &Image, topic: &CreatableTopic) -> Result<Vec<Vec<i32>>, Fault> {
    if topic.num_partitions != -1 || topic.replication_factor != -1 {
        let why = "with a manual assignment, the number of partitions and the replication factor must be -1";
        return Err(Fault::new(ResponseError::InvalidRequest, why));
    }
    let count = topic.assignments.len();
    let mut by_partition: Vec<Option<Vec<i32>>> = vec![None; count];
    for assignment in &topic.assignments {
        let index = assignment.partition_index;
        let place = usize::try_from(index).ok().and_then(|i| by_partition.get_mut(i));
        let refuse = |why| Err(Fault::new(ResponseError::InvalidReplicaAssignment, why));
        match place {
            None => return refuse(format!("partition {index} is outside 0 to {}", count - 1)),
            Some(Some(_)) => return refuse(format!("partition {index} is assigned twice")),
            Some(place) => *place = Some(assignment.broker_ids.iter().map(|id| id.0).collect()),
        }
    }
    let assignments: Vec<Vec<i32>> = by_partition.into_iter().flatten().collect();
    topics::check_assignments(image, &assignments, None)?;
    Ok(assignments)
}

fn settings_of(configs: &[CreatableTopicConfig]) -> Result<BTreeMap<String, String>, Fault> {
    let mut settings = BTreeMap::new();
    for config in configs {
        let name = config.name.as_str();
        let Some(value) = &config.value else {
            return Err(Fault::new(ResponseError::InvalidConfig, format!("{name} has no value")));
        };
        validate_topic(name, value).map_err(|why| Fault::new(ResponseError::InvalidConfig, why))?;
        settings.insert(name.to_owned(), value.trim().to_owned());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::topics::tests::{cluster, with_topic},
        config::{Config, Dynamic},
    };
    use kafka_protocol::messages::{BrokerId, create_topics_request::CreatableReplicaAssignment};

    fn asked(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
        let name = topics::topic_name(name);
        CreatableTopic::default().with_name(name).with_num_partitions(partitions).with_replication_factor(replicas)
    }

    fn try_plan(image: &Image, topic: &CreatableTopic) -> Result<NewTopic, ResponseError> {
        let settings = Config::local("/nowhere").set("num.partitions", "3").broker(&Dynamic::default());
        plan(image, &settings, topic, Uuid::from_u128(5), 0, 0).map_err(|fault| fault.error)
    }

    #[test]
    fn defaults_stand_for_minus_one() {
        let new = try_plan(&cluster(1), &asked("t", -1, -1)).unwrap();
        assert_eq!(new.assignments, vec![vec![1]; 3]);
        assert_eq!(try_plan(&cluster(3), &asked("t", 2, 3)).unwrap().assignments.len(), 2);
    }

    #[test]
    fn each_refusal_has_kafkas_code() {
        use ResponseError::*;
        let image = with_topic(&cluster(1), "a.b", 1);
        let with = |name: &str, value: Option<&str>| {
            let config = CreatableTopicConfig::default().with_name(topics::text(name));
            asked("t", 1, 1).with_configs(vec![config.with_value(value.map(topics::text))])
        };
        let by_hand = |parts: &[(i32, &[i32])], count: i32| {
            let assignments = parts.iter().map(|(index, ids)| {
                let ids = ids.iter().map(|id| BrokerId(*id)).collect();
                CreatableReplicaAssignment::default().with_partition_index(*index).with_broker_ids(ids)
            });
            asked("t", count, -1).with_assignments(assignments.collect())
        };
        for (topic, error) in [
            (asked("a.b", 1, 1), TopicAlreadyExists),
            (asked("a_b", 1, 1), InvalidTopicException),
            (asked("a/b", 1, 1), InvalidTopicException),
            (asked("t", 0, 1), InvalidPartitions),
            (asked("t", -2, 1), InvalidPartitions),
            (asked("t", i32::MAX, 1), InvalidPartitions),
            (asked("t", 1, 0), InvalidReplicationFactor),
            (asked("t", 1, 2), InvalidReplicationFactor),
            (with("retention.sm", Some("1")), InvalidConfig),
            (with("retention.ms", Some("-9")), InvalidConfig),
            (with("retention.ms", None), InvalidConfig),
            (by_hand(&[(0, &[1])], 1), InvalidRequest),
            (by_hand(&[(1, &[1])], -1), InvalidReplicaAssignment),
            (by_hand(&[(0, &[1]), (0, &[1])], -1), InvalidReplicaAssignment),
            (by_hand(&[(0, &[])], -1), InvalidReplicaAssignment),
            (by_hand(&[(0, &[2])], -1), InvalidReplicaAssignment),
            (by_hand(&[(0, &[1, 1])], -1), InvalidReplicaAssignment),
        ] {
            assert_eq!(try_plan(&image, &topic).unwrap_err(), error, "{topic:?}");
        }
        let new = try_plan(&image, &by_hand(&[(1, &[1]), (0, &[1])], -1)).unwrap();
        assert_eq!(new.assignments, [[1], [1]]);
        let new = try_plan(&image, &with("retention.ms", Some("-1"))).unwrap();
        assert_eq!(new.configs["retention.ms"], "-1");
    }

    #[test]
    fn a_name_asked_for_twice_is_answered_once() {
        let topics = [asked("a", 1, 1), asked("b", 1, 1), asked("a", 2, 1)];
        let once: Vec<_> = once_each(&topics).into_iter().map(|(t, d)| (t.name.to_string(), d)).collect();
        assert_eq!(once, [("a".to_string(), true), ("b".to_string(), false)]);
    }
}
