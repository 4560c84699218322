//! The figures against clients that inject known delays. What is told is held between the delay, which this test measured, and this test's own clock around the whole: no time here is absolute.

use crate::{
    flush_failure::shim,
    members::{Member, ready},
    support::{Options, eventually, http_get, temp},
    wire::{ANYONE, Client, batch, now_ms},
};
use bytes::{BufMut, Bytes, BytesMut};
use hdrhistogram::Histogram;
use millstream::{
    Config, Env, Node,
    broker::latency::{GroupStage, Subject},
};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
/// The delay that is injected: far above what a busy machine adds to a step.
const DELAY: Duration = Duration::from_millis(400);

/// A broker in this process, so that its histograms are read as they are.
struct World {
    runtime: Runtime,
    node: Option<Node>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(settings: &[(&str, &str)]) -> World {
        let dir = temp();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let config = settings.iter().fold(Config::local(dir.path()), |config, (name, value)| config.set(name, value));
        let node = runtime.block_on(Node::start(config, Env::real())).unwrap();
        World { runtime, node: Some(node), _dir: dir }
    }

    fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    fn kafka(&self) -> String {
        self.node().kafka().to_string()
    }

    fn page(&self, path: &str) -> String {
        let (status, page) = http_get(&self.node().http().to_string(), path);
        assert_eq!(status, 200, "{page}");
        page
    }

    /// A histogram, once it has `count` samples: the last may be added just after its reply left.
    fn histogram(&self, subject: &Subject, count: u64) -> Histogram<u32> {
        let latency = &self.node().broker().latency;
        eventually("the samples are in", || latency.histogram(subject).filter(|h| h.len() >= count))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            self.runtime.block_on(node.stop());
        }
    }
}

fn group(stage: GroupStage) -> Subject {
    Subject::Group { name: "g".into(), stage }
}

/// A duration as the histogram may tell it: two digits are exact.
fn least(duration: Duration) -> u64 {
    (duration.as_micros() as f64 * 0.99) as u64
}

fn most(duration: Duration) -> u64 {
    (duration.as_micros() as f64 * 1.01) as u64 + 1
}

#[test]
fn a_produce_that_waits_for_its_flush_shows_the_wait_where_it_was() {
    let dir = temp();
    let hold = dir.path().join("hold");
    let options = Options::new(&dir.path().join("data")).env("LD_PRELOAD", shim(dir.path())).env("SHIM_HOLD", &hold);
    let broker = options.start();
    let mut c = Client::connect(&broker.kafka);
    assert_eq!(c.create_topic("t", 1, &[]), 0);
    let at_risk = |what: &str| {
        let (_, page) = broker.get("/metrics");
        let name = format!("millstream_topic_at_risk_{what}{{topic=\"t\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_else(|| panic!("{name}: {page}"));
        value.parse::<f64>().unwrap()
    };
    assert_eq!((at_risk("records"), at_risk("seconds")), (0.0, 0.0));
    std::fs::write(&hold, "").unwrap();
    let around = Instant::now();
    let producing = std::thread::spawn(move || {
        let answer = c.produce("t", 0, batch(ANYONE, now_ms(), &["a", "b"]), -1);
        assert_eq!(answer.error_code, 0);
        c
    });
    eventually("it was appended", || (at_risk("records") == 2.0).then_some(()));
    let held = Instant::now();
    std::thread::sleep(DELAY);
    assert!(at_risk("bytes") > 0.0);
    let (age_s, age_most) = (at_risk("seconds"), around.elapsed());
    assert!(age_s >= DELAY.as_secs_f64() - 0.001 && age_s <= age_most.as_secs_f64() + 0.001, "{age_s} s");
    let held = held.elapsed();
    std::fs::remove_file(&hold).unwrap();
    let _c = producing.join().unwrap();
    let around = around.elapsed();
    let stages = eventually("the request was counted", || {
        let page = serde_json::from_str::<serde_json::Value>(&broker.get("/v1/latency?kind=topic&name=t").1).unwrap();
        let all = page["histograms"].as_array().unwrap().clone();
        (all.len() == 4).then_some(all)
    });
    let of = |stage: &str| {
        let h = stages.iter().find(|h| h["stage"] == stage).unwrap_or_else(|| panic!("no {stage} in {stages:?}"));
        assert_eq!(h["count"], 1, "{h}");
        h["max_us"].as_u64().unwrap()
    };
    let settled = of("appended_to_settled");
    assert!((least(held)..=most(around)).contains(&settled), "held for {held:?} of {around:?}, told {settled} us");
    let (appended, acknowledged) = (of("received_to_appended"), of("settled_to_acknowledged"));
    let total = of("received_to_acknowledged");
    assert!(
        appended + acknowledged <= most(around - held),
        "{appended} + {acknowledged} us beside {held:?} of {around:?}"
    );
    assert!((settled..=most(around)).contains(&total), "{total}");
    assert_eq!((at_risk("records"), at_risk("bytes"), at_risk("seconds")), (0.0, 0.0, 0.0));
}

#[test]
fn a_long_poll_counts_whole_and_without_its_wait() {
    let world = World::new(&[]);
    let (mut reader, mut writer) = (Client::connect(&world.kafka()), Client::connect(&world.kafka()));
    assert_eq!(writer.create_topic("t", 1, &[]), 0);
    let requests = || {
        let page = world.page("/metrics");
        page.lines().find(|line| line.starts_with("millstream_requests_total ")).unwrap().to_string()
    };
    let before = requests();
    let around = Instant::now();
    let reading = std::thread::spawn(move || {
        let got = reader.fetch("t", 0, 0, 60_000);
        assert_eq!((got.error_code, got.high_watermark), (0, 1));
    });
    eventually("the fetch has come", || (requests() != before).then_some(()));
    let waiting = Instant::now();
    std::thread::sleep(DELAY);
    let waiting = waiting.elapsed();
    assert_eq!(writer.produce("t", 0, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
    reading.join().unwrap();
    let around = around.elapsed();
    let whole = world.histogram(&Subject::Api(FETCH), 1);
    assert!(
        (least(waiting)..=most(around)).contains(&whole.max()),
        "waited {waiting:?} of {around:?}: {}",
        whole.max()
    );
    let worked = world.histogram(&Subject::ApiWorked(FETCH), 1);
    assert_eq!((whole.len(), worked.len()), (1, 1));
    // Between its count and the wait it worked; that is less than half of the delay on any machine that is alive.
    assert!(worked.max() <= most(around - waiting / 2), "worked {} us beside {waiting:?} of {around:?}", worked.max());
    assert_eq!(world.histogram(&Subject::Api(PRODUCE), 1).len(), 1);
}

#[test]
fn a_commit_shows_how_long_ago_the_record_before_it_was_appended() {
    let world = World::new(&[]);
    let mut c = ready(&world.kafka(), "t", 1, "g");
    let mut member = Member::new(&world.kafka(), "g");
    let mut commit = |offset: i64| assert_eq!(member.commit(&[("t", 0, offset, "")]), [0]);
    let around = Instant::now();
    assert_eq!(c.produce("t", 0, batch(ANYONE, now_ms(), &["a", "b"]), -1).error_code, 0);
    let since = Instant::now();
    std::thread::sleep(DELAY);
    let waited = since.elapsed();
    // Another one, appended just now: a commit before it has nothing to do with it.
    assert_eq!(c.produce("t", 0, batch(ANYONE, now_ms(), &["c"]), -1).error_code, 0);
    commit(2);
    let around = around.elapsed();
    // The append clock counts whole milliseconds.
    let ms = Duration::from_millis(1);
    let told = world.histogram(&group(GroupStage::Commit), 1);
    assert!(
        (least(waited - ms)..=most(around + ms)).contains(&told.min()),
        "{waited:?} to {around:?}: {} us",
        told.min()
    );
    // What goes nowhere says nothing of the consumer: consumers repeat their last commit for ever.
    commit(2);
    commit(1);
    commit(2);
    commit(3);
    let told = world.histogram(&group(GroupStage::Commit), 3);
    assert_eq!(told.len(), 3, "the first one, and two that went forward");
    // A partition that this broker appended nothing to has no clock.
    commit(0);
    assert_eq!(world.histogram(&group(GroupStage::Commit), 3).len(), 3);
}

/// A consumer's assignment (version 0) as the consumer protocol has it.
fn assignment(topic: &str, partitions: &[i32]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(1);
    out.put_i16(topic.len() as i16);
    out.put_slice(topic.as_bytes());
    out.put_i32(partitions.len() as i32);
    partitions.iter().for_each(|p| out.put_i32(*p));
    out.put_i32(-1);
    out.freeze()
}

#[test]
fn a_fetch_is_laid_to_the_group_whose_member_owns_the_partition() {
    let world = World::new(&[]);
    let mut c = ready(&world.kafka(), "t", 2, "g");
    let unattributed = || world.node().broker().latency.unattributed();
    let mut member = Member::new(&world.kafka(), "g");
    member.join();
    let id = member.id.clone();
    member.send_sync(&[(&id, &assignment("t", &[0]))]);
    assert_eq!(member.synced().error_code, 0);
    assert_eq!(world.node().broker().readers.len(), 1);
    let around = Instant::now();
    for partition in [0, 1] {
        assert_eq!(c.produce("t", partition, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
    }
    let since = Instant::now();
    std::thread::sleep(DELAY);
    let waited = since.elapsed();
    assert_eq!(member.client.fetch("t", 0, 0, 0).high_watermark, 1);
    let around = around.elapsed();
    let ms = Duration::from_millis(1);
    let told = world.histogram(&group(GroupStage::Fetch), 1);
    assert!(
        (least(waited - ms)..=most(around + ms)).contains(&told.min()),
        "{waited:?} to {around:?}: {} us",
        told.min()
    );
    assert_eq!(unattributed(), 0);
    assert_eq!(member.client.fetch("t", 1, 0, 0).high_watermark, 1);
    assert_eq!(unattributed(), 1, "a partition that the member does not own");
    // A poll that gives nothing is nobody's.
    assert_eq!(member.client.fetch("t", 0, 1, 0).high_watermark, 1);
    assert_eq!((unattributed(), world.histogram(&group(GroupStage::Fetch), 1).len()), (1, 1));
    assert_eq!(member.leave(), 0);
    assert!(world.node().broker().readers.is_empty());
    assert_eq!(member.client.fetch("t", 0, 0, 0).high_watermark, 1);
    assert_eq!(unattributed(), 2);
}

#[test]
fn the_metrics_tell_of_topics_that_there_are_and_of_partitions_on_demand() {
    let world = World::new(&[]);
    let mut c = Client::connect(&world.kafka());
    assert_eq!(c.create_topic("t", 3, &[]), 0);
    let sent = batch(ANYONE, now_ms(), &["a", "b"]);
    let bytes = sent.len();
    assert_eq!(c.produce("t", 1, sent, -1).error_code, 0);
    assert_eq!(c.fetch("t", 1, 0, 0).high_watermark, 2);
    assert_eq!(c.fetch("t", 1, 1, 0).high_watermark, 2);
    // The last reply is counted just after it left.
    world.histogram(&Subject::Api(FETCH), 2);
    let page = world.page("/metrics");
    let out = 2 * bytes;
    for line in [
        "millstream_topics 1",
        "millstream_partitions 3",
        "millstream_topics_not_shown 0",
        "millstream_topic_partitions{topic=\"t\"} 3",
        "millstream_topic_in_records_total{topic=\"t\"} 2",
        "millstream_topic_in_batches_total{topic=\"t\"} 1",
        // The batch as a whole each time, and of its offsets those that were asked for.
        "millstream_topic_out_records_total{topic=\"t\"} 3",
        &format!("millstream_topic_in_bytes_total{{topic=\"t\"}} {bytes}"),
        &format!("millstream_topic_out_bytes_total{{topic=\"t\"}} {out}"),
        "millstream_request_seconds_count{api=\"Fetch\"} 2",
        "millstream_produce_seconds_count{topic=\"t\",stage=\"settle\"} 1",
        "millstream_fetches_unattributed_total 2",
    ] {
        assert!(page.lines().any(|l| l == line), "no {line} in\n{page}");
    }
    assert!(page.contains("millstream_process_resident_bytes ") && !page.contains("partition=\""), "{page}");
    every_line_is_declared(&page);
    let page = world.page("/metrics?partitions=true");
    for line in [
        "millstream_partition_log_end_offset{topic=\"t\",partition=\"1\"} 2",
        "millstream_partition_high_watermark_offset{topic=\"t\",partition=\"2\"} 0",
        "millstream_partitions_not_shown 0",
    ] {
        assert!(page.lines().any(|l| l == line), "no {line} in\n{page}");
    }
    every_line_is_declared(&page);
    assert_eq!(http_get(&world.node().http().to_string(), "/metrics?partition=1").0, 400);
    assert_eq!(c.delete_topic("t"), 0);
    eventually("the topic is gone", || (!world.page("/metrics").contains("topic=\"t\"")).then_some(()));
}

/// Each sample stands under the head of its metric, and there are no others.
fn every_line_is_declared(page: &str) {
    let mut head = "";
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with("# HELP ")) {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            head = kind.split(' ').next().unwrap();
            assert!(millstream::metrics::METRICS.iter().any(|metric| metric.name == head), "{head} is not declared");
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            let base = name.strip_suffix("_sum").or(name.strip_suffix("_count")).unwrap_or(name);
            assert!(name == head || base == head, "{line} stands under {head}");
        }
    }
}

#[test]
fn figures_can_be_switched_off() {
    let world = World::new(&[("millstream.figures", "false")]);
    let mut c = ready(&world.kafka(), "t", 1, "g");
    assert_eq!(c.produce("t", 0, batch(ANYONE, now_ms(), &["x"]), -1).error_code, 0);
    assert_eq!(c.fetch("t", 0, 0, 0).high_watermark, 1);
    let mut member = Member::new(&world.kafka(), "g");
    member.join_alone();
    assert_eq!(member.commit(&[("t", 0, 1, "")]), [0]);
    let broker = world.node().broker();
    assert_eq!((broker.latency.subjects(), broker.latency.made(), broker.readers.len()), (vec![], 0, 0));
    assert_eq!(broker.partitions.get("t", 0).unwrap().appended_ms(0), None);
    let page = world.page("/metrics");
    assert!(page.contains("millstream_topic_size_bytes{topic=\"t\"} ") && !page.contains("_in_bytes_total{"), "{page}");
}
