//! Measuring a progress: rates over a window of updates, and the estimated time to its end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use logcore::{MetricValue, ProgressEvent, ProgressKind};

use crate::pace_history::PaceHistory;

/// Minimum time between two events for the sinks.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// An early update that takes this many times longer than the typical one is a warm-up (a
/// compilation, a cold cache).
const WARM_UP_FACTOR: f64 = 4.0;
/// Maximum number of updates at the start that may be a warm-up.
const WARM_UPS: usize = 10;
/// Maximum number of samples for which a window allocates memory in advance.
const PREALLOCATED: usize = 1024;

/// Options for measuring a progress.
///
/// ```
/// use logcore_progress::MeterOptions;
///
/// let options = MeterOptions { window: 20, ..MeterOptions::default() };
/// assert_eq!((options.smoothing, options.line, options.leave), (0.3, 0, true));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeterOptions {
    /// Number of updates that the rates are averaged over; at least 1.
    pub window: usize,
    /// Weight of new rates in the ETA, from 0 (the whole run counts) to 1 (only the window counts).
    pub smoothing: f64,
    /// Position of the bar among several bars, from 0 (topmost).
    pub line: u32,
    /// `true` if a line about the progress stays on the terminal after its end.
    pub leave: bool,
}

impl Default for MeterOptions {
    /// The defaults of the config: `progress_window`, `progress_smoothing`, `progress_position`,
    /// `progress_leave`.
    fn default() -> Self {
        Self {
            window: 100,
            smoothing: 0.3,
            line: 0,
            leave: true,
        }
    }
}

/// Measures a progress. An update is arithmetic only: it takes nanoseconds, and allocates no memory
/// once the window is full.
///
/// The caller passes the time, so tests need no clock.
///
/// ```
/// use logcore_progress::{Meter, MeterOptions};
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let mut meter = Meter::start(1, "Training", Some(100), MeterOptions::default(), start);
/// for i in 1..=50 {
///     meter.update(1, Some(32), start + Duration::from_millis(10 * i));
/// }
/// let metrics = meter.derived_metrics();
/// assert_eq!(metrics.percent, Some(50.0));
/// assert_eq!(metrics.accumulated_samples, Some(1600));
/// assert_eq!(metrics.samples_per_sec.unwrap().round(), 3200.0);
/// assert_eq!(metrics.batch_time_ms.unwrap().round(), 10.0);
/// assert_eq!((metrics.eta_seconds.unwrap() * 10.0).round(), 5.0);
/// ```
#[derive(Debug)]
pub struct Meter {
    id: u64,
    description: String,
    total: Option<u64>,
    options: MeterOptions,
    started: Instant,
    /// The start and the first update. Both are moved forward by the pauses that are excluded.
    beginning: MeterSample,
    first: MeterSample,
    now: MeterSample,
    has_samples: bool,
    /// Number of samples of earlier progresses.
    samples_before: u64,
    updates: u64,
    /// The ends of the updates in the window, and of the update before the window.
    window: VecDeque<MeterSample>,
    /// Time of the next event for the sinks. `None` before the first.
    next_event_at: Option<Instant>,
    /// All updates after the first one.
    history: PaceHistory,
}

/// Position and samples of the progress at one moment.
#[derive(Debug, Clone, Copy)]
struct MeterSample {
    at: Instant,
    position: u64,
    samples: u64,
}

/// The metrics of a progress in a row of metrics. An unknown metric is `None`; the others are
/// finite and not negative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DerivedMetrics {
    /// Samples per second, over the window.
    pub samples_per_sec: Option<f64>,
    /// Milliseconds per unit, over the window.
    pub batch_time_ms: Option<f64>,
    /// Sum of all batch sizes so far, including those of earlier progresses.
    pub accumulated_samples: Option<u64>,
    /// Estimated seconds to the end.
    pub eta_seconds: Option<f64>,
    /// Percentage of the total that is done, from 0 to 100.
    pub percent: Option<f64>,
}

impl DerivedMetrics {
    /// Iterates over the metrics that are known, with their names.
    ///
    /// ```
    /// use logcore_progress::DerivedMetrics;
    ///
    /// let metrics = DerivedMetrics { percent: Some(50.0), ..DerivedMetrics::default() };
    /// let names: Vec<_> = metrics.iter().map(|(name, _)| name).collect();
    /// assert_eq!(names, ["progress/percent"]);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, MetricValue)> + use<> {
        [
            (
                "throughput/samples_per_sec",
                self.samples_per_sec.map(MetricValue::from),
            ),
            ("throughput/batch_time_ms", self.batch_time_ms.map(MetricValue::from)),
            (
                "throughput/accumulated_samples",
                self.accumulated_samples.map(MetricValue::from),
            ),
            ("progress/eta_seconds", self.eta_seconds.map(MetricValue::from)),
            ("progress/percent", self.percent.map(MetricValue::from)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// An amount of work, and the time that it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkSample {
    /// Number of units.
    pub units: u64,
    /// Number of samples, if they are counted.
    pub samples: Option<u64>,
    /// Duration of the work.
    pub time: Duration,
}

impl Meter {
    /// Starts a progress. A total of 0 is treated as unknown. `id` must be unique among the
    /// progresses of the process.
    #[must_use]
    pub fn start(
        id: u64,
        description: impl Into<String>,
        total: Option<u64>,
        options: MeterOptions,
        now: Instant,
    ) -> Self {
        let beginning = MeterSample {
            at: now,
            position: 0,
            samples: 0,
        };
        Self {
            id,
            description: description.into(),
            total: total.filter(|total| *total > 0),
            options,
            started: now,
            beginning,
            first: beginning,
            now: beginning,
            has_samples: false,
            samples_before: 0,
            updates: 0,
            window: VecDeque::with_capacity(options.window.saturating_add(1).min(PREALLOCATED)),
            next_event_at: None,
            history: PaceHistory::new(),
        }
    }

    /// Advances the progress by `n` units, which were `batch` samples.
    #[inline]
    pub fn update(&mut self, n: u64, batch: Option<u64>, now: Instant) {
        let before = self.now;
        self.now.at = now.max(before.at);
        self.now.position = before.position.saturating_add(n);
        if self.updates > 0 {
            // 64 bits of nanoseconds are 584 years.
            let nanos = self.now.at.duration_since(before.at).as_nanos() as u64;
            self.history.add(self.now.position - before.position, nanos);
        }
        self.updates += 1;
        if let Some(batch) = batch {
            self.has_samples = true;
            self.now.samples = self.now.samples.saturating_add(batch);
        }
        if self.updates == 1 {
            self.first = self.now;
        }
        if self.window.len() > self.options.window {
            self.window.pop_front();
        }
        self.window.push_back(self.now);
    }

    /// Sets the number of samples of earlier progresses, from which `accumulated_samples`
    /// continues.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use logcore_progress::{Meter, MeterOptions};
    ///
    /// let now = Instant::now();
    /// let mut meter = Meter::start(1, "Epoch 2", None, MeterOptions::default(), now).with_prior_samples(1000);
    /// meter.update(1, Some(32), now);
    /// assert_eq!(meter.accumulated_samples(), 1032);
    /// ```
    #[must_use]
    pub fn with_prior_samples(mut self, samples_before: u64) -> Self {
        self.samples_before = samples_before;
        self
    }

    /// Replaces the number of samples of earlier progresses, because some of them are done again.
    ///
    /// ```
    /// use std::time::Instant;
    ///
    /// use logcore_progress::{Meter, MeterOptions};
    ///
    /// let now = Instant::now();
    /// let mut meter = Meter::start(1, "Epoch 2", None, MeterOptions::default(), now).with_prior_samples(1000);
    /// meter.set_prior_samples(600);
    /// assert_eq!(meter.accumulated_samples(), 600);
    /// ```
    pub fn set_prior_samples(&mut self, samples_before: u64) {
        self.samples_before = samples_before;
    }

    /// Sets the position at which the progress begins, because an earlier process has done the
    /// units before. They count for the percentage, and for no rate.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use logcore_progress::{Meter, MeterOptions};
    ///
    /// let start = Instant::now();
    /// let mut meter = Meter::start(1, "Training", Some(1000), MeterOptions::default(), start).with_position(500);
    /// meter.update(5, None, start + Duration::from_secs(1));
    /// assert_eq!((meter.position(), meter.work().units), (505, 5));
    /// ```
    #[must_use]
    pub fn with_position(mut self, position: u64) -> Self {
        for sample in [&mut self.beginning, &mut self.first, &mut self.now] {
            sample.position = position;
        }
        self
    }

    /// Returns the number of samples so far, including those of earlier progresses.
    #[must_use]
    pub fn accumulated_samples(&self) -> u64 {
        self.samples_before.saturating_add(self.now.samples)
    }

    /// Excludes a pause that ends now from all rates, because another progress ran within this one.
    /// The ETA includes it as a pause, because more of them may follow.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use logcore_progress::{Meter, MeterOptions};
    ///
    /// let start = Instant::now();
    /// let mut meter = Meter::start(1, "Epochs", Some(10), MeterOptions::default(), start);
    /// meter.update(1, None, start + Duration::from_secs(1));
    /// meter.exclude_pause(Duration::from_secs(60)); // A validation.
    /// meter.update(1, None, start + Duration::from_secs(62));
    /// assert_eq!(meter.derived_metrics().batch_time_ms, Some(1000.0));
    /// ```
    pub fn exclude_pause(&mut self, pause: Duration) {
        let marks = [&mut self.beginning, &mut self.first, &mut self.now];
        for sample in self.window.iter_mut().chain(marks) {
            sample.at = sample.at.checked_add(pause).unwrap_or(sample.at);
        }
        if self.updates > 0 {
            self.history.add(0, u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Returns the work between the first update and the last one. A single update counts from the
    /// start.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use logcore_progress::{Meter, MeterOptions};
    ///
    /// let start = Instant::now();
    /// let mut meter = Meter::start(1, "Training", None, MeterOptions::default(), start);
    /// for second in 1..=3 {
    ///     meter.update(5, None, start + Duration::from_secs(second));
    /// }
    /// assert_eq!((meter.work().units, meter.work().time), (10, Duration::from_secs(2)));
    /// ```
    #[must_use]
    pub fn work(&self) -> WorkSample {
        let from = match self.updates {
            0 | 1 => self.beginning,
            _ => self.first,
        };
        WorkSample {
            units: self.now.position - from.position,
            samples: self.has_samples.then(|| self.now.samples - from.samples),
            time: self.now.at.saturating_duration_since(from.at),
        }
    }

    /// Returns the number of units so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.now.position
    }

    /// Returns `true` if the total is reached.
    #[must_use]
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| self.now.position >= total)
    }

    /// Returns `true` if the sinks should get an event now: at the first call, then at most ten
    /// times a second.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use logcore_progress::{Meter, MeterOptions};
    ///
    /// let start = Instant::now();
    /// let mut meter = Meter::start(1, "Training", None, MeterOptions::default(), start);
    /// assert!(meter.due(start));
    /// assert!(!meter.due(start + Duration::from_millis(50)));
    /// assert!(meter.due(start + Duration::from_millis(100)));
    /// ```
    #[inline]
    pub fn due(&mut self, now: Instant) -> bool {
        let due = self.next_event_at.is_none_or(|at| now >= at);
        if due {
            self.next_event_at = now.checked_add(EVENT_INTERVAL);
        }
        due
    }

    /// Returns the metrics for a row, such as rates and ETA. Before the first update all are
    /// unknown.
    pub fn derived_metrics(&mut self) -> DerivedMetrics {
        if self.updates == 0 {
            return DerivedMetrics::default();
        }
        let rate = self.window_rate();
        let samples = rate.filter(|_| self.has_samples);
        DerivedMetrics {
            samples_per_sec: samples.and_then(|rate| positive(rate.samples / rate.seconds)),
            batch_time_ms: rate.and_then(|rate| positive(rate.seconds / rate.units * 1e3)),
            accumulated_samples: self.has_samples.then(|| self.accumulated_samples()),
            eta_seconds: self.eta(rate),
            percent: self.event(ProgressKind::Advanced, "").percent(),
        }
    }

    /// Returns an event for the sinks, without rates and ETA.
    #[must_use]
    pub fn event<'a>(&'a self, kind: ProgressKind, logger: &'a str) -> ProgressEvent<'a> {
        let mut event = ProgressEvent::new(kind, self.id, logger, &self.description);
        event.position = self.now.position;
        event.total = self.total;
        event.samples = self.has_samples.then_some(self.now.samples);
        event.elapsed = self.now.at.saturating_duration_since(self.started);
        event.line = self.options.line;
        event.leave = self.options.leave;
        event
    }

    /// Returns an event for the sinks, with rates and ETA.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use logcore::ProgressKind;
    /// use logcore_progress::{Meter, MeterOptions};
    ///
    /// let start = Instant::now();
    /// let mut meter = Meter::start(1, "Training", Some(10), MeterOptions::default(), start);
    /// meter.update(1, None, start + Duration::from_secs(1));
    /// meter.update(1, None, start + Duration::from_secs(2));
    /// let event = meter.measured_event(ProgressKind::Advanced, "trainer");
    /// assert_eq!((event.rate, event.eta), (Some(1.0), Some(Duration::from_secs(8))));
    /// ```
    pub fn measured_event<'a>(&'a mut self, kind: ProgressKind, logger: &'a str) -> ProgressEvent<'a> {
        let metrics = self.derived_metrics();
        let mut event = self.event(kind, logger);
        event.samples_per_sec = metrics.samples_per_sec.filter(|rate| *rate > 0.0);
        event.rate = metrics.batch_time_ms.and_then(|millis| positive(1e3 / millis));
        event.eta = metrics
            .eta_seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        event
    }

    fn eta(&mut self, rate: Option<WindowRate>) -> Option<f64> {
        let remaining = self.total?.saturating_sub(self.now.position);
        if remaining == 0 {
            return Some(0.0);
        }
        let remaining = remaining as f64;
        let forecast = if self.options.smoothing < 1.0 {
            self.history.forecast(self.options.smoothing, remaining, self.now.at)
        } else {
            None
        };
        let seconds = match forecast {
            Some(forecast) => forecast.seconds(remaining),
            None => remaining * rate.map(|rate| rate.seconds / rate.units)?,
        };
        // An ETA of 0 before the end means that the clock has not advanced.
        positive(seconds).filter(|seconds| *seconds > 0.0)
    }

    /// Returns the rate over the window, without the warm-up.
    ///
    /// The first update does not count: it may jump to the position of an earlier process, and the
    /// start may be long before the loop.
    fn window_rate(&self) -> Option<WindowRate> {
        let newest = self.window.back()?;
        let from = &self.window[self.warm_ups().min(self.window.len().checked_sub(2)?)];
        WindowRate::between(from, newest)
    }

    /// Returns the number of updates at the start of the window that are a warm-up.
    fn warm_ups(&self) -> usize {
        // The first interval of the window has the number `updates - intervals` in the run, from 0.
        let intervals = self.window.len() - 1;
        let before = usize::try_from(self.updates - 1).unwrap_or(usize::MAX) - intervals;
        if before >= WARM_UPS || intervals < 3 {
            return 0;
        }
        let pace = |i: usize| WindowRate::between(&self.window[i], &self.window[i + 1]).map(|s| s.seconds / s.units);
        // The typical pace is the median of the newest intervals, however large the window is.
        let mut paces = [0.0; 2 * WARM_UPS];
        let mut known = 0;
        let newest = (intervals.saturating_sub(paces.len())..intervals).filter_map(pace);
        for (slot, pace) in paces.iter_mut().zip(newest) {
            *slot = pace;
            known += 1;
        }
        if known == 0 {
            return 0;
        }
        let (_, typical, _) = paces[..known].select_nth_unstable_by(known / 2, f64::total_cmp);
        let limit = *typical * WARM_UP_FACTOR;
        // The warm-up ends after the last slow interval, but at least one interval is left.
        let early = (WARM_UPS - before).min(intervals - 1);
        (0..early)
            .rev()
            .find(|i| pace(*i).is_some_and(|pace| pace > limit))
            .map_or(0, |last| last + 1)
    }
}

/// The work between two samples; the time is above zero.
#[derive(Debug, Clone, Copy)]
struct WindowRate {
    seconds: f64,
    units: f64,
    samples: f64,
}

impl WindowRate {
    fn between(from: &MeterSample, to: &MeterSample) -> Option<Self> {
        let seconds = to.at.saturating_duration_since(from.at).as_secs_f64();
        let units = to.position - from.position;
        (seconds > 0.0 && units > 0).then(|| Self {
            seconds,
            units: units as f64,
            samples: (to.samples - from.samples) as f64,
        })
    }
}

fn positive(value: f64) -> Option<f64> {
    (value.is_finite() && value >= 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPTIONS: MeterOptions = MeterOptions {
        window: 100,
        smoothing: 0.3,
        line: 0,
        leave: true,
    };

    /// Returns a meter after updates of 1 unit and 32 samples each, which took the given
    /// milliseconds.
    fn after(options: MeterOptions, total: Option<u64>, millis: &[u64]) -> Meter {
        let mut now = Instant::now();
        let mut meter = Meter::start(1, "x", total, options, now);
        for millis in millis {
            now += Duration::from_millis(*millis);
            meter.update(1, Some(32), now);
        }
        meter
    }

    #[test]
    fn the_rate_ignores_slow_first_steps() {
        for slow in [vec![30_000], vec![30_000, 20_000, 9_000], vec![10, 30_000]] {
            let mut millis = slow.clone();
            millis.extend([10; 20]);
            let metrics = after(OPTIONS, Some(100), &millis).derived_metrics();
            assert!(
                (metrics.batch_time_ms.unwrap() - 10.0).abs() < 1e-6,
                "{slow:?}: {metrics:?}"
            );
            assert!((metrics.samples_per_sec.unwrap() - 3200.0).abs() < 1e-3);
        }
    }

    #[test]
    fn the_first_interval_has_no_rate() {
        let mut meter = after(OPTIONS, Some(10), &[500]);
        let metrics = meter.derived_metrics();
        assert_eq!(
            (metrics.samples_per_sec, metrics.batch_time_ms, metrics.eta_seconds),
            (None, None, None)
        );
        assert_eq!((metrics.accumulated_samples, metrics.percent), (Some(32), Some(10.0)));
        meter.update(1, Some(32), meter.now.at + Duration::from_millis(250));
        let metrics = meter.derived_metrics();
        assert_eq!((metrics.samples_per_sec, metrics.eta_seconds), (Some(128.0), Some(2.0)));
    }

    #[test]
    fn work_is_of_the_time_between_the_first_update_and_the_last() {
        let work = |millis: &[u64]| after(OPTIONS, None, millis).work();
        assert_eq!(work(&[]), WorkSample::default());
        let of = |units, millis| WorkSample {
            units,
            samples: Some(32 * units),
            time: Duration::from_millis(millis),
        };
        assert_eq!(work(&[500]), of(1, 500));
        assert_eq!(work(&[500, 1, 50, 1]), of(3, 52));
    }

    #[test]
    fn what_is_left_out_is_in_no_rate_and_a_pause_for_the_eta() {
        let (mut plain, mut paused) = (
            after(OPTIONS, Some(300), &[10; 100]),
            after(OPTIONS, Some(300), &[10; 100]),
        );
        paused.exclude_pause(Duration::from_secs(5));
        let elapsed = |meter: &Meter| meter.event(ProgressKind::Advanced, "").elapsed;
        assert_eq!(elapsed(&paused) - elapsed(&plain), Duration::from_secs(5));
        for meter in [&mut plain, &mut paused] {
            for _ in 0..100 {
                meter.update(1, Some(32), meter.now.at + Duration::from_millis(10));
            }
        }
        assert_eq!(paused.work(), plain.work());
        let (plain, paused) = (plain.derived_metrics(), paused.derived_metrics());
        assert_eq!(paused.samples_per_sec, plain.samples_per_sec);
        // Five seconds in two hundred steps: as much again in the hundred that are left would be
        // half of that.
        let more = paused.eta_seconds.unwrap() - plain.eta_seconds.unwrap();
        assert!((more - 2.5).abs() < 0.2, "{more}");
    }

    #[test]
    fn samples_count_on_from_an_earlier_progress() {
        let mut meter = after(OPTIONS, None, &[10; 2]).with_prior_samples(1000);
        assert_eq!(meter.derived_metrics().accumulated_samples, Some(1064));
        assert_eq!(meter.event(ProgressKind::Advanced, "").samples, Some(64));
    }

    #[test]
    fn the_window_forgets_and_smoothing_chooses_what_the_eta_trusts() {
        let mut millis = vec![10; 200];
        millis.extend([40; 50]);
        let eta = |smoothing, window| {
            let options = MeterOptions {
                window,
                smoothing,
                ..OPTIONS
            };
            after(options, Some(350), &millis)
                .derived_metrics()
                .eta_seconds
                .unwrap()
        };
        assert!((eta(1.0, 20) - 4.0).abs() < 1e-6, "only the newest");
        let whole = (199.0 * 0.01 + 50.0 * 0.04) / 249.0 * 100.0;
        assert!((eta(0.0, 20) - whole).abs() < 1e-6, "the whole run");
        assert!(
            (eta(0.3, 20) - 4.0).abs() < 1e-6,
            "a change that is certain is believed"
        );
    }

    /// Returns the ETA of a hundred more steps after these.
    fn eta_after(millis: &[u64]) -> f64 {
        let total = millis.len() as u64 + 100;
        after(OPTIONS, Some(total), millis)
            .derived_metrics()
            .eta_seconds
            .unwrap()
    }

    #[test]
    fn the_eta_ignores_a_warm_up_and_the_jump_of_a_resumed_run() {
        let warm_up = [&[30_000, 20_000, 9_000, 4_000][..], &[10; 100]].concat();
        assert!((eta_after(&warm_up) - 1.0).abs() < 1e-6);
        // A resumed run begins with a jump.
        let start = Instant::now();
        let mut meter = Meter::start(1, "x", Some(1000), OPTIONS, start);
        meter.update(500, None, start);
        for i in 1..=5 {
            meter.update(1, None, start + Duration::from_millis(10 * i));
        }
        assert!((meter.derived_metrics().eta_seconds.unwrap() - 4.95).abs() < 1e-6);
    }

    #[test]
    fn the_eta_includes_pauses_by_their_share() {
        let steps: Vec<u64> = (1..=411).map(|i| if i % 50 == 0 { 510 } else { 10 }).collect();
        let expected = 100.0 * (0.01 + 8.0 * 0.5 / 410.0);
        assert!((eta_after(&steps) - expected).abs() < 0.05, "{}", eta_after(&steps));
        // The time since the last pause makes hardly any difference.
        let before = eta_after(&steps[..349]);
        assert!((eta_after(&steps[..351]) / before - 1.0).abs() < 0.1, "{before}");
    }

    #[test]
    fn the_eta_continues_a_trend() {
        let steps: Vec<u64> = (0..400).map(|i| 1000 + i).collect();
        let rest: f64 = (400..500).map(|i| f64::from(1000 + i) / 1e3).sum();
        assert!((eta_after(&steps) / rest - 1.0).abs() < 0.01);
    }

    #[test]
    fn the_eta_expects_a_pace_that_has_turned_to_turn_again() {
        let stretches = |paces: &[u64]| -> Vec<u64> { paces.iter().flat_map(|pace| [*pace; 80]).collect() };
        let turning = eta_after(&stretches(&[10, 20, 10, 20, 10, 20]));
        assert!((1.4..1.8).contains(&turning), "not 2 s: {turning}");
        let changed = eta_after(&stretches(&[10, 10, 10, 10, 10, 20]));
        assert!((changed - 2.0).abs() < 1e-6, "{changed}");
    }

    #[test]
    fn the_eta_does_not_take_one_slow_segment_for_a_slower_pace() {
        let mut steps: Vec<u64> = vec![10; 400];
        // The second of two slow updates in a row is no pause.
        (steps[396], steps[397]) = (50, 900);
        // A pace of the newest segments alone would mean 30 s.
        assert!(eta_after(&steps) < 2.0, "{}", eta_after(&steps));
    }

    #[test]
    fn the_eta_does_not_depend_on_how_often_it_is_computed() {
        let mut millis: Vec<u64> = (0..700_u64).map(|i| 10 + i * 7919 % 13).collect();
        // A forecast is reused for 100 ms.
        millis.push(100);
        let asked_once = after(OPTIONS, Some(1000), &millis).derived_metrics();
        let mut now = Instant::now();
        let mut meter = Meter::start(1, "x", Some(1000), OPTIONS, now);
        let mut newest = DerivedMetrics::default();
        for millis in millis {
            now += Duration::from_millis(millis);
            meter.update(1, Some(32), now);
            newest = meter.derived_metrics();
        }
        assert_eq!(newest, asked_once);
    }

    #[test]
    fn unknown_metrics_are_none() {
        let now = Instant::now();
        assert_eq!(
            Meter::start(1, "x", Some(9), OPTIONS, now).derived_metrics(),
            DerivedMetrics::default()
        );
        let mut meter = Meter::start(1, "x", Some(0), OPTIONS, now);
        meter.update(5, None, now);
        meter.update(5, None, now);
        // The clock has not advanced, the total is unknown, and there are no samples.
        assert_eq!(meter.derived_metrics(), DerivedMetrics::default());
        assert!(!meter.is_complete());
    }

    #[test]
    fn a_position_beyond_the_total_is_100_percent() {
        let mut meter = after(OPTIONS, Some(3), &[10; 5]);
        let metrics = meter.derived_metrics();
        assert_eq!((metrics.percent, metrics.eta_seconds), (Some(100.0), Some(0.0)));
        assert!(meter.is_complete() && meter.position() == 5);
    }

    #[test]
    fn due_allows_ten_events_per_second() {
        let start = Instant::now();
        let mut meter = Meter::start(1, "x", None, OPTIONS, start);
        let due = (0..1000)
            .filter(|i| meter.due(start + Duration::from_millis(*i)))
            .count();
        assert_eq!(due, 10);
    }

    proptest! {
        #[test]
        fn derived_metrics_are_finite_for_any_updates(
            updates in prop::collection::vec(
                (any::<u64>(), prop::option::of(any::<u64>()), 0_u64..5_000_000_000),
                0..60,
            ),
            total: Option<u64>,
            window in 1_usize..20,
            smoothing in 0.0..=1.0,
        ) {
            let mut now = Instant::now();
            let mut meter = Meter::start(1, "x", total, MeterOptions { window, smoothing, ..OPTIONS }, now);
            for (n, batch, nanos) in updates {
                now += Duration::from_nanos(nanos);
                meter.update(n, batch, now);
                for (name, value) in meter.derived_metrics().iter() {
                    prop_assert!(value.as_f64().is_finite() && value.as_f64() >= 0.0, "{} {:?}", name, value);
                }
                let event = meter.measured_event(ProgressKind::Advanced, "t");
                prop_assert!(event.rate.is_none_or(|rate| rate.is_finite() && rate > 0.0));
            }
        }

        #[test]
        fn the_eta_of_any_run_is_finite_and_0_at_its_end(
            updates in prop::collection::vec(
                (0_u64..4, prop_oneof![Just(0), 0_u64..2_000_000, 0_u64..5_000_000_000]),
                0..700,
            ),
            total in 1_u64..1500,
            resumed in 0_u64..500,
        ) {
            let mut now = Instant::now();
            let mut meter = Meter::start(1, "x", Some(total), OPTIONS, now).with_position(resumed);
            for (n, nanos) in updates {
                now += Duration::from_nanos(nanos);
                meter.update(n, None, now);
                let eta = meter.derived_metrics().eta_seconds;
                prop_assert!(eta.is_none_or(|eta| eta.is_finite() && eta >= 0.0), "{eta:?}");
                prop_assert!(!meter.is_complete() || eta == Some(0.0), "{eta:?}");
            }
        }
    }
}
