//! The runs: producing, consuming, both.

use super::{
    pace::Plan,
    report::Report,
    samples::{INTERVAL, Samples},
};
use crate::{
    Env,
    client::{
        Cluster, ClusterOptions, Consumer, ConsumerOptions, Delivery, NewRecord, Producer, ProducerOptions, Start,
        offsets,
    },
};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// How long nothing more has to come before what is missing counts as lost.
const MISSING: Duration = Duration::from_secs(10);

/// How often it is looked whether all has come, once all has been sent.
const LOOK: Duration = Duration::from_millis(20);

/// What a run puts on the broker.
#[derive(Debug, Clone)]
pub struct Load {
    pub env: Env,
    pub bootstrap: String,
    pub topic: String,
    pub plan: Plan,
    pub options: ProducerOptions,
    pub warm_up: Duration,
    /// Producers, or consumers.
    pub clients: u16,
    /// 16 or more.
    pub record_bytes: usize,
    pub hdr: bool,
}

/// Records whose value begins with this number belong to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    run: u64,
    /// When the record was due, ns after the start.
    due_ns: u64,
}

impl Stamp {
    fn write(self, value: &mut [u8]) {
        value[..8].copy_from_slice(&self.run.to_be_bytes());
        value[8..16].copy_from_slice(&self.due_ns.to_be_bytes());
    }

    fn read(value: &[u8]) -> Option<Stamp> {
        let (run, rest) = value.split_first_chunk::<8>()?;
        let (due_ns, _) = rest.split_first_chunk::<8>()?;
        Some(Stamp { run: u64::from_be_bytes(*run), due_ns: u64::from_be_bytes(*due_ns) })
    }
}

/// What a run has come to so far.
#[derive(Debug)]
struct Tally {
    began: Instant,
    warm_up_ns: u64,
    samples: Mutex<Samples>,
    records: AtomicU64,
    bytes: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<String>>,
    /// When the last of them was counted, ns after the start.
    last_ns: AtomicU64,
}

impl Tally {
    fn new(load: &Load, began: Instant) -> Arc<Tally> {
        Arc::new(Tally {
            began,
            warm_up_ns: load.warm_up.as_nanos() as u64,
            samples: Mutex::new(Samples::new(load.hdr)),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_failure: Mutex::default(),
            last_ns: AtomicU64::new(0),
        })
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn samples(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Records that were due then have come through, each with so many bytes.
    fn done(&self, due_ns: &[u64], record_bytes: usize) {
        let now_ns = self.now_ns();
        let mut samples = self.samples();
        let mut counted = 0;
        for due in due_ns.iter().filter(|due| **due >= self.warm_up_ns) {
            samples.record(Duration::from_nanos(now_ns.saturating_sub(*due)), 1);
            counted += 1;
        }
        drop(samples);
        self.count(counted, counted * record_bytes as u64, now_ns);
    }

    fn count(&self, records: u64, bytes: u64, now_ns: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_ns.fetch_max(now_ns, Ordering::Relaxed);
    }

    fn lost(&self, records: u64, why: impl FnOnce() -> String) {
        self.failed.fetch_add(records, Ordering::Relaxed);
        let mut first = self.first_failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        first.get_or_insert_with(why);
    }

    fn report(&self, work: &'static str, latency: Option<&'static str>) -> Report {
        let mut samples = self.samples();
        samples.turn(self.began.elapsed());
        let samples = std::mem::replace(&mut *samples, Samples::new(false));
        let took_ns = self.last_ns.load(Ordering::Relaxed).saturating_sub(self.warm_up_ns);
        Report {
            work,
            setup: Vec::new(),
            records: self.records.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            took: Duration::from_nanos(took_ns),
            failed: self.failed.load(Ordering::Relaxed),
            first_failure: self.first_failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone(),
            latencies: latency.map(|name| (name, samples)).into_iter().collect(),
        }
    }
}

/// Runs `work` while seconds are told apart and, where a person watches, shown.
async fn watched<T>(tally: &Tally, plan: &Plan, work: impl Future<Output = T>) -> T {
    // Hidden where stderr is no terminal.
    let bar = match (plan.records, plan.duration) {
        (Some(records), _) => ProgressBar::new(records),
        (None, Some(duration)) => ProgressBar::new(duration.as_secs()),
        (None, None) => ProgressBar::new_spinner(),
    };
    let style = ProgressStyle::with_template("{elapsed:>4} {bar:30} {msg}").expect("the template is sound");
    bar.set_style(style);
    let mut second = tokio::time::interval_at(tally.began + INTERVAL, INTERVAL);
    let mut work = std::pin::pin!(work);
    let mut before = 0;
    loop {
        tokio::select! {
            biased;
            done = work.as_mut() => {
                bar.finish_and_clear();
                return done;
            }
            _ = second.tick() => {
                tally.samples().turn(tally.began.elapsed());
                let records = tally.records.load(Ordering::Relaxed);
                bar.set_position(if plan.records.is_some() { records } else { tally.began.elapsed().as_secs() });
                bar.set_message(format!("{} records/s", records - before));
                before = records;
            }
        }
    }
}

/// Publishes.
pub async fn produce(load: &Load) -> Result<Report, String> {
    let producers = start_producers(load).await?;
    let tally = Tally::new(load, Instant::now());
    let _ = producers.told.set(tally.clone());
    let feeding = feed(load, &producers.all, &tally, load.env.random_u64());
    watched(&tally, &load.plan, feeding).await?;
    Ok(tally.report("produce", Some("from due to acknowledged")))
}

/// Producers, and where their deliveries are told once the run has begun.
struct Producers {
    all: Vec<Producer>,
    told: Arc<std::sync::OnceLock<Arc<Tally>>>,
}

async fn start_producers(load: &Load) -> Result<Producers, String> {
    let told = Arc::new(std::sync::OnceLock::<Arc<Tally>>::new());
    let mut all = Vec::new();
    for _ in 0..load.clients {
        let options = ClusterOptions::parse(&load.bootstrap).map_err(|e| e.to_string())?;
        let cluster = Cluster::connect(&load.env, options).await.map_err(|e| e.to_string())?;
        let (told, record_bytes) = (told.clone(), load.record_bytes);
        let on_delivery = move |delivery: Delivery<'_>| {
            let Some(tally) = told.get() else { return };
            match delivery.result {
                Ok(_) => tally.done(delivery.tokens, record_bytes),
                Err(e) => tally.lost(delivery.tokens.len() as u64, || e.to_string()),
            }
        };
        let started = Producer::start(&cluster, &load.topic, load.options.clone(), on_delivery).await;
        all.push(started.map_err(|e| e.to_string())?);
    }
    Ok(Producers { all, told })
}

/// Reads the topic from its first record to where it ended when the run began, as fast as it goes; fills it first where it is the run's own.
pub async fn consume(load: &Load, cluster: &Cluster, own: bool) -> Result<Report, String> {
    if own {
        let fill = Plan { per_second: None, ..load.plan };
        let load = Load { plan: fill, warm_up: Duration::ZERO, ..load.clone() };
        let producers = start_producers(&load).await?;
        let tally = Tally::new(&load, Instant::now());
        let _ = producers.told.set(tally.clone());
        feed(&load, &producers.all, &tally, 0).await?;
        let filled = tally.report("fill", None);
        if filled.failed > 0 {
            let why = filled.first_failure.unwrap_or_default();
            return Err(format!(
                "the topic could not be filled: {} records were not acknowledged ({why})",
                filled.failed
            ));
        }
    }
    let topic = cluster.topic(&load.topic).await.map_err(|e| e.to_string())?;
    let mut shares: Vec<Vec<(i32, i64)>> =
        vec![Vec::new(); usize::from(load.clients).min(topic.partitions.len()).max(1)];
    for partition in 0..topic.partitions.len() as i32 {
        let end = offsets::offset(cluster, &load.topic, partition, Start::Latest).await.map_err(|e| e.to_string())?;
        let count = shares.len();
        shares[partition as usize % count].push((partition, end));
    }
    let tally = Tally::new(load, Instant::now());
    let readers = shares.into_iter().map(|share| {
        let (load, tally) = (load.clone(), tally.clone());
        load.env.clone().spawn("reader", async move { read(&load, share, &tally).await })
    });
    let readers = async {
        for reader in readers.collect::<Vec<_>>() {
            reader.await.map_err(|e| e.to_string())??;
        }
        Ok::<_, String>(())
    };
    watched(&tally, &load.plan, readers).await?;
    Ok(tally.report("consume", Some("wait for the next records")))
}

/// Reads some partitions up to an offset each, or until the plan is done.
async fn read(load: &Load, mut left: Vec<(i32, i64)>, tally: &Tally) -> Result<(), String> {
    let options = ClusterOptions::parse(&load.bootstrap).map_err(|e| e.to_string())?;
    let cluster = Cluster::connect(&load.env, options).await.map_err(|e| e.to_string())?;
    let mut consumer = Consumer::new(&cluster, ConsumerOptions::default());
    for (partition, _) in &left {
        consumer.assign(&load.topic, *partition, Start::Earliest).await.map_err(|e| e.to_string())?;
    }
    let at = |consumer: &Consumer, partition: i32| {
        consumer.positions().find(|(_, p, _)| *p == partition).map_or(i64::MAX, |(_, _, offset)| offset)
    };
    left.retain(|(partition, end)| at(&consumer, *partition) < *end);
    let is_over = || {
        load.plan.records.is_some_and(|all| tally.records.load(Ordering::Relaxed) >= all)
            || load.plan.duration.is_some_and(|end| tally.began.elapsed() >= end)
    };
    while !left.is_empty() && !is_over() {
        let asked_ns = tally.now_ns();
        let came = consumer.poll(INTERVAL).await.map_err(|e| e.to_string())?;
        if !came.is_empty() && asked_ns >= tally.warm_up_ns {
            let waited = Duration::from_nanos(tally.now_ns() - asked_ns);
            tally.samples().record(waited, 1);
        }
        for fetched in came {
            let now_ns = tally.now_ns();
            if now_ns >= tally.warm_up_ns {
                let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
                let bytes: usize = fetched.records.iter().map(|r| length(&r.key) + length(&r.value)).sum();
                tally.count(fetched.records.len() as u64, bytes as u64, now_ns);
            }
            left.retain(|(partition, end)| *partition != fetched.partition || fetched.next_offset < *end);
        }
    }
    Ok(())
}

/// Publishes and reads: both latencies, and what was acknowledged and not seen again.
pub async fn e2e(load: &Load, cluster: &Cluster) -> Result<Report, String> {
    let topic = cluster.topic(&load.topic).await.map_err(|e| e.to_string())?;
    let options = ConsumerOptions { fetch_wait: Duration::from_millis(500), ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(cluster, options);
    for partition in 0..topic.partitions.len() as i32 {
        consumer.assign(&load.topic, partition, Start::Latest).await.map_err(|e| e.to_string())?;
    }
    let producers = start_producers(load).await?;
    let began = Instant::now();
    let (sent, seen) = (Tally::new(load, began), Tally::new(load, began));
    let _ = producers.told.set(sent.clone());
    let run = load.env.random_u64();
    // All that came, what does not count for the figures too.
    let came = AtomicU64::new(0);
    let mut reading = std::pin::pin!(follow(&mut consumer, &seen, &came, run));
    let mut feeding = std::pin::pin!(feed(load, &producers.all, &sent, run));
    let work = async {
        let all = tokio::select! {
            biased;
            failed = reading.as_mut() => return failed,
            all = feeding.as_mut() => all?,
        };
        let delivered = all.saturating_sub(sent.failed.load(Ordering::Relaxed));
        let (mut before, mut quiet_since) = (0, Instant::now());
        loop {
            let now = came.load(Ordering::Relaxed);
            if now != before {
                (before, quiet_since) = (now, Instant::now());
            }
            if now >= delivered || quiet_since.elapsed() >= MISSING {
                return Ok(delivered);
            }
            if let Ok(failed) = tokio::time::timeout(LOOK, reading.as_mut()).await {
                return failed;
            }
        }
    };
    let delivered = watched(&seen, &load.plan, work).await?;
    let (sent, mut report) =
        (sent.report("produce", Some("from due to acknowledged")), seen.report("e2e", Some("from due to consumed")));
    let missing = delivered.saturating_sub(came.load(Ordering::Relaxed));
    report.failed = sent.failed + missing;
    report.first_failure = sent
        .first_failure
        .or((missing > 0).then(|| format!("{missing} acknowledged records did not reach the consumer")));
    report.latencies.extend(sent.latencies);
    Ok(report)
}

/// Counts what comes of a run, for ever; what ends it is an error.
async fn follow(consumer: &mut Consumer, seen: &Tally, came: &AtomicU64, run: u64) -> Result<u64, String> {
    loop {
        let fetched = consumer.poll(INTERVAL).await.map_err(|e| e.to_string())?;
        for fetched in &fetched {
            let values = fetched.records.iter().filter_map(|r| r.value.as_deref());
            let due: Vec<u64> = values.filter_map(Stamp::read).filter(|s| s.run == run).map(|s| s.due_ns).collect();
            seen.done(&due, fetched.records.first().and_then(|r| r.value.as_ref()).map_or(0, bytes::Bytes::len));
            came.fetch_add(due.len() as u64, Ordering::Relaxed);
        }
    }
}

/// Sends everything that the plan asks for and waits until it is delivered. The producers share the plan.
async fn feed(load: &Load, producers: &[Producer], tally: &Tally, run: u64) -> Result<u64, String> {
    let count = producers.len() as u64;
    let feeders = producers.iter().enumerate().map(|(n, producer)| {
        let n = n as u64;
        // The first ones take what is left over.
        let share = |all: u64| all / count + u64::from(n < all % count);
        let plan = Plan {
            per_second: load.plan.per_second.map(|rate| rate / count as f64),
            records: load.plan.records.map(share),
            duration: load.plan.duration,
        };
        feed_one(load, plan, producer, tally, run)
    });
    let sent = futures_util::future::try_join_all(feeders).await?;
    Ok(sent.iter().sum())
}

/// Sends one producer's share; gives how many records were sent.
async fn feed_one(load: &Load, plan: Plan, producer: &Producer, tally: &Tally, run: u64) -> Result<u64, String> {
    let mut value = filler(&load.env, load.record_bytes);
    let mut sent = 0;
    let mut send = async |due: Duration| {
        let due_ns = due.as_nanos() as u64;
        Stamp { run, due_ns }.write(&mut value);
        let record = NewRecord { value: Some(&value), token: due_ns, ..NewRecord::default() };
        producer.send(record).await.map_err(|e| e.to_string())
    };
    if plan.per_second.is_some() {
        let mut told = plan.start(&load.env, tally.began);
        while let Some(due) = told.recv().await {
            while sent < due {
                send(plan.due(sent)).await?;
                sent += 1;
            }
        }
    } else {
        let is_over = |sent: u64| {
            plan.records.is_some_and(|all| sent >= all) || plan.duration.is_some_and(|end| tally.began.elapsed() >= end)
        };
        while !is_over(sent) {
            // Due when there is room for it.
            send(tally.began.elapsed()).await?;
            sent += 1;
            // Where there is always room nobody else would have a turn.
            if sent % 256 == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
    producer.flush().await;
    Ok(sent)
}

/// Bytes that do not compress.
fn filler(env: &Env, bytes: usize) -> Vec<u8> {
    let mut filler = Vec::with_capacity(bytes + 8);
    while filler.len() < bytes {
        filler.extend_from_slice(&env.random_u64().to_be_bytes());
    }
    filler.truncate(bytes);
    filler
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        let mut value = filler(&Env::real(), 20);
        assert_eq!(value.len(), 20);
        let stamp = Stamp { run: u64::MAX - 1, due_ns: 77 };
        stamp.write(&mut value);
        assert_eq!(Stamp::read(&value), Some(stamp));
        assert_eq!(Stamp::read(&value[..15]), None);
    }
}
