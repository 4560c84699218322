//! What a run has shown: a table for people, one JSON object for programs.

use super::{plot, samples::Samples};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::{
    io::{self, Write},
    time::Duration,
};

/// Percentiles told.
const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99];
/// Rows of the histogram shown to people.
const ROWS_MAX: usize = 16;
/// Width of its longest bar, characters.
const BAR: usize = 40;

/// A run.
#[derive(Debug)]
pub struct Report {
    /// `produce`, `consume` or `e2e`.
    pub work: &'static str,
    /// What was asked for, as (name, value): printed with the figures.
    pub setup: Vec<(&'static str, Value)>,
    /// Records that count.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Time that they took.
    pub took: Duration,
    /// Records that were not acknowledged, or not seen again.
    pub failed: u64,
    /// Why the first of them was not.
    pub first_failure: Option<String>,
    /// Latencies, with what they are of.
    pub latencies: Vec<(&'static str, Samples)>,
}

impl Report {
    /// As one object.
    pub fn json(&self) -> Value {
        let seconds = self.took.as_secs_f64();
        let setup: serde_json::Map<String, Value> =
            self.setup.iter().map(|(n, v)| (n.to_string(), v.clone())).collect();
        let latencies: serde_json::Map<String, Value> = self
            .latencies
            .iter()
            .filter(|(_, samples)| !samples.all().is_empty())
            .map(|(name, samples)| (name.to_string(), latency(samples.all())))
            .collect();
        json!({
            "work": self.work, "setup": setup, "records": self.records, "bytes": self.bytes, "seconds": seconds,
            "records_per_s": per_second(self.records, seconds), "bytes_per_s": per_second(self.bytes, seconds),
            "failed": self.failed, "first_failure": self.first_failure, "latency": latencies,
        })
    }

    /// For people.
    pub fn table(&self, out: &mut impl Write) -> io::Result<()> {
        let seconds = self.took.as_secs_f64();
        let setup: Vec<String> = self
            .setup
            .iter()
            .map(|(name, value)| format!("{name} {}", value.as_str().map_or_else(|| value.to_string(), str::to_string)))
            .collect();
        writeln!(out, "{}: {}", self.work, setup.join(", "))?;
        writeln!(
            out,
            "{} records, {:.1} MiB in {seconds:.2} s: {:.0} records/s, {:.1} MiB/s",
            self.records,
            self.bytes as f64 / f64::from(1 << 20),
            per_second(self.records, seconds),
            per_second(self.bytes, seconds) / f64::from(1 << 20),
        )?;
        if self.failed > 0 {
            let why = self.first_failure.as_deref().unwrap_or("see above");
            writeln!(out, "FAILED: {} records ({why})", self.failed)?;
        }
        for (name, samples) in self.latencies.iter().filter(|(_, samples)| !samples.all().is_empty()) {
            let all = samples.all();
            writeln!(out, "\n{name}, {} samples", all.len())?;
            for percentile in PERCENTILES {
                let ns = all.value_at_percentile(percentile) as f64;
                writeln!(out, "  {:>7} {:>10}", format!("p{percentile}"), plot::duration(ns))?;
            }
            writeln!(out, "  {:>7} {:>10}", "max", plot::duration(all.max() as f64))?;
            writeln!(out, "  {:>7} {:>10}\n", "mean", plot::duration(all.mean()))?;
            bars(all, out)?;
        }
        Ok(())
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn latency(all: &Histogram<u64>) -> Value {
    let percentiles: serde_json::Map<String, Value> =
        PERCENTILES.iter().map(|p| (format!("p{p}"), json!(all.value_at_percentile(*p) as f64 / 1e3))).collect();
    json!({
        "unit": "us", "count": all.len(), "mean": all.mean() / 1e3, "min": all.min() as f64 / 1e3, "max": all.max() as f64 / 1e3,
        "percentiles": percentiles,
    })
}

/// The shape: a bar a row, each row twice as long as the one before.
fn bars(all: &Histogram<u64>, out: &mut impl Write) -> io::Result<()> {
    let mut rows: Vec<(u64, u64)> = Vec::new();
    // Powers of two: an absolute scale, so that two runs can be laid side by side.
    let mut to = all.min().max(1).next_power_of_two();
    let mut from = 0;
    while from <= all.max() && rows.len() < ROWS_MAX {
        let last = rows.len() + 1 == ROWS_MAX;
        let end = if last { u64::MAX } else { to };
        let count = all.count_between(from, end.min(all.high()));
        rows.push((if last { all.max() } else { to }, count));
        from = end.saturating_add(1);
        to = to.saturating_mul(2);
    }
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1);
    for (to, count) in rows {
        let bar = "#".repeat((count as f64 * BAR as f64 / most as f64).ceil() as usize);
        writeln!(out, "  ≤ {:>9} {count:>10} {bar}", plot::duration(to as f64))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut samples = Samples::new(false);
        for us in [100, 110, 120, 5_000] {
            samples.record(Duration::from_micros(us), 1);
        }
        samples.turn(Duration::from_secs(1));
        Report {
            work: "produce",
            setup: vec![("acks", json!("all")), ("record_bytes", json!(1024))],
            records: 4,
            bytes: 4096,
            took: Duration::from_secs(2),
            failed: 1,
            first_failure: Some("no leader".into()),
            latencies: vec![("due to acknowledged", samples)],
        }
    }

    #[test]
    fn figures_are_told_to_programs() {
        let json = report().json();
        assert_eq!(json["records_per_s"], 2.0);
        assert_eq!(json["bytes_per_s"], 2048.0);
        assert_eq!((&json["failed"], &json["setup"]["acks"]), (&json!(1), &json!("all")));
        let latency = &json["latency"]["due to acknowledged"];
        assert_eq!(latency["count"], 4);
        let p50 = latency["percentiles"]["p50"].as_f64().unwrap();
        assert!((109.9..110.2).contains(&p50), "{p50}");
    }

    #[test]
    fn figures_are_told_to_people() {
        let mut out = Vec::new();
        report().table(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.starts_with("produce: acks all, record_bytes 1024\n4 records, 0.0 MiB in 2.00 s: 2 records/s"),
            "{text}"
        );
        assert!(text.contains("FAILED: 1 records (no leader)") && text.contains("p99.99"), "{text}");
        let counted: u64 = text
            .lines()
            .filter(|l| l.contains('≤'))
            .map(|l| l.split_whitespace().nth(3).unwrap().parse::<u64>().unwrap())
            .sum();
        assert_eq!(counted, 4, "every sample is in one bar: {text}");
    }
}
