//! What consumers put into metadata and assignments (Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`), as far as it is shown.
//!
//! ```text
//! both: version i16 | count i32 | topics … and what later versions have put behind
//! a topic of a subscription: name (i16 length, UTF-8)
//! a topic of an assignment: name | count i32 | partitions i32 …
//! ```

use bytes::Buf;
use std::collections::BTreeMap;

/// Topics of a subscription, in its order; `None` = it cannot be read.
pub fn subscribed(metadata: &[u8]) -> Option<Vec<String>> {
    let mut rest = metadata;
    let mut topics = Vec::new();
    for _ in 0..count_behind_version(&mut rest)? {
        topics.push(text(&mut rest)?.to_string());
    }
    Some(topics)
}

/// Partitions of an assignment by topic, each once and in order; `None` = it cannot be read. Nothing is an assignment of nothing.
pub fn assigned(assignment: &[u8]) -> Option<BTreeMap<String, Vec<i32>>> {
    let mut rest = assignment;
    let mut topics = BTreeMap::<String, Vec<i32>>::new();
    if rest.is_empty() {
        return Some(topics);
    }
    for _ in 0..count_behind_version(&mut rest)? {
        let partitions = topics.entry(text(&mut rest)?.to_string()).or_default();
        for _ in 0..u32::try_from(rest.try_get_i32().ok()?).ok()? {
            partitions.push(rest.try_get_i32().ok()?);
        }
    }
    for partitions in topics.values_mut() {
        partitions.sort_unstable();
        partitions.dedup();
    }
    Some(topics)
}

fn count_behind_version(rest: &mut &[u8]) -> Option<u32> {
    if rest.try_get_i16().ok()? < 0 {
        return None;
    }
    u32::try_from(rest.try_get_i32().ok()?).ok()
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let len = usize::from(u16::try_from(rest.try_get_i16().ok()?).ok()?);
    let (text, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    std::str::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASSIGNMENT: &[u8] = b"\0\x03\0\0\0\x02\0\x01b\0\0\0\x02\0\0\0\x05\0\0\0\x01\0\x01a\0\0\0\x01\0\0\0\0\0\0\0\0";
    const SUBSCRIPTION: &[u8] = b"\0\x03\0\0\0\x02\0\x01b\0\x02\xc3\xa4\0\0\0\0\0\0\0\0";

    #[test]
    fn what_a_member_owns_and_wants_is_read() {
        let owned = assigned(ASSIGNMENT).unwrap();
        assert_eq!(owned, BTreeMap::from([("a".to_string(), vec![0]), ("b".to_string(), vec![1, 5])]));
        assert_eq!(subscribed(SUBSCRIPTION).unwrap(), ["b", "ä"]);
        assert_eq!(assigned(b""), Some(BTreeMap::new()));
        assert_eq!(subscribed(b""), None);
    }

    #[test]
    fn hostile_bytes_are_not_read_and_never_panic() {
        for good in [ASSIGNMENT, SUBSCRIPTION] {
            for cut in 0..good.len() {
                let _ = (assigned(&good[..cut]), subscribed(&good[..cut]));
                for byte in [0x00, 0x7f, 0x80, 0xff] {
                    let mut bad = good.to_vec();
                    bad[cut] = byte;
                    let _ = (assigned(&bad), subscribed(&bad));
                }
            }
        }
        assert_eq!(assigned(b"all"), None);
        assert_eq!(assigned(b"\0\0\x7f\xff\xff\xff"), None, "thousands of millions of topics in a few bytes");
        assert_eq!(assigned(b"\0\0\0\0\0\x01\0\x01a\x7f\xff\xff\xff\0"), None);
        assert_eq!(subscribed(b"\xff\xff\0\0\0\0"), None);
    }
}
