//! Records over HTTP: looked at, published, followed.

use crate::{
    clients::{all_acked, consume, consumer, producer, send},
    support::{Broker, Event, Events, Http, Options, PATIENCE, eventually, http, temp},
    wire::{Client, now_ms, string},
};
use kafka_protocol::messages::FindCoordinatorRequest;
use millstream::wire::codec;
use millstream_storage::record::BatchBuilder;
use rdkafka::{Message, Offset, message::Headers, producer::BaseRecord};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::TcpStream,
};

/// A broker with topic `a` of so many partitions.
struct Rig {
    broker: Broker,
    kafka: Client,
    http: Http,
    _dir: tempfile::TempDir,
}

fn rig(partitions: i32) -> Rig {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut kafka = Client::connect(&broker.kafka);
    assert_eq!(kafka.create_topic("a", partitions, &[]), 0);
    let http = http(&broker.http);
    Rig { broker, kafka, http, _dir: dir }
}

impl Rig {
    /// Appends one batch packed with `codec`.
    fn append(&mut self, partition: i32, codec: u8, records: &BatchBuilder) -> i64 {
        let bytes = records.build_with(codec, &codec::pack(codec, records.payload()));
        let answer = self.kafka.produce("a", partition, bytes.into(), -1);
        assert_eq!(answer.error_code, 0);
        answer.base_offset
    }

    /// Appends so many records of the values `partition/number`, a millisecond apart from `first_ms` on.
    fn fill(&mut self, partition: i32, count: usize, first_ms: i64, apart_ms: i64) {
        let mut records = BatchBuilder::new();
        for n in 0..count {
            let value = format!("{partition}/{n}");
            records.push(first_ms + n as i64 * apart_ms, None, Some(value.as_bytes()), &[]);
        }
        self.append(partition, 0, &records);
    }

    /// A page of topic `a`.
    #[track_caller]
    fn page(&self, query: &str) -> Value {
        self.http.get(&format!("/v1/topics/a/messages?{query}")).expect(200)
    }
}

/// (partition, offset) of each record of a page.
fn places(page: &Value) -> Vec<(i64, i64)> {
    let place = |m: &Value| (m["partition"].as_i64().unwrap(), m["offset"].as_i64().unwrap());
    page["messages"].as_array().unwrap().iter().map(place).collect()
}

#[test]
fn records_are_shown_decoded_whatever_their_codec() {
    let mut rig = rig(1);
    let at = now_ms();
    let big = r#"{"n":123456789012345678901234567890,"x":0.10}"#;
    for codec in 0..=4u8 {
        let records = BatchBuilder::new()
            .record(at, Some(b"k1"), Some(big.as_bytes()), &[("h", Some(b"v")), ("none", None), ("h", Some(b"\xff"))])
            .record(at + 5, None, Some("gr\u{fc}n".as_bytes()), &[])
            .record(at + 7, Some(b"\x00\xff"), None, &[]);
        let base = rig.append(0, codec, &records);
        let answer = rig.http.get(&format!("/v1/topics/a/messages?offset={base}"));
        assert!(answer.text().contains("123456789012345678901234567890"), "all digits: {}", answer.text());
        assert!(answer.text().contains("0.10"), "{}", answer.text());
        let page = answer.expect(200);
        assert_eq!(page["holes"], json!([]));
        assert_eq!(page["next"], Value::Null);
        let [first, second, third] = page["messages"].as_array().unwrap().as_slice() else { panic!("{page}") };
        assert_eq!(first["key"], json!({"encoding": "text", "data": "k1", "size_bytes": 2}));
        assert_eq!((&first["value"]["encoding"], &first["value"]["size_bytes"]), (&json!("json"), &json!(big.len())));
        let headers = json!([
            {"key": "h", "value": {"encoding": "text", "data": "v", "size_bytes": 1}},
            {"key": "none", "value": null},
            {"key": "h", "value": {"encoding": "base64", "data": "/w==", "size_bytes": 1}},
        ]);
        assert_eq!((&first["headers"], &first["header_count"]), (&headers, &json!(3)));
        assert_eq!((&first["timestamp_ms"], &first["timestamp_type"]), (&json!(at), &json!("create")));
        assert_eq!(second["key"], Value::Null);
        assert_eq!(second["value"]["data"], "gr\u{fc}n");
        assert_eq!(third["key"], json!({"encoding": "base64", "data": "AP8=", "size_bytes": 2}));
        assert_eq!((&third["value"], &third["offset"]), (&Value::Null, &json!(base + 2)));
        let one = rig.http.get(&format!("/v1/topics/a/messages/0/{}", base + 1)).expect(200);
        assert_eq!(&one, second);
    }
}

#[test]
fn a_cursor_sees_every_record_exactly_once_forwards_and_backwards() {
    let mut rig = rig(4);
    let at = now_ms() - 1_000_000;
    for round in 0..20 {
        for partition in 0..4 {
            // Partition 3 stays empty.
            if partition < 3 {
                rig.fill(partition, 167, at + 500 * round, 1);
            }
        }
    }
    let count = 20 * 3 * 167;
    let mut all = Vec::new();
    let mut query = "limit=999".to_owned();
    loop {
        let page = rig.page(&query);
        all.extend(places(&page));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=997&cursor={next}");
    }
    assert!(all.is_sorted(), "by partition and offset");
    all.dedup();
    assert_eq!(all.len(), count);

    let mut back = Vec::new();
    let mut times = Vec::new();
    let mut query = "from=latest&limit=1000".to_owned();
    loop {
        let page = rig.page(&query);
        back.extend(places(&page));
        times.extend(page["messages"].as_array().unwrap().iter().map(|m| m["timestamp_ms"].as_i64().unwrap()));
        let Some(next) = page["next"].as_str() else { break };
        query = format!("limit=313&cursor={next}");
    }
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
    back.sort();
    assert!(back == all, "{} records", back.len());
}

#[test]
fn the_last_of_all_partitions_come_in_one_request() {
    let mut rig = rig(3);
    let at = now_ms() - 100_000;
    rig.fill(0, 100, at, 10);
    rig.fill(1, 100, at + 5, 10);
    rig.fill(2, 100, at - 50_000, 10);
    let page = rig.page("offset=-50");
    let wanted: Vec<_> = (0..25).flat_map(|n| [(1, 99 - n), (0, 99 - n)]).collect();
    assert_eq!(places(&page), wanted);
    assert_eq!(places(&rig.page("offset=-2&partition=2")), [(2, 99), (2, 98)]);
    assert_eq!(places(&rig.page("from=latest&limit=3&partition=0")), [(0, 99), (0, 98), (0, 97)]);
    // By time, each partition from there.
    let page = rig.page(&format!("time_ms={}", at + 985));
    assert_eq!(places(&page), [(0, 99), (1, 98), (1, 99)]);
    assert_eq!(places(&rig.page(&format!("time_ms={}", at * 2))), []);
    assert_eq!(places(&rig.page("partition=1&offset=98")), [(1, 98), (1, 99)]);
    assert_eq!(places(&rig.page("partition=1&offset=100")), []);
    // Filters.
    let page = rig.page("contains=/77&format=base64");
    assert_eq!(places(&page), [(0, 77), (1, 77), (2, 77)]);
    assert_eq!(page["messages"][0]["value"]["data"], "MC83Nw==");
    assert_eq!(places(&rig.page("contains=2/7&from=latest&limit=2")), [(2, 79), (2, 78)]);
    assert_eq!(places(&rig.page("key=nobody")), []);
    // What was deleted is not there; an offset below the start begins at the start.
    assert_eq!(rig.kafka.delete_records("a", 1, 97).0, 0);
    assert_eq!(places(&rig.page("partition=1&offset=5")), [(1, 97), (1, 98), (1, 99)]);
    assert_eq!(places(&rig.page("partition=1&from=latest")), [(1, 99), (1, 98), (1, 97)]);
}

#[test]
fn wrong_parameters_are_refused_with_a_sentence() {
    let mut rig = rig(2);
    rig.fill(0, 3, now_ms(), 1);
    let cursor = rig.page("limit=1")["next"].as_str().unwrap().to_owned();
    for (path, status) in [
        ("/v1/topics/b/messages", 404),
        ("/v1/topics/a/messages?partition=2", 404),
        ("/v1/topics/a/messages?partition=-1", 404),
        ("/v1/topics/a/messages?partition=x", 400),
        ("/v1/topics/a/messages?partition=99999999999", 400),
        ("/v1/topics/a/messages?limit=0", 400),
        ("/v1/topics/a/messages?limit=1001", 400),
        ("/v1/topics/a/messages?limit=-1", 400),
        ("/v1/topics/a/messages?offset=-1001", 400),
        ("/v1/topics/a/messages?offset=-9223372036854775808", 400),
        ("/v1/topics/a/messages?offset=-1&limit=1", 400),
        ("/v1/topics/a/messages?offset=4&partition=0", 400),
        ("/v1/topics/a/messages?offset=1&time_ms=1", 400),
        ("/v1/topics/a/messages?from=middle", 400),
        ("/v1/topics/a/messages?format=xml", 400),
        ("/v1/topics/a/messages?pratition=0", 400),
        ("/v1/topics/a/messages?cursor=abc", 400),
        ("/v1/topics/a/messages?cursor=", 400),
        (&format!("/v1/topics/a/messages?partition=0&cursor={cursor}"), 400),
        (&format!("/v1/topics/a/messages?contains={}", "x".repeat(1025)), 400),
        ("/v1/topics/b/messages/0/0", 404),
        ("/v1/topics/a/messages/0/3", 404),
        ("/v1/topics/a/messages/0/-1", 404),
        ("/v1/topics/a/messages/2/0", 404),
        ("/v1/topics/a/messages/x/0", 400),
        ("/v1/topics/a/messages/0/0?part=middle", 400),
        ("/v1/topics/a/messages/0/0?part=key", 404),
    ] {
        let said = rig.http.get(path).problem(status);
        assert!(!said.is_empty(), "{path}");
    }
    // A cursor of a topic that was deleted and created anew.
    assert_eq!(rig.kafka.delete_topic("a"), 0);
    assert_eq!(rig.kafka.create_topic("a", 2, &[]), 0);
    rig.http.get(&format!("/v1/topics/a/messages?cursor={cursor}")).problem(400);
    drop(rig.broker);
}

#[test]
fn what_is_large_is_cut_and_comes_whole_as_bytes() {
    let mut rig = rig(1);
    let large = "x".repeat(700_000);
    let headers: Vec<_> = (0..100).map(|_| ("h", Some(&b"v"[..]))).collect();
    let records = BatchBuilder::new().record(now_ms(), Some(b"<script>"), Some(large.as_bytes()), &headers);
    rig.append(0, 0, &records);
    let page = rig.page("");
    let message = &page["messages"][0];
    let value = &message["value"];
    assert_eq!((&value["truncated"], &value["size_bytes"]), (&json!(true), &json!(700_000)));
    assert_eq!(value["data"].as_str().unwrap().len(), 16 << 10);
    assert_eq!((message["headers"].as_array().unwrap().len(), &message["header_count"]), (64, &json!(100)));
    let one = rig.http.get("/v1/topics/a/messages/0/0").expect(200);
    assert_eq!(one["value"]["data"], large);
    let saved = rig.http.get("/v1/topics/a/messages/0/0?part=value");
    assert!(saved.status == 200 && saved.body == large.as_bytes());
    let saved = rig.http.get("/v1/topics/a/messages/0/0?part=key");
    assert_eq!(saved.header("content-type"), Some("application/octet-stream"));
    assert_eq!(saved.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(saved.header("content-disposition"), Some("attachment; filename=\"0-0.key\""));
    // A page ends at 2 MiB of payload, with a cursor.
    let mut small = BatchBuilder::new();
    (0..40).for_each(|_| small.push(now_ms(), None, Some(&[b'y'; 16 << 10]), &[]));
    for _ in 0..10 {
        rig.append(0, 4, &small);
    }
    for order in ["from=earliest", "from=latest"] {
        let (mut query, mut seen, mut pages) = (format!("{order}&limit=1000"), 0, 0);
        loop {
            let answer = rig.http.get(&format!("/v1/topics/a/messages?{query}"));
            assert!(answer.body.len() < 3 << 20, "{}", answer.body.len());
            let page = answer.expect(200);
            seen += page["messages"].as_array().unwrap().len();
            pages += 1;
            let Some(next) = page["next"].as_str() else { break };
            query = format!("limit=1000&cursor={next}");
        }
        assert_eq!(seen, 401, "{order}");
        assert!(pages >= 4, "{order}: {pages}");
    }
}

/// (offset, offset behind) of each hole of a page.
fn holes(page: &Value) -> Vec<(i64, i64)> {
    let hole = |h: &Value| (h["offset"].as_i64().unwrap(), h["next_offset"].as_i64().unwrap());
    page["holes"].as_array().unwrap().iter().map(hole).collect()
}

/// The offsets of a page.
fn offsets(page: &Value) -> Vec<i64> {
    places(page).into_iter().map(|(_, offset)| offset).collect()
}

#[test]
fn batches_that_cannot_be_unpacked_are_named_and_are_not_kept() {
    let mut rig = rig(1);
    let two = |a: &str, b: &str| {
        BatchBuilder::new().record(now_ms(), None, Some(a.as_bytes()), &[]).record(
            now_ms(),
            None,
            Some(b.as_bytes()),
            &[],
        )
    };
    rig.append(0, 1, &two("a", "b"));
    // Garbage, a batch cut short, one of fewer records than it says, and a bomb: more than may come out of a batch, in some 130 KiB.
    let bomb = codec::pack(1, &vec![0; 130 << 20]);
    let packed = codec::pack(4, two("c", "d").payload());
    let whole = two("c", "d").record(now_ms(), None, Some(b"e"), &[]);
    for (codec, payload, records) in [
        (1, &b"garbage"[..], two("c", "d")),
        (4, &packed[..packed.len() - 3], two("c", "d")),
        (4, &packed[..], whole),
        (1, &bomb[..], two("c", "d")),
    ] {
        let batch = records.build_with(codec, payload);
        assert_eq!(rig.kafka.produce("a", 0, batch.into(), -1).error_code, 0);
    }
    rig.append(0, 2, &two("f", "g"));
    let before = resident_bytes(rig.broker.pid());
    let page = rig.page("");
    // What comes before the damage within a batch is shown.
    assert_eq!(offsets(&page), [0, 1, 6, 7, 11, 12]);
    assert_eq!(holes(&page), [(2, 4), (4, 6), (8, 9), (9, 11)]);
    assert_eq!(page["next"], Value::Null);
    let page = rig.page("from=latest");
    assert_eq!(offsets(&page), [12, 11, 7, 6, 1, 0]);
    let mut tail = rig.http.events("/v1/topics/a/tail?from=earliest");
    let told: Vec<_> = records(&mut tail).take(10).map(|e| e.event).collect();
    let wanted = ["message", "message", "hole", "hole", "message", "message", "hole", "hole", "message", "message"];
    assert_eq!(told, wanted);
    assert!(rig.http.get("/v1/topics/a/messages/0/9").problem(404).contains("unpacked"));
    // One request after another: a dozen bombs of 128 MiB that were kept would take 1.5 GiB.
    for _ in 0..8 {
        assert_eq!(offsets(&rig.page("")), [0, 1, 6, 7, 11, 12]);
    }
    let grown = resident_bytes(rig.broker.pid()).saturating_sub(before);
    assert!(grown < 1 << 30, "{} MiB", grown >> 20);
}

#[test]
fn what_is_damaged_on_disk_is_named_and_what_lies_behind_it_is_shown() {
    let mut rig = rig(1);
    for n in 0..20 {
        rig.fill(0, 10, now_ms() + n, 1);
    }
    let dir = rig._dir;
    assert_eq!(rig.broker.stop().0, Some(0));
    let log = dir.path().join("a-0").join("00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let mut at = 0;
    for n in 0..20 {
        let length = i32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        // The records of batches 5 and 6, and of the last one.
        if [5, 6, 19].contains(&n) {
            bytes[at + 70] ^= 0x55;
        }
        at += 12 + length;
    }
    std::fs::write(&log, bytes).unwrap();
    let broker = Options::new(dir.path()).start();
    let http = http(&broker.http);
    let page = |query: &str| http.get(&format!("/v1/topics/a/messages?limit=1000&{query}")).expect(200);
    let whole: Vec<i64> = (0..50).chain(70..190).collect();
    for _ in 0..2 {
        let forward = page("");
        assert_eq!(offsets(&forward), whole);
        let lost: i64 = holes(&forward).iter().map(|(from, to)| to - from).sum();
        assert_eq!(lost, 30, "{:?}", holes(&forward));
        let back = page("from=latest");
        assert_eq!(offsets(&back), whole.iter().rev().copied().collect::<Vec<_>>());
        assert_eq!(offsets(&page("offset=55"))[0], 70);
    }
    http.get("/v1/topics/a/messages/0/55").problem(404);
    let mut tail = http.events("/v1/topics/a/tail?from=earliest");
    let told: Vec<_> = records(&mut tail).take_while(|e| !e.data.contains("\"offset\":189,")).collect();
    assert_eq!(told.iter().filter(|e| e.event == "message").count(), 169);
    assert_eq!(http.get("/readyz").status, 200);
}

/// A payload of text.
fn text(data: &str) -> Value {
    json!({"encoding": "text", "data": data})
}

#[test]
fn what_is_published_is_what_clients_and_pages_read() {
    let rig = rig(3);
    let at = now_ms() - 5_000;
    let json = r#"{"n":123456789012345678901234567890,"m":0.10}"#;
    let body = format!(
        r#"{{"messages": [
            {{"partition": 2, "timestamp_ms": {at}, "key": {{"encoding": "text", "data": "k"}}, "value": {{"encoding": "json", "data": {json}}},
              "headers": [{{"key": "h", "value": {{"encoding": "base64", "data": "AP8="}}}}, {{"key": "none", "value": null}}]}},
            {{"key": {{"encoding": "text", "data": "foobar"}}, "value": null}},
            {{"partition": 2, "value": {{"encoding": "base64", "data": "/w=="}}}}
        ]}}"#
    );
    let answer = rig.http.send("POST", "/v1/topics/a/messages", Some("application/json"), body.as_bytes());
    // Kafka's murmur2 of "foobar" is -790332482, without its sign 1357151166, which 3 divides.
    let results = json!([
        {"partition": 2, "offset": 0, "error": null},
        {"partition": 0, "offset": 0, "error": null},
        {"partition": 2, "offset": 1, "error": null},
    ]);
    assert_eq!(answer.expect(200)["results"], results);
    let read = consume(&rig.broker.kafka, "a", &[(2, Offset::Beginning)], 2);
    assert_eq!((read[0].key(), read[0].payload()), (Some(&b"k"[..]), Some(json.as_bytes())));
    assert_eq!(read[0].timestamp().to_millis(), Some(at));
    let headers = read[0].headers().unwrap();
    assert_eq!((headers.get(0).key, headers.get(0).value), ("h", Some(&b"\x00\xff"[..])));
    assert_eq!((headers.get(1).key, headers.get(1).value), ("none", None));
    assert_eq!((read[1].key(), read[1].payload()), (None, Some(&b"\xff"[..])));
    assert!(read[1].timestamp().to_millis().unwrap() >= at + 5_000);
    let tombstone = &rig.page("partition=0")["messages"][0];
    assert_eq!((&tombstone["key"]["data"], &tombstone["value"]), (&json!("foobar"), &Value::Null));
    // What librdkafka sends with any codec is read here.
    let mut wanted = Vec::new();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let p = producer(&rig.broker.kafka, &[("compression.codec", codec), ("acks", "all")]);
        for n in 0..30 {
            let value = format!("{codec} {n} {}", "abc".repeat(100));
            let record = BaseRecord::with_opaque_to("a", Box::new(n)).partition(1);
            send(&p, record.key(codec.as_bytes()).payload(value.as_bytes()));
            wanted.push(value);
        }
        all_acked(&p);
    }
    let page = rig.page("partition=1&limit=1000");
    let values: Vec<_> = page["messages"].as_array().unwrap().iter().map(|m| m["value"]["data"].clone()).collect();
    assert_eq!(values, wanted);
    assert_eq!(places(&rig.page("key=zstd&limit=1&from=latest")), [(1, 149)]);
    // All without a key go to one partition, in order.
    let many: Vec<_> = (0..1000).map(|n| json!({"value": text(&n.to_string())})).collect();
    let answer = rig.http.post("/v1/topics/a/messages", &json!({ "messages": many })).expect(200);
    let results = answer["results"].as_array().unwrap();
    let offsets = results.iter().map(|r| r["offset"].as_i64().unwrap());
    assert!(results.iter().all(|r| r["partition"] == results[0]["partition"]));
    assert!(offsets.collect::<Vec<_>>().windows(2).all(|w| w[1] == w[0] + 1));
    drop(rig.kafka);
}

#[test]
fn what_cannot_be_published_is_refused_and_changes_nothing() {
    let mut rig = rig(2);
    assert_eq!(rig.kafka.create_topic("small", 2, &[("max.message.bytes", "1000")]), 0);
    assert_eq!(rig.kafka.create_topic("compacted", 1, &[("cleanup.policy", "compact")]), 0);
    let one = |message: Value| json!({"messages": [message]});
    let many = |n: usize| json!({ "messages": vec![json!({}); n] });
    let headers = vec![json!({"key": "h", "value": null}); 1001];
    for (topic, body, status) in [
        ("b", one(json!({})), 404),
        ("__consumer_offsets", one(json!({})), 404),
        ("a", json!({}), 422),
        ("a", json!({"messages": []}), 422),
        ("a", json!([]), 422),
        ("a", one(json!({"vlaue": null})), 422),
        ("a", one(json!({"value": "x"})), 422),
        ("a", one(json!({"value": {"encoding": "text", "data": 1}})), 422),
        ("a", one(json!({"value": {"encoding": "base64", "data": "!"}})), 422),
        ("a", one(json!({"value": {"encoding": "text", "data": "x", "truncated": true}})), 422),
        ("a", one(json!({"headers": [{"key": 1, "value": null}]})), 422),
        ("a", one(json!({ "headers": headers })), 422),
        ("a", one(json!({"partition": 2})), 422),
        ("a", one(json!({"partition": -1})), 422),
        ("a", one(json!({"timestamp_ms": -1})), 422),
        ("a", one(json!({"timestamp_ms": i64::MAX})), 422),
        ("a", many(10_001), 422),
        ("a", one(json!({"value": text(&"x".repeat(2 << 20))})), 422),
        ("a", one(json!({"value": text(&"x".repeat(5 << 20))})), 413),
        ("small", one(json!({"value": text(&"x".repeat(1000))})), 422),
        ("compacted", one(json!({"value": text("x")})), 422),
    ] {
        let answer = rig.http.post(&format!("/v1/topics/{topic}/messages"), &body);
        let said = answer.problem(status);
        assert!(!said.is_empty(), "{topic}");
    }
    let path = "/v1/topics/a/messages";
    rig.http.send("POST", path, Some("application/json"), b"{").problem(400);
    rig.http.send("POST", path, Some("text/plain"), br#"{"messages":[{}]}"#).problem(415);
    rig.http.send("POST", path, None, br#"{"messages":[{}]}"#).problem(415);
    for topic in ["a", "small", "compacted"] {
        let page = rig.http.get(&format!("/v1/topics/{topic}/messages")).expect(200);
        assert_eq!(page["messages"], json!([]), "{topic}");
    }
    assert!(rig.kafka.list_offset("b", 0, -1).0 != 0, "no topic was created");
    // One partition of two takes its records.
    let two =
        json!({"messages": [{"partition": 0, "value": text("x")}, {"partition": 1, "value": text(&"x".repeat(1000))}]});
    let answer = rig.http.post("/v1/topics/small/messages", &two).expect(207);
    assert_eq!(answer["results"][0], json!({"partition": 0, "offset": 0, "error": null}));
    assert_eq!(answer["results"][1]["offset"], Value::Null);
    assert!(answer["results"][1]["error"].as_str().unwrap().contains("max.message.bytes"));
}

#[test]
fn the_brokers_own_topics_are_shown_but_not_written() {
    let mut rig = rig(1);
    let group = consumer(&rig.broker.kafka);
    drop(group);
    // Asking for a coordinator makes the topic.
    let found = FindCoordinatorRequest::default().with_coordinator_keys(vec![string("g")]);
    eventually("the topic of offsets is there", || {
        rig.kafka.call(4, &found);
        (rig.http.get("/v1/topics/__consumer_offsets/messages?limit=1").status == 200).then_some(())
    });
    let answer = rig.http.post("/v1/topics/__consumer_offsets/messages", &json!({"messages": [{}]}));
    answer.problem(403);
}

/// The events with data of a tail.
fn records(events: &mut Events) -> impl Iterator<Item = Event> + use<'_> {
    events.filter(|event| !event.data.is_empty())
}

/// A connection on which a tail was asked for, its answer begun.
fn raw_tail(address: &str, path: &str) -> TcpStream {
    let (socket, status) = ask(address, path);
    assert_eq!(status, 200, "{path}");
    socket
}

/// A connection on which something was asked for, and the status that was answered.
fn ask(address: &str, path: &str) -> (TcpStream, u16) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
    let mut status = [0; 12];
    socket.read_exact(&mut status).unwrap();
    (socket, std::str::from_utf8(&status[9..]).unwrap().parse().unwrap())
}

fn value(event: &Event) -> String {
    assert_eq!(event.event, "message", "{event:?}");
    serde_json::from_str::<Value>(&event.data).unwrap()["value"]["data"].as_str().unwrap().to_owned()
}

#[test]
fn a_tail_sees_records_in_order_as_they_come_and_goes_on_where_it_was() {
    let mut rig = rig(2);
    rig.fill(0, 3, now_ms(), 1);
    let mut tail = rig.http.events("/v1/topics/a/tail?partition=0");
    // Its first event says where it begins.
    let begin = tail.next().unwrap();
    assert!(begin.data.is_empty() && begin.id.is_some(), "{begin:?}");
    rig.fill(1, 5, now_ms(), 1);
    let mut seen = Vec::new();
    for codec in 0..=4u8 {
        let mut records_of = BatchBuilder::new();
        (0..100).for_each(|n| records_of.push(now_ms(), None, Some(format!("{codec}-{n}").as_bytes()), &[]));
        rig.append(0, codec, &records_of);
        seen.extend(records(&mut tail).take(100));
    }
    let values: Vec<_> = seen.iter().map(value).collect();
    let wanted: Vec<_> = (0..=4).flat_map(|codec| (0..100).map(move |n| format!("{codec}-{n}"))).collect();
    assert_eq!(values, wanted);
    drop(tail);
    // From the middle of a batch, and from the beginning.
    for at in [0, 250, 433] {
        let from = rig.http.clone().with("last-event-id", seen[at].id.as_ref().unwrap());
        let mut tail = from.events("/v1/topics/a/tail?partition=0");
        let again: Vec<_> = records(&mut tail).take(499 - at).map(|e| value(&e)).collect();
        assert!(again == wanted[at + 1..], "after {at}");
    }
    let mut tail = rig.http.events(&format!("/v1/topics/a/tail?cursor={}", begin.id.unwrap()));
    assert_eq!(records(&mut tail).map(|e| value(&e)).next().unwrap(), "0-0");
    // All partitions from the start, filtered.
    let mut tail = rig.http.events("/v1/topics/a/tail?from=earliest&contains=1/");
    let five: Vec<_> = records(&mut tail).take(5).map(|e| value(&e)).collect();
    assert_eq!(five, ["1/0", "1/1", "1/2", "1/3", "1/4"]);
    // Behind a page.
    let live = rig.page("from=latest&limit=1")["live"].as_str().unwrap().to_owned();
    rig.fill(1, 1, now_ms(), 1);
    let mut tail = rig.http.events(&format!("/v1/topics/a/tail?cursor={live}"));
    assert_eq!(records(&mut tail).map(|e| value(&e)).next().unwrap(), "1/0");
    for (query, status) in [
        ("partition=2", 404),
        ("partition=x", 400),
        ("from=middle", 400),
        ("offset=-1", 400),
        ("cursor=x", 400),
        ("from=latest&offset=1", 400),
        ("limit=1", 400),
    ] {
        rig.http.get(&format!("/v1/topics/a/tail?{query}")).problem(status);
    }
    rig.http.get("/v1/topics/b/tail").problem(404);
    rig.http.clone().with("last-event-id", "x").get("/v1/topics/a/tail").problem(400);
}

#[test]
fn a_tail_says_what_was_deleted_and_ends_with_its_topic_and_with_the_broker() {
    let mut rig = rig(1);
    rig.fill(0, 10, now_ms(), 1);
    let begin = rig.http.events("/v1/topics/a/tail?from=earliest").next().unwrap();
    assert_eq!(rig.kafka.delete_records("a", 0, 7).0, 0);
    let mut tail = rig.http.events(&format!("/v1/topics/a/tail?cursor={}", begin.id.unwrap()));
    let hole = records(&mut tail).next().unwrap();
    assert_eq!(hole.event, "hole");
    let hole: Value = serde_json::from_str(&hole.data).unwrap();
    assert_eq!((&hole["partition"], &hole["offset"], &hole["next_offset"]), (&json!(0), &json!(0), &json!(7)));
    let rest: Vec<_> = records(&mut tail).take(3).map(|e| value(&e)).collect();
    assert_eq!(rest, ["0/7", "0/8", "0/9"]);
    // While it waits.
    assert_eq!(rig.kafka.delete_topic("a"), 0);
    let end = records(&mut tail).next().unwrap();
    assert_eq!(end.event, "end");
    assert!(end.data.contains("deleted"), "{end:?}");
    assert_eq!(tail.next(), None);
    assert_eq!(rig.kafka.create_topic("a", 1, &[]), 0);
    let mut waiting = raw_tail(&rig.broker.http, "/v1/topics/a/tail");
    let (code, stderr) = rig.broker.stop();
    assert_eq!(code, Some(0), "{stderr}");
    let mut rest = Vec::new();
    let _ = waiting.read_to_end(&mut rest);
}

/// Resident memory of a process, bytes.
fn resident_bytes(pid: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn a_thousand_tails_that_do_not_read_hold_up_nobody() {
    const TAILS: usize = 1_000;
    let mut rig = rig(1);
    let tail = "/v1/topics/a/tail?from=earliest&format=base64";
    let held: Vec<_> = (0..TAILS).map(|_| raw_tail(&rig.broker.http, tail)).collect();
    let before = resident_bytes(rig.broker.pid());
    let mut records = BatchBuilder::new();
    (0..64).for_each(|_| records.push(now_ms(), None, Some(&[b'x'; 8 << 10]), &[]));
    // More than all that lies between the log and a peer: 64 MiB.
    for _ in 0..128 {
        rig.append(0, 0, &records);
    }
    // Others are answered, and those who do read see everything.
    assert_eq!(rig.http.get("/readyz").status, 200);
    assert_eq!(places(&rig.page("from=latest&limit=1")), [(0, 8191)]);
    let mut reading = rig.http.events(tail);
    assert_eq!(self::records(&mut reading).take(8192).count(), 8192);
    // Less than 256 KiB each, the log's own pages included.
    let grown = resident_bytes(rig.broker.pid()).saturating_sub(before);
    assert!(grown < TAILS * (256 << 10) + (128 << 20), "{} MiB", grown >> 20);
    // So many and no more; what ends makes room.
    let more: Vec<_> = (0..1_024 - TAILS - 1).map(|_| raw_tail(&rig.broker.http, tail)).collect();
    rig.http.get(tail).problem(503);
    drop(reading);
    eventually("there is room for another", || {
        let (_socket, status) = ask(&rig.broker.http, tail);
        (status == 200).then_some(())
    });
    drop((held, more));
    assert_eq!(rig.broker.stop().0, Some(0));
}
