//! The append clock of a partition: when which offsets were appended, by this broker's wall clock.
//!
//! A ring of at most [`CLOCK_MARKS_MAX`] marks (end offset, ms), made at the first append and freed when nothing was appended for a while. Appends within one millisecond share a
//! mark. When the ring is full it is thinned, old marks more than new ones, so that it always spans back as far as it can.
//!
//! **Resolution.** The time told for a record is that of the first mark behind it: never before its append, so that an age made from it is never negative and never too
//! long. It is exact to the millisecond for what was appended since the last thinning. A mark is thinned away only where the time between its neighbours is at most a
//! sixteenth of the age of the newer one; where that frees too little an eighth, a fourth, a half, the whole. So an age told is too short by at most that part of
//! itself: 6 % over the minutes that a consumer usually lags (about 180 marks do for a quarter of an hour of unbroken traffic at an eighth), 25 % over weeks.

use crate::limits::CLOCK_MARKS_MAX;

/// Marks that a thinning frees at least, so that it is rare.
const FREED_MIN: usize = CLOCK_MARKS_MAX / 4;

/// All records from the end of the mark before up to `end` were appended at `ms` or (where marks were thinned) not long before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    /// Offset behind the last record.
    end: i64,
    /// Wall clock, ms.
    ms: i64,
}

/// When which offsets were appended. Not locked: its owner has it behind a lock that nothing else is taken under.
#[derive(Debug, Default)]
pub struct AppendClock {
    /// First offset that it knows of.
    start: i64,
    /// Both fields strictly rise.
    marks: Vec<Mark>,
}

impl AppendClock {
    /// Records `base..end` were appended at `now_ms`. Allocates only while the ring grows to its full size.
    pub fn note(&mut self, base: i64, end: i64, now_ms: i64) {
        let Some(last) = self.marks.last_mut() else {
            self.start = base;
            self.marks = Vec::with_capacity(16);
            self.marks.push(Mark { end, ms: now_ms });
            return;
        };
        // The wall clock may be set back: time stands still then.
        if now_ms <= last.ms {
            last.end = end;
            return;
        }
        if self.marks.len() == CLOCK_MARKS_MAX {
            self.thin(now_ms);
        }
        self.marks.push(Mark { end, ms: now_ms });
    }

    /// When the first record at or after `offset` was appended, ms; `None` where the ring does not reach, or nothing was.
    pub fn appended_ms(&self, offset: i64) -> Option<i64> {
        if offset < self.start {
            return None;
        }
        self.marks.get(self.marks.partition_point(|mark| mark.end <= offset)).map(|mark| mark.ms)
    }

    /// When the last record was appended, ms.
    pub fn last_ms(&self) -> Option<i64> {
        self.marks.last().map(|mark| mark.ms)
    }

    /// Forgets everything and frees the ring.
    pub fn clear(&mut self) {
        self.marks = Vec::new();
    }

    fn thin(&mut self, now_ms: i64) {
        for part in [16, 8, 4, 2, 1] {
            self.thin_by(now_ms, part);
            if self.marks.len() <= CLOCK_MARKS_MAX - FREED_MIN {
                return;
            }
        }
        // Not even that: the oldest go.
        let gone = self.marks.len() + FREED_MIN - CLOCK_MARKS_MAX;
        self.start = self.marks[gone - 1].end;
        self.marks.drain(..gone);
    }

    /// Drops each mark between neighbours that are at most a `part` of the newer one's age apart. The first and the last stay.
    fn thin_by(&mut self, now_ms: i64, part: i64) {
        let mut kept = 1;
        for i in 1..self.marks.len() - 1 {
            let (before, after) = (self.marks[kept - 1].ms, self.marks[i + 1].ms);
            if (after - before).saturating_mul(part) > now_ms - after {
                self.marks[kept] = self.marks[i];
                kept += 1;
            }
        }
        self.marks[kept] = self.marks[self.marks.len() - 1];
        self.marks.truncate(kept + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_append_is_told_for_each_of_its_records() {
        let mut clock = AppendClock::default();
        assert_eq!((clock.appended_ms(0), clock.last_ms()), (None, None));
        clock.note(5, 8, 1000);
        clock.note(8, 10, 1000);
        clock.note(10, 11, 1003);
        let told: Vec<_> = (4..12).map(|offset| clock.appended_ms(offset)).collect();
        let (a, b) = (Some(1000), Some(1003));
        assert_eq!(told, [None, a, a, a, a, a, b, None]);
        assert_eq!((clock.marks.len(), clock.last_ms()), (2, b));
        clock.clear();
        assert_eq!((clock.appended_ms(5), clock.marks.capacity()), (None, 0));
        clock.note(11, 12, 2000);
        assert_eq!((clock.appended_ms(10), clock.appended_ms(11)), (None, Some(2000)));
    }

    #[test]
    fn a_clock_set_back_stands_still() {
        let mut clock = AppendClock::default();
        clock.note(0, 1, 1000);
        clock.note(1, 2, 400);
        clock.note(2, 3, 1001);
        assert_eq!([0, 1, 2].map(|o| clock.appended_ms(o)), [Some(1000), Some(1000), Some(1001)]);
    }

    /// Appends at the given times, one record each; then every record's age as it is told and as it is, newest first.
    fn ages(times: impl Iterator<Item = i64>) -> Vec<Option<(i64, i64)>> {
        let mut clock = AppendClock::default();
        let (mut truth, mut now) = (Vec::new(), 0);
        for ms in times {
            now = ms;
            clock.note(truth.len() as i64, truth.len() as i64 + 1, ms);
            truth.push(ms);
            assert!(clock.marks.len() <= CLOCK_MARKS_MAX && clock.marks.capacity() <= CLOCK_MARKS_MAX);
            assert!(clock.marks.is_sorted_by(|a, b| a.ms < b.ms && a.end < b.end));
        }
        let age = |(offset, ms): (usize, &i64)| Some((now - clock.appended_ms(offset as i64)?, now - ms));
        truth.iter().enumerate().rev().map(age).collect()
    }

    fn worst_part(ages: &[Option<(i64, i64)>]) -> f64 {
        let part = |(told, real): (i64, i64)| {
            assert!((0..=real).contains(&told), "told {told} of {real}");
            (real - told) as f64 / told.max(1) as f64
        };
        ages.iter().map(|age| part(age.expect("the ring reaches back to the first append"))).fold(0.0, f64::max)
    }

    #[test]
    fn a_minute_of_an_append_a_millisecond_is_known_to_an_eighth() {
        let ages = ages(0..60_000);
        assert!(ages[..60].iter().flatten().all(|(told, real)| told == real), "what is new is exact");
        let worst = worst_part(&ages);
        assert!((0.001..=0.126).contains(&worst), "{worst}");
    }

    #[test]
    fn an_hour_is_known_to_a_fourth() {
        let worst = worst_part(&ages((0..3_600_000).step_by(5)));
        assert!((0.01..=0.251).contains(&worst), "{worst}");
    }

    #[test]
    fn bursts_with_pauses_between_them_are_told_within_the_bound_too() {
        let mut seed = 7u64;
        let mut now = 0;
        let mut next = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            now += match (seed >> 60, seed >> 40) {
                (0, wait) => 1 + (wait % 5_000) as i64,
                (_, wait) => (wait % 4) as i64,
            };
            now
        };
        let worst = worst_part(&ages((0..100_000).map(|_| next())));
        assert!(worst <= 0.251, "{worst}");
    }

    #[test]
    fn where_nothing_can_be_thinned_the_oldest_go() {
        // Ever shorter waits: no mark is close to its neighbours for its age.
        let mut clock = AppendClock::default();
        let mut now = 0;
        for n in 0..400i64 {
            now += 1 + (1i64 << (40 - n / 10).max(0));
            clock.note(n, n + 1, now);
        }
        assert!(clock.marks.len() <= CLOCK_MARKS_MAX);
        assert_eq!(clock.appended_ms(399), Some(now));
        let first_known = (0..400).find(|n| clock.appended_ms(*n).is_some()).unwrap();
        assert_eq!(clock.start, first_known);
    }
}
