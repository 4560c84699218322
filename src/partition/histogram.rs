//! One histogram of durations that many threads add to.

use hdrhistogram::Histogram;
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Shortest that is told apart, µs; what is shorter counts as this.
const SHORTEST_US: u64 = 1;
/// Longest that is told apart, µs; what is longer counts as this.
const LONGEST_US: u64 = 120_000_000;
/// Decimal digits that are exact.
const DIGITS: u8 = 2;

/// How many histograms there are, and may be.
#[derive(Debug)]
pub struct Budget {
    made: AtomicUsize,
    max: usize,
}

impl Budget {
    /// At most `max`.
    pub fn new(max: usize) -> Arc<Budget> {
        Arc::new(Budget { made: AtomicUsize::new(0), max })
    }

    /// How many there are now.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }
}

/// Durations in µs from 1 µs to two minutes, exact to two digits (0.8 %): 11 KiB. Counts stop at 2³² − 1.
#[derive(Debug)]
pub struct Recorder {
    counts: Mutex<Histogram<u32>>,
    budget: Option<Arc<Budget>>,
}

impl Recorder {
    /// An empty one that no budget counts.
    pub fn new() -> Recorder {
        // Constants that the crate accepts.
        let counts = Histogram::new_with_bounds(SHORTEST_US, LONGEST_US, DIGITS).expect("bounds of a histogram");
        Recorder { counts: Mutex::new(counts), budget: None }
    }

    /// An empty one that counts towards `budget`, of which `kept` are for others; `None` where that is used up.
    pub fn within(budget: &Arc<Budget>, kept: usize) -> Option<Recorder> {
        let room = budget.max.saturating_sub(kept);
        let more = |made| (made < room).then_some(made + 1);
        budget.made.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        let mut recorder = Recorder::new();
        recorder.budget = Some(budget.clone());
        Some(recorder)
    }

    /// Adds a duration.
    pub fn record(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).clamp(SHORTEST_US, LONGEST_US);
        self.lock().saturating_record(us);
    }

    /// A copy of it, in µs.
    pub fn copy(&self) -> Histogram<u32> {
        self.lock().clone()
    }

    /// How many durations were added.
    pub fn count(&self) -> u64 {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Histogram<u32>> {
        self.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::new()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.made.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_kept_to_two_digits_between_the_bounds() {
        let recorder = Recorder::new();
        for us in [0, 1, 1234, 1_000_000, 500_000_000] {
            recorder.record(Duration::from_micros(us));
        }
        let copy = recorder.copy();
        assert_eq!((copy.len(), recorder.count(), copy.min()), (5, 5, 1));
        assert!((119_000_000..=121_000_000).contains(&copy.max()), "{}", copy.max());
        let at = |quantile| copy.value_at_quantile(quantile) as f64;
        assert!((at(0.6) / 1234.0 - 1.0).abs() < 0.01 && (at(0.8) / 1e6 - 1.0).abs() < 0.01);
        let bytes = copy.distinct_values() * size_of::<u32>();
        assert!((8_000..=11 << 10).contains(&bytes), "{bytes} bytes");
    }

    #[test]
    fn no_more_are_made_than_the_budget_allows_and_dropped_ones_make_room() {
        let budget = Budget::new(3);
        let first = Recorder::within(&budget, 1).unwrap();
        let _second = Recorder::within(&budget, 1).unwrap();
        assert!(Recorder::within(&budget, 1).is_none());
        let third = Recorder::within(&budget, 0).unwrap();
        assert!(Recorder::within(&budget, 0).is_none());
        drop((first, third));
        assert_eq!(budget.made(), 1);
        assert!(Recorder::within(&budget, 1).is_some());
    }
}
