//! The seams to the world: clock, disk, blocking work, randomness. Handed in once at [`crate::Node::start`].
//!
//! Real: the system's clock, `OsDisk`, tokio's blocking pool. Simulated: tokio's (pausable) clock over a fixed epoch, `SimDisk`,
//! work that runs inline, a seeded generator. Nothing else in the crate touches clocks, files, threads or randomness
//! (`tests/architecture.rs` proves it).

use millstream_storage::{Disk, OsDisk};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::limits::{HTTP_OTHERS_MAX, HTTP_TAILS_MAX, HTTP_TAILS_MIN};

/// Files kept for what is neither a segment nor a connection: the runtime, small files being replaced.
const OTHER_FILES: usize = 64;

/// The world a node runs in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    disk: Arc<dyn Disk>,
    simulated: Option<Arc<Simulated>>,
}

/// What the process takes of the machine.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    /// Processor time, user and system, ms.
    pub cpu_ms: u64,
    /// Pages in memory, those of mapped files included.
    pub resident_bytes: u64,
    pub open_files: u64,
}

#[derive(Debug)]
struct Simulated {
    start: tokio::time::Instant,
    epoch_ms: i64,
    state: AtomicU64,
}

impl Env {
    /// The real world.
    pub fn real() -> Env {
        Env { disk: Arc::new(OsDisk), simulated: None }
    }

    /// A simulated world: wall time is `epoch_ms` plus tokio's clock (which a test pauses), randomness comes from `seed`, blocking work runs
    /// inline. Must be called within a tokio runtime.
    pub fn simulated(disk: Arc<dyn Disk>, seed: u64, epoch_ms: i64) -> Env {
        let start = tokio::time::Instant::now();
        Env { disk, simulated: Some(Arc::new(Simulated { start, epoch_ms, state: AtomicU64::new(seed) })) }
    }

    /// Wall clock, ms since 1970.
    pub fn now_ms(&self) -> i64 {
        match &self.simulated {
            Some(s) => s.epoch_ms + s.start.elapsed().as_millis() as i64,
            None => {
                let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                since.map(|d| d.as_millis() as i64).unwrap_or(0)
            }
        }
    }

    /// The file system.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Most log segments to hold open at once. In the real world this raises the process's limit of open files first.
    pub fn open_segments_max(&self) -> usize {
        match &self.simulated {
            Some(_) => 1024,
            None => OsDisk::raise_open_files(),
        }
    }

    /// Most connections at once, so that a flood of them leaves log segments their files.
    pub fn connections_max(&self) -> usize {
        match &self.simulated {
            Some(_) => usize::MAX,
            None => self.files_beside_segments().saturating_sub(OTHER_FILES + self.http_connections_max()).max(16),
        }
    }

    /// What the process takes of the machine; `None` in a simulation, and where /proc is not there.
    pub fn process(&self) -> Option<Process> {
        if self.simulated.is_some() {
            return None;
        }
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        // The name in parentheses may hold spaces; user and system time are the 14th and 15th field (proc(5)), in hundredths of a second.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
        let mut ticks = || fields.next()?.parse::<u64>().ok();
        let cpu_ms = (ticks()? + ticks()?) * 10;
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_bytes = resident.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
        let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
        Some(Process { cpu_ms, resident_bytes, open_files })
    }

    /// Most streams of live records over HTTP at once: a quarter of the files that segments leave, within bounds.
    pub fn http_tails_max(&self) -> usize {
        match &self.simulated {
            Some(_) => HTTP_TAILS_MAX,
            None => (self.files_beside_segments() / 4).clamp(HTTP_TAILS_MIN, HTTP_TAILS_MAX),
        }
    }

    /// Most HTTP connections at once: tails leave others room.
    pub fn http_connections_max(&self) -> usize {
        self.http_tails_max() + HTTP_OTHERS_MAX
    }

    fn files_beside_segments(&self) -> usize {
        OsDisk::open_files_max().saturating_sub(OsDisk::raise_open_files())
    }

    /// 64 random bits.
    pub fn random_u64(&self) -> u64 {
        match &self.simulated {
            // splitmix64
            Some(s) => {
                let mut z =
                    s.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                z ^ (z >> 31)
            }
            None => uuid::Uuid::new_v4().as_u64_pair().0 ^ uuid::Uuid::new_v4().as_u64_pair().1,
        }
    }

    /// A random (version 4) UUID.
    pub fn random_uuid(&self) -> uuid::Uuid {
        let mut b = [0u8; 16];
        b[..8].copy_from_slice(&self.random_u64().to_be_bytes());
        b[8..].copy_from_slice(&self.random_u64().to_be_bytes());
        uuid::Builder::from_random_bytes(b).into_uuid()
    }

    /// Runs `f` where blocking is allowed and gives its result. A panic in `f` is passed on to the caller.
    pub async fn blocking<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        if self.simulated.is_some() {
            tokio::task::yield_now().await;
            return f();
        }
        match tokio::task::spawn_blocking(f).await {
            Ok(v) => v,
            Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
            // The runtime is shutting down: this task will not be polled again.
            Err(_) => std::future::pending().await,
        }
    }

    /// Opens a TCP connection to `HOST:PORT` (a name is looked up, each of its addresses tried), without Nagle's delay. The caller bounds the time.
    pub async fn connect(&self, address: &str) -> std::io::Result<tokio::net::TcpStream> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// Starts a task; `name` says what it is in a dump. The only way tasks start.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let _ = name;
        tokio::spawn(future)
    }
}
