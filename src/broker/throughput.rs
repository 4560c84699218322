//! Throughput: what went in and out of each topic and of the broker, in steps of five seconds over the last quarter of an hour.
//!
//! A task looks at the counters of the topics with traffic every [`SERIES_STEP_MS`]; topics without cost nothing. A topic's series is made at its first byte and freed with its append
//! clocks after [`FIGURES_IDLE_MS`] without one. At most [`SERIES_TOPICS_MAX`] topics have one (7 KiB each); the broker's own counts the others too.

use super::Broker;
use crate::{
    limits::{FIGURES_IDLE_MS, SERIES_POINTS, SERIES_STEP_MS, SERIES_TOPICS_MAX},
    partition::{
        TopicState,
        traffic::{Active, Counts},
    },
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

/// Points without traffic after which a topic's series is freed.
const IDLE_POINTS: usize = (FIGURES_IDLE_MS / SERIES_STEP_MS) as usize;
/// Points between two looks for append clocks that are to be freed.
const CLOCK_POINTS: u64 = 12;
/// What a rate over "a minute" is taken from.
const MINUTE_MS: u64 = 60_000;

/// What went in and out within one step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Point {
    /// How long the step was: [`SERIES_STEP_MS`], unless the machine was late.
    pub ms: u32,
    pub bytes_in: u64,
    pub records_in: u64,
    pub bytes_out: u64,
    pub records_out: u64,
}

/// Steps, oldest first; at most [`SERIES_POINTS`], fewer where there was no traffic before. The newest is the last full step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Series {
    /// End of the newest step, wall clock in ms; 0 without any.
    pub end_ms: i64,
    pub points: Vec<Point>,
}

/// Means per second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rate {
    pub bytes_in: f64,
    pub records_in: f64,
    pub bytes_out: f64,
    pub records_out: f64,
}

/// Rates of a topic or the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Over the last full step.
    pub last: Rate,
    /// Over the last minute; steps before the first byte count as nothing.
    pub minute: Rate,
}

impl Point {
    /// The point as means per second.
    pub fn rate(&self) -> Rate {
        Rate::of(std::slice::from_ref(self), u64::from(self.ms))
    }
}

impl Rate {
    fn of(points: &[Point], ms: u64) -> Rate {
        let mean = |count: fn(&Point) -> u64| match ms {
            0 => 0.0,
            ms => points.iter().map(count).sum::<u64>() as f64 * 1000.0 / ms as f64,
        };
        Rate {
            bytes_in: mean(|p| p.bytes_in),
            records_in: mean(|p| p.records_in),
            bytes_out: mean(|p| p.bytes_out),
            records_out: mean(|p| p.records_out),
        }
    }
}

impl Series {
    /// Its rates.
    pub fn rates(&self) -> Rates {
        let last = self.points.last().map(Point::rate).unwrap_or_default();
        let minute = &self.points[self.points.len().saturating_sub((MINUTE_MS / SERIES_STEP_MS) as usize)..];
        let ms = minute.iter().map(|p| u64::from(p.ms)).sum::<u64>().max(MINUTE_MS);
        Rates { last, minute: Rate::of(minute, ms) }
    }
}

/// All series of a broker.
#[derive(Debug, Default)]
pub struct Throughput(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    end_ms: i64,
    all: Ring,
    /// Topics with traffic, by name and id: one created anew under a name is another.
    topics: BTreeMap<(Arc<str>, Uuid), TopicSeries>,
    /// Of these, how many have a ring.
    rings: usize,
}

#[derive(Debug)]
struct TopicSeries {
    topic: Arc<TopicState>,
    counted: Counts,
    idle_points: usize,
    ring: Option<Ring>,
}

#[derive(Debug, Default)]
struct Ring(VecDeque<Point>);

impl Ring {
    fn push(&mut self, point: Point) {
        if self.0.len() == SERIES_POINTS {
            self.0.pop_front();
        }
        self.0.push_back(point);
    }

    fn series(&self, end_ms: i64) -> Series {
        Series { end_ms, points: self.0.iter().copied().collect() }
    }

    /// The newest minute is enough for rates.
    fn rates(&self, end_ms: i64) -> Rates {
        let newest = self.0.len().saturating_sub((MINUTE_MS / SERIES_STEP_MS) as usize);
        Series { end_ms, points: self.0.range(newest..).copied().collect() }.rates()
    }
}

impl Throughput {
    /// The series of a topic; `None` where it had no traffic for a quarter of an hour (or since the last step), and where too many others have.
    pub fn topic(&self, name: &str) -> Option<Series> {
        let state = self.lock();
        let ring = of_name(&state, name)?.ring.as_ref()?;
        Some(ring.series(state.end_ms))
    }

    /// The series of the whole broker.
    pub fn all(&self) -> Series {
        let state = self.lock();
        state.all.series(state.end_ms)
    }

    /// Rates of every topic that has a series, by name.
    pub fn topics(&self) -> Vec<(Arc<str>, Rates)> {
        let state = self.lock();
        let mut rates: Vec<(Arc<str>, Rates)> = Vec::with_capacity(state.rings);
        for ((name, _), topic) in &state.topics {
            let Some(ring) = topic.ring.as_ref().filter(|_| is_current(topic)) else { continue };
            rates.push((name.clone(), ring.rates(state.end_ms)));
        }
        rates
    }

    /// Rates of a topic; `None` as for [`Throughput::topic`].
    pub fn rates(&self, name: &str) -> Option<Rates> {
        let state = self.lock();
        Some(of_name(&state, name)?.ring.as_ref()?.rates(state.end_ms))
    }

    /// Ends a step of `ms` at `now_ms`: takes over what was counted since the last. Gives the topics whose series it freed.
    fn step(&self, active: &Active, now_ms: i64, ms: u32) -> Vec<Arc<TopicState>> {
        let mut state = self.lock();
        let State { end_ms, all, topics, rings } = &mut *state;
        *end_ms = now_ms;
        for topic in active.take_begun().iter().filter_map(std::sync::Weak::upgrade) {
            let key = (topic.name.clone(), topic.id);
            topics.entry(key).or_insert_with(|| {
                let ring = (*rings < SERIES_TOPICS_MAX).then(Ring::default);
                *rings += usize::from(ring.is_some());
                // What it rested with was counted then.
                let counted = topic.traffic.rested();
                TopicSeries { topic, counted, idle_points: 0, ring }
            });
        }
        let mut sum = Point { ms, ..Point::default() };
        let mut rested = Vec::new();
        topics.retain(|_, series| {
            let counts = series.topic.traffic.counts();
            let point = between(&series.counted, &counts, ms);
            series.counted = counts;
            sum = plus(&sum, &point);
            if let Some(ring) = &mut series.ring {
                ring.push(point);
            }
            series.idle_points = if point == (Point { ms, ..Point::default() }) { series.idle_points + 1 } else { 0 };
            // Of a deleted topic nobody else knows.
            let kept = series.idle_points < IDLE_POINTS && is_current(series);
            if !kept {
                *rings -= usize::from(series.ring.is_some());
                active.rest(&series.topic, &counts);
                rested.push(series.topic.clone());
            }
            kept
        });
        all.push(sum);
        rested
    }

    /// Topics with traffic.
    fn busy(&self) -> Vec<Arc<TopicState>> {
        self.lock().topics.values().map(|series| series.topic.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether the broker still has the topic: its partitions hold on to it.
fn is_current(series: &TopicSeries) -> bool {
    Arc::strong_count(&series.topic) > 1
}

fn of_name<'a>(state: &'a State, name: &str) -> Option<&'a TopicSeries> {
    let from: Arc<str> = name.into();
    let of_name = state.topics.range((from, Uuid::nil())..).take_while(|((n, _), _)| **n == *name);
    of_name.map(|(_, series)| series).filter(|series| is_current(series)).last()
}

fn between(before: &Counts, after: &Counts, ms: u32) -> Point {
    Point {
        ms,
        bytes_in: after.bytes_in - before.bytes_in,
        records_in: after.records_in - before.records_in,
        bytes_out: after.bytes_out - before.bytes_out,
        records_out: after.records_out - before.records_out,
    }
}

fn plus(a: &Point, b: &Point) -> Point {
    Point {
        ms: a.ms,
        bytes_in: a.bytes_in + b.bytes_in,
        records_in: a.records_in + b.records_in,
        bytes_out: a.bytes_out + b.bytes_out,
        records_out: a.records_out + b.records_out,
    }
}

impl Broker {
    /// Ends a step each [`SERIES_STEP_MS`], and frees what has been idle for long.
    pub(super) async fn sample(self: Arc<Self>) {
        let step = Duration::from_millis(SERIES_STEP_MS);
        let mut ticks = tokio::time::interval_at(Instant::now() + step, step);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Instant::now();
        for n in 1u64.. {
            let now = ticks.tick().await;
            let ms = u32::try_from(now.duration_since(last).as_millis()).unwrap_or(u32::MAX);
            last = now;
            let now_ms = self.env.now_ms();
            let mut idle = self.throughput.step(&self.shared.active, now_ms, ms);
            if n.is_multiple_of(CLOCK_POINTS) {
                self.readers.expire(now_ms);
                // Partitions may be idle where their topic is not.
                idle.extend(self.throughput.busy());
            }
            if idle.is_empty() {
                continue;
            }
            let table = self.partitions.snapshot();
            for topic in idle.iter().filter_map(|topic| table.by_id(topic.id)) {
                topic.partitions.iter().for_each(|p| p.rest_clock(now_ms - FIGURES_IDLE_MS as i64));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn topic(name: &str, id: u128) -> Arc<TopicState> {
        let settings = Config::local("/nowhere").topic(&BTreeMap::new(), &Default::default());
        Arc::new(TopicState::new(Uuid::from_u128(id), name.into(), Arc::new(settings)))
    }

    fn step(throughput: &Throughput, active: &Active, n: i64) {
        throughput.step(active, n * SERIES_STEP_MS as i64, SERIES_STEP_MS as u32);
    }

    #[test]
    fn a_series_begins_with_the_first_byte_and_ends_after_a_quarter_of_an_hour_without() {
        let (throughput, active) = (Throughput::default(), Active::default());
        let held = topic("a", 1);
        let _partition = held.clone();
        step(&throughput, &active, 1);
        assert_eq!((throughput.topic("a"), throughput.all().points.len()), (None, 1));
        active.appended(&held, 1000, 10);
        active.fetched(&held, 500, 5);
        step(&throughput, &active, 2);
        let point = Point { ms: 5000, bytes_in: 1000, records_in: 10, bytes_out: 500, records_out: 5 };
        assert_eq!(throughput.topic("a"), Some(Series { end_ms: 10_000, points: vec![point] }));
        let rates = throughput.rates("a").unwrap();
        assert_eq!((rates.last.bytes_in, rates.last.records_out), (200.0, 1.0));
        assert_eq!(rates.minute.bytes_out, 500.0 / 60.0);
        assert_eq!(throughput.topics(), [("a".into(), rates)]);
        for n in 0..IDLE_POINTS as i64 {
            assert!(throughput.topic("a").is_some());
            step(&throughput, &active, 3 + n);
        }
        assert_eq!((throughput.topic("a"), throughput.lock().rings), (None, 0));
        assert_eq!(throughput.all().points.len(), SERIES_POINTS);
        // What was counted before is not counted again.
        active.appended(&held, 7, 1);
        step(&throughput, &active, 500);
        assert_eq!(
            throughput.topic("a").unwrap().points,
            [Point { ms: 5000, bytes_in: 7, records_in: 1, ..Point::default() }]
        );
        assert_eq!(throughput.all().points.last().unwrap().bytes_in, 7);
    }

    #[test]
    fn a_topic_created_anew_has_a_series_of_its_own() {
        let (throughput, active) = (Throughput::default(), Active::default());
        let (old, new) = (topic("a", 1), topic("a", 2));
        let _partition = new.clone();
        active.appended(&old, 100, 1);
        active.appended(&new, 5, 1);
        step(&throughput, &active, 1);
        drop(old);
        assert_eq!(throughput.topic("a").unwrap().points[0].bytes_in, 5);
        assert_eq!(throughput.topics().len(), 1);
        assert_eq!(throughput.all().points[0].bytes_in, 105, "what a deleted topic took counts for the broker");
        step(&throughput, &active, 2);
        assert_eq!(throughput.lock().topics.len(), 1);
    }

    #[test]
    fn topics_beyond_the_bound_count_for_the_broker_only() {
        let (throughput, active) = (Throughput::default(), Active::default());
        let topics: Vec<_> = (0..SERIES_TOPICS_MAX + 3).map(|n| topic(&format!("t{n:05}"), n as u128 + 1)).collect();
        let _partitions = topics.clone();
        topics.iter().for_each(|t| active.appended(t, 1, 1));
        step(&throughput, &active, 1);
        assert_eq!(throughput.topics().len(), SERIES_TOPICS_MAX);
        assert_eq!(throughput.all().points[0].bytes_in, SERIES_TOPICS_MAX as u64 + 3);
    }

    #[test]
    fn a_minute_is_the_mean_of_its_points_as_long_as_they_were() {
        let point = |ms, bytes_in| Point { ms, bytes_in, ..Point::default() };
        let mut points = vec![point(5000, 1 << 40)];
        points.extend([point(10_000, 1000); 12]);
        let rates = Series { end_ms: 0, points }.rates();
        assert_eq!((rates.last.bytes_in, rates.minute.bytes_in), (100.0, 100.0));
    }
}
