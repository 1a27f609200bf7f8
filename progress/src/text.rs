//! A progress in words.

use std::fmt::Write as _;

use logcore::ProgressEvent;
use logcore::text::{format_count, format_duration, format_rate};

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
