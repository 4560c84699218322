//! Where the replicas of new partitions go: pure, the same for the same seed.
//!
//! The idea of Kafka's `StripedReplicaPlacer`: brokers are put in one row that alternates between racks; leaders go round the row, and
//! the followers of a partition go on from its leader, through racks not used yet first, with a gap that grows each time round so that
//! the same pairs do not always share their load. Fenced brokers follow only, and only where there are too few others.

use super::Image;
use std::{collections::BTreeMap, sync::Arc};

/// A broker that may take replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub node_id: i32,
    pub rack: Option<Arc<str>>,
    pub fenced: bool,
}

/// Why there is no placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    #[error("replication factor {asked} is below 1 or above the number of brokers, {brokers}")]
    ReplicationFactor { asked: usize, brokers: usize },
    #[error("all brokers are fenced")]
    AllFenced,
}

/// The brokers registered in `image`, by node id.
pub fn candidates(image: &Image) -> Vec<Candidate> {
    let of =
        |b: &Arc<super::BrokerRegistration>| Candidate { node_id: b.node_id, rack: b.rack.clone(), fenced: b.fenced };
    image.brokers.values().map(of).collect()
}

/// Replicas of `partitions` partitions, preferred leader first, `replication_factor` for each. `first` is the number of partitions
/// that the topic has already (the round goes on from there), `seed` turns the row so that topics begin on different brokers.
pub fn place(
    brokers: &[Candidate],
    first: usize,
    partitions: usize,
    replication_factor: usize,
    seed: u64,
) -> Result<Vec<Vec<i32>>, PlacementError> {
    if replication_factor < 1 || replication_factor > brokers.len() {
        return Err(PlacementError::ReplicationFactor { asked: replication_factor, brokers: brokers.len() });
    }
    let live = stripe(brokers.iter().filter(|b| !b.fenced));
    let fenced = stripe(brokers.iter().filter(|b| b.fenced));
    if live.is_empty() {
        return Err(PlacementError::AllFenced);
    }
    if brokers.len() == 1 {
        return Ok(vec![vec![brokers[0].node_id]; partitions]);
    }
    let start = (seed % live.len() as u64) as usize;
    let gap = (seed / live.len() as u64 % live.len() as u64) as usize;
    let one = |n: usize| {
        let n = first.wrapping_add(n);
        let leader = n.wrapping_add(start) % live.len();
        let gap = gap.wrapping_add(n / live.len());
        replicas(&live, &fenced, leader, gap, replication_factor)
    };
    Ok((0..partitions).map(one).collect())
}

/// A broker and its rack.
type Place<'a> = (i32, Option<&'a str>);

/// A row of brokers that alternates between racks.
fn stripe<'a>(brokers: impl Iterator<Item = &'a Candidate>) -> Vec<Place<'a>> {
    let mut racks: BTreeMap<Option<&str>, Vec<i32>> = BTreeMap::new();
    for b in brokers {
        racks.entry(b.rack.as_deref()).or_default().push(b.node_id);
    }
    racks.values_mut().for_each(|r| r.sort_unstable());
    let deepest = racks.values().map(Vec::len).max().unwrap_or(0);
    let row = |depth: usize| racks.iter().filter_map(move |(rack, ids)| ids.get(depth).map(|id| (*id, *rack)));
    (0..deepest).flat_map(row).collect()
}

/// One partition: the leader at place `leader` of `live`, the rest from the places after it.
fn replicas(live: &[Place<'_>], fenced: &[Place<'_>], leader: usize, gap: usize, wanted: usize) -> Vec<i32> {
    let others = live.len() - 1;
    let follower = |i: usize| live[(leader + 1 + (i + gap) % others.max(1)) % live.len()];
    let mut left: Vec<Place<'_>> = (0..others).map(follower).collect();
    let mut chosen = vec![live[leader]];
    for reserve in [&[][..], fenced] {
        left.extend(reserve);
        while chosen.len() < wanted && !left.is_empty() {
            let used = |rack: Option<&str>| chosen.iter().filter(|c| c.1 == rack).count();
            let place = (0..left.len()).min_by_key(|i| used(left[*i].1)).unwrap_or(0);
            chosen.push(left.remove(place));
        }
    }
    chosen.into_iter().map(|c| c.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
        let one = |(n, rack): (usize, &Option<&str>)| Candidate {
            node_id: n as i32 + 1,
            rack: rack.map(Into::into),
            fenced: false,
        };
        racks.iter().enumerate().map(one).collect()
    }

    #[test]
    fn one_broker_takes_all() {
        assert_eq!(place(&brokers(&[None]), 0, 3, 1, 99).unwrap(), [[1], [1], [1]]);
    }

    #[test]
    fn too_many_replicas_and_none_are_refused() {
        let three = brokers(&[None; 3]);
        for asked in [0, 4] {
            assert_eq!(place(&three, 0, 1, asked, 0), Err(PlacementError::ReplicationFactor { asked, brokers: 3 }));
        }
        let fenced: Vec<_> = three.into_iter().map(|b| Candidate { fenced: true, ..b }).collect();
        assert_eq!(place(&fenced, 0, 1, 2, 0), Err(PlacementError::AllFenced));
    }

    #[test]
    fn leaders_go_round_and_a_growing_topic_goes_on_where_it_was() {
        let three = brokers(&[None; 3]);
        let whole = place(&three, 0, 6, 2, 5).unwrap();
        let mut parts = place(&three, 0, 4, 2, 5).unwrap();
        parts.extend(place(&three, 4, 2, 2, 5).unwrap());
        assert_eq!(whole, parts);
        assert_ne!(whole[0][1], whole[3][1], "the followers of a leader should change from round to round");
    }

    #[test]
    fn fenced_brokers_only_follow_and_only_when_needed() {
        let mut four = brokers(&[None; 4]);
        four[0].fenced = true;
        for replicas in place(&four, 0, 8, 3, 1).unwrap() {
            assert!(!replicas.contains(&1));
        }
        for replicas in place(&four, 0, 8, 4, 1).unwrap() {
            assert_eq!(replicas[3], 1);
        }
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_leaders_even_and_racks_spread(
            racks in prop::collection::vec(prop::option::of("[abc]"), 1..9),
            partitions in 0usize..40,
            factor in 1usize..9,
            seed in any::<u64>(),
            first in 0usize..50,
        ) {
            let racks: Vec<Option<&str>> = racks.iter().map(Option::as_deref).collect();
            let brokers = brokers(&racks);
            let factor = factor.min(brokers.len());
            let placed = place(&brokers, first, partitions, factor, seed).unwrap();
            prop_assert_eq!(&placed, &place(&brokers, first, partitions, factor, seed).unwrap());
            prop_assert_eq!(placed.len(), partitions);
            let distinct = racks.iter().collect::<std::collections::BTreeSet<_>>().len();
            let mut leads = vec![0usize; brokers.len()];
            for replicas in &placed {
                prop_assert_eq!(replicas.len(), factor);
                let ids: std::collections::BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(ids.len(), factor);
                let used: std::collections::BTreeSet<_> = replicas.iter().map(|id| racks[*id as usize - 1]).collect();
                prop_assert_eq!(used.len(), factor.min(distinct));
                leads[replicas[0] as usize - 1] += 1;
            }
            let (least, most) = (leads.iter().min().unwrap(), leads.iter().max().unwrap());
            prop_assert!(most - least <= 1, "{:?}", leads);
        }
    }
}
