//! How far consumers are behind: groups with what they have committed, against the ends of their partitions.
//!
//! What is committed is read first (from the coordinators), then the ends: so a lag is never too small by records committed meanwhile, and never negative. Lag in seconds is the age of
//! the first record at or after the committed offset. Coordinators and logs that do not answer by one deadline are named as missing, never guessed.
//!
//! [`measure`], one committed offset against its partition; [`rates`], how a lag develops; [`sampler`], the task that keeps it over time for groups in use; [`explain`], what goes on in a
//! group, in a sentence; [`reset`], other offsets for a group.

mod explain;
mod measure;
mod rates;
mod reset;
mod sampler;

use super::{Broker, groups::OFFSETS_TOPIC};
use crate::{
    coordinator::group::{
        CommittedAt, Description, Event, Fetch, GroupError, GroupOverview, Overview, OverviewPage, Reply, State,
        consumer,
    },
    limits::{
        LAG_IDLE_MS, LAG_LIST_TIMES_MS_MAX, LAG_OFFSETS_MAX, LAG_OPEN_MAX, LAG_PAGE_OFFSETS_MAX, LAG_PARTITIONS_MAX,
        LAG_TIMES_AT_ONCE, LAG_TIMES_MAX, LAG_WAIT_MS_MAX,
    },
    partition::Partition,
};
use arc_swap::ArcSwap;
pub use explain::explain;
use futures_util::future::join_all;
use measure::Wanted;
pub use measure::{Basis, PartitionLag, Unknown};
pub use rates::{Oldest, Point, Rates, Series};
pub use reset::{Reset, ResetDone, ResetError, ResetPartition, ResetTo};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

/// What is kept of the lag of groups between requests.
#[derive(Debug)]
pub struct Lag {
    /// Of groups in use, by name; written by the sampler alone.
    series: Mutex<HashMap<Arc<str>, Series>>,
    summaries: ArcSwap<Vec<Summary>>,
    /// Groups at the last sample that have no summary.
    others: AtomicUsize,
    /// Jobs that may read timestamps now.
    times: Semaphore,
}

/// The last sample of one group.
#[derive(Clone, Debug)]
pub struct Summary {
    pub group: Arc<str>,
    /// Over all partitions with a commit.
    pub lag_records: i64,
    /// Of these the oldest: [`Oldest::age_s`] gives the lag in seconds.
    pub oldest: Oldest,
    /// 0 for a group not in use; `None` = not known: it has fewer than two points.
    pub rates: Option<Rates>,
}

impl Lag {
    pub(super) fn new() -> Lag {
        Lag {
            series: Mutex::default(),
            summaries: ArcSwap::default(),
            others: AtomicUsize::new(0),
            times: Semaphore::new(LAG_TIMES_AT_ONCE),
        }
    }

    /// The last sample of each group, by name, 5 s old at most; at most [`crate::limits::LAG_GROUPS_MAX`] groups, those in use first. Cheap; asks nobody.
    pub fn summaries(&self) -> Arc<Vec<Summary>> {
        self.summaries.load_full()
    }

    /// How many groups there were at the last sample beside those of [`Lag::summaries`]. Cheap; asks nobody.
    pub fn others(&self) -> usize {
        self.others.load(Ordering::Relaxed)
    }

    fn publish(&self, summaries: Vec<Summary>, others: usize) {
        self.others.store(others, Ordering::Relaxed);
        if !(summaries.is_empty() && self.summaries.load().is_empty()) {
            self.summaries.store(Arc::new(summaries));
        }
    }

    /// Lag in records over time of a group in use, oldest first; at most [`crate::limits::LAG_POINTS_MAX`] points. Cheap; asks nobody.
    pub fn records_over_time(&self, group: &str) -> Vec<i64> {
        self.lock().get(group).map_or_else(Vec::new, |series| series.points().map(|point| point.lag_records).collect())
    }

    /// Lag over time of a group in use.
    fn series_of(&self, group: &str) -> Option<Series> {
        self.lock().get(group).cloned()
    }

    /// No lock is taken and nothing awaited under it.
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Series>> {
        self.series.lock().unwrap_or_else(|p| p.into_inner())
    }
}

/// Which groups are wanted.
#[derive(Clone, Debug)]
pub struct Page {
    /// Those behind this name.
    pub after: Option<Arc<str>>,
    /// Those whose name begins so.
    pub prefix: Arc<str>,
    /// Those that have committed to the topic or subscribe to it.
    pub topic: Option<Arc<str>>,
    pub state: Option<State>,
    /// At most so many.
    pub limit: usize,
}

/// One group with its lag.
#[derive(Clone, Debug)]
pub struct GroupLag {
    pub group: Arc<str>,
    pub state: State,
    pub state_ms: Option<i64>,
    pub protocol_type: Arc<str>,
    pub members: usize,
    /// By topic and partition.
    pub partitions: Vec<PartitionLag>,
    pub lag_records: i64,
    pub oldest: Oldest,
    /// As of the last sample; 0 for a group not in use; `None` = not known: it has fewer than two points.
    pub rates: Option<Rates>,
    /// When all this was so, wall clock, ms.
    pub at_ms: i64,
}

impl GroupLag {
    /// Seconds until nothing is left, at the rates of the last minute; 0 at lag 0, `None` when the lag does not shrink, the rates are not known or nothing is committed.
    pub fn drain_s(&self) -> Option<f64> {
        let counts = self.partitions.iter().any(|at| at.lag_records().is_some());
        match self.rates {
            _ if !counts => None,
            _ if self.lag_records <= 0 => Some(0.0),
            rates => rates?.drain_s(self.lag_records),
        }
    }

    /// Takes over the rates of its points.
    fn rate(&mut self, series: Option<&Series>) {
        let last_commit_ms = self.last_commit_ms();
        self.rates = match series {
            Some(series) => series.rates(),
            // One that the sampler has not seen yet, or has no room for, is another matter than one that stands still.
            None if last_commit_ms.is_some_and(|ms| self.at_ms.saturating_sub(ms) < LAG_IDLE_MS) => None,
            None => Some(Rates::default()),
        };
    }

    /// Wall clock of the newest commit, ms.
    fn last_commit_ms(&self) -> Option<i64> {
        self.partitions.iter().filter_map(|at| at.committed.as_ref()).map(|at| at.commit_ms).max()
    }
}

/// Answer to [`Page`].
#[derive(Clone, Debug, Default)]
pub struct GroupPage {
    /// By name.
    pub groups: Vec<GroupLag>,
    /// The last name on it, where there are more.
    pub next: Option<Arc<str>>,
    /// What could not be asked in time, in words.
    pub missing: Vec<String>,
}

/// One group in full.
#[derive(Clone, Debug)]
pub struct GroupDetail {
    pub lag: GroupLag,
    pub description: Description,
    /// What each member owns, in the order of the description; `None` = it cannot be read.
    pub owned: Vec<Option<BTreeMap<String, Vec<i32>>>>,
    /// What each member subscribes to; `None` = it cannot be read.
    pub subscribed: Vec<Option<Vec<String>>>,
    /// Index of the member that owns a partition.
    pub owners: HashMap<(Arc<str>, i32), usize>,
    pub explanation: String,
    pub series: Series,
    pub missing: Vec<String>,
}

impl Broker {
    /// A page of groups, with lag. Waits for coordinators at most [`LAG_WAIT_MS_MAX`]; opens no log.
    pub async fn lag_page(self: &Arc<Self>, wanted: &Page) -> GroupPage {
        let deadline = Instant::now() + Duration::from_millis(LAG_WAIT_MS_MAX);
        let ask = Overview {
            after: wanted.after.clone(),
            prefix: wanted.prefix.clone(),
            topic: wanted.topic.clone(),
            state: wanted.state,
            groups_max: wanted.limit,
            offsets_max: LAG_PAGE_OFFSETS_MAX,
        };
        let asked = self.coordinators().into_iter().map(|partition| {
            let (broker, ask) = (self.clone(), ask.clone());
            async move { (partition.index(), broker.overview(&partition, ask, deadline).await) }
        });
        let (mut pages, mut missing) = (Vec::new(), Vec::new());
        for (index, answer) in join_all(asked).await {
            match answer {
                Ok(page) => pages.push(page),
                Err(e) => missing.push(format!("groups of {OFFSETS_TOPIC}-{index}: {e}")),
            }
        }
        let (groups, next) = merge(pages, wanted.limit);
        // After what is committed.
        let table = self.partitions.snapshot();
        let mut groups: Vec<GroupLag> = groups
            .into_iter()
            .map(|it| {
                let partitions = it.committed.into_iter().map(|at| measure::committed(&table, at)).collect();
                GroupLag {
                    group: it.group,
                    state: it.state,
                    state_ms: it.state_ms,
                    protocol_type: it.protocol_type,
                    members: it.members,
                    partitions,
                    lag_records: 0,
                    oldest: Oldest::Unknown,
                    rates: None,
                    at_ms: 0,
                }
            })
            .collect();
        let soon = deadline.min(Instant::now() + Duration::from_millis(LAG_LIST_TIMES_MS_MAX));
        self.read_times(groups.iter_mut().map(|group| &mut group.partitions), 0, soon).await;
        let now_ms = self.env.now_ms();
        {
            let series = self.lag.lock();
            for group in &mut groups {
                (group.lag_records, group.oldest) = total(&group.partitions);
                group.at_ms = now_ms;
                group.rate(series.get(&group.group));
            }
        }
        missing.extend(elsewhere(groups.iter().flat_map(|group| &group.partitions)));
        GroupPage { groups, next, missing }
    }

    /// One group in full. `GroupIdNotFound` for an unknown one, `Loading` where the coordinator does not answer within [`LAG_WAIT_MS_MAX`]; opens logs that its lag in seconds needs.
    pub async fn lag_of(self: &Arc<Self>, group: &str) -> Result<GroupDetail, GroupError> {
        let deadline = Instant::now() + Duration::from_millis(LAG_WAIT_MS_MAX);
        let name: Arc<str> = group.into();
        let committed = self.committed(&name, deadline).await?;
        let description = self.described(&name, deadline).await?;
        let table = self.partitions.snapshot();
        let mut missing = Vec::new();
        let mut by_place = BTreeMap::new();
        for at in committed {
            by_place.insert((at.topic.clone(), at.partition), measure::committed(&table, at));
        }
        let owned: Vec<_> = description.members.iter().map(|m| owned_by(&description, &m.assignment)).collect();
        let mut owners = HashMap::new();
        for (member, topics) in owned.iter().enumerate() {
            for (topic, partitions) in topics.iter().flatten() {
                let topic: Arc<str> = topic.as_str().into();
                for partition in partitions {
                    owners.entry((topic.clone(), *partition)).or_insert(member);
                    let place = (topic.clone(), *partition);
                    if by_place.len() < LAG_PARTITIONS_MAX || by_place.contains_key(&place) {
                        by_place.entry(place).or_insert_with(|| measure::uncommitted(&table, &topic, *partition));
                    }
                }
            }
        }
        let mut partitions: Vec<PartitionLag> = by_place.into_values().collect();
        if partitions.len() > LAG_PARTITIONS_MAX {
            missing.push(format!("{} more partitions", partitions.len() - LAG_PARTITIONS_MAX));
            partitions.truncate(LAG_PARTITIONS_MAX);
        }
        self.open_unknown(&mut partitions, deadline).await;
        self.read_times(std::iter::once(&mut partitions), LAG_OPEN_MAX, deadline).await;
        missing.extend(elsewhere(partitions.iter()));
        let series = self.lag.series_of(group);
        let (lag_records, oldest) = total(&partitions);
        let mut lag = GroupLag {
            group: description.group.clone(),
            state: description.state,
            state_ms: description.state_ms,
            protocol_type: description.protocol_type.clone(),
            members: description.members.len(),
            partitions,
            lag_records,
            oldest,
            rates: None,
            at_ms: self.env.now_ms(),
        };
        lag.rate(series.as_ref());
        let series = series.unwrap_or_default();
        let owner = |place: &(Arc<str>, i32)| {
            owners.get(place).and_then(|at: &usize| description.members.get(*at)).map(|m| &*m.member_id)
        };
        let explanation = explain(&lag, &owner);
        let subscribed = description.members.iter().map(|m| consumer::subscribed(&m.metadata)).collect();
        Ok(GroupDetail { lag, owned, subscribed, owners, explanation, series, missing, description })
    }

    /// Deletes a group without members and all it has committed. `GroupIdNotFound`, `NonEmptyGroup`, or what kept it.
    pub async fn delete_group(self: &Arc<Self>, group: &str) -> Result<(), GroupError> {
        let deadline = Instant::now() + Duration::from_millis(LAG_WAIT_MS_MAX);
        let event = Event::Delete { group: group.into() };
        match self.ask_within(group, event, deadline).await? {
            Reply::Delete(result) => result,
            other => Err(strange(&other)),
        }
    }

    /// Forgets what a group has committed to a topic: to these partitions of it, or to all. `GroupIdNotFound`, `GroupSubscribedToTopic`; gives the partitions that had something committed.
    pub async fn delete_offsets(
        self: &Arc<Self>,
        group: &str,
        topic: &str,
        partitions: Option<Vec<i32>>,
    ) -> Result<Vec<i32>, GroupError> {
        let deadline = Instant::now() + Duration::from_millis(LAG_WAIT_MS_MAX);
        let name: Arc<str> = group.into();
        self.described(&name, deadline).await?;
        let committed = self.committed(&name, deadline).await?;
        let wanted = |at: &CommittedAt| partitions.as_ref().is_none_or(|wanted| wanted.contains(&at.partition));
        let there: Vec<i32> =
            committed.iter().filter(|at| *at.topic == *topic && wanted(at)).map(|at| at.partition).collect();
        if there.is_empty() {
            return Ok(there);
        }
        let event = Event::DeleteOffsets { group: name.clone(), topics: vec![(topic.into(), there.clone())] };
        let results = match self.ask_within(group, event, deadline).await? {
            Reply::DeleteOffsets(results) => results?,
            other => return Err(strange(&other)),
        };
        for result in results.into_iter().flatten() {
            result?;
        }
        Ok(there)
    }

    /// Everything a group has committed; nothing for an unknown one.
    async fn committed(self: &Arc<Self>, group: &Arc<str>, deadline: Instant) -> Result<Vec<CommittedAt>, GroupError> {
        let event = Event::Fetch(Fetch { group: group.clone(), topics: None });
        match self.ask_within(group, event, deadline).await? {
            Reply::Fetch(result) => Ok(result?.into_iter().map(CommittedAt::from).collect()),
            other => Err(strange(&other)),
        }
    }

    async fn described(self: &Arc<Self>, group: &Arc<str>, deadline: Instant) -> Result<Description, GroupError> {
        match self.ask_within(group, Event::Describe { group: group.clone() }, deadline).await? {
            Reply::Describe(Ok(description)) if description.state == State::Dead => Err(GroupError::GroupIdNotFound),
            Reply::Describe(result) => result,
            other => Err(strange(&other)),
        }
    }

    /// Asks the coordinator of a group and waits for its answer until `deadline`; then `Loading`. Where there are no coordinators at all there is no group.
    async fn ask_within(self: &Arc<Self>, group: &str, event: Event, deadline: Instant) -> Result<Reply, GroupError> {
        if self.quorum.image().topic(OFFSETS_TOPIC).is_none() {
            return Err(GroupError::GroupIdNotFound);
        }
        let answer = async { Ok(self.ask_group(group, event).await?.answer().await?) };
        timeout_at(deadline, answer).await.unwrap_or(Err(GroupError::Loading))
    }

    async fn overview(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        ask: Overview,
        deadline: Instant,
    ) -> Result<OverviewPage, GroupError> {
        let answer = async { Ok(self.ask_shard(partition, Event::Overview(ask)).await?.answer().await?) };
        match timeout_at(deadline, answer).await.unwrap_or(Err(GroupError::Loading))? {
            Reply::Overview(page) => Ok(page),
            other => Err(strange(&other)),
        }
    }

    /// Opens logs whose ends are not known, and reads these.
    async fn open_unknown(&self, partitions: &mut [PartitionLag], deadline: Instant) {
        let is_closed = |lag: &&mut PartitionLag| lag.unknown == Some(Unknown::NotOpen);
        let opened = partitions.iter_mut().filter(is_closed).take(LAG_OPEN_MAX).map(|lag| async move {
            if let Some(log) = lag.log.clone() {
                log.begin_opening();
                if timeout_at(deadline, log.open()).await.is_ok() {
                    measure::refresh(lag);
                }
            }
        });
        join_all(opened).await;
    }

    /// Reads times that the append clock does not know, [`LAG_TIMES_MAX`] at most; opens at most `open_max` logs for that.
    async fn read_times(
        &self,
        groups: impl Iterator<Item = &mut Vec<PartitionLag>>,
        mut open_max: usize,
        deadline: Instant,
    ) {
        let may_read = |lag: &&mut PartitionLag| {
            if lag.unknown != Some(Unknown::NoTime) {
                return false;
            }
            let is_open = lag.log.as_ref().is_some_and(|log| log.is_open());
            if !is_open && open_max > 0 {
                open_max -= 1;
                return true;
            }
            is_open
        };
        let mut untimed: Vec<&mut PartitionLag> = groups.flatten().filter(may_read).take(LAG_TIMES_MAX).collect();
        let wanted = untimed.iter().enumerate().filter_map(|(key, lag)| {
            let (log, offset) = (lag.log.clone()?, lag.first_unread()?);
            Some(Wanted { key, log, offset, end: lag.ends?.high_watermark })
        });
        let wanted = wanted.collect();
        for (key, ms) in measure::times(&self.env, &self.lag.times, wanted, deadline).await {
            measure::read_time(untimed[key], ms);
        }
    }
}

/// Groups of all pages by name, `limit` at most, and the last name where there are more. A page that was cut says nothing of groups behind its last one.
fn merge(pages: Vec<OverviewPage>, limit: usize) -> (Vec<GroupOverview>, Option<Arc<str>>) {
    let cut = pages.iter().filter(|page| page.behind > 0).filter_map(|page| page.groups.last());
    let until = cut.map(|group| group.group.clone()).min();
    let mut groups: Vec<GroupOverview> = pages.into_iter().flat_map(|page| page.groups).collect();
    groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
    let all = groups.len();
    let mut offsets = 0;
    let mut kept = 0;
    for group in &groups {
        offsets += group.committed.len();
        let beyond = until.as_ref().is_some_and(|until| group.group > *until);
        if kept == limit || beyond || (offsets > LAG_OFFSETS_MAX && kept > 0) {
            break;
        }
        kept += 1;
    }
    groups.truncate(kept);
    let more = kept < all || until.is_some();
    let next = groups.last().map(|group| group.group.clone()).filter(|_| more);
    (groups, next)
}

/// Records behind over all partitions with a commit, and the oldest of them. Where some lag and no time of any of them is known, nothing is.
pub(super) fn total(partitions: &[PartitionLag]) -> (i64, Oldest) {
    let (mut records, mut oldest) = (0i64, Oldest::Unknown);
    let mut untimed = false;
    for lag in partitions {
        let Some(behind) = lag.lag_records() else { continue };
        records = records.saturating_add(behind);
        untimed |= behind > 0 && lag.oldest == Oldest::Unknown;
        oldest = match (oldest, lag.oldest) {
            (Oldest::Since(a), Oldest::Since(b)) => Oldest::Since(a.min(b)),
            (Oldest::Since(a), _) | (_, Oldest::Since(a)) => Oldest::Since(a),
            (Oldest::None, _) | (_, Oldest::None) => Oldest::None,
            _ => Oldest::Unknown,
        };
    }
    if untimed && oldest == Oldest::None {
        oldest = Oldest::Unknown;
    }
    (records, oldest)
}

/// What an assignment says, if it is one of consumers.
fn owned_by(description: &Description, assignment: &[u8]) -> Option<BTreeMap<String, Vec<i32>>> {
    (&*description.protocol_type == "consumer").then(|| consumer::assigned(assignment)).flatten()
}

/// Partitions led by others, which nobody here can ask yet: each broker once.
fn elsewhere<'a>(partitions: impl Iterator<Item = &'a PartitionLag>) -> Vec<String> {
    let mut brokers = BTreeMap::<i32, usize>::new();
    for lag in partitions {
        if let Some(Unknown::LedElsewhere(broker)) = lag.unknown {
            *brokers.entry(broker).or_default() += 1;
        }
    }
    brokers.into_iter().map(|(broker, count)| format!("{count} partitions led by broker {broker}")).collect()
}

/// A machine that answers another question than was asked has a fault.
fn strange(reply: &Reply) -> GroupError {
    GroupError::Unknown(format!("the coordinator answered another question: {reply:?}").chars().take(200).collect())
}

#[cfg(test)]
mod tests;
