//! What went in and out of a topic on this broker: counters of its partitions together, and the histograms of its produce requests.

use super::{TopicState, histogram::Recorder};
use std::sync::{
    Arc, Mutex, OnceLock, Weak,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

/// Counted since this broker has the topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub bytes_in: u64,
    pub records_in: u64,
    /// Record batches appended.
    pub batches_in: u64,
    /// Bytes given to fetchers, once for each time they were given.
    pub bytes_out: u64,
    /// Offsets given to fetchers: what was fetched, not what consumers made of it.
    pub records_out: u64,
}

/// The counters of a topic.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_in: AtomicU64,
    records_in: AtomicU64,
    batches_in: AtomicU64,
    bytes_out: AtomicU64,
    records_out: AtomicU64,
    /// On the list of [`Active`].
    active: AtomicBool,
    /// Counters when it was rested last.
    rested: Mutex<Counts>,
}

impl Traffic {
    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            bytes_in: of(&self.bytes_in),
            records_in: of(&self.records_in),
            batches_in: of(&self.batches_in),
            bytes_out: of(&self.bytes_out),
            records_out: of(&self.records_out),
        }
    }

    /// What had been counted when it was rested last.
    pub fn rested(&self) -> Counts {
        *self.rested.lock().unwrap_or_else(|p| p.into_inner())
    }
}

/// Topics with traffic, so that nobody has to look at the others.
#[derive(Debug, Default)]
pub struct Active {
    begun: Mutex<Vec<Weak<TopicState>>>,
}

impl Active {
    /// One batch was appended.
    pub fn appended(&self, topic: &Arc<TopicState>, bytes: u64, records: u64) {
        let traffic = &topic.traffic;
        traffic.bytes_in.fetch_add(bytes, Ordering::Relaxed);
        traffic.records_in.fetch_add(records, Ordering::Relaxed);
        traffic.batches_in.fetch_add(1, Ordering::Relaxed);
        self.begin(topic);
    }

    /// Records were given to a fetcher.
    pub fn fetched(&self, topic: &Arc<TopicState>, bytes: u64, records: u64) {
        topic.traffic.bytes_out.fetch_add(bytes, Ordering::Relaxed);
        topic.traffic.records_out.fetch_add(records, Ordering::Relaxed);
        self.begin(topic);
    }

    fn begin(&self, topic: &Arc<TopicState>) {
        if !topic.traffic.active.load(Ordering::Relaxed) && !topic.traffic.active.swap(true, Ordering::AcqRel) {
            self.begun.lock().unwrap_or_else(|p| p.into_inner()).push(Arc::downgrade(topic));
        }
    }

    /// Those whose traffic began since the last call; each is told once until it is [`Active::rest`]ed.
    pub fn take_begun(&self) -> Vec<Weak<TopicState>> {
        std::mem::take(&mut *self.begun.lock().unwrap_or_else(|p| p.into_inner()))
    }

    /// A topic without traffic for long, whose counters were seen as `counts`: its next byte is told as a beginning.
    pub fn rest(&self, topic: &TopicState, counts: &Counts) {
        *topic.traffic.rested.lock().unwrap_or_else(|p| p.into_inner()) = *counts;
        topic.traffic.active.store(false, Ordering::Release);
    }
}

/// Histograms of a topic's produce requests, by stage; the broker makes them at the first sample.
#[derive(Debug, Default)]
pub struct ProduceLatency {
    /// In the order of the broker's stages. One that was refused a histogram of its own is shared with others.
    pub stages: [OnceLock<Arc<Recorder>>; 4],
}
