//! Which leader epoch begins at which offset (KIP-101; Kafka's `LeaderEpochFileCache`), and its file.
//!
//! `leader-epoch-checkpoint` is Kafka's text: `0\n<count>\n<epoch> <start offset>\n…`. It is derived from the batches: when it is
//! missing or disagrees with them it is made anew.

/// Epochs with their start offsets, both rising. Cheap to copy: one entry for each change of leader that left records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Epochs {
    entries: Vec<(i32, i64)>,
}

impl Epochs {
    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// (epoch, start offset), rising.
    pub fn entries(&self) -> &[(i32, i64)] {
        &self.entries
    }

    /// The newest epoch; -1 = none.
    pub fn latest(&self) -> i32 {
        self.entries.last().map_or(-1, |e| e.0)
    }

    /// Notes that a batch of `epoch` begins at `offset`; nothing unless the epoch is newer than all before. Returns whether it was.
    pub fn push(&mut self, epoch: i32, offset: i64) -> bool {
        if epoch <= self.latest() {
            return false;
        }
        // An epoch that began at the same offset left no record.
        while self.entries.last().is_some_and(|e| e.1 >= offset) {
            self.entries.pop();
        }
        self.entries.push((epoch, offset));
        true
    }

    /// Forgets what begins at or after `end`. Returns whether there was such a thing.
    pub fn cut_from(&mut self, end: i64) -> bool {
        let keep = self.entries.partition_point(|e| e.1 < end);
        let cut = keep < self.entries.len();
        self.entries.truncate(keep);
        cut
    }

    /// Forgets what ends at or before `start`; the epoch of `start` then begins there. Returns whether anything changed.
    pub fn cut_below(&mut self, start: i64) -> bool {
        let below = self.entries.partition_point(|e| e.1 <= start);
        if below == 0 || (below == 1 && self.entries[0].1 == start) {
            return false;
        }
        self.entries.drain(..below - 1);
        self.entries[0].1 = start;
        true
    }

    /// Epoch that `offset` was written under; `None` below the first one known.
    pub fn at(&self, offset: i64) -> Option<i32> {
        let n = self.entries.partition_point(|e| e.1 <= offset);
        Some(self.entries[n.checked_sub(1)?].0)
    }

    /// KIP-101: the largest epoch ≤ `epoch` and the offset at which it ends, given the log's end. As Kafka does, an epoch older than
    /// all known gives itself and the start of the first known one; an epoch newer than all known gives `None`.
    pub fn end_of(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        if epoch < 0 || epoch > self.latest() {
            return None;
        }
        let n = self.entries.partition_point(|e| e.0 <= epoch);
        let end = self.entries.get(n).map_or(log_end, |e| e.1);
        Some((n.checked_sub(1).map_or(epoch, |i| self.entries[i].0), end))
    }

    /// The file's text.
    pub fn encode(&self) -> String {
        use std::fmt::Write;
        let mut out = format!("0\n{}\n", self.entries.len());
        for (epoch, offset) in &self.entries {
            let _ = writeln!(out, "{epoch} {offset}");
        }
        out
    }

    /// Reads the file's text; `None` when it is not one.
    pub fn decode(bytes: &[u8]) -> Option<Epochs> {
        // The last number may be cut short when the line is.
        let mut lines = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.lines();
        if lines.next()?.trim() != "0" {
            return None;
        }
        let count: usize = lines.next()?.trim().parse().ok()?;
        let mut epochs = Epochs::default();
        for line in lines.by_ref().take(count) {
            let (epoch, offset) = line.trim().split_once(' ')?;
            let (epoch, offset): (i32, i64) = (epoch.parse().ok()?, offset.parse().ok()?);
            if epoch < 0 || offset < 0 || epochs.entries.last().is_some_and(|l| epoch <= l.0 || offset < l.1) {
                return None;
            }
            epochs.entries.push((epoch, offset));
        }
        (epochs.entries.len() == count && lines.next().is_none_or(|l| l.trim().is_empty())).then_some(epochs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> Epochs {
        let mut e = Epochs::default();
        for (epoch, offset) in entries {
            assert!(e.push(*epoch, *offset));
        }
        e
    }

    #[test]
    fn ends_follow_kip_101() {
        let e = epochs(&[(2, 10), (4, 20), (7, 30)]);
        assert_eq!(e.end_of(7, 45), Some((7, 45)));
        assert_eq!(e.end_of(8, 45), None);
        assert_eq!(e.end_of(6, 45), Some((4, 30)));
        assert_eq!(e.end_of(4, 45), Some((4, 30)));
        assert_eq!(e.end_of(2, 45), Some((2, 20)));
        assert_eq!(e.end_of(1, 45), Some((1, 10)));
        assert_eq!(Epochs::default().end_of(0, 0), None);
        assert_eq!((e.at(9), e.at(10), e.at(29), e.at(99)), (None, Some(2), Some(4), Some(7)));
    }

    #[test]
    fn cuts_keep_what_the_log_still_holds() {
        let mut e = epochs(&[(2, 10), (4, 20), (7, 30)]);
        assert!(!e.cut_from(31));
        assert!(e.cut_from(30));
        assert_eq!(e.latest(), 4);
        assert!(e.cut_below(15));
        assert_eq!(e.entries(), [(2, 15), (4, 20)]);
        assert!(e.cut_below(20));
        assert_eq!(e.entries(), [(4, 20)]);
        assert!(!e.cut_below(20));
    }

    #[test]
    fn the_file_is_kafkas_and_damage_is_noticed() {
        let e = epochs(&[(0, 0), (3, 17)]);
        assert_eq!(e.encode(), "0\n2\n0 0\n3 17\n");
        assert_eq!(Epochs::decode(e.encode().as_bytes()), Some(e));
        for bad in [
            "",
            "0\n",
            "1\n0\n",
            "0\n2\n0 0\n",
            "0\n1\n0 0\n1 5\n",
            "0\n1\nx 0\n",
            "0\n2\n3 0\n1 4\n",
            "0\n2\n1 9\n2 4\n",
        ] {
            assert_eq!(Epochs::decode(bad.as_bytes()), None, "{bad:?}");
        }
        assert_eq!(Epochs::decode(b"0\n99999999999\n"), None);
    }
}
