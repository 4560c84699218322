//! Which segments retention removes. Pure: no files, no clock.

/// What retention knows of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aged {
    /// Published bytes.
    pub size_bytes: u64,
    /// First offset behind it (the next segment's base).
    pub end_offset: i64,
    /// Largest record timestamp, ms since 1970; `None` when no record has one.
    pub max_timestamp_ms: Option<i64>,
    /// When the last append was made, ms since 1970.
    pub appended_ms: i64,
}

impl Aged {
    /// The time that retention counts from: the largest record timestamp, but never later than the last append, so that a producer
    /// whose clock runs ahead cannot keep a segment for ever (KAFKA-18929).
    pub fn age_from_ms(&self) -> i64 {
        self.max_timestamp_ms.unwrap_or(self.appended_ms).min(self.appended_ms)
    }

    /// When it falls to `retention_ms`; `i64::MAX` = never.
    pub fn expires_ms(&self, retention_ms: i64) -> i64 {
        if retention_ms < 0 { i64::MAX } else { self.age_from_ms().saturating_add(retention_ms) }
    }
}

/// How many segments at the start of `segments` (oldest first, all but the active one) go: those past `retention_ms` at `now_ms`,
/// then as many as leave at least `retention_bytes` behind, `active_bytes` included. Negative limits are none. Nothing that holds an
/// offset at or above `high_watermark` goes.
pub fn expired(
    segments: &[Aged],
    active_bytes: u64,
    retention_ms: i64,
    retention_bytes: i64,
    high_watermark: i64,
    now_ms: i64,
) -> usize {
    let removable = segments.iter().take_while(|s| s.end_offset <= high_watermark).count();
    let by_time = segments[..removable].iter().take_while(|s| s.expires_ms(retention_ms) < now_ms).count();
    if retention_bytes < 0 {
        return by_time;
    }
    let mut left = active_bytes + segments.iter().map(|s| s.size_bytes).sum::<u64>();
    let mut by_size = 0;
    for s in &segments[..removable] {
        if left.saturating_sub(s.size_bytes) < retention_bytes as u64 {
            break;
        }
        left -= s.size_bytes;
        by_size += 1;
    }
    by_time.max(by_size)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(end_offset: i64, max_timestamp_ms: i64, appended_ms: i64) -> Aged {
        Aged {
            size_bytes: 100,
            end_offset,
            max_timestamp_ms: (max_timestamp_ms >= 0).then_some(max_timestamp_ms),
            appended_ms,
        }
    }

    #[test]
    fn time_takes_the_oldest_that_are_all_past() {
        let s = [segment(10, 1000, 5000), segment(20, 2000, 5000), segment(30, 9000, 9000)];
        assert_eq!(expired(&s, 0, 1000, -1, 100, 2000), 0);
        assert_eq!(expired(&s, 0, 1000, -1, 100, 2001), 1);
        assert_eq!(expired(&s, 0, 1000, -1, 100, 9999), 2);
        assert_eq!(expired(&s, 0, 1000, -1, 19, 99_999), 1, "never above the high watermark");
        assert_eq!(expired(&s, 0, -1, -1, 100, i64::MAX), 0);
    }

    #[test]
    fn a_future_timestamp_blocks_nothing() {
        let s = [segment(10, i64::MAX, 1000), segment(20, -1, 1000)];
        assert_eq!(expired(&s, 0, 1000, -1, 100, 2001), 2);
    }

    #[test]
    fn size_keeps_at_least_the_limit() {
        let s = [segment(10, 0, 0), segment(20, 0, 0), segment(30, 0, 0)];
        assert_eq!(expired(&s, 50, -1, 350, 100, 0), 0);
        assert_eq!(expired(&s, 50, -1, 250, 100, 0), 1);
        assert_eq!(expired(&s, 50, -1, 0, 100, 0), 3);
        assert_eq!(expired(&s, 50, -1, 0, 20, 0), 2);
    }
}
