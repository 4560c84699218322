//! Our own client layer against a running broker.

use crate::support::{Broker, Options, PATIENCE, Proxy, temp};
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
