//! Deterministic-world tests: the real broker over a simulated disk and clock, without sockets.
//!
//! `MILLSTREAM_SEEDS=10000` runs the long form; `MILLSTREAM_SEED=n` replays one seed.

mod client;
mod expiry;
mod figures;
mod groups;
mod history;
mod lying_disk;
mod panics;
mod power;
mod rebalances;
