//! `kill -9` amid rebalances and commits: no answer is taken back, generations go on, members carry on.
//!
//! `MILLSTREAM_CRASH_ROUNDS` (5) kills; `MILLSTREAM_SEED` replays the moments.

use crate::{
    members::{Member, code, describe, fetch, pair, ready},
    support::{Options, Random, eventually, foreign, temp},
    wire::Client,
};
use std::{
    io,
    sync::atomic::{AtomicI32, AtomicI64, Ordering},
    time::Duration,
};

const COMMITTERS: usize = 4;
const MEMBERS: usize = 3;

/// What is known of the offsets that one client commits, one after another.
#[derive(Debug, Default)]
struct Place {
    /// Largest that was answered.
    answered: AtomicI64,
    /// Largest that was sent.
    sent: AtomicI64,
}

impl Place {
    fn next(&self) -> i64 {
        self.sent.fetch_add(1, Ordering::SeqCst) + 1
    }
    fn answered(&self, offset: i64) {
        self.answered.fetch_max(offset, Ordering::SeqCst);
    }
    fn check(&self, committed: i64, what: &str) {
        let (answered, sent) = (self.answered.load(Ordering::SeqCst), self.sent.load(Ordering::SeqCst));
        let committed = committed.max(0);
        assert!((answered..=sent).contains(&committed), "{what}: {answered} answered, {committed} there, {sent} sent");
    }
}

#[test]
fn kill_9_amid_rebalances_and_commits_takes_back_no_answer() {
    if foreign().is_some() {
        return;
    }
    let rounds: usize = std::env::var("MILLSTREAM_CRASH_ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    under_load("fsync", rounds);
    // Of a process that is killed the page cache keeps all; there is more to hit.
    under_load("page-cache", rounds.div_ceil(2));
}

fn under_load(durability: &str, rounds: usize) {
    let mut random = Random::from_environment();
    let dir = temp();
    // Few partitions: groups share their shards.
    let options = Options::new(dir.path())
        .set("offsets.topic.num.partitions", "3")
        .set("millstream.durability", durability)
        .set("group.min.session.timeout.ms", "100")
        .set("group.initial.rebalance.delay.ms", "5");
    let mut broker = options.start();
    ready(&broker.kafka, "t", 8, "quiet");
    let [mut leader, mut other] = pair(&broker.kafka, "quiet", "t", |m, _| m);
    let places: [Place; COMMITTERS] = Default::default();
    let member_places: [Place; MEMBERS] = Default::default();
    // Largest generation whose assignment somebody was told.
    let told = AtomicI32::new(0);
    for round in 0..rounds {
        let (address, moment) = (broker.kafka.clone(), Duration::from_micros(random.below(400_000)));
        std::thread::scope(|scope| {
            let address = &address;
            for (n, place) in places.iter().enumerate() {
                let m = Member::new(address, &format!("simple-{n}"));
                scope.spawn(move || while_it_lives(commit(m, n, place)));
            }
            for (n, place) in member_places.iter().enumerate() {
                let (m, told, seed) = (Member::new(address, "busy"), &told, random.next());
                scope.spawn(move || while_it_lives(churn(m, n, place, told, Random(seed))));
            }
            std::thread::sleep(Duration::from_millis(20) + moment);
            broker.kill();
            // The threads end by themselves: their connections are gone.
        });
        broker = options.start();
        let mut c = Client::connect(&broker.kafka);
        // Wherever the log has to be read first: the coordinator is there when it answers.
        eventually("the coordinators are back", || (describe(&mut c, 5, "quiet").error_code == 0).then_some(()));
        for (n, place) in places.iter().enumerate() {
            let committed = fetch(&mut c, 8, &format!("simple-{n}"), Some(&[("t", n as i32)]))[0].2;
            place.check(committed, &format!("round {round}, simple group {n}"));
        }
        for (n, place) in member_places.iter().enumerate() {
            let committed = fetch(&mut c, 8, "busy", Some(&[("t", n as i32)]))[0].2;
            place.check(committed, &format!("round {round}, member {n}"));
        }
        // Who was in no rebalance has not noticed: same generation, same assignment, no joining.
        for m in [&mut leader, &mut other] {
            m.client = Client::connect(&broker.kafka);
            assert_eq!(m.heartbeat(), 0, "round {round}");
            assert_eq!(m.commit(&[("t", 7, round as i64, "")]), [0]);
        }
        let shown = leader.describe();
        let mut assignments: Vec<_> = shown.members.iter().map(|m| m.member_assignment.clone()).collect();
        assignments.sort();
        assert_eq!((&*shown.group_state, &assignments[..]), ("Stable", &["left".into(), "right".into()][..]));
        // A generation that anybody worked in is never handed out again.
        let mut fresh = Member::new(&broker.kafka, "busy");
        (fresh.session_timeout_ms, fresh.rebalance_timeout_ms) = (1000, 200);
        let told = told.load(Ordering::SeqCst);
        let joined = fresh.join();
        println!(
            "{durability}, round {round}: killed after {moment:?}; generation {told} told, {} now; {places:?}",
            joined.generation_id
        );
        assert!(joined.generation_id > told, "round {round}: {} after {told}", joined.generation_id);
        assert_eq!(fresh.leave(), 0);
    }
    assert!(told.load(Ordering::SeqCst) > 0, "there were rebalances");
    assert!(places.iter().all(|p| p.answered.load(Ordering::SeqCst) > 0), "there were commits: {places:?}");
}

fn while_it_lives(ended: io::Result<()>) {
    ended.expect_err("only the end of the broker ends it");
}

/// Commits one offset after another without a group.
fn commit(mut m: Member, n: usize, place: &Place) -> io::Result<()> {
    loop {
        let offset = place.next();
        let request = m.commit_request(&[("t", n as i32, offset, "")]);
        let response = m.client.try_call(m.versions.commit, &request)?;
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
        place.answered(offset);
    }
}

/// Joins, works, commits, now and then leaves.
fn churn(mut m: Member, n: usize, place: &Place, told: &AtomicI32, mut random: Random) -> io::Result<()> {
    (m.session_timeout_ms, m.rebalance_timeout_ms) = (1000, 200);
    loop {
        let request = m.join_request();
        let joined = m.client.try_call(m.versions.join, &request)?;
        match joined.error_code {
            0 => (m.id, m.generation) = (joined.member_id.to_string(), joined.generation_id),
            code::MEMBER_ID_REQUIRED => {
                m.id = joined.member_id.to_string();
                continue;
            }
            code::UNKNOWN_MEMBER_ID => {
                m.id = String::new();
                continue;
            }
            code::REBALANCE_IN_PROGRESS => continue,
            error => panic!("join: {error}"),
        }
        let ids: Vec<String> = joined.members.iter().map(|m| m.member_id.to_string()).collect();
        let assignments: Vec<(&str, &[u8])> = ids.iter().map(|id| (id.as_str(), id.as_bytes())).collect();
        let request = m.sync_request(&assignments);
        let synced = m.client.try_call(m.versions.sync, &request)?;
        match synced.error_code {
            0 => assert_eq!(synced.assignment, m.id.as_bytes()),
            code::REBALANCE_IN_PROGRESS | code::ILLEGAL_GENERATION => continue,
            code::UNKNOWN_MEMBER_ID => {
                m.id = String::new();
                continue;
            }
            error => panic!("sync: {error}"),
        }
        told.fetch_max(m.generation, Ordering::SeqCst);
        for _ in 0..random.below(20) {
            let offset = place.next();
            let request = m.commit_request(&[("t", n as i32, offset, "")]);
            let response = m.client.try_call(m.versions.commit, &request)?;
            match response.topics[0].partitions[0].error_code {
                0 => place.answered(offset),
                code::REBALANCE_IN_PROGRESS | code::ILLEGAL_GENERATION | code::UNKNOWN_MEMBER_ID => break,
                error => panic!("commit: {error}"),
            }
            let request = m.heartbeat_request();
            if m.client.try_call(m.versions.heartbeat, &request)?.error_code != 0 {
                break;
            }
        }
        if random.below(3) == 0 {
            m.id = String::new();
        }
    }
}
