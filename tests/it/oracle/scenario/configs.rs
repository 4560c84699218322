//! Settings: describe, alter, alter incrementally.

use super::{
    super::session::{Session, versions},
    topic,
};
use crate::wire::string;
use kafka_protocol::{
    messages::{
        alter_configs_request as old,
        describe_configs_request::DescribeConfigsResource,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
        *,
    },
    protocol::Request,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub fn run(s: &mut Session) {
    topic(s, "settings", 1, &[("retention.ms", "600000")]);
    describe(s);
    incremental(s);
    whole(s);
}

fn resource(kind: i8, name: &str, keys: Option<&[&str]>) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(string(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|k| string(k)).collect()))
}

fn asked(resources: Vec<DescribeConfigsResource>) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(resources)
}

fn describe(s: &mut Session) {
    let some: &[&str] = &["retention.ms", "cleanup.policy", "segment.bytes", "max.message.bytes"];
    for v in versions::<DescribeConfigsRequest>() {
        s.call("some of a topic", v, &asked(vec![resource(TOPIC, "settings", Some(some))]));
        s.call("with synonyms", v, &asked(vec![resource(TOPIC, "settings", Some(some))]).with_include_synonyms(true));
        if v >= 3 {
            let request = asked(vec![resource(TOPIC, "settings", Some(some))]).with_include_documentation(true);
            s.call("with documentation", v, &request);
        }
        let keys: &[&str] = &["log.retention.ms", "num.partitions", "message.max.bytes", "node.id"];
        s.call("some of a broker", v, &asked(vec![resource(BROKER, "1", Some(keys))]).with_include_synonyms(true));
        s.call("unknown topic", v, &asked(vec![resource(TOPIC, "nope", None)]));
    }
    s.call(
        "all of a topic",
        4,
        &asked(vec![resource(TOPIC, "settings", None)]).with_include_synonyms(true).with_include_documentation(true),
    );
    s.call("all of a broker", 4, &asked(vec![resource(BROKER, "1", None)]));
    for (what, resources) in [
        ("a known and an unknown key", vec![resource(TOPIC, "settings", Some(&["retention.ms", "zzz"]))]),
        ("no keys", vec![resource(TOPIC, "settings", Some(&[]))]),
        ("a key twice", vec![resource(TOPIC, "settings", Some(&["retention.ms", "retention.ms"]))]),
        ("bad topic name", vec![resource(TOPIC, "a/b", None)]),
        ("empty topic name", vec![resource(TOPIC, "", None)]),
        ("another broker", vec![resource(BROKER, "9", None)]),
        ("no number for a broker", vec![resource(BROKER, "x", None)]),
        ("a plus before the broker", vec![resource(BROKER, "+1", Some(&["log.retention.ms"]))]),
        ("defaults of brokers", vec![resource(BROKER, "", None)]),
        ("loggers, an unknown key", vec![resource(8, "1", Some(&["zz"]))]),
        ("loggers of another broker", vec![resource(8, "9", None)]),
        ("loggers without a name", vec![resource(8, "", None)]),
        ("type 0", vec![resource(0, "x", None)]),
        ("type 3", vec![resource(3, "x", None)]),
        ("type -1", vec![resource(-1, "x", None)]),
        ("a group, an unknown key", vec![resource(32, "g", Some(&["zz"]))]),
        ("a group", vec![resource(32, "g", None)]),
        ("a group without a name", vec![resource(32, "", None)]),
        ("client metrics, an unknown key", vec![resource(16, "cm", Some(&["zz"]))]),
        ("client metrics without a name", vec![resource(16, "", None)]),
        (
            "one twice",
            vec![
                resource(TOPIC, "settings", Some(&["retention.ms"])),
                resource(TOPIC, "settings", Some(&["retention.ms"])),
            ],
        ),
        (
            "one good, one unknown",
            vec![resource(TOPIC, "settings", Some(&["retention.ms"])), resource(TOPIC, "nope", None)],
        ),
        ("nothing", vec![]),
    ] {
        s.call(what, 4, &asked(resources));
    }
}

/// Waits until a setting of a topic has this value.
fn settled(s: &mut Session, name: &str, value: &str) {
    s.until(4, &asked(vec![resource(TOPIC, "settings", Some(&[name]))]), |r| {
        r.results[0].configs[0].value.as_ref().is_some_and(|v| v.as_str() == value)
    });
}

fn incremental(s: &mut Session) {
    let op = |name: &str, operation: i8, value: Option<&str>| {
        AlterableConfig::default()
            .with_name(string(name))
            .with_config_operation(operation)
            .with_value(value.map(string))
    };
    let on = |kind: i8, name: &str, ops: Vec<AlterableConfig>| {
        AlterConfigsResource::default().with_resource_type(kind).with_resource_name(string(name)).with_configs(ops)
    };
    let request = |resources| IncrementalAlterConfigsRequest::default().with_resources(resources);
    let set = |name: &str, value: &str| vec![on(TOPIC, "settings", vec![op(name, 0, Some(value))])];
    for v in versions::<IncrementalAlterConfigsRequest>() {
        s.call("only validated", v, &request(set("retention.ms", "5")).with_validate_only(true));
        let value = format!("70000{v}");
        s.call("a value", v, &request(set("retention.ms", &value)));
        settled(s, "retention.ms", &value);
        s.call("a bad value", v, &request(set("retention.ms", "-7")));
        s.call("a bad value, validated", v, &request(set("retention.ms", "-7")).with_validate_only(true));
    }
    let topic = |ops| vec![on(TOPIC, "settings", ops)];
    let broker = |name: &str, ops| vec![on(BROKER, name, ops)];
    for (what, resources) in [
        ("unknown name", topic(vec![op("zz", 0, Some("5"))])),
        ("unknown name deleted", topic(vec![op("zz", 1, None)])),
        ("null value", topic(vec![op("retention.ms", 0, None)])),
        ("empty name", topic(vec![op("", 0, Some("5"))])),
        ("appended", topic(vec![op("cleanup.policy", 2, Some("compact"))])),
        ("appended again", topic(vec![op("cleanup.policy", 2, Some("compact"))])),
        ("appended to no list", topic(vec![op("retention.ms", 2, Some("1"))])),
        ("subtracted", topic(vec![op("cleanup.policy", 3, Some("delete"))])),
        ("subtracted what is not there", topic(vec![op("cleanup.policy", 3, Some("delete"))])),
        ("bad value appended", topic(vec![op("cleanup.policy", 2, Some("x"))])),
        ("unknown operation", topic(vec![op("retention.ms", 9, Some("1"))])),
        ("one key twice", topic(vec![op("retention.ms", 0, Some("1")), op("retention.ms", 1, None)])),
        ("deleted", topic(vec![op("cleanup.policy", 1, None)])),
        ("deleted when it is not set", topic(vec![op("segment.bytes", 1, None)])),
        ("no operations", topic(vec![])),
        (
            "one resource twice",
            vec![
                on(TOPIC, "settings", vec![op("retention.ms", 0, Some("1"))]),
                on(TOPIC, "settings", vec![op("retention.ms", 0, Some("1"))]),
            ],
        ),
        (
            "one good, one bad",
            vec![
                on(TOPIC, "settings", vec![op("segment.ms", 0, Some("60000"))]),
                on(TOPIC, "nope", vec![op("retention.ms", 0, Some("1"))]),
            ],
        ),
        ("unknown topic", vec![on(TOPIC, "nope", vec![op("retention.ms", 0, Some("1"))])]),
        ("bad topic name", vec![on(TOPIC, "a/b", vec![op("retention.ms", 0, Some("1"))])]),
        ("empty topic name", vec![on(TOPIC, "", vec![op("retention.ms", 0, Some("1"))])]),
        ("tiered", topic(vec![op("remote.storage.enable", 0, Some("true"))])),
        ("broker, read-only", broker("1", vec![op("num.partitions", 0, Some("2"))])),
        ("broker, unknown name", broker("1", vec![op("zzz", 0, Some("2"))])),
        ("broker", broker("1", vec![op("log.retention.ms", 0, Some("60000000"))])),
        ("broker, bad value", broker("1", vec![op("log.retention.ms", 0, Some("x"))])),
        ("another broker", broker("9", vec![op("log.retention.ms", 0, Some("7"))])),
        ("no number for a broker", broker("x", vec![op("log.retention.ms", 0, Some("7"))])),
        ("all brokers", broker("", vec![op("log.retention.ms", 0, Some("70000000"))])),
        ("all brokers, listener", broker("", vec![op("listeners", 0, Some("PLAINTEXT://:1"))])),
        (
            "deleted from brokers",
            vec![
                on(BROKER, "", vec![op("log.retention.ms", 1, None)]),
                on(BROKER, "1", vec![op("log.retention.ms", 1, None)]),
            ],
        ),
        ("type 0", vec![on(0, "1", vec![op("log.retention.ms", 1, None)])]),
        ("type 3", vec![on(3, "1", vec![op("log.retention.ms", 1, None)])]),
        ("group", vec![on(32, "settings.g", vec![op("consumer.session.timeout.ms", 0, Some("50000"))])]),
        ("group, unknown name", vec![on(32, "settings.g", vec![op("zz", 0, Some("1"))])]),
        ("group, bad value", vec![on(32, "settings.g", vec![op("consumer.session.timeout.ms", 0, Some("x"))])]),
        ("group, too small", vec![on(32, "settings.g", vec![op("consumer.session.timeout.ms", 0, Some("1"))])]),
        ("group without a name", vec![on(32, "", vec![op("consumer.session.timeout.ms", 0, Some("50000"))])]),
        ("nothing", vec![]),
    ] {
        s.call(what, 1, &request(resources));
    }
    settled(s, "segment.ms", "60000");
    settled(s, "cleanup.policy", "delete");
    s.call(
        "after all that",
        4,
        &asked(vec![resource(TOPIC, "settings", Some(&["retention.ms", "segment.ms", "cleanup.policy"]))])
            .with_include_synonyms(true),
    );
    s.call(
        "a group that was set",
        4,
        &asked(vec![resource(32, "settings.g", Some(&["consumer.session.timeout.ms"]))]).with_include_synonyms(true),
    );
}

/// AlterConfigs, which replaces everything.
fn whole(s: &mut Session) {
    let on = |kind: i8, name: &str, values: &[(&str, Option<&str>)]| {
        let config = |(k, v): &(&str, Option<&str>)| {
            old::AlterableConfig::default().with_name(string(k)).with_value(v.map(string))
        };
        old::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(string(name))
            .with_configs(values.iter().map(config).collect())
    };
    let request = |resources| AlterConfigsRequest::default().with_resources(resources);
    for v in versions::<AlterConfigsRequest>() {
        let value = format!("80000{v}");
        s.call(
            "only validated",
            v,
            &request(vec![on(TOPIC, "settings", &[("retention.ms", Some("5"))])]).with_validate_only(true),
        );
        s.call(
            "a topic",
            v,
            &request(vec![on(TOPIC, "settings", &[("retention.ms", Some(&value)), ("segment.ms", Some("90000"))])]),
        );
        if v < 2 {
            s.call("one value less", v, &request(vec![on(TOPIC, "settings", &[("retention.ms", Some(&value))])]));
        }
        s.call("unknown topic", v, &request(vec![on(TOPIC, "nope", &[("retention.ms", Some("5"))])]));
        s.call("bad value", v, &request(vec![on(TOPIC, "settings", &[("retention.ms", Some("x"))])]));
    }
    for (what, resources) in [
        ("unknown name", vec![on(TOPIC, "settings", &[("zz", Some("1"))])]),
        ("null value", vec![on(TOPIC, "settings", &[("retention.ms", None)])]),
        ("empty name", vec![on(TOPIC, "settings", &[("", Some("1"))])]),
        (
            "one key twice",
            vec![on(TOPIC, "settings", &[("retention.ms", Some("800009")), ("retention.ms", Some("800008"))])],
        ),
        // One resource twice is not asked: Kafka 4.4 fails inside and never answers.
        ("bad topic name", vec![on(TOPIC, "a/b", &[("retention.ms", Some("1"))])]),
        ("empty topic name", vec![on(TOPIC, "", &[("retention.ms", Some("1"))])]),
        (
            "one good, one unknown",
            vec![
                on(TOPIC, "settings", &[("retention.ms", Some("800002")), ("segment.ms", Some("90000"))]),
                on(TOPIC, "nope", &[]),
            ],
        ),
        ("broker", vec![on(BROKER, "1", &[("log.retention.ms", Some("60000000"))])]),
        ("broker, nothing left", vec![on(BROKER, "1", &[])]),
        ("broker, read-only", vec![on(BROKER, "1", &[("num.partitions", Some("2"))])]),
        ("broker, bad value", vec![on(BROKER, "1", &[("log.retention.ms", Some("x"))])]),
        ("all brokers", vec![on(BROKER, "", &[("log.retention.ms", Some("60000000"))])]),
        ("all brokers, nothing left", vec![on(BROKER, "", &[])]),
        ("another broker", vec![on(BROKER, "9", &[("log.retention.ms", Some("7"))])]),
        ("no number for a broker", vec![on(BROKER, "x", &[("log.retention.ms", Some("7"))])]),
        ("type 0", vec![on(0, "1", &[("log.retention.ms", Some("7"))])]),
        ("loggers", vec![on(8, "1", &[("kafka", Some("INFO"))])]),
        ("group", vec![on(32, "settings.g", &[("consumer.session.timeout.ms", Some("50000"))])]),
        ("nothing", vec![]),
    ] {
        s.call(what, 2, &request(resources));
    }
    if s.serves(AlterConfigsRequest::KEY, 2) {
        settled(s, "segment.ms", "90000");
    }
    s.call(
        "after AlterConfigs",
        4,
        &asked(vec![resource(TOPIC, "settings", Some(&["retention.ms", "segment.ms", "cleanup.policy"]))]),
    );
}
