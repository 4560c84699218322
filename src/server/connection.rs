//! One connection: frames in, requests accepted one after another, replies out in order. No writer task, no channel.
//!
//! An idle connection owns no buffer: its future waits for the socket, a stop and one alarm, and everything else lives in the boxed future of [`Busy`], which
//! exists only while there is something to do. Each turn of that: read once, accept every whole frame, write all ready replies at once, wait for whichever
//! comes first: bytes, a reply, room in the socket, a stop, the alarm.
//!
//! **Order.** Replies leave in request order. A future of [`Outcome::Later`] is polled once when it is accepted (it starts, and registers where it waits) and from
//! then on when it is the oldest reply owed: so a round that settles a hundred of them wakes this task once and is read off front to back.
//!
//! **Bounds.** Requests owed: [`PIPELINE_DEPTH_MAX`]; reply bytes held: [`REPLY_BYTES_MAX`], and [`REPLY_SHARE_BYTES`] while all connections together hold
//! [`REPLY_BYTES_TOTAL_MAX`] (then the socket is not read). Bytes of a large frame draw permits in steps
//! as they arrive, never for the length claimed; when none are left one connection at a time may finish its frame without, so that frames that have all begun
//! cannot block each other.

use super::{
    buffers::Buffers,
    inbox::{Inbox, Large},
    replies::{Owed, Replies},
};
use crate::{
    api::{CloseReason, Connection, Outcome},
    limits::*,
    metrics::Metrics,
    wire::frame::{self, FrameError, Next},
};
use bytes::Bytes;
use std::{
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, atomic::AtomicUsize},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, Interest, ReadBuf},
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{Instant, Sleep},
};

/// What is behind the connections: the API layer, or a test.
pub trait Service: Send + Sync + 'static {
    /// Takes one frame (without its length prefix).
    fn accept<'a>(
        &'a self,
        connection: &'a Connection,
        frame: Bytes,
    ) -> impl Future<Output = Outcome> + Send + use<'a, Self>;
    /// Largest frame of requests of an API, bytes.
    fn frame_bytes_max(&self, api_key: i16) -> usize;
    /// `connections.max.idle.ms`.
    fn idle_ms(&self) -> u64;
}

/// What all connections of a server share.
#[derive(Debug)]
pub struct Shared<S> {
    pub service: S,
    pub metrics: Metrics,
    pub buffers: Arc<Buffers>,
    /// Permits for bytes of frames, beyond each connection's own buffer; and those of frames above [`FRAME_LARGE_BYTES`].
    pub(super) permits: Arc<Semaphore>,
    pub(super) large_permits: Arc<Semaphore>,
    /// One token: its holder goes on without permits.
    pub(super) overdraft: Arc<Semaphore>,
    /// Reply bytes that all connections hold.
    reply_bytes: AtomicUsize,
}

impl<S> Shared<S> {
    /// With nothing in use.
    pub fn new(service: S, metrics: Metrics) -> Shared<S> {
        Shared::with_permits(service, metrics, REQUEST_BYTES_MAX, REQUEST_LARGE_BYTES_MAX)
    }

    fn with_permits(service: S, metrics: Metrics, permits: usize, large_permits: usize) -> Shared<S> {
        Shared {
            service,
            metrics,
            buffers: Arc::default(),
            permits: Arc::new(Semaphore::new(permits)),
            large_permits: Arc::new(Semaphore::new(large_permits)),
            overdraft: Arc::new(Semaphore::new(1)),
            reply_bytes: AtomicUsize::new(0),
        }
    }
}

/// What connections are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Serving,
    /// Read no more, answer what was accepted, close.
    Draining,
    /// Close now.
    Closing,
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The peer closed it or went away.
    Peer,
    /// Nothing came or went for `connections.max.idle.ms`.
    Idle,
    /// This node is stopping.
    Stopping,
    Frame(FrameError),
    Request(CloseReason),
    /// It holds permits and brings its frame too slowly.
    Slow,
    /// It does not read its replies.
    Unread,
    /// A panic while a request was handled.
    Panicked,
}

impl Closed {
    /// Whether the peer broke a rule: counted and logged as a warning.
    pub fn is_refusal(&self) -> bool {
        !matches!(self, Closed::Peer | Closed::Idle | Closed::Stopping)
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::Peer => f.write_str("closed by the peer"),
            Closed::Idle => f.write_str("idle for connections.max.idle.ms"),
            Closed::Stopping => f.write_str("the node is stopping"),
            Closed::Frame(error) => error.fmt(f),
            Closed::Request(CloseReason::Unreadable(what)) => write!(f, "unreadable request: {what}"),
            Closed::Request(CloseReason::Unsupported { api_key, api_version, .. }) => {
                write!(f, "unsupported version: API {api_key} v{api_version}")
            }
            Closed::Request(CloseReason::SilentFailure) => f.write_str("a Produce with acks=0 failed"),
            Closed::Slow => f.write_str("a frame that holds memory arrives too slowly"),
            Closed::Unread => f.write_str("replies are not read"),
            Closed::Panicked => f.write_str("a request made its handler panic"),
        }
    }
}

/// Serves one connection to its end and reports it. A panic ends this connection only.
pub async fn serve<S: Service>(
    shared: Arc<Shared<S>>,
    mut socket: TcpStream,
    connection: Connection,
    phase: watch::Receiver<Phase>,
) -> Closed {
    let closed = {
        let mut turns = pin!(turns(&shared, &mut socket, &connection, phase));
        poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| turns.as_mut().poll(cx))) {
            Ok(Poll::Ready(closed)) => Poll::Ready(closed),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(Closed::Panicked),
        })
        .await
    };
    report(&shared.metrics, &connection, &closed);
    closed
}

fn report(metrics: &Metrics, connection: &Connection, closed: &Closed) {
    let peer = connection.peer;
    if let Closed::Request(CloseReason::Unsupported { api_key, api_version, client_id }) = closed {
        metrics.unsupported_version(*api_key, *api_version);
        tracing::warn!(%peer, api_key, api_version, ?client_id, "connection closed: unsupported version");
    } else if closed.is_refusal() {
        tracing::warn!(%peer, reason = %closed, "connection closed");
    } else {
        tracing::debug!(%peer, reason = %closed, "connection closed");
    }
    if closed.is_refusal() {
        metrics.connections_refused.increment(1);
    }
}

/// Waits idle, is busy, waits idle.
async fn turns<S: Service>(
    shared: &Shared<S>,
    socket: &mut TcpStream,
    connection: &Connection,
    mut phase: watch::Receiver<Phase>,
) -> Closed {
    let mut closing = phase.clone();
    let mut closing = pin!(reached(&mut closing, Phase::Closing));
    let mut draining = pin!(reached(&mut phase, Phase::Draining));
    let mut alarm = pin!(tokio::time::sleep(FAR));
    loop {
        let idle_until = Instant::now() + Duration::from_millis(shared.service.idle_ms());
        let readable = poll_fn(|cx| {
            if draining.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Closed::Stopping));
            }
            if let Poll::Ready(readable) = socket.poll_read_ready(cx) {
                return Poll::Ready(readable.map_err(|_| Closed::Peer));
            }
            poll_alarm(alarm.as_mut(), cx, idle_until).map(|()| Err(Closed::Idle))
        });
        if let Err(closed) = readable.await {
            return closed;
        }
        let busy = Busy {
            shared,
            connection,
            socket,
            inbox: Inbox::default(),
            large: None,
            replies: Replies::new(&shared.reply_bytes),
            paused: false,
            closing: None,
            active: Instant::now(),
        };
        let mut busy = Box::pin(busy.run(draining.as_mut(), alarm.as_mut()));
        let idle = poll_fn(|cx| match closing.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(Closed::Stopping)),
            Poll::Pending => busy.as_mut().poll(cx),
        });
        if let Err(closed) = idle.await {
            return closed;
        }
    }
}

/// Done when the server is in `phase` or beyond (or gone).
async fn reached(current: &mut watch::Receiver<Phase>, phase: Phase) {
    let _ = current.wait_for(|current| *current >= phase).await;
}

/// Longer than anything is waited for; an alarm that is set to it has never been armed.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Ready once `due` is past. The timer is moved only where it would fire too late; where it fires too early it is set again: so a busy connection does not touch
/// it at all.
fn poll_alarm(mut alarm: Pin<&mut Sleep>, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
    loop {
        if alarm.deadline() > due || alarm.is_elapsed() {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        if Instant::now() >= due {
            return Poll::Ready(());
        }
    }
}

/// A connection with something to do.
struct Busy<'a, S> {
    shared: &'a Shared<S>,
    connection: &'a Connection,
    socket: &'a mut TcpStream,
    inbox: Inbox,
    /// A frame too large for the inbox that is arriving.
    large: Option<Large>,
    replies: Replies<'a>,
    /// Whole frames may lie in the inbox: there was no room for more replies.
    paused: bool,
    /// No more is read; the replies owed go out, then the connection ends with this.
    closing: Option<Closed>,
    /// When a byte last came or went.
    active: Instant,
}

/// What a turn ended with.
enum Turn {
    /// Look for frames.
    Received,
    /// Nothing is owed and nothing has begun.
    Idle,
}

/// What happens when the alarm goes off.
enum Alarm {
    JudgeSpeed,
    Close(Closed),
}

impl<S: Service> Busy<'_, S> {
    /// Runs until there is nothing to do.
    async fn run(
        mut self,
        mut draining: Pin<&mut impl Future<Output = ()>>,
        mut alarm: Pin<&mut Sleep>,
    ) -> Result<(), Closed> {
        loop {
            let turn = poll_fn(|cx| self.poll_turn(cx, draining.as_mut(), alarm.as_mut()));
            match turn.await? {
                Turn::Received => self.accept_frames().await?,
                Turn::Idle => return Ok(()),
            }
        }
    }

    /// Accepts every whole frame there is, as long as replies have room.
    async fn accept_frames(&mut self) -> Result<(), Closed> {
        if let Some(large) = self.large.take_if(|large| large.filled == large.frame_bytes) {
            self.accept(large.into_frame()).await?;
        }
        while self.closing.is_none() {
            self.paused = !self.replies.has_room();
            if self.paused {
                break;
            }
            match frame::next(self.inbox.received(), |api_key| self.shared.service.frame_bytes_max(api_key)) {
                Ok(Next::Partial) => break,
                Ok(Next::Whole { frame_bytes }) => {
                    let frame = self.inbox.take_frame(frame_bytes);
                    self.accept(frame).await?;
                }
                Ok(Next::Large { frame_bytes }) => {
                    self.large = Some(Large::begin(&self.shared.buffers, &mut self.inbox, frame_bytes));
                }
                Err(error) => self.close(Closed::Frame(error)),
            }
        }
        Ok(())
    }

    /// Accepts one request. While it waits (a cold partition), earlier replies go on, and a connection that broke gives it up. One that the peer closed in order does not:
    /// its last requests may be ones that it wants no reply to (acks=0). The API layer bounds the wait, and so how long the frame's memory is held.
    async fn accept(&mut self, frame: Bytes) -> Result<(), Closed> {
        self.shared.metrics.requests.increment(1);
        self.shared.metrics.request_bytes.increment(frame.len() as u64);
        let outcome = {
            let Busy { shared, connection, replies, socket, .. } = self;
            let (reader, mut writer) = socket.split();
            let mut broken = pin!(reader.ready(Interest::ERROR));
            let mut accept = pin!(shared.service.accept(connection, frame));
            let outcome = poll_fn(|cx| match accept.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending if broken.as_mut().poll(cx).is_ready() => Poll::Ready(Err(Closed::Peer)),
                Poll::Pending => match replies.progress(cx, &mut writer, &shared.metrics) {
                    Ok(_) => Poll::Pending,
                    Err(_) => Poll::Ready(Err(Closed::Peer)),
                },
            });
            outcome.await?
        };
        self.active = Instant::now();
        match outcome {
            Outcome::Reply(reply) => self.replies.push(Owed::Ready(reply)),
            Outcome::Later(mut later) => {
                let first = poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx))).await;
                self.replies.push(match first {
                    Poll::Ready(reply) => Owed::Ready(reply),
                    Poll::Pending => Owed::Later(later),
                });
            }
            Outcome::Silent => {}
            Outcome::Close(reason) => self.close(Closed::Request(reason)),
        }
        Ok(())
    }

    /// Reads no more; what is owed is still sent.
    fn close(&mut self, closed: Closed) {
        self.closing = Some(closed);
        self.inbox = Inbox::default();
        self.large = None;
        self.paused = false;
        self.active = Instant::now();
    }

    fn poll_turn(
        &mut self,
        cx: &mut Context<'_>,
        draining: Pin<&mut impl Future<Output = ()>>,
        mut alarm: Pin<&mut Sleep>,
    ) -> Poll<Result<Turn, Closed>> {
        match self.replies.progress(cx, self.socket, &self.shared.metrics) {
            Ok(false) => {}
            Ok(true) => self.active = Instant::now(),
            Err(_) => return Poll::Ready(Err(Closed::Peer)),
        }
        if self.closing.is_none() && draining.poll(cx).is_ready() {
            self.close(Closed::Stopping);
        }
        if let Some(closed) = self.closing.take_if(|_| self.replies.is_empty()) {
            return Poll::Ready(Err(closed));
        }
        if self.closing.is_none() && self.replies.has_room() {
            if self.paused || self.poll_receive(cx)?.is_ready() {
                return Poll::Ready(Ok(Turn::Received));
            }
            if self.replies.is_empty() && self.inbox.received().is_empty() && self.large.is_none() {
                return Poll::Ready(Ok(Turn::Idle));
            }
        }
        while let Some((due, then)) = self.next_alarm() {
            ready!(poll_alarm(alarm.as_mut(), cx, due));
            match (then, &mut self.large) {
                (Alarm::JudgeSpeed, Some(large)) => large.judge_speed()?,
                (Alarm::JudgeSpeed, None) => {}
                (Alarm::Close(closed), _) => return Poll::Ready(Err(closed)),
            }
        }
        Poll::Pending
    }

    /// The first thing that time would end.
    fn next_alarm(&self) -> Option<(Instant, Alarm)> {
        let unread = self.active + Duration::from_millis(REPLY_UNREAD_MS_MAX);
        if let Some(closed) = &self.closing {
            return Some((unread, Alarm::Close(closed.clone())));
        }
        if self.replies.are_unread() {
            return Some((unread, Alarm::Close(Closed::Unread)));
        }
        match &self.large {
            Some(large) if !large.is_waiting() && self.replies.has_room() => {
                let due = large.window_start + Duration::from_millis(RECEIVE_WINDOW_MS);
                Some((due, Alarm::JudgeSpeed))
            }
            // Waiting for permits, or for its own replies: not the peer's fault.
            Some(_) => None,
            // A reply is being waited for: not idle.
            None if self.replies.is_waiting() => None,
            None => {
                Some((self.active + Duration::from_millis(self.shared.service.idle_ms()), Alarm::Close(Closed::Idle)))
            }
        }
    }

    /// Reads once.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let space = match &mut self.large {
            Some(large) => {
                ready!(large.poll_permitted(cx, self.shared));
                large.space()
            }
            None => self.inbox.space(&self.shared.buffers),
        };
        let mut space = ReadBuf::new(space);
        let received = match ready!(Pin::new(&mut *self.socket).poll_read(cx, &mut space)) {
            Ok(()) => space.filled().len(),
            Err(_) => 0,
        };
        if received == 0 {
            return Poll::Ready(Err(Closed::Peer));
        }
        self.active = Instant::now();
        match &mut self.large {
            Some(large) => large.received(received),
            None => self.inbox.end += received,
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
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
        async fn accept(&self, _: &Connection, frame: Bytes) -> Outcome {
            self.accepted.fetch_add(1, Ordering::SeqCst);
            let argument = frame.slice(3..);
            match frame[2] {
                b'e' => Outcome::Reply(Reply { chunks: vec![argument.slice(..0), argument.clone(), argument] }),
                b'n' => Outcome::Reply(Reply { chunks: vec![Bytes::from(vec![7; argument.len() * 1024 * 1024])] }),
                b'l' => {
                    let (release, released) = oneshot::channel();
                    self.later.lock().unwrap().push((argument[0], release));
                    Outcome::Later(Box::pin(async move {
                        released.await.ok();
                        Reply { chunks: vec![argument] }
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
        let connection = Connection { id: 1, local: socket.local_addr().unwrap(), peer };
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
        let connection = Connection { id: 2, local: address, peer: address };
        let future = serve(shared, socket, connection, peer.phase.subscribe());
        let future_bytes = std::mem::size_of_val(&future);
        assert!(future_bytes <= 2048, "the future of an idle connection takes {future_bytes} bytes");
    }
}
