//! ListOffsets (key 2).
//!
//! Served: v1–11. v2+ have the isolation level, v4+ leader epochs, v6+ tagged fields, v7+ the largest timestamp (-3, KIP-734), v8+ the earliest local offset (-4), v9+ the latest
//! tiered one (-5), v10+ a timeout for remote look-ups, v11 the earliest that waits for its upload (-6, KIP-1023).
//! Nothing is tiered here: -4 is the earliest offset, -5 and -6 are none.

use super::{
    Outcome, Request,
    errors::{self, ResponseError},
    reply,
};
use crate::{
    broker::{Broker, opening::Opening},
    limits::UNPACKED_BATCH_BYTES_MAX,
    partition::{Partition, PartitionError},
    wire::{
        codec,
        newer::{As, ListOffsetsRequest},
    },
};
use kafka_protocol::{
    messages::{
        ListOffsetsResponse,
        list_offsets_request::ListOffsetsPartition,
        list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    },
    protocol::Message,
};
use std::{collections::HashSet, sync::Arc};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// (timestamp, offset, leader epoch); all -1 when there is none.
type Found = (i64, i64, i32);
const NONE: Found = (-1, -1, -1);

pub(super) async fn handle(request: Request<'_>, As(message): ListOffsetsRequest) -> Outcome {
    let (broker, header, bytes) = (request.broker.clone(), request.header, request.body.len());
    Outcome::Later(Box::pin(async move {
        let mut opening = Opening::new(&broker.opening_bytes, bytes);
        let mut topics = Vec::with_capacity(message.topics.len());
        for topic in message.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            let twice = twice(&topic.partitions);
            let mut refused = HashSet::new();
            for wanted in topic.partitions {
                if twice.contains(&wanted.partition_index) && !refused.insert(wanted.partition_index) {
                    continue;
                }
                let found = match broker.partitions.get(&topic.name, wanted.partition_index) {
                    _ if twice.contains(&wanted.partition_index) => Err(ResponseError::InvalidRequest),
                    _ if header.api_version < version_of(wanted.timestamp) => Err(ResponseError::UnsupportedVersion),
                    Some(partition) => find(&broker, &mut opening, &partition, &wanted).await,
                    None => Err(ResponseError::UnknownTopicOrPartition),
                };
                let error_code = found.as_ref().err().map_or(0, ResponseError::code);
                let (timestamp, offset, leader_epoch) = found.unwrap_or(NONE);
                let mut response = ListOffsetsPartitionResponse::default()
                    .with_partition_index(wanted.partition_index)
                    .with_error_code(error_code)
                    .with_timestamp(timestamp)
                    .with_offset(offset);
                if header.api_version >= 4 {
                    response.leader_epoch = leader_epoch;
                }
                partitions.push(response);
            }
            topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
        }
        // The layout did not change since.
        let version = header.api_version.min(ListOffsetsResponse::VERSIONS.max);
        reply::message_as(&header, &ListOffsetsResponse::default().with_topics(topics), version)
    }))
}

/// Partitions that are named more than once: refused, and answered once.
fn twice(partitions: &[ListOffsetsPartition]) -> HashSet<i32> {
    let mut seen = HashSet::with_capacity(partitions.len());
    partitions.iter().map(|p| p.partition_index).filter(|index| !seen.insert(*index)).collect()
}

/// The version from which on a timestamp may be asked for; those that have no meaning, in none.
fn version_of(timestamp: i64) -> i16 {
    match timestamp {
        0.. | LATEST | EARLIEST => 0,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        _ => i16::MAX,
    }
}

async fn find(
    broker: &Broker,
    opening: &mut Opening<'_>,
    partition: &Arc<Partition>,
    wanted: &ListOffsetsPartition,
) -> Result<Found, ResponseError> {
    if wanted.current_leader_epoch < -1 {
        return Err(ResponseError::FencedLeaderEpoch);
    }
    partition.check_leader(wanted.current_leader_epoch).map_err(|e| errors::partition(&e))?;
    let offsets = loop {
        match partition.offsets() {
            Ok(offsets) => break offsets,
            Err(PartitionError::NotOpen) => {
                opening.wait(partition.open()).await.map_err(|e| errors::partition(&e))?;
            }
            Err(e) => return Err(errors::partition(&e)),
        }
    };
    let end = offsets.last_stable;
    match wanted.timestamp {
        LATEST => Ok((-1, end, partition.leader().1)),
        EARLIEST | EARLIEST_LOCAL => Ok((-1, offsets.log_start, partition.epoch_of(offsets.log_start))),
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NONE),
        timestamp => {
            if offsets.log_start == end {
                return Ok(NONE);
            }
            let reader = opening.wait(partition.opened_reader()).await.map_err(|e| errors::partition(&e))?;
            // Walks an index and a batch, which may be off memory.
            let found = broker.env.blocking(move || {
                let unpack = |codec, bytes: &[u8]| codec::unpack(codec, bytes, UNPACKED_BATCH_BYTES_MAX);
                match timestamp {
                    MAX_TIMESTAMP => reader.max_timestamp(end, Some(&unpack)),
                    timestamp => reader.offset_for_timestamp(timestamp, end, Some(&unpack)),
                }
            });
            Ok(found.await.map_err(|e| errors::storage(&e))?.unwrap_or(NONE))
        }
    }
}
