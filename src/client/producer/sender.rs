//! The producer's task: sends what is ready, takes the answers, tries again, renews the producer id.

use super::{Acks, Batch, Shared};
use crate::client::{
    cluster::{Backoff, Cluster, TopicFacts},
    connection::Connection,
    error::ClientError,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::{
    ResponseError,
    messages::{
        InitProducerIdRequest, ProduceRequest, ProduceResponse, TopicName,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::StrBytes,
};
use std::{
    collections::{HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

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
pub(super) struct Sender {
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
    pub(super) fn new(shared: Arc<Shared>, facts: Arc<TopicFacts>, identity: Option<(i64, i16)>) -> Sender {
        Sender {
            shared,
            facts,
            identity,
            asking: None,
            ask_at: None,
            backoff: Backoff::default(),
            refused: None,
            in_flight: HashMap::new(),
            connecting: HashSet::new(),
            answers: FuturesUnordered::new(),
        }
    }

    /// Until the end.
    pub(super) async fn run(mut self) {
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
pub(super) async fn producer_id(cluster: &Cluster) -> Result<(i64, i16), ClientError> {
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
