//! Groups over HTTP: how far a scripted consumer is behind, in records and seconds, when it will have caught up, and other offsets for it.

use crate::{
    flush_failure::shim,
    http::{Http, http},
    members::{Member, fetch, ready},
    support::{Broker, Options, eventually, temp},
    wire::{ANYONE, Client, batch, now_ms},
};
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Value, json};
use std::time::Duration;

/// Kafka's generation and member of a client that assigns itself.
fn outsider(address: &str, group: &str) -> Member {
    Member::new(address, group)
}

fn commit(member: &mut Member, topic: &str, partition: i32, offset: i64) {
    assert_eq!(member.commit(&[(topic, partition, offset, "")]), [0]);
}

/// Appends one record a batch; gives the test's clock before and after.
fn append(client: &mut Client, topic: &str, partition: i32, timestamp_ms: i64) -> (i64, i64) {
    let before = now_ms();
    let answer = client.produce(topic, partition, batch(ANYONE, timestamp_ms, &["x"]), -1);
    assert_eq!(answer.error_code, 0);
    (before, now_ms())
}

fn append_many(client: &mut Client, topic: &str, partition: i32, count: usize) {
    let answer = client.produce(topic, partition, batch(ANYONE, now_ms(), &vec!["x"; count]), -1);
    assert_eq!(answer.error_code, 0);
}

/// A broker with a topic and a coordinator that answers.
fn start(topic: &str, partitions: i32) -> (Broker, Http, Client, tempfile::TempDir) {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let client = ready(&broker.kafka, topic, partitions, "g");
    let admin = http(&broker.http);
    (broker, admin, client, dir)
}

fn group(admin: &Http, name: &str) -> Value {
    admin.get(&format!("/v1/groups/{name}")).expect(200)
}

/// The line of a group in the list.
fn line(admin: &Http, name: &str) -> Value {
    let list = admin.get(&format!("/v1/groups?prefix={name}")).expect(200);
    assert_eq!(list["missing"], json!([]));
    let found = list["groups"].as_array().unwrap().iter().find(|it| it["group"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {list}")).clone()
}

fn partition(group: &Value, topic: &str, index: i32) -> Value {
    let all = group["partitions"].as_array().unwrap();
    let found = all.iter().find(|it| it["topic"] == topic && it["partition"] == index);
    found.unwrap_or_else(|| panic!("no {topic}-{index} in {group}")).clone()
}

fn explanation(group: &Value) -> &str {
    group["explanation"].as_str().unwrap()
}

/// Asks with `ask` and holds the seconds it gives to what the test's own clock allows for a record that was appended between the two times given. The clock of the broker is cut to
/// milliseconds, as ours is.
#[track_caller]
fn assert_age(appended: (i64, i64), ask: impl Fn() -> Value) {
    let before = now_ms();
    let seconds = ask();
    let after = now_ms();
    let seconds = seconds.as_f64().unwrap_or_else(|| panic!("no seconds but {seconds}"));
    let (least, most) = ((before - appended.1 - 1) as f64 / 1e3, (after - appended.0 + 1) as f64 / 1e3);
    assert!(least <= seconds && seconds <= most, "{seconds} s is not within {least} to {most}");
}

/// What a consumer owns, as the consumer protocol has it.
fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(1);
    out.put_i32(1);
    out.put_i16(topic.len() as i16);
    out.put_slice(topic.as_bytes());
    out.put_i32(partitions.len() as i32);
    partitions.iter().for_each(|p| out.put_i32(*p));
    out.put_i32(-1);
    out.freeze()
}

/// A member that is alone in its group and owns these partitions.
fn owner(address: &str, group: &str, topic: &str, partitions: &[i32]) -> Member {
    let mut member = Member::new(address, group);
    member.topics = vec![topic.into()];
    member.join();
    let id = member.id.clone();
    member.send_sync(&[(&id, &assignment(topic, partitions))]);
    assert_eq!(member.synced().error_code, 0);
    member
}

#[test]
fn seconds_behind_are_those_since_the_append_of_the_first_record_not_committed() {
    let (broker, admin, mut c, _dir) = start("t", 2);
    let mut g = outsider(&broker.kafka, "g");
    // Producers' clocks say nothing: one is an hour ahead, one a day behind.
    let mut appended = Vec::new();
    for i in 0..8 {
        let skew = if i % 2 == 0 { 3_600_000 } else { -86_400_000 };
        appended.push(append(&mut c, "t", 0, now_ms() + skew));
        std::thread::sleep(Duration::from_millis(60));
    }
    let other = append(&mut c, "t", 1, now_ms());
    for offset in [0, 3, 7] {
        commit(&mut g, "t", 0, offset);
        let first = appended[offset as usize];
        assert_age(first, || partition(&group(&admin, "g"), "t", 0)["lag_seconds"].clone());
        assert_age(first, || group(&admin, "g")["lag_seconds"].clone());
        assert_age(first, || line(&admin, "g")["lag_seconds"].clone());
        let shown = partition(&group(&admin, "g"), "t", 0);
        assert_eq!((&shown["lag_records"], &shown["lag_records_stable"]), (&json!(8 - offset), &json!(8 - offset)));
        assert_eq!((&shown["basis"], &shown["error"]), (&json!("append"), &Value::Null));
        assert_eq!((&shown["committed_offset"], &shown["high_watermark"]), (&json!(offset), &json!(8)));
    }
    // The oldest of all partitions counts.
    commit(&mut g, "t", 1, 0);
    assert_age(appended[7], || line(&admin, "g")["lag_seconds"].clone());
    commit(&mut g, "t", 0, 8);
    assert_age(other, || line(&admin, "g")["lag_seconds"].clone());
    assert_eq!(line(&admin, "g")["lag_records"], 1);
    let shown = partition(&group(&admin, "g"), "t", 0);
    assert_eq!((&shown["lag_records"], &shown["lag_seconds"], &shown["basis"]), (&json!(0), &json!(0.0), &Value::Null));
    commit(&mut g, "t", 1, 1);
    let done = line(&admin, "g");
    assert_eq!(
        (&done["lag_records"], &done["lag_seconds"], &done["drain_seconds"]),
        (&json!(0), &json!(0.0), &json!(0.0))
    );
    assert_eq!(done["topics"], json!(["t"]));
    // Committed beyond the end: not negative, and said.
    commit(&mut g, "t", 1, 50);
    let shown = group(&admin, "g");
    assert_eq!(partition(&shown, "t", 1)["lag_records"], 0);
    assert!(explanation(&shown).contains("Offset 50 is committed to t-1, which ends at 1"), "{shown}");
}

#[test]
fn what_the_broker_has_not_seen_appended_is_told_by_its_timestamp() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = ready(&broker.kafka, "t", 3, "g");
    let mut g = outsider(&broker.kafka, "g");
    let now = now_ms();
    let stamps = [now - 500_000, now - 400_000];
    for stamp in stamps {
        append(&mut c, "t", 0, stamp);
    }
    append(&mut c, "t", 1, now + 1_800_000);
    append(&mut c, "t", 2, -1);
    (0..3).for_each(|p| commit(&mut g, "t", p, 0));
    commit(&mut g, "t", 0, 1);
    drop((c, g));
    assert_eq!(broker.stop().0, Some(0));
    let broker = Options::new(dir.path()).start();
    let admin = http(&broker.http);
    // The list opens no log: records are counted all the same.
    let listed = line(&admin, "g");
    assert_eq!((&listed["lag_records"], &listed["lag_seconds"]), (&json!(3), &Value::Null), "{listed}");
    let shown = group(&admin, "g");
    assert_age((stamps[1], stamps[1]), || partition(&group(&admin, "g"), "t", 0)["lag_seconds"].clone());
    assert_eq!(partition(&shown, "t", 0)["basis"], "timestamp");
    let ahead = partition(&shown, "t", 1);
    assert_eq!((&ahead["lag_seconds"], &ahead["basis"]), (&json!(0.0), &json!("timestamp")), "never negative");
    let none = partition(&shown, "t", 2);
    assert_eq!((&none["lag_records"], &none["lag_seconds"], &none["basis"]), (&json!(1), &Value::Null, &Value::Null));
    assert!(none["error"].as_str().unwrap().contains("time"), "{none}");
    // They are open now.
    assert_age((stamps[1], stamps[1]), || line(&admin, "g")["lag_seconds"].clone());
}

#[test]
fn a_consumer_with_a_known_speed_has_a_known_time_to_drain() {
    let (broker, admin, mut c, _dir) = start("t", 1);
    let mut g = outsider(&broker.kafka, "g");
    const ALL: i64 = 100_000;
    (0..5).for_each(|_| append_many(&mut c, "t", 0, ALL as usize / 5));
    commit(&mut g, "t", 0, 0);
    // What was committed, and the test's clock before and after: 50 records every 20 ms or later.
    let mut commits = vec![(now_ms(), now_ms(), 0i64)];
    let mut seen = Value::Null;
    while seen["series"].as_array().map_or(0, Vec::len) < 3 {
        for _ in 0..25 {
            let offset = commits.last().unwrap().2 + 50;
            assert!(offset < ALL, "no three points while {offset} records were committed");
            let before = now_ms();
            commit(&mut g, "t", 0, offset);
            commits.push((before, now_ms(), offset));
            std::thread::sleep(Duration::from_millis(20));
        }
        seen = group(&admin, "g");
    }
    let point = |it: &Value| (it["at_ms"].as_i64().unwrap(), it["lag_records"].as_i64().unwrap());
    let series: Vec<_> = seen["series"].as_array().unwrap().iter().map(point).collect();
    assert!(series.is_sorted_by_key(|(at_ms, _)| *at_ms), "{series:?}");
    for (at_ms, lag) in &series {
        // Nothing that was committed later than the point, and what lags is the rest of what there is.
        let sent = commits.iter().filter(|(before, ..)| before <= at_ms).map(|it| it.2).max().unwrap();
        assert!(ALL - lag <= sent, "{lag} behind at {at_ms}, though only {sent} were committed: {commits:?}");
    }
    // The rate is that between the points, the time to drain what follows from it.
    let ((first_ms, first), (last_ms, last)) = (series[0], series[series.len() - 1]);
    let rate = (first - last) as f64 / ((last_ms - first_ms) as f64 / 1e3);
    let told = |name: &str| seen[name].as_f64().unwrap_or_else(|| panic!("no {name} in {seen}"));
    assert!((told("consume_records_per_s") - rate).abs() < 1e-6 * rate, "{rate} {seen}");
    assert_eq!(told("produce_records_per_s"), 0.0);
    assert!((told("drain_seconds") - told("lag_records") / rate).abs() < 1e-6 * told("drain_seconds"), "{rate} {seen}");
    // It cannot have consumed faster than the test did at its fastest, nor slower than at its slowest, over as long.
    let (fastest, slowest) = speeds(&commits, last_ms - first_ms);
    assert!(slowest <= rate && rate <= fastest, "{rate} is not within {slowest} to {fastest}");
    assert!(
        explanation(&seen).starts_with("Catching up") || explanation(&seen).starts_with("It has no members"),
        "{seen}"
    );

    // More comes than goes: it does not drain.
    append_many(&mut c, "t", 0, 30_000);
    let shown = eventually("the records that came are in the rate", || {
        let shown = line(&admin, "g");
        (shown["produce_records_per_s"].as_f64().unwrap() > 0.0).then_some(shown)
    });
    assert_eq!(shown["drain_seconds"], Value::Null, "{shown}");
    // All is read.
    commit(&mut g, "t", 0, ALL + 30_000);
    assert_eq!(line(&admin, "g")["drain_seconds"], 0.0);
}

/// The most and least records a second that a history of commits allows over any `ms`, a commit more or less at each end, and as much as one pause more or less.
fn speeds(commits: &[(i64, i64, i64)], ms: i64) -> (f64, f64) {
    let (mut fastest, mut slowest) = (0f64, f64::MAX);
    for (i, (_, from, first)) in commits.iter().enumerate() {
        // The window that begins behind this commit: what was surely, and what was perhaps, committed in it.
        let ends = from + ms;
        let within: Vec<_> = commits[i..].iter().take_while(|(before, ..)| *before <= ends).collect();
        let Some((_, last_after, last)) = within.last().copied() else { continue };
        if *last_after < ends - 200 {
            // The history ends before.
            continue;
        }
        let s = ms as f64 / 1e3;
        fastest = fastest.max((last - first + 150) as f64 / s);
        slowest = slowest.min((last - first - 150) as f64 / s);
    }
    (fastest, slowest)
}

#[test]
fn a_topic_created_anew_has_no_commits() {
    let (broker, admin, mut c, _dir) = start("t", 1);
    assert_eq!(c.create_topic("u", 1, &[]), 0);
    let mut g = outsider(&broker.kafka, "g");
    append_many(&mut c, "t", 0, 10);
    append_many(&mut c, "u", 0, 10);
    commit(&mut g, "t", 0, 4);
    commit(&mut g, "u", 0, 9);
    assert_eq!(line(&admin, "g")["lag_records"], 7);
    assert_eq!(c.delete_topic("t"), 0);
    assert_eq!(c.create_topic("t", 1, &[]), 0);
    append_many(&mut c, "t", 0, 100);
    // Dropped behind the deletion, and it does not count before either.
    let (listed, shown) = (line(&admin, "g"), group(&admin, "g"));
    assert_eq!((&listed["lag_records"], &listed["topics"]), (&json!(1), &json!(["u"])), "{listed}");
    assert_eq!(shown["lag_records"], 1);
    for it in shown["partitions"].as_array().unwrap().iter().filter(|it| it["topic"] == "t") {
        assert_eq!((&it["committed_offset"], &it["lag_records"]), (&Value::Null, &Value::Null), "{it}");
    }
    let mut anew = outsider(&broker.kafka, "g");
    commit(&mut anew, "t", 0, 60);
    assert_eq!(line(&admin, "g")["lag_records"], 41);
}

#[test]
fn a_member_that_commits_nothing_is_named() {
    let (broker, admin, mut c, _dir) = start("t", 2);
    append_many(&mut c, "t", 1, 5);
    let m = owner(&broker.kafka, "g", "t", &[0, 1]);
    let shown = group(&admin, "g");
    assert_eq!(
        (&shown["state"], &shown["members"], &shown["protocol"]),
        (&json!("Stable"), &json!(1), &json!("range"))
    );
    let member = &shown["member_details"][0];
    assert_eq!((&member["member_id"], &member["client_id"]), (&json!(m.id), &json!("it")));
    assert_eq!(member["assignment"], json!([{ "topic": "t", "partitions": [0, 1] }]));
    assert_eq!(member["subscription"], json!(["t"]));
    let owned = partition(&shown, "t", 1);
    assert_eq!(owned["member_id"], json!(m.id));
    for unknown in ["committed_offset", "lag_records", "lag_records_stable", "lag_seconds", "basis", "error"] {
        assert_eq!(owned[unknown], Value::Null, "{unknown}");
    }
    assert_eq!(
        (&owned["high_watermark"], &shown["lag_seconds"], &shown["lag_records"]),
        (&json!(5), &Value::Null, &json!(0))
    );
    assert_eq!(shown["drain_seconds"], Value::Null);
    let said = format!("Member {} owns t-1 with 5 records and has committed nothing there.", m.id);
    assert_eq!(explanation(&shown), said);
    // The list knows it by its state and by what it subscribes to.
    for filter in ["state=Stable", "topic=t", "state=stable&topic=t&prefix=g"] {
        assert_eq!(admin.get(&format!("/v1/groups?{filter}")).expect(200)["groups"][0]["group"], "g", "{filter}");
    }
    for filter in ["state=Empty", "topic=u", "prefix=h"] {
        assert_eq!(admin.get(&format!("/v1/groups?{filter}")).expect(200)["groups"], json!([]), "{filter}");
    }
    let mut second = Member::new(&broker.kafka, "g");
    second.topics = vec!["t".into()];
    second.begin_join();
    let shown = eventually("it rebalances", || {
        let shown = group(&admin, "g");
        (shown["state"] == "PreparingRebalance").then_some(shown)
    });
    assert!(explanation(&shown).starts_with("Rebalancing for "), "{shown}");
}

#[test]
fn records_deleted_before_they_were_read_are_told() {
    let (broker, admin, mut c, _dir) = start("t", 1);
    let mut g = outsider(&broker.kafka, "g");
    let mut appended = Vec::new();
    for _ in 0..10 {
        appended.push(append(&mut c, "t", 0, now_ms()));
        std::thread::sleep(Duration::from_millis(20));
    }
    commit(&mut g, "t", 0, 2);
    assert_eq!(c.delete_records("t", 0, 6), (0, 6));
    let shown = group(&admin, "g");
    let at = partition(&shown, "t", 0);
    assert_eq!((&at["lag_records"], &at["lost_records"], &at["start_offset"]), (&json!(8), &json!(4), &json!(6)));
    assert!(explanation(&shown).starts_with("4 records of t-0 were deleted before they were read"), "{shown}");
    // The first there is counts.
    assert_age(appended[6], || line(&admin, "g")["lag_seconds"].clone());
    assert_eq!(c.delete_records("t", 0, 10), (0, 10));
    let at = partition(&group(&admin, "g"), "t", 0);
    assert_eq!((&at["lag_records"], &at["lost_records"], &at["lag_seconds"]), (&json!(8), &json!(8), &json!(0.0)));
}

#[test]
fn offsets_are_reset_in_every_way_and_only_when_meant() {
    let (broker, admin, mut c, _dir) = start("t", 3);
    let mut g = outsider(&broker.kafka, "g");
    let now = now_ms();
    for i in 0..20 {
        append(&mut c, "t", 0, now - 20_000 + i * 1_000);
    }
    append_many(&mut c, "t", 1, 5);
    assert_eq!(c.delete_records("t", 0, 3), (0, 3));
    // Partition 2 is empty, and nothing is committed to it.
    let cases = [
        (json!("earliest"), [Some(3), Some(0), Some(0)]),
        (json!("latest"), [Some(20), Some(5), Some(0)]),
        (json!({ "offset": 4 }), [Some(4), Some(4), Some(0)]),
        (json!({ "offset": -1 }), [Some(3), Some(0), Some(0)]),
        (json!({ "offset": i64::MAX }), [Some(20), Some(5), Some(0)]),
        (json!({ "shift": 2 }), [Some(12), Some(4), None]),
        (json!({ "shift": -3 }), [Some(7), Some(0), None]),
        (json!({ "shift": i64::MIN }), [Some(3), Some(0), None]),
        (json!({ "time_ms": now - 20_000 + 7_000 }), [Some(7), Some(0), Some(0)]),
        (json!({ "time_ms": now - 20_000 + 7_001 }), [Some(8), Some(0), Some(0)]),
        (json!({ "time_ms": now + 3_600_000 }), [Some(20), Some(5), Some(0)]),
        (json!({ "time_ms": 0 }), [Some(3), Some(0), Some(0)]),
    ];
    for (to, wanted) in cases {
        commit(&mut g, "t", 0, 10);
        commit(&mut g, "t", 1, 2);
        let _ = admin.send("DELETE", "/v1/groups/g/offsets?topic=t&partition=2", None, b"").expect(200);
        let before = fetch(&mut c, 9, "g", None);
        let check = |answer: &Value, dry_run: bool| {
            assert_eq!(
                (&answer["group"], &answer["topic"], &answer["dry_run"]),
                (&json!("g"), &json!("t"), &json!(dry_run))
            );
            let from = [json!(10), json!(2), Value::Null];
            for (p, wanted) in wanted.iter().enumerate() {
                let it = &answer["partitions"][p];
                assert_eq!((&it["partition"], &it["from_offset"]), (&json!(p), &from[p]), "{to}: {answer}");
                assert_eq!(
                    (&it["to_offset"], it["error"].is_null()),
                    (&json!(wanted), wanted.is_some()),
                    "{to}: {answer}"
                );
            }
        };
        // A dry run is what is meant where nothing is said.
        let mut body = json!({ "topic": "t", "to": to });
        check(&admin.post("/v1/groups/g/offsets/reset", &body).expect(200), true);
        body["dry_run"] = json!(true);
        check(&admin.post("/v1/groups/g/offsets/reset", &body).expect(200), true);
        assert_eq!(fetch(&mut c, 9, "g", None), before, "{to}: a dry run changes nothing");
        body["dry_run"] = json!(false);
        check(&admin.post("/v1/groups/g/offsets/reset", &body).expect(200), false);
        let committed: Vec<_> = (0..3).map(|p| g.committed("t", p).0).collect();
        assert_eq!(committed, wanted.map(|offset| offset.unwrap_or(-1)), "{to}");
    }
    // Only the partitions named, each once.
    commit(&mut g, "t", 0, 10);
    commit(&mut g, "t", 1, 2);
    let body = json!({ "topic": "t", "partitions": [1, 1], "to": "latest", "dry_run": false });
    let answer = admin.post("/v1/groups/g/offsets/reset", &body).expect(200);
    assert_eq!(answer["partitions"], json!([{ "partition": 1, "from_offset": 2, "to_offset": 5, "error": null }]));
    assert_eq!((g.committed("t", 0).0, g.committed("t", 1).0), (10, 5));
    assert_eq!(line(&admin, "g")["lag_records"], 10);
}

#[test]
fn nothing_is_reset_that_must_not_be() {
    let (broker, admin, mut c, _dir) = start("t", 2);
    append_many(&mut c, "t", 0, 10);
    let mut m = owner(&broker.kafka, "g", "t", &[0, 1]);
    commit(&mut m, "t", 0, 7);
    let before = fetch(&mut c, 9, "g", None);
    let path = "/v1/groups/g/offsets/reset";
    for dry_run in [true, false] {
        let body = json!({ "topic": "t", "to": "earliest", "dry_run": dry_run });
        let why = admin.post(path, &body).problem(409);
        assert!(why.contains("has members (Stable)"), "{why}");
    }
    assert!(admin.send("DELETE", "/v1/groups/g", None, b"").problem(409).contains("members"));
    let why = admin.send("DELETE", "/v1/groups/g/offsets?topic=t", None, b"").problem(409);
    assert!(why.contains("subscribes"), "{why}");
    assert_eq!(fetch(&mut c, 9, "g", None), before);
    assert_eq!(m.heartbeat(), 0, "nobody was disturbed");
    assert_eq!(m.leave(), 0);

    let good = json!({ "topic": "t", "to": "earliest", "dry_run": false });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    assert!(admin.post(path, &with("topic", json!("none"))).problem(404).contains("no topic none"));
    assert!(
        admin.post(path, &with("partitions", json!([0, 2]))).problem(404).contains("t has no partition 2, it has 2")
    );
    assert!(admin.post(path, &with("partitions", json!([-1]))).problem(404).contains("no partition -1"));
    for bad in [
        with("to", json!("middle")),
        with("to", json!({ "offset": 1, "shift": 1 })),
        with("to", Value::Null),
        with("to", json!({ "offset": "1" })),
        with("dry_run", json!("false")),
        with("dryrun", json!(false)),
        with("partitions", json!([0.5])),
        with("topic", json!(["t"])),
        json!({ "to": "earliest", "dry_run": false }),
        json!({ "topic": "t", "dry_run": false }),
        json!([]),
    ] {
        admin.post(path, &bad).problem(422);
    }
    for bad in ["", "{", "{\"topic\":\"t\",\"to\":\"earliest\",\"dry_run\":false", "earliest", "\u{0}"] {
        admin.send("POST", path, Some("application/json"), bad.as_bytes()).problem(400);
    }
    let text = good.to_string();
    for kind in [None, Some("text/plain"), Some("application/x-www-form-urlencoded")] {
        admin.send("POST", path, kind, text.as_bytes()).problem(415);
    }
    admin.post(&format!("{path}?dry_run=true"), &good).problem(400);
    admin.send("DELETE", "/v1/groups/g?force=true", None, b"").problem(400);
    admin.send("DELETE", "/v1/groups/g/offsets?topic=t&partition=x", None, b"").problem(400);
    admin.send("DELETE", "/v1/groups/g/offsets", None, b"").problem(400);
    admin.send("PUT", "/v1/groups/g", None, b"").problem(405);
    admin.clone().with("origin", "http://evil.example").post(path, &good).problem(403);
    for nobody in ["/v1/groups/nobody/offsets/reset", "/v1/groups/G/offsets/reset"] {
        admin.post(nobody, &good).problem(404);
    }
    admin.get("/v1/groups/nobody").problem(404);
    admin.send("DELETE", "/v1/groups/nobody", None, b"").problem(404);
    admin.send("DELETE", "/v1/groups/nobody/offsets?topic=t", None, b"").problem(404);
    assert_eq!(fetch(&mut c, 9, "g", None), before);
    assert!(fetch(&mut c, 9, "nobody", None).is_empty(), "none was made by asking");
    // And what is meant is done.
    admin.post(path, &good).expect(200);
    assert_eq!(m.committed("t", 0).0, 0);
    let forgotten = admin.send("DELETE", "/v1/groups/g/offsets?topic=t&partition=0", None, b"").expect(200);
    assert_eq!(forgotten, json!({ "group": "g", "topic": "t", "partitions": [0] }));
    assert_eq!((m.committed("t", 0).0, m.committed("t", 1).0), (-1, 0));
    assert_eq!(admin.send("DELETE", "/v1/groups/g", None, b"").status, 204);
    admin.get("/v1/groups/g").problem(404);
    assert!(fetch(&mut c, 9, "g", None).is_empty());
}

#[test]
fn groups_are_listed_in_pages_and_found_by_any_name() {
    let (broker, admin, mut c, _dir) = start("t", 1);
    append_many(&mut c, "t", 0, 100);
    let odd = ["a/b", "a b", "ä€\u{1F600}", "100%", "?&=#", "..", "<b>", "\"quoted\""];
    let plain: Vec<String> = (0..25).map(|i| format!("p-{i:02}")).collect();
    let mut all: Vec<&str> = odd.iter().copied().chain(plain.iter().map(String::as_str)).collect();
    for (i, name) in all.iter().enumerate() {
        commit(&mut outsider(&broker.kafka, name), "t", 0, i as i64);
    }
    let lag = |name: &str, order: &[&str]| 100 - order.iter().position(|it| *it == name).unwrap();
    let order = all.clone();
    all.sort_unstable();
    for limit in [1, 7, 33, 100, 1000] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/v1/groups?limit={limit}{cursor}")).expect(200);
            let groups = page["groups"].as_array().unwrap();
            assert!(groups.len() <= limit && !groups.is_empty(), "{page}");
            for it in groups {
                let name = it["group"].as_str().unwrap().to_string();
                assert_eq!(it["lag_records"], lag(&name, &order), "{it}");
                seen.push(name);
            }
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={}", percent(next));
        }
        assert_eq!(seen, all, "limit {limit}");
    }
    for name in odd {
        let shown = admin.get(&format!("/v1/groups/{}", percent(name))).expect(200);
        assert_eq!((&shown["group"], &shown["lag_records"]), (&json!(name), &json!(lag(name, &order))));
        let found = admin.get(&format!("/v1/groups?prefix={}", percent(name))).expect(200);
        assert_eq!(found["groups"][0]["group"], name);
        let reset = json!({ "topic": "t", "to": "latest", "dry_run": false });
        admin.post(&format!("/v1/groups/{}/offsets/reset", percent(name)), &reset).expect(200);
        assert_eq!(outsider(&broker.kafka, name).committed("t", 0).0, 100);
        assert_eq!(admin.send("DELETE", &format!("/v1/groups/{}", percent(name)), None, b"").status, 204);
    }
    assert_eq!(admin.get("/v1/groups?prefix=p-1").expect(200)["groups"].as_array().unwrap().len(), 10);
    for bad in ["limit=0", "limit=1001", "limit=-1", "limit=x", "state=Running", "Limit=1", "name=p", "limit=1&limit=2"]
    {
        admin.get(&format!("/v1/groups?{bad}")).problem(400);
    }
    admin.get("/v1/groups/%ff").problem(400);
    admin.get("/v1/groups/p-01?verbose=1").problem(400);
}

#[test]
fn without_any_group_there_is_nothing_to_see() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let admin = http(&broker.http);
    assert_eq!(admin.get("/v1/groups").expect(200), json!({ "groups": [], "next": null, "missing": [] }));
    admin.get("/v1/groups/g").problem(404);
    admin.send("DELETE", "/v1/groups/g", None, b"").problem(404);
    admin.post("/v1/groups/g/offsets/reset", &json!({ "topic": "t", "to": "earliest" })).problem(404);
}

#[test]
fn groups_outlive_a_crash_and_what_they_are_shown_as() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let mut c = ready(&broker.kafka, "t", 1, "g");
    append_many(&mut c, "t", 0, 10);
    commit(&mut outsider(&broker.kafka, "g"), "t", 0, 4);
    broker.kill();
    let broker = Options::new(dir.path()).start();
    let admin = http(&broker.http);
    // Recovery goes on behind the ready line: what is not known yet is not guessed.
    let shown = eventually("the log has been recovered", || {
        let shown = group(&admin, "g");
        let at = partition(&shown, "t", 0);
        assert_eq!(at["committed_offset"], 4);
        (at["lag_records"] == 6).then_some(at)
    });
    assert_eq!(shown["high_watermark"], 10);
    assert_eq!(Member::new(&broker.kafka, "g").commit(&[("t", 0, 5, "")]), [0]);
    assert_eq!(line(&admin, "g")["lag_records"], 5);
}

#[test]
fn coordinators_that_cannot_answer_are_named_and_not_guessed() {
    let dir = temp();
    let trigger = dir.path().join("trigger");
    let options =
        Options::new(&dir.path().join("data")).env("LD_PRELOAD", shim(dir.path())).env("SHIM_TRIGGER", &trigger);
    let broker = options.start();
    let admin = http(&broker.http);
    let mut c = ready(&broker.kafka, "t", 1, "g");
    append_many(&mut c, "t", 0, 5);
    let mut g = outsider(&broker.kafka, "g");
    commit(&mut g, "t", 0, 1);
    assert_eq!(line(&admin, "g")["lag_records"], 4);
    // The next flush fails, and with it what the coordinator stores: it ends, and none comes up again.
    std::fs::write(dir.path().join("new"), "0").unwrap();
    std::fs::rename(dir.path().join("new"), &trigger).unwrap();
    eventually("a commit fails", || (g.commit(&[("t", 0, 2, "")]) != [0]).then_some(()));
    let list = admin.get("/v1/groups").expect(200);
    assert_eq!(list["groups"], json!([]), "{list}");
    let missing = list["missing"].as_array().unwrap();
    assert!(missing.len() == 1 && missing[0].as_str().unwrap().starts_with("groups of __consumer_offsets-"), "{list}");
    admin.get("/v1/groups/g").problem(503);
    admin.send("DELETE", "/v1/groups/g", None, b"").problem(503);
    let body = json!({ "topic": "t", "to": "latest", "dry_run": false });
    admin.post("/v1/groups/g/offsets/reset", &body).problem(503);
}

/// Every byte but letters and digits escaped.
fn percent(text: &str) -> String {
    let escape = |b: u8| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(escape).collect()
}
