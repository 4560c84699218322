//! Latencies of a run: one histogram of all, one of each second, and what was counted beside them.

use hdrhistogram::{
    Histogram,
    serialization::{V2DeflateSerializer, interval_log::IntervalLogWriterBuilder},
};
use std::{
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

/// Longest latency told apart from longer ones, ns: two minutes.
const LATENCY_NS_MAX: u64 = 120_000_000_000;
const NS_PER_MS: f64 = 1e6;
/// Length of an interval.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// A histogram of nanoseconds, 1 to two minutes, three digits.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).expect("the bounds are sound")
}

/// What one second was like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Begin, from the start of the run.
    pub at: Duration,
    /// Samples.
    pub count: u64,
    /// Latency that half of them were within, ns.
    pub p50_ns: u64,
    /// Latency that 99 of 100 were within, ns.
    pub p99_ns: u64,
    /// Largest latency, ns.
    pub max_ns: u64,
}

/// Latencies of a run. The log of intervals goes out as they end, so that a run may be long.
#[derive(Debug)]
pub struct Samples {
    all: Histogram<u64>,
    current: Histogram<u64>,
    began: Duration,
    intervals: Vec<Interval>,
    /// Each interval as a line of the HDR log.
    log: Option<Vec<u8>>,
}

impl Samples {
    /// None yet. `hdr`: keep the lines of an HDR log too.
    pub fn new(hdr: bool) -> Samples {
        Samples {
            all: histogram(),
            current: histogram(),
            began: Duration::ZERO,
            intervals: Vec::new(),
            log: hdr.then(Vec::new),
        }
    }

    /// `count` records with this latency.
    pub fn record(&mut self, latency: Duration, count: u64) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.current.saturating_record_n(ns.max(1), count);
    }

    /// The interval ends, so long after the start of the run.
    pub fn turn(&mut self, now: Duration) {
        let ended = std::mem::replace(&mut self.began, now);
        if self.current.is_empty() {
            return;
        }
        self.intervals.push(Interval {
            at: ended,
            count: self.current.len(),
            p50_ns: self.current.value_at_quantile(0.5),
            p99_ns: self.current.value_at_quantile(0.99),
            max_ns: self.current.max(),
        });
        if let Some(log) = &mut self.log {
            // A few KiB, whatever was measured. In memory nothing fails to be written.
            let _ = line(log, &self.current, ended, now.saturating_sub(ended));
        }
        self.all.add(&self.current).expect("of one shape");
        self.current.clear();
    }

    /// All latencies of the intervals that have ended, ns.
    pub fn all(&self) -> &Histogram<u64> {
        &self.all
    }

    /// The intervals that have ended and had samples.
    pub fn intervals(&self) -> &[Interval] {
        &self.intervals
    }

    /// Writes the HDR log (format 1.3, as HistogramLogReader takes it; values in ns, maxima in ms): `started_ms` is the wall clock at the start of the run.
    pub fn write_hdr(&self, out: &mut impl Write, started_ms: i64) -> io::Result<()> {
        let started = UNIX_EPOCH + Duration::from_millis(started_ms.max(0) as u64);
        let mut head = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        IntervalLogWriterBuilder::new()
            .with_max_value_divisor(NS_PER_MS)
            .add_comment("[Histogram log format version 1.3]")
            .add_comment("Logged by millstream bench; latencies in nanoseconds, Interval_Max in milliseconds")
            .with_start_time(started)
            .with_base_time(started)
            .begin_log_with(&mut head, &mut serializer)?;
        out.write_all(&head)?;
        writeln!(out, "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")?;
        out.write_all(self.log.as_deref().unwrap_or_default())
    }
}

/// One interval of an HDR log: the last line of a log of its own, whose head is left away.
fn line(out: &mut Vec<u8>, histogram: &Histogram<u64>, at: Duration, length: Duration) -> io::Result<()> {
    let (mut whole, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.with_max_value_divisor(NS_PER_MS);
    let mut writer = builder.begin_log_with(&mut whole, &mut serializer)?;
    writer.write_histogram(histogram, at, length, None).map_err(|e| io::Error::other(format!("{e:?}")))?;
    let lines = whole.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !line.starts_with(b"#")).for_each(|line| out.extend_from_slice(line));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn every_sample_is_in_the_whole_and_in_its_second() {
        let mut samples = Samples::new(true);
        for ms in 1..=100 {
            samples.record(Duration::from_millis(ms), 2);
        }
        samples.turn(INTERVAL);
        samples.turn(2 * INTERVAL);
        samples.record(Duration::from_secs(500), 1);
        samples.turn(3 * INTERVAL);
        assert_eq!(samples.all().len(), 201);
        let counts: Vec<_> = samples.intervals().iter().map(|i| (i.at, i.count)).collect();
        assert_eq!(counts, [(Duration::ZERO, 200), (2 * INTERVAL, 1)], "a second without samples is left out");
        let p50 = samples.intervals()[0].p50_ns;
        assert!((50_000_000..=50_100_000).contains(&p50), "{p50}");
        assert!(samples.all().max() >= LATENCY_NS_MAX, "what is longer counts as the longest");

        let mut log = Vec::new();
        samples.write_hdr(&mut log, 1_700_000_000_123).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&log).map(|entry| entry.unwrap()).collect();
        let read: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(i) => Some((i.start_timestamp(), i.duration(), i.max())),
                _ => None,
            })
            .collect();
        assert_eq!(read.len(), 2, "{}", String::from_utf8_lossy(&log));
        assert_eq!(read[0].0, Duration::ZERO);
        assert_eq!(read[0].1, INTERVAL);
        assert!((99.9..100.2).contains(&read[0].2), "{} ms", read[0].2);
        assert_eq!(read[1].0, 2 * INTERVAL);
    }
}
