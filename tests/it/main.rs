//! The real binary against real clients, over real sockets and files; every port is 0 and every directory its own.
//!
//! One test binary, so that it links once. `MILLSTREAM_TEST_KAFKA=HOST:PORT` points the client tests at another broker (Apache Kafka, say), to tell a
//! fault of the broker from one of the test; tests that need to start or kill the broker are passed over then.

mod addresses;
mod admin_topics;
mod administration;
mod bench;
mod cli;
mod client;
mod clients;
mod compression;
mod connections;
mod container;
mod control;
mod crash;
mod damage;
mod data;
mod disk_full;
mod embed;
mod exact;
mod examples;
mod figures;
mod flush_failure;
mod groups;
mod groups_crash;
mod groups_rdkafka;
mod hostile;
mod http;
mod kcat;
mod lag;
mod members;
mod messages;
mod newer;
mod oracle;
mod recreate;
mod serve;
mod support;
mod wire;
