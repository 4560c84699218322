//! What a start reads instead of the partitions: the catalogue (one record a partition) and `opened` (what changed since).
//!
//! **`catalogue`**, a [`crate::checkpoint`] file (payload, length, CRC-32), all big endian:
//! ```text
//! header, 32 bytes:  0 magic u32 "MSCT" | 4 format u16 (1) | 6 flags u16 (bit 0: clean stop) | 8 generation u64
//!                   16 written ms i64 | 24 record count u32 | 28 record bytes u32 (72)
//! record, 72 bytes:  0 topic id [16] | 16 partition i32 | 20 latest epoch i32 | 24 log start i64 | 32 log end i64
//!                   40 recovery point i64 | 48 high watermark i64 | 56 size bytes u64 | 64 expires ms i64
//! ```
//! **`opened.<generation>`**, append-only slots of 36 bytes; the space behind the last one is allocated ahead and zero:
//! ```text
//!  0 topic id [16] | 16 partition i32 | 20 kind u8 | 21 zero [3] | 24 offset i64 | 32 CRC-32 of bytes 0..32
//! ```
//! Kinds: 1 opened (offset = recovery point), 2 recovery point is offset, 3 deleted, 4 log start is offset. The last word on a
//! partition wins.
//!
//! **Rotation.** A catalogue of generation g stands with `opened.g` and `opened.(g+1)`, either may be absent; what they name is
//! dirty, everything else is exactly as catalogued. To go from g to g+1:
//! 1. Under the directory's lock, take the figures of every log, and write `opened.(g+1)` with the name of each log that is
//!    open and noted, or not yet recovered. Sync it, sync the directory. From here on names go to `opened.(g+1)` only.
//! 2. Replace `catalogue` by one of generation g+1 with the figures of step 1.
//! 3. Remove `opened.g`.
//!
//! A crash before 1 is complete leaves g with `opened.g`, and perhaps a part of `opened.(g+1)`, which names nothing that
//! `opened.g` does not. Between 1 and 2: g with both files: their union covers all changes since g. Between 2 and 3: `opened.g`
//! is below the catalogue's generation, is not read, and is removed at the next start. To name too much costs a needless
//! recovery; to name too little would cost records, and cannot happen: a name is only left out of `opened.(g+1)` when the
//! figures of the catalogue that comes with it are its last word.

use crate::{
    Disk, DiskFile, Error, LogStat, PartitionId, Result,
    checkpoint::{self, ReadError},
    disk::Open,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Format version this release writes, and the newest it reads.
pub const FORMAT: u16 = 1;

const MAGIC: u32 = u32::from_be_bytes(*b"MSCT");
const HEADER_BYTES: usize = 32;
const RECORD_BYTES: usize = 72;
const SLOT_BYTES: usize = 36;
/// `opened` grows in these steps, so that a full disk does not stop the first append to a partition that has room.
const OPENED_STEP_BYTES: u64 = 64 << 10;

/// One catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalogue {
    /// Counts catalogues of this directory; names the `opened` file that goes with it.
    pub generation: u64,
    /// Written by a clean stop.
    pub clean: bool,
    /// Wall clock when written, ms since 1970.
    pub written_ms: i64,
    /// Every partition that has files.
    pub partitions: Vec<(PartitionId, LogStat)>,
}

/// Why there is no catalogue to start from.
#[derive(Debug)]
pub enum LoadError {
    /// The bytes are not what was written: the caller lists the partitions' directories instead.
    Damaged(&'static str),
    /// Written by a newer release.
    NewerFormat(u16),
    /// The file system refused.
    Io(Error),
}

impl Catalogue {
    /// Where it lies.
    pub fn path(root: &Path) -> PathBuf {
        root.join("catalogue")
    }

    /// Replaces the catalogue; durable when it returns. Blocks.
    pub fn store(&self, disk: &dyn Disk, root: &Path) -> Result<()> {
        checkpoint::write_atomic(disk, &Self::path(root), &self.encode())
    }

    /// The catalogue last stored; `None` when there is none. Blocks.
    pub fn load(disk: &dyn Disk, root: &Path) -> Result<Option<Catalogue>, LoadError> {
        match checkpoint::read(disk, &Self::path(root)) {
            Ok(None) => Ok(None),
            Ok(Some(payload)) => Self::decode(&payload).map(Some),
            Err(ReadError::Damaged { why, .. }) => Err(LoadError::Damaged(why)),
            Err(ReadError::Io(e)) => Err(LoadError::Io(e)),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.partitions.len() * RECORD_BYTES);
        out.extend_from_slice(&MAGIC.to_be_bytes());
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&u16::from(self.clean).to_be_bytes());
        out.extend_from_slice(&self.generation.to_be_bytes());
        out.extend_from_slice(&self.written_ms.to_be_bytes());
        out.extend_from_slice(&(self.partitions.len() as u32).to_be_bytes());
        out.extend_from_slice(&(RECORD_BYTES as u32).to_be_bytes());
        for (id, s) in &self.partitions {
            out.extend_from_slice(&id.topic_id);
            out.extend_from_slice(&id.partition.to_be_bytes());
            out.extend_from_slice(&s.latest_epoch.to_be_bytes());
            for v in [s.log_start, s.log_end, s.recovery_point, s.high_watermark] {
                out.extend_from_slice(&v.to_be_bytes());
            }
            out.extend_from_slice(&s.size_bytes.to_be_bytes());
            out.extend_from_slice(&s.expires_ms.to_be_bytes());
        }
        out
    }

    fn decode(bytes: &[u8]) -> Result<Catalogue, LoadError> {
        let mut r = Fields(bytes);
        if bytes.len() < HEADER_BYTES || r.u32() != MAGIC {
            return Err(LoadError::Damaged("it does not begin as a catalogue"));
        }
        let format = r.u16();
        if format > FORMAT {
            return Err(LoadError::NewerFormat(format));
        }
        let (flags, generation, written_ms) = (r.u16(), r.u64(), r.u64() as i64);
        let (count, record_bytes) = (r.u32() as usize, r.u32() as usize);
        if record_bytes != RECORD_BYTES || r.0.len() != count.saturating_mul(RECORD_BYTES) {
            return Err(LoadError::Damaged("its record count contradicts its length"));
        }
        let partitions = (0..count)
            .map(|_| {
                let id = PartitionId { topic_id: r.take(), partition: r.u32() as i32 };
                let stat = LogStat {
                    latest_epoch: r.u32() as i32,
                    log_start: r.u64() as i64,
                    log_end: r.u64() as i64,
                    recovery_point: r.u64() as i64,
                    high_watermark: r.u64() as i64,
                    size_bytes: r.u64(),
                    expires_ms: r.u64() as i64,
                    needs_recovery: false,
                };
                (id, stat)
            })
            .collect();
        Ok(Catalogue { generation, clean: flags & 1 != 0, written_ms, partitions })
    }
}

/// Big-endian fields from bytes whose length was checked before.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self.0.split_first_chunk::<N>().expect("length checked by the caller");
        self.0 = rest;
        *head
    }
    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }
    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }
    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

/// What a slot of `opened` says about its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Its log may have changed since the catalogue; nothing below the offset needs recovery.
    Opened { recovery_point: i64 },
    /// The recovery point is now here (lower than before after a truncation).
    RecoveryPoint(i64),
    /// Its directory was renamed away.
    Deleted,
    /// The log start is now here.
    LogStart(i64),
}

/// One slot of `opened`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub id: PartitionId,
    pub event: Event,
}

impl Slot {
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, offset) = match self.event {
            Event::Opened { recovery_point } => (1, recovery_point),
            Event::RecoveryPoint(offset) => (2, offset),
            Event::Deleted => (3, 0),
            Event::LogStart(offset) => (4, offset),
        };
        let begin = out.len();
        out.extend_from_slice(&self.id.topic_id);
        out.extend_from_slice(&self.id.partition.to_be_bytes());
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend_from_slice(&offset.to_be_bytes());
        let crc = crc32fast::hash(&out[begin..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }

    fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Slot> {
        let mut r = Fields(bytes);
        let id = PartitionId { topic_id: r.take(), partition: r.u32() as i32 };
        let (kind, offset, crc) = (r.take::<4>()[0], r.u64() as i64, r.u32());
        if crc != crc32fast::hash(&bytes[..SLOT_BYTES - 4]) {
            return None;
        }
        let event = match kind {
            1 => Event::Opened { recovery_point: offset },
            2 => Event::RecoveryPoint(offset),
            3 => Event::Deleted,
            4 => Event::LogStart(offset),
            _ => return None,
        };
        Some(Slot { id, event })
    }
}

/// What one `opened` file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// The readable slots, oldest first.
    pub slots: Vec<Slot>,
    /// Bytes up to the end of the last readable slot: the next one goes there.
    pub end_bytes: u64,
    /// A slot before the last one is unreadable: the name of a partition may be lost.
    pub damaged: bool,
}

/// Where `opened` of a generation lies.
pub fn opened_path(root: &Path, generation: u64) -> PathBuf {
    root.join(format!("opened.{generation}"))
}

/// Reads `opened` of a generation; `None` when there is none. Blocks.
pub fn read_opened(disk: &dyn Disk, root: &Path, generation: u64) -> Result<Option<Slots>> {
    match checkpoint::read_plain(disk, &opened_path(root, generation)) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => Ok(Some(parse_opened(&bytes))),
        Err(ReadError::Damaged { .. }) => Ok(Some(Slots { damaged: true, ..Slots::default() })),
        Err(ReadError::Io(e)) => Err(e),
    }
}

/// Writes what an `opened` file holds once more, in its place, and makes it durable with its name: the run before may have ended
/// before its first sync, or after one that failed and left pages clean that are not on disk.
pub(crate) fn write_opened_again(disk: &dyn Disk, root: &Path, generation: u64, end_bytes: u64) -> Result<()> {
    let path = opened_path(root, generation);
    let again = || {
        let file = disk.open(&path, Open::Write)?;
        let mut bytes = vec![0; end_bytes as usize];
        let n = file.read_at(&mut bytes, 0)?;
        file.write_all_at(&bytes[..n], 0)?;
        file.sync()?;
        disk.sync_dir(root)
    };
    again().map_err(|e| Error::io("write", &path, e))
}

fn parse_opened(bytes: &[u8]) -> Slots {
    let mut out = Slots::default();
    let mut unread = false;
    for (i, chunk) in bytes.as_chunks::<SLOT_BYTES>().0.iter().enumerate() {
        match Slot::decode(chunk) {
            None => unread = true,
            Some(slot) => {
                out.slots.push(slot);
                out.end_bytes = ((i + 1) * SLOT_BYTES) as u64;
                out.damaged |= unread;
            }
        }
    }
    out
}

/// The `opened` file of one generation, as its only writer sees it.
#[derive(Debug)]
pub(crate) struct OpenedWriter {
    path: PathBuf,
    pub(crate) generation: u64,
    file: Option<Arc<dyn DiskFile>>,
    end_bytes: u64,
    allocated_bytes: u64,
    synced_bytes: u64,
    /// The file's name is durable in its directory.
    named: bool,
}

/// A sync that [`OpenedWriter::unsynced`] asks for; made without the writer's lock.
#[derive(Debug)]
pub(crate) struct OpenedSync {
    generation: u64,
    end_bytes: u64,
    file: Arc<dyn DiskFile>,
    pub(crate) name_too: bool,
}

impl OpenedSync {
    /// Syncs the slots. Blocks.
    pub(crate) fn run(&self) -> Result<()> {
        self.file.sync().map_err(|e| Error::io("sync", &self.file.path(), e))
    }
}

impl OpenedWriter {
    /// Continues the file of `generation` after `end_bytes` (0 when it has no slot, or is not there). What it holds counts as not
    /// synced.
    pub(crate) fn new(root: &Path, generation: u64, end_bytes: u64) -> OpenedWriter {
        let path = opened_path(root, generation);
        OpenedWriter { path, generation, file: None, end_bytes, allocated_bytes: 0, synced_bytes: 0, named: false }
    }

    /// Makes the file of a new generation, with room for slots: an error says that there is none, and the old file, which has
    /// room, stays in use. What an earlier crash left there goes.
    pub(crate) fn create(disk: &dyn Disk, root: &Path, generation: u64) -> Result<OpenedWriter> {
        let mut writer = OpenedWriter::new(root, generation, 0);
        let file = writer.file(disk)?;
        file.set_len(0).map_err(|e| Error::io("cut", &writer.path, e))?;
        match writer.make_room(disk) {
            Ok(()) => Ok(writer),
            Err(e) => {
                let _ = disk.remove_file(&writer.path);
                Err(e)
            }
        }
    }

    /// Sees that the next slots find room even when the disk is full by then, so that retention, which makes room, can say what
    /// it does.
    pub(crate) fn make_room(&mut self, disk: &dyn Disk) -> Result<()> {
        let wanted = (self.end_bytes + 1).next_multiple_of(OPENED_STEP_BYTES);
        let file = self.file(disk)?;
        file.allocate(wanted).map_err(|e| Error::io("allocate", &self.path, e))?;
        self.allocated_bytes = wanted;
        Ok(())
    }

    /// Whether it has no slot.
    pub(crate) fn is_empty(&self) -> bool {
        self.end_bytes == 0
    }

    /// Bytes of slots so far.
    pub(crate) fn end_bytes(&self) -> u64 {
        self.end_bytes
    }

    /// Appends slots in one write, unsynced: they survive `kill -9`, and power loss once synced. On an error none counts.
    pub(crate) fn append(&mut self, disk: &dyn Disk, slots: &[Slot]) -> Result<()> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(slots.len() * SLOT_BYTES);
        slots.iter().for_each(|s| s.encode(&mut bytes));
        let file = self.file(disk)?;
        let failed = |e: io::Error| Error::io("write", &self.path, e);
        let end = self.end_bytes + bytes.len() as u64;
        if end > self.allocated_bytes {
            let wanted = end.next_multiple_of(OPENED_STEP_BYTES);
            // Without room for the step the write itself may still find room, or says why not.
            if file.allocate(wanted).is_ok() {
                self.allocated_bytes = wanted;
            }
        }
        file.write_all_at(&bytes, self.end_bytes).map_err(failed)?;
        self.end_bytes = end;
        Ok(())
    }

    /// The sync that makes all slots durable; `None` when they are.
    pub(crate) fn unsynced(&mut self, disk: &dyn Disk) -> Result<Option<OpenedSync>> {
        if self.synced_bytes >= self.end_bytes {
            return Ok(None);
        }
        let file = self.file(disk)?;
        let (generation, end_bytes, name_too) = (self.generation, self.end_bytes, !self.named);
        Ok(Some(OpenedSync { generation, end_bytes, file, name_too }))
    }

    /// Whether the first `end_bytes` are durable.
    pub(crate) fn is_synced(&self, end_bytes: u64) -> bool {
        self.synced_bytes >= end_bytes
    }

    /// `sync` succeeded, and the directory was synced where it asked for that.
    pub(crate) fn synced(&mut self, sync: &OpenedSync) {
        if sync.generation == self.generation {
            self.synced_bytes = self.synced_bytes.max(sync.end_bytes);
            self.named |= sync.name_too;
        }
    }

    fn file(&mut self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let file = disk.open(&self.path, Open::Create).map_err(|e| Error::io("create", &self.path, e))?;
        Ok(self.file.insert(file).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OsDisk;

    fn id(n: u8) -> PartitionId {
        PartitionId { topic_id: [n; 16], partition: i32::from(n) }
    }

    fn stat(n: i64) -> LogStat {
        LogStat {
            log_start: n,
            log_end: n + 1,
            recovery_point: n + 2,
            high_watermark: n + 3,
            size_bytes: n as u64 + 4,
            expires_ms: i64::MAX - n,
            latest_epoch: -1,
            needs_recovery: false,
        }
    }

    #[test]
    fn a_catalogue_comes_back_as_it_was_stored() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Catalogue::load(&OsDisk, dir.path()).unwrap().is_none());
        let c = Catalogue {
            generation: 7,
            clean: true,
            written_ms: 99,
            partitions: vec![(id(1), stat(100)), (id(2), stat(200))],
        };
        c.store(&OsDisk, dir.path()).unwrap();
        assert_eq!(Catalogue::load(&OsDisk, dir.path()).unwrap().unwrap(), c);
        assert_eq!(std::fs::metadata(Catalogue::path(dir.path())).unwrap().len(), 32 + 2 * 72 + 8);
    }

    #[test]
    fn a_newer_or_damaged_catalogue_is_told_apart() {
        let c = Catalogue { generation: 1, clean: false, written_ms: 0, partitions: vec![(id(1), stat(1))] };
        let good = c.encode();
        let mut newer = good.clone();
        newer[5] = 2;
        assert!(matches!(Catalogue::decode(&newer), Err(LoadError::NewerFormat(2))));
        for cut in 0..good.len() {
            assert!(matches!(Catalogue::decode(&good[..cut]), Err(LoadError::Damaged(_))), "cut at {cut}");
        }
        let mut many = good;
        many[24..28].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(Catalogue::decode(&many), Err(LoadError::Damaged(_))));
    }

    #[test]
    fn slots_survive_a_torn_tail_and_damage_in_the_middle_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let slots = [
            Slot { id: id(1), event: Event::Opened { recovery_point: 5 } },
            Slot { id: id(2), event: Event::Deleted },
            Slot { id: id(1), event: Event::RecoveryPoint(77) },
            Slot { id: id(1), event: Event::LogStart(6) },
        ];
        let mut w = OpenedWriter::new(dir.path(), 3, 0);
        assert!(read_opened(&OsDisk, dir.path(), 3).unwrap().is_none());
        w.append(&OsDisk, &slots[..1]).unwrap();
        w.append(&OsDisk, &slots[1..]).unwrap();
        let read = read_opened(&OsDisk, dir.path(), 3).unwrap().unwrap();
        assert_eq!(read, Slots { slots: slots.to_vec(), end_bytes: 4 * 36, damaged: false });

        let path = opened_path(dir.path(), 3);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[3 * 36 + 30] ^= 1; // torn tail: the last slot
        let read = parse_opened(&bytes);
        assert_eq!((read.slots.len(), read.end_bytes, read.damaged), (3, 3 * 36, false));
        bytes[36] ^= 1; // and the second
        let read = parse_opened(&bytes);
        assert_eq!((read.slots.len(), read.end_bytes, read.damaged), (2, 3 * 36, true));
    }

    #[test]
    fn a_writer_continues_behind_the_last_readable_slot() {
        let dir = tempfile::tempdir().unwrap();
        let slot = |n| Slot { id: id(n), event: Event::Deleted };
        OpenedWriter::new(dir.path(), 1, 0).append(&OsDisk, &[slot(1), slot(2)]).unwrap();
        let mut w = OpenedWriter::new(dir.path(), 1, 36);
        assert!(!w.is_synced(36), "what was found counts as unsynced");
        let sync = w.unsynced(&OsDisk).unwrap().unwrap();
        sync.run().unwrap();
        w.append(&OsDisk, &[slot(3)]).unwrap();
        w.synced(&sync);
        assert!(w.is_synced(36) && !w.is_synced(72));
        let read = read_opened(&OsDisk, dir.path(), 1).unwrap().unwrap();
        assert_eq!(read.slots, [slot(1), slot(3)]);
    }
}
