//! Waiting for logs to be opened, with an end: a partition that recovers for minutes must not hold the requests of all others.

use crate::{
    limits::{CONNECTION_BUFFER_BYTES, OPENING_BYTES_MAX, OPENING_WAIT_MS_MAX},
    partition::PartitionError,
};
use std::{future::Future, time::Duration};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout_at},
};

/// What one request may wait: [`OPENING_WAIT_MS_MAX`] over all its partitions, and with its memory only as long as [`OPENING_BYTES_MAX`] are not held by others that
/// wait as well.
#[derive(Debug)]
pub struct Opening<'a> {
    /// [`OPENING_BYTES_MAX`] permits.
    all: &'a Semaphore,
    deadline: Instant,
    bytes: usize,
    held: Option<SemaphorePermit<'a>>,
}

impl<'a> Opening<'a> {
    /// For a request that keeps `bytes` of its frame meanwhile; `all` are those of the broker ([`crate::broker::Broker::opening_bytes`]). The time begins now.
    pub fn new(all: &'a Semaphore, bytes: usize) -> Opening<'a> {
        let deadline = Instant::now() + Duration::from_millis(OPENING_WAIT_MS_MAX);
        Opening { all, deadline, bytes, held: None }
    }

    /// Waits for `opened` while it may; else `NotOpen`, which clients take as a reason to try again. The opening goes on all the same.
    pub async fn wait<T>(
        &mut self,
        opened: impl Future<Output = Result<T, PartitionError>>,
    ) -> Result<T, PartitionError> {
        // Small ones lie in their connection's own buffer, which others do not wait for.
        if self.held.is_none() && self.bytes > CONNECTION_BUFFER_BYTES {
            let bytes = self.bytes.min(OPENING_BYTES_MAX) as u32;
            match self.all.try_acquire_many(bytes) {
                Ok(held) => self.held = Some(held),
                // Begins the opening, and gives what is open already.
                Err(_) => self.deadline = Instant::now(),
            }
        }
        timeout_at(self.deadline, opened).await.unwrap_or(Err(PartitionError::NotOpen))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    const LARGE: usize = OPENING_BYTES_MAX / 2 + 1;

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_so_long_for_all_its_partitions_together() {
        let all = Semaphore::new(OPENING_BYTES_MAX);
        let mut opening = Opening::new(&all, LARGE);
        let begun = Instant::now();
        for _ in 0..100 {
            // The clock moves by itself while everybody waits.
            assert!(matches!(opening.wait::<()>(pending()).await, Err(PartitionError::NotOpen)));
        }
        assert!(begun.elapsed() < Duration::from_millis(OPENING_WAIT_MS_MAX + 1000), "{:?}", begun.elapsed());
        assert!(opening.wait(ready(Ok(()))).await.is_ok(), "what is open is not refused");
        drop(opening);
        assert_eq!(all.available_permits(), OPENING_BYTES_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_wait_hold_no_more_memory_than_meant_for_them() {
        let all = Semaphore::new(OPENING_BYTES_MAX);
        let (mut first, mut second, mut small) =
            (Opening::new(&all, LARGE), Opening::new(&all, LARGE), Opening::new(&all, 100));
        let begun = Instant::now();
        tokio::join!(
            async {
                assert!(first.wait::<()>(pending()).await.is_err());
                assert!(begun.elapsed() >= Duration::from_millis(OPENING_WAIT_MS_MAX));
            },
            async {
                assert!(second.wait::<()>(pending()).await.is_err());
                assert!(begun.elapsed() < Duration::from_millis(OPENING_WAIT_MS_MAX / 2), "told at once");
            },
            async {
                assert!(small.wait::<()>(pending()).await.is_err());
                assert!(begun.elapsed() >= Duration::from_millis(OPENING_WAIT_MS_MAX), "takes no room");
            },
        );
    }
}
