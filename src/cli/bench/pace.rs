//! When records are due.
//!
//! At a fixed rate the n-th record is due n / rate after the start, whether or not the ones before it have been dealt with, and its latency counts from then: a broker that stalls is
//! charged for everything that had to wait meanwhile (no coordinated omission). A thread of its own sleeps between them, since the runtime's timers have steps of 1 ms.

use crate::Env;
use std::time::Duration;
use tokio::{
    sync::mpsc::{self, error::TrySendError},
    time::Instant,
};

/// Shortest sleep: what is due within it goes together.
const STEP: Duration = Duration::from_micros(100);
/// Turns that wait for a producer that is behind; their records are told with later ones.
const TURNS_MAX: usize = 64;

/// What is to be sent, and until when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Plan {
    /// Records a second; `None` = as fast as it goes.
    pub per_second: Option<f64>,
    /// Records in all; `None` = as many as there is time for.
    pub records: Option<u64>,
    /// Time in all; `None` = as long as it takes.
    pub duration: Option<Duration>,
}

impl Plan {
    /// How long after the start the record of this number (from 0) is due; zero without a rate.
    pub fn due(&self, number: u64) -> Duration {
        self.per_second.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(number as f64 / rate))
    }

    /// Records that are due so long after the start; with a rate only.
    fn due_by(&self, elapsed: Duration) -> u64 {
        let elapsed = self.duration.map_or(elapsed, |end| elapsed.min(end));
        // The first is due at once; nothing is due at the very end.
        let by_time = self.per_second.map_or(u64::MAX, |rate| {
            let due = (elapsed.as_secs_f64() * rate).floor() as u64;
            if self.duration == Some(elapsed) { ((elapsed.as_secs_f64() * rate).ceil() as u64).max(1) } else { due + 1 }
        });
        by_time.min(self.records.unwrap_or(u64::MAX))
    }

    /// Whether nothing becomes due any more so long after the start, where `told` have been.
    fn is_over(&self, elapsed: Duration, told: u64) -> bool {
        self.records.is_some_and(|all| told >= all) || self.duration.is_some_and(|end| elapsed >= end)
    }

    /// Tells how many records are due in all, whenever more are, until the plan is done or nobody listens. Starts a thread; for plans with a rate.
    pub fn start(self, env: &Env, began: Instant) -> mpsc::Receiver<u64> {
        let (tell, told) = mpsc::channel(TURNS_MAX);
        let env = env.clone();
        let pacing = env.clone();
        env.spawn("pace", async move { pacing.blocking(move || self.run(began, &tell)).await });
        told
    }

    fn run(self, began: Instant, tell: &mpsc::Sender<u64>) {
        let mut told = 0;
        loop {
            let elapsed = began.elapsed();
            let due = self.due_by(elapsed);
            if due > told {
                match tell.try_send(due) {
                    Ok(()) => told = due,
                    Err(TrySendError::Full(_)) => {}
                    Err(TrySendError::Closed(_)) => return,
                }
            }
            if self.is_over(elapsed, told) {
                // The last word must be heard.
                let _ = tell.blocking_send(self.due_by(elapsed));
                return;
            }
            let next = self.due(told).saturating_sub(began.elapsed());
            std::thread::sleep(next.clamp(STEP, Duration::from_millis(100)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(per_second: f64, records: Option<u64>, seconds: Option<u64>) -> Plan {
        Plan { per_second: Some(per_second), records, duration: seconds.map(Duration::from_secs) }
    }

    #[test]
    fn records_are_due_at_their_rate() {
        let plan = plan(1000.0, None, Some(2));
        assert_eq!(plan.due(0), Duration::ZERO);
        assert_eq!(plan.due(1500), Duration::from_millis(1500));
        assert_eq!(plan.due_by(Duration::ZERO), 1, "the first at once");
        assert_eq!(plan.due_by(Duration::from_millis(10)), 11);
        assert_eq!(plan.due_by(Duration::from_secs(2)), 2000);
        assert_eq!(plan.due_by(Duration::from_secs(9)), 2000, "whoever comes late is told of no more");
        assert!(plan.is_over(Duration::from_secs(2), 1999) && !plan.is_over(Duration::from_millis(1999), 1999));
    }

    #[test]
    fn a_count_ends_it_too() {
        let plan = plan(10.0, Some(5), None);
        assert_eq!(plan.due_by(Duration::from_secs(60)), 5);
        assert!(plan.is_over(Duration::from_secs(60), 5) && !plan.is_over(Duration::from_secs(60), 4));
    }

    #[tokio::test]
    async fn all_that_is_due_is_told_also_to_one_who_listens_late() {
        let mut told = plan(1e6, Some(10_000), None).start(&Env::real(), Instant::now());
        let mut last = 0;
        while let Some(due) = told.recv().await {
            assert!(due >= last);
            last = due;
        }
        assert_eq!(last, 10_000);
    }
}
