//! Our own client layer against a running broker.

use crate::support::{Broker, Options, PATIENCE, Proxy, temp};
use kafka_protocol::ResponseError;
use millstream::{
    Env,
    client::{
        Acks, Cluster, ClusterOptions, Compression, Consumer, ConsumerOptions, GroupConsumer, GroupOptions, NewRecord,
        Producer, ProducerOptions, Start, admin,
    },
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A topic name that nobody else uses, also on a foreign broker.
fn unique(stem: &str) -> String {
    format!("{stem}-{}", Env::real().random_uuid().simple())
}

async fn cluster(broker: &Broker) -> Cluster {
    Cluster::connect(&Env::real(), ClusterOptions::parse(&broker.kafka).unwrap()).await.unwrap()
}

/// All records of a topic's partitions from their beginning to the end they have now.
async fn all(cluster: &Cluster, topic: &str) -> Vec<(i32, millstream::client::Record)> {
    let mut consumer = Consumer::new(cluster, ConsumerOptions::default());
    let count = cluster.topic(topic).await.unwrap().partitions.len() as i32;
    for partition in 0..count {
        consumer.assign(topic, partition, Start::Earliest).await.unwrap();
    }
    let (mut out, mut at_end) = (Vec::new(), BTreeSet::new());
    while at_end.len() < count as usize {
        for fetched in consumer.poll(Duration::from_secs(5)).await.unwrap() {
            if fetched.is_at_end() {
                at_end.insert(fetched.partition);
            }
            out.extend(fetched.records.into_iter().map(|r| (fetched.partition, r)));
        }
    }
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_is_consumed_with_every_codec_and_ack() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    for (i, compression) in codecs.into_iter().enumerate() {
        let topic = unique("codec");
        let acks = [Acks::All, Acks::Leader, Acks::None][i % 3];
        let idempotent = i == 3;
        let options = ProducerOptions { acks, compression, idempotent, create_topic: true, ..Default::default() };
        let delivered: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
        let sink = delivered.clone();
        let producer = Producer::start(&cluster, &topic, options, move |delivery| {
            delivery.result.unwrap();
            sink.lock().unwrap().extend(delivery.tokens);
        })
        .await
        .unwrap();
        for n in 0..2_000u64 {
            let (key, value) = (format!("k{}", n % 7), format!("value {n}").repeat(20));
            let record = NewRecord {
                key: (n % 2 == 0).then_some(key.as_bytes()),
                value: Some(value.as_bytes()),
                headers: &[("h", Some(b"x")), ("null", None)],
                timestamp_ms: Some(1_000 + n as i64),
                token: n,
                ..Default::default()
            };
            producer.send(record).await.unwrap();
        }
        producer.close().await;
        assert_eq!(delivered.lock().unwrap().len(), 2_000, "{compression:?}");
        // Only acks=all says that readers see it.
        let read = loop {
            let read = all(&cluster, &topic).await;
            if read.len() >= 2_000 || acks == Acks::All {
                break read;
            }
        };
        let values: BTreeSet<_> = read.iter().map(|(_, r)| r.value.clone().unwrap()).collect();
        assert_eq!((read.len(), values.len()), (2_000, 2_000), "{compression:?}");
        let (_, record) = &read[0];
        assert_eq!(record.headers, [("h".into(), Some("x".into())), ("null".into(), None)]);
        assert!(read.iter().all(|(_, r)| (1_000..3_000).contains(&r.timestamp_ms)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_waited_for_gets_its_offset() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let topic = unique("one");
    let options = ProducerOptions { create_topic: true, linger: Duration::ZERO, ..Default::default() };
    let producer = Producer::start(&cluster, &topic, options, |_| {}).await.unwrap();
    for n in 0..5 {
        let record = NewRecord { value: Some(b"v"), partition: Some(0), ..Default::default() };
        assert_eq!(producer.send_and_wait(record).await, Ok(n));
    }
    let wrong = NewRecord { partition: Some(99), ..Default::default() };
    assert!(producer.send(wrong).await.is_err());
    assert!(Producer::start(&cluster, &unique("none"), ProducerOptions::default(), |_| {}).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_found_by_offset_end_and_time() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let topic = unique("starts");
    let options = ProducerOptions { create_topic: true, ..Default::default() };
    let producer = Producer::start(&cluster, &topic, options, |_| {}).await.unwrap();
    for n in 0..10 {
        let record =
            NewRecord { value: Some(b"v"), partition: Some(0), timestamp_ms: Some(100 * n), ..Default::default() };
        producer.send(record).await.unwrap();
    }
    producer.close().await;
    let mut consumer = Consumer::new(&cluster, ConsumerOptions::default());
    for (start, offset) in [
        (Start::Earliest, 0),
        (Start::Latest, 10),
        (Start::Offset(4), 4),
        (Start::BeforeEnd(3), 7),
        (Start::BeforeEnd(30), 0),
        (Start::Time(250), 3),
        (Start::Time(5_000), 10),
    ] {
        assert_eq!(consumer.assign(&topic, 0, start).await, Ok(offset), "{start:?}");
        let first = loop {
            let fetched = consumer.poll(Duration::from_secs(5)).await.unwrap();
            if let Some(fetched) = fetched.into_iter().next() {
                break fetched;
            }
        };
        assert_eq!(first.records.first().map(|r| r.offset), (offset < 10).then_some(offset), "{start:?}");
    }
    consumer.assign(&topic, 0, Start::Offset(99)).await.unwrap();
    assert!(consumer.poll(Duration::from_secs(5)).await.is_err());
}

async fn filled(cluster: &Cluster, topic: &str, partitions: i32, records: u32) {
    admin::create_topic(cluster, topic, Some(partitions), None, &[]).await.unwrap();
    let producer =
        Producer::start(cluster, topic, ProducerOptions::default(), |d| assert!(d.result.is_ok())).await.unwrap();
    for n in 0..records {
        let value = n.to_string();
        let partition = Some(n as i32 % partitions);
        producer.send(NewRecord { value: Some(value.as_bytes()), partition, ..Default::default() }).await.unwrap();
    }
    producer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_a_topic_and_the_one_that_stays_takes_over_where_the_other_committed() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let (topic, group) = (unique("shared"), unique("group"));
    filled(&cluster, &topic, 4, 400).await;
    let mut options = GroupOptions::new(&group, vec![topic.clone()]);
    options.heartbeat = Duration::from_millis(50);
    options.reset = Start::Earliest;
    let mut first = GroupConsumer::new(&cluster, options.clone());
    let mut second = GroupConsumer::new(&cluster, options);
    let mut seen: Vec<String> = Vec::new();
    let values = |fetched: Vec<millstream::client::Fetched>| -> Vec<String> {
        let records = fetched.into_iter().flat_map(|f| f.records);
        records.map(|r| String::from_utf8(r.value.unwrap().to_vec()).unwrap()).collect()
    };
    // Both poll until each has two partitions.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while first.positions().count() != 2 || second.positions().count() != 2 {
        assert!(tokio::time::Instant::now() < deadline, "{first:?} {second:?}");
        let wait = Duration::from_millis(20);
        let (a, b) = tokio::join!(first.poll(wait), second.poll(wait));
        seen.extend(values(a.unwrap()));
        seen.extend(values(b.unwrap()));
    }
    let facts = admin::describe_group(&cluster, &group).await.unwrap();
    assert_eq!((facts.state.as_str(), facts.members.len(), facts.protocol.as_str()), ("Stable", 2, "range"));
    second.close().await.unwrap();
    while first.positions().count() != 4 || seen.iter().collect::<BTreeSet<_>>().len() < 400 {
        assert!(tokio::time::Instant::now() < deadline, "{first:?}");
        seen.extend(values(first.poll(Duration::from_millis(50)).await.unwrap()));
    }
    // Nothing twice: every rebalance was committed before.
    assert_eq!(seen.len(), 400);
    first.close().await.unwrap();
    let committed = admin::committed(&cluster, &group).await.unwrap();
    let offsets: Vec<i64> = committed.values().map(|c| c.offset).collect();
    assert_eq!(offsets, [100; 4]);
    assert_eq!(admin::describe_group(&cluster, &group).await.unwrap().state, "Empty");
    admin::delete_group(&cluster, &group).await.unwrap();
}

/// A broker that answers every request with what `answer` makes of its first bytes, once for each connection.
fn liar(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> String {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut request = [0; 256];
            while let Ok(n @ 12..) = client.read(&mut request) {
                if client.write_all(&answer(&request[4..n])).is_err() {
                    break;
                }
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hostile_broker_answers_is_an_error_and_no_more() {
    let framed = |request: &[u8], body: &[u8]| {
        let mut out = (body.len() as i32 + 4).to_be_bytes().to_vec();
        out.extend(&request[4..8]);
        out.extend(body);
        out
    };
    type Lie = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;
    let lies: Vec<(&str, Lie)> = vec![
        ("a frame of 2 GiB", Box::new(|_| i32::MAX.to_be_bytes().to_vec())),
        ("a negative frame", Box::new(|_| (-5i32).to_be_bytes().to_vec())),
        ("an HTTP server", Box::new(|_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())),
        ("another's answer", Box::new(|_| [&8i32.to_be_bytes()[..], &[9; 8]].concat())),
        ("four billion APIs", Box::new(move |r| framed(r, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]))),
        ("too old, two billion APIs", { Box::new(move |r| framed(r, &[0, 35, 0x7f, 0xff, 0xff, 0xff])) }),
        ("nothing in it", Box::new(move |r| framed(r, &[]))),
    ];
    for (what, lie) in lies {
        let address = liar(lie);
        let mut options = ClusterOptions::parse(&address).unwrap();
        options.timeout = Duration::from_secs(10);
        let refused = Cluster::connect(&Env::real(), options).await.map(|_| ()).unwrap_err();
        println!("{what}: {refused}");
        assert!(refused.to_string().contains(&address), "{what}: {refused}");
    }
}

/// The broker is killed and started again while records flow; behind a proxy, so that its address stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_outlives_its_broker_without_loss_double_or_disorder() {
    let (dir, proxy) = (temp(), Proxy::new());
    let options = Options::new(dir.path()).set("advertised.listeners", &proxy.advertised());
    let mut broker = options.start();
    proxy.to(Some(&broker.kafka));
    let cluster = Cluster::connect(&Env::real(), ClusterOptions::parse(&proxy.address).unwrap()).await.unwrap();
    admin::create_topic(&cluster, "t", Some(2), None, &[]).await.unwrap();
    let settings = ProducerOptions {
        idempotent: true,
        linger: Duration::ZERO,
        // Many small requests, so that some are in flight at every kill.
        batch_bytes: 400,
        ..Default::default()
    };
    let delivered = Arc::new(Mutex::new(0usize));
    let count = delivered.clone();
    let producer = Producer::start(&cluster, "t", settings, move |delivery| {
        delivery.result.unwrap();
        *count.lock().unwrap() += delivery.tokens.len();
    })
    .await
    .unwrap();
    let total = 6_000u32;
    for n in 0..total {
        if n % 2_000 == 1_000 {
            proxy.to(None);
            broker.kill();
            broker = options.start();
            proxy.to(Some(&broker.kafka));
        }
        let value = n.to_string();
        let record = NewRecord { value: Some(value.as_bytes()), partition: Some(n as i32 % 2), ..Default::default() };
        producer.send(record).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, producer.close()).await.unwrap();
    assert_eq!(*delivered.lock().unwrap(), total as usize);
    let read = all(&cluster, "t").await;
    for partition in 0..2 {
        let values = read.iter().filter(|(p, _)| *p == partition).map(|(_, r)| r.value.clone().unwrap());
        let values: Vec<u32> = values.map(|v| std::str::from_utf8(&v).unwrap().parse().unwrap()).collect();
        let wanted: Vec<u32> = (0..total).filter(|n| *n as i32 % 2 == partition).collect();
        assert!(values == wanted, "partition {partition}: {} records, in order: {}", values.len(), values.is_sorted());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stays_away_fails_every_record_in_time() {
    let (dir, proxy) = (temp(), Proxy::new());
    let broker = Options::new(dir.path()).set("advertised.listeners", &proxy.advertised()).start();
    proxy.to(Some(&broker.kafka));
    let cluster = Cluster::connect(&Env::real(), ClusterOptions::parse(&proxy.address).unwrap()).await.unwrap();
    admin::create_topic(&cluster, "t", Some(1), None, &[]).await.unwrap();
    let failed: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    let sink = failed.clone();
    let settings = ProducerOptions { delivery_timeout: Duration::from_millis(300), ..Default::default() };
    let producer = Producer::start(&cluster, "t", settings, move |delivery| {
        let error = delivery.result.unwrap_err().to_string();
        assert!(error.contains("not delivered within 300 ms"), "{error}");
        sink.lock().unwrap().extend(delivery.tokens);
    })
    .await
    .unwrap();
    proxy.to(None);
    broker.kill();
    for token in 0..100 {
        producer.send(NewRecord { value: Some(b"v"), token, ..Default::default() }).await.unwrap();
    }
    tokio::time::timeout(PATIENCE, producer.close()).await.unwrap();
    assert_eq!(failed.lock().unwrap().len(), 100);
}

/// What a [`Tap`] does with a request.
#[derive(Clone, Copy)]
enum Fate {
    Pass,
    /// It gets to the broker; instead of its answer the connection ends.
    LoseAnswer,
    /// The connection ends before the broker sees it.
    Cut,
    /// Passed on after that long.
    Slow(Duration),
    /// Neither it nor what follows is read, until the client goes.
    Stall,
}

/// Stands before a broker and decides on each request, by its API key and its bytes.
fn tap(decide: impl Fn(i16, &[u8]) -> Fate + Send + Sync + 'static) -> (String, Arc<Mutex<Option<String>>>) {
    use std::{io::Read, io::Write, net::TcpStream, sync::atomic::AtomicBool, sync::atomic::Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let target: Arc<Mutex<Option<String>>> = Arc::default();
    let (wanted, decide) = (target.clone(), Arc::new(decide));
    let serve = move |mut client: TcpStream, mut server: TcpStream| {
        let lost = Arc::new(AtomicBool::new(false));
        let (mut from, mut to, is_lost) = (server.try_clone().unwrap(), client.try_clone().unwrap(), lost.clone());
        std::thread::spawn(move || {
            let mut answer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = from.read(&mut answer) {
                if is_lost.load(Ordering::SeqCst) || to.write_all(&answer[..n]).is_err() {
                    break;
                }
            }
            let _ = (from.shutdown(std::net::Shutdown::Both), to.shutdown(std::net::Shutdown::Both));
        });
        loop {
            let mut frame = vec![0; 4];
            if client.read_exact(&mut frame).is_err() {
                break;
            }
            frame.resize(4 + u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize, 0);
            if client.read_exact(&mut frame[4..]).is_err() {
                break;
            }
            match decide(i16::from_be_bytes([frame[4], frame[5]]), &frame) {
                Fate::Pass => {}
                Fate::LoseAnswer => lost.store(true, Ordering::SeqCst),
                Fate::Cut => break,
                Fate::Slow(wait) => std::thread::sleep(wait),
                Fate::Stall => loop {
                    std::thread::park();
                },
            }
            if server.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = (client.shutdown(std::net::Shutdown::Both), server.shutdown(std::net::Shutdown::Both));
    };
    let serve = Arc::new(serve);
    // Ends with the process.
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let to = wanted.lock().unwrap().clone();
            let Some(server) = to.and_then(|a| TcpStream::connect(a).ok()) else { continue };
            let serve = serve.clone();
            std::thread::spawn(move || serve(client, server));
        }
    });
    (address, target)
}

/// A broker behind a tap, with a topic `t` of two partitions that takes batches of 200,000 bytes at most.
async fn tapped(
    timeout: Duration,
    decide: impl Fn(i16, &[u8]) -> Fate + Send + Sync + 'static,
) -> (Broker, tempfile::TempDir, Cluster) {
    let (address, target) = tap(decide);
    let dir = temp();
    let broker = Options::new(dir.path()).set("advertised.listeners", &format!("PLAINTEXT://{address}")).start();
    *target.lock().unwrap() = Some(broker.kafka.clone());
    let mut options = ClusterOptions::parse(&address).unwrap();
    options.timeout = timeout;
    let cluster = Cluster::connect(&Env::real(), options).await.unwrap();
    admin::create_topic(&cluster, "t", Some(2), None, &[("max.message.bytes".into(), "200000".into())]).await.unwrap();
    (broker, dir, cluster)
}

const PRODUCE: i16 = 0;

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotent_producer_that_gets_no_new_id_fails_every_record_in_time() {
    let (broker, _dir, cluster) = tapped(Duration::from_secs(2), |_, _| Fate::Pass).await;
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let settings =
        ProducerOptions { idempotent: true, delivery_timeout: Duration::from_millis(300), ..Default::default() };
    let producer = Producer::start(&cluster, "t", settings, move |d| {
        let _ = tell.try_send((d.tokens.to_vec(), d.result.unwrap_err().to_string()));
    })
    .await
    .unwrap();
    broker.kill();
    let record =
        |token, partition| NewRecord { value: Some(b"v"), token, partition: Some(partition), ..Default::default() };
    producer.send(record(1, 0)).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap().0, [1]);
    // Its numbers are lost, and there are no others.
    producer.send(record(2, 0)).await.unwrap();
    producer.send(record(3, 1)).await.unwrap();
    tokio::time::timeout(PATIENCE, producer.close()).await.unwrap();
    let mut failed = BTreeSet::new();
    while let Ok((tokens, error)) = told.try_recv() {
        assert!(error.contains("not delivered within 300 ms"), "{error}");
        failed.extend(tokens);
    }
    assert_eq!(failed, BTreeSet::from([2, 3]));
}

/// One partition's batch fails for good while another's, written but never answered, waits for its next try.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_written_is_not_sent_again_under_another_producer_id() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    let (held, tries) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let (is_held, count) = (held.clone(), tries.clone());
    let decide = move |api, frame: &[u8]| {
        if api != PRODUCE || !frame.windows(6).any(|w| w == b"marker") {
            return Fate::Pass;
        }
        match (count.fetch_add(1, Ordering::SeqCst), is_held.load(Ordering::SeqCst)) {
            (0, _) => Fate::LoseAnswer,
            (_, true) => Fate::Cut,
            (_, false) => Fate::Pass,
        }
    };
    let (_broker, _dir, cluster) = tapped(Duration::from_secs(20), decide).await;
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let settings = ProducerOptions {
        idempotent: true,
        linger: Duration::ZERO,
        // Never both in one request.
        request_bytes_max: 1_000,
        ..Default::default()
    };
    let producer = Producer::start(&cluster, "t", settings, move |d| {
        let _ = tell.try_send((d.partition, d.result.map_err(Clone::clone)));
    })
    .await
    .unwrap();
    let large = vec![b'x'; 300_000];
    producer.send(NewRecord { value: Some(b"marker"), partition: Some(0), ..Default::default() }).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tries.load(Ordering::SeqCst) < 2 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    producer.send(NewRecord { value: Some(&large), partition: Some(1), ..Default::default() }).await.unwrap();
    let (partition, result) = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    assert_eq!((partition, result.unwrap_err().code()), (1, Some(ResponseError::MessageTooLarge)));
    producer.send(NewRecord { value: Some(b"after"), partition: Some(1), ..Default::default() }).await.unwrap();
    held.store(false, Ordering::SeqCst);
    tokio::time::timeout(PATIENCE, producer.close()).await.unwrap();
    let mut results = BTreeSet::new();
    while let Ok((partition, result)) = told.try_recv() {
        results.insert((partition, result.is_ok()));
    }
    assert_eq!(results, BTreeSet::from([(0, true), (1, true)]));
    let read = all(&cluster, "t").await;
    let mut values: Vec<_> = read.iter().map(|(p, r)| (*p, r.value.clone().unwrap())).collect();
    values.sort();
    assert_eq!(values, [(0, "marker".into()), (1, "after".into())]);
}

/// In one partition: the first is lost for good, so its number is missing; what came behind it and may be written cannot be sent under other numbers.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_behind_a_lost_number_and_may_be_written_fails_and_says_so() {
    let decide = |api, frame: &[u8]| match api == PRODUCE && frame.windows(6).any(|w| w == b"marker") {
        true => Fate::LoseAnswer,
        false => Fate::Pass,
    };
    let (_broker, _dir, cluster) = tapped(Duration::from_secs(20), decide).await;
    let (tell, mut told) = tokio::sync::mpsc::channel(16);
    let settings = ProducerOptions {
        idempotent: true,
        linger: Duration::ZERO,
        delivery_timeout: Duration::from_secs(1),
        ..Default::default()
    };
    let producer = Producer::start(&cluster, "t", settings, move |d| {
        let _ = tell.try_send(d.result.map_err(|e| e.to_string()));
    })
    .await
    .unwrap();
    let record = |value| NewRecord { value: Some(value), partition: Some(0), ..Default::default() };
    producer.send(record(b"marker")).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap().unwrap_err();
    assert!(error.starts_with("it is not known whether the broker has written the batch: not delivered"), "{error}");
    // It goes on under another id.
    assert_eq!(producer.send_and_wait(record(b"after")).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_reading_does_not_hold_up_acks_0() {
    let decide = |api, _: &[u8]| if api == PRODUCE { Fate::Stall } else { Fate::Pass };
    let (_broker, _dir, cluster) = tapped(Duration::from_millis(500), decide).await;
    let count: Arc<Mutex<(usize, usize)>> = Arc::default();
    let sink = count.clone();
    let settings = ProducerOptions { acks: Acks::None, delivery_timeout: Duration::from_secs(1), ..Default::default() };
    let producer = Producer::start(&cluster, "t", settings, move |d| {
        let mut count = sink.lock().unwrap();
        match d.result {
            Ok(_) => count.0 += d.tokens.len(),
            Err(_) => count.1 += d.tokens.len(),
        }
    })
    .await
    .unwrap();
    let value = vec![b'v'; 16 << 10];
    let run = async {
        for _ in 0..1_600 {
            producer.send(NewRecord { value: Some(&value), ..Default::default() }).await.unwrap();
        }
        producer.close().await;
    };
    tokio::time::timeout(PATIENCE, run).await.unwrap();
    let (delivered, failed) = *count.lock().unwrap();
    assert_eq!(delivered + failed, 1_600);
    assert!(failed > 0, "nobody read 25 MB");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_acks_0_counted_is_on_its_way_when_the_producer_is_closed() {
    let decide = |api, _: &[u8]| if api == PRODUCE { Fate::Slow(Duration::from_millis(5)) } else { Fate::Pass };
    let (broker, _dir, cluster) = tapped(Duration::from_secs(20), decide).await;
    let settings = ProducerOptions { acks: Acks::None, ..Default::default() };
    let producer = Producer::start(&cluster, "t", settings, |d| assert!(d.result.is_ok())).await.unwrap();
    let value = vec![b'v'; 16 << 10];
    for _ in 0..1_000 {
        producer.send(NewRecord { value: Some(&value), ..Default::default() }).await.unwrap();
    }
    producer.close().await;
    drop(cluster);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut options = ClusterOptions::parse(&broker.kafka).unwrap();
    options.timeout = Duration::from_secs(20);
    let cluster = Cluster::connect(&Env::real(), options).await.unwrap();
    let mut read = 0;
    while read < 1_000 {
        assert!(tokio::time::Instant::now() < deadline, "only {read} of 1,000 arrived");
        read = all(&cluster, "t").await.len();
    }
}

/// A poll is dropped exactly while a new member asks for the offsets to begin at.
#[tokio::test(flavor = "multi_thread")]
async fn a_poll_that_is_dropped_while_it_joins_loses_nothing() {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    const OFFSET_FETCH: i16 = 9;
    const JOIN_GROUP: i16 = 11;
    let (is_held, joins) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU32::new(0)));
    let seen = Arc::new(tokio::sync::Notify::new());
    let (held, count, tell) = (is_held.clone(), joins.clone(), seen.clone());
    let decide = move |api, _: &[u8]| {
        if api == JOIN_GROUP {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if api == OFFSET_FETCH && held.load(Ordering::SeqCst) {
            tell.notify_one();
            return Fate::Cut;
        }
        Fate::Pass
    };
    let (_broker, _dir, cluster) = tapped(Duration::from_secs(20), decide).await;
    filled(&cluster, "u", 2, 10).await;
    let group = unique("group");
    let mut options = GroupOptions::new(&group, vec!["u".into()]);
    options.reset = Start::Earliest;
    let mut consumer = GroupConsumer::new(&cluster, options);
    tokio::select! {
        polled = consumer.poll(PATIENCE) => panic!("{polled:?}"),
        () = seen.notified() => {}
    }
    let joined = joins.load(Ordering::SeqCst);
    assert_eq!(consumer.positions().count(), 0);
    is_held.store(false, Ordering::SeqCst);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut records = 0;
    while records < 10 {
        assert!(tokio::time::Instant::now() < deadline, "{consumer:?}");
        let fetched = consumer.poll(Duration::from_millis(100)).await.unwrap();
        records += fetched.iter().map(|f| f.records.len()).sum::<usize>();
    }
    assert_eq!((records, joins.load(Ordering::SeqCst)), (10, joined), "it did not join once more");
    consumer.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_instance_id_another_took_is_told_so_and_does_not_take_it_back() {
    let (broker, _dir) = Broker::any();
    let cluster = cluster(&broker).await;
    let (topic, group) = (unique("static"), unique("group"));
    filled(&cluster, &topic, 1, 5).await;
    let mut options = GroupOptions::new(&group, vec![topic]);
    options.heartbeat = Duration::from_millis(50);
    options.instance = Some("i".into());
    options.reset = Start::Earliest;
    let mut first = GroupConsumer::new(&cluster, options.clone());
    let mut second = GroupConsumer::new(&cluster, options);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for consumer in [&mut first, &mut second] {
        while consumer.positions().count() == 0 {
            assert!(tokio::time::Instant::now() < deadline, "{consumer:?}");
            consumer.poll(Duration::from_millis(20)).await.unwrap();
        }
    }
    for _ in 0..2 {
        let error = loop {
            assert!(tokio::time::Instant::now() < deadline, "{first:?}");
            if let Err(error) = first.poll(Duration::from_millis(20)).await {
                break error;
            }
        };
        assert_eq!(error.code(), Some(ResponseError::FencedInstanceId), "{error}");
        assert_eq!(first.positions().count(), 0);
    }
    second.poll(Duration::from_millis(20)).await.unwrap();
    second.commit().await.unwrap();
    assert!(second.is_joined());
}
