//! Replies on their way out: owed in request order, written as many at once as are ready.

use super::connection::Service;
use crate::{
    limits::*,
    metrics::Metrics,
    wire::{Reply, Sent},
};
use bytes::{Buf, Bytes};
use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{io::AsyncWrite, time::Instant};

/// A reply that is owed.
pub(super) enum Owed {
    Ready(Reply),
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

/// Which request a reply is owed to.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    /// -1 where the frame is too short to name one.
    pub(super) api_key: i16,
    /// When its last byte was received.
    pub(super) received: Instant,
}

/// The end of a reply among the bytes on their way out.
struct Mark {
    /// Bytes of this connection up to there.
    end: u64,
    ticket: Ticket,
    waited: Option<Duration>,
    sent: Option<Box<dyn Sent>>,
}

/// Most replies timed at once: more lie here only where the peer does not read.
const MARKS_MAX: usize = 2 * PIPELINE_DEPTH_MAX;

/// Replies owed in request order, and the pieces of those on their way out.
pub(super) struct Replies<'a> {
    owed: VecDeque<(Ticket, Owed)>,
    out: VecDeque<Bytes>,
    out_bytes: usize,
    /// Ends of the replies in `out`, as far as they are timed; and bytes written so far.
    marks: VecDeque<Mark>,
    written: u64,
    /// Bytes of `out` and of the ready ones in `owed`.
    held_bytes: usize,
    /// The same of all connections.
    total_bytes: &'a AtomicUsize,
}

impl Drop for Replies<'_> {
    fn drop(&mut self) {
        self.let_go(self.held_bytes);
    }
}

impl Replies<'_> {
    pub(super) fn new(total_bytes: &AtomicUsize) -> Replies<'_> {
        Replies {
            owed: VecDeque::new(),
            out: VecDeque::new(),
            out_bytes: 0,
            marks: VecDeque::new(),
            written: 0,
            held_bytes: 0,
            total_bytes,
        }
    }

    fn hold(&mut self, reply: &Reply) {
        self.held_bytes += reply.size_bytes();
        self.total_bytes.fetch_add(reply.size_bytes(), Ordering::Relaxed);
    }

    fn let_go(&mut self, bytes: usize) {
        self.held_bytes -= bytes;
        self.total_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn push(&mut self, ticket: Ticket, owed: Owed) {
        if let Owed::Ready(reply) = &owed {
            self.hold(reply);
        }
        self.owed.push_back((ticket, owed));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.owed.is_empty() && self.out.is_empty()
    }

    /// Whether another request may be accepted.
    pub(super) fn has_room(&self) -> bool {
        let bytes_max = match self.total_bytes.load(Ordering::Relaxed) < REPLY_BYTES_TOTAL_MAX {
            true => REPLY_BYTES_MAX,
            // What is held leaves by this connection's own socket, so that it is woken when it has room again.
            false => REPLY_SHARE_BYTES,
        };
        self.owed.len() < PIPELINE_DEPTH_MAX && self.held_bytes < bytes_max
    }

    /// Whether the bound is reached by replies that the peer does not take.
    pub(super) fn are_unread(&self) -> bool {
        self.out_bytes > 0 && !self.has_room()
    }

    /// Whether replies are owed by us rather than by the peer's reading.
    pub(super) fn is_waiting(&self) -> bool {
        self.out.is_empty() && !self.owed.is_empty()
    }

    /// Moves what is ready to the socket, in order, until neither side moves. Says when bytes left last, if any did.
    pub(super) fn progress(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut (impl AsyncWrite + Unpin),
        metrics: &Metrics,
        service: &impl Service,
    ) -> io::Result<Option<Instant>> {
        let mut wrote = None;
        loop {
            self.settle(cx, service.measures());
            if self.out.is_empty() {
                return Ok(wrote);
            }
            match self.poll_write(cx, socket) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(bytes)) => {
                    let now = Instant::now();
                    wrote = Some(now);
                    metrics.reply_bytes.increment(bytes as u64);
                    self.wrote(bytes);
                    self.tell(now, service);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(wrote),
            }
        }
    }

    /// Takes the oldest replies that are ready out of `owed`.
    fn settle(&mut self, cx: &mut Context<'_>, timed: bool) {
        while self.out_bytes < REPLY_BYTES_MAX {
            let (ticket, reply) = match self.owed.front_mut() {
                Some((ticket, Owed::Ready(reply))) => (*ticket, std::mem::take(reply)),
                Some((ticket, Owed::Later(later))) => match later.as_mut().poll(cx) {
                    Poll::Ready(reply) => {
                        let ticket = *ticket;
                        self.hold(&reply);
                        (ticket, reply)
                    }
                    Poll::Pending => return,
                },
                None => return,
            };
            self.owed.pop_front();
            self.out_bytes += reply.size_bytes();
            if timed && self.marks.len() < MARKS_MAX {
                let end = self.written + self.out_bytes as u64;
                self.marks.push_back(Mark { end, ticket, waited: reply.waited, sent: reply.sent });
            }
            self.out.extend(reply.chunks.into_iter().filter(|chunk| !chunk.is_empty()));
        }
    }

    fn poll_write(&self, cx: &mut Context<'_>, socket: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<usize>> {
        /// Pieces that the usual turn fits in.
        const FEW: usize = 32;
        match self.out.len() {
            0..=FEW => self.poll_write_pieces::<FEW, _>(cx, socket),
            _ => self.poll_write_pieces::<WRITE_PIECES_MAX, _>(cx, socket),
        }
    }

    fn poll_write_pieces<const N: usize, W: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        socket: &mut W,
    ) -> Poll<io::Result<usize>> {
        let mut pieces = [IoSlice::new(&[]); N];
        let mut count = 0;
        for (piece, chunk) in pieces.iter_mut().zip(&self.out) {
            *piece = IoSlice::new(chunk);
            count += 1;
        }
        Pin::new(socket).poll_write_vectored(cx, &pieces[..count])
    }

    /// Tells of the replies that have left by `now`.
    fn tell(&mut self, now: Instant, service: &impl Service) {
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.end <= self.written) {
            let took = now.saturating_duration_since(mark.ticket.received);
            service.sent(mark.ticket.api_key, took, mark.waited.map(|waited| took.saturating_sub(waited)));
            if let Some(sent) = mark.sent {
                sent.sent(now);
            }
        }
    }

    fn wrote(&mut self, mut bytes: usize) {
        self.written += bytes as u64;
        self.out_bytes -= bytes;
        self.let_go(bytes);
        while bytes > 0 {
            let chunk = self.out.front_mut().expect("bytes written were queued");
            if bytes < chunk.len() {
                chunk.advance(bytes);
                return;
            }
            bytes -= chunk.len();
            self.out.pop_front();
        }
    }
}
