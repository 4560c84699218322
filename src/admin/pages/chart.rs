//! Charts as inline SVG. Pure: points in, markup out.
//!
//! A chart is as wide as its place, at a height of its own: lines and text keep their size (positions across are percentages; what is drawn of points lies in a nested picture that
//! is stretched, with strokes that are not). No style attributes: the style sheet has the colours. Points tell their value by `<title>`; the picture as a whole by its label.

use super::text;
use crate::admin::json::{Bucket, Percentile};
use maud::{Markup, html};
use std::fmt::Write;

/// Height of a chart, px; of what is drawn of it; where that begins.
const HEIGHT: f64 = 190.0;
const PLOT_TOP: f64 = 18.0;
const PLOT_HEIGHT: f64 = 146.0;
/// Width of the stretched picture, in units of its own.
const WIDTH: f64 = 1000.0;
/// Most points drawn.
const POINTS_MAX: usize = 400;
/// A second label of the time axis that begins before this part of the width is left out on a phone, percent.
const SPARE_BELOW: f64 = 30.0;
/// Largest value told apart from those above it.
const VALUE_MAX: f64 = 1e18;
/// Most grid lines.
const TICKS_MAX: usize = 5;

/// What the numbers of a chart are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes a second.
    BytesPerSecond,
    /// Records a second.
    RecordsPerSecond,
    /// Records.
    Records,
    /// Seconds.
    Seconds,
}

impl Unit {
    /// A value with its unit.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::BytesPerSecond => format!("{}/s", text::bytes(value)),
            Unit::RecordsPerSecond => format!("{}/s", text::count(value)),
            Unit::Records => text::count(value),
            Unit::Seconds => text::seconds(value),
        }
    }

    /// Distance of grid lines: about three of them below `max`, at numbers that read well.
    fn step(self, max: f64) -> f64 {
        let wanted = max / 3.0;
        let decimal = |wanted: f64| {
            let power = 10f64.powf(wanted.log10().floor());
            [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|step| *step >= wanted * 0.999).unwrap_or(wanted)
        };
        match self {
            Unit::BytesPerSecond if wanted >= 512.0 => {
                let unit = 1024f64.powf((wanted.log2() / 10.0).floor());
                let step = decimal(wanted / unit);
                match step {
                    _ if step > 500.0 => unit * 1024.0,
                    // Two of them are the next unit.
                    500.0 => unit * 512.0,
                    _ => unit * step,
                }
            }
            Unit::Seconds if wanted >= 1.0 => {
                const STEPS: [f64; 16] = [
                    1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0, 7200.0,
                    21_600.0, 43_200.0,
                ];
                STEPS.into_iter().find(|step| *step >= wanted).unwrap_or_else(|| decimal(wanted / 86_400.0) * 86_400.0)
            }
            Unit::Records => decimal(wanted).max(1.0),
            _ => decimal(wanted),
        }
    }

    /// The least a chart reaches up to, so that noise near nothing does not look like a mountain.
    fn least(self) -> f64 {
        match self {
            Unit::BytesPerSecond => 100.0,
            Unit::RecordsPerSecond | Unit::Records => 3.0,
            Unit::Seconds => 0.1,
        }
    }
}

/// One line of a chart.
#[derive(Debug, Clone)]
pub struct Series<'a> {
    /// What it is, as the legend says it.
    pub name: &'a str,
    /// One value a moment; `None` = not known.
    pub values: Vec<Option<f64>>,
}

/// Values over time.
#[derive(Debug, Clone)]
pub struct Lines<'a> {
    /// What it shows.
    pub label: &'a str,
    /// Moments, ms, ascending; the last is now.
    pub at_ms: &'a [i64],
    /// One to three lines.
    pub series: Vec<Series<'a>>,
    /// Of all of them.
    pub unit: Unit,
    /// What stands in place of a chart without points.
    pub empty: &'a str,
}

/// Values over time as a figure with a legend.
pub fn lines(chart: &Lines) -> Markup {
    let skip = chart.at_ms.len().saturating_sub(POINTS_MAX);
    let at_ms = &chart.at_ms[skip..];
    let known = |s: &Series| {
        s.values
            .iter()
            .skip(skip)
            .flatten()
            .copied()
            .filter(|v| v.is_finite())
            .map(|v| v.clamp(0.0, VALUE_MAX))
            .collect::<Vec<f64>>()
    };
    if at_ms.len() < 2 || chart.series.iter().all(|s| known(s).is_empty()) {
        return html! { figure.chart-box { p.empty { (chart.empty) } } };
    }
    let largest = chart.series.iter().flat_map(known).fold(0.0, f64::max);
    let step = chart.unit.step(largest.max(chart.unit.least()));
    let top = step * (largest.max(chart.unit.least()) / step).ceil();
    let now = at_ms[at_ms.len() - 1];
    let span = span_ms(now - at_ms[0]);
    let x = |at: i64| WIDTH * (1.0 - (now - at) as f64 / span as f64);
    let y = |value: f64| PLOT_HEIGHT * (1.0 - value.clamp(0.0, top) / top);
    let legend: Vec<(&str, String, String)> = chart
        .series
        .iter()
        .map(|s| {
            let latest = s.values.last().copied().flatten().map_or("unknown".into(), |v| chart.unit.show(v));
            (s.name, latest, chart.unit.show(known(s).into_iter().fold(0.0, f64::max)))
        })
        .collect();
    let label = legend.iter().fold(chart.label.to_string(), |mut label, (name, latest, highest)| {
        let _ = write!(label, "; {name}: now {latest}, highest {highest}");
        label
    });
    let ticks = (1..=((top / step).round() as usize).min(TICKS_MAX)).map(|i| i as f64 * step);
    let width = WIDTH / (span as f64 / ((now - at_ms[0]) as f64 / (at_ms.len() - 1) as f64).max(1.0));
    html! {
        figure.chart-box {
            svg.chart role="img" aria-label=(label) width="100%" height=(HEIGHT) {
                @for tick in ticks.clone() {
                    line.grid x1="0" x2="100%" y1=(px(PLOT_TOP + y(tick))) y2=(px(PLOT_TOP + y(tick))) {}
                }
                line.axis x1="0" x2="100%" y1=(PLOT_TOP + PLOT_HEIGHT) y2=(PLOT_TOP + PLOT_HEIGHT) {}
                svg x="0" y=(PLOT_TOP) width="100%" height=(PLOT_HEIGHT) viewBox=(format!("0 0 {WIDTH} {PLOT_HEIGHT}")) preserveAspectRatio="none" {
                    @for (n, series) in chart.series.iter().enumerate() {
                        @let (line, area) = paths(at_ms, &series.values[skip.min(series.values.len())..], x, y);
                        @if n == 0 { path.area.{"s" (n + 1)} d=(area) {} }
                        path.line.{"s" (n + 1)} d=(line) {}
                    }
                    @for (i, at) in at_ms.iter().enumerate() {
                        rect.hit x=(px(x(*at) - width / 2.0)) y="0" width=(px(width)) height=(PLOT_HEIGHT) {
                            title { (tooltip(chart, skip + i, *at)) }
                        }
                    }
                }
                @for tick in ticks { text.label x="0" y=(px(PLOT_TOP + y(tick) - 4.0)) { (chart.unit.show(tick)) } }
                @for (i, (at, words, anchor)) in time_labels(span).into_iter().enumerate() {
                    // On a phone the first label reaches into the second's place.
                    text.label.spare[i == 1 && at < SPARE_BELOW] x={(px(at)) "%"} y=(HEIGHT - 6.0) text-anchor=(anchor) { (words) }
                }
            }
            figcaption {
                @for (n, (name, latest, highest)) in legend.iter().enumerate() {
                    span.key { span.swatch.{"s" (n + 1)} {} (name) " " strong { (latest) } span.muted { " · highest " (highest) } }
                }
            }
        }
    }
}

/// The line of `values`, and the same closed down to the axis; gaps where a value is not known.
fn paths(at_ms: &[i64], values: &[Option<f64>], x: impl Fn(i64) -> f64, y: impl Fn(f64) -> f64) -> (String, String) {
    let (mut line, mut area, mut open) = (String::new(), String::new(), None::<f64>);
    let close = |area: &mut String, x: Option<f64>| {
        if let Some(x) = x {
            let _ = write!(area, "L{} {PLOT_HEIGHT}Z", px(x));
        }
    };
    for (at, value) in at_ms.iter().zip(values) {
        let Some(value) = value.filter(|v| v.is_finite()) else {
            close(&mut area, open.take());
            continue;
        };
        let (px_x, px_y) = (px(x(*at)), px(y(value)));
        match open {
            Some(_) => {
                let _ = (write!(line, "L{px_x} {px_y}"), write!(area, "L{px_x} {px_y}"));
            }
            None => {
                // A value alone between gaps shows as a dot: a line of no length with round ends.
                let _ = (write!(line, "M{px_x} {px_y}h0"), write!(area, "M{px_x} {PLOT_HEIGHT}V{px_y}"));
            }
        }
        open = Some(x(*at));
    }
    close(&mut area, open);
    (line, area)
}

fn tooltip(chart: &Lines, i: usize, at: i64) -> String {
    let mut words = format!("{} UTC", text::clock(at));
    for series in &chart.series {
        let value = series.values.get(i).copied().flatten().map_or("unknown".into(), |v| chart.unit.show(v));
        let _ = write!(words, "\n{}: {value}", series.name);
    }
    words
}

/// A time that the axis reads well with, `least` at least, ms.
fn span_ms(least: i64) -> i64 {
    [2, 5, 10, 15].map(|minutes| minutes * 60_000).into_iter().find(|span| *span >= least - 30_000).unwrap_or(least)
}

/// Position in percent, words, anchor.
fn time_labels(span: i64) -> Vec<(f64, String, &'static str)> {
    let minutes = span as f64 / 60_000.0;
    let parts = match minutes as i64 {
        2 => 2,
        5 | 10 => 5,
        _ => 3,
    };
    (0..=parts)
        .map(|i| {
            let ago = minutes * (parts - i) as f64 / parts as f64;
            let words = match i {
                _ if i == parts => "now".into(),
                0 => format!("{} ago", text::seconds((ago * 60.0).round())),
                _ => text::seconds((ago * 60.0).round()).to_string(),
            };
            (
                100.0 * i as f64 / parts as f64,
                words,
                ["middle", "start", "end"][usize::from(i == 0) + 2 * usize::from(i == parts)],
            )
        })
        .collect()
}

/// A latency histogram: bars over a logarithmic axis, p50, p99 and p99.9 marked. `buckets` ascending.
pub fn histogram(label: &str, buckets: &[Bucket], percentiles: &[Percentile], empty: &str) -> Markup {
    let total: u64 = buckets.iter().map(|b| b.count).sum();
    let (Some(first), Some(last), true) = (buckets.first(), buckets.last(), total > 0) else {
        return html! { figure.chart-box { p.empty { (empty) } } };
    };
    // Decades, in bins of a tenth (a twentieth where there are few).
    let log = |us: u64| (us.max(1) as f64).log10();
    let per_decade = if log(last.to_us) - log(first.to_us) < 2.0 { 20.0 } else { 10.0 };
    let bin = |us: u64| (log(us) * per_decade).floor() as i64;
    let (mut low, mut high) = (bin(first.to_us) - 1, bin(last.to_us) + 2);
    // Never less than a decade, so that one busy bucket is a bar and not a wall.
    while high - low < per_decade as i64 {
        low -= 1;
        high += 1;
    }
    let low = low.max(0);
    let mut bins = vec![0u64; (high - low) as usize];
    for b in buckets {
        bins[(bin(b.to_us) - low).clamp(0, high - low - 1) as usize] += b.count;
    }
    let tallest = bins.iter().copied().max().unwrap_or(0).max(1);
    let step = Unit::Records.step(tallest as f64);
    let top = step * (tallest as f64 / step).ceil();
    let x = |log: f64| ((log * per_decade - low as f64) / (high - low) as f64).clamp(0.0, 1.0);
    let edge = |i: i64| 10f64.powf((low + i) as f64 / per_decade);
    let (plot_top, plot_height) = (PLOT_TOP + 34.0, PLOT_HEIGHT + 10.0);
    let height = plot_top + plot_height + 26.0;
    let y = |count: f64| plot_height * (1.0 - count / top);
    let width = WIDTH / bins.len() as f64;
    let marks: Vec<(f64, String, String)> = [50.0, 99.0, 99.9]
        .into_iter()
        .filter_map(|wanted| percentiles.iter().find(|p| (p.percentile - wanted).abs() < 1e-6))
        .map(|p| (x(log(p.us)), format!("p{}", p.percentile), text::micros(p.us as f64)))
        .collect();
    let label =
        marks.iter().fold(format!("{label}: {} samples", text::grouped(total as i64)), |mut label, (_, p, value)| {
            let _ = write!(label, ", {p} {value}");
            label
        });
    let ticks = (1..=((top / step).round() as usize).min(TICKS_MAX)).map(|i| i as f64 * step);
    html! {
        figure.chart-box {
            svg.chart role="img" aria-label=(label) width="100%" height=(height) {
                @for tick in ticks.clone() { line.grid x1="0" x2="100%" y1=(px(plot_top + y(tick))) y2=(px(plot_top + y(tick))) {} }
                svg x="0" y=(plot_top) width="100%" height=(plot_height) viewBox=(format!("0 0 {WIDTH} {plot_height}")) preserveAspectRatio="none" {
                    @for (i, n) in bins.iter().enumerate().filter(|(_, n)| **n > 0) {
                        // A bin with a single sample is seen, too.
                        @let tall = (plot_height - y(*n as f64)).max(1.5);
                        rect.bar x=(px(width * (i as f64 + 0.06))) y=(px(plot_height - tall)) width=(px(width * 0.88)) height=(px(tall)) {
                            title {
                                (text::micros(edge(i as i64))) " to " (text::micros(edge(i as i64 + 1))) ": " (text::grouped(*n as i64))
                                " (" (format!("{:.2}", 100.0 * *n as f64 / total as f64)) " %)"
                            }
                        }
                    }
                }
                line.axis x1="0" x2="100%" y1=(plot_top + plot_height) y2=(plot_top + plot_height) {}
                @for tick in ticks { text.label x="0" y=(px(plot_top + y(tick) - 4.0)) { (Unit::Records.show(tick)) } }
                @for (i, (at, p, value)) in marks.iter().enumerate() {
                    @let row = 12.0 + 15.0 * i as f64;
                    line.mark x1={(px(100.0 * at)) "%"} x2={(px(100.0 * at)) "%"} y1=(row + 4.0) y2=(plot_top + plot_height) {}
                    text.mark-label x={(px(100.0 * at)) "%"} y=(row) text-anchor=(anchor(*at)) { (p) " " (value) }
                }
                @for (us, words) in log_ticks(low as f64 / per_decade, high as f64 / per_decade) {
                    @let at = x(us);
                    line.tick x1={(px(100.0 * at)) "%"} x2={(px(100.0 * at)) "%"} y1=(plot_top + plot_height) y2=(plot_top + plot_height + 5.0) {}
                    text.label x={(px(100.0 * at)) "%"} y=(height - 6.0) text-anchor=(anchor(at)) { (words) }
                }
            }
        }
    }
}

/// How a text at this part of the width keeps within the picture.
fn anchor(at: f64) -> &'static str {
    match at {
        _ if at < 0.12 => "start",
        _ if at > 0.88 => "end",
        _ => "middle",
    }
}

/// Where a logarithmic axis from `low` to `high` (exponents of 10, µs) has its ticks: exponent and words.
fn log_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let multiples: &[f64] = if high - low <= 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let mut out = Vec::new();
    for decade in low.floor() as i32..=high.ceil() as i32 {
        for m in multiples {
            let us = m * 10f64.powi(decade);
            if (low - 1e-9..=high + 1e-9).contains(&us.log10()) {
                out.push((us.log10(), text::micros(us)));
            }
        }
    }
    // Seven at most have room on a phone.
    let every = out.len().div_ceil(7).max(1);
    out.into_iter().step_by(every).collect()
}

/// A line as high as the text, for tables: shape only, the number stands beside it.
pub fn spark(values: &[f64], label: &str) -> Markup {
    if values.len() < 2 {
        return html! {};
    }
    let top = values.iter().copied().fold(1.0, f64::max);
    let step = 100.0 / (values.len() - 1) as f64;
    let mut d = String::new();
    for (i, value) in values.iter().enumerate() {
        let _ = write!(
            d,
            "{}{} {}",
            if i == 0 { "M" } else { "L" },
            px(step * i as f64),
            px(22.0 - 20.0 * (value / top).clamp(0.0, 1.0))
        );
    }
    html! {
        svg.spark role="img" aria-label=(label) width="100" height="24" viewBox="0 0 100 24" preserveAspectRatio="none" {
            path.line.s1 d=(d) {}
        }
    }
}

/// One digit behind the point, none where it is 0.
fn px(n: f64) -> String {
    let out = format!("{n:.1}");
    out.strip_suffix(".0").map(str::to_string).unwrap_or(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[Option<f64>], unit: Unit) -> String {
        let at_ms: Vec<i64> = (0..values.len() as i64).map(|i| 1_700_000_000_000 + 5000 * i).collect();
        let series = vec![Series { name: "<in> \"&", values: values.to_vec() }];
        lines(&Lines { label: "Traffic </title>", at_ms: &at_ms, series, unit, empty: "nothing yet" }).into_string()
    }

    #[test]
    fn grid_lines_stand_at_numbers_that_read_well() {
        for (unit, max, wanted) in [
            (Unit::Records, 1.0, "1"),
            (Unit::Records, 7.0, "5"),
            (Unit::Records, 1234.0, "500"),
            (Unit::BytesPerSecond, 100.0, "50 B/s"),
            (Unit::BytesPerSecond, 3000.0, "1 KiB/s"),
            (Unit::BytesPerSecond, 3.0 * 1024.0 * 1024.0, "1 MiB/s"),
            (Unit::BytesPerSecond, 3.0 * 700.0 * 1024.0, "1 MiB/s"),
            (Unit::Seconds, 0.9, "500 ms"),
            (Unit::Seconds, 100.0, "1 min"),
            (Unit::Seconds, 400_000.0, "2 d"),
        ] {
            assert_eq!(unit.show(unit.step(max)), wanted, "{unit:?} {max}");
        }
    }

    #[test]
    fn the_highest_point_is_at_the_top_and_the_last_at_the_right() {
        let out = chart(&[Some(0.0), Some(30.0), Some(15.0)], Unit::Records);
        assert!(out.contains("L1000 73"), "{out}");
        assert!(out.contains("L958.3 0"), "{out}");
        assert!(out.contains(r#"x="0" y="14""#) && out.contains(">30<"), "{out}");
    }

    #[test]
    fn a_time_axis_has_room_on_a_phone() {
        for (points, spare) in [(25, 0), (61, 1), (121, 1), (181, 0)] {
            let out = chart(&vec![Some(1.0); points], Unit::Records);
            assert_eq!(out.matches(r#"class="label spare""#).count(), spare, "{points}: {out}");
        }
        let out = chart(&[Some(1.0); 61], Unit::Records);
        let second = out.split("spare").nth(1).and_then(|rest| rest.split('>').nth(1)).unwrap();
        assert!(second.starts_with("4 min"), "{second}");
    }

    #[test]
    fn what_is_not_known_is_a_gap_and_no_number() {
        let out = chart(&[Some(1.0), None, Some(f64::NAN), Some(2.0)], Unit::Seconds);
        assert_eq!(out.matches("h0").count(), 2, "two lines of a point each: {out}");
        assert!(out.contains("unknown") && !out.contains("NaN"), "{out}");
    }

    #[test]
    fn nothing_to_draw_is_a_sentence() {
        for values in [&[][..], &[Some(1.0)], &[None, None]] {
            let out = chart(values, Unit::Records);
            assert!(out.contains("nothing yet") && !out.contains("<svg"), "{out}");
        }
        assert!(histogram("x", &[], &[], "no samples").into_string().contains("no samples"));
        assert!(spark(&[1.0], "x").into_string().is_empty());
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let out = chart(&[Some(1.0), Some(2.0)], Unit::Records);
        assert!(!out.contains("<in>") && !out.contains("Traffic </title>"), "{out}");
        assert!(out.contains("&lt;in&gt; &quot;&amp;: 2</title>"), "{out}");
        assert!(!out.contains("style="), "{out}");
    }

    #[test]
    fn any_numbers_make_a_picture() {
        for values in [
            vec![Some(0.0); 2],
            vec![Some(f64::MAX); 3],
            vec![Some(-5.0), Some(f64::INFINITY), Some(1e-300)],
            vec![Some(1.0); 5000],
        ] {
            for unit in [Unit::Records, Unit::BytesPerSecond, Unit::RecordsPerSecond, Unit::Seconds] {
                let out = chart(&values, unit);
                assert!(!out.contains("NaN") && !out.contains("inf"), "{out}");
                assert!(out.matches("<rect").count() <= POINTS_MAX);
                assert!(out.matches("class=\"grid\"").count() <= 5, "{out}");
            }
        }
    }

    #[test]
    fn every_sample_of_a_histogram_is_in_a_bar() {
        let bucket = |to_us, count| Bucket { to_us, count };
        let percentile = |percentile, us| Percentile { percentile, us };
        let out = histogram(
            "Latency of <x>",
            &[bucket(0, 1), bucket(1, 2), bucket(950, 90), bucket(1000, 6), bucket(120_000_000, 1)],
            &[percentile(50.0, 950), percentile(99.0, 1000), percentile(99.9, 120_000_000), percentile(99.99, 1)],
            "",
        )
        .into_string();
        assert!(out.contains("Latency of &lt;x&gt;: 100 samples, p50 950 µs, p99 1 ms, p99.9 2 min"), "{out}");
        let samples: u64 =
            out.split(" (").filter_map(|part| part.rsplit_once(": ").and_then(|(_, n)| n.parse::<u64>().ok())).sum();
        assert_eq!(samples, 100, "{out}");
        assert!(out.contains(">1 µs<") && out.contains(">100 s<") || out.contains(">1 min 40 s<"), "{out}");
        for buckets in [vec![bucket(500, 1)], vec![bucket(u64::MAX, u64::MAX / 2)], vec![bucket(0, 1)]] {
            let out = histogram("x", &buckets, &[percentile(50.0, 500)], "").into_string();
            assert!(out.contains("class=\"bar\"") && !out.contains("NaN"), "{out}");
        }
    }
}
