//! Records over HTTP: looked at, published, followed.

use crate::{
    support::{Broker, Http, Options, http, temp},
    wire::{Client, now_ms},
};
use millstream::wire::codec;
use millstream_storage::record::BatchBuilder;
use serde_json::{Value, json};

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
