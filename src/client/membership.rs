//! What members of consumer groups tell each other through the coordinator (Kafka's `ConsumerProtocol`): subscriptions and assignments, and the range assignor.
//!
//! ```text
//! subscription: version i16 | topics [string] | user data bytes (-1 = none)        assignment: version i16 | topics [string, partitions [i32]] | user data bytes
//! ```
//! Versions above 0 append fields that are not looked at here.

use std::collections::{BTreeMap, BTreeSet};

/// Partitions by topic.
pub type Assignment = BTreeMap<String, Vec<i32>>;

/// A subscription to topics, version 0.
pub fn subscription(topics: &[String]) -> Vec<u8> {
    let mut out = vec![0, 0];
    put_count(&mut out, topics.len());
    topics.iter().for_each(|topic| put_string(&mut out, topic));
    out.extend((-1i32).to_be_bytes());
    out
}

/// The topics of a subscription; `None` when it is not readable.
pub fn topics_of(mut bytes: &[u8]) -> Option<Vec<String>> {
    let from = &mut bytes;
    take(from, 2)?;
    (0..count(from, 2)?).map(|_| string(from)).collect()
}

/// An assignment, version 0.
pub fn assignment(assignment: &Assignment) -> Vec<u8> {
    let mut out = vec![0, 0];
    put_count(&mut out, assignment.len());
    for (topic, partitions) in assignment {
        put_string(&mut out, topic);
        put_count(&mut out, partitions.len());
        partitions.iter().for_each(|p| out.extend(p.to_be_bytes()));
    }
    out.extend((-1i32).to_be_bytes());
    out
}

/// Reads an assignment; nothing assigned may be no bytes at all. `None` when it is not readable.
pub fn assigned(mut bytes: &[u8]) -> Option<Assignment> {
    let mut out = Assignment::new();
    if bytes.is_empty() {
        return Some(out);
    }
    let from = &mut bytes;
    take(from, 2)?;
    for _ in 0..count(from, 6)? {
        let topic = string(from)?;
        let partitions: Option<Vec<i32>> = (0..count(from, 4)?).map(|_| int32(from)).collect();
        out.entry(topic).or_default().extend(partitions?);
    }
    Some(out)
}

/// Kafka's RangeAssignor: of each topic every subscriber (by the order of their names) gets a run of partitions, the first ones one more where it does not come out even.
pub fn range(
    members: &BTreeMap<String, BTreeSet<String>>,
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Assignment> {
    let mut out: BTreeMap<String, Assignment> = members.keys().map(|m| (m.clone(), Assignment::new())).collect();
    for (topic, count) in partitions {
        let takers: Vec<&String> =
            members.iter().filter(|(_, topics)| topics.contains(topic)).map(|(m, _)| m).collect();
        if takers.is_empty() {
            continue;
        }
        let (each, more) = (*count as usize / takers.len(), *count as usize % takers.len());
        let mut next = 0;
        for (i, member) in takers.into_iter().enumerate() {
            let n = each + usize::from(i < more);
            if n > 0
                && let Some(assignment) = out.get_mut(member)
            {
                assignment.insert(topic.clone(), (next as i32..(next + n) as i32).collect());
            }
            next += n;
        }
    }
    out
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend((count as i32).to_be_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    // Names of topics have 249 bytes at most.
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, tail) = from.split_at_checked(n)?;
    *from = tail;
    Some(head)
}

fn int32(from: &mut &[u8]) -> Option<i32> {
    Some(i32::from_be_bytes(take(from, 4)?.try_into().ok()?))
}

/// A number of elements that take so many bytes each at least.
fn count(from: &mut &[u8], bytes_min: usize) -> Option<usize> {
    let count = usize::try_from(int32(from)?).ok()?;
    (count <= from.len() / bytes_min).then_some(count)
}

fn string(from: &mut &[u8]) -> Option<String> {
    let length = i16::from_be_bytes(take(from, 2)?.try_into().ok()?);
    String::from_utf8(take(from, usize::try_from(length).ok()?)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_what_is_cut_is_refused() {
        let topics = vec!["a".to_string(), "b".to_string()];
        let bytes = subscription(&topics);
        assert_eq!(topics_of(&bytes), Some(topics));
        let given = Assignment::from([("a".into(), vec![0, 2]), ("b".into(), vec![])]);
        let written = assignment(&given);
        assert_eq!(assigned(&written), Some(given));
        assert_eq!(assigned(&[]), Some(Assignment::new()));
        // The user data at the end is not looked at.
        for end in 1..written.len() - 4 {
            assert_eq!(assigned(&written[..end]), None, "{end}");
        }
        assert_eq!(assigned(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics_of(&[0, 0, 0xff, 0xff, 0xff, 0xff]), None);
    }

    #[test]
    fn ranges_are_those_of_kafka() {
        let both = BTreeSet::from(["t".to_string(), "u".to_string()]);
        let members = BTreeMap::from([
            ("m1".to_string(), both.clone()),
            ("m2".to_string(), both),
            ("m3".to_string(), BTreeSet::from(["u".to_string()])),
        ]);
        let got = range(&members, &BTreeMap::from([("t".into(), 3), ("u".into(), 2), ("v".into(), 9)]));
        assert_eq!(got["m1"], Assignment::from([("t".into(), vec![0, 1]), ("u".into(), vec![0])]));
        assert_eq!(got["m2"], Assignment::from([("t".into(), vec![2]), ("u".into(), vec![1])]));
        assert_eq!(got["m3"], Assignment::new());
    }
}
