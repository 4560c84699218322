//! The rules of classic groups one by one, with literal time; random histories in [`model`].

mod fixed;
mod joining;
mod members;
mod model;
mod rig;
mod stored;
mod times;

use crate::{
    config::GroupSettings,
    coordinator::{group::*, machine::*},
};
use bytes::Bytes;
use rig::*;
use std::sync::Arc;
use uuid::Uuid;

const UNKNOWN: Result<(), GroupError> = Err(GroupError::UnknownMemberId);
const REBALANCING: Result<(), GroupError> = Err(GroupError::RebalanceInProgress);

fn illegal(given: i32, current: i32) -> Result<(), GroupError> {
    Err(GroupError::IllegalGeneration { given, current })
}
