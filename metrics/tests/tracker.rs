//! Properties of the tracker: exact averages, and a history that is exact within its budget and
//! thinned beyond.

use logcore_metrics::{Tracker, TrackerOptions};
use proptest::prelude::*;

const PLENTY: usize = 24 << 20;

fn tracker(window: usize, budget_bytes: usize, series: usize) -> Tracker {
    let mut tracker = Tracker::new(TrackerOptions {
        window,
        history: true,
        budget_bytes,
    });
    for index in 0..series {
        assert_eq!(tracker.add(), index);
    }
    tracker
}

/// Steps and values with their bits, so that NaN is comparable.
fn bits(tracker: &mut Tracker, series: usize) -> Vec<(u64, u64)> {
    let history = tracker.history(series).expect("history is on");
    history
        .iter()
        .map(|point| (point.step, point.value.to_bits()))
        .collect()
}

fn is_subsequence(part: &[(u64, u64)], whole: &[(u64, u64)]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|point| whole.any(|other| other == point))
}

fn any_points(most: usize) -> impl Strategy<Value = Vec<(usize, u64, f64)>> {
    let steps = prop_oneof![0..5_u64, 0..1000_u64, any::<u64>()];
    let values = prop_oneof![
        any::<f64>(),
        Just(f64::NAN),
        Just(f64::INFINITY),
        Just(f64::NEG_INFINITY)
    ];
    prop::collection::vec((0..3_usize, steps, values), 0..most)
}

proptest! {
    #[test]
    fn a_history_within_its_budget_has_all_points(points in any_points(500)) {
        let mut tracker = tracker(10, PLENTY, 3);
        for (series, step, value) in &points {
            tracker.record(*series, *step, *value);
        }
        for series in 0..3 {
            let recorded: Vec<_> = points
                .iter()
                .filter(|point| point.0 == series)
                .map(|(_, step, value)| (*step, value.to_bits()))
                .collect();
            prop_assert_eq!(bits(&mut tracker, series), recorded);
            prop_assert_eq!(tracker.stats(series).history_stride, 1);
        }
    }

    #[test]
    fn a_thinned_history_is_a_subsequence_of_the_recorded_points(points in any_points(4000), budget in 0..8000_usize) {
        let mut tracker = tracker(10, budget, 3);
        let limit = budget.max(3 << 10);
        for (series, step, value) in &points {
            tracker.record(*series, *step, *value);
            prop_assert!(tracker.history_bytes() <= limit);
        }
        for series in 0..3 {
            let recorded: Vec<_> = points
                .iter()
                .filter(|point| point.0 == series)
                .map(|(_, step, value)| (*step, value.to_bits()))
                .collect();
            let kept = bits(&mut tracker, series);
            prop_assert!(is_subsequence(&kept, &recorded));
            prop_assert_eq!(kept.first(), recorded.first());
            prop_assert_eq!(kept.last(), recorded.last());
            let stride = tracker.stats(series).history_stride as usize;
            prop_assert!(stride.is_power_of_two());
            let strided = recorded.iter().step_by(stride).count();
            prop_assert!(kept.len() == strided || kept.len() == strided + 1, "{} of {strided}", kept.len());
        }
    }

    #[test]
    fn stats_cover_the_whole_run(values in prop::collection::vec(any::<f64>(), 1..200), window in 1..50_usize) {
        let mut tracker = tracker(window, PLENTY, 1);
        for (step, value) in values.iter().enumerate() {
            tracker.record(0, step as u64, *value);
        }
        let stats = tracker.stats(0);
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        prop_assert_eq!(stats.last.to_bits(), values[values.len() - 1].to_bits());
        prop_assert_eq!(stats.count, values.len() as u64);
        prop_assert_eq!(stats.nan_count, values.iter().filter(|value| value.is_nan()).count() as u64);
        prop_assert_eq!(stats.infinite_count, values.iter().filter(|value| value.is_infinite()).count() as u64);
        prop_assert_eq!(stats.min.to_bits(), finite().fold(f64::NAN, f64::min).to_bits());
        prop_assert_eq!(stats.max.to_bits(), finite().fold(f64::NAN, f64::max).to_bits());
        prop_assert_eq!(tracker.average(0).unwrap_or(f64::NAN).to_bits(), stats.mean.to_bits());
    }
}

#[test]
fn an_average_does_not_drift() {
    // A running sum loses every 1.0 beside 1e16.
    let mut tracker = tracker(100, 0, 1);
    for step in 0..2_000_000 {
        tracker.record(0, step, [1e16, 1.0, -1e16, 1.0][step as usize % 4]);
    }
    assert_eq!(tracker.average(0), Some(0.5));
    for step in 0..100 {
        tracker.record(0, step, 0.1);
    }
    assert_eq!(tracker.average(0), Some(0.1));
}

#[test]
fn the_average_is_over_the_finite_values_of_the_window() {
    let mut tracker = tracker(3, PLENTY, 1);
    assert_eq!(tracker.average(0), None);
    for value in [100.0, 1.0, f64::NAN, 2.0] {
        tracker.record(0, 0, value);
    }
    assert_eq!(tracker.average(0), Some(1.5));
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        tracker.record(0, 0, value);
    }
    assert_eq!(tracker.average(0), None);
    assert!(tracker.stats(0).mean.is_nan());
    assert_eq!((tracker.stats(0).min, tracker.stats(0).max), (1.0, 100.0));
}

#[test]
fn ten_million_points_stay_within_the_budget() {
    let budget = 4 << 20;
    let mut tracker = tracker(100, budget, 5);
    for step in 0..2_500_000_u64 {
        for series in 0..4 {
            tracker.record(series, step, step as f64 + series as f64 / 8.0);
        }
        if step % 100_000 == 0 {
            tracker.record(4, step, -(step as f64));
        }
        assert!(
            tracker.history_bytes() <= budget,
            "{} at {step}",
            tracker.history_bytes()
        );
    }
    assert!(tracker.history_bytes() > budget / 4, "{}", tracker.history_bytes());
    for series in 0..4 {
        let history = tracker.history(series).unwrap();
        let stride = tracker.stats(series).history_stride;
        assert_eq!(history[0].step, 0);
        assert_eq!(history.last().unwrap().step, 2_499_999);
        for (index, point) in history[..history.len() - 1].iter().enumerate() {
            assert_eq!(point.step, index as u64 * stride);
            assert_eq!(point.value, point.step as f64 + series as f64 / 8.0);
        }
    }
    // The short series was not thinned.
    assert_eq!(tracker.history(4).unwrap().len(), 25);
    assert_eq!(tracker.stats(4).history_stride, 1);
}

#[test]
fn ten_thousand_series_have_a_floor_of_one_kilobyte_each() {
    let mut tracker = tracker(100, 0, 10_000);
    for step in 0..300 {
        for series in 0..10_000 {
            // Uneven steps need the most memory: hardly any run is longer than two.
            tracker.record(series, step * step * step, 1.0);
        }
        assert!(tracker.history_bytes() <= 10_000 << 10, "{}", tracker.history_bytes());
    }
    for series in [0, 9_999] {
        let history = tracker.history(series).unwrap();
        assert!(history.len() > 18, "{}", history.len());
        assert_eq!(history.last().unwrap().step, 299 * 299 * 299);
    }
}

#[test]
fn few_points_take_few_bytes() {
    let mut tracker = tracker(1_000_000, PLENTY, 10_000);
    for series in 0..10_000 {
        for step in 0..16 {
            tracker.record(series, step, 0.5);
        }
    }
    assert!(tracker.history_bytes() < 10_000 * 512, "{}", tracker.history_bytes());
}

#[test]
fn reconfigure_keeps_existing_values() {
    let mut tracker = tracker(4, PLENTY, 2);
    for value in [0.0, 1.0, 2.0, 3.0, 4.0] {
        tracker.record(0, value as u64, value);
    }
    let with = |window, history, budget_bytes| TrackerOptions {
        window,
        history,
        budget_bytes,
    };
    tracker.reconfigure(with(2, true, PLENTY));
    assert_eq!(tracker.average(0), Some(3.5));
    assert_eq!(tracker.history(0).unwrap().len(), 5);
    tracker.reconfigure(with(3, true, PLENTY));
    tracker.record(0, 5, 5.0);
    assert_eq!(tracker.average(0), Some(4.0));
    tracker.record(0, 6, 6.0);
    assert_eq!(tracker.average(0), Some(5.0));

    tracker.reconfigure(with(3, false, PLENTY));
    assert_eq!(tracker.history(0), None);
    assert_eq!(tracker.history_bytes(), 0);
    assert_eq!(tracker.stats(0).count, 7);
    tracker.reconfigure(with(0, true, PLENTY));
    tracker.record(0, 7, 7.0);
    assert_eq!(tracker.average(0), Some(7.0));
    assert_eq!(tracker.history(0).unwrap(), [logcore::Point::new(7, 7.0)]);

    for step in 0..100_000 {
        tracker.record(1, step, 1.0);
    }
    tracker.reconfigure(with(1, true, 10_000));
    assert!(tracker.history_bytes() <= 10_000);
    assert_eq!(tracker.history(1).unwrap().last().unwrap().step, 99_999);
}
