//! Topics over HTTP: what the admin API does, a Kafka client sees, and the other way round; what it refuses changes nothing.

use crate::support::{Broker, Options, http, temp};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseRecord, Producer, ThreadedProducer},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};

const WAIT: Duration = Duration::from_secs(30);

fn start() -> (Broker, tempfile::TempDir) {
    let dir = temp();
    (Options::new(dir.path()).start(), dir)
}

/// Partitions by topic, as a Kafka client is told.
fn seen_by_kafka(broker: &Broker) -> BTreeMap<String, usize> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &broker.kafka).create().unwrap();
    let metadata = consumer.fetch_metadata(None, WAIT).unwrap();
    metadata.topics().iter().map(|t| (t.name().to_owned(), t.partitions().len())).collect()
}

fn watermarks(broker: &Broker, topic: &str, partition: i32) -> (i64, i64) {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &broker.kafka).create().unwrap();
    consumer.fetch_watermarks(topic, partition, WAIT).unwrap()
}

fn produce(broker: &Broker, topic: &str, partition: i32, count: usize) {
    let producer: ThreadedProducer<_> = ClientConfig::new().set("bootstrap.servers", &broker.kafka).create().unwrap();
    for n in 0..count {
        let payload = format!("record {n}");
        let record = BaseRecord::<str, str>::to(topic).partition(partition).payload(&payload);
        producer.send(record).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(WAIT).unwrap();
}

fn config<'a>(topic: &'a Value, name: &str) -> &'a Value {
    topic["configs"].as_array().unwrap().iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn a_topic_made_over_http_is_one_for_kafka_clients_and_the_other_way_round() {
    let (broker, _dir) = start();
    let client = http(&broker.http);
    let wanted = json!({"name": "orders", "partitions": 3, "configs": {"retention.ms": "86400000"}});
    let answer = client.post("/v1/topics", &wanted);
    let made = answer.expect(201);
    assert_eq!(answer.header("location"), Some("/v1/topics/orders"));
    assert_eq!(
        (&made["name"], &made["partitions"], &made["replication_factor"]),
        (&json!("orders"), &json!(3), &json!(1))
    );
    let retention = config(&made, "retention.ms");
    assert_eq!((&retention["value"], &retention["source"]), (&json!("86400000"), &json!("topic")));
    assert_eq!(seen_by_kafka(&broker)["orders"], 3);

    // It takes records at once, and shows them.
    produce(&broker, "orders", 1, 10);
    let topic = client.get("/v1/topics/orders").expect(200);
    assert_eq!((&topic["records"], &topic["durability"]), (&json!(10), &json!("fsync")));
    let partition = &topic["partition_details"][1];
    for (field, value) in
        [("partition", 1), ("leader", 1), ("start_offset", 0), ("high_watermark", 10), ("end_offset", 10)]
    {
        assert_eq!(partition[field], value, "{field}: {partition}");
    }
    assert_eq!((&partition["isr"], &partition["error"]), (&json!([1]), &Value::Null));
    assert!(partition["size_bytes"].as_u64().unwrap() > 100 && topic["size_bytes"] == partition["size_bytes"]);

    // What a Kafka client makes is there too.
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &broker.kafka).create().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let new = NewTopic::new("of-kafka", 2, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    runtime.block_on(admin.create_topics([&new], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    let topic = client.get("/v1/topics/of-kafka").expect(200);
    assert_eq!((&topic["partitions"], &config(&topic, "cleanup.policy")["value"]), (&json!(2), &json!("compact")));

    // Grown and altered in one request.
    let change = json!({"partitions": 5, "configs": {"retention.ms": null, "max.message.bytes": "2000000"}});
    let topic = client.json("PATCH", "/v1/topics/orders", &change).expect(200);
    assert_eq!(topic["partition_details"].as_array().unwrap().len(), 5);
    assert_eq!(config(&topic, "retention.ms")["source"], "default");
    assert_eq!(config(&topic, "max.message.bytes")["value"], "2000000");
    assert_eq!(seen_by_kafka(&broker)["orders"], 5);
    produce(&broker, "orders", 4, 1);

    // Gone for both.
    assert_eq!(client.send("DELETE", "/v1/topics/of-kafka", None, b"").status, 204);
    assert!(!seen_by_kafka(&broker).contains_key("of-kafka"));
    runtime.block_on(admin.delete_topics(&["orders"], &AdminOptions::new())).unwrap()[0].as_ref().unwrap();
    assert!(client.get("/v1/topics/orders").problem(404).contains("orders"));
}

#[test]
fn what_is_refused_says_why_and_changes_nothing() {
    let (broker, _dir) = start();
    let client = http(&broker.http);
    client
        .post("/v1/topics", &json!({"name": "t", "partitions": 2, "configs": {"segment.bytes": "1048576"}}))
        .expect(201);
    produce(&broker, "t", 0, 5);
    let before = client.get("/v1/topics/t").expect(200);

    // Each a request with its body, the status, and a word of the sentence.
    let refused: &[(&str, &str, Value, u16, &str)] = &[
        ("POST", "/v1/topics", json!({"name": "t"}), 409, "exists"),
        ("POST", "/v1/topics", json!({"name": "a b"}), 422, "character"),
        ("POST", "/v1/topics", json!({"name": ""}), 422, "empty"),
        ("POST", "/v1/topics", json!({"name": "x".repeat(250)}), 422, "long"),
        ("POST", "/v1/topics", json!({"name": "__cluster_metadata"}), 422, "log"),
        ("POST", "/v1/topics", json!({"name": "n", "partitions": 0}), 422, "partition"),
        ("POST", "/v1/topics", json!({"name": "n", "partitions": -1}), 422, "partitions"),
        ("POST", "/v1/topics", json!({"name": "n", "partitions": 2_000_000}), 422, "100000"),
        ("POST", "/v1/topics", json!({"name": "n", "replication_factor": 2}), 422, "replication factor"),
        ("POST", "/v1/topics", json!({"name": "n", "replication_factor": 70000}), 422, "70000"),
        ("POST", "/v1/topics", json!({"name": "n", "configs": {"retention.sm": "1"}}), 422, "retention.ms"),
        ("POST", "/v1/topics", json!({"name": "n", "configs": {"retention.ms": "soon"}}), 422, "retention.ms"),
        ("POST", "/v1/topics", json!({"name": "n", "configs": {"retention.ms": 5}}), 422, "string"),
        ("POST", "/v1/topics", json!({"name": "n", "partition": 3}), 422, "partition"),
        ("POST", "/v1/topics", json!({"partitions": 3}), 422, "name"),
        ("POST", "/v1/topics", json!(["n"]), 422, ""),
        ("POST", "/v1/topics?dry=1", json!({"name": "n"}), 400, "dry"),
        ("PATCH", "/v1/topics/t", json!({"partitions": 2}), 422, "more"),
        ("PATCH", "/v1/topics/t", json!({"partitions": 100_001}), 422, "100000"),
        ("PATCH", "/v1/topics/t", json!({"partitions": 3, "configs": {"retention.ms": "x"}}), 422, "retention.ms"),
        ("PATCH", "/v1/topics/t", json!({"partitions": 1, "configs": {"retention.ms": "1"}}), 422, "more"),
        ("PATCH", "/v1/topics/t", json!({"configs": {"no.such": null}}), 422, "no.such"),
        ("PATCH", "/v1/topics/t", json!({"config": {}}), 422, "config"),
        ("PATCH", "/v1/topics/none", json!({"partitions": 3}), 404, "none"),
        ("POST", "/v1/topics/t/delete-records", json!({"partitions": []}), 422, "one"),
        ("POST", "/v1/topics/t/delete-records", json!({"partitions": [{"partition": 7}]}), 422, "7"),
        (
            "POST",
            "/v1/topics/t/delete-records",
            json!({"partitions": [{"partition": 0, "before_offset": 3}, {"partition": 0}]}),
            422,
            "twice",
        ),
        (
            "POST",
            "/v1/topics/t/delete-records",
            json!({"partitions": [{"partition": 0, "before_offset": 3}, {"partition": 1, "before_offset": 9}]}),
            422,
            "outside",
        ),
        (
            "POST",
            "/v1/topics/t/delete-records",
            json!({"partitions": [{"partition": 0, "before_offset": -2}]}),
            422,
            "outside",
        ),
        ("POST", "/v1/topics/none/delete-records", json!({"partitions": [{"partition": 0}]}), 404, "none"),
        ("GET", "/v1/topics?limit=0", Value::Null, 400, "limit"),
        ("GET", "/v1/topics?limit=1001", Value::Null, 400, "limit"),
        ("GET", "/v1/topics?limit=x", Value::Null, 400, "limit"),
        ("GET", "/v1/topics?limit=1&limit=2", Value::Null, 400, "limit"),
        ("GET", "/v1/topics?cursor=x", Value::Null, 400, "cursor"),
        ("GET", "/v1/topics?filer=x", Value::Null, 400, "filer"),
        ("GET", "/v1/topics/t?verbose=1", Value::Null, 400, "verbose"),
        ("GET", "/v1/topics/none", Value::Null, 404, "none"),
        ("GET", "/v1/topics/%FF", Value::Null, 400, ""),
        ("GET", "/v1/throughput?topic=none", Value::Null, 404, "none"),
        ("GET", "/v1/latency?kind=node", Value::Null, 400, "node"),
        ("GET", "/v1/latency?buckets=true&limit=21", Value::Null, 400, "limit"),
        ("GET", "/v1/config?name=x", Value::Null, 400, "name"),
        ("GET", "/v1/cluster?x", Value::Null, 400, "x"),
        ("PUT", "/v1/topics", json!({"name": "n"}), 405, "PUT"),
        ("POST", "/v1/topics/t", json!({}), 405, "POST"),
        ("DELETE", "/v1/topics/none", Value::Null, 404, "none"),
        ("DELETE", "/v1/topics/t?force=1", Value::Null, 400, "force"),
    ];
    for (method, path, body, status, word) in refused {
        let answer = match body {
            Value::Null => client.send(method, path, None, b""),
            body => client.json(method, path, body),
        };
        let why = answer.problem(*status);
        assert!(why.contains(word), "{method} {path} {body}: {why}");
    }
    // Bodies that are not what they should be.
    let new = br#"{"name":"n"}"#;
    for (kind, body, status) in [
        (None, &new[..], 415),
        (Some("text/plain"), new, 415),
        (Some("application/x-www-form-urlencoded"), new, 415),
        (Some("application/json"), b"", 400),
        (Some("application/json"), b"{\"name\":", 400),
        (Some("application/json"), b"\xff\xfe", 400),
    ] {
        client.send("POST", "/v1/topics", kind, body).problem(status);
    }
    let large = vec![b' '; 5 << 20];
    client.send("POST", "/v1/topics", Some("application/json"), &large).problem(413);

    let after = client.get("/v1/topics/t").expect(200);
    for field in ["partitions", "records", "size_bytes", "configs"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    assert_eq!(watermarks(&broker, "t", 0), (0, 5));
    assert_eq!(seen_by_kafka(&broker).into_keys().collect::<Vec<_>>(), ["t"]);
}

#[test]
fn pages_of_other_sites_change_nothing() {
    let (broker, _dir) = start();
    let ours = http(&broker.http);
    ours.post("/v1/topics", &json!({"name": "t"})).expect(201);
    let foreign = [
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
        ("Host", "evil.example"),
        ("Sec-Fetch-Site", "cross-site"),
    ];
    for (name, value) in foreign {
        let theirs = http(&broker.http).with(name, value);
        theirs.get("/v1/topics").problem(403);
        theirs.post("/v1/topics", &json!({"name": "n"})).problem(403);
        theirs.json("PATCH", "/v1/topics/t", &json!({"partitions": 2})).problem(403);
        theirs.send("DELETE", "/v1/topics/t", None, b"").problem(403);
        theirs.send("POST", "/v1/topics/t/delete-records", Some("application/json"), b"{}").problem(403);
    }
    let topic = ours.get("/v1/topics/t").expect(200);
    assert_eq!((&topic["partitions"], seen_by_kafka(&broker).len()), (&json!(1), 1));
}

#[test]
fn lists_are_read_in_pages() {
    let (broker, _dir) = start();
    let client = http(&broker.http);
    for n in 0..7 {
        client
            .post("/v1/topics", &json!({"name": format!("t-{n}"), "partitions": if n == 3 { 25 } else { 1 }}))
            .expect(201);
    }
    let names = |query: &str| {
        let (mut names, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = client.get(&format!("/v1/topics?{query}{cursor}")).expect(200);
            names.extend(page["topics"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return (names, pages),
            }
        }
    };
    let all: Vec<String> = (0..7).map(|n| format!("t-{n}")).collect();
    assert_eq!(names("limit=3"), (all.clone(), 3));
    assert_eq!(names("limit=7"), (all.clone(), 1));
    assert_eq!(names("limit=1"), (all.clone(), 7));
    assert_eq!(names("filter=-5"), (vec![all[5].clone()], 1));
    let (mut partitions, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/topics/t-3?limit=10{cursor}")).expect(200);
        partitions
            .extend(page["partition_details"].as_array().unwrap().iter().map(|p| p["partition"].as_i64().unwrap()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(partitions, (0..25).collect::<Vec<_>>());
}

#[test]
fn records_are_trimmed_over_http() {
    let (broker, _dir) = start();
    let client = http(&broker.http);
    client.post("/v1/topics", &json!({"name": "t", "partitions": 2})).expect(201);
    produce(&broker, "t", 0, 10);
    produce(&broker, "t", 1, 4);
    let wanted = json!({"partitions": [{"partition": 0, "before_offset": 6}, {"partition": 1}]});
    let done = client.post("/v1/topics/t/delete-records", &wanted).expect(200);
    let starts: Vec<_> = done["partitions"].as_array().unwrap().iter().map(|p| p["start_offset"].as_i64()).collect();
    assert_eq!(starts, [Some(6), Some(4)]);
    assert_eq!((watermarks(&broker, "t", 0), watermarks(&broker, "t", 1)), ((6, 10), (4, 4)));
    client.post("/v1/topics", &json!({"name": "c", "configs": {"cleanup.policy": "compact"}})).expect(201);
    produce(&broker, "c", 0, 1);
    let refused = client.post("/v1/topics/c/delete-records", &json!({"partitions": [{"partition": 0}]}));
    assert!(refused.problem(422).contains("cleanup.policy"));
}

#[test]
fn topics_stay_where_deleting_is_switched_off() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("delete.topic.enable", "false").start();
    let client = http(&broker.http);
    client.post("/v1/topics", &json!({"name": "t"})).expect(201);
    assert!(client.send("DELETE", "/v1/topics/t", None, b"").problem(403).contains("delete.topic.enable"));
    client.get("/v1/topics/t").expect(200);
}

#[test]
fn the_cluster_its_settings_and_its_figures_are_shown() {
    let dir = temp();
    let broker = Options::new(dir.path()).set("num.partitions", "3").set("ssl.key.password", "not-for-you").start();
    let client = http(&broker.http);
    client.post("/v1/topics", &json!({"name": "t"})).expect(201);
    produce(&broker, "t", 0, 100);
    let cluster = client.get("/v1/cluster").expect(200);
    assert_eq!((&cluster["topics"], &cluster["partitions"], &cluster["node_id"]), (&json!(1), &json!(3), &json!(1)));
    assert_eq!(
        (&cluster["ready"], &cluster["reason"], &cluster["controller"]),
        (&json!(true), &Value::Null, &json!(1))
    );
    assert_eq!(cluster["listeners"][0]["name"], "PLAINTEXT");
    assert!(cluster["uptime_s"].as_f64().unwrap() > 0.0 && cluster["cluster_id"].as_str().unwrap().len() == 22);

    let settings = client.get("/v1/config?filter=num.partitions").expect(200);
    let setting = &settings["settings"][0];
    assert_eq!(
        (&setting["value"], &setting["source"], &setting["dynamic"]),
        (&json!("3"), &json!("command-line"), &json!(false))
    );
    let all = client.get("/v1/config");
    assert!(all.expect(200)["settings"].as_array().unwrap().len() > 100);
    assert!(!all.text().contains("not-for-you"), "a secret is shown");
    let changed = client.get("/v1/config?changed=true").expect(200);
    assert!(changed["settings"].as_array().unwrap().iter().all(|s| s["source"] != "default"));

    let latency = client.get("/v1/latency?kind=topic&name=t&stage=received_to_acknowledged&buckets=true").expect(200);
    let histogram = &latency["histograms"][0];
    let count = histogram["count"].as_u64().unwrap();
    assert!(count >= 1, "{latency}");
    assert_eq!(
        histogram["buckets"].as_array().unwrap().iter().map(|b| b["count"].as_u64().unwrap()).sum::<u64>(),
        count
    );
    let percentiles: Vec<f64> =
        histogram["percentiles"].as_array().unwrap().iter().map(|p| p["percentile"].as_f64().unwrap()).collect();
    assert_eq!(percentiles, [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99]);
    let produced = client.get("/v1/latency?kind=api&name=Produce").expect(200);
    assert_eq!(produced["histograms"][0]["stage"], "total");
    let log = client.get("/v1/latency?format=hdr");
    assert!(log.header("content-type").unwrap().starts_with("text/plain"));
    assert!(log.text().contains("Tag=topic/t/received_to_acknowledged,"), "{}", log.text());

    let throughput = client.get("/v1/throughput?topic=t").expect(200);
    assert_eq!((&throughput["topic"], &throughput["interval_ms"]), (&json!("t"), &json!(5000)));
    client.get("/v1/throughput").expect(200);
    let document = client.get("/v1/openapi.json").expect(200);
    assert!(document["paths"]["/v1/topics/{topic}"]["patch"].is_object());
}
