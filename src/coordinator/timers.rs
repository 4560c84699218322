//! Deadlines of a machine: pure, by key.
//!
//! Made for deadlines that move far more often than they pass (a session moves with every heartbeat): a later deadline only overwrites a number, and the
//! queue finds out when the old one comes up.
