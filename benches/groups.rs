//! What groups cost the broker: heartbeats, commits, ten thousand groups. `cargo bench --bench groups`, or against a broker that runs already (another
//! one too): `cargo bench --bench groups -- --broker HOST:PORT --pid PID`.
//!
//! CPU is the broker's own (user and system, of its process); client and broker share the machine. The data lies in `TMPDIR`. One line a measurement, no pass condition.

use bytes::{Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        CreateTopicsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest,
        RequestHeader, ResponseHeader, SyncGroupRequest, TopicName,
        create_topics_request::CreatableTopic,
        join_group_request::JoinGroupRequestProtocol,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const TOPIC: &str = "bench";
const PARTITIONS: i32 = 10;
const HEARTBEATS: usize = 50_000;
const COMMITS: usize = 20_000;
const GROUPS: usize = 10_000;

/// A connection with a buffer for what it reads.
struct Client {
    stream: BufReader<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream), buffer: Vec::new() }
    }

    fn send(&mut self, frame: &[u8]) {
        self.stream.get_mut().write_all(frame).unwrap();
    }

    fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        self.buffer.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.buffer).unwrap();
        let mut reply = Bytes::copy_from_slice(&self.buffer);
        ResponseHeader::decode(&mut reply, R::Response::header_version(version)).unwrap();
        R::Response::decode(&mut reply, version).unwrap()
    }

    fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(&frame(version, request));
        self.receive::<R>(version)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

/// A request as it goes over the wire, with its length in front.
fn frame<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(1)
        .with_client_id(Some(StrBytes::from_static_str("bench")));
    let mut body = BytesMut::new();
    header.encode(&mut body, R::header_version(version)).unwrap();
    request.encode(&mut body, version).unwrap();
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// A broker of our own, ended with this value, or one that runs already.
struct Broker {
    address: String,
    pid: u32,
    child: Option<(Child, tempfile::TempDir)>,
}

impl Broker {
    fn start(durability: &str) -> Broker {
        let directory = tempfile::tempdir().unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_millstream"))
            .args(["serve", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set"])
            .arg(format!("millstream.durability={durability}"))
            .arg("--data-dir")
            .arg(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().find_map(|w| w.strip_prefix("kafka=")).expect(&line).to_string();
        Broker { address, pid: child.id(), child: Some((child, directory)) }
    }

    /// CPU seconds of the process so far, in steps of 10 ms.
    fn cpu_s(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        ticks as f64 / 100.0
    }

    fn rss_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.child {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| args.iter().position(|a| a == name).map(|at| args[at + 1].clone());
    println!("{} cores, {PARTITIONS} offsets a commit", std::thread::available_parallelism().unwrap());
    match (value("--broker"), value("--pid")) {
        (Some(address), Some(pid)) => measure(&Broker { address, pid: pid.parse().unwrap(), child: None }, "given"),
        _ => ["page-cache", "fsync"]
            .map(|durability| measure(&Broker::start(durability), durability))
            .into_iter()
            .collect(),
    }
}

fn measure(broker: &Broker, name: &str) {
    let mut client = Client::connect(&broker.address);
    let topic = CreatableTopic::default()
        .with_name(TopicName(text(TOPIC)))
        .with_num_partitions(PARTITIONS)
        .with_replication_factor(1);
    client.call(7, &CreateTopicsRequest::default().with_timeout_ms(30_000).with_topics(vec![topic]));
    let find = FindCoordinatorRequest::default().with_key_type(0).with_coordinator_keys(vec![text("g")]);
    until(|| client.call(4, &find).coordinators[0].error_code == 0);

    let member = Member::join(&mut client, "bench-heartbeats");
    for in_flight in [1, 32] {
        let beat = HeartbeatRequest::default()
            .with_group_id(GroupId(text("bench-heartbeats")))
            .with_generation_id(member.generation)
            .with_member_id(member.id.clone());
        let line = paced(broker, &mut client, HEARTBEATS, in_flight, &frame(4, &beat), |client| {
            assert_eq!(client.receive::<HeartbeatRequest>(4).error_code, 0);
        });
        println!("{name}: heartbeat, {in_flight} in flight: {line}");
    }
    for in_flight in [1, 5] {
        let partition =
            |index| OffsetCommitRequestPartition::default().with_partition_index(index).with_committed_offset(1234);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text(TOPIC)))
            .with_partitions((0..PARTITIONS).map(partition).collect());
        let commit =
            OffsetCommitRequest::default().with_group_id(GroupId(text("bench-commits"))).with_topics(vec![topic]);
        let line = paced(broker, &mut client, COMMITS, in_flight, &frame(8, &commit), |client| {
            let reply = client.receive::<OffsetCommitRequest>(8);
            assert!(reply.topics[0].partitions.iter().all(|p| p.error_code == 0), "{reply:?}");
        });
        println!("{name}: commit of {PARTITIONS}, {in_flight} in flight: {line}");
    }
    let (at, cpu, rss) = (Instant::now(), broker.cpu_s(), broker.rss_mib());
    for n in 0..GROUPS {
        // Many at once: each new group waits a moment for further members.
        client.send(&frame(5, &Member::request(&format!("bench-{n}"), "", 300_000)));
        if n % 512 == 511 || n == GROUPS - 1 {
            (0..=n % 512).for_each(|_| drop(client.receive::<JoinGroupRequest>(5)));
        }
    }
    let (s, cpu) = (at.elapsed().as_secs_f64(), broker.cpu_s() - cpu);
    println!(
        "{name}: {GROUPS} groups, a first join each: {s:.2} s, broker CPU {cpu:.2} s, RSS {rss:.1} -> {:.1} MiB",
        broker.rss_mib()
    );
}

/// Sends `frame` `count` times, `in_flight` at once; a line of what it took.
fn paced(
    broker: &Broker,
    client: &mut Client,
    count: usize,
    in_flight: usize,
    frame: &[u8],
    mut receive: impl FnMut(&mut Client),
) -> String {
    let mut sent = std::collections::VecDeque::new();
    let mut times_us = Vec::with_capacity(count);
    let (cpu, at) = (broker.cpu_s(), Instant::now());
    for n in 0..count + in_flight {
        if n >= in_flight {
            receive(client);
            times_us.push(Instant::elapsed(&sent.pop_front().unwrap()).as_secs_f64() * 1e6);
        }
        if n < count {
            sent.push_back(Instant::now());
            client.send(frame);
        }
    }
    let (s, cpu) = (at.elapsed().as_secs_f64(), broker.cpu_s() - cpu);
    times_us.sort_by(f64::total_cmp);
    let at = |q: f64| times_us[(q * (times_us.len() - 1) as f64) as usize];
    let rate = count as f64 / s;
    format!(
        "{rate:.0}/s, broker CPU {:.1} us each, p50 {:.0} us, p99 {:.0} us",
        cpu * 1e6 / count as f64,
        at(0.5),
        at(0.99)
    )
}

/// One member of a group of its own.
struct Member {
    id: StrBytes,
    generation: i32,
}

impl Member {
    fn request(group: &str, id: &str, session_timeout_ms: i32) -> JoinGroupRequest {
        let protocol =
            JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(&[0; 16]));
        JoinGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_session_timeout_ms(session_timeout_ms)
            .with_rebalance_timeout_ms(session_timeout_ms)
            .with_member_id(text(id))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    }

    fn join(client: &mut Client, group: &str) -> Member {
        let told = client.call(5, &Member::request(group, "", 30_000));
        let joined = client.call(5, &Member::request(group, &told.member_id, 30_000));
        assert_eq!(joined.error_code, 0);
        let assignment = SyncGroupRequestAssignment::default().with_member_id(joined.member_id.clone());
        let sync = SyncGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_generation_id(joined.generation_id)
            .with_member_id(joined.member_id.clone())
            .with_assignments(vec![assignment]);
        assert_eq!(client.call(3, &sync).error_code, 0);
        Member { id: joined.member_id, generation: joined.generation_id }
    }
}

/// Asks again while the coordinator is being made.
fn until(mut done: impl FnMut() -> bool) {
    let at = Instant::now();
    while !done() {
        assert!(at.elapsed() < Duration::from_secs(30), "no coordinator");
        std::thread::sleep(Duration::from_millis(50));
    }
}
