//! Metric names and handles. Every metric is declared here; handles are made once, from the node's own recorder. What is told of topics, groups and APIs is no handle: it is
//! written at the scrape from the state it tells of, so that what is gone is gone from the page too. `docs/metrics.md` is generated from the declarations.

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::{
    fmt::{Display, Write as _},
    sync::{Arc, atomic::AtomicU64},
};

/// A metric as it is declared.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// Prometheus' types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from the start of the process on.
    Counter,
    Gauge,
    /// Quantiles, and sum and count under the same name with `_sum` and `_count`. Of everything since the start of the process.
    Summary,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
        }
    }
}

/// Makes a constant of each declaration, and [`METRICS`] of all.
macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(#[doc = $help] pub static $id: Metric = Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };)*
        /// Every metric, in the order of the page.
        pub static METRICS: &[&Metric] = &[$(&$id),*];
    };
}

#[rustfmt::skip]
metrics! {
    CONNECTIONS = Gauge "millstream_connections" [] "Connections now open.";
    CONNECTIONS_OPENED = Counter "millstream_connections_opened_total" [] "Connections accepted.";
    CONNECTIONS_REFUSED = Counter "millstream_connections_refused_total" [] "Connections closed for a broken bound or an unreadable frame.";
    UNSUPPORTED_VERSION = Counter "millstream_unsupported_version_total" ["api_key", "version"] "Connections closed for an API or version that is not served.";
    REQUESTS = Counter "millstream_requests_total" [] "Requests taken.";
    REQUEST_BYTES = Counter "millstream_request_bytes_total" [] "Bytes received in requests.";
    REPLY_BYTES = Counter "millstream_reply_bytes_total" [] "Bytes sent in replies.";
    REQUEST_SECONDS = Summary "millstream_request_seconds" ["api", "quantile"] "From the last byte of a request to the last byte of its reply handed to the socket, waits included.";
    REQUEST_WORKED_SECONDS = Summary "millstream_request_worked_seconds" ["api", "quantile"] "The same without the time that a long poll waited for records (Fetch).";
    FLUSH_ROUNDS = Counter "millstream_flush_rounds_total" [] "Flush rounds done.";
    FLUSH_FAILURES = Counter "millstream_flush_failures_total" [] "Flush rounds that failed; the first is final until a restart.";
    APPENDED_BYTES = Counter "millstream_appended_bytes_total" [] "Bytes appended by producers.";
    APPENDED_BATCHES = Counter "millstream_appended_batches_total" [] "Record batches appended by producers.";
    PARTITIONS_OFFLINE = Gauge "millstream_partitions_offline" [] "Partitions taken offline by an error.";
    COORDINATOR_PANICS = Counter "millstream_coordinator_panics_total" [] "Coordinator shards ended by a panic; each is loaded anew when it is asked.";
    TOPICS = Gauge "millstream_topics" [] "Topics that there are.";
    PARTITIONS = Gauge "millstream_partitions" [] "Partitions that this broker leads.";
    TOPICS_NOT_SHOWN = Gauge "millstream_topics_not_shown" [] "Topics beyond the first 1,000 by name, which are not told of one by one.";
    TOPIC_PARTITIONS = Gauge "millstream_topic_partitions" ["topic"] "Partitions of a topic that this broker leads.";
    TOPIC_SIZE_BYTES = Gauge "millstream_topic_size_bytes" ["topic"] "Bytes of a topic's logs.";
    TOPIC_IN_BYTES = Counter "millstream_topic_in_bytes_total" ["topic"] "Bytes appended to a topic by producers.";
    TOPIC_IN_RECORDS = Counter "millstream_topic_in_records_total" ["topic"] "Records appended to a topic by producers.";
    TOPIC_IN_BATCHES = Counter "millstream_topic_in_batches_total" ["topic"] "Record batches appended to a topic by producers.";
    TOPIC_OUT_BYTES = Counter "millstream_topic_out_bytes_total" ["topic"] "Bytes of a topic given to fetchers.";
    TOPIC_OUT_RECORDS = Counter "millstream_topic_out_records_total" ["topic"] "Offsets of a topic given to fetchers.";
    TOPIC_AT_RISK_RECORDS = Gauge "millstream_topic_at_risk_records" ["topic"] "Records of a topic appended and not yet durable.";
    TOPIC_AT_RISK_BYTES = Gauge "millstream_topic_at_risk_bytes" ["topic"] "Bytes of a topic appended and not yet durable.";
    TOPIC_AT_RISK_SECONDS = Gauge "millstream_topic_at_risk_seconds" ["topic"] "Age of the oldest record of a topic that is not yet durable; 0 without any.";
    PRODUCE_SECONDS = Summary "millstream_produce_seconds" ["topic", "stage", "quantile"] "Produce requests that succeeded: from the last byte received to the append (append), from there to the watermark or disk that acks asks for (settle), from there to the reply handed to the socket (acknowledge), all three (total). An empty topic stands for those without a histogram of their own.";
    PARTITIONS_NOT_SHOWN = Gauge "millstream_partitions_not_shown" [] "With ?partitions=true: partitions beyond the first 20,000, which are not told of.";
    PARTITION_LOG_START = Gauge "millstream_partition_log_start_offset" ["topic", "partition"] "With ?partitions=true: first offset there is.";
    PARTITION_HIGH_WATERMARK = Gauge "millstream_partition_high_watermark_offset" ["topic", "partition"] "With ?partitions=true: offset behind the last record that consumers see.";
    PARTITION_LOG_END = Gauge "millstream_partition_log_end_offset" ["topic", "partition"] "With ?partitions=true: offset that the next record gets.";
    PARTITION_SIZE_BYTES = Gauge "millstream_partition_size_bytes" ["topic", "partition"] "With ?partitions=true: bytes of the log.";
    GROUPS_NOT_SHOWN = Gauge "millstream_groups_not_shown" [] "Groups with a lag that are not told of one by one, beyond the first 1,000.";
    GROUP_LAG_RECORDS = Gauge "millstream_group_lag_records" ["group"] "Records between what a group has committed and the watermark, over its partitions.";
    GROUP_LAG_SECONDS = Gauge "millstream_group_lag_seconds" ["group"] "Age of the oldest record that a group has not committed; 0 at no lag, absent where it is not known.";
    GROUP_SECONDS = Summary "millstream_group_seconds" ["group", "stage", "quantile"] "From the append of a record to its group's commit behind it (commit), or to the fetch of a member that gives it (fetch). An empty group stands for those without a histogram of their own.";
    FETCHES_UNATTRIBUTED = Counter "millstream_fetches_unattributed_total" [] "Partitions given to fetchers that are not one known member of one group.";
    HISTOGRAMS = Gauge "millstream_histograms" [] "Latency histograms kept, 11 KiB each, at most millstream.histograms.max.";
    PROCESS_CPU_SECONDS = Counter "millstream_process_cpu_seconds_total" [] "Processor time of the process, user and system.";
    PROCESS_RESIDENT_BYTES = Gauge "millstream_process_resident_bytes" [] "Memory of the process; the pages of mapped logs that are in memory count too.";
    PROCESS_OPEN_FILES = Gauge "millstream_process_open_files" [] "Files, sockets and the like that the process has open.";
}

/// A page of metrics as Prometheus reads it (text format 0.0.4): head of a metric, then its samples.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
}

impl Page {
    /// Begins a metric.
    pub fn metric(&mut self, metric: &Metric) {
        let Metric { name, kind, help, .. } = metric;
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {}", kind.name());
    }

    /// One sample; `values` are those of the metric's labels, in their order (a summary's sum and count have none for the quantile). `suffix` is `_sum` or `_count` for those.
    ///
    /// Panics on more values than the metric has labels: a mistake of the caller.
    pub fn sample(&mut self, metric: &Metric, suffix: &str, values: &[&str], value: impl Display) {
        assert!(values.len() <= metric.labels.len(), "{}: {values:?}", metric.name);
        self.text.push_str(metric.name);
        self.text.push_str(suffix);
        for (n, (label, text)) in metric.labels.iter().zip(values).enumerate() {
            self.text.push(if n == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            for c in text.chars() {
                match c {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    c => self.text.push(c),
                }
            }
            self.text.push('"');
        }
        let end = if values.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{end} {value}");
    }

    /// A metric of one sample without labels.
    pub fn single(&mut self, metric: &Metric, value: impl Display) {
        self.metric(metric);
        self.sample(metric, "", &[], value);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// A node's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// Connections now open.
    pub connections: Gauge,
    /// The same, for whoever wants to read it.
    pub connections_open: Arc<AtomicU64>,
    /// Connections accepted.
    pub connections_opened: Counter,
    /// Connections closed for a broken bound or an unreadable frame.
    pub connections_refused: Counter,
    /// Requests taken.
    pub requests: Counter,
    /// Bytes received in requests.
    pub request_bytes: Counter,
    /// Bytes sent in replies.
    pub reply_bytes: Counter,
    /// Flush rounds done.
    pub flush_rounds: Counter,
    /// Flush rounds that failed.
    pub flush_failures: Counter,
    /// Bytes appended by producers.
    pub appended_bytes: Counter,
    /// Record batches appended by producers.
    pub appended_batches: Counter,
    /// Partitions taken offline by an error.
    pub partitions_offline: Gauge,
    /// Coordinator shards ended by a panic.
    pub coordinator_panics: Counter,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl Metrics {
    /// A fresh recorder with all handles made.
    pub fn new() -> Metrics {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let counter = |metric: &Metric| {
            recorder.describe_counter(KeyName::from_const_str(metric.name), None, metric.help.into());
            recorder.register_counter(&Key::from_name(metric.name), &META)
        };
        let gauge = |metric: &Metric| {
            recorder.describe_gauge(KeyName::from_const_str(metric.name), None, metric.help.into());
            recorder.register_gauge(&Key::from_name(metric.name), &META)
        };
        recorder.describe_counter(
            KeyName::from_const_str(UNSUPPORTED_VERSION.name),
            None,
            UNSUPPORTED_VERSION.help.into(),
        );
        Metrics {
            connections: gauge(&CONNECTIONS),
            connections_open: Arc::default(),
            connections_opened: counter(&CONNECTIONS_OPENED),
            connections_refused: counter(&CONNECTIONS_REFUSED),
            requests: counter(&REQUESTS),
            request_bytes: counter(&REQUEST_BYTES),
            reply_bytes: counter(&REPLY_BYTES),
            flush_rounds: counter(&FLUSH_ROUNDS),
            flush_failures: counter(&FLUSH_FAILURES),
            appended_bytes: counter(&APPENDED_BYTES),
            appended_batches: counter(&APPENDED_BATCHES),
            partitions_offline: gauge(&PARTITIONS_OFFLINE),
            coordinator_panics: counter(&COORDINATOR_PANICS),
            recorder: Arc::new(recorder),
            handle,
        }
    }

    /// Counts a connection closed for an unsupported API version ([`UNSUPPORTED_VERSION`]). Keys and versions are
    /// clamped to what could exist, so that labels stay bounded.
    pub fn unsupported_version(&self, api_key: i16, version: i16) {
        let labels = vec![
            Label::new("api_key", if (0..=127).contains(&api_key) { api_key.to_string() } else { "other".into() }),
            Label::new("version", if (0..=31).contains(&version) { version.to_string() } else { "other".into() }),
        ];
        self.recorder.register_counter(&Key::from_parts(UNSUPPORTED_VERSION.name, labels), &META).increment(1);
    }

    /// The handles as Prometheus' text: the beginning of the page.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Housekeeping of the recorder; call every 5 s.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

static META: Metadata<'static> = Metadata::new("millstream", Level::INFO, None);

#[cfg(test)]
mod tests {
    use super::*;

    const INTRODUCTION: &str = "# Metrics

`GET /metrics` on the HTTP listener, in Prometheus' text format. Counters and summaries are of everything since the start of the process. What is told by topic stops at 1,000
topics, by group at 1,000 groups; partitions are told of on demand (`/metrics?partitions=true`). Summaries by topic and group are kept for as many as `millstream.histograms.max` has
room for. With `millstream.figures=false` traffic by topic and summaries are absent.

";

    fn page() -> String {
        let mut page = INTRODUCTION.to_string();
        page.push_str("| name | type | labels | meaning |\n| --- | --- | --- | --- |\n");
        for m in METRICS {
            let _ = writeln!(page, "| `{}` | {} | {} | {} |", m.name, m.kind.name(), m.labels.join(", "), m.help);
        }
        page
    }

    /// `MILLSTREAM_TEST_WRITE_DOCS=1 cargo test -p millstream --lib metrics_page` writes it anew.
    #[test]
    fn the_metrics_page_is_the_declarations() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        if std::env::var_os("MILLSTREAM_TEST_WRITE_DOCS").is_some() {
            std::fs::write(&path, page()).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap();
        assert!(written == page(), "docs/metrics.md is not what the declarations say: write it anew");
    }

    #[test]
    fn declarations_keep_the_rules_of_names() {
        for m in METRICS {
            assert_eq!(METRICS.iter().filter(|other| other.name == m.name).count(), 1, "{}", m.name);
            assert_eq!(m.name.ends_with("_total"), m.kind == Kind::Counter, "{}", m.name);
            assert_eq!(m.labels.last() == Some(&"quantile"), m.kind == Kind::Summary, "{}", m.name);
            assert!(m.name.starts_with("millstream") && m.help.ends_with('.') && !m.help.contains('|'), "{}", m.name);
        }
    }

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut page = Page::default();
        page.single(&TOPICS, 3);
        page.metric(&GROUP_SECONDS);
        page.sample(&GROUP_SECONDS, "", &["a\"b\\c\nd", "fetch", "0.5"], 0.25);
        page.sample(&GROUP_SECONDS, "_count", &["g", "fetch"], 7);
        let help = GROUP_SECONDS.help;
        let expected = format!(
            "# HELP millstream_topics Topics that there are.\n# TYPE millstream_topics gauge\nmillstream_topics 3\n\
             # HELP millstream_group_seconds {help}\n# TYPE millstream_group_seconds summary\n\
             millstream_group_seconds{{group=\"a\\\"b\\\\c\\nd\",stage=\"fetch\",quantile=\"0.5\"}} 0.25\n\
             millstream_group_seconds_count{{group=\"g\",stage=\"fetch\"}} 7\n"
        );
        assert_eq!(page.finish(), expected);
    }
}
