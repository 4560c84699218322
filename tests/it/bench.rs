//! `millstream bench`: what it says of a run is what happened.

use crate::support::{Broker, Options, PATIENCE, temp};
use base64::{Engine, prelude::BASE64_STANDARD as BASE64};
use serde_json::Value;
use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

fn command(broker: &Broker, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
    command.arg("bench").args(args).args(["--bootstrap", &broker.kafka, "--output", "json"]);
    command
}

fn report(out: &Output) -> Value {
    assert!(out.status.success(), "{out:?}");
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Topics now on the broker.
fn topics(broker: &Broker) -> Vec<String> {
    use rdkafka::{
        ClientConfig,
        consumer::{BaseConsumer, Consumer},
    };
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &broker.kafka).create().unwrap();
    let metadata = client.fetch_metadata(None, PATIENCE).unwrap();
    metadata.topics().iter().map(|t| t.name().to_string()).collect()
}

#[test]
fn every_record_is_counted_and_the_topic_made_for_a_run_is_gone_after_it() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let produced = report(
        &command(&broker, &["produce", "--records", "5000", "--record-bytes", "100", "--clients", "3"])
            .output()
            .unwrap(),
    );
    assert_eq!(
        (&produced["records"], &produced["bytes"], &produced["failed"]),
        (&5000.into(), &500_000.into(), &0.into())
    );
    assert_eq!(produced["latency"]["from due to acknowledged"]["count"], 5000);
    assert_eq!((&produced["setup"]["acks"], &produced["setup"]["clients"]), (&"all".into(), &3.into()));
    assert_eq!(topics(&broker), Vec::<String>::new());

    let none = command(&broker, &["produce", "missing", "--records", "1"]).output().unwrap();
    assert_eq!(none.status.code(), Some(2), "a topic that was named is not made by a slip of the pen: {none:?}");
    assert!(String::from_utf8_lossy(&none.stderr).contains("missing"), "{none:?}");
    assert_eq!(topics(&broker), Vec::<String>::new());
}

#[test]
fn what_was_published_is_read_and_figures_go_to_files() {
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let (hdr, svg) = (dir.path().join("run.hlog"), dir.path().join("run.svg"));
    let (hdr_arg, svg_arg) = (hdr.to_str().unwrap(), svg.to_str().unwrap());
    let args = ["e2e", "--rate", "2000", "--records", "3000", "--clients", "2", "--hdr", hdr_arg, "--plot", svg_arg];
    let e2e = report(&command(&broker, &args).output().unwrap());
    assert_eq!((&e2e["records"], &e2e["failed"]), (&3000.into(), &0.into()), "{e2e}");
    let (seen, acknowledged) = (&e2e["latency"]["from due to consumed"], &e2e["latency"]["from due to acknowledged"]);
    assert_eq!((&seen["count"], &acknowledged["count"]), (&3000.into(), &3000.into()));

    use hdrhistogram::{
        Histogram,
        serialization::{
            Deserializer,
            interval_log::{IntervalLogIterator, LogEntry},
        },
    };
    let log = std::fs::read(&hdr).unwrap();
    let mut all = Histogram::<u64>::new(3).unwrap();
    for entry in IntervalLogIterator::new(&log) {
        let LogEntry::Interval(interval) = entry.unwrap() else { continue };
        let bytes = BASE64.decode(interval.encoded_histogram()).unwrap();
        let one: Histogram<u64> = Deserializer::new().deserialize(&mut &bytes[..]).unwrap();
        all.add(one).unwrap();
    }
    assert_eq!(all.len(), 3000);
    let p99 = seen["percentiles"]["p99"].as_f64().unwrap();
    assert!((all.value_at_quantile(0.99) as f64 / 1e3 - p99).abs() <= p99 / 500.0, "the log and the report agree");
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("from due to consumed, 3000 records"));

    let consumed =
        report(&command(&broker, &["consume", "--records", "2000", "--record-bytes", "50"]).output().unwrap());
    assert!(consumed["records"].as_u64().unwrap() >= 2000, "{consumed}");
    assert!(consumed["latency"]["wait for the next records"]["count"].as_u64().unwrap() > 0, "{consumed}");
}

/// No coordinated omission: all that was due while the broker stood still is charged for it, not the one request that was on its way.
#[test]
fn a_broker_that_stands_still_is_charged_for_all_that_was_due() {
    const RATE: f64 = 1000.0;
    let dir = temp();
    let broker = Options::new(dir.path()).start();
    let bench = command(&broker, &["produce", "--rate", "1000", "--records", "4000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Records are on their way.
    crate::support::eventually("records come in", || {
        let metrics = crate::support::http(&broker.http).get("/metrics");
        let line = metrics.text().lines().find(|l| l.starts_with("millstream_appended_batches_total "))?;
        (line.rsplit(' ').next()?.parse::<f64>().ok()? > 10.0).then_some(())
    });
    broker.signal("STOP");
    let stopped = Instant::now();
    // The fault itself, and its length is measured.
    std::thread::sleep(Duration::from_secs(1));
    let stood_still = stopped.elapsed();
    broker.signal("CONT");
    let stopped_at_most = stopped.elapsed();
    let report = report(&bench.wait_with_output().unwrap());
    assert_eq!((&report["records"], &report["failed"]), (&4000.into(), &0.into()));
    let latency = &report["latency"]["from due to acknowledged"];
    let max = Duration::from_secs_f64(latency["max"].as_f64().unwrap() / 1e6);
    assert!(max >= stood_still.mul_f64(0.9), "{max:?} at least, of {stopped_at_most:?}");
    // Of what was due in the first half of the pause each record waited for half of it or longer: so many of 4,000.
    let late = (stood_still.as_secs_f64() / 2.0 * RATE * 0.9) / 4000.0;
    let percentiles = latency["percentiles"].as_object().unwrap();
    let p90 = percentiles["p90"].as_f64().unwrap() / 1e6;
    assert!(late > 0.1 && p90 >= stood_still.as_secs_f64() / 2.0 * 0.9, "p90 {p90} s: {report}");
}
