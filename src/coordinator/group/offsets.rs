//! What a group has committed (Kafka's `OffsetMetadataManager`).

use super::{Event, Groups};
use crate::{
    config::GroupSettings,
    coordinator::machine::{Now, Output, Record, Refusal, Ticket},
};

/// Offsets of one group.
#[derive(Debug, Default)]
pub struct Offsets {}

/// What is remembered of an append until its outcome is known.
#[derive(Debug)]
pub enum Pending {}

/// An offset record: from the log at load, or just appended. `value` is still encoded; `None` = tombstone.
pub(super) fn replay(
    _groups: &mut Groups,
    _group: &str,
    _topic: &str,
    _partition: i32,
    _value: Option<&[u8]>,
    _now: Now,
) -> Result<(), String> {
    todo!()
}

/// The log has been read; called before the classic part's.
pub(super) fn loaded(_groups: &mut Groups, _now: Now, _settings: &GroupSettings, _out: &mut Output<Groups>) {}

/// Commit, Fetch, Describe, Delete, DeleteOffsets, List, ExpiryCandidates, Expire, TopicsDeleted.
pub(super) fn handle(
    _groups: &mut Groups,
    _ticket: Ticket,
    _event: Event,
    _now: Now,
    _settings: &GroupSettings,
    _out: &mut Output<Groups>,
) {
    todo!()
}

/// Its append was made.
pub(super) fn appended(
    _groups: &mut Groups,
    pending: Pending,
    _now: Now,
    _settings: &GroupSettings,
    _out: &mut Output<Groups>,
) {
    match pending {}
}

/// Its append was not made.
pub(super) fn refused(
    _groups: &mut Groups,
    pending: Pending,
    _why: &Refusal,
    _now: Now,
    _settings: &GroupSettings,
    _out: &mut Output<Groups>,
) {
    match pending {}
}

/// Puts the record of each offset.
pub(super) fn live(_groups: &Groups, _put: &mut dyn FnMut(Record)) {
    todo!()
}
