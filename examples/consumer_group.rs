//! Reads a topic as a member of a group, until Ctrl-C: `cargo run --example consumer_group -- [HOST:PORT [TOPIC [GROUP]]]`.
//!
//! Start it twice, and the two share the partitions. Start it again, and it goes on behind what was committed.

use rdkafka::{
    ClientConfig, Message,
    consumer::{CommitMode, Consumer, StreamConsumer},
};
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let broker = args.next().unwrap_or("localhost:9092".into());
    let topic = args.next().unwrap_or("orders".into());
    let group = args.next().unwrap_or("billing".into());
    let consumer: StreamConsumer = ClientConfig::new()
        .set("bootstrap.servers", &broker)
        .set("group.id", &group)
        // Where nothing is committed yet: from the first record there is.
        .set("auto.offset.reset", "earliest")
        // An offset is committed once its record was handled, not once it was fetched.
        .set("enable.auto.offset.store", "false")
        // A topic that is made later is found so soon.
        .set("topic.metadata.refresh.interval.ms", "5000")
        .create()?;
    consumer.subscribe(&[&topic])?;
    loop {
        let record = tokio::select! {
            record = consumer.recv() => record?,
            _ = tokio::signal::ctrl_c() => break,
        };
        let text = |bytes: Option<&[u8]>| bytes.map_or("null".into(), |b| String::from_utf8_lossy(b).into_owned());
        let (key, value) = (text(record.key()), text(record.payload()));
        println!("{topic}/{} offset {}: {key} {value}", record.partition(), record.offset());
        // Committed behind, each 5 s (auto.commit.interval.ms).
        consumer.store_offset_from_message(&record)?;
    }
    // What was handled since, before others take over. Nothing stored is no error.
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(rdkafka::error::KafkaError::ConsumerCommit(rdkafka::error::RDKafkaErrorCode::NoOffset)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
