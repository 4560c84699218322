//! Fetch (key 1).
//!
//! Served: v4–18. v5+ tell the log start, v7+ have sessions (KIP-227), v9+ the leader epoch the consumer goes by, v11+ its rack, v12+ the epoch of the last batch it has
//! (KIP-595) and tagged fields, v13+ name topics by id.
//!
//! Records go out as they lie in the log: slices of the map, never copied. A fetch that finds less than min.bytes waits for its partitions to move or for
//! its time to be up. One bad partition fails alone, and at once.

use super::{
    Outcome, Request,
    errors::{self, ResponseError},
};
use crate::{
    broker::{
        Broker,
        latency::GroupStage,
        opening::Opening,
        partitions::Table,
        sessions::{FetchSet, Session, SessionError, TooManyPartitions, TopicKey, Wanted},
    },
    partition::{Partition, PartitionError, Query, waiters::ReadyList},
    wire::{
        Reply,
        fetch_response::{FetchResponse, FetchedPartition, FetchedTopic},
        header::RequestHeader,
    },
};
use kafka_protocol::messages::{FetchRequest, fetch_request::FetchPartition};
use millstream_storage::{self as storage, PartitionId, Slice};
use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use uuid::Uuid;

/// First version with sessions.
const SESSIONS: i16 = 7;
/// First version that names topics by id.
const TOPIC_IDS: i16 = 13;
/// First version whose clients can read zstd (KIP-110). As in Kafka only those topics are kept from older ones that are stored with it whatever the producer chose.
const ZSTD: i16 = 10;
/// The codec's number in a batch's attributes.
const CODEC_ZSTD: u8 = 4;
/// Session epoch of a request that wants no session, or ends one.
const FINAL_EPOCH: i32 = -1;

pub(super) async fn handle(request: Request<'_>, message: FetchRequest) -> Outcome {
    let broker = request.broker.clone();
    let header = request.header;
    let (who, full) = match whose(&broker, &header, &message) {
        Ok(found) => found,
        Err(error) => return Outcome::Reply(refused(&header, error)),
    };
    let bytes_max = usize::try_from(message.max_bytes).unwrap_or(0).min(broker.settings().fetch_max_bytes);
    let ready = who.with(|set| set.ready().clone());
    let mut fetch = Fetch {
        bytes_min: usize::try_from(message.min_bytes).unwrap_or(0).min(bytes_max),
        bytes_max,
        read_committed: message.isolation_level == 1,
        deadline: Instant::now() + Duration::from_millis(message.max_wait_ms.max(0) as u64),
        peer: request.connection.peer.ip(),
        waited: Duration::ZERO,
        found: BTreeMap::new(),
        bytes: 0,
        at_once: message.max_wait_ms <= 0,
        broker,
        header,
        who,
        ready,
        full,
    };
    let cold = fetch.look();
    if cold.is_empty() && fetch.is_done() && !fetch.has_cold_slices() {
        return Outcome::Reply(fetch.reply());
    }
    Outcome::Later(Box::pin(fetch.run(cold)))
}

/// The set a request reads, brought up to date, and whether the response names every partition of it.
fn whose(broker: &Arc<Broker>, header: &RequestHeader, message: &FetchRequest) -> Result<(Who, bool), ResponseError> {
    let table = broker.partitions.table();
    let (id, epoch) = match header.api_version {
        ..SESSIONS => (0, FINAL_EPOCH),
        _ => (message.session_id, message.session_epoch),
    };
    let now_ms = broker.env.now_ms();
    if epoch > 0 {
        let session = broker.sessions.resume(id, epoch, now_ms).map_err(|e| match e {
            SessionError::NotFound => ResponseError::FetchSessionIdNotFound,
            SessionError::InvalidEpoch => ResponseError::InvalidFetchSessionEpoch,
        })?;
        let put = {
            let set = &mut session.lock().set;
            for topic in &message.forgotten_topics_data {
                for index in &topic.partitions {
                    set.forget(key(&table, header, &topic.topic, topic.topic_id), *index);
                }
            }
            each(&table, header, message, set)
        };
        if put.is_err() {
            // The consumer begins anew, with a session or without.
            broker.sessions.remove(id);
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        if session.lock().set.is_empty() {
            // As in Kafka: a session of nothing ends.
            broker.sessions.remove(id);
            return Ok((Who::Alone(Box::new(FetchSet::without_session())), true));
        }
        return Ok((Who::Session(session), false));
    }
    if epoch < FINAL_EPOCH {
        return Err(ResponseError::InvalidFetchSessionEpoch);
    }
    if id != 0 {
        broker.sessions.remove(id);
    }
    let named = message.topics.iter().map(|t| t.partitions.len()).sum();
    if epoch == 0 && named > 0 {
        let fill = |set: &mut FetchSet| each(&table, header, message, set);
        let created = broker.sessions.create(now_ms, named, || broker.env.random_u64(), fill);
        if let Some(session) = created {
            return Ok((Who::Session(session), true));
        }
    }
    let mut set = FetchSet::without_session();
    each(&table, header, message, &mut set).map_err(|TooManyPartitions| ResponseError::InvalidRequest)?;
    Ok((Who::Alone(Box::new(set)), true))
}

/// Puts every partition that a request names into a set.
fn each(
    table: &Table,
    header: &RequestHeader,
    message: &FetchRequest,
    set: &mut FetchSet,
) -> Result<(), TooManyPartitions> {
    for topic in &message.topics {
        let key = key(table, header, &topic.topic, topic.topic_id);
        for p in &topic.partitions {
            set.put(table, key.clone(), p.partition, wanted(p))?;
        }
    }
    Ok(())
}

fn key(table: &Table, header: &RequestHeader, name: &str, id: Uuid) -> TopicKey {
    if header.api_version >= TOPIC_IDS {
        return TopicKey::Id(id);
    }
    match table.by_name(name) {
        Some(topic) => TopicKey::Name(topic.state.name.clone()),
        None => TopicKey::Name(name.into()),
    }
}

fn wanted(p: &FetchPartition) -> Wanted {
    Wanted {
        offset: p.fetch_offset,
        bytes_max: usize::try_from(p.partition_max_bytes).unwrap_or(0),
        current_leader_epoch: p.current_leader_epoch,
        last_fetched_epoch: p.last_fetched_epoch,
    }
}

/// Who keeps the set.
enum Who {
    Session(Arc<Session>),
    Alone(Box<FetchSet>),
}

impl Who {
    fn with<T>(&self, f: impl FnOnce(&FetchSet) -> T) -> T {
        match self {
            Who::Session(session) => f(&session.lock().set),
            Who::Alone(set) => f(set),
        }
    }
    fn with_mut<T>(&mut self, f: impl FnOnce(&mut FetchSet) -> T) -> T {
        match self {
            Who::Session(session) => f(&mut session.lock().set),
            Who::Alone(set) => f(set),
        }
    }
}

/// One fetch under way.
struct Fetch {
    broker: Arc<Broker>,
    header: RequestHeader,
    who: Who,
    ready: Arc<ReadyList>,
    /// The response names every partition, not only those that changed.
    full: bool,
    bytes_min: usize,
    bytes_max: usize,
    read_committed: bool,
    deadline: Instant,
    /// Where it comes from.
    peer: IpAddr,
    /// How long it waited for partitions to move.
    waited: Duration,
    /// What was read, by slot.
    found: BTreeMap<u32, Found>,
    /// Bytes of records in `found`.
    bytes: usize,
    /// The reply waits for nothing more: an error, or no time given.
    at_once: bool,
}

struct Found {
    topic: TopicKey,
    name: Option<Arc<str>>,
    id: Uuid,
    partition: FetchedPartition,
    /// What `partition.records` holds, until it is known to be in memory.
    slices: Vec<Slice>,
    /// Offsets of the records that are given, those wanted: the first, and behind the last.
    given: (i64, i64),
    /// There may be more than was given: the next poll looks again.
    more: bool,
}

impl Fetch {
    /// Looks at everything that is ready. Gives the partitions that have to be opened first (they are ready again).
    fn look(&mut self) -> Vec<Arc<Partition>> {
        let table = self.broker.partitions.snapshot();
        let (bytes_min, bytes_max, read_committed) = (self.bytes_min, self.bytes_max, self.read_committed);
        let (found, bytes, at_once) = (&mut self.found, &mut self.bytes, &mut self.at_once);
        let ready = self.ready.len();
        let no_zstd = self.header.api_version < ZSTD;
        self.who.with_mut(|set| {
            let mut cold = Vec::new();
            // Bounded by what was ready at first: a busy partition must not keep us here.
            for _ in 0..ready {
                let Some((slot, entry)) = set.next_ready(&table) else { break };
                if let Some(before) = found.remove(&slot) {
                    *bytes -= before.partition.records_bytes();
                }
                let read = match &entry.partition {
                    Some(p) if no_zstd && p.topic().settings.load().compression == Some(CODEC_ZSTD) => {
                        Err(PartitionError::UnsupportedCompression)
                    }
                    Some(partition) => {
                        let query = Query {
                            offset: entry.wanted.offset,
                            bytes_max: entry.wanted.bytes_max.min(bytes_max - (*bytes).min(bytes_max)),
                            at_least_one: *bytes == 0,
                            current_leader_epoch: entry.wanted.current_leader_epoch,
                            last_fetched_epoch: entry.wanted.last_fetched_epoch,
                        };
                        partition.read(&query)
                    }
                    None => Err(PartitionError::Deleted),
                };
                let topic = entry.partition.as_ref().map(|p| p.topic());
                let mut answer = Found {
                    topic: entry.topic.clone(),
                    name: topic.map(|t| t.name.clone()),
                    id: topic.map_or(Uuid::nil(), |t| t.id),
                    partition: FetchedPartition::error(entry.index, 0),
                    slices: Vec::new(),
                    given: (entry.wanted.offset, entry.wanted.offset),
                    more: false,
                };
                match read {
                    Ok(read) => {
                        let p = &mut answer.partition;
                        p.high_watermark = read.offsets.high_watermark;
                        p.last_stable_offset = read.offsets.last_stable;
                        p.log_start_offset = read.offsets.log_start;
                        p.diverging_epoch = read.diverging;
                        p.aborted_transactions = read_committed.then(Vec::new);
                        *at_once |= read.diverging.is_some();
                        answer.more = entry.wanted.offset < read.offsets.high_watermark;
                        let mut next = read.slice;
                        while let Some(slice) = next.take() {
                            *bytes += slice.bytes.len();
                            p.records.push(slice.bytes.clone());
                            answer.given.1 = slice.next_offset;
                            // A slice ends with its segment: where that is not enough, the next segment may go on.
                            if *bytes < bytes_min
                                && !slice.cold
                                && let Some(partition) = &entry.partition
                            {
                                let query = Query {
                                    offset: slice.next_offset,
                                    bytes_max: entry.wanted.bytes_max.saturating_sub(p.records_bytes()),
                                    at_least_one: false,
                                    current_leader_epoch: -1,
                                    last_fetched_epoch: -1,
                                };
                                // Its ends are the later ones: no record lies behind the watermark it comes with.
                                next = partition.read(&query).ok().and_then(|read| {
                                    p.high_watermark = read.offsets.high_watermark;
                                    p.last_stable_offset = read.offsets.last_stable;
                                    read.slice
                                });
                            }
                            answer.slices.push(slice);
                        }
                    }
                    Err(PartitionError::NotOpen) => {
                        entry.make_ready();
                        cold.extend(entry.partition.clone());
                        continue;
                    }
                    Err(e) => {
                        answer.partition.error_code = match (&e, &entry.topic) {
                            (PartitionError::Deleted, TopicKey::Id(id)) if table.by_id(*id).is_none() => {
                                ResponseError::UnknownTopicId.code()
                            }
                            _ => errors::partition(&e).code(),
                        };
                        if let PartitionError::NotLeader { leader, epoch } = e {
                            answer.partition.current_leader = Some((leader, epoch));
                        }
                        answer.more = true;
                        *at_once = true;
                    }
                }
                found.insert(slot, answer);
            }
            cold
        })
    }

    fn is_done(&self) -> bool {
        self.at_once || self.bytes >= self.bytes_min || self.who.with(FetchSet::is_empty)
    }

    fn has_cold_slices(&self) -> bool {
        self.found.values().any(|f| f.slices.iter().any(|s| s.cold))
    }

    /// Opens what is cold, waits for what moves, reads slices into memory, answers.
    async fn run(mut self, mut cold: Vec<Arc<Partition>>) -> Reply {
        loop {
            if !cold.is_empty() {
                cold.iter().for_each(Partition::begin_opening);
                let broker = self.broker.clone();
                // Nothing of the request is held any more.
                let mut opening = Opening::new(&broker.opening_bytes, 0);
                let mut failed = HashMap::new();
                for partition in &cold {
                    if let Err(e) = opening.wait(partition.open()).await {
                        failed.insert(partition.id(), errors::partition(&e).code());
                    }
                }
                if !failed.is_empty() {
                    self.not_opened(&failed);
                }
            } else if self.is_done() {
                break;
            } else {
                // Registers first and looks after, so that nothing that moves in between is missed.
                self.who.with_mut(FetchSet::watch);
                let began = Instant::now();
                let moved = tokio::select! {
                    biased;
                    () = self.ready.ready() => true,
                    () = tokio::time::sleep_until(self.deadline) => false,
                    () = self.broker.draining() => false,
                };
                self.waited += began.elapsed();
                if !moved {
                    break;
                }
            }
            cold = self.look();
        }
        // Ends: each turn makes slices warm or has one more batch quarantined.
        while self.has_cold_slices() {
            self.populate().await;
        }
        self.reply()
    }

    /// Logs that could not be opened, or not in time: their partitions answer so, and are looked at again by the next poll.
    fn not_opened(&mut self, failed: &HashMap<PartitionId, i16>) {
        let table = self.broker.partitions.snapshot();
        let (ready, found) = (self.ready.len(), &mut self.found);
        self.who.with_mut(|set| {
            for _ in 0..ready {
                let Some((slot, entry)) = set.next_ready(&table) else { break };
                let found_here = entry.partition.as_ref().and_then(|p| Some((p, *failed.get(&p.id())?)));
                let Some((partition, code)) = found_here else {
                    entry.make_ready();
                    continue;
                };
                let topic = partition.topic();
                let answer = Found {
                    topic: entry.topic.clone(),
                    name: Some(topic.name.clone()),
                    id: topic.id,
                    partition: FetchedPartition::error(entry.index, code),
                    slices: Vec::new(),
                    given: (0, 0),
                    more: true,
                };
                found.insert(slot, answer);
            }
        });
        self.at_once = true;
    }

    /// Brings slices that may be off memory into it, where blocking is allowed.
    async fn populate(&mut self) {
        let slices = self.found.iter().map(|(slot, f)| (*slot, f.slices.clone()));
        let slices: Vec<_> = slices.filter(|(_, slices)| slices.iter().any(|s| s.cold)).collect();
        let populate = |slices: Vec<Slice>| slices.iter().try_for_each(Slice::populate);
        let populated = self
            .broker
            .env
            .blocking(move || slices.into_iter().map(|(slot, slices)| (slot, populate(slices))).collect::<Vec<_>>());
        let mut again = false;
        for (slot, populated) in populated.await {
            let Some(found) = self.found.get_mut(&slot) else { continue };
            let error = match populated {
                Ok(()) => {
                    found.slices.clear();
                    continue;
                }
                Err(error) => error,
            };
            let index = found.partition.partition_index;
            tracing::error!(topic = ?found.name, partition = index, %error, "read failed");
            self.bytes -= found.partition.records_bytes();
            found.slices.clear();
            found.partition = FetchedPartition::error(index, errors::storage(&error).code());
            if matches!(error, storage::Error::Corrupt { .. }) {
                // Known as damaged from now on: the same read gives what lies before it, or says so.
                self.who.with_mut(|set| set.entry(slot).inspect(|entry| entry.make_ready()).is_some());
                again = true;
            }
        }
        if again {
            self.look();
        }
    }

    fn reply(mut self) -> Reply {
        let (full, found) = (self.full, std::mem::take(&mut self.found));
        let given = Given { broker: &self.broker, client_id: self.header.client_id.as_deref(), peer: self.peer };
        let mut topics: Vec<FetchedTopic> = Vec::new();
        let mut last = None;
        self.who.with_mut(|set| {
            for (slot, f) in found {
                let told = (f.partition.high_watermark, f.partition.log_start_offset);
                let failed = f.partition.error_code != 0;
                let Some(entry) = set.entry(slot) else { continue };
                if f.more {
                    entry.make_ready();
                }
                if let Some(partition) = &entry.partition {
                    given.note(partition, f.partition.records_bytes(), f.given);
                }
                let changed = entry.told != Some(told)
                    || failed
                    || !f.partition.records.is_empty()
                    || f.partition.diverging_epoch.is_some();
                entry.told = (!failed).then_some(told);
                if !full && !changed {
                    continue;
                }
                if last.as_ref() != Some(&f.topic) {
                    let name = match (&f.topic, f.name) {
                        (TopicKey::Name(name), _) => name.clone(),
                        (TopicKey::Id(_), name) => name.unwrap_or_default(),
                    };
                    let id = if let TopicKey::Id(id) = f.topic { id } else { f.id };
                    topics.push(FetchedTopic { name, id, partitions: Vec::new() });
                    last = Some(f.topic);
                }
                if let Some(topic) = topics.last_mut() {
                    topic.partitions.push(f.partition);
                }
            }
        });
        let session_id = if let Who::Session(session) = &self.who { session.id } else { 0 };
        let mut reply = FetchResponse { session_id, topics, ..FetchResponse::default() }.gather(&self.header);
        reply.waited = Some(self.waited);
        reply
    }
}

/// Counts what is given to a client.
struct Given<'a> {
    broker: &'a Broker,
    client_id: Option<&'a str>,
    peer: IpAddr,
}

impl Given<'_> {
    fn note(&self, partition: &Partition, bytes: usize, (from, to): (i64, i64)) {
        let latency = &self.broker.latency;
        if bytes == 0 || to <= from || !latency.is_on() {
            return;
        }
        partition.note_fetched(bytes as u64, (to - from) as u64);
        let topic = partition.topic();
        let client_id = self.client_id.unwrap_or_default();
        let Some(group) = self.broker.readers.group_of(client_id, self.peer, &topic.name, partition.index()) else {
            return latency.not_attributed();
        };
        if let Some(appended_ms) = partition.appended_ms(from) {
            let now_ms = self.broker.env.now_ms();
            let took = Duration::from_millis(u64::try_from(now_ms - appended_ms).unwrap_or(0));
            latency.group(&group, GroupStage::Fetch, took, now_ms);
        }
    }
}

/// The whole request fails.
fn refused(header: &RequestHeader, error: ResponseError) -> Reply {
    FetchResponse { error_code: error.code(), ..FetchResponse::default() }.gather(header)
}
