//! Produce (key 0).
//!
//! Served: v3–13 (record batches v2). v0–2 are advertised and close the connection, as in Kafka. v7+ may send zstd, v8+ carry an error message, v10+ the current leader where this broker is not it,
//! v13+ name topics by id.
//!
//! The accept stage appends; what acks=all has to wait for overlaps with the requests behind it. One bad partition fails alone.

use super::{
    CloseReason, Outcome, Request,
    errors::{self, ResponseError},
    reply, topics,
};
use crate::{
    broker::{Broker, opening::Opening},
    partition::{
        Effects, Partition, PartitionError,
        leader::{self, Appended},
        recode,
        waiters::{Acks, Goal},
    },
    wire::header::RequestHeader,
};
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        BrokerId, ProduceRequest, ProduceResponse,
        produce_response::{LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse},
    },
    protocol::StrBytes,
};
use millstream_storage::Batch;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// First version whose clients may send zstd (KIP-110).
const ZSTD: i16 = 7;
/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// The codec's number in a batch's attributes.
const CODEC_ZSTD: u8 = 4;

/// A partition of the response that waits.
struct Waiting {
    topic: usize,
    partition: usize,
    on: Arc<Partition>,
    goal: Goal,
    offset: i64,
}

pub(super) async fn handle(request: Request<'_>, message: ProduceRequest) -> Outcome {
    let broker = request.broker;
    let version = request.header.api_version;
    let (acks, timeout_ms) = (message.acks, message.timeout_ms);
    let refused = refusal(&message);
    let now_ms = broker.env.now_ms();
    let mut effects = Effects::default();
    let mut waiting: Vec<Waiting> = Vec::new();
    let mut responses = Vec::with_capacity(message.topic_data.len());
    let mut failed = false;
    let mut opening = Opening::new(&broker.opening_bytes, request.body.len());
    for topic in message.topic_data {
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let appended = match refused {
                Some(error) => Err(error.into()),
                None => {
                    let found = find(broker, version, &topic.name, topic.topic_id, data.index);
                    let found = found.and_then(|p| check_codec(version, data.records.as_deref()).map(|()| p));
                    append(broker, found, data.records, acks, now_ms, &mut effects, &mut opening).await
                }
            };
            let response = match appended {
                Ok((partition, appended)) => {
                    if let Some((goal, offset)) = appended.wait {
                        let (topic, index) = (responses.len(), partitions.len());
                        waiting.push(Waiting { topic, partition: index, on: partition, goal, offset });
                    }
                    answered(data.index, &appended, version)
                }
                Err(refusal) => {
                    failed = true;
                    refusal.answered(data.index, version)
                }
            };
            partitions.push(response);
        }
        let response = TopicProduceResponse::default().with_partition_responses(partitions);
        let named =
            if version >= TOPIC_IDS { response.with_topic_id(topic.topic_id) } else { response.with_name(topic.name) };
        responses.push(named);
    }
    // The flush starts before anything is parked: parking looks again.
    drop(effects);
    if acks == 0 {
        return if failed { Outcome::Close(CloseReason::SilentFailure) } else { Outcome::Silent };
    }
    let response = ProduceResponse::default().with_responses(responses);
    settle(request.header, response, waiting, timeout_ms)
}

/// Why a whole request is refused.
fn refusal(message: &ProduceRequest) -> Option<ResponseError> {
    if !(-1..=1).contains(&message.acks) {
        return Some(ResponseError::InvalidRequiredAcks);
    }
    // No transactional id was ever handed a producer id here.
    message.transactional_id.as_ref().map(|_| ResponseError::InvalidTxnState)
}

/// The partition named; Kafka's internal topics are written by their coordinators only.
fn find(broker: &Broker, version: i16, name: &str, id: Uuid, index: i32) -> Result<Arc<Partition>, ResponseError> {
    let table = broker.partitions.table();
    let topic = if version >= TOPIC_IDS {
        table.by_id(id).ok_or(ResponseError::UnknownTopicId)?
    } else {
        table.by_name(name).ok_or(ResponseError::UnknownTopicOrPartition)?
    };
    if topics::is_internal(&topic.state.name) {
        return Err(ResponseError::InvalidTopicException);
    }
    topic.partition(index).cloned().ok_or(ResponseError::UnknownTopicOrPartition)
}

/// A client of these versions sends no zstd.
fn check_codec(version: i16, records: Option<&[u8]>) -> Result<(), ResponseError> {
    let is_zstd = |bytes| Batch::parse(bytes).is_ok_and(|header| header.compression() == CODEC_ZSTD);
    if version < ZSTD && records.is_some_and(is_zstd) { Err(ResponseError::UnsupportedCompressionType) } else { Ok(()) }
}

async fn append(
    broker: &Broker,
    found: Result<Arc<Partition>, ResponseError>,
    records: Option<Bytes>,
    acks: i16,
    now_ms: i64,
    effects: &mut Effects,
    opening: &mut Opening<'_>,
) -> Result<(Arc<Partition>, Appended), Refused> {
    let partition = found?;
    let records = records.ok_or(PartitionError::InvalidRecord("no records"))?;
    let settings = partition.topic().settings.load_full();
    let (records, header) = if recode::is_work(&records, &settings) {
        drop(std::mem::take(effects));
        // Never closed. No more at once than memory is meant for.
        let _one = broker.unpacking.acquire().await;
        broker.env.blocking(move || recode::prepare(&records, &settings, now_ms)).await?
    } else {
        let header = leader::check(&records, &settings, now_ms)?;
        (records, header)
    };
    loop {
        match partition.append_as_leader(&records, &header, acks, now_ms, effects) {
            Ok(appended) => return Ok((partition, appended)),
            Err(PartitionError::NotOpen) => {
                // What was appended before must not wait for a cold partition.
                drop(std::mem::take(effects));
                opening.wait(partition.open()).await?;
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Parks what has to wait; the reply leaves when all of it came to an end or the producer's time is up.
fn settle(header: RequestHeader, mut response: ProduceResponse, waiting: Vec<Waiting>, timeout_ms: i32) -> Outcome {
    if waiting.is_empty() {
        return Outcome::Reply(reply::message(&header, &response));
    }
    let acks = Acks::new();
    for (slot, w) in waiting.iter().enumerate() {
        if let Err(e) = w.on.park(w.goal, w.offset, slot as u32, &acks) {
            fail(&mut response, w, Refused::from(e), header.api_version);
        }
    }
    let end = move |response: &mut ProduceResponse, failed: Vec<u32>| {
        for slot in failed {
            let w = &waiting[slot as usize];
            let error = if w.on.is_deleted() {
                ResponseError::UnknownTopicOrPartition
            } else {
                ResponseError::KafkaStorageError
            };
            fail(response, w, error.into(), header.api_version);
        }
        waiting
    };
    if acks.is_done() {
        end(&mut response, acks.take_failed());
        return Outcome::Reply(reply::message(&header, &response));
    }
    Outcome::Later(Box::pin(async move {
        let timeout = Duration::from_millis(timeout_ms.max(0) as u64);
        match tokio::time::timeout(timeout, acks.clone().done()).await {
            Ok(failed) => {
                end(&mut response, failed);
            }
            Err(_) => {
                let waiting = end(&mut response, acks.take_failed());
                for w in waiting.iter().filter(|w| !w.on.has_reached(w.goal, w.offset)) {
                    fail(&mut response, w, ResponseError::RequestTimedOut.into(), header.api_version);
                }
            }
        }
        reply::message(&header, &response)
    }))
}

fn fail(response: &mut ProduceResponse, w: &Waiting, refused: Refused, version: i16) {
    let slot = &mut response.responses[w.topic].partition_responses[w.partition];
    *slot = refused.answered(slot.index, version);
}

/// A partition's refusal: code and sentence.
struct Refused {
    error: ResponseError,
    message: Option<String>,
    /// Leader and its epoch, when it is another broker.
    leader: Option<(i32, i32)>,
}

impl From<ResponseError> for Refused {
    fn from(error: ResponseError) -> Refused {
        Refused { error, message: None, leader: None }
    }
}

impl From<PartitionError> for Refused {
    fn from(e: PartitionError) -> Refused {
        let leader = match e {
            PartitionError::NotLeader { leader, epoch } => Some((leader, epoch)),
            _ => None,
        };
        Refused { error: errors::partition(&e), message: Some(e.to_string()), leader }
    }
}

impl Refused {
    fn answered(self, index: i32, version: i16) -> PartitionProduceResponse {
        let mut response = PartitionProduceResponse::default()
            .with_index(index)
            .with_error_code(self.error.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1);
        if version >= 5 {
            response.log_start_offset = -1;
        }
        if version >= 8 {
            response.error_message = self.message.map(StrBytes::from_string);
        }
        if version >= 10
            && let Some((leader, epoch)) = self.leader
        {
            response.current_leader =
                LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(epoch);
        }
        response
    }
}

fn answered(index: i32, appended: &Appended, version: i16) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_base_offset(appended.base_offset)
        .with_log_append_time_ms(appended.log_append_time_ms);
    if version >= 5 { response.with_log_start_offset(appended.log_start) } else { response }
}
