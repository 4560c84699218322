//! Groups of librdkafka's consumers: rebalances of both kinds, static members, commits, positions, groups listed and deleted, and a broker that dies.

use crate::{
    clients::{all_acked, fresh, producer, send},
    support::{Broker, Options, PATIENCE, Proxy, eventually, foreign, temp},
    wire::Client,
};
use rdkafka::{
    ClientConfig, ClientContext, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance, RebalanceProtocol},
    error::{KafkaError, RDKafkaErrorCode},
    producer::BaseRecord,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// What happened to a member: partitions given and taken, in order.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Given(BTreeSet<i32>),
    Taken(BTreeSet<i32>),
}

/// What a member owns and has read. It commits what it read of the partitions that are taken from it.
#[derive(Debug, Default)]
struct State {
    owned: BTreeSet<i32>,
    events: Vec<Event>,
    /// Where to go on, by partition.
    next: BTreeMap<i32, i64>,
    errors: Vec<KafkaError>,
}

#[derive(Debug, Default)]
struct Seen(Arc<Mutex<State>>);

impl ClientContext for Seen {}

impl ConsumerContext for Seen {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(partitions) = rebalance else { return };
        let mut list = TopicPartitionList::new();
        let state = self.0.lock().unwrap();
        for e in partitions.elements() {
            if let Some(next) = state.next.get(&e.partition()) {
                list.add_partition_offset(e.topic(), e.partition(), Offset::Offset(*next)).unwrap();
            }
        }
        drop(state);
        if list.count() > 0
            && let Err(e) = consumer.commit(&list, CommitMode::Sync)
        {
            self.0.lock().unwrap().errors.push(e);
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut state = self.0.lock().unwrap();
        let set = |list: &TopicPartitionList| list.elements().iter().map(|e| e.partition()).collect::<BTreeSet<_>>();
        match rebalance {
            Rebalance::Assign(list) => {
                let new = set(list);
                state.owned.extend(&new);
                state.events.push(Event::Given(new));
            }
            Rebalance::Revoke(list) => {
                let gone = set(list);
                state.owned.retain(|p| !gone.contains(p));
                state.next.retain(|p, _| !gone.contains(p));
                state.events.push(Event::Taken(gone));
            }
            Rebalance::Error(e) => state.errors.push(e.clone()),
        }
    }
}

/// A consumer of a group.
struct Member {
    c: BaseConsumer<Seen>,
    /// Partition, offset and number of each record read.
    got: Vec<(i32, i64, u64)>,
}

impl Member {
    fn join(address: &str, group: &str, topic: &str, config: &[(&str, &str)]) -> Member {
        let mut c = ClientConfig::new();
        c.set("bootstrap.servers", address).set("group.id", group).set("auto.offset.reset", "earliest");
        c.set("enable.auto.commit", "false")
            .set("session.timeout.ms", "20000")
            .set("heartbeat.interval.ms", "100")
            .set("fetch.wait.max.ms", "50")
            .set("reconnect.backoff.ms", "5")
            .set("reconnect.backoff.max.ms", "50");
        for (k, v) in config {
            c.set(*k, *v);
        }
        let c: BaseConsumer<Seen> = c.create_with_context(Seen::default()).unwrap();
        c.subscribe(&[topic]).unwrap();
        Member { c, got: Vec::new() }
    }

    fn poll(&mut self) {
        match self.c.poll(Duration::from_millis(5)) {
            Some(Ok(m)) => {
                let mut state = self.c.context().0.lock().unwrap();
                assert!(state.owned.contains(&m.partition()), "a record of {}, owned {:?}", m.partition(), state.owned);
                state.next.insert(m.partition(), m.offset() + 1);
                let number = u64::from_be_bytes(m.payload().unwrap().try_into().unwrap());
                self.got.push((m.partition(), m.offset(), number));
            }
            Some(Err(e)) => self.c.context().0.lock().unwrap().errors.push(e),
            None => {}
        }
    }

    fn owned(&self) -> BTreeSet<i32> {
        self.c.context().0.lock().unwrap().owned.clone()
    }

    fn events(&self) -> Vec<Event> {
        self.c.context().0.lock().unwrap().events.clone()
    }

    fn errors(&self) -> Vec<KafkaError> {
        self.c.context().0.lock().unwrap().errors.clone()
    }

    /// Leaves the group, as a dynamic member, having committed what it read, which is given back.
    fn leave(mut self) -> Vec<(i32, i64, u64)> {
        // Before it closes: this client may leave first and commit then, when it is amid a rebalance.
        let deadline = Instant::now() + PATIENCE;
        while let Err(e) = self.commit() {
            assert!(Instant::now() < deadline, "it never commits: {e}");
            self.poll();
        }
        let state = self.c.context().0.clone();
        state.lock().unwrap().next.clear();
        // The drop closes, which takes the partitions away and waits for the answer to the leaving.
        drop(self.c);
        let state = state.lock().unwrap();
        assert_eq!((&state.owned, &state.errors[..]), (&BTreeSet::new(), &[][..]));
        self.got
    }

    /// Commits what it read of what it owns.
    fn commit(&self) -> Result<(), KafkaError> {
        let topic = self.c.subscription()?.elements()[0].topic().to_string();
        let mut list = TopicPartitionList::new();
        for (partition, next) in &self.c.context().0.lock().unwrap().next {
            list.add_partition_offset(&topic, *partition, Offset::Offset(*next))?;
        }
        if list.count() == 0 { Ok(()) } else { self.c.commit(&list, CommitMode::Sync) }
    }
}

fn pump(members: &mut [&mut Member], what: &str, mut done: impl FnMut(&[&mut Member]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done(members) {
        for m in members.iter_mut() {
            m.poll();
        }
        if Instant::now() > deadline {
            for m in members.iter() {
                println!("owned {:?}, {} read, {:?}, {:?}", m.owned(), m.got.len(), m.events(), m.errors());
            }
            panic!("never: {what}");
        }
    }
}

/// Each partition has one owner, each member has a partition.
fn shared(members: &[&mut Member], partitions: i32) -> bool {
    let mut all: Vec<i32> = members.iter().flat_map(|m| m.owned()).collect();
    all.sort();
    all == (0..partitions).collect::<Vec<_>>() && members.iter().all(|m| !m.owned().is_empty())
}

fn read(members: &[&mut Member]) -> usize {
    members.iter().map(|m| m.got.len()).sum()
}

/// The numbers from..to, in turn to the partitions.
fn numbered(address: &str, topic: &str, partitions: i32, numbers: std::ops::Range<u64>) {
    let p = producer(address, &[("acks", "all")]);
    for i in numbers {
        let record = BaseRecord::with_opaque_to(topic, Box::new(i)).partition((i % partitions as u64) as i32);
        send(&p, record.key(&b"k"[..]).payload(&i.to_be_bytes()[..]));
    }
    all_acked(&p);
}

fn committed(address: &str, group: &str, topic: &str, partitions: i32) -> Vec<(Offset, String)> {
    let c: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", address).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_range(topic, 0, partitions - 1);
    let found = c.committed_offsets(list, PATIENCE).unwrap();
    found.elements().iter().map(|e| (e.offset(), e.metadata().to_string())).collect()
}

fn offsets(offsets: &[i64]) -> Vec<(Offset, String)> {
    offsets.iter().map(|o| (Offset::Offset(*o), String::new())).collect()
}

/// Every number below `n` was read once.
fn each_once(mut got: Vec<(i32, i64, u64)>, n: u64) {
    got.sort_by_key(|r| r.2);
    let numbers: Vec<u64> = got.iter().map(|r| r.2).collect();
    assert_eq!(numbers, (0..n).collect::<Vec<_>>());
}

#[test]
fn eager_rebalances_give_each_partition_to_one_member() {
    let (broker, _dir) = Broker::any();
    let address = &broker.kafka;
    for strategy in ["range", "roundrobin"] {
        let (topic, group) = (fresh("eager"), fresh("group"));
        assert_eq!(Client::connect(address).create_topic(&topic, 6, &[]), 0);
        numbered(address, &topic, 6, 0..300);
        let join = || Member::join(address, &group, &topic, &[("partition.assignment.strategy", strategy)]);
        let (mut a, mut b, mut c) = (join(), join(), join());
        pump(&mut [&mut a, &mut b, &mut c], "three share", |m| shared(m, 6) && read(m) >= 300);
        assert_eq!([&a, &b, &c].map(|m| m.owned().len()), [2, 2, 2], "{strategy}");
        assert!(matches!(a.c.rebalance_protocol(), RebalanceProtocol::Eager));
        let of_first = [&a, &b, &c].iter().map(|m| m.owned()).find(|o| o.contains(&0)).unwrap();
        assert_eq!(of_first, BTreeSet::from(if strategy == "range" { [0, 1] } else { [0, 3] }));
        let before = (a.owned(), a.events().len());
        let mut got = c.leave();
        pump(&mut [&mut a, &mut b], "two are left", |m| shared(m, 6));
        assert_eq!(a.events()[before.1], Event::Taken(before.0), "an eager member gives up all it had");
        assert_eq!(a.owned().len(), 3);
        numbered(address, &topic, 6, 300..360);
        pump(&mut [&mut a, &mut b], "the rest is read", |m| read(m) + got.len() >= 360);
        got.extend(a.leave());
        pump(&mut [&mut b], "the last has all", |m| shared(m, 6));
        got.extend(b.leave());
        each_once(got, 360);
        assert_eq!(committed(address, &group, &topic, 6), offsets(&[60; 6]), "{strategy}");
    }
}

#[test]
fn cooperative_rebalances_move_only_what_must_move() {
    let (broker, _dir) = Broker::any();
    let address = &broker.kafka;
    let (topic, group) = (fresh("cooperative"), fresh("group"));
    assert_eq!(Client::connect(address).create_topic(&topic, 6, &[]), 0);
    numbered(address, &topic, 6, 0..300);
    let join = || Member::join(address, &group, &topic, &[("partition.assignment.strategy", "cooperative-sticky")]);
    let mut a = join();
    pump(&mut [&mut a], "the first has all", |m| shared(m, 6));
    let mut b = join();
    pump(&mut [&mut a, &mut b], "two share", |m| shared(m, 6));
    assert!(matches!(a.c.rebalance_protocol(), RebalanceProtocol::Cooperative));
    let taken = |m: &Member| {
        let taken = m.events().into_iter().filter_map(|e| if let Event::Taken(p) = e { Some(p) } else { None });
        taken.flatten().collect::<BTreeSet<i32>>()
    };
    assert_eq!((a.owned().len(), taken(&a)), (3, b.owned()));
    let mut c = join();
    pump(&mut [&mut a, &mut b, &mut c], "three share", |m| shared(m, 6));
    assert_eq!([&a, &b, &c].map(|m| m.owned().len()), [2, 2, 2]);
    assert_eq!(taken(&b).len(), 1, "one partition of the second went to the third");
    pump(&mut [&mut a, &mut b, &mut c], "all is read", |m| read(m) >= 300);
    let (kept_b, kept_c) = (b.owned(), c.owned());
    let mut got = a.leave();
    pump(&mut [&mut b, &mut c], "two are left", |m| shared(m, 6));
    assert!(kept_b.is_subset(&b.owned()) && kept_c.is_subset(&c.owned()), "nothing moved between those who stay");
    numbered(address, &topic, 6, 300..360);
    pump(&mut [&mut b, &mut c], "the rest is read", |m| read(m) + got.len() >= 360);
    got.extend(b.leave());
    pump(&mut [&mut c], "the last has all", |m| shared(m, 6));
    got.extend(c.leave());
    each_once(got, 360);
    assert_eq!(committed(address, &group, &topic, 6), offsets(&[60; 6]));
}

#[test]
fn a_static_member_that_restarts_is_not_noticed_by_the_others() {
    let (broker, _dir) = Broker::any();
    let address = &broker.kafka;
    let (topic, group) = (fresh("static"), fresh("group"));
    assert_eq!(Client::connect(address).create_topic(&topic, 6, &[]), 0);
    numbered(address, &topic, 6, 0..60);
    let join = |name: &str| Member::join(address, &group, &topic, &[("group.instance.id", name)]);
    let mut members = ["one", "two", "three"].map(join);
    pump(&mut members.each_mut(), "three share", |m| shared(m, 6) && read(m) >= 60);
    for (i, name) in ["one", "two", "three"].into_iter().enumerate() {
        let had = members[i].owned();
        let before = members.each_ref().map(|m| m.events().len());
        // One of the three is the leader. A static member that closes does not leave.
        members[i] = join(name);
        pump(&mut members.each_mut(), "it is back", |m| shared(m, 6));
        assert_eq!(members[i].owned(), had, "{name} has what it had");
        // Rounds of heartbeats later nobody else was asked to join again.
        let had = members.each_ref().map(|m| m.got.len());
        numbered(address, &topic, 6, 60..120);
        pump(&mut members.each_mut(), "all read on", |m| m.iter().zip(had).all(|(m, had)| m.got.len() >= had + 20));
        for (j, m) in members.iter().enumerate() {
            if i != j {
                assert_eq!(m.events().len(), before[j], "{name} restarted, {j} saw {:?}", m.events());
            }
        }
    }
    // Whoever takes the name takes the place; the one before is fenced for good.
    let fenced = members[0].owned();
    let mut second = join("one");
    let [one, two, three] = &mut members;
    pump(&mut [one, two, three, &mut second], "the first is fenced", |m| {
        m[3].owned() == fenced && m[0].c.client().fatal_error().is_some()
    });
    assert_eq!(members[0].c.client().fatal_error().unwrap().0, RDKafkaErrorCode::FencedInstanceId);
}

#[test]
fn commits_carry_metadata_and_positions_are_sought_and_paused() {
    let (broker, _dir) = Broker::any();
    let address = &broker.kafka;
    let (topic, group) = (fresh("commit"), fresh("group"));
    assert_eq!(Client::connect(address).create_topic(&topic, 2, &[]), 0);
    numbered(address, &topic, 2, 0..200);
    let mut a = Member::join(address, &group, &topic, &[]);
    pump(&mut [&mut a], "all is read", |m| read(m) == 200);
    assert!(a.c.committed(PATIENCE).unwrap().elements().iter().all(|e| e.offset() == Offset::Invalid));
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(40)).unwrap();
    list.add_partition_offset(&topic, 1, Offset::Offset(100)).unwrap();
    list.find_partition(&topic, 0).unwrap().set_metadata("forty ü");
    a.c.commit(&list, CommitMode::Sync).unwrap();
    let wanted = vec![(Offset::Offset(40), "forty ü".to_string()), (Offset::Offset(100), String::new())];
    assert_eq!(committed(address, &group, &topic, 2), wanted);
    // Too much metadata is refused, and nothing changes.
    let mut alone = TopicPartitionList::new();
    alone.add_partition_offset(&topic, 0, Offset::Offset(50)).unwrap();
    alone.find_partition(&topic, 0).unwrap().set_metadata("x".repeat(5000));
    let refused = a.c.commit(&alone, CommitMode::Sync).unwrap_err();
    assert_eq!(refused.rdkafka_error_code(), Some(RDKafkaErrorCode::OffsetMetadataTooLarge));
    assert_eq!(committed(address, &group, &topic, 2), wanted);

    let one = |p: i32| {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic, p);
        list
    };
    a.c.pause(&one(0)).unwrap();
    a.got.clear();
    numbered(address, &topic, 2, 200..220);
    pump(&mut [&mut a], "the one that is not paused goes on", |m| read(m) >= 10);
    assert_eq!(a.got, (0..10).map(|i| (1, 100 + i, 201 + 2 * i as u64)).collect::<Vec<_>>());
    // Sought while paused: it goes on there, once resumed.
    a.c.seek(&topic, 0, Offset::Offset(95), PATIENCE).unwrap();
    a.c.resume(&one(0)).unwrap();
    a.got.clear();
    pump(&mut [&mut a], "the other goes on", |m| read(m) >= 15);
    assert_eq!(a.got, (0..15).map(|i| (0, 95 + i, 190 + 2 * i as u64)).collect::<Vec<_>>());
    // Lists keep the client's partitions, and it does not close while one is left.
    drop((list, alone));
    assert_eq!(
        a.c.position().unwrap().elements().iter().map(|e| e.offset()).collect::<Vec<_>>(),
        [Offset::Offset(110); 2]
    );
    a.leave();
    assert_eq!(committed(address, &group, &topic, 2), offsets(&[110, 110]));
}

#[test]
fn groups_are_listed_and_deleted_once_they_are_empty() {
    let (broker, _dir) = Broker::any();
    let address = &broker.kafka;
    let (topic, group) = (fresh("listed"), fresh("group"));
    assert_eq!(Client::connect(address).create_topic(&topic, 2, &[]), 0);
    numbered(address, &topic, 2, 0..20);
    let mut a = Member::join(address, &group, &topic, &[("client.id", "the client")]);
    pump(&mut [&mut a], "all is read", |m| read(m) == 20);
    let list = a.c.fetch_group_list(Some(&group), PATIENCE).unwrap();
    let [g] = list.groups() else { panic!("{} groups", list.groups().len()) };
    assert_eq!((g.name(), g.state(), g.protocol_type(), g.protocol()), (&*group, "Stable", "consumer", "range"));
    let [m] = g.members() else { panic!("{} members", g.members().len()) };
    assert_eq!(m.client_id(), "the client");
    assert!(m.client_host().contains("127.0.0.1"), "{}", m.client_host());
    assert!(m.assignment().unwrap().windows(topic.len()).any(|w| w == topic.as_bytes()));
    let all = a.c.fetch_group_list(None, PATIENCE).unwrap();
    assert!(all.groups().iter().any(|g| g.name() == group));

    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", address).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let delete = || {
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        runtime.block_on(admin.delete_groups(&[&group], &options)).unwrap().remove(0).map_err(|(_, code)| code)
    };
    assert_eq!(delete(), Err(RDKafkaErrorCode::NonEmptyGroup));
    a.leave();
    let empty = eventually("the group is empty", || {
        let list = admin.inner().fetch_group_list(Some(&group), PATIENCE).ok()?;
        list.groups().first().filter(|g| g.state() == "Empty").map(|g| g.members().len())
    });
    assert_eq!(empty, 0);
    assert_eq!(committed(address, &group, &topic, 2), offsets(&[10, 10]));
    assert_eq!(delete(), Ok(group.clone()));
    assert_eq!(committed(address, &group, &topic, 2), [const { (Offset::Invalid, String::new()) }; 2]);
    assert_eq!(delete(), Err(RDKafkaErrorCode::GroupIdNotFound));
}

#[test]
fn a_group_goes_on_where_it_was_when_the_broker_died() {
    if foreign().is_some() {
        return;
    }
    let (dir, proxy, topic, group) = (temp(), Proxy::new(), "dies", "group");
    let options = Options::new(dir.path()).set("advertised.listeners", &proxy.advertised());
    let mut broker = options.start();
    proxy.to(Some(&broker.kafka));
    assert_eq!(Client::connect(&broker.kafka).create_topic(topic, 4, &[]), 0);
    let join = || Member::join(&proxy.address, group, topic, &[]);
    let (mut a, mut b) = (join(), join());
    let mut joined = None;
    for round in 0..3 {
        numbered(&proxy.address, topic, 4, round * 40..(round + 1) * 40);
        pump(&mut [&mut a, &mut b], "all is read", |m| shared(m, 4) && read(m) >= (round as usize + 1) * 40);
        joined.get_or_insert([&a, &b].map(|m| m.events().len()));
        for m in [&a, &b] {
            m.c.commit_consumer_state(CommitMode::Sync).unwrap();
        }
        proxy.to(None);
        broker.kill();
        broker = options.start();
        proxy.to(Some(&broker.kafka));
        assert_eq!(committed(&proxy.address, group, topic, 4), offsets(&[10 * (round as i64 + 1); 4]));
    }
    numbered(&proxy.address, topic, 4, 120..160);
    pump(&mut [&mut a, &mut b], "all is read", |m| read(m) >= 160);
    // Each time the group came back from the log with its members: nobody had to join again.
    assert_eq!([&a, &b].map(|m| m.events().len()), joined.unwrap(), "{:?} {:?}", a.events(), b.events());
    // That the connection broke is all they noticed.
    for m in [&a, &b] {
        let broken = [RDKafkaErrorCode::BrokerTransportFailure, RDKafkaErrorCode::AllBrokersDown].map(Some);
        m.c.context().0.lock().unwrap().errors.retain(|e| !broken.contains(&e.rdkafka_error_code()));
    }
    let mut got = a.leave();
    pump(&mut [&mut b], "the other has all", |m| shared(m, 4));
    got.extend(b.leave());
    each_once(got, 160);
    assert_eq!(committed(&proxy.address, group, topic, 4), offsets(&[40; 4]));
}
