//! The command line against a running broker.

use crate::support::{Broker, PATIENCE, eventually};
use millstream::Env;
use serde_json::Value;
use std::{
    io::Write,
    process::{Child, Command, Output, Stdio},
};

fn unique(stem: &str) -> String {
    format!("{stem}-{}", Env::real().random_uuid().simple())
}

fn command(broker: &Broker, line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.args(line.split_whitespace()).args(["--bootstrap", &broker.kafka]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to the end with `input` on stdin.
fn run(mut command: Command, input: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What a command that must go well prints.
fn ok(broker: &Broker, line: &str, input: &[u8]) -> String {
    let output = run(command(broker, line), input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{line}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must end with `code` says.
fn not(broker: &Broker, code: i32, line: &str, input: &[u8]) -> String {
    let output = run(command(broker, line), input);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{line}: {stderr}");
    stderr
}

fn json(broker: &Broker, line: &str) -> Vec<Value> {
    let text = ok(broker, &format!("{line} --output json"), b"");
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{line}: {e}: {l}"))).collect()
}

#[test]
fn what_is_piped_in_is_printed_again() {
    let (broker, _dir) = Broker::any();
    let topic = unique("pipe");
    ok(&broker, &format!("topic create {topic} --partitions 1"), b"");
    ok(
        &broker,
        &format!("produce {topic} --key-delimiter : --header h=1 --compression lz4"),
        b"a:1\nb:2\n\xc3\xa4:\n:4",
    );
    let line = format!("consume {topic} --end --format %p|%o|%k|%v|%h\\n");
    assert_eq!(ok(&broker, &line, b""), "0|0|a|1|h=1\n0|1|b|2|h=1\n0|2|ä||h=1\n0|3||4|h=1\n");
    assert_eq!(ok(&broker, &format!("consume {topic} --end"), b""), "1\n2\n\n4\n");
    assert_eq!(ok(&broker, &format!("consume {topic}:0 --from 1 --count 2 --format hex"), b""), "32\n\n");
    assert_eq!(ok(&broker, &format!("consume {topic} --from -1 --end --null-delimiter"), b""), "4\0");
    assert_eq!(ok(&broker, &format!("consume {topic} --from latest --end"), b""), "");
    assert_eq!(
        ok(&broker, &format!("consume {topic} --from @2001-01-01 --end --format base64"), b""),
        "MQ==\nMg==\n\nNA==\n"
    );
}

#[test]
fn json_keeps_nulls_bytes_headers_and_times() {
    let (broker, _dir) = Broker::any();
    let (from, to) = (unique("from"), unique("to"));
    for topic in [&from, &to] {
        ok(&broker, &format!("topic create {topic} --partitions 3"), b"");
    }
    let input = r#"{"key":null,"value":null,"partition":2,"timestamp":1000}
        {"key":"k","value":{"base64":"/wA="},"headers":[["h","1"],["h",null],["bin",{"base64":"gA=="}]],"partition":1,"timestamp":"1970-01-01T00:00:02Z"}

        {"value":"","key":"","partition":0,"timestamp":3}"#;
    ok(&broker, &format!("produce {from} --format json --idempotent"), input.as_bytes());
    let read = ok(&broker, &format!("consume {from} --end --output json"), b"");
    // What is printed can be sent as it is.
    ok(&broker, &format!("produce {to} --format json"), read.as_bytes());
    let again = ok(&broker, &format!("consume {to} --end --format json"), b"");
    let sorted = |text: &str, topic: &str| {
        let mut lines: Vec<String> = text.replace(topic, "T").lines().map(str::to_string).collect();
        lines.sort();
        lines
    };
    let lines = sorted(&read, &from);
    assert_eq!(lines, sorted(&again, &to));
    assert_eq!(
        lines,
        [
            r#"{"headers":[["h","1"],["h",null],["bin",{"base64":"gA=="}]],"key":"k","offset":0,"partition":1,"timestamp":2000,"topic":"T","value":{"base64":"/wA="}}"#,
            r#"{"headers":[],"key":"","offset":0,"partition":0,"timestamp":3,"topic":"T","value":""}"#,
            r#"{"headers":[],"key":null,"offset":0,"partition":2,"timestamp":1000,"topic":"T","value":null}"#,
        ]
    );
}

#[test]
fn every_byte_goes_through_null_delimited_and_encoded_input() {
    let (broker, _dir) = Broker::any();
    let topic = unique("bytes");
    ok(&broker, &format!("topic create {topic} --partitions 1"), b"");
    ok(&broker, &format!("produce {topic} --null-delimiter --partition 0"), b"two\nlines\0\xff\xfe\0");
    ok(&broker, &format!("produce {topic} --format hex --empty-as-null"), b"0a00ff\n\n");
    ok(&broker, &format!("produce {topic} --format base64 --key-delimiter ,"), b"aw==,/w==\n");
    let output = run(command(&broker, &format!("consume {topic} --end --null-delimiter")), b"");
    assert_eq!(output.stdout, b"two\nlines\0\xff\xfe\0\n\0\xff\0\0\xff\0");
    let sizes = ok(&broker, &format!("consume {topic} --end --format %K/%S\\n"), b"");
    assert_eq!(sizes, "-1/9\n-1/2\n-1/3\n-1/-1\n1/1\n");
}

#[test]
fn what_cannot_be_sent_ends_with_2_and_says_how_many_were() {
    let (broker, _dir) = Broker::any();
    let topic = unique("bad");
    let said = not(&broker, 2, &format!("produce {topic}"), b"x\n");
    assert!(said.contains(&topic) && said.contains("--create"), "{said}");
    ok(&broker, &format!("topic create {topic} --partitions 1 --config max.message.bytes=1000"), b"");
    let said =
        not(&broker, 2, &format!("produce {topic} --format json"), b"{\"value\":\"1\"}\n{\"value\":\"2\"}\nnonsense\n");
    assert!(said.contains("record 3") && said.contains("2 records before it delivered"), "{said}");
    let said = not(&broker, 2, &format!("produce {topic} --partition 7"), b"x\n");
    assert!(said.contains("has no partition 7"), "{said}");
    let said = not(&broker, 2, &format!("produce {topic} --key-delimiter :"), b"a:1\nnone\n");
    assert!(said.contains("record 2") && said.contains("1 record before it"), "{said}");
    let said = not(&broker, 2, &format!("produce {topic}"), "x".repeat(5000).as_bytes());
    assert!(said.contains("1 record not delivered") && said.contains("max.message.bytes"), "{said}");
    let said = not(&broker, 2, &format!("produce {topic} --file /no/such/file"), b"");
    assert!(said.contains("/no/such/file"), "{said}");
    assert_eq!(ok(&broker, &format!("consume {topic} --end"), b""), "1\n2\n1\n");
    let said = not(&broker, 2, &format!("consume {topic} --from 99"), b"");
    assert!(said.contains("offset 99"), "{said}");
    not(&broker, 2, &format!("consume {topic}:4"), b"");
    not(&broker, 2, &format!("consume {topic} --format %z"), b"");
    let trim = "topic trim no-such --before 1";
    for line in ["topic delete no-such", "topic alter no-such --partitions 9", trim, "consume no-such"] {
        assert!(not(&broker, 1, line, b"x\n").contains("no-such"), "{line}");
    }
}

#[test]
fn nobody_there_is_a_failure_with_a_hint() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    // Port 1 is nobody's.
    command.args(["topic", "list", "--bootstrap", "127.0.0.1:1"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = run(command, b"");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("127.0.0.1:1") && said.contains("--bootstrap"), "{said}");
}

#[test]
fn a_reader_that_has_enough_ends_it_quietly() {
    let (broker, _dir) = Broker::any();
    let topic = unique("head");
    let input: String = (0..20_000).map(|n| format!("{n}\n")).collect();
    ok(&broker, &format!("produce {topic} --create"), input.as_bytes());
    for group in ["", "--group g-head"] {
        let mut child: Child = command(&broker, &format!("consume {topic} {group}")).spawn().unwrap();
        let mut first = [0; 2];
        let mut out = child.stdout.take().unwrap();
        std::io::Read::read_exact(&mut out, &mut first).unwrap();
        assert_eq!(&first, b"0\n");
        drop(out);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{group}");
    }
}

#[test]
fn topics_are_made_changed_trimmed_and_deleted() {
    let (broker, _dir) = Broker::any();
    let topic = unique("life");
    not(&broker, 1, &format!("topic describe {topic}"), b"");
    ok(&broker, &format!("topic create {topic} --partitions 2 --config retention.ms=60000"), b"");
    let said = not(&broker, 2, &format!("topic create {topic}"), b"");
    assert!(said.contains("TopicAlreadyExists"), "{said}");
    ok(&broker, &format!("topic create {topic} --if-not-exists"), b"");
    not(&broker, 2, &format!("topic alter {topic}"), b"");
    not(&broker, 2, &format!("topic alter {topic} --config no.such.setting=1"), b"");
    ok(
        &broker,
        &format!("topic alter {topic} --partitions 3 --unset retention.ms --config max.message.bytes=2000"),
        b"",
    );
    ok(&broker, &format!("produce {topic} --partition 1"), b"a\nb\nc\n");
    let trimmed = json(&broker, &format!("topic trim {topic}:1 --before 2"));
    assert_eq!((&trimmed[0]["partition"], &trimmed[0]["start_offset"]), (&1.into(), &2.into()));
    let described = &json(&broker, &format!("topic describe {topic}"))[0];
    let partitions = described["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    let second = &partitions[1];
    let offsets = (&second["start_offset"], &second["end_offset"], &second["records"]);
    assert_eq!(offsets, (&2.into(), &3.into(), &1.into()));
    let configs = described["configs"].as_array().unwrap();
    assert_eq!(configs.len(), 1, "{configs:?}");
    assert_eq!((&configs[0]["name"], &configs[0]["value"]), (&"max.message.bytes".into(), &"2000".into()));
    let table = ok(&broker, &format!("topic describe {topic} --all-configs"), b"");
    assert!(table.contains("PARTITION") && table.contains("cleanup.policy"), "{table}");
    let listed = json(&broker, &format!("topic list {topic}"));
    assert_eq!((listed.len(), &listed[0]["partitions"]), (1, &3.into()));
    ok(&broker, &format!("topic delete {topic}"), b"");
    let said = not(&broker, 1, &format!("topic delete {topic}"), b"");
    assert!(said.contains("does not exist"), "{said}");
    assert!(json(&broker, &format!("topic list {topic}")).is_empty());
}

#[test]
fn a_group_goes_on_where_it_stopped_and_its_offsets_are_moved() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (unique("grouped"), unique("group"));
    ok(&broker, &format!("topic create {topic} --partitions 1"), b"");
    ok(&broker, &format!("produce {topic}"), b"1\n2\n3\n4\n5\n");
    not(&broker, 1, &format!("group describe {group}"), b"");
    assert_eq!(ok(&broker, &format!("consume {topic} --group {group} --count 2"), b""), "1\n2\n");
    assert_eq!(ok(&broker, &format!("consume {topic} --group {group} --count 1"), b""), "3\n");
    let partition = |describe: &Value| {
        let p = &describe["partitions"][0];
        (p["committed"].clone(), p["end_offset"].clone(), p["lag"].clone())
    };
    let described = &json(&broker, &format!("group describe {group}"))[0];
    assert_eq!((&described["state"], partition(described)), (&"Empty".into(), (3.into(), 5.into(), 2.into())));
    assert_eq!(ok(&broker, &format!("consume {topic} --group {group} --end"), b""), "4\n5\n");
    // A plan changes nothing.
    let plan = &json(&broker, &format!("group reset {group} --topic {topic} --to-offset 1"))[0];
    assert_eq!((&plan["committed"], &plan["new_offset"], &plan["executed"]), (&5.into(), &1.into(), &false.into()));
    assert_eq!(ok(&broker, &format!("consume {topic} --group {group} --end"), b""), "");
    for (to, offset) in [
        ("--to-offset 1", 1),
        ("--shift 2", 3),
        ("--shift -1", 2),
        ("--shift 99", 5),
        ("--to-earliest", 0),
        ("--to-latest", 5),
        ("--to-time 0", 0),
    ] {
        ok(&broker, &format!("group reset {group} --all-topics {to} --execute"), b"");
        let described = &json(&broker, &format!("group describe {group}"))[0];
        assert_eq!(partition(described).0, Value::from(offset), "{to}");
    }
    assert_eq!(ok(&broker, &format!("consume {topic} --group {group} --end"), b""), "1\n2\n3\n4\n5\n");
    let listed = json(&broker, "group list");
    assert!(listed.iter().any(|g| g["group"] == group.as_str()), "{listed:?}");
    ok(&broker, &format!("group delete {group} --topic {topic}"), b"");
    assert_eq!(ok(&broker, &format!("consume {topic} --group {group} --end --from 3"), b""), "4\n5\n");
    ok(&broker, &format!("group delete {group}"), b"");
    not(&broker, 1, &format!("group describe {group}"), b"");
    not(&broker, 1, &format!("group delete {group}"), b"");
    not(&broker, 2, &format!("group reset {group} --topic {topic}"), b"");
}

#[test]
fn a_member_that_is_told_to_stop_commits_and_leaves() {
    let (broker, _dir) = Broker::any();
    let (topic, group) = (unique("stopped"), unique("group"));
    ok(&broker, &format!("topic create {topic} --partitions 1"), b"");
    ok(&broker, &format!("produce {topic}"), b"1\n2\n3\n");
    let mut child = command(&broker, &format!("consume {topic} --group {group}")).spawn().unwrap();
    let mut read = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut read).unwrap();
    assert_eq!(&read, b"1\n2\n3\n");
    let described = eventually("it is a member with the partition", || {
        let described = json(&broker, &format!("group describe {group}")).remove(0);
        (described["members"][0]["assignment"][topic.as_str()] == serde_json::json!([0])).then_some(described)
    });
    assert_eq!(described["state"], "Stable");
    // A group with members keeps its offsets.
    let said = not(&broker, 2, &format!("group reset {group} --topic {topic} --to-earliest --execute"), b"");
    assert!(said.contains("1 members"), "{said}");
    let said = not(&broker, 2, &format!("group delete {group}"), b"");
    assert!(said.contains("still has members"), "{said}");
    let pid = child.id().to_string();
    assert!(Command::new("sh").args(["-c", r#"kill -s INT "$1""#, "sh", &pid]).status().unwrap().success());
    let began = std::time::Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let described = &json(&broker, &format!("group describe {group}"))[0];
    assert_eq!((&described["state"], &described["partitions"][0]["committed"]), (&"Empty".into(), &3.into()));
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_millstream")).args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("consume") && script.contains("bootstrap"), "{shell}");
    }
}

#[test]
fn what_is_sent_without_asking_arrives_although_the_command_ends_at_once() {
    let (broker, _dir) = Broker::any();
    let (one, many) = (unique("one"), unique("many"));
    for topic in [&one, &many] {
        ok(&broker, &format!("topic create {topic} --partitions 1"), b"");
    }
    for _ in 0..20 {
        ok(&broker, &format!("produce {one} --acks 0"), b"x\n");
    }
    let lines: String = (0..200_000).map(|n| format!("{n}\n")).collect();
    ok(&broker, &format!("produce {many} --acks 0"), lines.as_bytes());
    for (topic, count) in [(one, 20), (many, 200_000)] {
        // It is on its way: nobody said when it is there.
        eventually("all arrived", || {
            let there = ok(&broker, &format!("consume {topic} --end"), b"").lines().count();
            (there >= count).then_some(there)
        });
    }
}
