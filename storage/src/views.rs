//! How many closed segments stay mapped for reading: the ones not used lately are let go of first.
//!
//! A map costs an address range, a descriptor and an index in memory, and the limits on the first two are the process's, not a
//! log's: so there is one ring for all. It is a clock: a view that was used since the hand last passed stays. The segment that a
//! log appends to is never here; its log's owner closes it.

use crate::{index::Index, segment::Opened};
use arc_swap::ArcSwapOption;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

/// Views kept before any directory said how many there may be.
const VIEWS_MIN: usize = 64;

/// What a segment has in memory while it is open.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) opened: ArcSwapOption<Opened>,
    pub(crate) index: ArcSwapOption<Index>,
    used: AtomicBool,
}

impl View {
    /// Notes that it was used. One load when it was noted already.
    pub(crate) fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Ring {
    max: usize,
    views: VecDeque<Weak<View>>,
}

static RING: Mutex<Ring> = Mutex::new(Ring { max: VIEWS_MIN, views: VecDeque::new() });

/// Allows half of `segments_max` (see [`crate::DirectoryOptions`]) to closed segments; the other half is for open logs. The
/// largest word counts.
pub(crate) fn allow(segments_max: usize) {
    let mut ring = RING.lock().unwrap_or_else(PoisonError::into_inner);
    ring.max = ring.max.max(segments_max / 2);
}

/// A closed segment was mapped: others may have to go.
pub(crate) fn opened(view: &Arc<View>) {
    let gone = RING.lock().unwrap_or_else(PoisonError::into_inner).add(view);
    drop(gone); // unmaps, without the lock
}

impl Ring {
    fn add(&mut self, view: &Arc<View>) -> Vec<Arc<Opened>> {
        self.views.push_back(Arc::downgrade(view));
        let mut gone = Vec::new();
        // Each is passed at most twice: the first pass takes its mark.
        for _ in 0..2 * self.views.len() {
            if self.views.len() <= self.max {
                break;
            }
            let Some(oldest) = self.views.pop_front() else { break };
            let Some(oldest) = oldest.upgrade() else { continue };
            if oldest.used.swap(false, Ordering::Relaxed) {
                self.views.push_back(Arc::downgrade(&oldest));
            } else {
                gone.extend(oldest.opened.swap(None));
                oldest.index.store(None);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> Arc<View> {
        let view = Arc::new(View::default());
        view.index.store(Some(Arc::new(Index::new(0))));
        view
    }

    fn is_open(view: &View) -> bool {
        view.index.load().is_some()
    }

    #[test]
    fn the_ones_not_used_lately_go_first_and_the_bound_holds() {
        let mut ring = Ring { max: 3, views: VecDeque::new() };
        let views: Vec<_> = (0..6).map(|_| view()).collect();
        for v in &views[..3] {
            ring.add(v);
        }
        views[0].touch();
        ring.add(&views[3]);
        assert_eq!(views[..4].iter().map(|v| is_open(v)).collect::<Vec<_>>(), [true, false, true, true]);
        views.iter().for_each(|v| v.touch());
        ring.add(&views[4]);
        assert_eq!(ring.views.len(), 3, "all were used, one goes all the same");
        drop(views);
        ring.add(&view());
        ring.add(&view());
        assert!(ring.views.len() <= 3);
    }
}
