//! Sends records to one topic: batched, pipelined, tried again where that may help, each with a result.
//!
//! Callers append to batches under one short lock; one task sends what is full or has lingered, at most one batch of a partition in a request and
//! [`ProducerOptions::in_flight_max`] requests to a broker at a time. While a batch waits to be tried again nothing that follows in its partition is sent, so the order of a partition
//! is kept as long as nothing was in flight behind the batch that failed; with idempotence it is kept in any case, and nothing is written twice: a partition in which a batch failed for good
//! goes on under another producer id, and what was sent to it before and may be written is not sent under that, but fails ([`ClientError::Uncertain`]; Kafka: `TransactionManager`).

use super::{
    cluster::{Backoff, Cluster, TopicFacts},
    connection::Connection,
    error::ClientError,
    partitioner,
};
use crate::wire::codec;
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::{
    ResponseError,
    messages::{
        InitProducerIdRequest, ProduceRequest, ProduceResponse, TopicName,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
};
use millstream_storage::record::{BatchBuilder, Header};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::Instant,
};

/// When a broker is to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// Never: what is written to the connection counts as delivered, without an offset (-1). The broker may still not get it.
    None,
    /// When the leader has it.
    Leader,
    /// When all replicas in sync have it.
    All,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    #[default]
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// How a producer works.
#[derive(Debug, Clone)]
pub struct ProducerOptions {
    pub acks: Acks,
    pub compression: Compression,
    /// A batch is full at so many bytes before compression (Kafka: `batch.size`).
    pub batch_bytes: usize,
    /// How long a batch waits for more records (Kafka: `linger.ms`).
    pub linger: Duration,
    /// Bytes not yet delivered; further senders wait (Kafka: `buffer.memory`).
    pub buffer_bytes_max: usize,
    /// Bytes of records of one request.
    pub request_bytes_max: usize,
    /// Requests not yet answered, to each broker (Kafka: `max.in.flight.requests.per.connection`); at most 5 with idempotence.
    pub in_flight_max: usize,
    /// Time to deliver a record, tries included (Kafka: `delivery.timeout.ms`).
    pub delivery_timeout: Duration,
    /// Never write a record twice, never out of order; asks for [`Acks::All`].
    pub idempotent: bool,
    /// Whether a topic that is missing is asked for in a way that lets the broker create it.
    pub create_topic: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        ProducerOptions {
            acks: Acks::All,
            compression: Compression::None,
            batch_bytes: 64 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes_max: 32 << 20,
            request_bytes_max: 1 << 20,
            in_flight_max: 5,
            delivery_timeout: Duration::from_secs(120),
            idempotent: false,
            create_topic: false,
        }
    }
}

/// A record to send. Borrowed: it is copied into its batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
    /// ms since 1970; `None` = now.
    pub timestamp_ms: Option<i64>,
    /// `None` = by the key, and without one the partition that batches go to at the moment.
    pub partition: Option<i32>,
    /// Given back in [`Delivery::tokens`].
    pub token: u64,
}

/// What became of one batch: handed to the producer's `on_delivery` on its own task, so that must be quick and must not block.
#[derive(Debug)]
pub struct Delivery<'a> {
    pub partition: i32,
    /// Offset of the first record, the others follow one by one (-1 = unknown: acks=0, or delivered by an earlier try); or why none of them is delivered.
    pub result: Result<i64, &'a ClientError>,
    /// The tokens of its records, in order.
    pub tokens: &'a [u64],
}

type OnDelivery = Box<dyn Fn(Delivery<'_>) + Send + Sync>;

/// A producer for one topic. Dropped without [`Producer::close`] it gives up what is not delivered.
pub struct Producer {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("topic", &self.shared.topic).finish_non_exhaustive()
    }
}

struct Shared {
    cluster: Cluster,
    topic: String,
    options: ProducerOptions,
    on_delivery: OnDelivery,
    queues: Mutex<Queues>,
    /// Something is to be sent, or the end came.
    work: Notify,
    /// Room came free, or all is delivered.
    progress: Notify,
}

struct Queues {
    partitions: Vec<Partition>,
    /// Bytes of batches that are neither delivered nor failed.
    buffered_bytes: usize,
    /// Batches that are neither delivered nor failed.
    open_batches: usize,
    /// Where records without key or partition go until a batch is full.
    sticky: usize,
    /// Send without lingering: somebody waits (so many), or it is to close.
    hurried: usize,
    ended: bool,
}

#[derive(Default)]
struct Partition {
    /// In order; the last may still grow unless it was sealed.
    batches: VecDeque<Batch>,
    /// Batches sent and not answered.
    in_flight: usize,
    /// A batch failed in a way that may pass: nothing is sent until all in flight came back, and not before this.
    retry_at: Option<Instant>,
    /// Producer id and epoch that its batches are numbered under, with idempotence.
    identity: Option<(i64, i16)>,
    next_sequence: i32,
    /// A batch failed for good, its numbers are missing: what follows would be out of order for ever and needs another identity, once nothing is in flight.
    is_stale: bool,
    next_number: u64,
}

struct Batch {
    /// Counts the partition's batches: their order.
    number: u64,
    builder: BatchBuilder,
    tokens: Vec<u64>,
    waiters: Vec<(u32, oneshot::Sender<Result<i64, ClientError>>)>,
    since: Instant,
    is_full: bool,
    /// Bytes it counts for.
    bytes: usize,
    backoff: Backoff,
    last: Option<ClientError>,
    /// A try of it may have been written.
    is_uncertain: bool,
    /// Producer id and epoch and base sequence under which it was sent first.
    sequence: Option<(i64, i16, i32)>,
    /// What goes over the wire, made once.
    built: Option<Bytes>,
}

impl Producer {
    /// Looks the topic up and starts its task; `on_delivery` is told of each batch.
    ///
    /// # Errors
    /// Those of [`Cluster::topic`]; with idempotence those of InitProducerId.
    pub async fn start(
        cluster: &Cluster,
        topic: &str,
        mut options: ProducerOptions,
        on_delivery: impl Fn(Delivery<'_>) + Send + Sync + 'static,
    ) -> Result<Producer, ClientError> {
        let facts = match options.create_topic {
            true => cluster.topic_or_new(topic).await?,
            false => cluster.topic(topic).await?,
        };
        if facts.partitions.is_empty() {
            return Err(ClientError::UnknownTopic(topic.to_string()));
        }
        options.in_flight_max = options.in_flight_max.max(1);
        let mut identity = None;
        if options.idempotent {
            options.acks = Acks::All;
            options.in_flight_max = options.in_flight_max.min(5);
            identity = Some(producer_id(cluster).await?);
        }
        let count = facts.partitions.len();
        let queues = Queues {
            partitions: (0..count).map(|_| Partition { identity, ..Default::default() }).collect(),
            buffered_bytes: 0,
            open_batches: 0,
            sticky: (cluster.env().random_u64() % count as u64) as usize,
            hurried: 0,
            ended: false,
        };
        let shared = Arc::new(Shared {
            cluster: cluster.clone(),
            topic: topic.to_string(),
            options,
            on_delivery: Box::new(on_delivery),
            queues: Mutex::new(queues),
            work: Notify::new(),
            progress: Notify::new(),
        });
        let sender = Sender {
            shared: shared.clone(),
            facts,
            identity,
            asking: None,
            ask_at: None,
            backoff: Backoff::default(),
            refused: None,
            in_flight: HashMap::new(),
            connecting: HashSet::new(),
            answers: FuturesUnordered::new(),
        };
        let task = cluster.env().spawn("client producer", sender.run());
        Ok(Producer { shared, task: Some(task) })
    }

    /// Partitions of the topic when it was started.
    pub fn partition_count(&self) -> usize {
        self.shared.queues().partitions.len()
    }

    /// Appends a record; waits only while [`ProducerOptions::buffer_bytes_max`] is used up. The result comes to `on_delivery`.
    ///
    /// # Errors
    /// `Record`, `UnknownPartition`, `Ended`: then nothing was appended.
    pub async fn send(&self, record: NewRecord<'_>) -> Result<(), ClientError> {
        loop {
            // Registered before the look, so that no wake-up is missed.
            let progress = self.shared.progress.notified();
            if self.shared.append(&record, None)? {
                return Ok(());
            }
            progress.await;
        }
    }

    /// Appends a record if there is room at once; `false` = there is none.
    pub fn try_send(&self, record: NewRecord<'_>) -> Result<bool, ClientError> {
        self.shared.append(&record, None)
    }

    /// Sends a record and waits for its offset (-1 with acks=0). Does not hurry its batch: it lingers as set.
    ///
    /// # Errors
    /// Those of [`Producer::send`], and why it was not delivered.
    pub async fn send_and_wait(&self, record: NewRecord<'_>) -> Result<i64, ClientError> {
        let (tell, result) = oneshot::channel();
        let mut tell = Some(tell);
        loop {
            let progress = self.shared.progress.notified();
            if self.shared.append(&record, Some(&mut tell))? {
                break;
            }
            progress.await;
        }
        result.await.unwrap_or(Err(ClientError::Ended))
    }

    /// Records bytes not yet delivered.
    pub fn buffered_bytes(&self) -> usize {
        self.shared.queues().buffered_bytes
    }

    /// Waits until all that was sent before is delivered or failed.
    pub async fn flush(&self) {
        let _hurry = Hurry::new(&self.shared);
        loop {
            let progress = self.shared.progress.notified();
            {
                let queues = self.shared.queues();
                if queues.open_batches == 0 || queues.ended {
                    return;
                }
            }
            progress.await;
        }
    }

    /// Delivers what was sent and ends.
    pub async fn close(mut self) {
        self.flush().await;
        self.shared.queues().ended = true;
        self.shared.work.notify_one();
        if let Some(task) = self.task.take() {
            let _ = task.await;
        }
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// While it lives nothing lingers.
struct Hurry<'a>(&'a Shared);

impl<'a> Hurry<'a> {
    fn new(shared: &'a Shared) -> Hurry<'a> {
        shared.queues().hurried += 1;
        shared.work.notify_one();
        Hurry(shared)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.queues().hurried -= 1;
    }
}

type Tell<'a> = &'a mut Option<oneshot::Sender<Result<i64, ClientError>>>;

impl Shared {
    fn queues(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Appends; `false` = no room.
    fn append(&self, record: &NewRecord<'_>, tell: Option<Tell<'_>>) -> Result<bool, ClientError> {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        let header_bytes: usize = record.headers.iter().map(|(k, v)| k.len() + length(*v) + 10).sum();
        let bytes = length(record.key) + length(record.value) + header_bytes + 32;
        if bytes > i32::MAX as usize / 2 {
            return Err(ClientError::Record(format!("it has {bytes} bytes, far more than any broker takes")));
        }
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(|| self.cluster.env().now_ms());
        if timestamp_ms < 0 {
            return Err(ClientError::Record(format!("its timestamp {timestamp_ms} is before 1970")));
        }
        let mut queues = self.queues();
        let queues = &mut *queues;
        if queues.ended {
            return Err(ClientError::Ended);
        }
        // One record passes whatever its size.
        if queues.buffered_bytes > 0 && queues.buffered_bytes + bytes > self.options.buffer_bytes_max {
            return Ok(false);
        }
        let count = queues.partitions.len();
        let (at, is_sticky) = match (record.partition, record.key) {
            (Some(partition), _) => {
                let unknown = || ClientError::UnknownPartition { topic: self.topic.clone(), partition, count };
                let at = usize::try_from(partition).ok().filter(|p| *p < count).ok_or_else(unknown)?;
                (at, false)
            }
            (None, Some(key)) => (partitioner::of_key(key, count) as usize, false),
            (None, None) => (queues.sticky, true),
        };
        let batch_bytes = self.options.batch_bytes;
        let fits = |batch: &Batch| !batch.is_full && batch.builder.size_bytes() + bytes <= batch_bytes;
        let at = match is_sticky && count > 1 && queues.partitions[at].batches.back().is_some_and(|b| !fits(b)) {
            true => {
                // Any other, each as likely.
                let step = 1 + (self.cluster.env().random_u64() % (count as u64 - 1)) as usize;
                queues.sticky = (at + step) % count;
                queues.sticky
            }
            false => at,
        };
        let partition = &mut queues.partitions[at];
        let mut wake = false;
        if !partition.batches.back().is_some_and(fits) {
            if let Some(last) = partition.batches.back_mut() {
                last.is_full = true;
            }
            wake = true;
            queues.open_batches += 1;
            partition.batches.push_back(Batch::new(partition.next_number));
            partition.next_number += 1;
        }
        let Some(batch) = partition.batches.back_mut() else { unreachable!("one was pushed") };
        batch.builder.push(timestamp_ms, record.key, record.value, record.headers);
        if let Some(tell) = tell.and_then(Option::take) {
            batch.waiters.push((batch.tokens.len() as u32, tell));
        }
        batch.tokens.push(record.token);
        batch.bytes += bytes;
        queues.buffered_bytes += bytes;
        if batch.builder.size_bytes() + 64 > batch_bytes {
            batch.is_full = true;
            wake = true;
            if is_sticky && count > 1 {
                let step = 1 + (self.cluster.env().random_u64() % (count as u64 - 1)) as usize;
                queues.sticky = (at + step) % count;
            }
        }
        if wake {
            self.work.notify_one();
        }
        Ok(true)
    }

    /// Tells what became of a batch and gives its room back.
    fn settle(&self, partition: i32, batch: Batch, result: Result<i64, ClientError>) {
        (self.on_delivery)(Delivery { partition, result: result.as_ref().map(|o| *o), tokens: &batch.tokens });
        for (index, waiter) in batch.waiters {
            let one = match &result {
                Ok(-1) => Ok(-1),
                Ok(base) => Ok(base.saturating_add(i64::from(index))),
                Err(error) => Err(error.clone()),
            };
            let _ = waiter.send(one);
        }
        {
            let mut queues = self.queues();
            queues.buffered_bytes -= batch.bytes;
            queues.open_batches -= 1;
        }
        self.progress.notify_waiters();
    }
}

impl Batch {
    fn new(number: u64) -> Batch {
        Batch {
            number,
            builder: BatchBuilder::new(),
            tokens: Vec::new(),
            waiters: Vec::new(),
            since: Instant::now(),
            is_full: false,
            bytes: 0,
            backoff: Backoff::default(),
            last: None,
            is_uncertain: false,
            sequence: None,
            built: None,
        }
    }

    /// The bytes to send.
    fn wire(&mut self, compression: Compression) -> Bytes {
        if let Some(built) = &self.built {
            return built.clone();
        }
        let mut builder = std::mem::take(&mut self.builder);
        if let Some((id, epoch, sequence)) = self.sequence {
            builder = builder.producer(id, epoch, sequence);
        }
        let bytes = match compression as u8 {
            0 => builder.build(),
            number => {
                let packed = codec::pack(number, builder.payload());
                // As Kafka's clients do: whatever was asked for, even where it grew.
                builder.build_with(number, &packed)
            }
        };
        self.builder = builder;
        let bytes = Bytes::from(bytes);
        self.built = Some(bytes.clone());
        bytes
    }
}

/// A batch that is under way, with what it takes to put it back.
struct Sent {
    partition: i32,
    batch: Batch,
}

struct Answered {
    leader: i32,
    sent: Vec<Sent>,
    /// It is the one that connected first.
    has_connected: bool,
    /// It went to the connection: without a good answer it may be written all the same.
    was_queued: bool,
    answer: Result<Option<ProduceResponse>, ClientError>,
}

/// Batches for one leader; `None` = nobody leads their partitions.
type Ready = (Option<i32>, Vec<Sent>);
type Asking = Pin<Box<dyn Future<Output = Result<(i64, i16), ClientError>> + Send>>;
type Answer = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// The task: owner of what is in flight.
struct Sender {
    shared: Arc<Shared>,
    facts: Arc<TopicFacts>,
    /// The latest producer id and epoch, with idempotence.
    identity: Option<(i64, i16)>,
    /// InitProducerId under way, because a partition cannot use the latest any more.
    asking: Option<Asking>,
    /// Not asked again before this, `backoff` from `refused`.
    ask_at: Option<Instant>,
    backoff: Backoff,
    refused: Option<ClientError>,
    /// Requests not answered, by broker.
    in_flight: HashMap<i32, usize>,
    /// Brokers that the first request is on its way to, connecting first.
    connecting: HashSet<i32>,
    answers: FuturesUnordered<Answer>,
}

impl Sender {
    async fn run(mut self) {
        loop {
            let next = self.send_what_is_ready().await;
            if self.shared.queues().ended && self.answers.is_empty() && self.shared.queues().open_batches == 0 {
                return;
            }
            let shared = self.shared.clone();
            tokio::select! {
                biased;
                Some(answered) = self.answers.next(), if !self.answers.is_empty() => self.take(answered).await,
                answer = asked(&mut self.asking) => self.take_identity(answer),
                () = shared.work.notified() => {}
                () = until(next) => {}
            }
        }
    }

    /// Sends all that may be sent now; gives when the next becomes ready by time.
    async fn send_what_is_ready(&mut self) -> Option<Instant> {
        loop {
            let now = Instant::now();
            self.expire(now);
            self.renew(now);
            let (ready, next) = self.gather(now);
            if ready.is_empty() {
                return next;
            }
            for (leader, sent) in ready {
                self.dispatch(leader, sent).await;
            }
        }
    }

    /// Ends what waits in its queue for longer than the time to deliver it, whatever it waits for.
    fn expire(&mut self, now: Instant) {
        let timeout = self.shared.options.delivery_timeout;
        let mut ended = Vec::new();
        for (index, partition) in self.shared.queues().partitions.iter_mut().enumerate() {
            let is_over = |batch: &mut Batch| batch.since + timeout <= now;
            while let Some(mut batch) = partition.batches.pop_front_if(is_over) {
                let refused = self.refused.clone().filter(|_| partition.is_stale);
                let last = batch.last.take().or(refused).unwrap_or(ClientError::Unsent);
                partition.is_stale |= batch.sequence.is_some();
                ended.push((index, batch, last));
            }
        }
        for (index, batch, last) in ended {
            self.end(index as i32, batch, self.expired(last));
        }
    }

    fn expired(&self, last: ClientError) -> ClientError {
        let timeout_ms = self.shared.options.delivery_timeout.as_millis() as u64;
        ClientError::Expired { timeout_ms, last: Box::new(last) }
    }

    /// Tells that a batch failed for good.
    fn end(&self, partition: i32, batch: Batch, error: ClientError) {
        let error = match batch.is_uncertain {
            true => ClientError::Uncertain { last: Box::new(error) },
            false => error,
        };
        self.shared.settle(partition, batch, Err(error));
    }

    /// Lets partitions that need it start numbering anew, and asks for an identity where there is none.
    fn renew(&mut self, now: Instant) {
        let (mut ended, mut is_wanted) = (Vec::new(), false);
        for (index, partition) in self.shared.queues().partitions.iter_mut().enumerate() {
            if !partition.is_stale || partition.in_flight > 0 {
                continue;
            }
            // Only what is surely not written may have other numbers.
            for mut batch in std::mem::take(&mut partition.batches) {
                match batch.is_uncertain {
                    true => ended.push((index, batch)),
                    false => {
                        (batch.sequence, batch.built) = (None, None);
                        partition.batches.push_back(batch);
                    }
                }
            }
            if self.identity != partition.identity {
                (partition.identity, partition.next_sequence, partition.is_stale) = (self.identity, 0, false);
            } else {
                is_wanted |= !partition.batches.is_empty();
            }
        }
        for (index, mut batch) in ended {
            let last = batch.last.take().unwrap_or(ClientError::Unsent);
            self.end(index as i32, batch, last);
        }
        if is_wanted && self.asking.is_none() && self.ask_at.is_none_or(|at| at <= now) {
            let cluster = self.shared.cluster.clone();
            self.asking = Some(Box::pin(async move { producer_id_once(&cluster).await }));
        }
    }

    /// An identity, or why there is none.
    fn take_identity(&mut self, answer: Result<(i64, i16), ClientError>) {
        self.asking = None;
        match answer {
            Ok(identity) => {
                self.identity = Some(identity);
                (self.ask_at, self.refused, self.backoff) = (None, None, Backoff::default());
            }
            Err(error) if error.is_retriable() => {
                self.ask_at = Some(Instant::now() + self.backoff.step());
                self.refused = Some(error);
            }
            // What waits for it waits in vain.
            Err(error) => {
                let mut ended = Vec::new();
                for (index, partition) in self.shared.queues().partitions.iter_mut().enumerate() {
                    if partition.is_stale && partition.in_flight == 0 {
                        ended.extend(std::mem::take(&mut partition.batches).into_iter().map(|batch| (index, batch)));
                    }
                }
                for (index, batch) in ended {
                    self.end(index as i32, batch, error.clone());
                }
            }
        }
    }

    /// Takes batches that are ready out of their queues, one request for each leader with room.
    fn gather(&mut self, now: Instant) -> (Vec<Ready>, Option<Instant>) {
        let options = &self.shared.options;
        let mut queues = self.shared.queues();
        let hurried = queues.hurried > 0 || queues.ended || queues.buffered_bytes * 2 > options.buffer_bytes_max;
        let mut requests: HashMap<Option<i32>, (usize, Vec<Sent>)> = HashMap::new();
        let mut next: Option<Instant> = None;
        let mut at_latest = |at: Instant| next = Some(next.map_or(at, |n| n.min(at)));
        if let Some(at) = self.ask_at.filter(|at| *at > now) {
            at_latest(at);
        }
        for (index, partition) in queues.partitions.iter_mut().enumerate() {
            let Some(batch) = partition.batches.front_mut() else { continue };
            at_latest(batch.since + options.delivery_timeout);
            if partition.is_stale {
                continue;
            }
            if let Some(retry_at) = partition.retry_at {
                if partition.in_flight > 0 {
                    continue;
                }
                if retry_at > now {
                    at_latest(retry_at);
                    continue;
                }
            }
            let due = batch.since + options.linger;
            if !(batch.is_full || hurried || due <= now || batch.last.is_some()) {
                at_latest(due);
                continue;
            }
            let leader = self.facts.partitions.get(index).and_then(|p| p.leader);
            // With idempotence a broker remembers five batches of a partition.
            if self.identity.is_some() && partition.in_flight >= options.in_flight_max {
                continue;
            }
            if let Some(id) = leader
                && (self.connecting.contains(&id)
                    || self.in_flight.get(&id).copied().unwrap_or(0) >= options.in_flight_max)
            {
                continue;
            }
            let (bytes, sent) = requests.entry(leader).or_default();
            if *bytes > 0 && *bytes + batch.bytes > options.request_bytes_max {
                continue;
            }
            *bytes += batch.bytes;
            partition.retry_at = None;
            partition.in_flight += 1;
            let Some(mut batch) = partition.batches.pop_front() else { continue };
            batch.is_full = true;
            if let (Some((id, epoch)), None) = (partition.identity, batch.sequence) {
                batch.sequence = Some((id, epoch, partition.next_sequence));
                let count = i64::from(batch.builder.record_count());
                partition.next_sequence = ((i64::from(partition.next_sequence) + count) & i64::from(i32::MAX)) as i32;
            }
            sent.push(Sent { partition: index as i32, batch });
        }
        (requests.into_iter().map(|(leader, (_, sent))| (leader, sent)).collect(), next)
    }

    /// Puts one request on its way.
    async fn dispatch(&mut self, leader: Option<i32>, mut sent: Vec<Sent>) {
        let shared = self.shared.clone();
        let Some(leader) = leader else {
            for one in sent {
                let error = ClientError::NoLeader { topic: shared.topic.clone(), partition: one.partition };
                self.failed(one, error, false);
            }
            return self.refresh().await;
        };
        let compression = shared.options.compression;
        let partitions = sent.iter_mut().map(|s| {
            PartitionProduceData::default().with_index(s.partition).with_records(Some(s.batch.wire(compression)))
        });
        let topic = TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_string(shared.topic.clone())))
            .with_partition_data(partitions.collect());
        let acks = match shared.options.acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        };
        let timeout = shared.cluster.timeout();
        let request = ProduceRequest::default()
            .with_acks(acks)
            .with_timeout_ms(timeout.as_millis().min(i32::MAX as u128) as i32)
            .with_topic_data(vec![topic]);
        *self.in_flight.entry(leader).or_default() += 1;
        let Some(connection) = shared.cluster.connected(leader) else {
            // Connecting may take long: beside the others, and alone, so that the order of what follows is kept.
            self.connecting.insert(leader);
            self.answers.push(Box::pin(async move {
                let begun = match shared.cluster.broker(leader).await {
                    Ok(connection) => begin(&connection, &request, acks, timeout).await,
                    Err(error) => Err(error),
                };
                match begun {
                    Ok(answer) => {
                        Answered { leader, sent, has_connected: true, was_queued: true, answer: answer.await }
                    }
                    Err(error) => Answered { leader, sent, has_connected: true, was_queued: false, answer: Err(error) },
                }
            }));
            return;
        };
        match begin(&connection, &request, acks, timeout).await {
            Ok(answer) => {
                self.answers.push(Box::pin(async move {
                    Answered { leader, sent, has_connected: false, was_queued: true, answer: answer.await }
                }));
            }
            Err(error) => {
                self.take(Answered { leader, sent, has_connected: false, was_queued: false, answer: Err(error) }).await
            }
        }
    }

    /// An answer, or why there is none.
    async fn take(&mut self, answered: Answered) {
        let Answered { leader, sent, has_connected, was_queued, answer } = answered;
        if has_connected {
            self.connecting.remove(&leader);
        }
        if let Some(count) = self.in_flight.get_mut(&leader) {
            *count -= 1;
        }
        let mut stale = false;
        let results: HashMap<i32, (i64, Option<ClientError>)> = match &answer {
            Ok(Some(response)) => {
                let topics = response.responses.iter().filter(|t| t.name.0.as_str() == self.shared.topic);
                topics
                    .flat_map(|t| &t.partition_responses)
                    .map(|p| {
                        let what = || format!("cannot write to partition {} of `{}`", p.index, self.shared.topic);
                        (p.index, (p.base_offset, ClientError::told(p.error_code, p.error_message.as_deref(), what)))
                    })
                    .collect()
            }
            _ => HashMap::new(),
        };
        for one in sent {
            let result = match (&answer, results.get(&one.partition)) {
                (Err(error), _) => Err(error.clone()),
                // acks=0.
                (Ok(None), _) => Ok(-1),
                (Ok(Some(_)), Some((offset, None))) => Ok(*offset),
                (Ok(Some(_)), Some((_, Some(error)))) => Err(error.clone()),
                (Ok(Some(_)), None) => Err(ClientError::Unreadable {
                    address: format!("broker {leader}"),
                    api: "Produce".into(),
                    why: format!("partition {} is missing", one.partition),
                }),
            };
            match result {
                Ok(offset) => self.delivered(one, offset),
                // An earlier try was written, its answer lost.
                Err(error) if error.code() == Some(ResponseError::DuplicateSequenceNumber) => self.delivered(one, -1),
                Err(error) => {
                    stale |= error.is_retriable();
                    let is_uncertain = was_queued && may_be_written(&error);
                    self.failed(one, error, is_uncertain);
                }
            }
        }
        if stale {
            self.refresh().await;
        }
    }

    fn delivered(&mut self, sent: Sent, offset: i64) {
        let Sent { partition, batch } = sent;
        self.shared.queues().partitions[partition as usize].in_flight -= 1;
        self.shared.settle(partition, batch, Ok(offset));
    }

    /// Back into its queue if another try may help and there is time, else its end.
    fn failed(&mut self, sent: Sent, error: ClientError, is_uncertain: bool) {
        let Sent { partition, mut batch } = sent;
        batch.is_uncertain |= is_uncertain;
        let options = &self.shared.options;
        // Behind a batch that failed those in flight arrive out of order: they are tried again after it.
        let follows = self.identity.is_some() && error.code() == Some(ResponseError::OutOfOrderSequenceNumber);
        let expired = batch.since.elapsed() >= options.delivery_timeout;
        let mut queues = self.shared.queues();
        let queue = &mut queues.partitions[partition as usize];
        queue.in_flight -= 1;
        let behind_another = follows && (queue.retry_at.is_some() || queue.in_flight > 0 || queue.is_stale);
        if (error.is_retriable() || behind_another) && !expired {
            let wait = batch.backoff.step();
            queue.retry_at = Some(queue.retry_at.unwrap_or_else(Instant::now).max(Instant::now() + wait));
            batch.last = Some(error);
            // By the order they were sent in: what fails first may not be the first.
            let at = queue.batches.iter().take_while(|other| other.number < batch.number).count();
            queue.batches.insert(at, batch);
            return;
        }
        queue.is_stale |= batch.sequence.is_some();
        drop(queues);
        let error = if expired && error.is_retriable() { self.expired(error) } else { error };
        self.end(partition, batch, error);
    }

    /// Asks who leads now. A failure shows with the next try.
    async fn refresh(&mut self) {
        if let Ok(facts) = self.shared.cluster.fresh_topic(&self.shared.topic).await {
            self.facts = facts;
        }
    }
}

type Begun = Pin<Box<dyn Future<Output = Result<Option<ProduceResponse>, ClientError>> + Send>>;

async fn begin(
    connection: &Connection,
    request: &ProduceRequest,
    acks: i16,
    timeout: Duration,
) -> Result<Begun, ClientError> {
    if acks == 0 {
        let posted = connection.post(request, timeout).await?;
        return Ok(Box::pin(async move { posted.wait().await.map(|()| None) }));
    }
    // The broker takes the timeout for its own wait.
    let started = connection.start(request, timeout + Duration::from_secs(5)).await?;
    Ok(Box::pin(async move { started.wait().await.map(Some) }))
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn asked(asking: &mut Option<Asking>) -> Result<(i64, i16), ClientError> {
    match asking {
        Some(asking) => asking.await,
        None => std::future::pending().await,
    }
}

/// Whether records may be written although this was the answer, or there was none.
fn may_be_written(error: &ClientError) -> bool {
    use ResponseError::*;
    match error {
        ClientError::Closed { .. } | ClientError::Timeout { .. } | ClientError::Unreadable { .. } => true,
        ClientError::Kafka { code, .. } => matches!(
            code,
            RequestTimedOut | NotEnoughReplicasAfterAppend | NetworkException | KafkaStorageError | UnknownServerError
        ),
        _ => false,
    }
}

/// A producer id and epoch; waits a moment where it cannot be had just now.
async fn producer_id(cluster: &Cluster) -> Result<(i64, i16), ClientError> {
    let mut backoff = Backoff::default();
    for _ in 0..20 {
        match producer_id_once(cluster).await {
            Err(error @ ClientError::Kafka { .. }) if error.is_retriable() => backoff.wait().await,
            result => return result,
        }
    }
    producer_id_once(cluster).await
}

async fn producer_id_once(cluster: &Cluster) -> Result<(i64, i16), ClientError> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let answer = cluster.ask(&request).await?;
    ClientError::check(answer.error_code, None, || "cannot get a producer id".into())?;
    Ok((answer.producer_id.0, answer.producer_epoch))
}
