//! The oracle: one scenario of some 2,500 requests, good and bad, in every version served. Apache Kafka's answers are kept in `recorded/`, one
//! file an API; this broker's are compared with them field by field. Ids, times, addresses and sentences are masked (`tree.rs`); what differs on purpose
//! stands with its reason in `differences.rs`, and an entry there that no longer differs is a failure too.
//!
//! To record anew, after a change of the scenario or for another release of Kafka, start an empty broker of it with these settings, one node whose
//! `node.id` is 1, `offsets.topic.replication.factor=1`, `transaction.state.log.replication.factor=1`, `transaction.state.log.min.isr=1` and
//! `group.initial.rebalance.delay.ms=0`, and run
//!
//! ```text
//! MILLSTREAM_ORACLE_RECORD=HOST:PORT cargo test --test it oracle::answers
//! ```

mod differences;
mod scenario;
mod session;
mod tree;

use crate::support::{Options, temp};
use session::{Session, Step};

#[test]
fn answers_are_those_of_apache_kafka() {
    if let Ok(kafka) = std::env::var("MILLSTREAM_ORACLE_RECORD") {
        let mut session = Session::new(&kafka, None);
        scenario::run(&mut session);
        let (recording, problems) = session.end();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
        session::write(&recording);
        return;
    }
    let dir = temp();
    let alike = [
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.topic.replication.factor", "1"),
        ("transaction.state.log.replication.factor", "1"),
        ("transaction.state.log.min.isr", "1"),
    ];
    let options = Options::new(dir.path()).ephemeral();
    let broker = alike.iter().fold(options, |options, (name, value)| options.set(name, value)).start();
    let mut session = Session::new(&broker.kafka, Some(session::recording()));
    scenario::run(&mut session);
    let (_, problems) = session.end();
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Whether Kafka answered, and without any error.
fn good(step: &Step) -> bool {
    let mut codes = Vec::new();
    tree::values_of("error_code", &step.answer, &mut codes);
    step.answer.is_object() && codes.iter().all(|code| code.as_i64() == Some(0))
}

#[test]
fn every_version_served_has_a_good_request_recorded() {
    let recording = session::recording();
    let mut missing = Vec::new();
    for api in millstream::api::APIS {
        for version in api.served_min..=api.max {
            let found =
                recording.get(&api.key).is_some_and(|steps| steps.iter().any(|s| s.version == version && good(s)));
            if !found {
                missing.push(format!("{} v{version}", api.name));
            }
        }
    }
    assert!(missing.is_empty(), "no good request is recorded for {missing:?}");
}

/// CRC-32C, bit by bit: what is summed here is small.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
