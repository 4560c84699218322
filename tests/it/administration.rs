//! Administration beside topics: settings replaced as a whole, settings of groups, the data directory, producers.

use crate::{
    support::{Options, temp},
    wire::{ANYONE, Client, batch, code, now_ms, string, topic_name},
};
use kafka_protocol::messages::{
    alter_configs_request::{AlterConfigsResource, AlterableConfig},
    describe_configs_request::DescribeConfigsResource,
    describe_configs_response::DescribeConfigsResourceResult,
    describe_log_dirs_request::DescribableLogDirTopic,
    describe_log_dirs_response::DescribeLogDirsResult,
    describe_producers_request::TopicRequest,
    describe_producers_response::PartitionResponse,
    incremental_alter_configs_request as incremental, *,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const METRICS: i8 = 16;
const GROUP: i8 = 32;

fn replace(c: &mut Client, version: i16, kind: i8, name: &str, configs: &[(&str, &str)], validate: bool) -> i16 {
    let config = |(k, v): &(&str, &str)| AlterableConfig::default().with_name(string(k)).with_value(Some(string(v)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(name))
        .with_configs(configs.iter().map(config).collect());
    let request = AlterConfigsRequest::default().with_resources(vec![resource]).with_validate_only(validate);
    let reply = c.call(version, &request).responses.remove(0);
    assert_eq!((reply.resource_type, reply.resource_name.as_str()), (kind, name));
    assert_eq!(reply.error_code == 0, reply.error_message.is_none());
    reply.error_code
}

/// Sets one setting, or (without a value) takes it away.
fn set(c: &mut Client, kind: i8, resource: &str, name: &str, value: Option<&str>) -> i16 {
    let config = incremental::AlterableConfig::default().with_name(string(name)).with_value(value.map(string));
    let resource = incremental::AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(resource))
        .with_configs(vec![config.with_config_operation(i8::from(value.is_none()))]);
    c.call(1, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource])).responses[0].error_code
}

fn described(c: &mut Client, kind: i8, name: &str, keys: Option<&[&str]>) -> (i16, Vec<DescribeConfigsResourceResult>) {
    let resource = DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(string(name));
    let resource = resource.with_configuration_keys(keys.map(|keys| keys.iter().map(|k| string(k)).collect()));
    let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let result = c.call(4, &request.with_include_documentation(true)).results.remove(0);
    (result.error_code, result.configs)
}

/// What is set on the resource itself: name and value.
fn own(c: &mut Client, kind: i8, name: &str, source: i8) -> Vec<(String, String)> {
    let configs = described(c, kind, name, None).1;
    let own = configs.into_iter().filter(|e| e.config_source == source);
    own.map(|e| (e.name.to_string(), e.value.unwrap().to_string())).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
}

#[test]
fn settings_are_replaced_as_a_whole_in_every_version() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    for version in 0..=2 {
        let name = format!("t{version}");
        assert_eq!(c.create_topic(&name, 1, &[("retention.ms", "5000"), ("segment.ms", "9000")]), 0);
        let new = [("retention.ms", "7000"), ("cleanup.policy", "compact")];
        assert_eq!(replace(&mut c, version, TOPIC, &name, &new, true), 0);
        assert_eq!(own(&mut c, TOPIC, &name, 1), pairs(&[("retention.ms", "5000"), ("segment.ms", "9000")]));
        assert_eq!(replace(&mut c, version, TOPIC, &name, &new, false), 0);
        assert_eq!(own(&mut c, TOPIC, &name, 1), pairs(&[("cleanup.policy", "compact"), ("retention.ms", "7000")]));
        assert_eq!(replace(&mut c, version, TOPIC, &name, &[("no.such", "1")], false), 40);
        assert_eq!(replace(&mut c, version, TOPIC, &name, &[("retention.ms", "x")], false), 40);
        assert_eq!(own(&mut c, TOPIC, &name, 1).len(), 2, "a refused change changes nothing");
        assert_eq!(replace(&mut c, version, TOPIC, &name, &[], false), 0);
        assert_eq!(own(&mut c, TOPIC, &name, 1), []);
        assert_eq!(replace(&mut c, version, TOPIC, "none", &[], false), code::UNKNOWN_TOPIC_OR_PARTITION);

        assert_eq!(replace(&mut c, version, BROKER, "1", &[("message.max.bytes", "2000000")], false), 0);
        assert_eq!(own(&mut c, BROKER, "1", 2), pairs(&[("message.max.bytes", "2000000")]));
        assert_eq!(replace(&mut c, version, BROKER, "1", &[("log.retention.ms", "50000")], false), 0);
        assert_eq!(own(&mut c, BROKER, "1", 2), pairs(&[("log.retention.ms", "50000")]));
        assert_eq!(replace(&mut c, version, BROKER, "1", &[("node.id", "5")], false), 42);
        assert_eq!(replace(&mut c, version, BROKER, "2", &[], false), 42);
        assert_eq!(replace(&mut c, version, BROKER, "1", &[], false), 0);
        assert_eq!(own(&mut c, BROKER, "1", 2), []);
        for (kind, name) in [(LOGGER, "1"), (METRICS, "m"), (77, "x"), (GROUP, "")] {
            assert_eq!(replace(&mut c, version, kind, name, &[], false), 42, "{kind}");
        }
    }
}

#[test]
fn a_resource_named_twice_is_refused_and_the_others_changed() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    for name in ["a", "b"] {
        assert_eq!(c.create_topic(name, 1, &[]), 0);
    }
    let config = AlterableConfig::default().with_name(string("retention.ms")).with_value(Some(string("5")));
    let resource = |name| {
        let resource = AlterConfigsResource::default().with_resource_type(TOPIC).with_resource_name(string(name));
        resource.with_configs(vec![config.clone()])
    };
    let request = AlterConfigsRequest::default().with_resources(vec![resource("a"), resource("b"), resource("a")]);
    let errors: Vec<_> = c.call(2, &request).responses.iter().map(|r| r.error_code).collect();
    assert_eq!(errors, [42, 0, 42]);
    assert_eq!((own(&mut c, TOPIC, "a", 1).len(), own(&mut c, TOPIC, "b", 1).len()), (0, 1));
}

#[test]
fn settings_of_groups_are_shown_set_bounded_and_kept() {
    let dir = temp();
    let start = || Options::new(dir.path()).set("group.consumer.max.session.timeout.ms", "70000").start();
    let broker = start();
    let mut c = Client::connect(&broker.kafka);
    let (error, all) = described(&mut c, GROUP, "g", None);
    assert_eq!((error, all.len()), (0, 21), "a group need not exist");
    assert!(all.iter().all(|e| !e.read_only && !e.is_sensitive && e.config_source == 5 && e.documentation.is_some()));
    assert_eq!(described(&mut c, GROUP, "", None).0, 42);

    for (name, value, error) in [
        ("consumer.session.timeout.ms", Some("65000"), 0),
        ("consumer.session.timeout.ms", Some("70001"), 40),
        ("consumer.session.timeout.ms", Some("1000"), 40),
        ("consumer.session.timeout.ms", Some("x"), 40),
        ("share.isolation.level", Some("read_committed"), 0),
        ("share.isolation.level", Some("READ_COMMITTED"), 40),
        ("streams.num.standby.replicas", Some("3"), 40),
        ("no.such", Some("1"), 40),
        ("no.such", None, 0),
    ] {
        assert_eq!(set(&mut c, GROUP, "g", name, value), error, "{name} {value:?}");
    }
    assert_eq!(set(&mut c, GROUP, "", "consumer.session.timeout.ms", Some("65000")), 42);
    let kept = pairs(&[("consumer.session.timeout.ms", "65000"), ("share.isolation.level", "read_committed")]);
    assert_eq!(own(&mut c, GROUP, "g", 8), kept);
    assert_eq!(own(&mut c, GROUP, "h", 8), []);
    let (_, one) = described(&mut c, GROUP, "g", Some(&["consumer.session.timeout.ms", "none"]));
    let [e] = &one[..] else { panic!("{one:?}") };
    let levels: Vec<_> = e.synonyms.iter().map(|s| (s.name.as_str(), s.value.as_deref().unwrap(), s.source)).collect();
    let (own_name, broker_name) = ("consumer.session.timeout.ms", "group.consumer.session.timeout.ms");
    assert_eq!(levels, [(own_name, "65000", 8), (broker_name, "45000", 5)]);
    assert_eq!(e.config_type, 3);
    drop(c);
    assert_eq!(broker.stop().0, Some(0));

    let broker = start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(own(&mut c, GROUP, "g", 8), kept);
    assert_eq!(replace(&mut c, 2, GROUP, "g", &[("share.delivery.count.limit", "7")], false), 0);
    assert_eq!(own(&mut c, GROUP, "g", 8), pairs(&[("share.delivery.count.limit", "7")]));
    assert_eq!(set(&mut c, GROUP, "g", "share.delivery.count.limit", None), 0);
    assert_eq!(own(&mut c, GROUP, "g", 8), []);
}

#[test]
fn what_has_no_settings_here_says_so() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(set(&mut c, METRICS, "m", "interval.ms", Some("1000")), 42);
    assert_eq!(set(&mut c, LOGGER, "1", "root", Some("DEBUG")), 40);
    assert_eq!(set(&mut c, LOGGER, "2", "root", Some("DEBUG")), 42);
    assert_eq!(described(&mut c, METRICS, "m", None), (0, Vec::new()));
    assert_eq!(described(&mut c, LOGGER, "1", None), (0, Vec::new()));
}

fn log_dirs(c: &mut Client, version: i16, topics: Option<&[(&str, &[i32])]>) -> DescribeLogDirsResult {
    let topic = |(name, partitions): &(&str, &[i32])| {
        DescribableLogDirTopic::default().with_topic(topic_name(name)).with_partitions(partitions.to_vec())
    };
    let topics = topics.map(|topics| topics.iter().map(topic).collect());
    let mut reply = c.call(version, &DescribeLogDirsRequest::default().with_topics(topics));
    assert_eq!((reply.error_code, reply.results.len()), (0, 1));
    reply.results.remove(0)
}

/// Topic, partition and size.
fn sizes(result: &DescribeLogDirsResult) -> Vec<(String, i32, i64)> {
    let of = |t: &describe_log_dirs_response::DescribeLogDirsTopic| {
        let partitions = t.partitions.iter();
        let all = partitions.inspect(|p| assert!(p.offset_lag == 0 && !p.is_future_key));
        all.map(|p| (t.name.to_string(), p.partition_index, p.partition_size)).collect::<Vec<_>>()
    };
    result.topics.iter().flat_map(of).collect()
}

#[test]
fn the_data_directory_is_described_in_every_version() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 2, &[]), 0);
    assert_eq!(c.create_topic("b", 1, &[]), 0);
    let sent = batch(ANYONE, now_ms(), &["x"]);
    assert_eq!(c.produce("a", 1, sent.clone(), -1).error_code, 0);
    let bytes = sent.len() as i64;
    let name = |t: &str| t.to_string();
    for version in 1..=4 {
        let all = log_dirs(&mut c, version, None);
        assert_eq!((all.error_code, all.log_dir.as_str()), (0, dir.path().to_str().unwrap()));
        assert_eq!(sizes(&all), [(name("a"), 0, 0), (name("a"), 1, bytes), (name("b"), 0, 0)]);
        match version {
            4 => assert!(all.usable_bytes > 0 && all.total_bytes >= all.usable_bytes, "{all:?}"),
            _ => assert_eq!((all.total_bytes, all.usable_bytes), (-1, -1)),
        }
        let some = log_dirs(&mut c, version, Some(&[("a", &[1, 7, 1]), ("none", &[0]), ("b", &[]), ("a", &[1])]));
        assert_eq!(sizes(&some), [(name("a"), 1, bytes)], "each once, and only what there is");
        assert_eq!(sizes(&log_dirs(&mut c, version, Some(&[]))), []);
    }
    // Cold after a restart: the catalogue knows the size.
    drop(c);
    assert_eq!(broker.stop().0, Some(0));
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(sizes(&log_dirs(&mut c, 4, Some(&[("a", &[1])]))), [(name("a"), 1, bytes)]);
    assert_eq!(c.delete_topic("a"), 0);
    assert_eq!(sizes(&log_dirs(&mut c, 4, None)), [(name("b"), 0, 0)]);
}

fn producers(c: &mut Client, topic: &str, partitions: &[i32]) -> Vec<PartitionResponse> {
    let topic = TopicRequest::default().with_name(topic_name(topic)).with_partition_indexes(partitions.to_vec());
    c.call(0, &DescribeProducersRequest::default().with_topics(vec![topic])).topics.remove(0).partitions
}

#[test]
fn producers_of_a_partition_are_described() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 2, &[]), 0);
    let now = now_ms();
    let (first, second) = (c.producer_id(), c.producer_id());
    assert_eq!(c.produce("a", 0, batch(ANYONE, now, &["x"]), -1).error_code, 0);
    for (producer, sequence, values) in [(first, 0, 3), (second, 0, 1), (first, 3, 2)] {
        let sent = batch((producer.0, producer.1, sequence), now + i64::from(sequence), &vec!["x"; values]);
        assert_eq!(c.produce("a", 0, sent, -1).error_code, 0);
    }
    let check = |c: &mut Client| {
        let found = producers(c, "a", &[0, 1, 9, 0]);
        let shown: Vec<_> = found.iter().map(|p| (p.partition_index, p.error_code, p.active_producers.len())).collect();
        assert_eq!(shown, [(0, 0, 2), (1, 0, 0), (9, code::UNKNOWN_TOPIC_OR_PARTITION, 0)]);
        let of = |id: i64| found[0].active_producers.iter().find(|p| p.producer_id.0 == id).unwrap();
        let p = of(first.0);
        assert_eq!((p.producer_epoch, p.last_sequence, p.last_timestamp), (0, 4, now + 3));
        assert_eq!((p.coordinator_epoch, p.current_txn_start_offset), (-1, -1));
        assert_eq!(of(second.0).last_sequence, 0);
        assert_eq!(producers(c, "none", &[0])[0].error_code, code::UNKNOWN_TOPIC_OR_PARTITION);
    };
    check(&mut c);
    drop(c);
    assert_eq!(broker.stop().0, Some(0));
    let broker = Options::new(dir.path()).start();
    check(&mut Client::connect(&broker.kafka));
}
