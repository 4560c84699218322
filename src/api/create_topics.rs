//! CreateTopics (19), v2–7: makes topics, all those of one request in one proposal.
//!
//! v4: partitions and replication factor may be -1 (here in every version). v5 is flexible and answers with the number of partitions, the replication factor and the settings. v7: the
//! topic's id. A topic that is answered with success takes records at once.

use super::{Outcome, Request, describe_configs, errors::Fault, reply, topics};
use crate::broker::topics::{Wanted, create};
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse,
    create_topics_request::CreatableTopic,
    create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
};

/// Checks each topic, creates those that pass, answers each name once.
pub async fn handle(request: Request<'_>, message: CreateTopicsRequest) -> Outcome {
    let broker = request.broker;
    let (config, dynamic) = (broker.config(), broker.dynamic());
    let asked: Vec<Wanted<'_>> = message.topics.iter().map(wanted).collect();
    let answers = create(broker, &asked, message.validate_only).await.into_iter().map(|(name, made)| {
        let result = CreatableTopicResult::default().with_name(topics::topic_name(name));
        match made.map_err(Fault::from) {
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

fn wanted(topic: &CreatableTopic) -> Wanted<'_> {
    let replicas = topic.assignments.iter().map(|a| (a.partition_index, a.broker_ids.iter().map(|id| id.0).collect()));
    Wanted {
        name: topic.name.as_str(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: replicas.collect(),
        configs: topic.configs.iter().map(|c| (c.name.as_str(), c.value.as_deref())).collect(),
    }
}

fn setting(resolved: &crate::config::Resolved) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(resolved.definition.name.into())
        .with_value(resolved.value.as_deref().map(topics::text))
        .with_config_source(describe_configs::source_code(resolved.source))
}
