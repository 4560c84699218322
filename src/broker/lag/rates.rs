//! How the lag of a group develops: points over time, rates, time to drain. Pure.

use crate::limits::{LAG_POINTS_MAX, LAG_RATE_MS};
use std::collections::VecDeque;

/// Append time of the oldest record that a group has not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oldest {
    /// Nothing is known: nothing is committed, or no time could be told.
    Unknown,
    /// Everything is committed.
    None,
    /// Wall clock, ms.
    Since(i64),
}

impl Oldest {
    /// Its age at `now_ms`, seconds; never negative.
    pub fn age_s(self, now_ms: i64) -> Option<f64> {
        match self {
            Oldest::Unknown => None,
            Oldest::None => Some(0.0),
            Oldest::Since(ms) => Some(seconds(now_ms.saturating_sub(ms).max(0))),
        }
    }
}

/// A group's lag at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// Wall clock, ms.
    pub at_ms: i64,
    pub lag_records: i64,
    pub oldest: Oldest,
    /// Records committed since some beginning.
    pub consumed: u64,
    /// Records that came since.
    pub produced: u64,
}

/// Points of the last 15 minutes, one each 5 s.
#[derive(Clone, Debug, Default)]
pub struct Series {
    points: VecDeque<Point>,
}

impl Series {
    /// Puts one behind the others; `consumed` and `produced` are counts that only grow.
    pub fn push(&mut self, at_ms: i64, lag_records: i64, oldest: Oldest, consumed: u64, produced: u64) {
        if self.points.len() == LAG_POINTS_MAX {
            self.points.pop_front();
        }
        self.points.push_back(Point { at_ms, lag_records, oldest, consumed, produced });
    }

    /// Oldest first.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.points.iter()
    }

    /// Over the last 60 s up to the last point, or as long as there are points; `None` where there are fewer than two.
    pub fn rates(&self) -> Option<Rates> {
        let last = self.points.back()?;
        let within = |p: &&Point| p.at_ms >= last.at_ms.saturating_sub(LAG_RATE_MS);
        let first = self.points.iter().find(within)?;
        let s = seconds(last.at_ms.saturating_sub(first.at_ms));
        (s > 0.0).then(|| Rates {
            consume_per_s: last.consumed.saturating_sub(first.consumed) as f64 / s,
            produce_per_s: last.produced.saturating_sub(first.produced) as f64 / s,
        })
    }
}

/// Records a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Committed.
    pub consume_per_s: f64,
    /// Come to the partitions that the group has committed to.
    pub produce_per_s: f64,
}

impl Rates {
    /// Seconds until a lag is 0; 0 at lag 0, `None` when it does not shrink.
    pub fn drain_s(self, lag_records: i64) -> Option<f64> {
        if lag_records <= 0 {
            return Some(0.0);
        }
        let shrinks = self.consume_per_s - self.produce_per_s;
        (shrinks > 0.0).then(|| lag_records as f64 / shrinks)
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lag_drains_by_the_difference_of_the_rates() {
        let rates = |consume_per_s, produce_per_s| Rates { consume_per_s, produce_per_s };
        assert_eq!(rates(30.0, 10.0).drain_s(100), Some(5.0));
        assert_eq!(rates(10.0, 10.0).drain_s(100), None, "it stands still");
        assert_eq!(rates(0.0, 10.0).drain_s(100), None, "it grows");
        assert_eq!(rates(0.0, 0.0).drain_s(100), None);
        assert_eq!(rates(0.0, 10.0).drain_s(0), Some(0.0));
        assert_eq!(rates(5.0, 0.0).drain_s(-3), Some(0.0), "committed past the end");
    }

    #[test]
    fn rates_are_of_the_last_minute() {
        let mut series = Series::default();
        assert_eq!(series.rates(), None);
        series.push(0, 0, Oldest::None, 0, 0);
        assert_eq!(series.rates(), None, "one point is no rate");
        let (mut consumed, mut produced) = (0, 0);
        for tick in 1..=24 {
            // A minute at 100 a second, then one at 10 and 20.
            let (more, came) = if tick <= 12 { (500, 500) } else { (50, 100) };
            (consumed, produced) = (consumed + more, produced + came);
            series.push(tick * 5000, 0, Oldest::None, consumed, produced);
            if tick == 1 {
                assert_eq!(series.rates(), Some(Rates { consume_per_s: 100.0, produce_per_s: 100.0 }));
            }
        }
        assert_eq!(series.rates(), Some(Rates { consume_per_s: 10.0, produce_per_s: 20.0 }));
    }

    #[test]
    fn a_series_is_bounded_and_a_clock_that_jumps_back_gives_no_rate() {
        let mut series = Series::default();
        for tick in 0..1000 {
            series.push(tick * 5000, tick, Oldest::Unknown, 1, 1);
        }
        assert_eq!(series.points().count(), LAG_POINTS_MAX);
        assert_eq!(series.points().next().unwrap().lag_records, 1000 - LAG_POINTS_MAX as i64);
        series.push(7, 1, Oldest::Unknown, 1, 1);
        assert!(series.rates().is_none_or(|rates| rates.consume_per_s >= 0.0));
        let mut series = Series::default();
        series.push(1000, 1, Oldest::None, 1, 1);
        series.push(1000, 1, Oldest::None, 1, 1);
        assert_eq!(series.rates(), None);
    }

    #[test]
    fn an_age_is_never_negative() {
        assert_eq!(Oldest::Since(1000).age_s(3500), Some(2.5));
        assert_eq!(Oldest::Since(5000).age_s(3500), Some(0.0), "a producer's clock is ahead of ours");
        assert_eq!(Oldest::Since(i64::MIN).age_s(i64::MAX), Some(seconds(i64::MAX)));
        assert_eq!((Oldest::None.age_s(1), Oldest::Unknown.age_s(1)), (Some(0.0), None));
    }
}
