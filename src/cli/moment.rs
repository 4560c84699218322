//! Moments as people write them: RFC 3339, or milliseconds since 1970.

const DAY_MS: i64 = 86_400_000;

/// Milliseconds since 1970 of `2026-11-24T18:00:00Z`, `…T18:00:00.250+01:00`, `2026-11-24` (midnight UTC), or of a number, which is that already.
///
/// # Errors
/// A sentence.
pub(super) fn parse(text: &str) -> Result<i64, String> {
    if let Ok(ms) = text.parse::<i64>() {
        return if ms >= 0 { Ok(ms) } else { Err(format!("`{text}` is before 1970")) };
    }
    rfc3339(text)
        .filter(|ms| *ms >= 0)
        .ok_or_else(|| format!("`{text}` is no time since 1970; give 2026-11-24T18:00:00Z or milliseconds since 1970"))
}

fn rfc3339(text: &str) -> Option<i64> {
    let b = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let part = b.get(range)?;
        part.iter().all(u8::is_ascii_digit).then(|| std::str::from_utf8(part).ok()?.parse().ok())?
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let well_formed =
        b[4] == b'-' && b[7] == b'-' && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !well_formed {
        return None;
    }
    let midnight = days(year, month, day) * DAY_MS;
    if b.len() == 10 {
        return Some(midnight);
    }
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let well_formed = matches!(b[10], b'T' | b't' | b' ') && b[13] == b':' && b[16] == b':';
    // A leap second is the second after.
    if !well_formed || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut at = 19;
    let mut fraction_ms = 0;
    if b.get(at) == Some(&b'.') {
        let count = b[at + 1..].iter().take_while(|c| c.is_ascii_digit()).count();
        if count == 0 {
            return None;
        }
        for (i, scale) in [100, 10, 1].into_iter().enumerate().take(count) {
            fraction_ms += i64::from(b[at + 1 + i] - b'0') * scale;
        }
        at += 1 + count;
    }
    let offset_minutes = match b.get(at..)? {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let (hours, minutes) = (digits(at + 1..at + 3)?, digits(at + 4..at + 6)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if *sign == b'+' { 1 } else { -1 }
        }
        _ => return None,
    };
    Some(midnight + ((hour * 60 + minute - offset_minutes) * 60 + second) * 1000 + fraction_ms)
}

/// RFC 3339 in UTC with milliseconds; `-` for a time before 1970 (a record without one has -1).
pub(super) fn format(ms: i64) -> String {
    if ms < 0 {
        return "-".into();
    }
    let (mut day, rest) = (ms / DAY_MS, ms % DAY_MS);
    if day > 2_932_896 {
        // Past the year 9999 there is no such text.
        return ms.to_string();
    }
    let mut year = 1970 + day / 366;
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    day -= days(year, 1, 1);
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    let (seconds, ms) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z", day + 1)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = |year: i64| 365 * year + year / 4 - year / 100 + year / 400;
    let of_year: i64 = (1..month).map(|m| days_in(year, m)).sum();
    before(year - 1) - before(1969) + of_year + day - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        for (text, ms) in [
            ("0", 0),
            ("1732471200000", 1_732_471_200_000),
            ("1970-01-01", 0),
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2024-11-24T18:00:00Z", 1_732_471_200_000),
            ("2024-11-24T19:30:00.25+01:30", 1_732_471_200_250),
            ("2024-11-24 18:00:00.123456Z", 1_732_471_200_123),
            ("2024-11-24T13:00:00-05:00", 1_732_471_200_000),
        ] {
            assert_eq!(parse(text), Ok(ms), "{text}");
        }
        for wrong in [
            "",
            "-1",
            "yesterday",
            "2024-13-01",
            "2023-02-29",
            "2024-11-24T18:00:00",
            "2024-11-24T25:00:00Z",
            "2024-11-24T18:00:00.Z",
            "2024-11-24T18:00:00+1:00",
            "1969-12-31T23:59:59Z",
            "2024-11-24T",
            "20241-11-24",
            "2024-1é-24",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(format(-1), "-");
        assert_eq!(format(1_732_471_200_250), "2024-11-24T18:00:00.250Z");
        assert_eq!(format(951_825_600_000), "2000-02-29T12:00:00.000Z");
        let mut ms = 0i64;
        while ms < 253_402_300_800_000 {
            assert_eq!(parse(&format(ms)), Ok(ms));
            ms += 86_400_000 * 17 + 12_345_678;
        }
        assert_eq!(format(253_402_300_799_999), "9999-12-31T23:59:59.999Z");
        let _ = format(i64::MAX);
    }
}
