//! What consumers subscribe to, read from the metadata they join with (Kafka's `ConsumerProtocolSubscription`).

use bytes::Bytes;
use std::{cell::OnceCell, collections::HashSet, sync::Arc};

/// The subscriptions of one generation; read when somebody asks.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// Metadata of each member; `None` = they are no consumers' (yet).
    metadata: Option<Vec<Bytes>>,
    topics: OnceCell<Option<HashSet<Arc<str>>>>,
}

impl Subscriptions {
    pub fn of(metadata: Vec<Bytes>) -> Self {
        Subscriptions { metadata: Some(metadata), topics: OnceCell::new() }
    }

    /// Topics that any member subscribes to; `None` = they cannot be told.
    pub fn topics(&self) -> Option<&HashSet<Arc<str>>> {
        let read = || {
            let mut topics = HashSet::new();
            for metadata in self.metadata.as_ref()? {
                topics_of(metadata, |topic| {
                    if !topics.contains(topic) {
                        topics.insert(Arc::from(topic));
                    }
                })?;
            }
            Some(topics)
        };
        self.topics.get_or_init(read).as_ref()
    }
}

/// Calls `put` with each topic of a subscription: version i16, count i32, topics (i16 length, UTF-8), then what later versions have put behind. `None` = cannot be read.
fn topics_of(metadata: &[u8], mut put: impl FnMut(&str)) -> Option<()> {
    let (version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = u32::try_from(i32::from_be_bytes(*count)).ok()?;
    if i16::from_be_bytes(*version) < 0 {
        return None;
    }
    for _ in 0..count {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let (topic, tail) = tail.split_at_checked(usize::from(u16::try_from(i16::from_be_bytes(*len)).ok()?))?;
        put(std::str::from_utf8(topic).ok()?);
        rest = tail;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(topics: &[&str]) -> Bytes {
        let mut out = vec![0, 1];
        out.extend((topics.len() as i32).to_be_bytes());
        for topic in topics {
            out.extend((topic.len() as i16).to_be_bytes());
            out.extend(topic.as_bytes());
        }
        out.extend([0xff; 4]);
        out.into()
    }

    #[test]
    fn topics_of_every_member_are_found() {
        let all = Subscriptions::of(vec![subscription(&["a", "b"]), subscription(&["b", "ü"]), subscription(&[])]);
        let mut topics: Vec<_> = all.topics().unwrap().iter().map(|t| t.to_string()).collect();
        topics.sort();
        assert_eq!(topics, ["a", "b", "ü"]);
        assert!(Subscriptions::of(Vec::new()).topics().unwrap().is_empty());
        assert!(Subscriptions::default().topics().is_none());
    }

    #[test]
    fn hostile_metadata_is_not_read_and_never_panics() {
        let good = subscription(&["orders", "payments"]);
        for cut in 0..good.len() - 4 {
            assert!(Subscriptions::of(vec![good.slice(..cut)]).topics().is_none(), "{cut}");
        }
        for bytes in [
            &[0u8, 0, 0x7f, 0xff, 0xff, 0xff][..],
            &[0, 0, 0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0, 0, 0, 1, 0xff, 0xff],
            &[0, 0, 0, 0, 0, 1, 0, 1, 0xc0],
            &[0xff, 0xff, 0, 0, 0, 0],
        ] {
            assert!(Subscriptions::of(vec![Bytes::copy_from_slice(bytes)]).topics().is_none(), "{bytes:?}");
        }
    }
}
