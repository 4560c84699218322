//! A broker inside this process: `cargo run --example embed`.
//!
//! Any Kafka client can use it while it runs; here it starts on free ports, prints where it listens, and stops.

use millstream::{Config, Env, Node};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // Free loopback ports, all settings at their defaults but one.
    let config = Config::local(directory.path()).set("millstream.durability", "page-cache");
    let node = Node::start(config, Env::real()).await?;
    println!("Kafka clients connect to {}", node.kafka());
    println!("Health is at http://{}/healthz", node.http());
    node.stop().await;
    Ok(())
}
