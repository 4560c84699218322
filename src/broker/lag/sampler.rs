//! Lag over time: a point each 5 s of the groups in use.
//!
//! What groups have committed is asked of a coordinator only when its log has grown since; ends are atomics. So while nothing is committed or appended nothing is asked, and without groups
//! in use nothing is computed but whether that is still so.

use super::{Broker, Lag, Oldest, PartitionLag, Rates, Series, Summary, Unknown, measure, measure::Wanted, total};
use crate::{
    coordinator::{
        group::{Event, GroupOverview, Groups, Overview, Reply},
        shard::Shard,
    },
    limits::{
        LAG_GROUPS_MAX, LAG_IDLE_MS, LAG_OFFSETS_MAX, LAG_PAGE_GROUPS_MAX, LAG_PAGE_OFFSETS_MAX, LAG_SAMPLE_MS,
        LAG_SAMPLE_TIMES_MAX, LAG_WAIT_MS_MAX,
    },
    partition::Partition,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Duration,
};
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

impl Broker {
    /// Samples each [`LAG_SAMPLE_MS`], for ever.
    pub(in crate::broker) async fn sample_lag(self: Arc<Self>) {
        let mut sampler = Sampler::default();
        loop {
            tokio::time::sleep(Duration::from_millis(LAG_SAMPLE_MS)).await;
            sampler.tick(&self).await;
        }
    }
}

/// What the task knows.
#[derive(Default)]
struct Sampler {
    /// By topic id and partition of the coordinator's log.
    shards: BTreeMap<(Uuid, i32), Known>,
    /// What was seen of each group last.
    seen: BTreeMap<Arc<str>, Seen>,
    /// Partitions that groups have committed to, and their watermarks then; -1 = not known.
    watched: Vec<(Weak<Partition>, i64)>,
    /// Times are left to be read, and the last look could read some.
    unread: bool,
}

/// What a coordinator has said.
struct Known {
    /// End of its log before that.
    end: i64,
    groups: Vec<GroupOverview>,
    /// Groups of it that are not among them: there was no room for what they committed.
    others: usize,
}

impl Known {
    fn offsets(&self) -> usize {
        self.groups.iter().map(|group| group.committed.len()).sum()
    }
}

/// One group at the last look.
#[derive(Clone, Debug)]
struct Seen {
    /// By topic and partition.
    places: HashMap<(Arc<str>, i32), Place>,
    lag_records: i64,
    oldest: Oldest,
    /// Records committed since it was seen first.
    consumed: u64,
    /// Records that came since.
    produced: u64,
    /// Commits or lag have moved last, wall clock, ms.
    moved_ms: i64,
}

/// One partition of a group at the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    topic_id: Uuid,
    committed: i64,
    /// Watermark; -1 = not known.
    end: i64,
    /// Time of the record at this offset, where it is known: (offset, ms).
    time: Option<(i64, i64)>,
}

impl Seen {
    /// A group with nothing but its last commit.
    fn new(moved_ms: i64) -> Seen {
        Seen { places: HashMap::new(), lag_records: 0, oldest: Oldest::Unknown, consumed: 0, produced: 0, moved_ms }
    }

    fn is_in_use(&self, now_ms: i64) -> bool {
        now_ms.saturating_sub(self.moved_ms) < LAG_IDLE_MS
    }

    /// What a look at its partitions makes of it.
    fn step(&mut self, lags: &[PartitionLag], now_ms: i64) {
        let mut places = HashMap::with_capacity(lags.len());
        let (consumed, produced) = (self.consumed, self.produced);
        for lag in lags {
            let Some(committed) = &lag.committed else { continue };
            let place = (lag.topic.clone(), lag.partition);
            let old = self.places.get(&place).filter(|old| old.topic_id == committed.topic_id);
            let end = lag.ends.map_or(old.map_or(-1, |old| old.end), |ends| ends.high_watermark);
            if let Some(old) = old {
                self.consumed += u64::try_from(committed.offset.saturating_sub(old.committed)).unwrap_or(0);
                let came = if old.end >= 0 { end.saturating_sub(old.end) } else { 0 };
                self.produced += u64::try_from(came).unwrap_or(0);
            }
            let time = match (lag.first_unread(), lag.oldest) {
                (Some(offset), Oldest::Since(ms)) => Some((offset, ms)),
                _ => None,
            };
            let now = Place { topic_id: committed.topic_id, committed: committed.offset, end, time };
            places.insert(place, now);
        }
        let (lag_records, oldest) = total(lags);
        if (self.consumed, self.produced, self.lag_records) != (consumed, produced, lag_records)
            && !self.places.is_empty()
        {
            self.moved_ms = now_ms;
        }
        (self.places, self.lag_records, self.oldest) = (places, lag_records, oldest);
    }
}

impl Sampler {
    async fn tick(&mut self, broker: &Arc<Broker>) {
        let asked = self.ask(broker).await;
        let now_ms = broker.env.now_ms();
        if asked || self.unread || self.has_moved() {
            self.look(broker, now_ms).await;
        }
        self.record(&broker.lag, now_ms);
    }

    /// Asks the coordinators whose logs have grown; says whether there were any, or one went.
    async fn ask(&mut self, broker: &Arc<Broker>) -> bool {
        let loaded = broker.groups.loaded_by_partition();
        let before = self.shards.len();
        self.shards.retain(|key, _| loaded.iter().any(|(it, _)| it == key));
        let mut asked = self.shards.len() < before;
        for (key, shard) in loaded {
            let Some(Ok(offsets)) = broker.partitions.get_by_id(key.0, key.1).map(|p| p.offsets()) else { continue };
            let end = offsets.log_end;
            if self.shards.get(&key).map_or(end == 0, |known| known.end == end) {
                continue;
            }
            let others: usize = self.shards.iter().filter(|(it, _)| **it != key).map(|(_, it)| it.offsets()).sum();
            if let Some((groups, others)) = groups_of(&shard, LAG_OFFSETS_MAX.saturating_sub(others)).await {
                self.shards.insert(key, Known { end, groups, others });
                asked = true;
            }
        }
        asked
    }

    /// Whether a watermark has moved of a partition that groups have committed to.
    fn has_moved(&self) -> bool {
        self.watched.iter().any(|(log, end)| {
            let now = log.upgrade().and_then(|log| log.offsets().ok());
            now.is_some_and(|now| now.high_watermark != *end)
        })
    }

    /// Measures every group anew.
    async fn look(&mut self, broker: &Broker, now_ms: i64) {
        let table = broker.partitions.snapshot();
        let mut before = std::mem::take(&mut self.seen);
        let mut measured = Vec::new();
        let all = self.shards.values().flat_map(|known| &known.groups);
        for group in all.filter(|group| !group.committed.is_empty()) {
            let last_commit_ms = group.committed.iter().map(|at| at.commit_ms).max().unwrap_or(i64::MIN);
            let seen = before.remove(&group.group).unwrap_or_else(|| Seen::new(last_commit_ms.min(now_ms)));
            let measure = |at| {
                let mut lag = measure::committed(&table, at);
                let place = seen.places.get(&(lag.topic.clone(), lag.partition));
                // Read or remembered before.
                if lag.unknown == Some(Unknown::NoTime)
                    && let Some((offset, ms)) = place.and_then(|place| place.time)
                    && lag.first_unread() == Some(offset)
                {
                    measure::read_time(&mut lag, ms);
                }
                lag
            };
            let lags: Vec<PartitionLag> = group.committed.iter().cloned().map(measure).collect();
            measured.push((group.group.clone(), lags, seen));
        }
        self.unread = read_times(broker, measured.iter_mut().map(|(_, lags, _)| lags)).await;
        let mut watched = BTreeMap::new();
        for (group, lags, mut seen) in measured {
            for lag in &lags {
                if let Some(log) = &lag.log {
                    let end = lag.ends.map_or(-1, |ends| ends.high_watermark);
                    watched.entry((log.topic().id, lag.partition)).or_insert((Arc::downgrade(log), end));
                }
            }
            seen.step(&lags, now_ms);
            self.seen.insert(group, seen);
        }
        self.watched = watched.into_values().collect();
    }

    /// Puts a point to each group in use, and publishes the last sample of all.
    fn record(&self, lag: &Lag, now_ms: i64) {
        let unseen: usize = self.shards.values().map(|known| known.others).sum();
        let mut series = lag.lock();
        if self.seen.is_empty() && series.is_empty() {
            lag.publish(Vec::new(), unseen);
            return;
        }
        series.retain(|group, _| self.seen.get(group).is_some_and(|seen| seen.is_in_use(now_ms)));
        let mut idle = Vec::new();
        let mut summaries = Vec::new();
        for (group, seen) in &self.seen {
            let mut summary = Summary {
                group: group.clone(),
                lag_records: seen.lag_records,
                oldest: seen.oldest,
                rates: (!seen.is_in_use(now_ms)).then(Rates::default),
            };
            let has_room = series.contains_key(group) || series.len() < LAG_GROUPS_MAX;
            if !seen.is_in_use(now_ms) || !has_room {
                idle.push(summary);
                continue;
            }
            let points: &mut Series = series.entry(group.clone()).or_default();
            points.push(now_ms, seen.lag_records, seen.oldest, seen.consumed, seen.produced);
            summary.rates = points.rates();
            summaries.push(summary);
        }
        drop(series);
        idle.truncate(LAG_GROUPS_MAX - summaries.len());
        summaries.extend(idle);
        summaries.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        let others = unseen + self.seen.len() - summaries.len();
        lag.publish(summaries, others);
    }
}

/// The first groups of a shard, by name, with at most so many committed offsets, and how many there are behind them; `None` = it did not answer.
async fn groups_of(shard: &Shard<Groups>, offsets_max: usize) -> Option<(Vec<GroupOverview>, usize)> {
    let deadline = Instant::now() + Duration::from_millis(LAG_WAIT_MS_MAX);
    let (mut groups, mut offsets) = (Vec::<GroupOverview>::new(), 0);
    loop {
        let ask = Overview {
            after: groups.last().map(|group| group.group.clone()),
            prefix: "".into(),
            topic: None,
            state: None,
            groups_max: LAG_PAGE_GROUPS_MAX,
            offsets_max: LAG_PAGE_OFFSETS_MAX,
        };
        let answer = async { shard.ask(Event::Overview(ask)).await?.answer().await };
        let Ok(Ok(Reply::Overview(page))) = timeout_at(deadline, answer).await else { return None };
        let mut behind = page.groups.len() + page.behind;
        for group in page.groups {
            offsets += group.committed.len();
            if offsets > offsets_max {
                return Some((groups, behind));
            }
            behind -= 1;
            // The last one says where to go on; that without a commit has no lag.
            groups.push(group);
        }
        if behind == 0 {
            return Some((groups, 0));
        }
    }
}

/// Reads some times that nobody remembers, of open logs; says whether it did and others are left.
async fn read_times(broker: &Broker, groups: impl Iterator<Item = &mut Vec<PartitionLag>>) -> bool {
    let is_untimed = |lag: &&mut PartitionLag| {
        lag.unknown == Some(Unknown::NoTime) && lag.log.as_ref().is_some_and(|log| log.is_open())
    };
    let mut untimed: Vec<&mut PartitionLag> =
        groups.flatten().filter(is_untimed).take(LAG_SAMPLE_TIMES_MAX + 1).collect();
    if untimed.is_empty() {
        return false;
    }
    let are_left = untimed.len() > LAG_SAMPLE_TIMES_MAX;
    untimed.truncate(LAG_SAMPLE_TIMES_MAX);
    let wanted = untimed.iter().enumerate().filter_map(|(key, lag)| {
        let (log, offset) = (lag.log.clone()?, lag.first_unread()?);
        Some(Wanted { key, log, offset, end: lag.ends?.high_watermark })
    });
    let (wanted, deadline) = (wanted.collect(), Instant::now() + Duration::from_millis(LAG_WAIT_MS_MAX));
    let read = measure::times(&broker.env, &broker.lag.times, wanted, deadline).await;
    let any = !read.is_empty();
    for (key, ms) in read {
        measure::read_time(untimed[key], ms);
    }
    any && are_left
}

#[cfg(test)]
mod tests {
    use super::{super::tests::lag, *};

    #[test]
    fn what_was_committed_and_came_is_counted_and_nothing_else() {
        let mut seen = Seen::new(0);
        seen.step(&[lag(0, Some(5), (0, 10), Oldest::Since(1))], 1_000);
        assert_eq!((seen.consumed, seen.produced, seen.lag_records, seen.moved_ms), (0, 0, 5, 0), "where it begins");
        seen.step(&[lag(0, Some(8), (0, 12), Oldest::Since(1)), lag(1, Some(100), (0, 100), Oldest::None)], 2_000);
        assert_eq!((seen.consumed, seen.produced, seen.lag_records, seen.moved_ms), (3, 2, 4, 2_000));
        // A reset back is no consumption, and nothing moves by looking again.
        seen.step(&[lag(0, Some(0), (0, 12), Oldest::Since(1)), lag(1, Some(100), (0, 100), Oldest::None)], 3_000);
        assert_eq!((seen.consumed, seen.produced, seen.lag_records, seen.moved_ms), (3, 2, 12, 3_000));
        seen.step(&[lag(0, Some(0), (0, 12), Oldest::Since(1)), lag(1, Some(100), (0, 100), Oldest::None)], 4_000);
        assert_eq!((seen.consumed, seen.produced, seen.lag_records, seen.moved_ms), (3, 2, 12, 3_000));
        // A topic of the name created anew.
        let mut anew = lag(0, Some(7), (0, 20), Oldest::Since(1));
        anew.committed.as_mut().unwrap().topic_id = Uuid::from_u128(9);
        seen.step(&[anew], 5_000);
        assert_eq!((seen.consumed, seen.produced, seen.lag_records), (3, 2, 13));
    }

    #[test]
    fn a_partition_that_cannot_be_asked_for_a_while_counts_once() {
        let mut seen = Seen::new(0);
        seen.step(&[lag(0, Some(5), (0, 10), Oldest::Since(1))], 1_000);
        let mut closed = lag(0, Some(5), (0, 0), Oldest::Unknown);
        (closed.ends, closed.unknown) = (None, Some(Unknown::NotOpen));
        seen.step(&[closed], 2_000);
        seen.step(&[lag(0, Some(5), (0, 14), Oldest::Since(1))], 3_000);
        assert_eq!((seen.produced, seen.lag_records), (4, 9));
    }

    #[test]
    fn groups_in_use_keep_points_and_others_only_their_last_lag() {
        let (held, mut sampler) = (Lag::new(), Sampler::default());
        let mut put = |name: &str, moved_ms| {
            let mut seen = Seen::new(moved_ms);
            (seen.lag_records, seen.oldest) = (7, Oldest::Since(500));
            sampler.seen.insert(name.into(), seen);
        };
        for i in 0..LAG_GROUPS_MAX + 5 {
            put(&format!("busy-{i:04}"), 1_000_000);
        }
        put("idle", 1_000_000 - LAG_IDLE_MS);
        sampler.record(&held, 1_000_000);
        assert_eq!(held.lock().len(), LAG_GROUPS_MAX);
        assert!(held.series_of("idle").is_none());
        assert_eq!(held.summaries().len(), LAG_GROUPS_MAX, "those in use first");
        assert_eq!(held.others(), 6, "the others are counted");
        sampler.shards.insert((Uuid::nil(), 0), Known { end: 1, groups: Vec::new(), others: 30 });
        sampler.record(&held, 1_000_000);
        assert_eq!(held.others(), 36, "those too whose offsets had no room");
        sampler.shards.clear();
        sampler.seen.retain(|name, _| name.as_ref() <= "busy-0001" || name.as_ref() == "idle");
        sampler.record(&held, 1_005_000);
        let names: Vec<_> = held.summaries().iter().map(|it| it.group.to_string()).collect();
        assert_eq!(names, ["busy-0000", "busy-0001", "idle"]);
        assert_eq!(held.lock().len(), 2, "what is gone is freed");
        let idle = &held.summaries()[2];
        assert_eq!((idle.lag_records, idle.oldest.age_s(1_500)), (7, Some(1.0)));
        let points: Vec<_> = held.series_of("busy-0000").unwrap().points().map(|p| (p.at_ms, p.lag_records)).collect();
        assert_eq!(points, [(1_000_000, 7), (1_000_000, 7), (1_005_000, 7)]);
        assert_eq!(held.others(), 0);
        sampler.record(&held, 1_000_000 + LAG_IDLE_MS);
        assert!(held.lock().is_empty(), "idle for 15 minutes");
    }
}
