//! kcat publishes and consumes.

use crate::{
    clients::fresh,
    support::{Broker, Options, foreign, passed_over, temp},
};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Runs kcat with `input`; gives stdout, or `None` where it is not installed (`.ci/run` installs it).
fn kcat(broker: &str, args: &[&str], input: &str) -> Option<String> {
    let spawned = Command::new("kcat")
        .args(["-b", broker, "-q"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            passed_over("kcat", "kcat is not installed");
            return None;
        }
        Err(e) => panic!("kcat: {e}"),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "kcat {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    Some(String::from_utf8(out.stdout).unwrap())
}

#[test]
fn lines_go_in_and_come_out_across_a_restart() {
    let dir = temp();
    let topic = fresh("kcat");
    let broker = match foreign() {
        Some(_) => Broker::any().0,
        None => Options::new(dir.path()).start(),
    };
    for codec in ["none", "gzip", "snappy", "lz4"] {
        if kcat(
            &broker.kafka,
            &["-P", "-t", &topic, "-K:", "-z", codec, "-H", "h=1"],
            &format!("{codec}:one\n{codec}:two\n"),
        )
        .is_none()
        {
            return;
        }
    }
    let wanted = "0 none one h=1\n1 none two h=1\n2 gzip one h=1\n3 gzip two h=1\n4 snappy one h=1\n5 snappy two h=1\n6 lz4 one h=1\n7 lz4 two h=1\n";
    let read = ["-C", "-t", &topic, "-p", "0", "-o", "beginning", "-e", "-f", "%o %k %s %h\n"];
    assert_eq!(kcat(&broker.kafka, &read, "").unwrap(), wanted);
    if foreign().is_some() {
        return;
    }
    assert_eq!(broker.stop().0, Some(0));
    let broker = Options::new(dir.path()).start();
    assert_eq!(kcat(&broker.kafka, &read, "").unwrap(), wanted);
    let listed = kcat(&broker.kafka, &["-L", "-t", &topic], "").unwrap();
    assert!(listed.contains(&format!("topic \"{topic}\" with 1 partitions")), "{listed}");
    let tail = kcat(&broker.kafka, &["-C", "-t", &topic, "-p", "0", "-o", "-2", "-e", "-f", "%o\n"], "").unwrap();
    assert_eq!(tail, "6\n7\n");
}
