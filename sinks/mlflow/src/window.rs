//! The points of a few seconds, and those of them that a server can take.
//!
//! Windows and the choice of points depend on the rows and their times alone, so that a delivery
//! that is repeated sends the same points.

use std::collections::{BTreeMap, HashMap};

use logcore::StoredRow;
use serde::{Deserialize, Serialize};

use crate::names::clean_name;

/// Seconds of the rows of a window.
const WINDOW: f64 = 5.0;
/// Windows of a minute.
const WINDOWS_A_MINUTE: i64 = 12;
/// Most points of a window, for rows that come faster than anything is sent.
const MOST_POINTS: usize = 200_000;

/// A value of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct MetricPoint {
    pub(crate) step: u64,
    /// Seconds since 1970.
    pub(crate) time: f64,
    pub(crate) value: f64,
    /// Number of the row in the window.
    pub(crate) row: usize,
}

/// The rows of a few seconds.
#[derive(Debug, Default)]
pub(crate) struct MetricWindow {
    /// The number of the window, counted from 1970.
    number: Option<i64>,
    rows: usize,
    len: usize,
    /// The points of each metric by its name on the server, in the order of the rows.
    points: BTreeMap<String, Vec<MetricPoint>>,
    /// The names on the server of names that were met.
    names: HashMap<String, String>,
}

impl MetricWindow {
    /// Returns `true` if a row belongs to the window. A row of a slightly earlier time does,
    /// because the rows of several loggers are not in order. One of a much earlier time does not:
    /// the clock was set back.
    pub(crate) fn takes(&self, row: &StoredRow) -> bool {
        let number_of_row = number_of(row.time);
        let is_near = |number: i64| (number.saturating_sub(1)..=number).contains(&number_of_row);
        self.len < MOST_POINTS && self.number.is_none_or(is_near)
    }

    /// Returns `true` if the time of the window is over. Rows that come later are sent by
    /// themselves.
    pub(crate) fn is_past(&self, now: f64) -> bool {
        self.number.is_some_and(|number| number_of(now) > number)
    }

    /// Adds a row. `prefix` stands before its metrics.
    pub(crate) fn push(&mut self, row: &StoredRow, prefix: &str) {
        self.number.get_or_insert_with(|| number_of(row.time));
        for (name, value) in &row.values {
            let name = format!("{prefix}{name}");
            let clean = || clean_name(&name);
            let name = self.names.entry(name.clone()).or_insert_with(clean);
            let point = MetricPoint {
                step: row.step,
                time: row.time,
                value: value.as_f64(),
                row: self.rows,
            };
            match self.points.get_mut(name) {
                Some(points) => points.push(point),
                None => drop(self.points.insert(name.clone(), vec![point])),
            }
            self.len += 1;
        }
        self.rows += 1;
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the points that are sent, in the order of the rows, and empties the window. With
    /// more points than the budget allows, each metric keeps its first, least, greatest and last
    /// ones of several parts of the window. The second result is `true` if points are left out.
    pub(crate) fn take(&mut self, budget: &mut RateBudget, rate: f64) -> (Vec<(String, MetricPoint)>, bool) {
        let allowed = budget.allow(self.number.unwrap_or_default(), rate);
        let is_thinned = self.len > allowed;
        let share = (allowed / self.points.len().max(1)).max(1);
        let mut kept = Vec::with_capacity(self.len.min(allowed));
        for (name, points) in &mut self.points {
            let points = std::mem::take(points);
            let points = match is_thinned {
                true => thin(&points, share),
                false => points,
            };
            kept.extend(points.into_iter().map(|point| (name.clone(), point)));
        }
        kept.sort_by_key(|(_, point)| point.row);
        budget.sent += kept.len();
        (self.number, self.rows, self.len) = (None, 0, 0);
        self.points.clear();
        (kept, is_thinned)
    }
}

/// The points of the present minute. A burst is sent whole if the minute has room for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RateBudget {
    /// The number of the minute, counted from 1970.
    minute: i64,
    /// Number of its points so far.
    sent: usize,
}

impl RateBudget {
    /// Returns the number of points of a window: the rest of the minute's, and at least those of
    /// its time.
    fn allow(&mut self, window: i64, rate: f64) -> usize {
        let minute = window.div_euclid(WINDOWS_A_MINUTE);
        if minute != self.minute {
            *self = Self { minute, sent: 0 };
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of points"
        )]
        let count = |seconds: f64| (rate * seconds).max(1.0) as usize;
        count(60.0).saturating_sub(self.sent).max(count(WINDOW))
    }
}

/// Returns the number of the window of a time. A time that is no time belongs to the first window.
fn number_of(time: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, and NaN becomes 0")]
    let number = (time / WINDOW).floor() as i64;
    number
}

/// Returns at most about `share` points: of each part the first, the least, the greatest, the last
/// one, and the first that is no number.
fn thin(points: &[MetricPoint], share: usize) -> Vec<MetricPoint> {
    const PART: usize = 4;
    if points.len() <= share {
        return points.to_vec();
    }
    let parts = (share / PART).max(1);
    let per_part = points.len().div_ceil(parts);
    let mut kept = Vec::with_capacity(share);
    for (start, part) in points
        .chunks(per_part)
        .enumerate()
        .map(|(at, part)| (at * per_part, part))
    {
        let values = || part.iter().enumerate().filter(|(_, point)| point.value.is_finite());
        let order = |a: &(usize, &MetricPoint), b: &(usize, &MetricPoint)| a.1.value.total_cmp(&b.1.value);
        let odd = part.iter().position(|point| !point.value.is_finite());
        let least = values().min_by(order).map(|(at, _)| at);
        // Of equal values the first one.
        let greatest = values().rev().max_by(order).map(|(at, _)| at);
        let last = Some(part.len() - 1);
        let wanted = match share {
            1 => [odd, None, None, last, None],
            2 => [odd, least, greatest, None, None],
            3 => [odd, least, greatest, last, None],
            _ => [odd, least, greatest, last, Some(0)],
        };
        let mut chosen: Vec<_> = wanted.into_iter().flatten().collect();
        chosen.sort_unstable();
        chosen.dedup();
        kept.extend(chosen.into_iter().map(|at| points[start + at]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use logcore::MetricValue;
    use proptest::prelude::*;

    use super::*;

    fn row(step: u64, time: f64, values: &[(&str, f64)]) -> StoredRow {
        let mut row = StoredRow::new(step, time, "trainer");
        row.values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), MetricValue::Float(*value)))
            .collect();
        row
    }

    #[test]
    fn a_window_has_the_rows_of_five_seconds() {
        let mut window = MetricWindow::default();
        window.push(&row(0, 1_000_002.0, &[("a", 1.0)]), "");
        assert!(window.takes(&row(1, 1_000_004.9, &[])) && window.takes(&row(1, 999_996.0, &[])));
        assert!(!window.takes(&row(1, 1_000_005.0, &[])) && !window.takes(&row(1, 3.0, &[])));
        assert!(window.is_past(1_000_005.0) && !window.is_past(1_000_004.0));
        let (points, is_thinned) = window.take(&mut RateBudget::default(), 500.0);
        assert_eq!((points.len(), is_thinned, window.rows()), (1, false, 0));
        assert!(window.takes(&row(1, 1_000_005.0, &[])));
    }

    #[test]
    fn below_the_rate_every_point_is_sent_in_order() {
        let mut window = MetricWindow::default();
        for step in 0..10 {
            window.push(&row(step, 2.0, &[("b", step as f64), ("a@", 1.0)]), "eval/");
        }
        let (points, is_thinned) = window.take(&mut RateBudget::default(), 1.0);
        assert!(!is_thinned);
        let steps: Vec<_> = points.iter().map(|(_, point)| point.step).collect();
        assert_eq!(steps, (0..10).flat_map(|step| [step, step]).collect::<Vec<_>>());
        assert_eq!((&*points[0].0, &*points[1].0), ("eval/a_x40_", "eval/b"));
    }

    #[test]
    fn a_burst_is_sent_whole_and_a_minute_of_bursts_is_not() {
        let mut budget = RateBudget::default();
        let mut send = |second: u64, points: u64| {
            let mut window = MetricWindow::default();
            for step in 0..points {
                window.push(&row(step, second as f64, &[("a", 1.0)]), "");
            }
            window.take(&mut budget, 10.0).0.len()
        };
        assert_eq!([send(0, 550), send(5, 50)], [550, 50]);
        let thinned = send(10, 550);
        assert!((1..=50).contains(&thinned), "{thinned}");
        assert_eq!(send(60, 550), 550);
    }

    proptest! {
        /// A spike, a NaN, the first and the last point of each metric survive, and the rate holds.
        #[test]
        fn above_the_rate_the_extremes_are_sent(
            values in prop::collection::vec(prop_oneof![9 => -1e3..1e3, 1 => Just(f64::NAN)], 1..400),
            rate in 1.0..40.0,
        ) {
            let mut window = MetricWindow::default();
            for (step, value) in values.iter().enumerate() {
                window.push(&row(step as u64, 2.0, &[("a", *value)]), "");
            }
            // The minute has no room any more.
            let mut budget = RateBudget { minute: 0, sent: usize::MAX / 2 };
            let (points, is_thinned) = window.take(&mut budget, rate);
            let allowed = (rate * WINDOW) as usize;
            prop_assert_eq!(is_thinned, values.len() > allowed);
            // Each part may have a point more, that of a NaN.
            prop_assert!(points.len() <= allowed + allowed / 4 + 1);
            let kept: Vec<_> = points.iter().map(|(_, point)| point.value).collect();
            let extreme = |values: &[f64], choose: fn(f64, f64) -> f64| values.iter().copied().fold(f64::NAN, choose);
            prop_assert_eq!(extreme(&kept, f64::min).to_bits(), extreme(&values, f64::min).to_bits());
            prop_assert_eq!(extreme(&kept, f64::max).to_bits(), extreme(&values, f64::max).to_bits());
            prop_assert_eq!(kept.iter().any(|value| value.is_nan()), values.iter().any(|value| value.is_nan()));
            prop_assert_eq!((points[0].1.step, points[points.len() - 1].1.step), (0, values.len() as u64 - 1));
            prop_assert!(points.is_sorted_by_key(|(_, point)| point.row));
        }
    }
}
