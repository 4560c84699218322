//! Sends records to one topic: batched, pipelined, tried again where that may help, each with a result.
//!
//! Callers append to batches under one short lock; one task sends what is full or has lingered, at most one batch of a partition in a request and
//! [`ProducerOptions::in_flight_max`] requests to a broker at a time. While a batch waits to be tried again nothing that follows in its partition is sent, so the order of a partition
//! is kept as long as nothing was in flight behind the batch that failed; with idempotence it is kept in any case, and nothing is written twice: a partition in which a batch failed for good
//! goes on under another producer id, and what was sent to it before and may be written is not sent under that, but fails ([`ClientError::Uncertain`]; Kafka: `TransactionManager`).

mod sender;

use super::{
    cluster::{Backoff, Cluster},
    error::ClientError,
    partitioner,
};
use crate::wire::codec;
use bytes::Bytes;
use millstream_storage::record::{BatchBuilder, Header};
use sender::Sender;
use std::{
    collections::VecDeque,
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
            identity = Some(sender::producer_id(cluster).await?);
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
        let sender = Sender::new(shared.clone(), facts, identity);
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
