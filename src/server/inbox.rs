//! Receiving: the connection's own buffer, and frames too large for it.

use super::{
    buffers::{Buffer, Buffers},
    connection::{Closed, Shared},
};
use crate::{limits::*, wire::frame::PREFIX_BYTES};
use bytes::Bytes;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

/// The connection's own receive buffer, while there is something in it.
#[derive(Default)]
pub(super) struct Inbox {
    buffer: Option<Arc<Buffer>>,
    /// The buffer as `Bytes`, while frames are cut from it.
    frozen: Option<Bytes>,
    start: usize,
    pub(super) end: usize,
}

/// Keeps a buffer alive for the slices of it.
struct Handle(Arc<Buffer>);

impl AsRef<[u8]> for Handle {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl Inbox {
    pub(super) fn received(&self) -> &[u8] {
        match &self.buffer {
            Some(buffer) => &(**buffer).as_ref()[self.start..self.end],
            None => &[],
        }
    }

    /// Cuts off the first frame, which is whole. Its bytes are not copied.
    pub(super) fn take_frame(&mut self, frame_bytes: usize) -> Bytes {
        let buffer = self.buffer.as_ref().expect("a frame lies in a buffer");
        let frozen = self.frozen.get_or_insert_with(|| Bytes::from_owner(Handle(buffer.clone())));
        let from = self.start + PREFIX_BYTES;
        self.start = from + frame_bytes;
        assert!(self.start <= self.end, "frame ends at {}, received {}", self.start, self.end);
        frozen.slice(from..self.start)
    }

    /// Room to read into, behind what was received; there always is some. A new buffer where frames cut from the old one are still in use.
    pub(super) fn space(&mut self, pool: &Arc<Buffers>) -> &mut [u8] {
        self.frozen = None;
        let (start, end) = (self.start, self.end);
        (self.start, self.end) = (0, end - start);
        match &mut self.buffer {
            Some(buffer) => match Arc::get_mut(buffer) {
                Some(buffer) if start > 0 => buffer.bytes_mut().copy_within(start..end, 0),
                Some(_) => {}
                None => {
                    let mut fresh = pool.take(CONNECTION_BUFFER_BYTES);
                    fresh.bytes_mut()[..end - start].copy_from_slice(&(**buffer).as_ref()[start..end]);
                    *buffer = Arc::new(fresh);
                }
            },
            none => *none = Some(Arc::new(pool.take(CONNECTION_BUFFER_BYTES))),
        }
        let buffer = self.buffer.as_mut().and_then(Arc::get_mut).expect("nobody else has the buffer");
        &mut buffer.bytes_mut()[self.end..]
    }
}

/// A frame too large for the inbox, received straight into a buffer of its size.
pub(super) struct Large {
    buffer: Buffer,
    pub(super) filled: usize,
    pub(super) frame_bytes: usize,
    /// Bytes that may be received so far.
    permitted: usize,
    /// Waiting for permits, or for the one token to go without.
    waiting: Option<Pin<Box<dyn Future<Output = Grant> + Send>>>,
    pub(super) window_start: Instant,
    window_bytes: u64,
}

enum Grant {
    Permits(OwnedSemaphorePermit),
    Overdraft(OwnedSemaphorePermit),
}

impl Large {
    /// Moves what has arrived over; the inbox is empty then (its buffer is smaller than the frame).
    pub(super) fn begin(pool: &Arc<Buffers>, inbox: &mut Inbox, frame_bytes: usize) -> Large {
        let arrived = &inbox.received()[PREFIX_BYTES..];
        assert!(arrived.len() < frame_bytes, "{} bytes of a frame of {frame_bytes} in the inbox", arrived.len());
        let mut buffer = pool.take(frame_bytes.min(REQUEST_BUFFER_BYTES_FIRST));
        buffer.bytes_mut()[..arrived.len()].copy_from_slice(arrived);
        let filled = arrived.len();
        *inbox = Inbox::default();
        Large {
            buffer,
            filled,
            frame_bytes,
            permitted: CONNECTION_BUFFER_BYTES,
            waiting: None,
            window_start: Instant::now(),
            window_bytes: 0,
        }
    }

    /// Whether it waits for permits rather than for bytes.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether the next step is due: before the last is used up, so that reads stay large, but not before half of it has arrived.
    fn wants_permits(&self) -> bool {
        let left = self.permitted - self.filled;
        left < CONNECTION_BUFFER_BYTES.min(self.frame_bytes - self.filled) && self.filled >= left
    }

    /// Ready when more may be received.
    pub(super) fn poll_permitted<S>(&mut self, cx: &mut Context<'_>, shared: &Shared<S>) -> Poll<()> {
        while self.wants_permits() {
            if let Some(waiting) = &mut self.waiting {
                let grant = ready!(waiting.as_mut().poll(cx));
                self.waiting = None;
                self.window_start = Instant::now();
                self.window_bytes = 0;
                self.take(grant);
                continue;
            }
            let is_large = self.frame_bytes > FRAME_LARGE_BYTES;
            let permits = if is_large { &shared.large_permits } else { &shared.permits };
            let step = self.filled.clamp(CONNECTION_BUFFER_BYTES, REQUEST_STEP_BYTES_MAX);
            let step = step.min(self.frame_bytes - self.permitted) as u32;
            match permits.clone().try_acquire_many_owned(step) {
                Ok(permit) => self.take(Grant::Permits(permit)),
                Err(_) if self.permitted > self.filled => break,
                Err(_) => {
                    let (permits, overdraft) = (permits.clone(), shared.overdraft.clone());
                    self.waiting = Some(Box::pin(async move {
                        // Neither semaphore is ever closed.
                        tokio::select! {
                            biased;
                            Ok(permit) = permits.acquire_many_owned(step) => Grant::Permits(permit),
                            Ok(token) = overdraft.acquire_owned() => Grant::Overdraft(token),
                        }
                    }));
                }
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self, grant: Grant) {
        match grant {
            Grant::Permits(permit) => {
                self.permitted += permit.num_permits();
                match &mut self.buffer.permits {
                    Some(held) => held.merge(permit),
                    none => *none = Some(permit),
                }
            }
            Grant::Overdraft(token) => {
                self.permitted = self.frame_bytes;
                self.buffer.overdraft = Some(token);
            }
        }
    }

    /// Room to read into, up to what is permitted.
    pub(super) fn space(&mut self) -> &mut [u8] {
        let buffer_bytes = self.buffer.as_ref().len();
        if self.filled == buffer_bytes {
            self.buffer.grow(self.frame_bytes.min(2 * buffer_bytes), self.filled);
        }
        let end = self.frame_bytes.min(self.permitted).min(self.buffer.as_ref().len());
        &mut self.buffer.bytes_mut()[self.filled..end]
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.filled += bytes;
        self.window_bytes += bytes as u64;
    }

    /// At the end of a window: was it fast enough for memory that others wait for?
    pub(super) fn judge_speed(&mut self) -> Result<(), Closed> {
        let holds_permits = self.permitted > CONNECTION_BUFFER_BYTES;
        if holds_permits && self.window_bytes < RECEIVE_BYTES_PER_SECOND_MIN * RECEIVE_WINDOW_MS / 1000 {
            return Err(Closed::Slow);
        }
        self.window_start = Instant::now();
        self.window_bytes = 0;
        Ok(())
    }

    pub(super) fn into_frame(self) -> Bytes {
        Bytes::from_owner(self.buffer).slice(..self.frame_bytes)
    }
}
