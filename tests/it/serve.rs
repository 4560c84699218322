//! `millstream serve`: ready line, health, stop, refusals in one sentence with exit code 2.

use crate::{
    support::{Options, eventually, temp},
    wire::{ANYONE, Client, batch, code, now_ms},
};

/// Expects that the broker does not start: exit code 2, one line on stderr that holds each of `words`.
pub fn refused(options: &Options, words: &[&str]) {
    let Err((status, stderr)) = options.try_start() else { panic!("it started") };
    assert_eq!(status.code(), Some(2), "{stderr}");
    let last = stderr.trim_end().lines().last().unwrap_or_default();
    assert!(last.starts_with("millstream: "), "the last line is the reason: {stderr}");
    for word in words {
        assert!(last.contains(word), "`{word}` is not in: {last}");
    }
    assert!(!stderr.contains("panicked"), "{stderr}");
}

#[test]
fn it_is_ready_when_it_says_so_and_stops_when_told() {
    let dir = temp();
    let broker = Options::new(&dir.path().join("made/on/the/way")).start();
    assert_eq!(broker.get("/healthz").0, 200);
    assert_eq!(broker.get("/readyz").0, 200);
    assert_eq!(broker.get("/nothing/there").0, 404);
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
    // An open connection does not hold the stop up.
    let (code, stderr) = broker.stop();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(c.read_frame().is_err());
}

#[test]
fn a_clean_stop_and_a_start_bring_everything_back() {
    let dir = temp();
    let options = Options::new(dir.path());
    let broker = options.start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 2, &[("retention.ms", "86400000")]), 0);
    c.produce("a", 0, batch(ANYONE, now_ms(), &["x", "y"]), -1);
    assert_eq!(c.delete_records("a", 0, 1), (0, 1));
    assert_eq!(broker.stop().0, Some(0));
    let broker = options.start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.list_offset("a", 0, -2), (0, -1, 1));
    assert_eq!(c.read_all("a", 0, 1).len(), 1);
    assert_eq!(c.list_offset("a", 1, -1), (0, -1, 0));
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["z"]), -1).base_offset, 2);
}

#[test]
fn a_taken_port_is_refused_in_one_sentence() {
    let (one, two) = (temp(), temp());
    let broker = Options::new(one.path()).start();
    let mut options = Options::new(two.path());
    options.kafka = broker.kafka.clone();
    refused(&options, &[&broker.kafka, "in use"]);
}

#[test]
fn a_second_process_on_one_directory_is_refused() {
    let dir = temp();
    let mut broker = Options::new(dir.path()).start();
    refused(&Options::new(dir.path()), &[dir.path().to_str().unwrap()]);
    assert!(broker.alive());
    assert_eq!(broker.get("/readyz").0, 200);
}

#[test]
fn another_nodes_directory_and_a_newer_format_are_refused_and_left_alone() {
    let dir = temp();
    assert_eq!(Options::new(dir.path()).set("node.id", "3").start().stop().0, Some(0));
    refused(&Options::new(dir.path()).set("node.id", "4"), &["node.id", "3", "4"]);
    let path = dir.path().join("meta.properties");
    let text = std::fs::read_to_string(&path).unwrap();
    let newer: String = text
        .lines()
        .map(|l| if l.starts_with("millstream.format=") { "millstream.format=999\n".into() } else { format!("{l}\n") })
        .collect();
    assert_ne!(newer.trim(), text.trim());
    std::fs::write(&path, &newer).unwrap();
    refused(&Options::new(dir.path()).set("node.id", "3"), &["999"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(Options::new(dir.path()).set("node.id", "3").start().stop().0, Some(0));
}

#[test]
fn a_misspelled_setting_is_refused_with_the_nearest_name() {
    let dir = temp();
    refused(&Options::new(dir.path()).set("num.partition", "3"), &["num.partition", "num.partitions"]);
    refused(&Options::new(dir.path()).set("num.partitions", "many"), &["num.partitions", "many"]);
}

#[test]
fn a_data_directory_that_is_a_file_is_refused() {
    let dir = temp();
    let path = dir.path().join("file");
    std::fs::write(&path, "x").unwrap();
    refused(&Options::new(&path), &[path.to_str().unwrap()]);
}

#[test]
fn a_hang_up_reads_the_settings_file_anew_and_keeps_them_when_it_is_wrong() {
    let dir = temp();
    let file = dir.path().join("server.properties");
    std::fs::write(&file, "message.max.bytes=1000000\n").unwrap();
    let mut broker = Options::new(&dir.path().join("data")).config(&file).start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    let mut produce = || c.produce("a", 0, batch(ANYONE, now_ms(), &[vec![b'x'; 5_000]]), 1).error_code;
    assert_eq!(produce(), 0);

    std::fs::write(&file, "message.max.bytes=2000\nnode.id=9\n").unwrap();
    broker.signal("HUP");
    eventually("the new bound acts", || (produce() == code::MESSAGE_TOO_LARGE).then_some(()));
    eventually("what wants a restart is named", || broker.stderr().contains("node.id").then_some(()));

    std::fs::write(&file, "message.max.byte=5000000\n").unwrap();
    broker.signal("HUP");
    eventually("the mistake is named", || broker.stderr().contains("message.max.bytes").then_some(()));
    assert_eq!(produce(), code::MESSAGE_TOO_LARGE);
    assert!(broker.alive());
}

#[test]
fn an_ephemeral_broker_has_a_directory_that_goes_with_it() {
    let dir = temp();
    let directories = || -> Vec<_> { std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()).collect() };
    let broker = Options::new(dir.path()).ephemeral().start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("a", 1, &[]), 0);
    assert_eq!(c.produce("a", 0, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
    let made = directories();
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(made[0].join("meta.properties").exists() && made[0].join("a-0").exists());
    let named = made[0].to_str().unwrap().to_string();
    eventually("its log names it", || broker.stderr().contains(&named).then_some(()));
    let (code, stderr) = broker.stop();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(directories().is_empty(), "it is gone");
}

#[test]
fn nobody_has_to_read_the_ready_line() {
    let dir = temp();
    let mut broker = Options::new(dir.path()).start_unheard();
    assert_eq!(Client::connect(&broker.kafka).create_topic("a", 1, &[]), 0);
    assert_eq!(broker.get("/readyz").0, 200);
    assert!(broker.alive());
    let (code, stderr) = broker.stop();
    assert_eq!(code, Some(0), "{stderr}");
}
