//! The control plane: topics, partitions, settings, the cluster, in every version served.

use crate::{
    support::{Options, temp},
    wire::{ANYONE, Client, batch, code, now_ms, produce_request, string, topic_name},
};
use kafka_protocol::messages::{
    create_partitions_request::CreatePartitionsTopic,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    delete_topics_request::DeleteTopicState,
    describe_configs_request::DescribeConfigsResource,
    describe_configs_response::DescribeConfigsResourceResult,
    describe_topic_partitions_request as pages,
    incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    metadata_request::MetadataRequestTopic,
    *,
};
use uuid::Uuid;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const SET: i8 = 0;
const DELETE: i8 = 1;

fn metadata(names: &[&str], create: bool) -> MetadataRequest {
    let topic = |name: &&str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    let topics = names.iter().map(topic).collect();
    MetadataRequest::default().with_topics(Some(topics)).with_allow_auto_topic_creation(create)
}

fn creatable(name: &str, partitions: i32) -> CreatableTopic {
    let topic = CreatableTopic::default().with_name(topic_name(name));
    topic.with_num_partitions(partitions).with_replication_factor(1)
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000)
}

/// Error codes of the topics of a metadata reply, by name.
fn known(c: &mut Client, names: &[&str]) -> Vec<i16> {
    c.call(13, &metadata(names, false)).topics.iter().map(|t| t.error_code).collect()
}

fn described(c: &mut Client, version: i16, kind: i8, name: &str) -> (i16, Vec<DescribeConfigsResourceResult>) {
    let resource = DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(string(name));
    let resource = resource.with_configuration_keys(None);
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    let result = c.call(version, &request).results.remove(0);
    (result.error_code, result.configs)
}

/// Value and source of one setting.
fn setting(c: &mut Client, kind: i8, resource: &str, name: &str) -> (Option<String>, i8) {
    let (error, configs) = described(c, 4, kind, resource);
    assert_eq!(error, 0);
    let found = configs.iter().find(|e| e.name.as_str() == name).unwrap_or_else(|| panic!("no {name}"));
    (found.value.as_ref().map(|v| v.to_string()), found.config_source)
}

fn alter(c: &mut Client, kind: i8, resource: &str, ops: &[(&str, i8, Option<&str>)], validate_only: bool) -> i16 {
    let config = |(name, op, value): &(&str, i8, Option<&str>)| {
        let config = AlterableConfig::default().with_name(string(name)).with_config_operation(*op);
        config.with_value(value.map(string))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(resource))
        .with_configs(ops.iter().map(config).collect());
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate_only);
    let versions = if validate_only { 0..=1 } else { 1..=1 };
    versions.map(|version| c.call(version, &request).responses[0].error_code).next_back().unwrap()
}

#[test]
fn metadata_says_what_there_is_in_every_version() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 2, &[]), 0);
    let port: i32 = broker.kafka.rsplit(':').next().unwrap().parse().unwrap();
    for version in 0..=13 {
        // Before v1 no topics are all, since then null is; before v4 there is no forbidding.
        let all = if version == 0 { Some(Vec::new()) } else { None };
        let reply = c.call(version, &MetadataRequest::default().with_topics(all));
        let [node] = &reply.brokers[..] else { panic!("{reply:?}") };
        assert_eq!((node.node_id.0, node.host.as_str(), node.port), (1, "127.0.0.1", port), "v{version}");
        let [topic] = &reply.topics[..] else { panic!("{reply:?}") };
        assert_eq!((topic.name.as_ref().unwrap().as_str(), topic.partitions.len()), ("a", 2));
        assert!(topic.partitions.iter().all(|p| p.leader_id.0 == 1 && p.error_code == 0 && p.isr_nodes.len() == 1));
        assert!(version < 1 || reply.controller_id.0 == 1);
        assert_eq!(reply.cluster_id.is_some_and(|id| id.len() == 22), version >= 2);
        assert_eq!(topic.topic_id.is_nil(), version < 10);
        if version >= 1 {
            assert_eq!(c.call(version, &metadata(&[], true)).topics.len(), 0, "none asked for in v{version}");
        }
    }
    let asked = metadata(&["a"], false).with_include_topic_authorized_operations(true);
    let reply = c.call(8, &asked.clone().with_include_cluster_authorized_operations(true));
    assert_eq!((reply.topics[0].topic_authorized_operations, reply.cluster_authorized_operations), (3576, 8096));
    assert_eq!(c.call(13, &metadata(&["a"], false)).topics[0].topic_authorized_operations, i32::MIN);
}

#[test]
fn metadata_creates_a_topic_on_demand_that_takes_records_at_once() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("num.partitions", "3").start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(known(&mut c, &["a"]), [code::UNKNOWN_TOPIC_OR_PARTITION]);
    let reply = c.call(12, &metadata(&["a", "bad/name", "b"], true));
    let shown: Vec<_> = reply.topics.iter().map(|t| (t.error_code, t.partitions.len())).collect();
    assert_eq!(shown, [(0, 3), (17, 0), (0, 3)]);
    assert_eq!(c.produce("b", 2, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
    // By id; one that is not there is said to be.
    let by = |id| MetadataRequestTopic::default().with_topic_id(id).with_name(None);
    let asked = vec![by(reply.topics[2].topic_id), by(Uuid::from_u128(5))];
    let reply = c.call(12, &MetadataRequest::default().with_topics(Some(asked)));
    let shown: Vec<_> = reply.topics.iter().map(|t| (t.error_code, t.name.as_ref().map(|n| n.to_string()))).collect();
    assert_eq!(shown, [(0, Some("b".to_string())), (100, None)]);
}

#[test]
fn metadata_creates_nothing_where_that_is_switched_off() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("auto.create.topics.enable", "false").start();
    let mut c = Client::connect(&broker.kafka);
    let reply = c.call(3, &MetadataRequest::default().with_topics(metadata(&["a"], true).topics));
    assert_eq!(reply.topics[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn the_advertised_address_is_told_where_one_is_set() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("advertised.listeners", "PLAINTEXT://kafka.example.com:19092").start();
    let mut c = Client::connect(&broker.kafka);
    let node = c.call(12, &metadata(&[], false)).brokers.remove(0);
    assert_eq!((node.host.as_str(), node.port), ("kafka.example.com", 19092));
    let node = c.call(2, &DescribeClusterRequest::default()).brokers.remove(0);
    assert_eq!((node.host.as_str(), node.port), ("kafka.example.com", 19092));
}

#[test]
fn create_topics_answers_each_topic_in_every_version() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("num.partitions", "4").set("log.retention.hours", "1").start();
    let mut c = Client::connect(&broker.kafka);
    for version in 2..=7 {
        let config = |k, v| CreatableTopicConfig::default().with_name(string(k)).with_value(Some(string(v)));
        let name = |s: &str| format!("v{version}.{s}");
        let mut topics = vec![
            creatable(&name("a"), 2).with_configs(vec![config("retention.ms", "77")]),
            creatable(&name("b"), -1).with_replication_factor(-1),
            creatable(&name("c"), 1).with_configs(vec![config("retention.sm", "77")]),
            creatable(&name("d"), 1),
            creatable(&name("d"), 1),
            creatable(&name("e"), 1).with_replication_factor(3),
        ];
        let validated = c.call(version, &create(topics.clone()).with_validate_only(true));
        let errors = |r: &CreateTopicsResponse| r.topics.iter().map(|t| t.error_code).collect::<Vec<_>>();
        assert_eq!(errors(&validated), [0, 0, 40, 42, 38]);
        assert_eq!(known(&mut c, &[&name("a")]), [code::UNKNOWN_TOPIC_OR_PARTITION], "validated only");
        let reply = c.call(version, &create(topics.clone()));
        assert_eq!(errors(&reply), [0, 0, 40, 42, 38]);
        assert!(reply.topics[2].error_message.as_ref().unwrap().ends_with("the nearest name is retention.ms"));
        if version >= 5 {
            assert_eq!((reply.topics[1].num_partitions, reply.topics[1].replication_factor), (4, 1));
            let configs = reply.topics[0].configs.as_ref().unwrap();
            let of = |name: &str| configs.iter().find(|e| e.name.as_str() == name).unwrap();
            assert_eq!((of("retention.ms").value.as_deref(), of("retention.ms").config_source), (Some("77"), 1));
            let configs = reply.topics[1].configs.as_ref().unwrap();
            let retention = configs.iter().find(|e| e.name.as_str() == "retention.ms").unwrap();
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("3600000"), 4));
        }
        assert_eq!(reply.topics[0].topic_id.is_nil(), version < 7);
        topics.truncate(1);
        assert_eq!(errors(&c.call(version, &create(topics))), [code::TOPIC_ALREADY_EXISTS]);
        assert_eq!(errors(&c.call(version, &create(vec![creatable(&format!("v{version}_a"), 1)]))), [17]);
    }
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    let lags = |least, most| [("min.compaction.lag.ms", least), ("max.compaction.lag.ms", most)];
    assert_eq!(c.create_topic("a", 1, &lags("10", "5")), 40);
    assert_eq!(c.create_topic("a", 1, &lags("5", "10")), 0);
    assert_eq!(c.set_topic("a", "min.compaction.lag.ms", "11"), 40);
    assert_eq!(c.set_topic("a", "min.compaction.lag.ms", "10"), 0);
}

#[test]
fn a_topic_just_created_takes_the_records_sent_behind_the_request() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    for round in 0..50 {
        let name = format!("t{round}");
        let created = c.send(7, &create(vec![creatable(&name, 1)]));
        let produced = c.send(9, &produce_request(&name, &[(0, batch(ANYONE, now_ms(), &["x"]))], -1));
        let (id, reply) = c.receive::<CreateTopicsRequest>(7).unwrap();
        assert_eq!((id, reply.topics[0].error_code), (created, 0));
        let (id, reply) = c.receive::<ProduceRequest>(9).unwrap();
        assert_eq!((id, reply.responses[0].partition_responses[0].error_code), (produced, 0), "{name}");
    }
}

#[test]
fn a_deleted_topic_is_gone_when_that_is_answered() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    for version in 1..=6 {
        assert_eq!(c.create_topic("a", 1, &[]), 0);
        assert_eq!(c.create_topic("b", 1, &[]), 0);
        assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1).base_offset, 0);
        let id = c.call(13, &metadata(&["b"], false)).topics[0].topic_id;
        let request = DeleteTopicsRequest::default().with_timeout_ms(30_000);
        let errors: Vec<i16> = if version < 6 {
            let names = ["a", "none", "b"].map(topic_name).to_vec();
            c.call(version, &request.with_topic_names(names)).responses.iter().map(|t| t.error_code).collect()
        } else {
            let topics = vec![
                DeleteTopicState::default().with_name(Some(topic_name("a"))),
                DeleteTopicState::default().with_name(Some(topic_name("none"))),
                DeleteTopicState::default().with_name(None).with_topic_id(id),
            ];
            let reply = c.call(version, &request.with_topics(topics));
            assert_eq!(reply.responses[2].name.as_ref().unwrap().as_str(), "b");
            reply.responses.iter().map(|t| t.error_code).collect()
        };
        assert_eq!(errors, [0, code::UNKNOWN_TOPIC_OR_PARTITION, 0], "v{version}");
        assert_eq!(known(&mut c, &["a", "b"]), [code::UNKNOWN_TOPIC_OR_PARTITION; 2]);
    }
}

#[test]
fn topics_stay_where_deleting_is_switched_off() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("delete.topic.enable", "false").start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    assert_eq!(c.delete_topic("a"), 73);
    assert_eq!(known(&mut c, &["a"]), [0]);
}

#[test]
fn a_topic_grows_and_the_new_partitions_take_records_at_once() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    for version in 0..=3 {
        let topic = |name: &str, count| {
            let topic = CreatePartitionsTopic::default().with_name(topic_name(name)).with_assignments(None);
            topic.with_count(count)
        };
        let count = 2 + i32::from(version);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic("a", count), topic("none", 5)])
            .with_timeout_ms(30_000);
        let errors = |r: CreatePartitionsResponse| r.results.iter().map(|t| t.error_code).collect::<Vec<_>>();
        assert_eq!(errors(c.call(version, &request.clone().with_validate_only(true))), [0, 3]);
        assert_eq!(errors(c.call(version, &request)), [0, 3]);
        assert_eq!(c.produce("a", count - 1, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
        assert_eq!(errors(c.call(version, &request)), [37, 3], "no more than there are");
    }
}

#[test]
fn settings_are_described_with_their_levels_in_every_version() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("log.retention.minutes", "5").set("ssl.key.password", "secret").start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[("cleanup.policy", "compact")]), 0);
    for version in 1..=4 {
        let (error, configs) = described(&mut c, version, TOPIC, "a");
        assert_eq!(error, 0);
        let of = |name: &str| configs.iter().find(|e| e.name.as_str() == name).unwrap();
        let policy = of("cleanup.policy");
        assert_eq!((policy.value.as_deref(), policy.config_source), (Some("compact"), 1));
        let retention = of("retention.ms");
        assert_eq!((retention.value.as_deref(), retention.config_source), (Some("300000"), 4));
        let levels: Vec<_> = retention.synonyms.iter().map(|s| (s.name.as_str(), s.value.as_deref())).collect();
        assert_eq!(levels, [("log.retention.minutes", Some("5")), ("log.retention.hours", Some("168"))]);
        assert_eq!(retention.documentation.as_ref().is_some_and(|d| !d.is_empty()), version >= 3);
        assert_eq!(retention.config_type, if version >= 3 { 5 } else { 0 });
        let (error, configs) = described(&mut c, version, BROKER, "1");
        assert_eq!(error, 0);
        let of = |name: &str| configs.iter().find(|e| e.name.as_str() == name).unwrap();
        assert!(of("node.id").read_only && !of("log.retention.ms").read_only);
        assert!(of("ssl.key.password").is_sensitive && of("ssl.key.password").value.is_none());
        assert_eq!(described(&mut c, version, TOPIC, "none").0, code::UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(described(&mut c, version, BROKER, "2").0, 42);
        assert_eq!(described(&mut c, version, 77, "x").0, 42);
        assert_eq!(described(&mut c, version, BROKER, ""), (0, Vec::new()));
        assert_eq!(described(&mut c, version, TOPIC, &"x".repeat(32_000)).0, 17);
    }
}

#[test]
fn a_setting_changed_at_run_time_acts_and_survives_a_restart() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let large = || batch(ANYONE, now_ms(), &["x".repeat(2000)]);
    assert_eq!(c.produce("a", 0, large(), -1).error_code, 0);

    let op = [("max.message.bytes", SET, Some("1000"))];
    assert_eq!(alter(&mut c, TOPIC, "a", &op, true), 0);
    assert_eq!(setting(&mut c, TOPIC, "a", "max.message.bytes").1, 5, "validated only");
    assert_eq!(alter(&mut c, TOPIC, "a", &op, false), 0);
    assert_eq!(setting(&mut c, TOPIC, "a", "max.message.bytes"), (Some("1000".into()), 1));
    assert_eq!(c.produce("a", 0, large(), -1).error_code, 10);
    assert_eq!(alter(&mut c, TOPIC, "a", &[("max.message.bytes", DELETE, None)], false), 0);
    assert_eq!(c.produce("a", 0, large(), -1).error_code, 0);

    // For all brokers, then for this one.
    assert_eq!(alter(&mut c, BROKER, "", &[("message.max.bytes", SET, Some("1500"))], false), 0);
    assert_eq!(setting(&mut c, TOPIC, "a", "max.message.bytes"), (Some("1500".into()), 3));
    assert_eq!(c.produce("a", 0, large(), -1).error_code, 10);
    assert_eq!(alter(&mut c, BROKER, "1", &[("message.max.bytes", SET, Some("9000"))], false), 0);
    assert_eq!(setting(&mut c, TOPIC, "a", "max.message.bytes"), (Some("9000".into()), 2));
    assert_eq!(c.produce("a", 0, large(), -1).error_code, 0);
    assert_eq!(setting(&mut c, BROKER, "", "message.max.bytes"), (Some("1500".into()), 3));

    for (kind, name, op, error) in [
        (TOPIC, "a", ("no.such", SET, Some("1")), 40),
        (TOPIC, "a", ("no.such", DELETE, None), 0),
        (TOPIC, "none", ("retention.ms", SET, Some("1")), code::UNKNOWN_TOPIC_OR_PARTITION),
        (TOPIC, "a", ("remote.storage.enable", SET, Some("true")), 40),
        (BROKER, "1", ("num.partitions", SET, Some("2")), 42),
        (BROKER, "7", ("message.max.bytes", SET, Some("2")), 42),
    ] {
        assert_eq!(alter(&mut c, kind, name, &[op], false), error, "{name} {op:?}");
    }
    drop(c);
    assert_eq!(broker.stop().0, Some(0));

    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(setting(&mut c, TOPIC, "a", "max.message.bytes"), (Some("9000".into()), 2));
    assert_eq!(c.produce("a", 0, large(), -1).error_code, 0);
}

#[test]
fn a_batch_larger_than_a_segment_has_one_of_its_own() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    let configs = [("segment.bytes", "1048576"), ("max.message.bytes", "9000000")];
    assert_eq!(c.create_topic("a", 1, &configs), 0);
    let sizes = [100, 3 << 20, 100];
    for bytes in sizes {
        assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x".repeat(bytes)]), -1).error_code, 0);
    }
    broker.kill();
    let broker = Options::new(dir.path()).start();
    let kept: Vec<usize> = Client::connect(&broker.kafka).read_all("a", 0, 0).iter().map(|r| r.2.len()).collect();
    assert_eq!(kept, sizes);
}

#[test]
fn the_cluster_and_its_partitions_are_described() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("broker.rack", "r1").start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 3, &[]), 0);
    for version in 0..=2 {
        let asked = DescribeClusterRequest::default().with_include_cluster_authorized_operations(true);
        let reply = c.call(version, &asked);
        let [node] = &reply.brokers[..] else { panic!("{reply:?}") };
        assert_eq!((node.broker_id.0, node.rack.as_deref()), (1, Some("r1")));
        assert_eq!((reply.cluster_id.len(), reply.cluster_authorized_operations), (22, 8096));
        if version >= 1 {
            assert_eq!(c.call(version, &asked.clone().with_endpoint_type(2)).error_code, 114);
            assert_eq!(c.call(version, &asked.clone().with_endpoint_type(9)).error_code, 115);
        }
    }
    let asked = pages::DescribeTopicPartitionsRequest::default().with_response_partition_limit(2);
    let reply = c.call(0, &asked);
    assert_eq!(reply.topics[0].partitions.len(), 2);
    let cursor = reply.next_cursor.unwrap();
    let cursor =
        pages::Cursor::default().with_topic_name(cursor.topic_name).with_partition_index(cursor.partition_index);
    let reply = c.call(0, &asked.with_cursor(Some(cursor)));
    assert_eq!(reply.topics[0].partitions[0].partition_index, 2);
    assert!(reply.next_cursor.is_none());
}

#[test]
fn a_small_request_cannot_ask_for_a_huge_answer() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    let own = || DescribeConfigsResource::default().with_resource_type(BROKER).with_resource_name(string("1"));
    let many = (0..500).map(|_| own().with_configuration_keys(None)).collect();
    let reply = c.call(4, &DescribeConfigsRequest::default().with_resources(many));
    assert_eq!(reply.results.len(), 1);
    let wanted: Vec<_> = (0..20_000).map(|n| creatable(&format!("t{n}"), 1)).collect();
    let reply = c.call(7, &create(wanted).with_validate_only(true));
    let refused = reply.topics.iter().filter(|t| t.error_code == 44).count();
    assert_eq!((reply.topics.len(), refused), (20_000, 10_000));
}
