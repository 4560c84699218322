//! Where a look at a topic goes on: a string that says nothing to whoever holds it.
//!
//! Bytes, in base64url: version 1, kind, topic id (16), then varints. A cursor of another topic, also of one deleted and created anew under its name, is refused.

use super::{BrowseError, Start};
use crate::limits::{BROWSE_CURSOR_BYTES_MAX, BROWSE_PARTITIONS_MAX};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use uuid::Uuid;

const VERSION: u8 = 1;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Oldest first.
    Forward {
        /// The partition to go on in.
        partition: i32,
        /// From this offset; `None` = from `start`.
        offset: Option<i64>,
        /// No other partition is wanted.
        only: bool,
        /// Where the partitions behind it begin.
        start: Start,
    },
    /// Newest first.
    Back {
        /// The first partition of `ends`.
        first: i32,
        /// What is below these is still to be shown.
        ends: Vec<i64>,
    },
    /// As it comes.
    Live {
        /// The first partition of `next`.
        first: i32,
        /// The offset wanted next in each.
        next: Vec<i64>,
    },
}

impl Cursor {
    /// The string, for a topic.
    pub fn encode(&self, topic: Uuid) -> String {
        let mut out = vec![VERSION, 0];
        out.extend_from_slice(topic.as_bytes());
        let mut several = |kind, first: i32, offsets: &[i64]| {
            out[1] = kind;
            put(&mut out, i64::from(first));
            put(&mut out, offsets.len() as i64);
            offsets.iter().for_each(|offset| put(&mut out, *offset));
        };
        match self {
            Cursor::Back { first, ends } => several(b'b', *first, ends),
            Cursor::Live { first, next } => several(b'l', *first, next),
            Cursor::Forward { partition, offset, only, start } => {
                out[1] = b'f';
                put(&mut out, i64::from(*partition));
                put(&mut out, offset.unwrap_or(-1));
                put(&mut out, i64::from(*only));
                let (kind, value) = match start {
                    Start::Earliest => (0, 0),
                    Start::Offset(offset) => (1, *offset),
                    Start::TimeMs(ms) => (2, *ms),
                };
                put(&mut out, kind);
                put(&mut out, value);
            }
        }
        URL_SAFE_NO_PAD.encode(out)
    }

    /// Reads one of a topic of `partitions` partitions. Never trusts it.
    pub fn decode(text: &str, topic: Uuid, partitions: usize) -> Result<Cursor, BrowseError> {
        let wrong = || BrowseError::Cursor("this is no cursor that was given out here");
        if text.len() > BROWSE_CURSOR_BYTES_MAX {
            return Err(wrong());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let (head, mut rest) = bytes.split_at_checked(18).ok_or_else(wrong)?;
        if head[0] != VERSION {
            return Err(wrong());
        }
        if head[2..] != *topic.as_bytes() {
            return Err(BrowseError::Cursor("this cursor is of another topic, or the topic was created anew"));
        }
        let cursor = read(head[1], &mut rest, partitions).filter(|_| rest.is_empty());
        cursor.ok_or_else(wrong)
    }
}

fn read(kind: u8, rest: &mut &[u8], partitions: usize) -> Option<Cursor> {
    let index = |value: i64| i32::try_from(value).ok().filter(|p| (0..partitions as i64).contains(&i64::from(*p)));
    if kind == b'f' {
        // The last cursor of all points behind the last partition.
        let partition = index(take(rest)?)?;
        let offset = match take(rest)? {
            -1 => None,
            offset => Some(offset).filter(|o| *o >= 0),
        };
        let only = match take(rest)? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let start = match (take(rest)?, take(rest)?) {
            (0, 0) => Start::Earliest,
            (1, offset) if offset >= 0 => Start::Offset(offset),
            (2, ms) => Start::TimeMs(ms),
            _ => return None,
        };
        if offset.is_none() && matches!(start, Start::Offset(_)) && only {
            return None;
        }
        return Some(Cursor::Forward { partition, offset, only, start });
    }
    let first = index(take(rest)?)?;
    let count = usize::try_from(take(rest)?).ok()?;
    if count == 0 || count > BROWSE_PARTITIONS_MAX || first as usize + count > partitions {
        return None;
    }
    let offsets = (0..count).map(|_| take(rest).filter(|o| *o >= 0)).collect::<Option<Vec<i64>>>()?;
    match kind {
        b'b' => Some(Cursor::Back { first, ends: offsets }),
        b'l' => Some(Cursor::Live { first, next: offsets }),
        _ => None,
    }
}

/// A zigzag varint.
fn put(out: &mut Vec<u8>, value: i64) {
    millstream_storage::record::put_varint(out, value);
}

fn take(bytes: &mut &[u8]) -> Option<i64> {
    let mut raw = 0u64;
    for (n, byte) in bytes.iter().enumerate().take(10) {
        raw |= u64::from(byte & 0x7f).checked_shl(7 * n as u32)?;
        if byte & 0x80 == 0 {
            *bytes = &bytes[n + 1..];
            return Some((raw >> 1) as i64 ^ -((raw & 1) as i64));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(7);

    fn cursors() -> Vec<Cursor> {
        let forward = |offset, only, start| Cursor::Forward { partition: 2, offset, only, start };
        vec![
            forward(Some(0), true, Start::Earliest),
            forward(Some(i64::MAX), false, Start::Offset(5)),
            forward(None, false, Start::TimeMs(-1)),
            Cursor::Back { first: 0, ends: vec![1, 0, i64::MAX, 4] },
            Cursor::Live { first: 3, next: vec![9] },
        ]
    }

    #[test]
    fn a_cursor_comes_back_as_it_was_given() {
        for cursor in cursors() {
            assert_eq!(Cursor::decode(&cursor.encode(TOPIC), TOPIC, 4).unwrap(), cursor);
        }
    }

    #[test]
    fn what_was_not_given_out_is_refused() {
        for cursor in cursors() {
            let text = cursor.encode(TOPIC);
            assert!(Cursor::decode(&text, Uuid::from_u128(8), 4).is_err(), "another topic");
            assert!(Cursor::decode(&text, TOPIC, 2).is_err(), "a partition that is not there: {cursor:?}");
            for cut in 0..text.len() {
                assert!(Cursor::decode(&text[..cut], TOPIC, 4).is_err(), "{cursor:?} cut at {cut}");
            }
            assert!(Cursor::decode(&format!("{text}AAAA"), TOPIC, 4).is_err());
        }
        for text in ["", "x", "%", &"A".repeat(100), &"A".repeat(1 << 20)] {
            assert!(Cursor::decode(text, TOPIC, 4).is_err());
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut bytes = vec![VERSION, [b'f', b'b', b'l'][(seed >> 60) as usize % 3]];
            bytes.extend_from_slice(TOPIC.as_bytes());
            bytes.extend_from_slice(&seed.to_le_bytes()[..(seed >> 40) as usize % 9]);
            let _ = Cursor::decode(&URL_SAFE_NO_PAD.encode(bytes), TOPIC, 4);
        }
    }
}
