//! The text of a progress: position, times and rates.

use std::fmt::Write as _;

use logcore::ProgressEvent;
use logcore::text::{format_count, format_duration, format_rate};

/// Returns position, times and rates of a progress: `450/1000 [00:12<00:15, 36.2 it/s, 1.16k
/// samples/s]`.
///
/// ```
/// use std::time::Duration;
///
/// use logcore::{ProgressEvent, ProgressKind};
///
/// let mut event = ProgressEvent::new(ProgressKind::Advanced, 1, "trainer", "Training");
/// (event.position, event.total, event.elapsed) = (450, Some(1000), Duration::from_secs(12));
/// event.rate = Some(36.21);
/// assert_eq!(logcore_progress::text::details(&event), "450/1000 [00:12, 36.2 it/s]");
/// ```
#[must_use]
pub fn details(event: &ProgressEvent<'_>) -> String {
    format!("{} {}", position(event), times(event, true, true))
}

/// Returns the text behind a bar, as much as fits into `columns`.
///
/// `newest` are further texts, such as metrics. Where there is no room, parts are left out in this
/// order: all of `newest` but the first, the samples, the first of `newest`, the rate, the times.
/// The position is padded to the width of the total, so that the text does not move.
///
/// ```
/// use logcore::{ProgressEvent, ProgressKind};
///
/// let mut event = ProgressEvent::new(ProgressKind::Advanced, 1, "trainer", "Training");
/// (event.position, event.total) = (5, Some(100));
/// let newest = ["loss=0.1".to_owned()];
/// assert_eq!(logcore_progress::text::fitted(&event, &newest, 40), "  5/100 [00:00] loss=0.1");
/// assert_eq!(logcore_progress::text::fitted(&event, &newest, 20), "  5/100 [00:00]");
/// ```
#[must_use]
pub fn fitted(event: &ProgressEvent<'_>, newest: &[String], columns: usize) -> String {
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
        .find(|text| console::measure_text_width(text) <= columns)
        .unwrap_or_default()
}

/// Returns a progress as one line of text, with `newest` at its end, such as metrics.
///
/// The line is no wider than `columns`, if its shortest form fits. Where there is no room, parts
/// are left out in this order: all of `newest` but the first, the samples, the rate, the
/// percentage, the first of `newest`, the times.
///
/// ```
/// use logcore::{ProgressEvent, ProgressKind};
/// use logcore_progress::text::line;
///
/// let mut event = ProgressEvent::new(ProgressKind::Finished, 1, "trainer", "Training");
/// (event.position, event.total) = (5, Some(5));
/// let newest = ["loss=0.1".to_owned(), "lr=0.5".to_owned()];
/// assert_eq!(line(&event, &newest, usize::MAX), "Training: 100% 5/5 [00:00] loss=0.1 lr=0.5");
/// assert_eq!(line(&event, &newest, 40), "Training: 100% 5/5 [00:00] loss=0.1");
/// assert_eq!(line(&event, &newest, 30), "Training: 5/5 [00:00] loss=0.1");
/// assert_eq!(line(&event, &newest, 22), "Training: 5/5 [00:00]");
/// assert_eq!(line(&event, &newest, 7), "Training: 5/5");
/// ```
#[must_use]
pub fn line(event: &ProgressEvent<'_>, newest: &[String], columns: usize) -> String {
    let (description, position) = (event.description, position(event));
    let percent = event
        .percent()
        .map_or(String::new(), |percent| format!(" {percent:.0}%"));
    let shown = |percent: &str, times: &str, newest: &[String]| {
        let mut text = format!("{description}:{percent} {position}{times}");
        for one in newest {
            text.push(' ');
            text.push_str(one);
        }
        text
    };
    let times = |rate: bool, samples: bool| format!(" {}", times(event, rate, samples));
    let first = newest.len().min(1);
    let all = times(true, true);
    let long = (first..=newest.len())
        .rev()
        .map(|count| shown(&percent, &all, &newest[..count]));
    let short = [
        (&*percent, times(true, false), first),
        (&*percent, times(false, false), first),
        ("", times(false, false), first),
        ("", times(false, false), 0),
    ];
    long.chain(
        short
            .iter()
            .map(|(percent, times, count)| shown(percent, times, &newest[..*count])),
    )
    .find(|text| console::measure_text_width(text) <= columns)
    .unwrap_or_else(|| shown("", "", &[]))
}

fn position(event: &ProgressEvent<'_>) -> String {
    match event.total {
        Some(total) => format!("{}/{total}", event.position),
        None => event.position.to_string(),
    }
}

fn times(event: &ProgressEvent<'_>, with_rate: bool, with_samples: bool) -> String {
    let mut out = format!("[{}", format_duration(event.elapsed));
    // Writing to a string cannot fail.
    if let Some(eta) = event.eta {
        let _ = write!(out, "<{}", format_duration(eta));
    }
    if let Some(per_second) = event.rate.filter(|_| with_rate) {
        let _ = write!(out, ", {}", format_rate(per_second));
    }
    if let Some(samples) = event.samples_per_sec.filter(|_| with_samples) {
        let _ = write!(out, ", {} samples/s", format_count(samples));
    }
    out.push(']');
    out
}
