//! Numbers, times and foreign text as a person reads them. Pure.

use maud::{Markup, Render, html};
use std::fmt::Write;

/// Longest foreign text shown in a table or a heading, characters.
const SHOWN_CHARS_MAX: usize = 300;

/// Text from outside as it can be shown: what would be invisible, or turn the text around it, is written as `\u{…}`; at most [`SHOWN_CHARS_MAX`] characters.
pub fn shown(text: &str) -> String {
    let mut out = visible(text, SHOWN_CHARS_MAX);
    if text.chars().nth(SHOWN_CHARS_MAX).is_some() {
        out.push('…');
    }
    out
}

/// The same without an end, for the body of a message: line breaks and tabs stay.
pub fn body(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            _ => push_visible(&mut out, c),
        }
    }
    out
}

fn visible(text: &str, chars: usize) -> String {
    let mut out = String::with_capacity(text.len().min(4 * chars));
    for c in text.chars().take(chars) {
        push_visible(&mut out, c);
    }
    out
}

fn push_visible(out: &mut String, c: char) {
    let turns = matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    if c.is_control() || turns {
        let _ = write!(out, "\\u{{{:x}}}", c as u32);
    } else {
        out.push(c);
    }
}

/// A name from outside, apart from the direction of the text around it.
pub fn name(text: &str) -> Markup {
    html! { @if text.is_empty() { span.muted { "(empty name)" } } @else { bdi { (shown(text)) } } }
}

/// `text` as one segment of a path or the value of a query parameter.
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// 950, 12,345, 1.23 M.
pub fn count(n: f64) -> String {
    let size = n.abs();
    match size {
        _ if !n.is_finite() => "–".into(),
        _ if size >= 1e12 => format!("{} T", short(n / 1e12)),
        _ if size >= 1e9 => format!("{} G", short(n / 1e9)),
        _ if size >= 1e6 => format!("{} M", short(n / 1e6)),
        _ if size >= 100.0 || n.fract() == 0.0 => grouped(n.round() as i64),
        _ => short(n),
    }
}

/// Every digit, in groups of three.
pub fn grouped(n: i64) -> String {
    let digits = n.unsigned_abs().to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3 + 1);
    if n < 0 {
        out.push('−');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// 512 B, 1.5 KiB, 20 GiB.
pub fn bytes(n: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    if !n.is_finite() {
        return "–".into();
    }
    let (mut n, mut unit) = (n, 0);
    while n.abs() >= 1000.0 && unit + 1 < UNITS.len() {
        n /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{:.0} B", n),
        _ => format!("{} {}", short(n), UNITS[unit]),
    }
}

/// A latency: 15 µs, 1.5 ms, 2 s.
pub fn micros(us: f64) -> String {
    match us {
        _ if !us.is_finite() => "–".into(),
        _ if us < 999.5 => format!("{} µs", short(us)),
        _ if us < 999_500.0 => format!("{} ms", short(us / 1e3)),
        _ => seconds(us / 1e6),
    }
}

/// A span: 0 s, 40 ms, 1.5 s, 3 min 20 s, 2 h 5 min, 3 d 4 h.
pub fn seconds(s: f64) -> String {
    let two = |a: i64, unit: &str, b: i64, of: &str| match b {
        0 => format!("{a} {unit}"),
        _ => format!("{a} {unit} {b} {of}"),
    };
    let whole = s.round() as i64;
    match s {
        _ if !s.is_finite() => "–".into(),
        _ if s == 0.0 => "0 s".into(),
        _ if s < 0.9995 => format!("{} ms", short(s * 1e3)),
        _ if s < 59.95 => format!("{} s", short(s)),
        _ if whole < 3600 => two(whole / 60, "min", whole % 60, "s"),
        _ if whole < 86_400 => two(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ if whole < 86_400 * 365 => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
        _ => two(whole / (86_400 * 365), "years", whole % (86_400 * 365) / 86_400, "d"),
    }
}

/// Three digits that matter, no zeros behind them.
fn short(n: f64) -> String {
    let size = n.abs();
    let digits = if size >= 99.95 {
        0
    } else if size >= 9.995 {
        1
    } else {
        2
    };
    let out = format!("{n:.digits$}");
    match out.contains('.') {
        true => out.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => out,
    }
}

/// The moment that a person wrote as `2026-01-31 12:00`, with seconds and their parts or without, with `T` and `Z` or without; ms, UTC.
pub fn parse_moment(text: &str) -> Option<i64> {
    let text = text.strip_suffix('Z').or_else(|| text.strip_suffix(" UTC")).unwrap_or(text);
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let number = |text: &str, max: i64| {
        let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<i64>().ok().filter(|n| digits && *n <= max)
    };
    let mut date = date.splitn(3, '-');
    let (year, month, day) = (number(date.next()?, 9999)?, number(date.next()?, 12)?, number(date.next()?, 31)?);
    let mut time = time.splitn(3, ':');
    let (hour, minute, second) = (number(time.next()?, 23)?, number(time.next()?, 59)?, time.next().unwrap_or("0"));
    let (second, part) = second.split_once('.').unwrap_or((second, "0"));
    let ms = number(&format!("{part:0<3}"), 999).filter(|_| part.len() <= 3)?;
    // Days since 1970-01-01, years beginning in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days =
        365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1 - 719_468;
    let at = (((days * 24 + hour) * 60 + minute) * 60 + number(second, 59)?) * 1000 + ms;
    // The 31st of a month that has none is refused.
    let (is_year, is_month, is_day, ..) = civil(at);
    ((is_year, i64::from(is_month), i64::from(is_day)) == (year, month, day)).then_some(at)
}

/// Year, month, day, hour, minute, second, millisecond of a moment, UTC.
fn civil(ms: i64) -> (i64, u32, u32, u32, u32, u32, u32) {
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) as u32);
    // Days since 0000-03-01, in eras of 400 years.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + 400 * era + i64::from(month <= 2);
    (year, month as u32, day as u32, rest / 3_600_000, rest / 60_000 % 60, rest / 1000 % 60, rest % 1000)
}

/// 18:31:05, UTC.
pub fn clock(ms: i64) -> String {
    let (.., hour, minute, second, _) = civil(ms);
    format!("{hour:02}:{minute:02}:{second:02}")
}

/// 2026-11-24 18:31:05.123, UTC.
pub fn moment(ms: i64) -> String {
    let (year, month, day, hour, minute, second, milli) = civil(ms);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{milli:03}")
}

/// A moment as an element that says which; the script adds the time of the reader's own clock.
pub struct Time(pub i64);

impl Render for Time {
    fn render(&self) -> Markup {
        let shown = moment(self.0);
        let machine = format!("{}Z", shown.replace(' ', "T"));
        html! { time datetime=(machine) { (shown) " UTC" } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_matter() {
        for (n, wanted) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (9.5, "9.5"),
            (950.0, "950"),
            (12_345.0, "12,345"),
            (1_234_567.0, "1.23 M"),
            (-4.0, "−4"),
        ] {
            assert_eq!(count(n).replace('-', "−"), wanted);
        }
        for (n, wanted) in
            [(0.0, "0 B"), (999.0, "999 B"), (1023.0, "1 KiB"), (1536.0, "1.5 KiB"), (20.0 * 1024.0 * 1024.0, "20 MiB")]
        {
            assert_eq!(bytes(n), wanted);
        }
        for (us, wanted) in
            [(1.0, "1 µs"), (950.0, "950 µs"), (1500.0, "1.5 ms"), (999_900.0, "1 s"), (90e6, "1 min 30 s")]
        {
            assert_eq!(micros(us), wanted);
        }
        for (s, wanted) in [
            (0.0, "0 s"),
            (0.04, "40 ms"),
            (59.96, "1 min"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
            (86_400.0, "1 d"),
            (f64::INFINITY, "–"),
        ] {
            assert_eq!(seconds(s), wanted);
        }
        assert_eq!(grouped(i64::MIN), "−9,223,372,036,854,775,808");
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00.000");
        assert_eq!(moment(-1), "1969-12-31 23:59:59.999");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00:00.000");
        assert_eq!(moment(1_795_545_065_123), "2026-11-24 18:31:05.123");
        assert_eq!(moment(4_107_542_400_000), "2100-03-01 00:00:00.000");
        for at in [0, -1000, 951_782_400_000, 1_795_545_065_123, 4_107_542_400_000] {
            assert_eq!(parse_moment(&moment(at)), Some(at));
        }
        assert_eq!(parse_moment("2026-11-24T18:31:05.1Z"), Some(1_795_545_065_100));
        assert_eq!(parse_moment("2026-11-24"), parse_moment("2026-11-24 00:00"));
        for wrong in [
            "",
            "now",
            "2026-02-29",
            "2026-13-01",
            "2026-01-00",
            "2026-01-01 24:00",
            "26-1-1-1",
            "2026-01-01 1",
            "+2026-01-01",
            "2026-01-01 00:00:00.0001",
        ] {
            assert_eq!(parse_moment(wrong), None, "{wrong}");
        }
        moment(i64::MAX);
        moment(i64::MIN);
    }

    #[test]
    fn foreign_text_neither_hides_nor_turns_around_nor_breaks_out() {
        let hostile = "<script>\"'</title>&\u{202e}gpj.exe\u{0}\r\u{85}\u{200b}";
        let markup = name(hostile).into_string();
        assert_eq!(
            markup,
            r#"<bdi>&lt;script&gt;&quot;'&lt;/title&gt;&amp;\u{202e}gpj.exe\u{0}\u{d}\u{85}\u{200b}</bdi>"#
        );
        // In an attribute: maud writes every attribute with double quotes.
        let markup = html! { a title=(shown(hostile)) {} }.into_string();
        assert_eq!(markup.matches('"').count(), 2, "{markup}");
        assert_eq!(encoded("a/b?c=d&e#f%\"'<>\u{202e} ü"), "a%2Fb%3Fc%3Dd%26e%23f%25%22%27%3C%3E%E2%80%AE%20%C3%BC");
        assert_eq!(body("a\n\tb\u{202e}\r"), "a\n\tb\\u{202e}\\u{d}");
        let long = shown(&"x".repeat(10_000));
        assert_eq!(long.chars().count(), SHOWN_CHARS_MAX + 1);
    }
}
