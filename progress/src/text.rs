//! Numbers of a progress, in words that are short and do not jump about.

use std::fmt::Write as _;
use std::time::Duration;

use logcore::ProgressEvent;

/// A duration as `00:15`, `1:02:03` or `3d 04:05:06`.
///
/// ```
/// use logcore_progress::text::duration;
/// use std::time::Duration;
///
/// assert_eq!(duration(Duration::from_secs(15)), "00:15");
/// assert_eq!(duration(Duration::from_secs(3723)), "1:02:03");
/// assert_eq!(duration(Duration::from_secs(3 * 86_400 + 61)), "3d 00:01:01");
/// ```
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes, seconds) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes:02}:{seconds:02}"),
        (0, hours) => format!("{hours}:{minutes:02}:{seconds:02}"),
        (days, hours) => format!("{days}d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

/// A number with three digits that matter: `36.2`, `1.16k`, `3.40M`.
///
/// ```
/// use logcore_progress::text::count;
///
/// assert_eq!([0.5, 36.21, 1160.0, 3.4e6, 2e15].map(count), ["0.50", "36.2", "1.16k", "3.40M", "2000T"]);
/// ```
pub fn count(number: f64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    let (mut number, mut unit) = (number, 0);
    // 999.5 would be shown as 1000.
    while number >= 999.5 && unit < UNITS.len() - 1 {
        number /= 1000.0;
        unit += 1;
    }
    let digits = match number {
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{number:.digits$}{}", UNITS[unit])
}

/// A rate of units a second, turned over where it is slow: `36.2 it/s`, `2.50 s/it`.
///
/// ```
/// use logcore_progress::text::rate;
///
/// assert_eq!([36.21, 0.4].map(rate), ["36.2 it/s", "2.50 s/it"]);
/// ```
pub fn rate(per_second: f64) -> String {
    if per_second >= 1.0 {
        format!("{} it/s", count(per_second))
    } else {
        format!("{} s/it", count(1.0 / per_second))
    }
}

/// A metric's value with four digits that matter: `0.4321`, `1.000e-4`, `1200`.
///
/// ```
/// use logcore_progress::text::value;
///
/// assert_eq!([0.43214, 1e-4, 12.0, 123456.0, f64::NAN].map(value), ["0.4321", "1.000e-4", "12", "123456", "NaN"]);
/// ```
pub fn value(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() || value == 0.0 || (value.fract() == 0.0 && size < 1e6) {
        return format!("{value}");
    }
    match size {
        ..1e-3 | 1e6.. => format!("{value:.3e}"),
        ..10.0 => format!("{value:.4}"),
        ..100.0 => format!("{value:.3}"),
        ..1000.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

/// Position, time and rates: `450/1000 [00:12<00:15, 36.2 it/s, 1.16k samples/s]`.
pub fn details(event: &ProgressEvent<'_>) -> String {
    format!("{} {}", position(event), times(event, true, true))
}

/// What stands behind a bar, as much as fits into `room` columns. What matters least goes first: all of `newest` (metrics,
/// say) but the first, the samples, the first, the rate, the times. The position is as wide as the total, so that nothing
/// behind it moves.
pub fn fitted(event: &ProgressEvent<'_>, newest: &[String], room: usize) -> String {
    let position = match event.total {
        Some(total) => format!("{:>width$}", position(event), width = 2 * total.to_string().len() + 1),
        None => position(event),
    };
    let shown = |count: usize, rate: bool, samples: bool| {
        let mut text = format!("{position} {}", times(event, rate, samples));
        for one in &newest[..count] {
            text.push(' ');
            text.push_str(one);
        }
        text
    };
    let first = newest.len().min(1);
    let all = (first..=newest.len()).rev().map(|count| (count, true, true));
    all.chain([(first, true, false), (0, true, false), (0, false, false)])
        .map(|(count, rate, samples)| shown(count, rate, samples))
        .chain([position.clone()])
        .find(|text| console::measure_text_width(text) <= room)
        .unwrap_or_default()
}

/// A progress as one line of text, with `newest` (metrics, say) behind it.
///
/// ```
/// use logcore::{ProgressEvent, ProgressKind};
///
/// let mut event = ProgressEvent::new(ProgressKind::Finished, 1, "trainer", "Training");
/// (event.position, event.total) = (5, Some(5));
/// let newest = ["loss=0.1".to_owned()];
/// assert_eq!(logcore_progress::text::line(&event, &newest), "Training: 100% 5/5 [00:00] loss=0.1");
/// ```
pub fn line(event: &ProgressEvent<'_>, newest: &[String]) -> String {
    let percent = event
        .percent()
        .map_or(String::new(), |percent| format!(" {percent:.0}%"));
    format!(
        "{}:{percent} {} {}",
        event.description,
        details(event),
        newest.join(" ")
    )
    .trim_end()
    .to_owned()
}

fn position(event: &ProgressEvent<'_>) -> String {
    match event.total {
        Some(total) => format!("{}/{total}", event.position),
        None => event.position.to_string(),
    }
}

fn times(event: &ProgressEvent<'_>, with_rate: bool, with_samples: bool) -> String {
    let mut out = format!("[{}", duration(event.elapsed));
    // Writing to a string cannot fail.
    if let Some(eta) = event.eta {
        let _ = write!(out, "<{}", duration(eta));
    }
    if let Some(per_second) = event.rate.filter(|_| with_rate) {
        let _ = write!(out, ", {}", rate(per_second));
    }
    if let Some(samples) = event.samples_per_sec.filter(|_| with_samples) {
        let _ = write!(out, ", {} samples/s", count(samples));
    }
    out.push(']');
    out
}
