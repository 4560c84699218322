//! Millstream: a persistent message queue broker that speaks the Kafka wire protocol.
//!
//! The public surface is small: [`Node`] starts a broker in this process, [`Config`] says how, [`Env`] is the world it runs in; [`client`] talks to
//! any Kafka broker.
//! Modules import only those listed above them (proved by `tests/architecture.rs`).

pub mod admin;
pub mod api;
pub mod broker;
pub mod cli;
pub mod client;
pub mod config;
pub mod coordinator;
pub mod env;
pub mod limits;
pub mod metadata;
pub mod metrics;
pub mod partition;
pub mod server;
pub mod wire;

pub use config::Config;
pub use env::Env;
pub use server::Node;
