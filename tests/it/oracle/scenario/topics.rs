//! Topics: create, list, describe, grow, delete.

use super::{
    super::session::{Session, versions},
    by_name, config, creatable, create, gone, led, metadata,
};
use crate::wire::topic_name;
use kafka_protocol::messages::{
    create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic},
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic},
    delete_topics_request::DeleteTopicState,
    describe_topic_partitions_request::{Cursor, TopicRequest},
    metadata_request::MetadataRequestTopic,
    *,
};
use uuid::Uuid;

pub fn run(s: &mut Session) {
    creation(s);
    growth(s);
    listing(s);
    pages(s);
}

fn assigned(partition: i32, brokers: &[i32]) -> CreatableReplicaAssignment {
    let brokers = brokers.iter().map(|b| BrokerId(*b)).collect();
    CreatableReplicaAssignment::default().with_partition_index(partition).with_broker_ids(brokers)
}

fn creation(s: &mut Session) {
    let named = |s: &mut Session, r: &CreateTopicsResponse| {
        r.topics.iter().for_each(|t| s.bind(t.name.as_str(), t.topic_id));
    };
    for v in versions::<CreateTopicsRequest>() {
        let name = format!("created.v{v}");
        let whole = vec![creatable(&name, 2, 1).with_configs(vec![config("retention.ms", Some("600000"))])];
        s.call("only validated", v, &create(whole.clone()).with_validate_only(true));
        s.call_and("a topic", v, &create(whole.clone()), named);
        led(s, &name, 2);
        s.call("the same again", v, &create(whole));
        let defaults = format!("defaults.v{v}");
        s.call_and("default counts", v, &create(vec![creatable(&defaults, -1, -1)]), named);
        s.call("bad name", v, &create(vec![creatable("a/b", 1, 1)]));
        s.call("no topics", v, &create(Vec::new()));
    }
    let d = |configs: Vec<_>| vec![creatable("o.d", 1, 1).with_configs(configs)];
    let e =
        |partitions, replicas, assignments| vec![creatable("o.f", partitions, replicas).with_assignments(assignments)];
    let long = |n: usize| "x".repeat(n);
    let cases: Vec<(&str, Vec<CreatableTopic>)> = vec![
        ("collides with a dot", vec![creatable("created_v7", 2, 1)]),
        ("zero partitions", vec![creatable("o.b", 0, 1)]),
        ("-2 partitions", vec![creatable("o.b", -2, 1)]),
        ("zero replicas", vec![creatable("o.b", 1, 0)]),
        ("two replicas", vec![creatable("o.b", 1, 2)]),
        ("-2 replicas", vec![creatable("o.b", 1, -2)]),
        ("named twice", vec![creatable("o.b", 1, 1), creatable("o.b", 1, 1), creatable("o.c", 1, 1)]),
        ("empty name", vec![creatable("", 1, 1)]),
        ("dot", vec![creatable(".", 1, 1)]),
        ("two dots", vec![creatable("..", 1, 1)]),
        ("249 characters", vec![creatable(&long(249), 1, 1)]),
        ("250 characters", vec![creatable(&long(250), 1, 1)]),
        ("a letter beyond ASCII", vec![creatable("é", 1, 1)]),
        ("internal name", vec![creatable("__cluster_metadata", 1, 1)]),
        ("unknown setting", d(vec![config("nope", Some("1"))])),
        ("bad value", d(vec![config("retention.ms", Some("x"))])),
        ("null value", d(vec![config("retention.ms", None)])),
        ("empty value", d(vec![config("retention.ms", Some(""))])),
        ("segment too small", d(vec![config("segment.bytes", Some("1000"))])),
        ("setting twice", d(vec![config("retention.ms", Some("1")), config("retention.ms", Some("2"))])),
        ("empty policy", vec![creatable("o.ep", 1, 1).with_configs(vec![config("cleanup.policy", Some(""))])]),
        (
            "policy twice",
            vec![creatable("o.dp", 1, 1).with_configs(vec![config("cleanup.policy", Some("delete,delete"))])],
        ),
        (
            "min.insync.replicas 9",
            vec![creatable("o.mi", 1, 1).with_configs(vec![config("min.insync.replicas", Some("9"))])],
        ),
        (
            "removed setting",
            vec![creatable("o.rm", 1, 1).with_configs(vec![config("message.format.version", Some("2.8"))])],
        ),
        ("lz4 level 99", d(vec![config("compression.lz4.level", Some("99"))])),
        ("local above total", d(vec![config("local.retention.ms", Some("9")), config("retention.ms", Some("5"))])),
        ("tiered", d(vec![config("remote.storage.enable", Some("true"))])),
        ("assigned", vec![creatable("o.e", -1, -1).with_assignments(vec![assigned(0, &[1]), assigned(1, &[1])])]),
        ("assigned and counted", e(1, -1, vec![assigned(0, &[1])])),
        ("assigned and replicated", e(-1, 1, vec![assigned(0, &[1])])),
        ("assigned with a gap", e(-1, -1, vec![assigned(1, &[1])])),
        ("assigned twice", e(-1, -1, vec![assigned(0, &[1]), assigned(0, &[1])])),
        ("assigned to none", e(-1, -1, vec![assigned(0, &[])])),
        ("assigned to a stranger", e(-1, -1, vec![assigned(0, &[7])])),
        ("assigned to one twice", e(-1, -1, vec![assigned(0, &[1, 1])])),
        ("assigned unevenly", e(-1, -1, vec![assigned(0, &[1]), assigned(1, &[])])),
        ("a negative partition assigned", e(-1, -1, vec![assigned(-1, &[1])])),
    ];
    for (what, topics) in cases {
        for v in [3, 7] {
            s.call(&format!("{what}, validated"), v, &create(topics.clone()).with_validate_only(true));
        }
        s.call_and(what, 7, &create(topics), named);
    }
    s.call("no time", 7, &create(vec![creatable("created.v7", 2, 1)]).with_timeout_ms(0));
}

fn growth(s: &mut Session) {
    let to = |name: &str, count| {
        CreatePartitionsTopic::default().with_name(topic_name(name)).with_count(count).with_assignments(None)
    };
    let on = |brokers: &[i32]| {
        CreatePartitionsAssignment::default().with_broker_ids(brokers.iter().map(|b| BrokerId(*b)).collect())
    };
    let request = |topics| CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(30_000);
    for v in versions::<CreatePartitionsRequest>() {
        let name = format!("created.v{}", v + 2);
        s.call("only validated", v, &request(vec![to(&name, 3)]).with_validate_only(true));
        s.call("one more", v, &request(vec![to(&name, 3)]));
        led(s, &name, 3);
        s.call("as many as there are", v, &request(vec![to(&name, 3)]));
        s.call("unknown topic", v, &request(vec![to("nope", 3)]));
        s.call("no topics", v, &request(Vec::new()));
    }
    let assigned = |brokers: Vec<CreatePartitionsAssignment>| vec![to("created.v7", 3).with_assignments(Some(brokers))];
    for (what, topics) in [
        ("less", vec![to("created.v7", 1)]),
        ("zero", vec![to("created.v7", 0)]),
        ("negative", vec![to("created.v7", -1)]),
        ("bad name", vec![to("a/b", 3)]),
        ("empty name", vec![to("", 3)]),
        ("one of two unknown", vec![to("nope", 3), to("created.v7", 2)]),
        ("named twice", vec![to("created.v7", 3), to("created.v7", 4)]),
        ("two partitions, one assigned", vec![to("created.v7", 4).with_assignments(Some(vec![on(&[1])]))]),
        ("assigned to a stranger", assigned(vec![on(&[9])])),
        ("assigned to none", assigned(vec![on(&[])])),
        ("assigned to one twice", assigned(vec![on(&[1, 1])])),
        ("no assignments", assigned(Vec::new())),
        ("assigned", assigned(vec![on(&[1])])),
    ] {
        s.call(what, 3, &request(topics));
    }
    led(s, "created.v7", 3);
}

fn listing(s: &mut Session) {
    let id = led(s, "created.v5", 3);
    let by = |name: Option<&str>, id: Uuid| {
        MetadataRequestTopic::default().with_name(name.map(topic_name)).with_topic_id(id)
    };
    for v in versions::<MetadataRequest>() {
        let all = MetadataRequest::default().with_topics(if v == 0 { Some(Vec::new()) } else { None });
        s.call("everything", v, &all);
        // Before version 4 there is no forbidding to create.
        let request = |topics| metadata(topics).with_allow_auto_topic_creation(v < 4);
        s.call("a topic", v, &request(vec![by_name("created.v5")]));
        s.call("two topics", v, &request(vec![by_name("created.v5"), by_name("created.v2")]));
        s.call("one topic twice", v, &request(vec![by_name("created.v5"), by_name("created.v5")]));
        s.call("bad name", v, &request(vec![by_name("a/b"), by_name("created.v2")]));
        s.call("empty name", v, &request(vec![by_name("")]));
        if v > 0 {
            s.call("no topics", v, &request(Vec::new()));
        }
        if v >= 4 {
            s.call("unknown topic", v, &request(vec![by_name("zz")]));
        }
        let asked = request(vec![by_name("created.v5")]);
        if v >= 8 {
            s.call("with operations", v, &asked.clone().with_include_topic_authorized_operations(true));
        }
        if (8..=10).contains(&v) {
            s.call("with operations on the cluster", v, &asked.with_include_cluster_authorized_operations(true));
        }
        if v >= 10 {
            s.call("by id", v, &request(vec![by(None, id)]));
            s.call("unknown id", v, &request(vec![by(None, Uuid::from_u128(9))]));
            s.call("name and id", v, &request(vec![by(Some("created.v5"), id)]));
            s.call("another name and id", v, &request(vec![by(Some("x"), id)]));
            s.call("neither name nor id", v, &request(vec![by(None, Uuid::nil())]));
            s.call("one by name, one by id", v, &request(vec![by_name("created.v2"), by(None, id)]));
        }
    }
    for v in [0, 3, 4, 12] {
        let name = format!("auto.v{v}");
        let request = metadata(vec![by_name(&name)]).with_allow_auto_topic_creation(true);
        s.call_and("created on demand", v, &request, |s, r| r.topics.iter().for_each(|t| s.bind(&name, t.topic_id)));
        led(s, &name, 1);
        s.call("there after that", v, &request);
    }
}

fn pages(s: &mut Session) {
    let of = |names: &[&str]| {
        let topics = names.iter().map(|n| TopicRequest::default().with_name(topic_name(n))).collect();
        DescribeTopicPartitionsRequest::default().with_topics(topics)
    };
    let at = |name: &str, partition| {
        Some(Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition))
    };
    let two = of(&["created.v2", "created.v5"]);
    s.call("two topics", 0, &two);
    s.call("unknown topic", 0, &of(&["nope", "created.v2"]));
    s.call("bad name", 0, &of(&["a/b"]));
    s.call("empty name", 0, &of(&[""]));
    s.call("one topic twice", 0, &of(&["created.v2", "created.v2"]));
    s.call("a page of two", 0, &two.clone().with_response_partition_limit(2));
    s.call("a page of three", 0, &two.clone().with_response_partition_limit(3));
    s.call("a page of none", 0, &two.clone().with_response_partition_limit(0));
    s.call("a negative page", 0, &two.clone().with_response_partition_limit(-1));
    s.call("from a cursor", 0, &two.clone().with_cursor(at("created.v2", 1)));
    s.call("from the second topic", 0, &two.clone().with_cursor(at("created.v5", 1)).with_response_partition_limit(1));
    s.call("a cursor behind the end", 0, &two.clone().with_cursor(at("created.v5", 9)));
    s.call("a cursor at a topic between", 0, &two.clone().with_cursor(at("created.v3", 0)));
    s.call("a negative cursor", 0, &two.clone().with_cursor(at("created.v2", -1)));
    s.call("a cursor at an unknown topic", 0, &of(&["created.v2"]).with_cursor(at("nope", 0)));
    let all = of(&[]).with_response_partition_limit(5);
    s.call("every topic", 0, &all);
}

/// DeleteTopics: at the end of the scenario.
pub fn delete(s: &mut Session) {
    let request = |topics| DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(30_000);
    let names = |v: i16, names: &[&str]| {
        let by = |n: &&str| DeleteTopicState::default().with_name(Some(topic_name(n)));
        match v {
            6.. => request(names.iter().map(by).collect()),
            _ => DeleteTopicsRequest::default()
                .with_topic_names(names.iter().map(|n| topic_name(n)).collect())
                .with_timeout_ms(30_000),
        }
    };
    for v in versions::<DeleteTopicsRequest>() {
        let name = format!("defaults.v{}", v + 1);
        s.call("a topic", v, &names(v, &[&name]));
        gone(s, &name);
        s.call("again", v, &names(v, &[&name]));
        s.call("bad name", v, &names(v, &["a/b"]));
        s.call("empty name", v, &names(v, &[""]));
        s.call("no topics", v, &names(v, &[]));
        s.call("an unknown one twice", v, &names(v, &["nope", "nope"]));
    }
    let id = led(s, "created.v5", 3);
    let by =
        |name: Option<&str>, id: Uuid| DeleteTopicState::default().with_name(name.map(topic_name)).with_topic_id(id);
    for (what, topics) in [
        ("unknown id", vec![by(None, Uuid::from_u128(3))]),
        ("name and id", vec![by(Some("created.v5"), id)]),
        ("neither name nor id", vec![by(None, Uuid::nil())]),
        ("twice", vec![by(Some("created.v5"), Uuid::nil()), by(Some("created.v5"), Uuid::nil())]),
        ("by name and by id", vec![by(Some("created.v5"), Uuid::nil()), by(None, id)]),
        ("by id", vec![by(None, id)]),
    ] {
        s.call(what, 6, &request(topics));
    }
    gone(s, "created.v5");
    let by = |name: &str| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
    s.call("a deleted topic", 12, &metadata(vec![by("created.v5")]));
    s.call("a deleted id", 12, &metadata(vec![MetadataRequestTopic::default().with_name(None).with_topic_id(id)]));
}
