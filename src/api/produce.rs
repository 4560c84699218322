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
    broker::{
        Broker,
        latency::{Latency, Stage},
        opening::Opening,
        publish,
    },
    partition::{
        Effects, Partition, PartitionError, TopicState,
        leader::Appended,
        waiters::{Acks, Goal},
    },
    wire::{Reply, Sent, header::RequestHeader},
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
use tokio::time::Instant;
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

/// The times of a request, for the histograms of its topics.
#[derive(Debug)]
struct Timed {
    latency: Arc<Latency>,
    /// Topics of which something was appended, each once; most requests have one.
    first: Option<Arc<TopicState>>,
    others: Vec<Arc<TopicState>>,
    received: Instant,
    appended: Instant,
    settled: Instant,
}

impl Timed {
    fn new(broker: &Broker, received: Instant) -> Timed {
        let latency = broker.latency.clone();
        Timed { latency, first: None, others: Vec::new(), received, appended: received, settled: received }
    }

    /// A batch of `topic` was appended.
    fn add(&mut self, topic: &Arc<TopicState>) {
        // The partitions of a topic come one after another.
        match self.others.last().or(self.first.as_ref()) {
            Some(last) if Arc::ptr_eq(last, topic) => {}
            Some(_) => self.others.push(topic.clone()),
            None => self.first = Some(topic.clone()),
        }
    }

    fn record(&self, stage: Stage, took: Duration) {
        for topic in self.first.iter().chain(&self.others) {
            self.latency.topic(topic, stage, took);
        }
    }

    /// The reply, which tells when it was sent; of a request that failed (`settled` is `None`) it does not.
    fn settled(timed: Option<Timed>, settled: Option<Instant>, mut reply: Reply) -> Reply {
        if let (Some(timed), Some(settled)) = (timed, settled)
            && timed.first.is_some()
        {
            reply.sent = Some(Box::new(Timed { settled, ..timed }));
        }
        reply
    }
}

impl Sent for Timed {
    fn sent(self: Box<Self>, at: Instant) {
        self.record(Stage::Append, self.appended.saturating_duration_since(self.received));
        // What was settled before the last append was waits for nothing.
        let settled = self.settled.max(self.appended);
        self.record(Stage::Settle, settled - self.appended);
        self.record(Stage::Acknowledge, at.saturating_duration_since(settled));
        self.record(Stage::Total, at.saturating_duration_since(self.received));
    }
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
    let mut timed = broker.latency.is_on().then(|| Timed::new(broker, request.received));
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
                    if let Some(timed) = &mut timed {
                        timed.add(partition.topic());
                    }
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
    if let Some(timed) = &mut timed {
        timed.appended = Instant::now();
    }
    if acks == 0 {
        if let Some(timed) = timed {
            timed.record(Stage::Append, timed.appended - timed.received);
        }
        return if failed { Outcome::Close(CloseReason::SilentFailure) } else { Outcome::Silent };
    }
    let response = ProduceResponse::default().with_responses(responses);
    settle(request.header, response, waiting, timeout_ms, timed)
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
    let appended = publish::append(broker, &partition, records, acks, now_ms, effects, opening).await?;
    Ok((partition, appended))
}

/// Parks what has to wait; the reply leaves when all of it came to an end or the producer's time is up.
fn settle(
    header: RequestHeader,
    mut response: ProduceResponse,
    waiting: Vec<Waiting>,
    timeout_ms: i32,
    timed: Option<Timed>,
) -> Outcome {
    if waiting.is_empty() {
        let settled = timed.as_ref().map(|timed| timed.appended);
        return Outcome::Reply(Timed::settled(timed, settled, reply::message(&header, &response)));
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
        let failed = acks.take_failed();
        let settled = failed.is_empty().then(|| acks.ended().unwrap_or_else(Instant::now));
        end(&mut response, failed);
        return Outcome::Reply(Timed::settled(timed, settled, reply::message(&header, &response)));
    }
    Outcome::Later(Box::pin(async move {
        let timeout = Duration::from_millis(timeout_ms.max(0) as u64);
        let mut settled = None;
        match tokio::time::timeout(timeout, acks.clone().done()).await {
            Ok(failed) => {
                settled = if failed.is_empty() { acks.ended() } else { None };
                end(&mut response, failed);
            }
            Err(_) => {
                let waiting = end(&mut response, acks.take_failed());
                for w in waiting.iter().filter(|w| !w.on.has_reached(w.goal, w.offset)) {
                    fail(&mut response, w, ResponseError::RequestTimedOut.into(), header.api_version);
                }
            }
        }
        Timed::settled(timed, settled, reply::message(&header, &response))
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
