//! Reads partitions that its owner names: fetches from each leader, always one request ahead of what is being worked on, and unpacks the records.

use super::{
    cluster::{Backoff, Cluster},
    connection::Connection,
    error::ClientError,
    offsets::{Start, offset},
};
use crate::{limits::UNPACKED_BATCH_BYTES_MAX, wire::codec};
use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::{
    ResponseError,
    messages::{
        FetchRequest, FetchResponse, TopicName,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::{AbortedTransaction, PartitionData},
    },
    protocol::StrBytes,
};
use millstream_storage::{batch, record};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// How a consumer works.
#[derive(Debug, Clone)]
pub struct ConsumerOptions {
    /// Bytes of one answer (Kafka: `fetch.max.bytes`); a single larger batch passes.
    pub fetch_bytes_max: i32,
    /// Bytes of one partition in an answer (Kafka: `max.partition.fetch.bytes`).
    pub partition_bytes_max: i32,
    /// A broker waits until so many bytes are there (Kafka: `fetch.min.bytes`) …
    pub fetch_bytes_min: i32,
    /// … or this long (Kafka: `fetch.max.wait.ms`).
    pub fetch_wait: Duration,
    /// Where to go on when the log no longer holds, or does not hold yet, the offset wanted (Kafka: `auto.offset.reset`); `None` = an error.
    pub out_of_range: Option<Start>,
    /// Leave out what transactions have not committed (Kafka: `isolation.level`).
    pub read_committed: bool,
    /// Compare each batch with its checksum (Kafka: `check.crcs`).
    pub check_crcs: bool,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        ConsumerOptions {
            fetch_bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            fetch_bytes_min: 1,
            fetch_wait: Duration::from_millis(500),
            out_of_range: None,
            read_committed: false,
            check_crcs: true,
        }
    }
}

/// A record as it was read. Key and value are slices of what arrived (or of the unpacked batch) and keep it in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// ms since 1970; -1 = none.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In order; keys are UTF-8 by convention only.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// What one poll brought of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub topic: Arc<str>,
    pub partition: i32,
    /// May be empty: news of the watermark, or of what is not shown.
    pub records: Vec<Record>,
    /// Offset to go on from.
    pub next_offset: i64,
    /// End of what is committed, exclusive.
    pub high_watermark: i64,
}

impl Fetched {
    /// Whether nothing was left to read when the broker answered.
    pub fn is_at_end(&self) -> bool {
        self.next_offset >= self.high_watermark
    }
}

#[derive(Debug)]
struct Position {
    offset: i64,
    high_watermark: i64,
    /// Asked for in a request that is not answered.
    is_asked: bool,
    not_before: Option<Instant>,
    backoff: Backoff,
    /// Tells an answer for an earlier assignment from one for this.
    generation: u64,
}

type Key = (Arc<str>, i32);

struct Answered {
    leader: i32,
    asked: Vec<(Key, i64, u64)>,
    answer: Result<FetchResponse, ClientError>,
}

/// A consumer of partitions assigned by hand. Has no task of its own: dropping it ends it.
pub struct Consumer {
    cluster: Cluster,
    options: ConsumerOptions,
    positions: BTreeMap<Key, Position>,
    generation: u64,
    /// Connections of its own, so that a long poll holds up nobody else.
    connections: HashMap<i32, Connection>,
    busy: HashSet<i32>,
    /// Arrived and not given yet.
    stash: Vec<Fetched>,
    answers: FuturesUnordered<Pin<Box<dyn Future<Output = Answered> + Send>>>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("positions", &self.positions).finish_non_exhaustive()
    }
}

impl Consumer {
    /// One without partitions.
    pub fn new(cluster: &Cluster, options: ConsumerOptions) -> Consumer {
        Consumer {
            cluster: cluster.clone(),
            options,
            positions: BTreeMap::new(),
            generation: 0,
            connections: HashMap::new(),
            busy: HashSet::new(),
            stash: Vec::new(),
            answers: FuturesUnordered::new(),
        }
    }

    /// Takes a partition, from there on; one it has already is moved there. Gives the offset.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, those of [`offset`].
    pub async fn assign(&mut self, topic: &str, partition: i32, start: Start) -> Result<i64, ClientError> {
        self.cluster.topic(topic).await?.partition(partition)?;
        let at = match start {
            Start::Offset(offset) => offset,
            other => offset(&self.cluster, topic, partition, other).await?,
        };
        self.place(topic, partition, at);
        Ok(at)
    }

    /// Takes a partition at an offset, without a look whether both are there.
    pub fn place(&mut self, topic: &str, partition: i32, offset: i64) {
        self.stash.retain(|f| !(&*f.topic == topic && f.partition == partition));
        self.generation += 1;
        let position = Position {
            offset,
            high_watermark: -1,
            is_asked: false,
            not_before: None,
            backoff: Backoff::default(),
            generation: self.generation,
        };
        self.positions.insert((Arc::from(topic), partition), position);
    }

    /// Gives a partition up.
    pub fn unassign(&mut self, topic: &str, partition: i32) {
        self.stash.retain(|f| !(&*f.topic == topic && f.partition == partition));
        self.positions.remove(&(Arc::from(topic), partition));
    }

    /// Gives all up.
    pub fn unassign_all(&mut self) {
        self.stash.clear();
        self.positions.clear();
    }

    /// Partitions it has, with the offset each goes on from.
    pub fn positions(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.positions.iter().map(|((topic, partition), p)| (&**topic, *partition, p.offset))
    }

    /// The next of what arrives, waiting at most `wait` for it; empty = nothing came. Positions move on with what is given. Cancel-safe.
    ///
    /// # Errors
    /// What no further try mends: `Damaged`, `UnknownTopic`, an offset out of range without [`ConsumerOptions::out_of_range`], authorisation. What may mend is
    /// tried again inside.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<Fetched>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            let asked = self.ask().await;
            // What arrived goes first; an error comes again.
            if !self.stash.is_empty() {
                return Ok(std::mem::take(&mut self.stash));
            }
            let next = asked?;
            let until = next.map_or(deadline, |next| next.min(deadline));
            let answered = if self.answers.is_empty() {
                tokio::time::sleep_until(until).await;
                None
            } else {
                tokio::time::timeout_at(until, self.answers.next()).await.ok().flatten()
            };
            if let Some(answered) = answered {
                match self.take(answered).await {
                    Err(error) if self.stash.is_empty() => return Err(error),
                    // The next request goes out before the owner works on these.
                    _ => continue,
                }
            }
            if Instant::now() >= deadline {
                return Ok(Vec::new());
            }
        }
    }

    /// Asks each leader that has no request for what is wanted of it. Gives when a partition that waits may be asked for again.
    async fn ask(&mut self) -> Result<Option<Instant>, ClientError> {
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        let mut wanted: BTreeMap<i32, Vec<Key>> = BTreeMap::new();
        let mut leaderless = Vec::new();
        let keys: Vec<Key> = self.positions.iter().filter(|(_, p)| !p.is_asked).map(|(key, _)| key.clone()).collect();
        for key in keys {
            let Some(position) = self.positions.get(&key) else { continue };
            if let Some(at) = position.not_before.filter(|at| *at > now) {
                next = Some(next.map_or(at, |n| n.min(at)));
                continue;
            }
            match self.cluster.leader(&key.0, key.1).await {
                Ok(leader) if self.busy.contains(&leader) => {}
                Ok(leader) => wanted.entry(leader).or_default().push(key),
                Err(error) if error.is_retriable() => leaderless.push(key),
                Err(error) => return Err(error),
            }
        }
        for key in leaderless {
            self.cluster.forget(&key.0);
            let at = self.later(&key);
            next = Some(next.map_or(at, |n| n.min(at)));
        }
        for (leader, keys) in wanted {
            if let Err(error) = self.fetch(leader, &keys).await {
                if !error.is_retriable() {
                    return Err(error);
                }
                self.connections.remove(&leader);
                for key in &keys {
                    self.cluster.forget(&key.0);
                    let at = self.later(key);
                    next = Some(next.map_or(at, |n| n.min(at)));
                }
            }
        }
        Ok(next)
    }

    fn later(&mut self, key: &Key) -> Instant {
        let Some(position) = self.positions.get_mut(key) else { return Instant::now() };
        let at = Instant::now() + position.backoff.step();
        position.not_before = Some(at);
        position.is_asked = false;
        at
    }

    /// Starts one request.
    async fn fetch(&mut self, leader: i32, keys: &[Key]) -> Result<(), ClientError> {
        let connection = match self.connections.get(&leader).filter(|c| c.closed().is_none()) {
            Some(connection) => connection.clone(),
            None => {
                let connection = self.cluster.own_connection(leader).await?;
                self.connections.insert(leader, connection.clone());
                connection
            }
        };
        let options = &self.options;
        let mut topics: Vec<FetchTopic> = Vec::new();
        let mut asked = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(position) = self.positions.get(key) else { continue };
            let partition = FetchPartition::default()
                .with_partition(key.1)
                .with_fetch_offset(position.offset)
                .with_partition_max_bytes(options.partition_bytes_max);
            match topics.last_mut().filter(|t| t.topic.0.as_str() == &*key.0) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(
                    FetchTopic::default()
                        .with_topic(TopicName(StrBytes::from_string(key.0.to_string())))
                        .with_partitions(vec![partition]),
                ),
            }
            asked.push((key.clone(), position.offset, position.generation));
        }
        let request = FetchRequest::default()
            .with_max_wait_ms(options.fetch_wait.as_millis().min(i32::MAX as u128) as i32)
            .with_min_bytes(options.fetch_bytes_min)
            .with_max_bytes(options.fetch_bytes_max)
            .with_isolation_level(i8::from(options.read_committed))
            .with_session_epoch(-1)
            .with_topics(topics);
        let started = connection.start(&request, self.cluster.timeout() + options.fetch_wait).await?;
        for (key, ..) in &asked {
            if let Some(position) = self.positions.get_mut(key) {
                position.is_asked = true;
            }
        }
        self.busy.insert(leader);
        self.answers.push(Box::pin(async move { Answered { leader, asked, answer: started.wait().await } }));
        Ok(())
    }

    /// Works an answer into the positions; the records go to the stash first, so that neither an error nor a caller that gives up loses them.
    async fn take(&mut self, answered: Answered) -> Result<(), ClientError> {
        let Answered { leader, asked, answer } = answered;
        self.busy.remove(&leader);
        let mut asked: HashMap<Key, (i64, u64)> = asked.into_iter().map(|(key, at, g)| (key, (at, g))).collect();
        // Those given up or moved meanwhile are not for anybody.
        asked.retain(|key, (_, generation)| {
            self.positions.get(key).is_some_and(|position| position.generation == *generation)
        });
        for key in asked.keys() {
            if let Some(position) = self.positions.get_mut(key) {
                position.is_asked = false;
            }
        }
        let answer = match answer {
            Ok(answer) => match ClientError::of(answer.error_code, || "cannot fetch".into()) {
                None => Ok(answer),
                Some(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.is_retriable() => {
                self.connections.remove(&leader);
                for key in asked.keys() {
                    self.cluster.forget(&key.0);
                    self.later(key);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut refused = Vec::new();
        let mut damaged = None;
        for topic in answer.responses {
            let name: Arc<str> = Arc::from(topic.topic.0.as_str());
            for partition in topic.partitions {
                let key = (name.clone(), partition.partition_index);
                let Some((from, _)) = asked.remove(&key) else { continue };
                match ResponseError::try_from_code(partition.error_code) {
                    None => match self.unpack(key, from, partition) {
                        Ok(fetched) => self.stash.extend(fetched),
                        Err(error) => damaged = Some(error),
                    },
                    Some(code) => refused.push((key, from, code)),
                }
            }
        }
        for (key, from, code) in refused {
            self.refused(key, from, code).await?;
        }
        damaged.map_or(Ok(()), Err)
    }

    fn unpack(&mut self, key: Key, from: i64, partition: PartitionData) -> Result<Option<Fetched>, ClientError> {
        let Some(position) = self.positions.get_mut(&key) else { return Ok(None) };
        let bytes = partition.records.unwrap_or_default();
        let mut records = Vec::new();
        let aborted = partition.aborted_transactions.filter(|_| self.options.read_committed).unwrap_or_default();
        let limits = Unpack { from, check_crcs: self.options.check_crcs };
        let next_offset = match unpack(&bytes, limits, aborted, &mut records) {
            Ok(next) => next,
            // What stands before the damage is given first.
            Err((offset, _)) if !records.is_empty() => offset,
            Err((offset, why)) => {
                return Err(ClientError::Damaged { topic: key.0.to_string(), partition: key.1, offset, why });
            }
        };
        let is_news = next_offset > from || position.high_watermark != partition.high_watermark;
        position.offset = next_offset;
        position.high_watermark = partition.high_watermark;
        position.backoff = Backoff::default();
        position.not_before = None;
        let high_watermark = match self.options.read_committed && partition.last_stable_offset >= 0 {
            true => partition.last_stable_offset,
            false => partition.high_watermark,
        };
        let fetched = Fetched { topic: key.0, partition: key.1, records, next_offset, high_watermark };
        // An end that was told before is not told again.
        Ok((is_news || !fetched.records.is_empty()).then_some(fetched))
    }

    /// A partition's error code.
    async fn refused(&mut self, key: Key, from: i64, code: ResponseError) -> Result<(), ClientError> {
        let error = ClientError::Kafka {
            what: format!("cannot read partition {} of `{}` at offset {from}", key.1, key.0),
            code,
            message: None,
        };
        match (code, self.options.out_of_range) {
            (ResponseError::OffsetOutOfRange, Some(start)) => {
                let at = match offset(&self.cluster, &key.0, key.1, start).await {
                    Ok(at) => at,
                    Err(error) if error.is_retriable() => {
                        self.later(&key);
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                };
                self.place(&key.0, key.1, at);
                Ok(())
            }
            // Known to the metadata a moment ago: deleted, or just being made.
            (ResponseError::UnknownTopicOrPartition, _) => {
                self.cluster.fresh_topic(&key.0).await?.partition(key.1)?;
                self.later(&key);
                Ok(())
            }
            _ if code.is_retriable() => {
                self.cluster.forget(&key.0);
                self.later(&key);
                Ok(())
            }
            _ => Err(error),
        }
    }
}

struct Unpack {
    /// Records before this are not wanted (a batch is given whole).
    from: i64,
    check_crcs: bool,
}

/// Appends the records of all whole batches; gives the offset that follows them (or `from`). An error says at which offset, and why.
fn unpack(
    bytes: &Bytes,
    limits: Unpack,
    mut aborted: Vec<AbortedTransaction>,
    out: &mut Vec<Record>,
) -> Result<i64, (i64, String)> {
    let mut rest = bytes.clone();
    let mut next = limits.from;
    // Transactions under way here that end in an abort; the list names where each begins.
    aborted.sort_by_key(|a| std::cmp::Reverse(a.first_offset));
    let mut aborting: HashSet<i64> = HashSet::new();
    while !rest.is_empty() {
        // The answer's end may cut a batch.
        if rest.len() > 16 && rest[16] != 2 {
            return Err((next, format!("its format is {}, only 2 is known", rest[16] as i8)));
        }
        if rest.len() < batch::HEADER_BYTES {
            break;
        }
        let header = batch::Batch::parse(&rest).map_err(|e| (next, e.to_string()))?;
        if header.size_bytes > rest.len() {
            break;
        }
        let whole = rest.split_to(header.size_bytes);
        if limits.check_crcs {
            batch::check_stored(&whole).map_err(|e| (header.base_offset, e.to_string()))?;
        }
        while aborted.last().is_some_and(|a| a.first_offset <= header.last_offset()) {
            aborting.extend(aborted.pop().map(|a| a.producer_id.0));
        }
        let payload = whole.slice(batch::HEADER_BYTES..);
        if header.is_control() {
            aborting.remove(&header.producer_id);
        } else if !(header.is_transactional() && aborting.contains(&header.producer_id)) {
            let payload = match header.compression() {
                0 => payload,
                codec => codec::unpack(codec, &payload, UNPACKED_BATCH_BYTES_MAX)
                    .map(Bytes::from)
                    .ok_or_else(|| (header.base_offset, format!("its records (codec {codec}) cannot be unpacked")))?,
            };
            let before = out.len();
            for record in record::records(&payload, header.record_count) {
                let record = record.map_err(|e| {
                    out.truncate(before);
                    (header.base_offset, e.to_string())
                })?;
                let offset = record.offset(&header);
                if offset < limits.from {
                    continue;
                }
                let slice = |part: &[u8]| payload.slice_ref(part);
                out.push(Record {
                    offset,
                    timestamp_ms: record.timestamp(&header),
                    key: record.key.map(slice),
                    value: record.value.map(slice),
                    headers: record.headers().map(|(k, v)| (slice(k), v.map(slice))).collect(),
                });
            }
        }
        next = next.max(header.next_offset());
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_storage::record::BatchBuilder;

    fn batch(base: i64, values: &[&str], codec: u8) -> Vec<u8> {
        let mut builder = BatchBuilder::new().base_offset(base);
        for (i, value) in values.iter().enumerate() {
            builder.push(1_000 + i as i64, Some(b"k"), Some(value.as_bytes()), &[("h", None)]);
        }
        let packed = codec::pack(codec, builder.payload());
        builder.build_with(codec, &packed)
    }

    fn read(bytes: &[u8], from: i64) -> (Result<i64, (i64, String)>, Vec<i64>) {
        let mut out = Vec::new();
        let limits = Unpack { from, check_crcs: true };
        let next = unpack(&Bytes::copy_from_slice(bytes), limits, Vec::new(), &mut out);
        (next, out.iter().map(|r| r.offset).collect())
    }

    #[test]
    fn records_come_from_the_offset_on_and_a_batch_cut_at_the_end_is_left_for_the_next_answer() {
        for codec in 0..=4 {
            let whole = [batch(10, &["a", "b", "c"], codec), batch(13, &["d", "e"], codec)].concat();
            assert_eq!(read(&whole, 11), (Ok(15), vec![11, 12, 13, 14]), "codec {codec}");
            assert_eq!(read(&whole, 15), (Ok(15), vec![]));
            for cut in [whole.len() - 1, whole.len() - 40] {
                assert_eq!(read(&whole[..cut], 10), (Ok(13), vec![10, 11, 12]), "codec {codec}");
            }
        }
        assert_eq!(read(&[], 7), (Ok(7), vec![]));
    }

    #[test]
    fn what_is_damaged_is_an_error_at_its_offset_behind_what_is_whole() {
        let first = batch(10, &["a", "b"], 0);
        for codec in 0..=4 {
            let second = batch(12, &["c", "d", "e"], codec);
            for at in 21..second.len() {
                let mut bytes = [&first[..], &second].concat();
                bytes[first.len() + at] ^= 0x10;
                let (next, records) = read(&bytes, 10);
                assert_eq!((next.map_err(|e| e.0), records), (Err(12), vec![10, 11]), "codec {codec} at {at}");
            }
        }
        let mut old = batch(0, &["a"], 0);
        old[16] = 1;
        assert!(read(&old, 0).0.is_err());
    }

    #[test]
    fn hostile_batches_never_panic() {
        let good = [batch(10, &["a", "b", "c"], 0), batch(13, &["d", "e"], 3)].concat();
        for at in 0..good.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                for check_crcs in [true, false] {
                    let limits = Unpack { from: 0, check_crcs };
                    let _ = unpack(&Bytes::from(bytes.clone()), limits, Vec::new(), &mut Vec::new());
                }
            }
        }
    }

    #[test]
    fn aborted_transactions_are_left_out() {
        let of = |base: i64, id: i64, value: &[u8]| {
            let batch = BatchBuilder::new().base_offset(base).producer(id, 0, 0).transactional();
            batch.record(1, None, Some(value), &[]).build()
        };
        // Control batches: version i16, type i16 (0 abort, 1 commit).
        let marker = |base: i64, id: i64, kind: u8| {
            let batch = BatchBuilder::new().base_offset(base).producer(id, 0, -1).transactional().control();
            batch.record(1, Some(&[0, 0, 0, kind]), Some(b""), &[]).build()
        };
        let log = [
            of(0, 7, b"aborted"),
            of(1, 8, b"kept"),
            marker(2, 7, 0),
            of(3, 7, b"kept"),
            marker(4, 8, 1),
            marker(5, 7, 1),
        ];
        let aborted = vec![AbortedTransaction::default().with_producer_id(7.into()).with_first_offset(0)];
        let mut out = Vec::new();
        let limits = Unpack { from: 0, check_crcs: true };
        let next = unpack(&Bytes::from(log.concat()), limits, aborted, &mut out);
        assert_eq!(next, Ok(6));
        assert_eq!(out.iter().map(|r| r.offset).collect::<Vec<_>>(), [1, 3]);
    }
}
