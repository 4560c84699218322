//! The scenario: what is asked, in this order. It never sleeps: where Kafka lets a change take effect behind its answer, it asks until it has.

mod by_id;
mod configs;
mod data;
mod fetch;
mod groups;
mod members;
mod newer;
mod offsets;
mod rebalances;
mod topics;
mod versions;

use super::session::Session;
use crate::wire::{string, topic_name};
use kafka_protocol::messages::{
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    metadata_request::MetadataRequestTopic,
    *,
};
use uuid::Uuid;

/// Time of the records written: a fixed one, so that their bytes are the same for all time.
const T0: i64 = 1_700_000_000_000;

pub fn run(s: &mut Session) {
    versions::run(s);
    topics::run(s);
    configs::run(s);
    data::run(s);
    fetch::run(s);
    groups::find(s);
    members::run(s);
    rebalances::run(s);
    offsets::run(s);
    groups::run(s);
    topics::delete(s);
}

fn creatable(name: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    let topic = CreatableTopic::default().with_name(topic_name(name));
    topic.with_num_partitions(partitions).with_replication_factor(replicas)
}

fn config(name: &str, value: Option<&str>) -> CreatableTopicConfig {
    CreatableTopicConfig::default().with_name(string(name)).with_value(value.map(string))
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000)
}

fn by_name(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

fn metadata(topics: Vec<MetadataRequestTopic>) -> MetadataRequest {
    MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(false)
}

/// Creates a topic beside the comparison, waits until it is led and gives its id, which is called by its name.
fn topic(s: &mut Session, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
    let configs = configs.iter().map(|(k, v)| config(k, Some(v))).collect();
    s.quiet(7, &create(vec![creatable(name, partitions, 1).with_configs(configs)]));
    led(s, name, partitions)
}

/// Waits until a topic has this many partitions with leaders; its id, which is called by the topic's name.
fn led(s: &mut Session, name: &str, partitions: i32) -> Uuid {
    let found = s.until(13, &metadata(vec![by_name(name)]), |r| {
        let all = &r.topics[0].partitions;
        all.len() == partitions as usize && all.iter().all(|p| p.error_code == 0)
    });
    let id = found.topics[0].topic_id;
    s.bind(name, id);
    id
}

/// Waits until a topic is gone.
fn gone(s: &mut Session, name: &str) {
    s.until(13, &metadata(vec![by_name(name)]), |r| r.topics[0].error_code == 3);
}
