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
    replies::{Owed, Replies, Ticket},
};
use crate::{
    api::{CloseReason, Connection, Outcome},
    limits::*,
    metrics::Metrics,
    wire::{
        frame::{self, FrameError, Next},
        header,
    },
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
    /// Takes one frame (without its length prefix), the last byte of which was received at `received`.
    fn accept<'a>(
        &'a self,
        connection: &'a Connection,
        frame: Bytes,
        received: Instant,
    ) -> impl Future<Output = Outcome> + Send + use<'a, Self>;
    /// Largest frame of requests of an API, bytes.
    fn frame_bytes_max(&self, api_key: i16) -> usize;
    /// `connections.max.idle.ms`.
    fn idle_ms(&self) -> u64;
    /// Whether replies are timed.
    fn measures(&self) -> bool {
        false
    }
    /// The last byte of a reply was handed to the socket: `took` from the last byte of its request on, `worked` of that where the request may wait on purpose.
    fn sent(&self, _api_key: i16, _took: Duration, _worked: Option<Duration>) {}
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
            received: Instant::now(),
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
    /// When bytes were last received.
    received: Instant,
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
        let api_key = header::peek_api_key(&frame).unwrap_or(-1);
        let ticket = Ticket { api_key, received: self.received };
        let outcome = {
            let Busy { shared, connection, replies, socket, .. } = self;
            let (reader, mut writer) = socket.split();
            let mut broken = pin!(reader.ready(Interest::ERROR));
            let mut accept = pin!(shared.service.accept(connection, frame, ticket.received));
            let outcome = poll_fn(|cx| match accept.as_mut().poll(cx) {
                Poll::Ready(outcome) => Poll::Ready(Ok(outcome)),
                Poll::Pending if broken.as_mut().poll(cx).is_ready() => Poll::Ready(Err(Closed::Peer)),
                Poll::Pending => match replies.progress(cx, &mut writer, &shared.metrics, &shared.service) {
                    Ok(_) => Poll::Pending,
                    Err(_) => Poll::Ready(Err(Closed::Peer)),
                },
            });
            outcome.await?
        };
        self.active = Instant::now();
        match outcome {
            Outcome::Reply(reply) => self.replies.push(ticket, Owed::Ready(reply)),
            Outcome::Later(mut later) => {
                let first = poll_fn(|cx| Poll::Ready(later.as_mut().poll(cx))).await;
                let owed = match first {
                    Poll::Ready(reply) => Owed::Ready(reply),
                    Poll::Pending => Owed::Later(later),
                };
                self.replies.push(ticket, owed);
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
        match self.replies.progress(cx, self.socket, &self.shared.metrics, &self.shared.service) {
            Ok(None) => {}
            Ok(Some(wrote)) => self.active = wrote,
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
        self.received = self.active;
        match &mut self.large {
            Some(large) => large.received(received),
            None => self.inbox.end += received,
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests;
