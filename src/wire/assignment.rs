//! What the members of a group of consumers are told to read: Kafka's "consumer" protocol (`ConsumerProtocolAssignment`), which brokers pass on and only clients and tools read.

use std::collections::BTreeMap;

/// Partitions by topic. Version (16 bits), topics (32 bits of count: name with 16 bits of length, partitions with 32 bits of count), user data; what follows a topic list is not looked at.
/// `None` where the bytes are something else. No size in them is trusted.
pub fn parse(mut bytes: &[u8]) -> Option<BTreeMap<&str, Vec<i32>>> {
    let version = i16::from_be_bytes(take(&mut bytes)?);
    if version < 0 {
        return None;
    }
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for _ in 0..count(&mut bytes)? {
        let length = u16::from_be_bytes(take(&mut bytes)?) as usize;
        let (name, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let partitions = count(&mut bytes)? as usize;
        let (numbers, rest) = bytes.split_at_checked(partitions.checked_mul(4)?)?;
        bytes = rest;
        let numbers = numbers.chunks_exact(4).map(|n| i32::from_be_bytes([n[0], n[1], n[2], n[3]]));
        topics.entry(std::str::from_utf8(name).ok()?).or_default().extend(numbers);
    }
    Some(topics)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

/// A count, which what is counted has to have room for.
fn count(bytes: &mut &[u8]) -> Option<u32> {
    u32::try_from(i32::from_be_bytes(take(bytes)?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use kafka_protocol::{
        messages::{ConsumerProtocolAssignment, consumer_protocol_assignment::TopicPartition},
        protocol::{Encodable, StrBytes},
    };

    fn encoded(version: i16) -> Vec<u8> {
        let topic = |name: &str, partitions: &[i32]| {
            let name = StrBytes::from_string(name.into());
            TopicPartition::default().with_topic(name.into()).with_partitions(partitions.to_vec())
        };
        let assigned = vec![topic("orders", &[3, 0]), topic("none", &[]), topic("orders", &[9])];
        let mut bytes = BytesMut::from(&version.to_be_bytes()[..]);
        let message = ConsumerProtocolAssignment::default().with_assigned_partitions(assigned);
        message.with_user_data(Some(b"mine"[..].into())).encode(&mut bytes, version).unwrap();
        bytes.to_vec()
    }

    #[test]
    fn every_version_is_read_as_clients_write_it() {
        for version in 0..=3 {
            let expected = BTreeMap::from([("none", vec![]), ("orders", vec![3, 0, 9])]);
            assert_eq!(parse(&encoded(version)), Some(expected), "v{version}");
        }
    }

    #[test]
    fn what_is_cut_short_or_lies_about_its_size_is_nothing() {
        let whole = encoded(1);
        let topics_end = whole.len() - 8;
        for end in 0..topics_end {
            assert_eq!(parse(&whole[..end]), None, "{end} bytes");
        }
        assert!(parse(&whole[..topics_end]).is_some());
        for at in 0..topics_end {
            let mut wrong = whole.clone();
            wrong[at] = 0xff;
            let _ = parse(&wrong);
        }
        assert_eq!(parse(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(parse(b"not an assignment at all"), None);
    }
}
