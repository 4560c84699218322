//! `--plot`: a run as a picture. SVG that stands by itself: latency by percentile on the left, latency over time on the right.

use super::samples::{Interval, Samples};
use std::fmt::Write;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 420.0;
/// Edges of a chart: left, top, bottom, and its width.
const TOP: f64 = 60.0;
const BOTTOM: f64 = 360.0;
const CHART_WIDTH: f64 = 400.0;
const LEFTS: [f64; 2] = [70.0, 560.0];
/// Marked on the axis of percentiles; each step is ten times rarer.
const PERCENTILES: [(f64, &str); 6] =
    [(0.0, "0"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99"), (0.99999, "99.999")];

/// Draws it. `title` is escaped.
pub fn svg(title: &str, samples: &Samples) -> String {
    let mut out = String::new();
    let all = samples.all();
    let (low, high) = decades(all.min().max(1), all.max().max(1));
    let _ = write!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/><text x=\"20\" y=\"28\" font-size=\"16\">{}</text>",
        escape(title)
    );
    for left in LEFTS {
        for decade in low..=high {
            let y = height_of(10f64.powi(decade), low, high);
            let _ = write!(
                out,
                "<path d=\"M{left} {y:.1}h{CHART_WIDTH}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                y + 4.0,
                duration(10f64.powi(decade))
            );
        }
    }
    percentiles(&mut out, samples, low, high);
    over_time(&mut out, samples.intervals(), low, high);
    out.push_str("</svg>\n");
    out
}

fn percentiles(out: &mut String, samples: &Samples, low: i32, high: i32) {
    let left = LEFTS[0];
    let all = samples.all();
    // As far as there are samples to tell percentiles apart, at least to 99.
    let rarest = (all.len().max(2) as f64).log10().clamp(2.0, 5.0);
    let x_of = |quantile: f64| left + CHART_WIDTH * (-(1.0 - quantile).log10() / rarest).min(1.0);
    for (quantile, name) in PERCENTILES.iter().filter(|(q, _)| -(1.0 - q).log10() <= rarest + 1e-9) {
        let x = x_of(*quantile);
        let _ = write!(
            out,
            "<path d=\"M{x:.1} {TOP}V{BOTTOM}\" stroke=\"#eee\"/><text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{name}</text>",
            BOTTOM + 18.0
        );
    }
    let steps = 200;
    let points: Vec<(f64, f64)> = (0..=steps)
        .map(|n| {
            let quantile = 1.0 - 10f64.powf(-rarest * f64::from(n) / f64::from(steps));
            (x_of(quantile), height_of(all.value_at_quantile(quantile) as f64, low, high))
        })
        .collect();
    line(out, &points, "#0b62a8");
    let _ = write!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">percentile</text>",
        left + CHART_WIDTH / 2.0,
        BOTTOM + 40.0
    );
}

fn over_time(out: &mut String, intervals: &[Interval], low: i32, high: i32) {
    let left = LEFTS[1];
    let end = intervals.last().map_or(1.0, |i| i.at.as_secs_f64()).max(1.0);
    let x_of = |i: &Interval| left + CHART_WIDTH * i.at.as_secs_f64() / end;
    type Value = fn(&Interval) -> u64;
    let lines: [(&str, &str, Value); 3] =
        [("p50", "#2a7f3f", |i| i.p50_ns), ("p99", "#b8590b", |i| i.p99_ns), ("max", "#a8202b", |i| i.max_ns)];
    for (n, (name, colour, value)) in lines.into_iter().enumerate() {
        let points: Vec<_> = intervals.iter().map(|i| (x_of(i), height_of(value(i) as f64, low, high))).collect();
        line(out, &points, colour);
        let x = left + 60.0 * n as f64;
        let _ = write!(out, "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", TOP - 8.0);
    }
    for tick in 0..=4 {
        let x = left + CHART_WIDTH * f64::from(tick) / 4.0;
        let _ = write!(
            out,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{:.*} s</text>",
            BOTTOM + 18.0,
            usize::from(end < 8.0),
            end * f64::from(tick) / 4.0
        );
    }
}

fn line(out: &mut String, points: &[(f64, f64)], colour: &str) {
    out.push_str("<polyline fill=\"none\" stroke-width=\"2\" stroke=\"");
    out.push_str(colour);
    out.push_str("\" points=\"");
    for (x, y) in points {
        let _ = write!(out, "{x:.1},{y:.1} ");
    }
    out.push_str("\"/>");
}

/// Powers of ten around values of `low` to `high`, ns.
fn decades(low: u64, high: u64) -> (i32, i32) {
    let low = (low as f64).log10().floor() as i32;
    let high = (high as f64).log10().ceil() as i32;
    (low, high.max(low + 1))
}

/// Where a value stands on the axis.
fn height_of(ns: f64, low: i32, high: i32) -> f64 {
    let part = (ns.max(1.0).log10() - f64::from(low)) / f64::from(high - low);
    BOTTOM - (BOTTOM - TOP) * part.clamp(0.0, 1.0)
}

/// Nanoseconds for people: `1 µs`, `10 ms`, `2.5 s`.
pub fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ..1e3 => (ns, "ns"),
        ..1e6 => (ns / 1e3, "µs"),
        ..1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    match value {
        v if v >= 100.0 || (v - v.round()).abs() < 1e-9 => format!("{v:.0} {unit}"),
        v if v >= 10.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.2} {unit}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn durations_are_written_for_people() {
        for (ns, shown) in [
            (1.0, "1 ns"),
            (1e3, "1 µs"),
            (1500.0, "1.50 µs"),
            (12_340.0, "12.3 µs"),
            (250e6, "250 ms"),
            (2.5e9, "2.50 s"),
            (61e9, "61 s"),
        ] {
            assert_eq!(duration(ns), shown);
        }
    }

    #[test]
    fn the_axis_holds_every_value() {
        assert_eq!(decades(150, 9_000), (2, 4));
        assert_eq!(decades(1000, 1000), (3, 4));
        assert_eq!(height_of(1e3, 3, 6), BOTTOM);
        assert_eq!(height_of(1e6, 3, 6), TOP);
        assert_eq!(height_of(1e9, 3, 6), TOP, "nothing leaves the chart");
    }

    #[test]
    fn a_picture_shows_what_was_measured() {
        let mut samples = Samples::new(false);
        for second in 1..=5u64 {
            for us in 1..=1000 {
                samples.record(Duration::from_micros(us * second), 1);
            }
            samples.turn(Duration::from_secs(second));
        }
        let picture = svg("produce <1 & 2>", &samples);
        assert!(picture.contains("produce &lt;1 &amp; 2&gt;") && !picture.contains("<1"));
        assert_eq!(picture.matches("<polyline").count(), 4);
        assert!(picture.contains(">99.9<") && !picture.contains(">99.999<"), "5,000 samples tell no 99.999 apart");
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
        let empty = svg("nothing", &Samples::new(false));
        assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    }
}
