//! [`SimDisk`]: a disk in memory that loses what was not made durable. For tests (feature `sim`).
//!
//! Every file has two images: the volatile one, a memfd (so that a map of it is a true shared map, and its stores need no
//! hook), and the durable one, bytes. Every directory has two sets of names, and the operations between them are pending.
//!
//! What a power cut leaves ([`SimDisk::crash`]), by a seed:
//! - any subset of the 512-byte sectors that differ between the two images of a file;
//! - a file's size as last synced, as it is, or, when it grew, anything between;
//! - any subset of the pending creations, renames and unlinks, in any order. A rename is one step: it is never half done.
//!
//! [`DiskFile::sync`] makes bytes and size durable, [`DiskFile::sync_range`] its range and the size that covers it,
//! [`Disk::sync_dir`] the names of that one directory (a new directory's own name belongs to its parent).
//!
//! Faults on demand: a sync that fails once and leaves its pages clean though not durable, a full disk, no descriptors, reads that fail or
//! return a flipped bit, bits that rot, and an end of all calls after n operations. One thread and one seed give one course
//! of events: nothing here iterates over a hash map or asks a clock.

use crate::disk::{Disk, DiskFile, Entry, Open};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io,
    os::{fd::BorrowedFd, unix::fs::FileExt},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

/// What survives a power cut whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// A seeded generator (splitmix64): small, fast, the same everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Equal seeds give equal numbers.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// A number below `n`, which is 1 or more.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "nothing is below 0");
        self.next_u64() % n
    }
    /// True `percent` times of a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    /// Any order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

/// A disk in memory. Cheap to clone: clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

impl Default for SimDisk {
    fn default() -> Self {
        SimDisk::new()
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock_state();
        write!(f, "SimDisk({} files, {} operations)", state.files.len(), state.ops)
    }
}

impl SimDisk {
    /// Empty, without faults. Only the root directory is there.
    pub fn new() -> SimDisk {
        let mut state = State::default();
        state.dirs.insert(ROOT, Dir::default());
        SimDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Cuts the power and gives the disk that comes back: whatever survived by `seed`, all of it durable, no faults armed. This
    /// disk and its open files stay usable and have nothing to do with the new one.
    pub fn crash(&self, seed: u64) -> SimDisk {
        let state = self.lock_state();
        let mut rng = Rng::new(seed);
        let mut dirs: BTreeMap<u64, Names> = state.dirs.iter().map(|(id, d)| (*id, d.durable.clone())).collect();
        let survive_percent = [0, 10, 50, 90, 100][rng.below(5) as usize];
        let mut survivors: Vec<&Op> = state.pending.iter().filter(|_| rng.percent(survive_percent)).collect();
        if rng.percent(50) {
            reorder(&mut survivors, &mut rng);
        }
        for op in survivors {
            op.apply(&mut dirs);
        }
        let mut new = State { next_id: state.next_id, ..State::default() };
        let mut todo = vec![ROOT];
        while let Some(id) = todo.pop() {
            let names = dirs.remove(&id).unwrap_or_default();
            for node in names.values() {
                match *node {
                    Node::Dir(id) => todo.push(id),
                    Node::File(id) => {
                        let image = state.files[&id].survivor(&mut rng);
                        new.files.insert(id, FileNode::new(id, &image, Durable::of(image.clone())));
                    }
                }
            }
            new.dirs.insert(id, Dir { durable: names.clone(), volatile: names });
        }
        SimDisk { state: Arc::new(Mutex::new(new)) }
    }

    /// Ends the process (kill -9) and gives the disk as the next process finds it: all writes are there, what was pending is
    /// still pending, locks are free, no faults armed. This disk and its open files have nothing to do with the new one.
    pub fn kill(&self) -> SimDisk {
        let state = self.lock_state();
        let new = State {
            next_id: state.next_id,
            dirs: state.dirs.clone(),
            pending: state.pending.clone(),
            files: state
                .files
                .iter()
                .map(|(id, f)| (*id, FileNode::new(*id, &f.volatile(), guard(&f.durable).clone())))
                .collect(),
            ..State::default()
        };
        SimDisk { state: Arc::new(Mutex::new(new)) }
    }

    /// Operations so far: each call that changes something, or makes it durable, is one.
    pub fn ops(&self) -> u64 {
        self.lock_state().ops
    }

    /// Lets `n` more operations happen; from then on every call fails with kind `Other`, "crashed", and the images stay as they
    /// were at that moment, whatever is stored through maps. Then [`SimDisk::crash`].
    pub fn crash_after_ops(&self, n: u64) {
        let mut state = self.lock_state();
        state.ops_left = Some(n);
    }

    /// Whether [`SimDisk::crash_after_ops`] has struck.
    pub fn crashed(&self) -> bool {
        self.lock_state().crashed
    }

    /// Lets the `n`th sync from now (1 = the next; files and directories) fail with EIO, once. Some of what it should have
    /// made durable may be; a file's rest counts as clean, so that later syncs succeed and do not save it. Names are still pending
    /// (a file system whose journal fails stops by itself).
    pub fn fail_nth_sync(&self, n: u64) {
        self.lock_state().sync_failure = Some(n);
    }

    /// Lets the `n`th `read_at` from now (1 = the next) fail with EIO, once. Reads through maps are not touched.
    pub fn fail_nth_read(&self, n: u64) {
        self.lock_state().read_failure = Some(n);
    }

    /// Flips one bit of what the `n`th `read_at` from now (1 = the next) returns, once; the file is not changed.
    pub fn flip_nth_read(&self, n: u64) {
        self.lock_state().read_flip = Some(n);
    }

    /// Flips bit `bit` (0 to 7) of byte `at` of a file, in both images: decay. Seen through maps.
    pub fn flip_bit(&self, path: &Path, at: u64, bit: u8) -> io::Result<()> {
        let state = self.lock_state();
        let file = state.file(path)?;
        let mut byte = [0];
        file.memfd.read_exact_at(&mut byte, at)?;
        file.memfd.write_all_at(&[byte[0] ^ 1 << bit], at)?;
        if let Some(byte) = guard(&file.durable).bytes.get_mut(at as usize) {
            *byte ^= 1 << bit;
        }
        Ok(())
    }

    /// Bytes the disk holds at most: what would grow a file beyond fails with ENOSPC. Files count in whole 4 KiB.
    /// `None` = no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock_state().capacity = bytes;
    }

    /// Whether the process has no descriptor left: opening a file, listing a directory or syncing one then fails with EMFILE.
    pub fn set_no_descriptors(&self, none: bool) {
        self.lock_state().no_descriptors = none;
    }

    /// Bytes used now, as [`SimDisk::set_capacity`] counts.
    pub fn used_bytes(&self) -> u64 {
        self.lock_state().used_bytes()
    }

    /// Paths of all files, in order.
    pub fn files(&self) -> Vec<PathBuf> {
        let state = self.lock_state();
        let mut out = Vec::new();
        let mut todo = vec![(PathBuf::from("/"), ROOT)];
        while let Some((path, id)) = todo.pop() {
            for (name, node) in &state.dirs[&id].volatile {
                match node {
                    Node::File(_) => out.push(path.join(name)),
                    Node::Dir(id) => todo.push((path.join(name), *id)),
                }
            }
        }
        out.sort();
        out
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        guard(&self.state)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.lock_state();
        state.descriptor()?;
        let node = match (state.file(path), how) {
            (Ok(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(file), _) => file,
            (Err(e), Open::Create | Open::CreateNew) if e.kind() == io::ErrorKind::NotFound => {
                let (dir, name) = state.parent(path)?;
                state.op()?;
                let id = state.id();
                let file = FileNode::new(id, &[], Durable::default());
                state.files.insert(id, Arc::clone(&file));
                state.apply(Op::Link { dir, name, node: Node::File(id) });
                file
            }
            (Err(e), _) => return Err(e),
        };
        let writable = how != Open::Read;
        Ok(Arc::new(SimFile { disk: self.clone(), node, path: path.to_path_buf(), writable }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.alive()?;
        let mut dir = ROOT;
        for name in names(path) {
            match state.dirs[&dir].volatile.get(&name) {
                Some(Node::Dir(id)) => dir = *id,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => {
                    state.op()?;
                    let id = state.id();
                    state.dirs.insert(id, Dir::default());
                    state.apply(Op::Link { dir, name, node: Node::Dir(id) });
                    dir = id;
                }
            }
        }
        Ok(())
    }

    fn read_dir(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let state = self.lock_state();
        state.descriptor()?;
        let dir = state.dir(path)?;
        let entry = |(name, node): (&String, &Node)| Entry { name: name.clone(), is_dir: matches!(node, Node::Dir(_)) };
        Ok(state.dirs[&dir].volatile.iter().map(entry).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.alive()?;
        let node = state.node(from)?;
        let (from_dir, from) = state.parent(from)?;
        let (to_dir, to) = state.parent(to)?;
        match (node, state.dirs[&to_dir].volatile.get(&to)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
            (Node::Dir(_), Some(Node::Dir(id))) if state.dirs[id].volatile.is_empty() => {}
            (Node::Dir(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
        }
        state.op()?;
        state.apply(Op::Rename { from_dir, from, to_dir, to, node });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.alive()?;
        let node = Node::File(state.file(path)?.id);
        let (dir, name) = state.parent(path)?;
        state.op()?;
        state.apply(Op::Unlink { dir, name, node });
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.alive()?;
        let id = state.dir(path)?;
        let (dir, name) = state.parent(path)?;
        state.remove_all_in(id)?;
        state.op()?;
        state.apply(Op::Unlink { dir, name, node: Node::Dir(id) });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock_state();
        state.descriptor()?;
        let dir = state.dir(path)?;
        state.op()?;
        let fails = state.sync_fails();
        // A rename between two directories is made durable whole, with all that came before it in either.
        let mut dirs = BTreeSet::from([dir]);
        if fails {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut keep = Vec::new();
        let mut now = Vec::new();
        for op in std::mem::take(&mut state.pending).into_iter().rev() {
            if op.dirs().iter().any(|d| dirs.contains(d)) {
                dirs.extend(op.dirs());
                now.push(op);
            } else {
                keep.push(op);
            }
        }
        keep.reverse();
        state.pending = keep;
        let mut durable: BTreeMap<u64, Names> =
            state.dirs.iter_mut().map(|(id, d)| (*id, std::mem::take(&mut d.durable))).collect();
        for op in now.iter().rev() {
            op.apply(&mut durable);
        }
        for (id, names) in durable {
            state.dirs.entry(id).or_default().durable = names;
        }
        state.forget_unreachable();
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.lock_state();
        !state.crashed && state.node(path).is_ok()
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn std::any::Any + Send + Sync>> {
        self.open(path, Open::Create)?;
        let mut state = self.lock_state();
        state.alive()?;
        if !state.locks.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock { state: Arc::downgrade(&self.state), path: path.to_path_buf() }))
    }

    fn deterministic(&self) -> bool {
        true
    }

    fn space(&self, _path: &Path) -> io::Result<(u64, u64)> {
        let state = self.lock_state();
        state.alive()?;
        let total = state.capacity.unwrap_or(1 << 40);
        Ok((total, total.saturating_sub(state.used_bytes())))
    }
}

#[derive(Debug)]
struct Lock {
    state: std::sync::Weak<Mutex<State>>,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        if let Some(state) = self.state.upgrade() {
            guard(&state).locks.remove(&self.path);
        }
    }
}

const ROOT: u64 = 0;

type Names = BTreeMap<String, Node>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Node {
    File(u64),
    Dir(u64),
}

#[derive(Debug, Clone, Default)]
struct Dir {
    volatile: Names,
    durable: Names,
}

/// A change of names.
#[derive(Debug, Clone)]
enum Op {
    Link { dir: u64, name: String, node: Node },
    Unlink { dir: u64, name: String, node: Node },
    Rename { from_dir: u64, from: String, to_dir: u64, to: String, node: Node },
}

impl Op {
    fn dirs(&self) -> Vec<u64> {
        match self {
            Op::Link { dir, .. } | Op::Unlink { dir, .. } => vec![*dir],
            Op::Rename { from_dir, to_dir, .. } => vec![*from_dir, *to_dir],
        }
    }

    fn node(&self) -> Node {
        match self {
            Op::Link { node, .. } | Op::Unlink { node, .. } | Op::Rename { node, .. } => *node,
        }
    }

    /// Applies it to any set of names: the order may differ from that in which it happened, but a node never has two names.
    fn apply(&self, dirs: &mut BTreeMap<u64, Names>) {
        match self {
            Op::Link { dir, name, node } | Op::Rename { to_dir: dir, to: name, node, .. } => {
                for names in dirs.values_mut() {
                    names.retain(|_, n| n != node);
                }
                dirs.entry(*dir).or_default().insert(name.clone(), *node);
            }
            Op::Unlink { dir, name, node } => {
                let names = dirs.entry(*dir).or_default();
                if names.get(name) == Some(node) {
                    names.remove(name);
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    dirs: BTreeMap<u64, Dir>,
    files: BTreeMap<u64, Arc<FileNode>>,
    pending: Vec<Op>,
    locks: BTreeSet<PathBuf>,
    ops: u64,
    ops_left: Option<u64>,
    crashed: bool,
    sync_failure: Option<u64>,
    read_failure: Option<u64>,
    read_flip: Option<u64>,
    capacity: Option<u64>,
    no_descriptors: bool,
}

impl State {
    /// Refuses what takes a descriptor.
    fn descriptor(&self) -> io::Result<()> {
        self.alive()?;
        if self.no_descriptors { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(()) }
    }

    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("crashed")) } else { Ok(()) }
    }

    /// Counts one operation, or refuses it.
    fn op(&mut self) -> io::Result<()> {
        self.alive()?;
        match &mut self.ops_left {
            Some(0) => {
                self.crashed = true;
                for file in self.files.values() {
                    *guard(&file.frozen) = Some(file.volatile());
                }
                return self.alive();
            }
            Some(left) => *left -= 1,
            None => {}
        }
        self.ops += 1;
        Ok(())
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn apply(&mut self, op: Op) {
        match &op {
            Op::Link { dir, name, node } => {
                self.names(*dir).insert(name.clone(), *node);
            }
            Op::Unlink { dir, name, .. } => {
                self.names(*dir).remove(name);
            }
            Op::Rename { from_dir, from, to_dir, to, node } => {
                self.names(*from_dir).remove(from);
                self.names(*to_dir).insert(to.clone(), *node);
            }
        }
        self.pending.push(op);
    }

    fn names(&mut self, dir: u64) -> &mut Names {
        &mut self.dirs.get_mut(&dir).expect("a directory that was resolved").volatile
    }

    fn node(&self, path: &Path) -> io::Result<Node> {
        let mut node = Node::Dir(ROOT);
        for name in names(path) {
            let Node::Dir(dir) = node else { return Err(io::ErrorKind::NotADirectory.into()) };
            node = *self.dirs[&dir].volatile.get(&name).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    fn dir(&self, path: &Path) -> io::Result<u64> {
        match self.node(path)? {
            Node::Dir(id) => Ok(id),
            Node::File(_) => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<Arc<FileNode>> {
        match self.node(path)? {
            Node::File(id) => Ok(Arc::clone(&self.files[&id])),
            Node::Dir(_) => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(u64, String)> {
        let mut all = names(path);
        let name = all.pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.dir(&all.iter().collect::<PathBuf>())?, name))
    }

    fn remove_all_in(&mut self, dir: u64) -> io::Result<()> {
        for (name, node) in self.dirs[&dir].volatile.clone() {
            if let Node::Dir(id) = node {
                self.remove_all_in(id)?;
            }
            self.op()?;
            self.apply(Op::Unlink { dir, name, node });
        }
        Ok(())
    }

    fn sync_fails(&mut self) -> bool {
        strikes(&mut self.sync_failure)
    }

    fn used_bytes(&self) -> u64 {
        let mut linked = BTreeSet::new();
        for dir in self.dirs.values() {
            linked.extend(dir.volatile.values().filter_map(|n| if let Node::File(id) = n { Some(*id) } else { None }));
        }
        let counts = |f: &&Arc<FileNode>| linked.contains(&f.id) || Arc::strong_count(f) > 1;
        self.files.values().filter(counts).map(|f| f.len().next_multiple_of(4096)).sum()
    }

    /// Whether a file may grow from `from` to `to` bytes.
    fn room(&self, from: u64, to: u64) -> io::Result<()> {
        let more = to.next_multiple_of(4096).saturating_sub(from.next_multiple_of(4096));
        match self.capacity {
            Some(capacity) if more > 0 && self.used_bytes() + more > capacity => {
                Err(io::Error::from_raw_os_error(libc::ENOSPC))
            }
            _ => Ok(()),
        }
    }

    /// Drops files and directories that no name, durable or not, and no pending change leads to.
    fn forget_unreachable(&mut self) {
        let mut todo = vec![Node::Dir(ROOT)];
        let mut dirs = BTreeSet::new();
        let mut files = BTreeSet::new();
        while let Some(node) = todo.pop() {
            match node {
                Node::File(id) => {
                    files.insert(id);
                }
                Node::Dir(id) => {
                    if dirs.insert(id) {
                        let dir = &self.dirs[&id];
                        todo.extend(dir.volatile.values().chain(dir.durable.values()));
                        let here = |p: &&Op| p.dirs().contains(&id);
                        todo.extend(self.pending.iter().filter(here).map(|p| p.node()));
                    }
                }
            }
        }
        self.pending.retain(|p| p.dirs().iter().any(|d| dirs.contains(d)));
        self.dirs.retain(|id, _| dirs.contains(id));
        self.files.retain(|id, _| files.contains(id));
    }
}

/// Puts pending changes in any order, but those of one node in their own: else a name that was replaced could end up naming
/// nothing.
fn reorder(changes: &mut Vec<&Op>, rng: &mut Rng) {
    let mut shuffled: Vec<usize> = (0..changes.len()).collect();
    rng.shuffle(&mut shuffled);
    for i in 0..shuffled.len() {
        let node = changes[shuffled[i]].node();
        for j in i + 1..shuffled.len() {
            if changes[shuffled[j]].node() == node && shuffled[j] < shuffled[i] {
                shuffled.swap(i, j);
            }
        }
    }
    *changes = shuffled.into_iter().map(|i| changes[i]).collect();
}

/// Counts down to a fault that strikes once.
fn strikes(countdown: &mut Option<u64>) -> bool {
    match countdown {
        Some(n) if *n <= 1 => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

fn names(path: &Path) -> Vec<String> {
    let part = |c: Component<'_>| match c {
        Component::Normal(name) => Some(name.to_string_lossy().into_owned()),
        _ => None,
    };
    path.components().filter_map(part).collect()
}

fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

#[derive(Default, Clone)]
struct Durable {
    bytes: Vec<u8>,
    /// Sectors that a failed sync left clean but not durable, with what they held then: only another content is ever written.
    lost: BTreeMap<usize, Vec<u8>>,
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, {} sectors lost", self.bytes.len(), self.lost.len())
    }
}

impl Durable {
    fn of(bytes: Vec<u8>) -> Durable {
        Durable { bytes, lost: BTreeMap::new() }
    }

    /// Makes sectors `from..to` of `volatile` durable; `rng` is there when the sync fails and decides what gets through.
    fn take(&mut self, volatile: &[u8], from: usize, to: usize, mut failing: Option<&mut Rng>) {
        for sector in from..to {
            let new = sector_of(volatile, sector);
            if self.lost.get(&sector).is_some_and(|old| old == new) {
                continue;
            }
            if sector_is(&self.bytes, sector, new) {
                continue;
            }
            let beyond = sector * SECTOR_BYTES >= self.bytes.len();
            if failing.as_mut().is_some_and(|rng| beyond || rng.percent(50)) {
                self.lost.insert(sector, new.to_vec());
                continue;
            }
            self.lost.remove(&sector);
            put_sector(&mut self.bytes, sector, new);
        }
    }
}

/// The bytes of a sector that lie in `image`.
fn sector_of(image: &[u8], sector: usize) -> &[u8] {
    let start = (sector * SECTOR_BYTES).min(image.len());
    &image[start..(start + SECTOR_BYTES).min(image.len())]
}

/// Whether a sector of `image` holds `bytes`, both continued by zeros.
fn sector_is(image: &[u8], sector: usize, bytes: &[u8]) -> bool {
    let old = sector_of(image, sector);
    let n = old.len().min(bytes.len());
    old[..n] == bytes[..n] && old[n..].iter().chain(&bytes[n..]).all(|b| *b == 0)
}

/// Writes what fits into `image`.
fn put_sector(image: &mut [u8], sector: usize, bytes: &[u8]) {
    let start = (sector * SECTOR_BYTES).min(image.len());
    let end = (start + SECTOR_BYTES).min(image.len());
    let n = bytes.len().min(end - start);
    image[start..start + n].copy_from_slice(&bytes[..n]);
    image[start + n..end].fill(0);
}

#[derive(Debug)]
struct FileNode {
    id: u64,
    memfd: File,
    durable: Mutex<Durable>,
    /// The volatile image when the disk crashed under `crash_after_ops`.
    frozen: Mutex<Option<Vec<u8>>>,
}

impl FileNode {
    fn new(id: u64, volatile: &[u8], durable: Durable) -> Arc<FileNode> {
        let memfd = rustix::fs::memfd_create(c"sim", rustix::fs::MemfdFlags::CLOEXEC).expect("a memfd");
        let memfd = File::from(memfd);
        memfd.set_len(volatile.len() as u64).expect("memory for a file");
        // Holes stay holes: most of a file is zeros that were allocated ahead.
        for (i, page) in volatile.chunks(4096).enumerate() {
            if page.iter().any(|b| *b != 0) {
                memfd.write_all_at(page, i as u64 * 4096).expect("memory for a file");
            }
        }
        Arc::new(FileNode { id, memfd, durable: Mutex::new(durable), frozen: Mutex::new(None) })
    }

    fn len(&self) -> u64 {
        self.memfd.metadata().expect("the size of a memfd").len()
    }

    fn volatile(&self) -> Vec<u8> {
        if let Some(frozen) = &*guard(&self.frozen) {
            return frozen.clone();
        }
        let mut bytes = vec![0; self.len() as usize];
        self.memfd.read_exact_at(&mut bytes, 0).expect("the bytes of a memfd");
        bytes
    }

    /// What a power cut leaves.
    fn survivor(&self, rng: &mut Rng) -> Vec<u8> {
        let volatile = self.volatile();
        let durable = guard(&self.durable);
        let mut image = durable.bytes.clone();
        let grown = volatile.len().saturating_sub(image.len()) as u64;
        match rng.below(3) {
            0 => {}
            1 if grown > 0 => image.resize(image.len() + rng.below(grown) as usize, 0),
            _ => image.resize(volatile.len(), 0),
        }
        let survive_percent = [0, 10, 50, 90, 100][rng.below(5) as usize];
        for sector in 0..image.len().min(volatile.len()).div_ceil(SECTOR_BYTES) {
            let new = sector_of(&volatile, sector);
            let clean = durable.lost.get(&sector).is_some_and(|old| old == new);
            if !clean && !sector_is(&image, sector, new) && rng.percent(survive_percent) {
                put_sector(&mut image, sector, new);
            }
        }
        image
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: Arc<FileNode>,
    path: PathBuf,
    writable: bool,
}

impl SimFile {
    /// Counts a change of this file.
    fn change(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.disk.lock_state();
        state.alive()?;
        if !self.writable {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        state.op()?;
        Ok(state)
    }

    /// `range`: bytes to make durable, all and the size when `None`.
    fn make_durable(&self, range: Option<(u64, u64)>) -> io::Result<()> {
        let mut state = self.disk.lock_state();
        state.op()?;
        let fails = state.sync_fails();
        let mut rng = Rng::new(state.ops ^ self.node.id << 32);
        let volatile = self.node.volatile();
        let mut durable = guard(&self.node.durable);
        let (start, end) = match range {
            None => (0, volatile.len()),
            Some((offset, len)) => (offset as usize, (offset.saturating_add(len) as usize).min(volatile.len())),
        };
        // A sync that fails may save not even the size.
        if (range.is_none() || end > durable.bytes.len()) && !(fails && rng.percent(50)) {
            durable.bytes.resize(end, 0);
        }
        let (from, to) = (start / SECTOR_BYTES, end.div_ceil(SECTOR_BYTES));
        durable.take(&volatile, from, to, fails.then_some(&mut rng));
        if fails { Err(io::Error::from_raw_os_error(libc::EIO)) } else { Ok(()) }
    }
}

impl DiskFile for SimFile {
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.lock_state().alive()?;
        Ok(self.node.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock_state();
        state.alive()?;
        if strikes(&mut state.read_failure) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut done = 0;
        while done < buf.len() {
            match self.node.memfd.read_at(&mut buf[done..], offset + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        if done > 0 && strikes(&mut state.read_flip) {
            let at = Rng::new(state.ops).below(done as u64 * 8);
            buf[at as usize / 8] ^= 1 << (at % 8);
        }
        Ok(done)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let state = self.change()?;
        state.room(self.node.len(), offset + bytes.len() as u64)?;
        self.node.memfd.write_all_at(bytes, offset)?;
        // Pages written again are dirty again, also with what they held.
        let sectors = offset as usize / SECTOR_BYTES..(offset as usize + bytes.len()).div_ceil(SECTOR_BYTES);
        guard(&self.node.durable).lost.retain(|sector, _| !sectors.contains(sector));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let state = self.change()?;
        let now = self.node.len();
        if len > now {
            state.room(now, len)?;
            self.node.memfd.set_len(len)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let state = self.change()?;
        state.room(self.node.len(), len)?;
        self.node.memfd.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.make_durable(None)
    }

    fn sync_range(&self, offset: u64, len: u64) -> io::Result<()> {
        self.make_durable(Some((offset, len)))
    }

    fn map(&self, len: usize, writable: bool) -> io::Result<memmap2::MmapRaw> {
        self.disk.lock_state().alive()?;
        if writable && !self.writable {
            return Err(io::Error::from_raw_os_error(libc::EACCES));
        }
        let mut options = memmap2::MmapOptions::new();
        options.len(len);
        if writable { options.map_raw(&self.node.memfd) } else { options.map_raw_read_only(&self.node.memfd) }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        Path::new("/d").join(name)
    }

    /// A disk with the durable directory `/d`.
    fn disk() -> SimDisk {
        let disk = SimDisk::new();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk
    }

    fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
        let file = disk.open(&path(name), Open::Read).ok()?;
        let mut bytes = vec![0; file.len().unwrap() as usize];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
        Some(bytes)
    }

    fn write(disk: &SimDisk, name: &str, bytes: &[u8]) -> Arc<dyn DiskFile> {
        let file = disk.open(&path(name), Open::Create).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    #[test]
    fn what_was_synced_survives_every_crash() {
        let disk = disk();
        write(&disk, "a", &[7; 5000]).sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        for seed in 0..50 {
            assert_eq!(read(&disk.crash(seed), "a").unwrap(), [7; 5000]);
        }
    }

    #[test]
    fn unsynced_sectors_and_sizes_survive_in_part() {
        let disk = disk();
        let file = write(&disk, "a", &[1; 2048]);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[2; 4096], 0).unwrap();
        let mut outcomes = BTreeSet::new();
        for seed in 0..300 {
            let bytes = read(&disk.crash(seed), "a").unwrap();
            assert!((2048..=4096).contains(&bytes.len()));
            for sector in bytes.chunks(SECTOR_BYTES) {
                assert!(sector.iter().all(|b| *b == sector[0]), "a sector is whole");
            }
            outcomes.insert((bytes.len(), bytes.chunks(SECTOR_BYTES).map(|s| s[0]).collect::<Vec<_>>()));
        }
        assert!(outcomes.contains(&(2048, vec![1; 4])), "nothing survived");
        assert!(outcomes.contains(&(4096, vec![2; 8])), "all survived");
        assert!(outcomes.iter().any(|(n, s)| *n == 2048 && s.contains(&1) && s.contains(&2)), "some survived");
        assert!(outcomes.iter().any(|(n, _)| *n > 2048 && *n < 4096), "a size between");
    }

    #[test]
    fn a_mapped_file_loses_what_was_written_until_its_sector_is_synced() {
        let disk = disk();
        let file = write(&disk, "a", &[]);
        file.allocate(8192).unwrap();
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        let map = file.map(1 << 20, true).unwrap();
        file.write_all_at(&[9; 10], 5000).unwrap();
        assert_eq!(map.len(), 1 << 20);
        let survived = |disk: &SimDisk| (0..100).filter(|s| read(&disk.crash(*s), "a").unwrap()[5000] == 9).count();
        assert!((1..100).contains(&survived(&disk)));
        file.sync_range(5000, 1).unwrap();
        assert_eq!(survived(&disk), 100);
    }

    #[test]
    fn sync_range_saves_its_range_and_the_size_that_covers_it() {
        let disk = disk();
        let file = write(&disk, "a", &[3; 4096]);
        file.sync_range(512, 512).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        let mut lost = false;
        for seed in 0..100 {
            let bytes = read(&disk.crash(seed), "a").unwrap();
            assert!(bytes.len() >= 1024);
            assert_eq!(bytes[512..1024], [3; 512]);
            lost |= bytes[0] == 0;
        }
        assert!(lost);
    }

    #[test]
    fn names_survive_only_after_their_directory_was_synced() {
        let disk = disk();
        write(&disk, "old", b"old").sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        write(&disk, "tmp", b"new").sync().unwrap();
        disk.rename(&path("tmp"), &path("old")).unwrap();
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let after = disk.crash(seed);
            let both = (read(&after, "old").unwrap(), read(&after, "tmp"));
            assert!(both.0 == b"old" || both.0 == b"new", "a rename is never half done: {both:?}");
            seen.insert(both);
        }
        assert!(seen.contains(&(b"old".to_vec(), None)), "neither survived");
        assert!(seen.contains(&(b"old".to_vec(), Some(b"new".to_vec()))), "the creation alone");
        assert!(seen.contains(&(b"new".to_vec(), None)), "the rename");
        disk.sync_dir(Path::new("/d")).unwrap();
        disk.remove_file(&path("old")).unwrap();
        let survives = (0..100).filter(|s| read(&disk.crash(*s), "old") == Some(b"new".to_vec())).count();
        assert!((1..100).contains(&survives), "an unlink that was not synced: {survives}");
        disk.sync_dir(Path::new("/d")).unwrap();
        assert!((0..100).all(|s| read(&disk.crash(s), "old").is_none()));
    }

    #[test]
    fn a_rename_between_directories_is_durable_whole_with_a_sync_of_either() {
        for synced in ["/d/x", "/d/y"] {
            let disk = disk();
            for dir in ["/d/x", "/d/y"] {
                disk.create_dir_all(Path::new(dir)).unwrap();
            }
            disk.sync_dir(Path::new("/d")).unwrap();
            write(&disk, "x/a", b"1").sync().unwrap();
            disk.rename(&path("x/a"), &path("y/b")).unwrap();
            disk.sync_dir(Path::new(synced)).unwrap();
            disk.sync_dir(Path::new("/d/x")).unwrap();
            for seed in 0..50 {
                let after = disk.crash(seed);
                assert_eq!((read(&after, "x/a"), read(&after, "y/b")), (None, Some(b"1".to_vec())));
            }
        }
    }

    #[test]
    fn a_failed_sync_leaves_clean_pages_that_no_later_sync_saves() {
        let disk = disk();
        let file = write(&disk, "a", &[1; 8192]);
        file.sync().unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_all_at(&[2; 8192], 0).unwrap();
        disk.fail_nth_sync(1);
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(libc::EIO));
        file.sync().unwrap();
        let bytes = read(&disk.crash(1), "a").unwrap();
        assert!(bytes.contains(&1), "some was lost for good");
        file.write_all_at(&[2; 8192], 0).unwrap();
        file.sync().unwrap();
        assert_eq!(read(&disk.crash(1), "a").unwrap(), [2; 8192], "pages written again are dirty again");
    }

    #[test]
    fn a_kill_keeps_all_writes_but_makes_none_durable() {
        let disk = disk();
        let _lock = disk.lock(&path(".lock")).unwrap();
        assert_eq!(disk.lock(&path(".lock")).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        write(&disk, "a", b"x");
        let next = disk.kill();
        assert_eq!(read(&next, "a").unwrap(), b"x");
        drop(next.lock(&path(".lock")).unwrap());
        next.lock(&path(".lock")).unwrap();
        write(&disk, "a", b"y");
        assert_eq!(read(&next, "a").unwrap(), b"x", "the old disk is detached");
        assert!((0..100).any(|s| read(&next.crash(s), "a").is_none()));
    }

    #[test]
    fn after_n_operations_every_call_fails_and_the_images_stay() {
        let disk = disk();
        let file = write(&disk, "a", &[1; 600]);
        disk.sync_dir(Path::new("/d")).unwrap();
        let before = disk.ops();
        disk.crash_after_ops(1);
        file.sync().unwrap();
        assert!(file.write_all_at(&[2; 600], 0).is_err());
        assert!(disk.crashed());
        assert_eq!(disk.ops(), before + 1);
        assert!(disk.open(&path("a"), Open::Read).is_err() && !disk.exists(&path("a")) && file.len().is_err());
        assert!(disk.has_dir(&path("d")).is_err(), "nothing is absent on a disk that does not answer");
        for seed in 0..20 {
            assert_eq!(read(&disk.crash(seed), "a").unwrap(), [1; 600]);
        }
    }

    #[test]
    fn a_full_disk_refuses_growth_and_keeps_the_file() {
        let disk = disk();
        disk.set_capacity(Some(8192));
        let file = write(&disk, "a", &[1; 4096]);
        assert_eq!(file.allocate(8193).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.write_all_at(&[1; 8192], 4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.allocate(8192).unwrap();
        assert_eq!(disk.space(Path::new("/d")).unwrap(), (8192, 0));
        drop(file);
        disk.remove_file(&path("a")).unwrap();
        assert_eq!(disk.used_bytes(), 0);
    }

    #[test]
    fn reads_fail_and_flip_on_demand_and_bits_rot() {
        let disk = disk();
        let file = write(&disk, "a", &[0; 64]);
        let mut buf = [0; 64];
        disk.fail_nth_read(2);
        file.read_at(&mut buf, 0).unwrap();
        assert!(file.read_at(&mut buf, 0).is_err());
        disk.flip_nth_read(1);
        file.read_at(&mut buf, 0).unwrap();
        assert_eq!(buf.iter().map(|b| b.count_ones()).sum::<u32>(), 1);
        file.read_at(&mut buf, 0).unwrap();
        assert_eq!(buf, [0; 64]);
        disk.flip_bit(&path("a"), 3, 7).unwrap();
        file.read_at(&mut buf, 0).unwrap();
        assert_eq!(buf[3], 0x80);
    }

    #[test]
    fn directories_are_listed_moved_and_removed_with_all_in_them() {
        let disk = disk();
        disk.create_dir_all(&path("x/y")).unwrap();
        write(&disk, "x/y/a", b"1");
        write(&disk, "x/b", b"2");
        assert_eq!(disk.files(), [path("x/b"), path("x/y/a")]);
        assert_eq!(disk.read_dir(&path("x")).unwrap().len(), 2);
        assert_eq!(disk.open(&path("x/b"), Open::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(disk.open(&path("z/b"), Open::Create).unwrap_err().kind(), io::ErrorKind::NotFound);
        disk.rename(&path("x"), &path("z")).unwrap();
        assert_eq!(read(&disk, "z/y/a").unwrap(), b"1");
        assert!(disk.open(&path("z/b"), Open::Read).unwrap().write_all_at(b"x", 0).is_err());
        disk.remove_dir_all(&path("z")).unwrap();
        assert!(!disk.exists(&path("z")) && disk.files().is_empty());
        disk.sync_dir(Path::new("/d")).unwrap();
        assert_eq!(guard(&disk.state).files.len(), 0, "memory goes with the files");
    }

    #[test]
    fn one_seed_gives_one_outcome() {
        let build = || {
            let disk = disk();
            for i in 0..10 {
                write(&disk, &format!("f{i}"), &[i; 3000]);
                if i % 3 == 0 {
                    disk.sync_dir(Path::new("/d")).unwrap();
                }
            }
            disk
        };
        let (a, b) = (build(), build());
        for seed in 0..30 {
            let (a, b) = (a.crash(seed), b.crash(seed));
            assert_eq!(a.files(), b.files());
            for i in 0..10 {
                assert_eq!(read(&a, &format!("f{i}")), read(&b, &format!("f{i}")));
            }
        }
    }
}
