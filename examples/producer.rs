//! Publishes ten records with keys, each acknowledged once it is on disk: `cargo run --example producer -- [HOST:PORT [TOPIC]]`.
//!
//! Nothing here is Millstream's own: it is librdkafka's Rust client, as one would use it with any Kafka.

use rdkafka::{
    ClientConfig,
    producer::{FutureProducer, FutureRecord},
};
use std::{error::Error, time::Duration};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let broker = args.next().unwrap_or("localhost:9092".into());
    let topic = args.next().unwrap_or("orders".into());
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &broker)
        // A retry never stores a record twice; implies acks=all.
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "10000")
        .create()?;
    for n in 0..10 {
        // Records of one key keep their order: they go to one partition.
        let (key, value) = (format!("customer-{}", n % 3), format!(r#"{{"order":{n}}}"#));
        let record = FutureRecord::to(&topic).key(&key).payload(&value);
        // To wait for each one is plain, not fast: publish many, then wait for all.
        let stored = producer.send(record, Duration::from_secs(10)).await.map_err(|(error, _)| error)?;
        println!("{topic}/{} offset {}: {key} {value}", stored.partition, stored.offset);
    }
    Ok(())
}
