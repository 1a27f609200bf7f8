//! The values of a metric, thinned while they are read.
//!
//! A curve has a bounded number of buckets of equally many values. When all are full, each two
//! neighbors become one, so the width is a power of two. A bucket keeps its extremes, so that
//! a spike stays what it was.

use std::collections::HashMap;

use logcore::StoredRow;

use crate::{LeftOutLines, RunError, StoredRun};

/// A value of a metric, with its step and time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CurvePoint {
    /// Step of the value.
    pub step: u64,
    /// Seconds since 1970.
    pub time: f64,
    /// The value, which need not be finite.
    pub value: f64,
}

/// Neighboring values of a curve.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct CurveBucket {
    /// The first value, which need not be finite.
    pub first: CurvePoint,
    /// The last value, which need not be finite.
    pub last: CurvePoint,
    /// The first of the least finite values; `None` if no value is finite.
    pub min: Option<CurvePoint>,
    /// The first of the greatest finite values; `None` if no value is finite.
    pub max: Option<CurvePoint>,
    /// Number of values.
    pub count: u64,
    /// Number of values that are not finite.
    pub nonfinite: u64,
    /// Sum of the finite values.
    sum: f64,
}

impl CurveBucket {
    fn new(point: CurvePoint) -> Self {
        let finite = Some(point).filter(|point| point.value.is_finite());
        Self {
            first: point,
            last: point,
            min: finite,
            max: finite,
            count: 1,
            nonfinite: u64::from(finite.is_none()),
            sum: finite.map_or(0.0, |point| point.value),
        }
    }

    /// Adds the value that follows.
    fn add_point(&mut self, point: CurvePoint) {
        self.last = point;
        self.count += 1;
        if !point.value.is_finite() {
            self.nonfinite += 1;
            return;
        }
        if !self.min.is_some_and(|own| point.value >= own.value) {
            self.min = Some(point);
        }
        if !self.max.is_some_and(|own| point.value <= own.value) {
            self.max = Some(point);
        }
        self.sum += point.value;
    }

    /// Adds the values that follow.
    fn add(&mut self, later: &Self) {
        self.last = later.last;
        self.min = match (self.min, later.min) {
            (Some(own), Some(other)) if other.value < own.value => Some(other),
            (own, other) => own.or(other),
        };
        self.max = match (self.max, later.max) {
            (Some(own), Some(other)) if other.value > own.value => Some(other),
            (own, other) => own.or(other),
        };
        self.count += later.count;
        self.nonfinite += later.nonfinite;
        self.sum += later.sum;
    }

    /// Returns the mean of the finite values; NaN if there is none.
    ///
    /// ```
    /// use logcore_runs::{Curve, CurvePoint};
    ///
    /// let mut curve = Curve::new("trainer", "metrics/loss", 0, 1);
    /// for (step, value) in [(1, 2.0), (2, f64::NAN), (3, 4.0)] {
    ///     curve.add(CurvePoint { step, time: 0.0, value });
    /// }
    /// assert_eq!(curve.buckets()[0].mean(), 3.0);
    /// ```
    #[must_use]
    pub fn mean(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count beyond 2^53 takes centuries")]
        let finite = (self.count - self.nonfinite) as f64;
        self.sum / finite
    }

    /// Returns the values that the bucket keeps, each once, by step and time.
    ///
    /// ```
    /// use logcore_runs::{Curve, CurvePoint};
    ///
    /// let mut curve = Curve::new("trainer", "metrics/loss", 0, 1);
    /// for (step, value) in [(1, 2.0), (2, 9.0), (3, 2.5), (4, 1.0)] {
    ///     curve.add(CurvePoint { step, time: 0.0, value });
    /// }
    /// let steps: Vec<_> = curve.buckets()[0].points().map(|point| point.step).collect();
    /// assert_eq!(steps, [1, 2, 4]);
    /// ```
    pub fn points(&self) -> impl Iterator<Item = CurvePoint> + use<> {
        let mut points: Vec<CurvePoint> = Vec::with_capacity(4);
        for point in [Some(self.first), self.min, self.max, Some(self.last)]
            .into_iter()
            .flatten()
        {
            let is_same = |own: &CurvePoint| {
                (own.step, own.time.to_bits(), own.value.to_bits())
                    == (point.step, point.time.to_bits(), point.value.to_bits())
            };
            if !points.iter().any(is_same) {
                points.push(point);
            }
        }
        points.sort_by(|a, b| a.step.cmp(&b.step).then(a.time.total_cmp(&b.time)));
        points.into_iter()
    }
}

/// The values of one metric of one logger and rank, thinned to a bounded number of buckets.
///
/// ```
/// use logcore_runs::{Curve, CurvePoint};
///
/// let mut curve = Curve::new("trainer", "metrics/loss", 0, 8);
/// for step in 0..1000 {
///     let value = if step == 617 { 50.0 } else { 1.0 };
///     curve.add(CurvePoint { step, time: 0.0, value });
/// }
/// assert_eq!((curve.width(), curve.buckets().len(), curve.count()), (128, 8, 1000));
/// let spike = curve.buckets().iter().filter_map(|bucket| bucket.max).find(|max| max.value > 1.0);
/// assert_eq!(spike.unwrap().step, 617);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    logger: String,
    name: String,
    rank: u32,
    buckets: Vec<CurveBucket>,
    /// Values of a full bucket.
    width: u64,
    /// Most buckets.
    limit: usize,
}

impl Curve {
    /// Creates a curve without values, of at most `buckets` buckets, and at least one.
    #[must_use]
    pub fn new(logger: impl Into<String>, name: impl Into<String>, rank: u32, buckets: usize) -> Self {
        Self {
            logger: logger.into(),
            name: name.into(),
            rank,
            buckets: Vec::new(),
            width: 1,
            limit: buckets.max(1),
        }
    }

    /// Adds the next value.
    pub fn add(&mut self, point: CurvePoint) {
        loop {
            if let Some(last) = self.buckets.last_mut()
                && last.count < self.width
            {
                return last.add_point(point);
            }
            if self.buckets.len() < self.limit {
                return self.buckets.push(CurveBucket::new(point));
            }
            self.halve();
        }
    }

    /// Thins the curve to at most `buckets` buckets, and at least one.
    ///
    /// ```
    /// use logcore_runs::{Curve, CurvePoint};
    ///
    /// let mut curve = Curve::new("trainer", "metrics/loss", 0, 100);
    /// (0..100).for_each(|step| curve.add(CurvePoint { step, time: 0.0, value: 1.0 }));
    /// curve.thin(10);
    /// assert_eq!((curve.width(), curve.buckets().len()), (16, 7));
    /// ```
    pub fn thin(&mut self, buckets: usize) {
        self.limit = buckets.max(1);
        while self.buckets.len() > self.limit {
            self.halve();
        }
        self.buckets.shrink_to_fit();
    }

    fn halve(&mut self) {
        let half = self.buckets.len().div_ceil(2);
        for at in 0..half {
            let mut bucket = self.buckets[2 * at];
            if let Some(later) = self.buckets.get(2 * at + 1) {
                bucket.add(later);
            }
            self.buckets[at] = bucket;
        }
        self.buckets.truncate(half);
        self.width *= 2;
    }

    /// Returns the name of the logger.
    #[must_use]
    pub fn logger(&self) -> &str {
        &self.logger
    }

    /// Returns the name of the metric, as the row has it: `metrics/loss`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the rank whose values these are.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// Returns the buckets, in the order of the values.
    #[must_use]
    pub fn buckets(&self) -> &[CurveBucket] {
        &self.buckets
    }

    /// Returns the number of buckets that have memory.
    #[cfg(feature = "report")]
    pub(crate) fn capacity(&self) -> usize {
        self.buckets.capacity()
    }

    /// Returns the number of values of a full bucket; 1 as long as nothing is thinned.
    #[must_use]
    pub fn width(&self) -> u64 {
        self.width
    }

    /// Returns the number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.count).sum()
    }

    /// Returns the number of values that are not finite.
    #[must_use]
    pub fn nonfinite(&self) -> u64 {
        self.buckets.iter().map(|bucket| bucket.nonfinite).sum()
    }
}

impl StoredRun {
    /// Reads the curves of a rank, in the order in which the metrics appear. Each has at most
    /// `buckets` buckets.
    ///
    /// The memory holds the buckets and one row for each logger, however long the run is.
    ///
    /// ```
    /// # let folder = tempfile::tempdir().unwrap();
    /// use logcore_runs::StoredRun;
    /// use std::fs;
    ///
    /// fs::write(folder.path().join("run.json"), r#"{"state":"finished"}"#).unwrap();
    /// let rows = [(1, 0.9), (2, 0.5), (3, 7.0), (4, 0.4)].map(|(step, loss)| {
    ///     format!("{{\"step\":{step},\"time\":1.0,\"logger\":\"a\",\"loss\":{loss}}}\n")
    /// });
    /// fs::write(folder.path().join("metrics.jsonl"), rows.concat()).unwrap();
    ///
    /// let curves = StoredRun::open(folder.path())?.curves(0, 2)?.curves;
    /// assert_eq!((curves[0].name(), curves[0].count()), ("loss", 4));
    /// assert_eq!(curves[0].buckets()[1].max.unwrap().value, 7.0);
    /// # Ok::<(), logcore_runs::RunError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If a file cannot be read. A rank without rows has no curves.
    pub fn curves(&self, rank: u32, buckets: usize) -> Result<RunCurves, RunError> {
        let mut curves = CurveSet::new(buckets, usize::MAX, usize::MAX);
        curves.begin(rank);
        let mut rows = self.rows(rank)?;
        for row in &mut rows {
            curves.add(&row?);
        }
        Ok(RunCurves {
            curves: curves.curves,
            left_out: rows.left_out().clone(),
        })
    }
}

/// The curves of a rank; returned by [`StoredRun::curves`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RunCurves {
    /// The curves, in the order in which the metrics appear.
    pub curves: Vec<Curve>,
    /// Lines that could not be read as rows.
    pub left_out: LeftOutLines,
}

/// The curves of several ranks and runs, with a bound on all their buckets together.
#[derive(Debug)]
pub(crate) struct CurveSet {
    pub(crate) curves: Vec<Curve>,
    /// Most buckets of a curve.
    pub(crate) limit: usize,
    /// Number of all buckets.
    held: usize,
    /// Most buckets of all curves. Curves of one bucket each are always held.
    most: usize,
    /// Most curves.
    most_curves: usize,
    /// Number of curves that are not held because there are too many.
    pub(crate) left_out: u64,
    /// Number of curves that are not held because their name is too long.
    pub(crate) too_long: u64,
    rank: u32,
    /// Places of the current rank's curves, by logger and name; `None` for a curve that is not
    /// held.
    places: HashMap<String, HashMap<String, Option<usize>>>,
    /// Places of the values of the last row. The next row is most often like that one.
    last_places: Vec<Option<usize>>,
}

/// Longest name of a metric or logger that a set with a bound holds, in bytes.
pub(crate) const MAX_NAME: usize = 1024;

impl CurveSet {
    pub(crate) fn new(limit: usize, most: usize, most_curves: usize) -> Self {
        Self {
            curves: Vec::new(),
            limit: limit.max(1),
            held: 0,
            most,
            most_curves,
            left_out: 0,
            too_long: 0,
            rank: 0,
            places: HashMap::new(),
            last_places: Vec::new(),
        }
    }

    /// Begins with the curves of another rank or run.
    pub(crate) fn begin(&mut self, rank: u32) {
        self.rank = rank;
        self.places.clear();
        self.last_places.clear();
    }

    pub(crate) fn add(&mut self, row: &StoredRow) {
        for (at, (name, value)) in row.values.iter().enumerate() {
            let guess = self.last_places.get(at).copied().flatten();
            let is_right =
                |place: &usize| self.curves[*place].name == *name && self.curves[*place].logger == row.logger;
            let place = guess.filter(is_right).or_else(|| self.find_place(&row.logger, name));
            match self.last_places.get_mut(at) {
                Some(last) => *last = place,
                None => self.last_places.push(place),
            }
            let Some(curve) = place.map(|place| &mut self.curves[place]) else {
                continue;
            };
            let before = curve.buckets.len();
            curve.add(CurvePoint {
                step: row.step,
                time: row.time,
                value: value.as_f64(),
            });
            self.held = self.held - before + curve.buckets.len();
        }
        while self.held > self.most && self.limit > 1 {
            self.halve();
        }
    }

    /// Returns the place of a curve, which is made if there is none yet; `None` if it is not held.
    fn find_place(&mut self, logger: &str, name: &str) -> Option<usize> {
        if !self.places.contains_key(logger) {
            self.places.insert(logger.to_owned(), HashMap::new());
        }
        let places = self.places.get_mut(logger)?;
        if let Some(place) = places.get(name) {
            return *place;
        }
        let is_bounded = self.most_curves < usize::MAX;
        let is_long = logger.len().max(name.len()) > MAX_NAME;
        let has_room = self.curves.len() < self.most_curves && !(is_bounded && is_long);
        let place = has_room.then_some(self.curves.len());
        match place {
            Some(_) => self.curves.push(Curve::new(logger, name, self.rank, self.limit)),
            None if is_bounded && is_long => self.too_long += 1,
            None => self.left_out += 1,
        }
        places.insert(name.to_owned(), place);
        place
    }

    /// Thins all curves to half as many buckets as they may have now.
    pub(crate) fn halve(&mut self) {
        self.limit = (self.limit / 2).max(1);
        let limit = self.limit;
        self.curves.iter_mut().for_each(|curve| curve.thin(limit));
        self.held = self.curves.iter().map(|curve| curve.buckets.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn curve(values: &[f64], buckets: usize) -> Curve {
        let mut curve = Curve::new("a", "loss", 0, buckets);
        for (step, value) in (0..).zip(values) {
            curve.add(point(step, *value));
        }
        curve
    }

    fn point(step: u64, value: f64) -> CurvePoint {
        let time = f64::from(u32::try_from(step).unwrap()) / 2.0;
        CurvePoint { step, time, value }
    }

    /// Computes the bucket of some values from all of them.
    fn naive_bucket(first_step: u64, values: &[f64]) -> CurveBucket {
        let points: Vec<_> = (first_step..)
            .zip(values)
            .map(|(step, value)| point(step, *value))
            .collect();
        let finite: Vec<_> = points.iter().copied().filter(|point| point.value.is_finite()).collect();
        let extreme = |is_better: fn(f64, f64) -> bool| {
            finite
                .iter()
                .copied()
                .reduce(|best, next| match is_better(next.value, best.value) {
                    true => next,
                    false => best,
                })
        };
        CurveBucket {
            first: points[0],
            last: points[points.len() - 1],
            min: extreme(|a, b| a < b),
            max: extreme(|a, b| a > b),
            count: points.len() as u64,
            nonfinite: (points.len() - finite.len()) as u64,
            // An empty sum is -0.0.
            sum: finite.iter().map(|point| point.value).sum::<f64>() + 0.0,
        }
    }

    /// Text that tells NaN from other values and is equal for equal buckets.
    fn show(buckets: &[CurveBucket]) -> String {
        format!("{buckets:?}")
    }

    fn some_value() -> impl Strategy<Value = f64> {
        // Integers, so that a sum does not depend on the order.
        prop_oneof![
            8 => (-50_i32..50).prop_map(f64::from),
            1 => Just(f64::NAN),
            1 => Just(f64::INFINITY),
            1 => Just(f64::NEG_INFINITY),
        ]
    }

    proptest! {
        #[test]
        fn a_curve_is_what_all_values_give(
            values in prop::collection::vec(some_value(), 0..300),
            buckets in 1_usize..20,
            thinned in 1_usize..20,
        ) {
            let mut curve = curve(&values, buckets);
            for limit in [buckets, thinned] {
                curve.thin(limit);
                let width = usize::try_from(curve.width()).unwrap();
                prop_assert!(width.is_power_of_two() && curve.buckets().len() <= limit);
                let naive: Vec<_> = values
                    .chunks(width)
                    .zip(0_u64..)
                    .map(|(values, at)| naive_bucket(at * curve.width(), values))
                    .collect();
                prop_assert_eq!(show(curve.buckets()), show(&naive));
            }
            prop_assert_eq!(curve.count(), values.len() as u64);
            prop_assert_eq!(curve.nonfinite(), values.iter().filter(|value| !value.is_finite()).count() as u64);
        }

        #[test]
        fn a_set_stays_within_its_bound(rows in 1_u64..200, names in 1_usize..6, most in 6_usize..40) {
            let mut set = CurveSet::new(1 << 16, most, 1 << 16);
            set.begin(0);
            for step in 0..rows {
                let mut row = StoredRow::new(step, 0.0, "a");
                row.values = (0..names).map(|name| (name.to_string(), logcore::MetricValue::Float(1.0))).collect();
                set.add(&row);
                prop_assert!(set.held <= most);
            }
            prop_assert_eq!(set.held, set.curves.iter().map(|curve| curve.buckets().len()).sum::<usize>());
            prop_assert!(set.curves.iter().all(|curve| curve.count() == rows));
        }
    }

    #[test]
    fn no_spike_of_a_long_run_is_hidden() {
        let mut values = vec![1.0; 100_000];
        let spikes: Vec<u64> = (0..100).map(|at| at * 997 + 13).collect();
        for (spike, sign) in spikes.iter().zip([50.0, -50.0].into_iter().cycle()) {
            values[usize::try_from(*spike).unwrap()] = sign;
        }
        let whole = curve(&values, 1 << 17);
        assert_eq!(whole.width(), 1);
        let points = |curve: &Curve| curve.buckets().iter().flat_map(CurveBucket::points).collect::<Vec<_>>();
        assert_eq!(
            points(&whole).iter().filter(|point| point.value.abs() > 1.0).count(),
            100
        );

        let thinned = curve(&values, 1000);
        assert_eq!(thinned.width(), 128);
        for spike in spikes {
            let bucket = &thinned.buckets()[usize::try_from(spike / 128).unwrap()];
            let extremes = [bucket.min, bucket.max].map(|extreme| extreme.unwrap().step);
            assert!(extremes.contains(&spike), "{spike}: {extremes:?}");
        }
        assert_eq!(
            points(&thinned).iter().filter(|point| point.value.abs() > 1.0).count(),
            100
        );
    }
}
