use super::*;
use crate::wire::Reply;
use std::sync::{Mutex, atomic::Ordering};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
    task::JoinHandle,
};

/// Frames are a key (0 = may be large), a command and its argument.
#[derive(Default)]
struct Script {
    accepted: AtomicUsize,
    /// Replies that `l` waits for, by its argument.
    later: Mutex<Vec<(u8, oneshot::Sender<()>)>>,
}

impl Service for Script {
    async fn accept(&self, _: &Connection, frame: Bytes, _: Instant) -> Outcome {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let argument = frame.slice(3..);
        match frame[2] {
            b'e' => Outcome::Reply(Reply::new(vec![argument.slice(..0), argument.clone(), argument])),
            b'n' => Outcome::Reply(Reply::new(vec![Bytes::from(vec![7; argument.len() * 1024 * 1024])])),
            b'l' => {
                let (release, released) = oneshot::channel();
                self.later.lock().unwrap().push((argument[0], release));
                Outcome::Later(Box::pin(async move {
                    released.await.ok();
                    Reply::new(vec![argument])
                }))
            }
            b's' => Outcome::Silent,
            b'w' => {
                let (release, released) = oneshot::channel();
                self.later.lock().unwrap().push((argument[0], release));
                released.await.ok();
                self.accepted.fetch_add(1, Ordering::SeqCst);
                Outcome::Silent
            }
            b'c' => Outcome::Close(CloseReason::SilentFailure),
            b'p' => panic!("asked to"),
            command => panic!("command {command}"),
        }
    }
    fn frame_bytes_max(&self, api_key: i16) -> usize {
        if api_key == 0 { 100 << 20 } else { 1 << 20 }
    }
    fn idle_ms(&self) -> u64 {
        600_000
    }
}

struct Peer {
    shared: Arc<Shared<Script>>,
    client: TcpStream,
    phase: watch::Sender<Phase>,
    server: JoinHandle<Closed>,
}

async fn connect(shared: Arc<Shared<Script>>) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    let connection = Connection { id: 1, listener: 0, local: socket.local_addr().unwrap(), peer };
    let (phase, receiver) = watch::channel(Phase::Serving);
    let server = tokio::spawn(serve(shared.clone(), socket, connection, receiver));
    Peer { shared, client, phase, server }
}

fn shared() -> Arc<Shared<Script>> {
    Arc::new(Shared::new(Script::default(), Metrics::new()))
}

fn frame(key: i16, command: u8, argument: &[u8]) -> Vec<u8> {
    let mut frame = (3 + argument.len() as i32).to_be_bytes().to_vec();
    frame.extend(key.to_be_bytes());
    frame.push(command);
    frame.extend(argument);
    frame
}

impl Peer {
    async fn send(&mut self, bytes: &[u8]) {
        self.client.write_all(bytes).await.unwrap();
    }
    async fn expect(&mut self, bytes: &[u8]) {
        let mut got = vec![0; bytes.len()];
        self.client.read_exact(&mut got).await.unwrap();
        assert!(got == bytes, "got {:?}, expected {:?}", &got[..got.len().min(50)], &bytes[..bytes.len().min(50)]);
    }
    async fn closed(self) -> Closed {
        let closed = self.server.await.unwrap();
        drop(self.client);
        closed
    }
    /// Waits until the service has taken `count` requests.
    async fn accepted(&self, count: usize) {
        while self.shared.service.accepted.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
    fn release(&self, argument: u8) {
        let mut later = self.shared.service.later.lock().unwrap();
        let at = later.iter().position(|(a, _)| *a == argument).unwrap();
        later.remove(at).1.send(()).unwrap();
    }
}

#[tokio::test]
async fn replies_leave_in_request_order() {
    let mut peer = connect(shared()).await;
    let requests = [frame(1, b'l', b"a"), frame(1, b'l', b"b"), frame(1, b's', b""), frame(1, b'e', b"c")].concat();
    peer.send(&requests).await;
    peer.accepted(4).await;
    peer.release(b'b');
    peer.release(b'a');
    peer.expect(b"abcc").await;
    peer.send(&frame(1, b'e', b"again")).await;
    peer.expect(b"againagain").await;
}

#[tokio::test]
async fn frames_survive_any_cut() {
    let mut peer = connect(shared()).await;
    for byte in frame(1, b'e', b"slowly") {
        peer.send(&[byte]).await;
        tokio::task::yield_now().await;
    }
    peer.expect(b"slowlyslowly").await;
    // Around the size of the connection's buffer, and with neighbours on both sides.
    for size in [0, 1, 30_000, 65_528, 65_529, 65_530, 65_536, 131_072, 1 << 20, (9 << 20) + 5] {
        let argument: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let requests =
            [frame(0, b'e', b"x"), frame(0, b'e', &argument), frame(0, b'e', b"y"), frame(0, b'e', &argument)];
        let (mut reader, mut writer) = peer.client.into_split();
        let sent = tokio::spawn(async move {
            writer.write_all(&requests.concat()).await.unwrap();
            writer
        });
        let expected = [b"xx", &argument[..], &argument, b"yy", &argument, &argument].concat();
        let mut got = vec![0; expected.len()];
        reader.read_exact(&mut got).await.unwrap();
        assert!(got == expected, "size {size}");
        peer.client = reader.reunite(sent.await.unwrap()).unwrap();
    }
    let shared = peer.shared.clone();
    assert_eq!(shared.permits.available_permits(), REQUEST_BYTES_MAX);
    assert_eq!(shared.large_permits.available_permits(), REQUEST_LARGE_BYTES_MAX);
}

#[tokio::test]
async fn hostile_lengths_close_the_connection() {
    for (bytes, expected) in [
        (vec![0xff, 0xff, 0xff, 0xff], FrameError::Length(-1)),
        (vec![0, 0, 0, 0], FrameError::Length(0)),
        (
            vec![0x7f, 0xff, 0xff, 0xff, 0, 1],
            FrameError::TooLarge { frame_bytes: i32::MAX as usize, frame_bytes_max: 1 << 20, api_key: 1 },
        ),
    ] {
        let mut peer = connect(shared()).await;
        peer.send(&[frame(1, b'e', b"good"), bytes].concat()).await;
        // What came before is answered all the same.
        peer.expect(b"goodgood").await;
        assert_eq!(peer.closed().await, Closed::Frame(expected));
    }
}

#[tokio::test]
async fn a_claimed_length_takes_no_permits() {
    let shared = shared();
    let mut peers = vec![];
    for _ in 0..20 {
        let mut peer = connect(shared.clone()).await;
        let mut claim = (100i32 << 20).to_be_bytes().to_vec();
        claim.extend([0, 0, b'e']);
        peer.send(&claim).await;
        peers.push(peer);
    }
    let mut good = connect(shared.clone()).await;
    good.send(&frame(0, b'e', &[3; 200_000])).await;
    good.expect(&[3; 400_000]).await;
    assert_eq!(shared.large_permits.available_permits(), REQUEST_LARGE_BYTES_MAX);
}

#[tokio::test]
async fn frames_that_have_all_begun_do_not_block_each_other() {
    // Permits for less than one of the frames: all eight wait for the last of them.
    let shared = Arc::new(Shared::with_permits(Script::default(), Metrics::new(), 100 << 10, 0));
    let argument = vec![9; 500 << 10];
    let mut tasks = vec![];
    for _ in 0..8 {
        let mut peer = connect(shared.clone()).await;
        let argument = argument.clone();
        tasks.push(tokio::spawn(async move {
            peer.send(&frame(0, b's', &argument)).await;
            peer.send(&frame(0, b'e', b"done")).await;
            peer.expect(b"donedone").await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!((shared.permits.available_permits(), shared.overdraft.available_permits()), (100 << 10, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_frame_that_holds_permits_is_closed() {
    let mut peer = connect(shared()).await;
    let bytes = frame(0, b'e', &[1; 1 << 20]);
    peer.send(&bytes[..200 << 10]).await;
    // The clock moves by itself while everybody waits.
    let shared = peer.shared.clone();
    assert_eq!(peer.closed().await, Closed::Slow);
    assert_eq!(shared.permits.available_permits(), REQUEST_BYTES_MAX);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_so_is_one_stuck_in_a_frame() {
    let start = Instant::now();
    let peer = connect(shared()).await;
    assert_eq!(peer.closed().await, Closed::Idle);
    let mut peer = connect(shared()).await;
    peer.send(&[0, 0, 0]).await;
    assert_eq!(peer.closed().await, Closed::Idle);
    assert!(start.elapsed() >= Duration::from_secs(1200));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_read_stops_being_read_and_is_closed() {
    let mut peer = connect(shared()).await;
    for _ in 0..200 {
        peer.send(&frame(1, b'n', b"1")).await;
    }
    let shared = peer.shared.clone();
    assert_eq!(peer.closed().await, Closed::Unread);
    let accepted = shared.service.accepted.load(Ordering::SeqCst);
    assert!((REPLY_BYTES_MAX >> 20..REPLY_BYTES_MAX / (1 << 20) + 32).contains(&accepted), "{accepted}");
}

#[tokio::test]
async fn while_all_hold_too_much_each_goes_on_with_its_share() {
    let shared = shared();
    shared.reply_bytes.store(REPLY_BYTES_TOTAL_MAX, Ordering::SeqCst);
    let mut peer = connect(shared.clone()).await;
    let many = 40;
    peer.send(&frame(1, b'n', b"1").repeat(many)).await;
    peer.accepted(1).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let accepted = shared.service.accepted.load(Ordering::SeqCst);
    assert!(accepted < many / 2, "{accepted} accepted, and none of the replies read");
    peer.expect(&vec![7; many << 20]).await;
    drop(peer.client);
    peer.server.await.unwrap();
    assert_eq!(shared.reply_bytes.load(Ordering::SeqCst), REPLY_BYTES_TOTAL_MAX);
}

#[tokio::test]
async fn no_more_than_the_bound_of_requests_is_accepted_at_once() {
    let mut peer = connect(shared()).await;
    let many = 3 * PIPELINE_DEPTH_MAX;
    peer.send(&frame(1, b'l', b"z")).await;
    peer.send(&frame(1, b'e', b"x").repeat(many)).await;
    peer.accepted(PIPELINE_DEPTH_MAX).await;
    peer.release(b'z');
    peer.expect(b"z").await;
    peer.expect("xx".repeat(many).as_bytes()).await;
    peer.accepted(many + 1).await;
}

#[tokio::test]
async fn a_panic_closes_its_connection_only() {
    let shared = shared();
    let mut good = connect(shared.clone()).await;
    let mut bad = connect(shared.clone()).await;
    bad.send(&frame(1, b'p', b"")).await;
    assert_eq!(bad.closed().await, Closed::Panicked);
    good.send(&frame(1, b'e', b"alive")).await;
    good.expect(b"alivealive").await;
}

#[tokio::test]
async fn a_request_that_closes_lets_earlier_replies_out() {
    let mut peer = connect(shared()).await;
    let requests = [frame(1, b'l', b"a"), frame(1, b'c', b""), frame(1, b'e', b"never")].concat();
    peer.send(&requests).await;
    peer.accepted(2).await;
    peer.release(b'a');
    peer.expect(b"a").await;
    assert_eq!(peer.client.read(&mut [0; 10]).await.unwrap_or(0), 0);
    assert_eq!(peer.closed().await, Closed::Request(CloseReason::SilentFailure));
}

#[tokio::test]
async fn a_peer_that_goes_away_gives_up_its_waiting_requests() {
    let mut peer = connect(shared()).await;
    peer.send(&frame(1, b'l', b"a")).await;
    peer.accepted(1).await;
    let shared = peer.shared.clone();
    peer.client.shutdown().await.unwrap();
    assert_eq!(peer.closed().await, Closed::Peer);
    assert!(shared.service.later.lock().unwrap()[0].1.is_closed());
}

#[tokio::test]
async fn a_connection_that_breaks_gives_up_the_request_being_accepted_and_its_memory() {
    let mut peer = connect(shared()).await;
    let frame = [frame(0, b'w', &[1; 1 << 20]), frame(0, b'e', b"behind it")].concat();
    peer.send(&frame).await;
    peer.accepted(1).await;
    let shared = peer.shared.clone();
    assert!(shared.permits.available_permits() < REQUEST_BYTES_MAX);
    // Without linger a close is a reset.
    socket2::SockRef::from(&peer.client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer.client);
    assert_eq!(peer.server.await.unwrap(), Closed::Peer);
    assert!(shared.service.later.lock().unwrap()[0].1.is_closed());
    assert_eq!(shared.permits.available_permits(), REQUEST_BYTES_MAX);
}

#[tokio::test]
async fn what_a_peer_sent_before_it_closed_in_order_is_accepted() {
    let mut peer = connect(shared()).await;
    peer.send(&[frame(1, b'w', b"a"), frame(1, b's', b"")].concat()).await;
    peer.accepted(1).await;
    peer.client.shutdown().await.unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    peer.release(b'a');
    // `w` counts at its beginning and at its end.
    peer.accepted(3).await;
    assert_eq!(peer.closed().await, Closed::Peer);
}

#[tokio::test]
async fn draining_answers_what_was_accepted_and_closing_does_not() {
    let shared = shared();
    let idle = connect(shared.clone()).await;
    let mut peer = connect(shared.clone()).await;
    let mut stuck = connect(shared.clone()).await;
    stuck.send(&frame(1, b'l', b"s")).await;
    peer.send(&frame(1, b'l', b"p")).await;
    peer.accepted(2).await;
    for peer in [&idle, &peer, &stuck] {
        peer.phase.send(Phase::Draining).unwrap();
    }
    assert_eq!(idle.closed().await, Closed::Stopping);
    peer.release(b'p');
    peer.expect(b"p").await;
    assert_eq!(peer.closed().await, Closed::Stopping);
    stuck.phase.send(Phase::Closing).unwrap();
    assert_eq!(stuck.closed().await, Closed::Stopping);
}

#[tokio::test]
async fn an_idle_connection_holds_no_buffer_and_little_else() {
    let shared = shared();
    let mut peer = connect(shared.clone()).await;
    peer.send(&frame(1, b'e', b"x")).await;
    peer.expect(b"xx").await;
    while shared.buffers.free() == 0 {
        tokio::task::yield_now().await;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = TcpStream::connect(address).await.unwrap();
    let connection = Connection { id: 2, listener: 0, local: address, peer: address };
    let future = serve(shared, socket, connection, peer.phase.subscribe());
    let future_bytes = std::mem::size_of_val(&future);
    assert!(future_bytes <= 2048, "the future of an idle connection takes {future_bytes} bytes");
}
