//! A member of a consumer group (the classic protocol): joins, shares partitions out by range if it is the leader, reads its own, commits, leaves.
//!
//! One task beside it sends heartbeats, so that it stays a member while its owner works on what it was given; all else happens inside [`GroupConsumer::poll`]. A rebalance that the heartbeat hears of is joined at the
//! next poll, which also means: what earlier polls gave is done with, so its offsets are committed first.

use super::{
    Connection,
    admin::{self, Committer, text},
    cluster::{Backoff, Cluster},
    consumer::{Consumer, ConsumerOptions, Fetched},
    error::ClientError,
    membership::{self, Assignment},
    offsets::{self, Start, TopicPartition},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

/// How a member takes part.
#[derive(Debug, Clone)]
pub struct GroupOptions {
    /// The group.
    pub group: String,
    /// Topics it reads.
    pub topics: Vec<String>,
    /// A name that stays when the member is started again (static membership, KIP-345): then leaving does not rebalance.
    pub instance: Option<String>,
    /// Without a heartbeat for this long it is out (Kafka: `session.timeout.ms`).
    pub session_timeout: Duration,
    /// Time that members have to come to a rebalance (Kafka: `max.poll.interval.ms`).
    pub rebalance_timeout: Duration,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Between commits of what earlier polls gave; `None` = only by [`GroupConsumer::commit`].
    pub auto_commit: Option<Duration>,
    /// Where partitions begin for which the group has committed nothing.
    pub reset: Start,
    /// How it reads.
    pub consumer: ConsumerOptions,
}

impl GroupOptions {
    /// Kafka's defaults.
    pub fn new(group: &str, topics: Vec<String>) -> GroupOptions {
        GroupOptions {
            group: group.to_string(),
            topics,
            instance: None,
            session_timeout: Duration::from_secs(45),
            rebalance_timeout: Duration::from_secs(300),
            heartbeat: Duration::from_secs(3),
            auto_commit: Some(Duration::from_secs(5)),
            reset: Start::Latest,
            consumer: ConsumerOptions::default(),
        }
    }
}

/// How often the leader looks whether its topics have other partitions now.
const LOOK: Duration = Duration::from_secs(30);
/// The one way of sharing out that is offered.
const RANGE: &str = "range";

/// What the heartbeat found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Member,
    /// Others come or go: join again, with what it has still its own.
    Rebalancing,
    /// The group went on without it.
    Out,
    /// Another member took its place, under the same instance id.
    Fenced,
}

#[derive(Debug)]
struct Pulse {
    standing: Mutex<Standing>,
    changed: Notify,
}

impl Pulse {
    fn standing(&self) -> Standing {
        *self.standing.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn set(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = standing;
        self.changed.notify_one();
    }
}

/// Membership of one generation; its heartbeat ends with it.
#[derive(Debug)]
struct Joined {
    generation: i32,
    pulse: Arc<Pulse>,
    heart: JoinHandle<()>,
    /// Partitions of the topics as the leader shared them out; `None` = another member is the leader.
    counts: Option<BTreeMap<String, i32>>,
    looked: Instant,
}

impl Drop for Joined {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

/// A member. Dropped without [`GroupConsumer::close`] it stays a member until its session times out, and what was not committed is read again.
#[derive(Debug)]
pub struct GroupConsumer {
    cluster: Cluster,
    options: GroupOptions,
    consumer: Consumer,
    /// Empty until the coordinator gave it one.
    member: String,
    joined: Option<Joined>,
    /// Joined and not begun: it has an assignment, but not yet the offsets to begin at. Kept here so that a poll that is dropped meanwhile loses nothing.
    entering: Option<(Joined, Assignment)>,
    coordinator: Option<Connection>,
    /// Offsets behind what polls gave and that is not committed.
    given: BTreeMap<TopicPartition, i64>,
    committed_at: Instant,
    /// Counts assignments.
    generation: u64,
}

impl GroupConsumer {
    /// One that joins with its first poll.
    pub fn new(cluster: &Cluster, options: GroupOptions) -> GroupConsumer {
        let reading = ConsumerOptions { out_of_range: Some(options.reset), ..options.consumer.clone() };
        GroupConsumer {
            cluster: cluster.clone(),
            consumer: Consumer::new(cluster, reading),
            options,
            member: String::new(),
            joined: None,
            entering: None,
            coordinator: None,
            given: BTreeMap::new(),
            committed_at: Instant::now(),
            generation: 0,
        }
    }

    /// Partitions that are its own now, with the offset each goes on from.
    pub fn positions(&self) -> impl Iterator<Item = (&str, i32, i64)> {
        self.consumer.positions()
    }

    /// Goes up with every new assignment, from 0.
    pub fn assignments(&self) -> u64 {
        self.generation
    }

    /// Whether it is a member with an assignment.
    pub fn is_joined(&self) -> bool {
        self.joined.is_some()
    }

    /// The next of what arrives, waiting about `wait` for it; empty = nothing came (or a rebalance did). Joins the group when it is not in it. Calling it means that what it gave before is done
    /// with. Cancel-safe.
    ///
    /// # Errors
    /// What no further try mends: see [`Consumer::poll`]; INCONSISTENT_GROUP_PROTOCOL, FENCED_INSTANCE_ID, authorisation.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<Fetched>, ClientError> {
        let deadline = Instant::now() + wait;
        loop {
            match self.joined.as_ref().map(|j| j.pulse.standing()) {
                Some(Standing::Member) => self.look().await?,
                Some(Standing::Rebalancing) => {
                    // Still its own. What cannot be committed is read again by whoever has it next.
                    let _ = self.commit().await;
                    self.joined = None;
                }
                Some(Standing::Out) => self.out(),
                Some(Standing::Fenced) => return Err(self.fenced()),
                None => {}
            }
            if self.joined.is_none() {
                self.join().await?;
                if Instant::now() >= deadline {
                    return Ok(Vec::new());
                }
            }
            if self.options.auto_commit.is_some_and(|every| self.committed_at.elapsed() >= every) {
                let _ = self.commit().await;
                self.committed_at = Instant::now();
            }
            let Some(pulse) = self.joined.as_ref().map(|j| j.pulse.clone()) else { continue };
            let left = deadline.saturating_duration_since(Instant::now());
            let fetched = tokio::select! {
                biased;
                () = pulse.changed.notified() => continue,
                fetched = self.consumer.poll(left) => fetched?,
            };
            for part in &fetched {
                self.given.insert((part.topic.to_string(), part.partition), part.next_offset);
            }
            return Ok(fetched);
        }
    }

    /// Commits the offsets behind what polls gave so far.
    ///
    /// # Errors
    /// The coordinator's code; when it is no longer a member of that generation the next poll joins again.
    pub async fn commit(&mut self) -> Result<(), ClientError> {
        let offsets = self.given.clone();
        self.commit_offsets(&offsets).await?;
        self.given.retain(|key, offset| offsets.get(key) != Some(offset));
        Ok(())
    }

    /// Commits these offsets of partitions that are its own.
    pub async fn commit_offsets(&mut self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), ClientError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let Some(joined) = &self.joined else { return Err(ClientError::Ended) };
        let committer = Committer {
            member: Some((joined.generation, self.member.clone())),
            instance: self.options.instance.clone(),
        };
        let committed = admin::commit(&self.cluster, &self.options.group, &committer, offsets).await;
        if let Err(error) = &committed {
            match error.code() {
                Some(ResponseError::RebalanceInProgress) => joined.pulse.set(Standing::Rebalancing),
                Some(ResponseError::FencedInstanceId) => joined.pulse.set(Standing::Fenced),
                Some(ResponseError::IllegalGeneration | ResponseError::UnknownMemberId) => {
                    joined.pulse.set(Standing::Out)
                }
                _ => {}
            }
        }
        committed
    }

    /// Forgets records that polls gave beyond these offsets: they are not committed.
    pub fn give_back(&mut self, offsets: &BTreeMap<TopicPartition, i64>) {
        for (key, offset) in offsets {
            self.given.insert(key.clone(), *offset);
        }
    }

    /// Commits what polls gave and leaves the group (a static member stays).
    ///
    /// # Errors
    /// Why the offsets could not be committed, or the group not left.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let committed = if self.joined.is_some() { self.commit().await } else { Ok(()) };
        (self.joined, self.entering) = (None, None);
        let left = self.leave().await;
        committed.and(left)
    }

    async fn leave(&mut self) -> Result<(), ClientError> {
        if self.member.is_empty() || self.options.instance.is_some() {
            return Ok(());
        }
        let connection = self.cluster.coordinator(&self.options.group).await?;
        let request = LeaveGroupRequest::default().with_group_id(GroupId(text(&self.options.group)));
        let request = match connection.version::<LeaveGroupRequest>()? {
            ..=2 => request.with_member_id(text(&self.member)),
            _ => request.with_members(vec![MemberIdentity::default().with_member_id(text(&self.member))]),
        };
        let answer = connection.call(&request, self.cluster.timeout()).await?;
        match ResponseError::try_from_code(answer.error_code) {
            // It was out already.
            None | Some(ResponseError::UnknownMemberId) => Ok(()),
            Some(_) => {
                ClientError::check(answer.error_code, None, || format!("cannot leave group `{}`", self.options.group))
            }
        }
    }

    /// Says who is in its place. It does not join again by itself: the two would drive each other out for ever.
    fn fenced(&mut self) -> ClientError {
        // Its member id is kept: whoever polls again is told so again, by the coordinator.
        let member = std::mem::take(&mut self.member);
        self.out();
        self.member = member;
        let what = format!("out of group `{}`: another member has its instance id", self.options.group);
        ClientError::Kafka { what, code: ResponseError::FencedInstanceId, message: None }
    }

    /// The group went on without it: nothing is its own any more.
    fn out(&mut self) {
        (self.joined, self.entering) = (None, None);
        self.member.clear();
        self.given.clear();
        self.consumer.unassign_all();
    }

    /// The leader joins again when a topic has other partitions.
    async fn look(&mut self) -> Result<(), ClientError> {
        let Some(joined) = self.joined.as_mut().filter(|j| j.counts.is_some() && j.looked.elapsed() >= LOOK) else {
            return Ok(());
        };
        joined.looked = Instant::now();
        let (pulse, known) = (joined.pulse.clone(), joined.counts.clone());
        if let (Ok(now), Some(known)) = (self.counts(known.iter().flatten().map(|(topic, _)| topic)).await, known)
            && now != known
        {
            pulse.set(Standing::Rebalancing);
        }
        Ok(())
    }

    /// How many partitions topics have now; one that is not there has none.
    async fn counts(&self, topics: impl Iterator<Item = &String>) -> Result<BTreeMap<String, i32>, ClientError> {
        let mut out = BTreeMap::new();
        for topic in topics {
            let count = match self.cluster.fresh_topic(topic).await {
                Ok(facts) => facts.partitions.len() as i32,
                Err(ClientError::UnknownTopic(_)) => 0,
                Err(error) => return Err(error),
            };
            out.insert(topic.clone(), count);
        }
        Ok(out)
    }

    /// Joins until it has an assignment.
    async fn join(&mut self) -> Result<(), ClientError> {
        let mut backoff = Backoff::default();
        loop {
            match self.join_once().await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) => {
                    let again = match error.code() {
                        Some(ResponseError::UnknownMemberId) => {
                            self.member.clear();
                            true
                        }
                        Some(ResponseError::IllegalGeneration | ResponseError::RebalanceInProgress) => true,
                        _ => error.is_retriable(),
                    };
                    if !again {
                        return Err(error);
                    }
                    if matches!(error, ClientError::Closed { .. } | ClientError::Timeout { .. })
                        || matches!(error.code(), Some(ResponseError::NotCoordinator))
                    {
                        self.coordinator = None;
                    }
                    backoff.wait().await;
                }
            }
        }
    }

    /// One attempt; `false` = another one at once.
    async fn join_once(&mut self) -> Result<bool, ClientError> {
        match self.entering.as_ref().map(|(joined, _)| joined.pulse.standing()) {
            None => {}
            Some(Standing::Member) => return self.begin().await.map(|()| true),
            Some(Standing::Rebalancing) => self.entering = None,
            Some(Standing::Out) => self.out(),
            Some(Standing::Fenced) => return Err(self.fenced()),
        }
        let group = self.options.group.clone();
        let connection = match self.coordinator.as_ref().filter(|c| c.closed().is_none()) {
            Some(connection) => connection.clone(),
            None => {
                let connection = self.cluster.own_coordinator(&group).await?;
                self.coordinator = Some(connection.clone());
                connection
            }
        };
        let answer = self.ask_to_join(&connection).await?;
        if answer.error_code == ResponseError::MemberIdRequired.code() {
            self.member = answer.member_id.to_string();
            return Ok(false);
        }
        ClientError::check(answer.error_code, None, || format!("cannot join group `{group}`"))?;
        self.member = answer.member_id.to_string();
        let is_leader = answer.leader == answer.member_id && !answer.skip_assignment;
        let (assignments, counts) = if is_leader { self.share_out(&answer).await? } else { (BTreeMap::new(), None) };
        let of = |(member, given): (&String, &Assignment)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(membership::assignment(given).into())
        };
        let request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_generation_id(answer.generation_id)
            .with_member_id(text(&self.member))
            .with_group_instance_id(self.options.instance.as_deref().map(text))
            .with_assignments(assignments.iter().map(of).collect());
        // From version 5 on both must be said (KIP-559).
        let request = match connection.version::<SyncGroupRequest>()? {
            ..=4 => request,
            _ => request
                .with_protocol_type(Some(StrBytes::from_static_str("consumer")))
                .with_protocol_name(Some(answer.protocol_name.clone().unwrap_or_default())),
        };
        let timeout = self.options.rebalance_timeout + self.cluster.timeout();
        let synced = connection.call(&request, timeout).await?;
        ClientError::check(synced.error_code, None, || format!("cannot get an assignment of group `{group}`"))?;
        let assigned = membership::assigned(&synced.assignment).ok_or_else(|| ClientError::Unreadable {
            address: connection.address().to_string(),
            api: "SyncGroup".into(),
            why: "the assignment is not in the format of consumers".into(),
        })?;
        let pulse = Arc::new(Pulse { standing: Mutex::new(Standing::Member), changed: Notify::new() });
        let heart = Heart {
            cluster: self.cluster.clone(),
            connection: Some(connection),
            pulse: pulse.clone(),
            every: self.options.heartbeat,
            request: HeartbeatRequest::default()
                .with_group_id(GroupId(text(&group)))
                .with_generation_id(answer.generation_id)
                .with_member_id(text(&self.member))
                .with_group_instance_id(self.options.instance.as_deref().map(text)),
            group,
        };
        let heart = self.cluster.env().spawn("client heartbeat", heart.run());
        // From here on the heartbeat goes, also while the offsets are being looked up.
        let joined = Joined { generation: answer.generation_id, pulse, heart, counts, looked: Instant::now() };
        self.entering = Some((joined, assigned));
        self.begin().await.map(|()| true)
    }

    async fn ask_to_join(&self, connection: &Connection) -> Result<JoinGroupResponse, ClientError> {
        let options = &self.options;
        let ms = |d: Duration| d.as_millis().min(i32::MAX as u128) as i32;
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str(RANGE))
            .with_metadata(membership::subscription(&options.topics).into());
        let request = JoinGroupRequest::default()
            .with_group_id(GroupId(text(&options.group)))
            .with_session_timeout_ms(ms(options.session_timeout))
            .with_rebalance_timeout_ms(ms(options.rebalance_timeout))
            .with_member_id(text(&self.member))
            .with_group_instance_id(options.instance.as_deref().map(text))
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol]);
        connection.call(&request, options.rebalance_timeout + self.cluster.timeout()).await
    }

    /// What each member gets, and how many partitions that was made of.
    async fn share_out(
        &self,
        answer: &JoinGroupResponse,
    ) -> Result<(BTreeMap<String, Assignment>, Option<BTreeMap<String, i32>>), ClientError> {
        let mut members: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for member in &answer.members {
            let topics = membership::topics_of(&member.metadata).unwrap_or_default();
            members.insert(member.member_id.to_string(), topics.into_iter().collect());
        }
        let topics: BTreeSet<String> = members.values().flatten().cloned().collect();
        let counts = self.counts(topics.iter()).await?;
        Ok((membership::range(&members, &counts), Some(counts)))
    }

    /// Takes up the assignment where the group has committed, else where it is to begin; after an error it is joined anew.
    async fn begin(&mut self) -> Result<(), ClientError> {
        let Some((_, assigned)) = &self.entering else { return Ok(()) };
        let looked_up = self.starts(assigned).await;
        // No wait from here on: membership and positions change together, or not at all.
        let Some((joined, _)) = self.entering.take() else { return Ok(()) };
        let starts = looked_up?;
        self.given.clear();
        self.consumer.unassign_all();
        for ((topic, partition), offset) in starts {
            self.consumer.place(&topic, partition, offset);
        }
        self.joined = Some(joined);
        self.committed_at = Instant::now();
        self.generation += 1;
        Ok(())
    }

    /// Where to begin with each partition.
    async fn starts(&self, assigned: &Assignment) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let keys: Vec<TopicPartition> =
            assigned.iter().flat_map(|(t, ps)| ps.iter().map(|p| (t.clone(), *p))).collect();
        let mut starts = BTreeMap::new();
        if !keys.is_empty() {
            let committed = admin::committed(&self.cluster, &self.options.group).await?;
            let found = keys.iter().filter_map(|key| Some((key.clone(), committed.get(key)?.offset)));
            starts.extend(found);
            let missing: Vec<TopicPartition> = keys.iter().filter(|key| !starts.contains_key(*key)).cloned().collect();
            starts.extend(offsets::offsets(&self.cluster, &missing, self.options.reset).await?);
        }
        Ok(starts)
    }
}

/// The task that says that the member lives.
struct Heart {
    cluster: Cluster,
    group: String,
    connection: Option<Connection>,
    pulse: Arc<Pulse>,
    every: Duration,
    request: HeartbeatRequest,
}

impl Heart {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(self.every).await;
            match self.beat().await.map(ResponseError::try_from_code) {
                Ok(None) => {}
                Ok(Some(ResponseError::RebalanceInProgress)) => return self.pulse.set(Standing::Rebalancing),
                Ok(Some(ResponseError::FencedInstanceId)) => return self.pulse.set(Standing::Fenced),
                Ok(Some(code)) if !code.is_retriable() => return self.pulse.set(Standing::Out),
                // The coordinator moved, or is not there: looked for with the next beat.
                Ok(Some(_)) | Err(_) => self.connection = None,
            }
        }
    }

    async fn beat(&mut self) -> Result<i16, ClientError> {
        let connection = match self.connection.as_ref().filter(|c| c.closed().is_none()) {
            Some(connection) => connection.clone(),
            None => {
                let connection = self.cluster.own_coordinator(&self.group).await?;
                self.connection = Some(connection.clone());
                connection
            }
        };
        Ok(connection.call(&self.request, self.cluster.timeout()).await?.error_code)
    }
}
