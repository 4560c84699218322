//! Latency: histograms by API, by topic of its produce requests, by group of what it commits and fetches.
//!
//! Histograms ([`Recorder`], 11 KiB each) are made at the first sample, at most `millstream.histograms.max` of them; where no more may be made, samples go to those of "the others" of their
//! kind. Those of a topic go with the topic; those of a group go after an hour without a sample when room is wanted.
//!
//! The clock is tokio's, which is monotonic, but for what is measured from an append on: that is told by the append clocks of the partitions (wall clock, 1 ms; see
//! [`crate::partition::clock`] for older records).

use crate::{
    limits::HISTOGRAMS_OF_APIS,
    partition::{
        TopicState,
        histogram::{Budget, Recorder},
    },
};
use hdrhistogram::Histogram;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// How long a group's histograms are kept without a sample when others want their room, ms.
const GROUP_IDLE_MS: i64 = 3_600_000;
/// How often such groups are looked for at most, ms: while there is no room every sample of the others would.
const GROUP_SWEEP_MS: u64 = 60_000;
/// Topics with histograms below which those that are gone are not looked for.
const TOPICS_SWEPT_MIN: usize = 64;
/// API keys that have a place.
const API_KEYS: usize = HISTOGRAMS_OF_APIS / 2;

/// What a histogram is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Requests of an API, by key: from the last byte received to the last byte of the reply handed to the socket. Waits (flush, long poll, rebalance) are part of it.
    Api(i16),
    /// The same without the time that a long poll waited for records: Fetch.
    ApiWorked(i16),
    /// What APIs took that have no histogram of their own.
    OtherApis,
    /// Produce requests of a topic that succeeded; one sample a request and topic.
    Topic { name: Arc<str>, stage: Stage },
    /// The same of topics that have no histogram of their own.
    OtherTopics(Stage),
    /// What a group consumed.
    Group { name: Arc<str>, stage: GroupStage },
    /// The same of groups that have no histogram of their own.
    OtherGroups(GroupStage),
}

/// A stretch of a produce request's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// From the last byte received until the last of its batches was appended.
    Append,
    /// From there until what acks asks for was reached: watermark or disk. A request over several topics counts for each with its slowest.
    Settle,
    /// From there until the last byte of the reply was handed to the socket.
    Acknowledge,
    /// All three.
    Total,
}

/// A stretch of a record's way to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupStage {
    /// From the append of the last record below a committed offset to its commit; one sample for each partition whose offset moved forward.
    Commit,
    /// From the append of the oldest record of a fetch to its reply; one sample a partition and fetch, where client id and address belong to exactly one member that owns
    /// the partition.
    Fetch,
}

impl Stage {
    /// In the order of a request's way.
    pub const ALL: [Stage; 4] = [Stage::Append, Stage::Settle, Stage::Acknowledge, Stage::Total];

    /// One lower-case word, for labels and paths.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Append => "append",
            Stage::Settle => "settle",
            Stage::Acknowledge => "acknowledge",
            Stage::Total => "total",
        }
    }
}

impl GroupStage {
    /// In the order of a record's way.
    pub const ALL: [GroupStage; 2] = [GroupStage::Commit, GroupStage::Fetch];

    /// One lower-case word, for labels and paths.
    pub fn name(self) -> &'static str {
        match self {
            GroupStage::Commit => "commit",
            GroupStage::Fetch => "fetch",
        }
    }
}

/// A place for a histogram.
type Slot = OnceLock<Arc<Recorder>>;

/// Topics with a histogram of their own.
#[derive(Debug, Default)]
struct Topics {
    /// By name and id: one created anew under a name is another.
    by_name: BTreeMap<(Arc<str>, Uuid), Weak<TopicState>>,
    /// How many were left when those that are gone were taken out last.
    left: usize,
}

impl Topics {
    /// Adds a topic. Those that are gone go once there are twice as many as were left the last time: a topic costs its own insertion, however many there are.
    fn insert(&mut self, topic: &Arc<TopicState>) {
        let key = (topic.name.clone(), topic.id);
        if self.by_name.contains_key(&key) {
            return;
        }
        if self.by_name.len() >= (2 * self.left).max(TOPICS_SWEPT_MIN) {
            self.by_name.retain(|_, topic| topic.strong_count() > 0);
            self.left = self.by_name.len();
        }
        self.by_name.insert(key, Arc::downgrade(topic));
    }
}

/// Groups with a histogram of their own.
#[derive(Debug, Default)]
struct GroupsByName {
    by_name: BTreeMap<Arc<str>, GroupHistograms>,
    /// When those without samples were looked for last, wall clock, ms.
    swept_ms: Option<i64>,
}

/// All histograms of a broker.
#[derive(Debug)]
pub struct Latency {
    on: bool,
    budget: Arc<Budget>,
    apis: Vec<Slot>,
    worked: Vec<Slot>,
    other_apis: Slot,
    other_topics: [Slot; 4],
    other_groups: [Slot; 2],
    topics: Mutex<Topics>,
    groups: Mutex<GroupsByName>,
    unattributed: AtomicU64,
}

#[derive(Debug, Default)]
struct GroupHistograms {
    stages: [Option<Arc<Recorder>>; 2],
    used_ms: i64,
}

impl Latency {
    /// No histograms yet, and at most `max`; none ever where it is not `on`.
    pub fn new(on: bool, max: usize) -> Latency {
        let slots = || (0..API_KEYS).map(|_| Slot::new()).collect();
        Latency {
            on,
            budget: Budget::new(max),
            apis: slots(),
            worked: slots(),
            other_apis: Slot::new(),
            other_topics: Default::default(),
            other_groups: Default::default(),
            topics: Mutex::default(),
            groups: Mutex::default(),
            unattributed: AtomicU64::new(0),
        }
    }

    /// Whether anything is recorded (`millstream.figures`).
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// What has samples, sorted.
    pub fn subjects(&self) -> Vec<Subject> {
        let mut subjects = Vec::new();
        for (key, slot) in (0i16..).zip(&self.apis) {
            subjects.extend(self.own(slot, &self.other_apis).map(|_| Subject::Api(key)));
        }
        for (key, slot) in (0i16..).zip(&self.worked) {
            subjects.extend(self.own(slot, &self.other_apis).map(|_| Subject::ApiWorked(key)));
        }
        subjects.extend(self.other_apis.get().map(|_| Subject::OtherApis));
        for ((name, _), topic) in &lock(&self.topics).by_name {
            let Some(topic) = topic.upgrade() else { continue };
            for stage in Stage::ALL {
                let slot = &topic.produce_latency.stages[stage as usize];
                let own = self.own(slot, &self.other_topics[stage as usize]);
                subjects.extend(own.map(|_| Subject::Topic { name: name.clone(), stage }));
            }
        }
        for (name, group) in &lock(&self.groups).by_name {
            for stage in GroupStage::ALL {
                let own = group.stages[stage as usize].as_ref();
                subjects.extend(own.map(|_| Subject::Group { name: name.clone(), stage }));
            }
        }
        let topics = Stage::ALL.into_iter().filter(|stage| self.other_topics[*stage as usize].get().is_some());
        subjects.extend(topics.map(Subject::OtherTopics));
        let groups = GroupStage::ALL.into_iter().filter(|stage| self.other_groups[*stage as usize].get().is_some());
        subjects.extend(groups.map(Subject::OtherGroups));
        subjects.sort();
        subjects.dedup();
        subjects
    }

    /// A copy of a histogram, in µs; `None` where there are no samples.
    pub fn histogram(&self, subject: &Subject) -> Option<Histogram<u32>> {
        let of_api = |slots: &[Slot], key: i16| {
            self.own(slots.get(usize::try_from(key).ok()?)?, &self.other_apis).map(|recorder| recorder.copy())
        };
        match subject {
            Subject::Api(key) => of_api(&self.apis, *key),
            Subject::ApiWorked(key) => of_api(&self.worked, *key),
            Subject::OtherApis => self.other_apis.get().map(|r| r.copy()),
            Subject::Topic { name, stage } => {
                let topics = lock(&self.topics);
                let of_name = topics.by_name.range((name.clone(), Uuid::nil())..).take_while(|((n, _), _)| n == name);
                // Of several the one that lives: a topic created anew.
                let topic = of_name.filter_map(|(_, topic)| topic.upgrade()).last()?;
                drop(topics);
                let slot = &topic.produce_latency.stages[*stage as usize];
                self.own(slot, &self.other_topics[*stage as usize]).map(|r| r.copy())
            }
            Subject::OtherTopics(stage) => self.other_topics[*stage as usize].get().map(|r| r.copy()),
            Subject::Group { name, stage } => {
                let recorder = lock(&self.groups).by_name.get(name)?.stages[*stage as usize].clone();
                recorder.map(|r| r.copy())
            }
            Subject::OtherGroups(stage) => self.other_groups[*stage as usize].get().map(|r| r.copy()),
        }
    }

    /// Partitions of fetches whose records could not be laid to one member of a group.
    pub fn unattributed(&self) -> u64 {
        self.unattributed.load(Ordering::Relaxed)
    }

    /// Histograms made, those of "the others" left out.
    pub fn made(&self) -> usize {
        self.budget.made()
    }

    /// A request was answered; `worked` is what it took without its wait, for those that wait on purpose.
    pub fn api(&self, key: i16, took: Duration, worked: Option<Duration>) {
        if !self.on {
            return;
        }
        let record = |slots: &[Slot], took| match usize::try_from(key).ok().and_then(|key| slots.get(key)) {
            Some(slot) => self.of(slot, &self.other_apis, 0).record(took),
            None => other(&self.other_apis).record(took),
        };
        record(&self.apis, took);
        if let Some(worked) = worked {
            record(&self.worked, worked);
        }
    }

    /// A produce request to `topic` went through a stage.
    pub fn topic(&self, topic: &Arc<TopicState>, stage: Stage, took: Duration) {
        if !self.on {
            return;
        }
        let slot = &topic.produce_latency.stages[stage as usize];
        let recorder = match slot.get() {
            Some(recorder) => recorder,
            None => {
                let others = &self.other_topics[stage as usize];
                let recorder = self.of(slot, others, HISTOGRAMS_OF_APIS);
                if self.own(slot, others).is_some() {
                    lock(&self.topics).insert(topic);
                }
                recorder
            }
        };
        recorder.record(took);
    }

    /// Something that `group` consumed went through a stage, at `now_ms`.
    pub fn group(&self, group: &str, stage: GroupStage, took: Duration, now_ms: i64) {
        if !self.on {
            return;
        }
        self.group_recorder(group, stage, now_ms).record(took);
    }

    fn group_recorder(&self, group: &str, stage: GroupStage, now_ms: i64) -> Arc<Recorder> {
        let mut groups = lock(&self.groups);
        if let Some(known) = groups.by_name.get_mut(group) {
            known.used_ms = now_ms;
            if let Some(recorder) = &known.stages[stage as usize] {
                return recorder.clone();
            }
        }
        let mut made = Recorder::within(&self.budget, HISTOGRAMS_OF_APIS);
        if made.is_none() && groups.swept_ms.is_none_or(|swept_ms| now_ms.abs_diff(swept_ms) >= GROUP_SWEEP_MS) {
            groups.swept_ms = Some(now_ms);
            groups.by_name.retain(|_, group| now_ms.saturating_sub(group.used_ms) < GROUP_IDLE_MS);
            made = Recorder::within(&self.budget, HISTOGRAMS_OF_APIS);
        }
        let Some(recorder) = made.map(Arc::new) else { return other(&self.other_groups[stage as usize]).clone() };
        let known = groups.by_name.entry(group.into()).or_default();
        known.used_ms = now_ms;
        known.stages[stage as usize] = Some(recorder.clone());
        recorder
    }

    /// Records given to a fetcher could not be laid to one member.
    pub fn not_attributed(&self) {
        self.unattributed.fetch_add(1, Ordering::Relaxed);
    }

    /// The histogram in a slot, unless it is shared with others.
    fn own<'a>(&self, slot: &'a Slot, shared: &Slot) -> Option<&'a Arc<Recorder>> {
        slot.get().filter(|own| shared.get().is_none_or(|shared| !Arc::ptr_eq(own, shared)))
    }

    /// The histogram of a slot: its own, or where none may be made any more (`kept` are for others) that of the others.
    fn of<'a>(&self, slot: &'a Slot, shared: &Slot, kept: usize) -> &'a Arc<Recorder> {
        slot.get_or_init(|| match Recorder::within(&self.budget, kept) {
            Some(recorder) => Arc::new(recorder),
            None => other(shared).clone(),
        })
    }
}

fn other(slot: &Slot) -> &Arc<Recorder> {
    slot.get_or_init(|| Arc::new(Recorder::new()))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const MS: Duration = Duration::from_millis(1);

    fn topic(name: &str, id: u128) -> Arc<TopicState> {
        let settings = Config::local("/nowhere").topic(&BTreeMap::new(), &Default::default());
        Arc::new(TopicState::new(Uuid::from_u128(id), name.into(), Arc::new(settings)))
    }

    #[test]
    fn what_has_samples_is_listed_and_can_be_copied() {
        let latency = Latency::new(true, 1000);
        assert_eq!(latency.subjects(), []);
        let t = topic("t", 1);
        latency.api(1, 5 * MS, Some(MS));
        latency.api(0, 2 * MS, None);
        latency.topic(&t, Stage::Total, 3 * MS);
        latency.group("g", GroupStage::Commit, 4 * MS, 0);
        let expected = [
            (Subject::Api(0), 2),
            (Subject::Api(1), 5),
            (Subject::ApiWorked(1), 1),
            (Subject::Topic { name: "t".into(), stage: Stage::Total }, 3),
            (Subject::Group { name: "g".into(), stage: GroupStage::Commit }, 4),
        ];
        assert_eq!(latency.subjects(), expected.clone().map(|(subject, _)| subject));
        for (subject, ms) in expected {
            let copy = latency.histogram(&subject).unwrap();
            assert_eq!((copy.len(), (copy.max() + 50) / 1000), (1, ms), "{subject:?}");
        }
        assert!(latency.histogram(&Subject::Api(-1)).is_none() && latency.histogram(&Subject::Api(500)).is_none());
        assert_eq!(latency.made(), 5);
        drop(t);
        assert_eq!((latency.made(), latency.subjects().len()), (4, 4), "a topic's go with it");
    }

    #[test]
    fn beyond_the_bound_samples_go_to_the_others() {
        let latency = Latency::new(true, HISTOGRAMS_OF_APIS + 2);
        let topics: Vec<_> = (0..4).map(|n| topic(&format!("t{n}"), n + 1)).collect();
        topics.iter().for_each(|t| latency.topic(t, Stage::Append, MS));
        latency.group("g", GroupStage::Fetch, MS, 0);
        assert_eq!(latency.made(), 2);
        let others = latency.histogram(&Subject::OtherTopics(Stage::Append)).unwrap();
        assert_eq!(others.len(), 2);
        assert!(latency.histogram(&Subject::Topic { name: "t2".into(), stage: Stage::Append }).is_none());
        assert_eq!(latency.histogram(&Subject::OtherGroups(GroupStage::Fetch)).unwrap().len(), 1);
        latency.api(3, MS, None);
        assert!(latency.subjects().contains(&Subject::Api(3)), "the APIs have their room");
        let none = Latency::new(true, 0);
        none.api(3, MS, Some(MS));
        none.api(3000, MS, None);
        assert_eq!(none.subjects(), [Subject::OtherApis]);
        assert_eq!(none.histogram(&Subject::OtherApis).unwrap().len(), 3);
    }

    #[test]
    fn groups_without_samples_for_an_hour_make_room() {
        let latency = Latency::new(true, HISTOGRAMS_OF_APIS + 1);
        let commit = |name: &str| Subject::Group { name: name.into(), stage: GroupStage::Commit };
        latency.group("a", GroupStage::Commit, MS, 0);
        latency.group("b", GroupStage::Commit, MS, GROUP_IDLE_MS - GROUP_SWEEP_MS as i64);
        assert!(latency.histogram(&commit("a")).is_some() && latency.histogram(&commit("b")).is_none());
        latency.group("b", GroupStage::Commit, MS, GROUP_IDLE_MS);
        assert!(latency.histogram(&commit("a")).is_none() && latency.histogram(&commit("b")).is_some());
    }

    #[test]
    fn idle_groups_are_looked_for_once_a_minute() {
        let latency = Latency::new(true, HISTOGRAMS_OF_APIS + 1);
        let commit = |name: &str| Subject::Group { name: name.into(), stage: GroupStage::Commit };
        let minute = GROUP_SWEEP_MS as i64;
        latency.group("a", GroupStage::Commit, MS, 0);
        latency.group("b", GroupStage::Commit, MS, GROUP_IDLE_MS - 1);
        latency.group("b", GroupStage::Commit, MS, GROUP_IDLE_MS);
        assert!(latency.histogram(&commit("b")).is_none(), "looked 1 ms ago");
        latency.group("b", GroupStage::Commit, MS, GROUP_IDLE_MS - 1 + minute);
        assert!(latency.histogram(&commit("b")).is_some());
        assert_eq!(latency.histogram(&Subject::OtherGroups(GroupStage::Commit)).unwrap().len(), 2);
    }

    #[test]
    fn topics_that_are_gone_or_have_no_histogram_are_not_remembered() {
        let latency = Latency::new(true, HISTOGRAMS_OF_APIS + 4);
        let topics: Vec<_> = (1..200).map(|n| topic(&format!("t{n}"), n)).collect();
        for stage in Stage::ALL {
            topics.iter().for_each(|t| latency.topic(t, stage, MS));
        }
        assert_eq!(lock(&latency.topics).by_name.len(), 4, "as many as histograms");
        let latency = Latency::new(true, 2000);
        for n in 1..1000 {
            latency.topic(&topic(&format!("t{n}"), n), Stage::Total, MS);
            assert!(lock(&latency.topics).by_name.len() <= TOPICS_SWEPT_MIN);
        }
    }

    #[test]
    fn nothing_is_kept_where_figures_are_off() {
        let latency = Latency::new(false, 1000);
        latency.api(0, MS, None);
        latency.topic(&topic("t", 1), Stage::Total, MS);
        latency.group("g", GroupStage::Commit, MS, 0);
        assert_eq!((latency.subjects().len(), latency.made()), (0, 0));
    }
}
