//! Receive buffers, pooled by size class: memory touched lately is the cheapest there is.
//!
//! A buffer goes back to its class when the last slice of it drops. Last in, first out, so that few are in use and stay warm; [`Buffers::trim`] frees those that
//! nobody needed since the last trim.

use crate::limits::{CONNECTION_BUFFER_BYTES, POOLED_BYTES_PER_CLASS_MAX};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedSemaphorePermit;

/// Classes: 64 KiB, 128 KiB, … 128 MiB. Larger buffers are not pooled.
const CLASSES: usize = 12;

/// The pool of one server.
#[derive(Debug, Default)]
pub struct Buffers {
    classes: [Mutex<Class>; CLASSES],
}

#[derive(Debug, Default)]
struct Class {
    free: Vec<Vec<u8>>,
    /// Fewest that were free since the last trim.
    unused: usize,
}

/// A buffer of one size class, all of it initialised. Goes back to its pool when dropped, and so do the permits for its bytes.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    pool: Arc<Buffers>,
    /// Permits for the bytes received into it.
    pub permits: Option<OwnedSemaphorePermit>,
    /// The token of the one buffer that may go on without permits.
    pub overdraft: Option<OwnedSemaphorePermit>,
}

/// Smallest class that holds `bytes`; may be out of range.
fn class_of(bytes: usize) -> usize {
    bytes.div_ceil(CONNECTION_BUFFER_BYTES).next_power_of_two().trailing_zeros() as usize
}

/// Bytes of the smallest class that holds `bytes`.
fn class_bytes(bytes: usize) -> usize {
    CONNECTION_BUFFER_BYTES << class_of(bytes)
}

impl Buffers {
    /// A buffer of at least `bytes`, with whatever it held before. New ones come zeroed from the system, so that pages not written take no memory.
    pub fn take(self: &Arc<Buffers>, bytes: usize) -> Buffer {
        let pooled = self.classes.get(class_of(bytes)).and_then(|class| {
            let mut class = class.lock().unwrap_or_else(PoisonError::into_inner);
            let buffer = class.free.pop();
            class.unused = class.unused.min(class.free.len());
            buffer
        });
        let bytes = pooled.unwrap_or_else(|| vec![0; class_bytes(bytes)]);
        Buffer { bytes, pool: self.clone(), permits: None, overdraft: None }
    }

    fn give_back(&self, bytes: Vec<u8>) {
        let Some(class) = self.classes.get(class_of(bytes.len())) else { return };
        let free_max = (POOLED_BYTES_PER_CLASS_MAX / bytes.len()).max(1);
        let mut class = class.lock().unwrap_or_else(PoisonError::into_inner);
        if class.free.len() < free_max {
            class.free.push(bytes);
        }
    }

    /// Frees the buffers that were not needed since the last call.
    pub fn trim(&self) {
        for class in &self.classes {
            let mut class = class.lock().unwrap_or_else(PoisonError::into_inner);
            let freed: Vec<_> = {
                let unused = class.unused.min(class.free.len());
                class.free.drain(..unused).collect()
            };
            class.free.shrink_to_fit();
            class.unused = class.free.len();
            drop(class);
            drop(freed);
        }
    }

    /// Buffers in the pool, for tests.
    #[cfg(test)]
    pub fn free(&self) -> usize {
        self.classes.iter().map(|class| class.lock().unwrap().free.len()).sum()
    }
}

impl Buffer {
    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Becomes one of at least `bytes`, with the same first `filled` bytes.
    pub fn grow(&mut self, bytes: usize, filled: usize) {
        let mut larger = self.pool.take(bytes);
        larger.bytes[..filled].copy_from_slice(&self.bytes[..filled]);
        std::mem::swap(&mut self.bytes, &mut larger.bytes);
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn classes_are_powers_of_two() {
        for (bytes, class) in [(1, 0), (65_536, 0), (65_537, 1), (1 << 20, 4), ((1 << 20) + 1, 5), (128 << 20, 11)] {
            assert_eq!(class_of(bytes), class, "{bytes}");
            assert!(class_bytes(bytes) >= bytes);
        }
    }

    #[test]
    fn a_buffer_returns_when_its_last_slice_drops() {
        let pool = Arc::new(Buffers::default());
        let mut buffer = pool.take(100_000);
        buffer.bytes_mut()[0] = 42;
        let whole = Bytes::from_owner(buffer);
        let slice = whole.slice(..1);
        drop(whole);
        assert_eq!(pool.free(), 0);
        drop(slice);
        assert_eq!(pool.free(), 1);
        assert_eq!(pool.take(70_000).as_ref()[0], 42, "the same memory again");
    }

    #[test]
    fn trim_frees_what_was_not_needed() {
        let pool = Arc::new(Buffers::default());
        let two = (pool.take(1), pool.take(1));
        drop(two);
        pool.trim();
        assert_eq!(pool.free(), 2, "both were in use since the last trim");
        drop(pool.take(1));
        pool.trim();
        assert_eq!(pool.free(), 1, "one was enough");
        pool.trim();
        assert_eq!(pool.free(), 0);
    }
}
