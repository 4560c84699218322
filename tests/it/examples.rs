//! The programs in `examples/`, as a person runs them.

use crate::support::{Options, PATIENCE, eventually, passed_over, temp};
use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
};

fn path(name: &str) -> PathBuf {
    let here = std::env::current_exe().unwrap();
    here.parent().and_then(Path::parent).unwrap().join("examples").join(name)
}

/// `cargo test` builds them with the tests, `cargo test --test it` does not.
fn are_built() -> bool {
    let missing =
        ["embed", "standalone_log", "producer", "consumer_group", "lag"].into_iter().find(|name| !path(name).exists());
    if let Some(name) = missing {
        passed_over("examples", &format!("examples/{name} is not built: cargo build --examples"));
    }
    missing.is_none()
}

fn example(name: &str) -> Command {
    Command::new(path(name))
}

fn run(name: &str, args: &[&str]) -> String {
    let out = example(name).args(args).output().unwrap();
    assert!(out.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// What the examples publish and print, by key.
fn records(text: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.split_once(": ")).map(|(_, record)| record.to_string());
    let mut lines: Vec<_> = lines.filter(|line| line.starts_with("customer-")).collect();
    lines.sort();
    lines
}

#[test]
fn a_node_in_a_program_of_ones_own_names_its_addresses() {
    if !are_built() {
        return;
    }
    let said = run("embed", &[]);
    assert!(said.contains("Kafka clients connect to 127.0.0.1:"), "{said}");
}

#[test]
fn the_storage_engine_alone_goes_on_where_it_was() {
    if !are_built() {
        return;
    }
    let dir = temp();
    let at = dir.path().to_str().unwrap();
    let (first, second) = (run("standalone_log", &[at]), run("standalone_log", &[at]));
    assert!(first.contains("offsets 0..0") && second.contains("offsets 0..3"), "{first}\n{second}");
}

#[test]
fn what_the_producer_publishes_the_group_reads_once_and_its_lag_is_told() {
    if !are_built() {
        return;
    }
    let dir = temp();
    let broker = Options::new(dir.path()).set("num.partitions", "3").start();
    let published = run("producer", &[&broker.kafka]);
    assert_eq!(records(&published).len(), 10, "{published}");

    let mut consumer =
        example("consumer_group").arg(&broker.kafka).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (tx, rx) = mpsc::channel();
    let out = consumer.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        BufReader::new(out).lines().map_while(Result::ok).for_each(|line| drop(tx.send(line)));
    });
    let read: Vec<String> = (0..10).map_while(|_| rx.recv_timeout(PATIENCE).ok()).collect();
    assert_eq!(records(&read.join("\n")), records(&published));
    // Ctrl-C.
    let pid = consumer.id().to_string();
    assert!(Command::new("sh").args(["-c", r#"kill -s INT "$1""#, "sh", &pid]).status().unwrap().success());
    let status = eventually("the consumer ends", || consumer.try_wait().unwrap());
    let mut said = String::new();
    consumer.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(status.success(), "{status}: {said}");
    reader.join().unwrap();
    assert_eq!(rx.try_iter().count(), 0, "nothing twice");

    // Everything was committed when it ended; the ten of another run lie behind that.
    let told = run("lag", &[&broker.http]);
    assert!(told.contains("\n0 records behind, 0"), "{told}");
    run("producer", &[&broker.kafka]);
    let told = run("lag", &[&broker.http]);
    assert!(told.contains("\n10 records behind, "), "{told}");
    let nobody = example("lag").args([&*broker.http, "nobody"]).output().unwrap();
    assert!(!nobody.status.success() && !nobody.stderr.is_empty(), "{nobody:?}");
}
