use std::collections::VecDeque;
use std::time::{Duration, Instant};

use logcore::{MetricValue, ProgressEvent, ProgressKind};

use crate::pace_history::PaceHistory;

/// The sinks are told at most this often.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// An early interval that is so many times slower than the typical one is a warm-up (a compilation, a cold cache).
const WARM_UP_FACTOR: f64 = 4.0;
/// How many of the first intervals may be warm-up.
const WARM_UPS: usize = 10;
/// A window is not allocated beyond this before it is used.
const PREALLOCATED: usize = 1024;

/// How a progress is measured and shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MeterOptions {
    /// Updates that rates are taken over; at least 1.
    pub window: usize,
    /// How readily the ETA believes in a new rate: 0 trusts the whole run, 1 only the newest window.
    pub smoothing: f64,
    /// The line of the bar among several.
    pub slot: u32,
    /// Whether the bar stays when it is done.
    pub leave: bool,
}

/// Measures a progress. An update is arithmetic: it allocates nothing and costs nanoseconds.
///
/// ```
/// use logcore_progress::{Meter, MeterOptions};
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let options = MeterOptions { window: 100, smoothing: 0.3, slot: 0, leave: true };
/// let mut meter = Meter::start(1, "Training", Some(100), options, start);
/// for i in 1..=50 {
///     meter.update(1, Some(32), start + Duration::from_millis(10 * i));
/// }
/// let derived_metrics = meter.derived_metrics();
/// assert_eq!(derived_metrics.percent, Some(50.0));
/// assert_eq!(derived_metrics.accumulated_samples, Some(1600));
/// assert_eq!(derived_metrics.samples_per_sec.unwrap().round(), 3200.0);
/// assert_eq!(derived_metrics.batch_time_ms.unwrap().round(), 10.0);
/// assert_eq!((derived_metrics.eta_seconds.unwrap() * 10.0).round(), 5.0);
/// ```
#[derive(Debug)]
pub struct Meter {
    id: u64,
    description: String,
    total: Option<u64>,
    options: MeterOptions,
    started: Instant,
    /// The start and the first update, moved by all that is left out.
    began: Instant,
    first: MeterSample,
    now: MeterSample,
    has_samples: bool,
    /// Samples of the progresses before this one.
    samples_before: u64,
    updates: u64,
    /// The ends of the updates in the window, and of the one before it.
    window: VecDeque<MeterSample>,
    /// When the sinks are to be told again; at first, at once.
    tell_at: Option<Instant>,
    /// All intervals after the first update.
    history: PaceHistory,
}

/// Where the progress stood at one moment.
#[derive(Debug, Clone, Copy)]
struct MeterSample {
    at: Instant,
    position: u64,
    samples: u64,
}

/// What a row of metrics gets of a progress. What is not known is `None`; the rest is finite and not negative.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct DerivedMetrics {
    /// Samples a second over the window.
    pub samples_per_sec: Option<f64>,
    /// Milliseconds a unit over the window.
    pub batch_time_ms: Option<f64>,
    /// All batch sizes so far, those of the progresses before it included.
    pub accumulated_samples: Option<u64>,
    /// Seconds that are still to go.
    pub eta_seconds: Option<f64>,
    /// How much of the total is done, up to 100.
    pub percent: Option<f64>,
}

impl DerivedMetrics {
    /// The known derived_metrics under their names.
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

/// WorkSample that was done, and the time that it took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkSample {
    /// Units.
    pub units: u64,
    /// Samples, if they are counted.
    pub samples: Option<u64>,
    /// The time that it took.
    pub time: Duration,
}

impl Meter {
    /// A progress that begins now. A total of 0 is an unknown one.
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
            began: now,
            first: beginning,
            now: beginning,
            has_samples: false,
            samples_before: 0,
            updates: 0,
            window: VecDeque::with_capacity(options.window.saturating_add(1).min(PREALLOCATED)),
            tell_at: None,
            history: PaceHistory::new(),
        }
    }

    /// It has come `n` units further, in which `batch` samples were done.
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

    /// The accumulated samples of its derived_metrics count on from those of progresses before it.
    #[must_use]
    pub fn with_prior_samples(mut self, samples_before: u64) -> Self {
        self.samples_before = samples_before;
        self
    }

    /// The accumulated samples, those before it included.
    pub fn accumulated_samples(&self) -> u64 {
        self.samples_before.saturating_add(self.now.samples)
    }

    /// For so long it has stood still until now, because another progress ran within it: no rate shall count that. The ETA
    /// takes it for a pause, because there may be more of them.
    pub fn exclude_pause(&mut self, pause: Duration) {
        let marks = self.window.iter_mut().chain([&mut self.first, &mut self.now]);
        for at in marks.map(|mark| &mut mark.at).chain([&mut self.began]) {
            *at = at.checked_add(pause).unwrap_or(*at);
        }
        if self.updates > 0 {
            self.history.add(0, u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// The work between the first update and the last, and the time that it took; one update counts from the start.
    pub fn work(&self) -> WorkSample {
        let from = match self.updates {
            0 | 1 => MeterSample {
                at: self.began,
                position: 0,
                samples: 0,
            },
            _ => self.first,
        };
        WorkSample {
            units: self.now.position - from.position,
            samples: self.has_samples.then(|| self.now.samples - from.samples),
            time: self.now.at.saturating_duration_since(from.at),
        }
    }

    /// How far it has come.
    pub fn position(&self) -> u64 {
        self.now.position
    }

    /// Whether it has reached its total.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| self.now.position >= total)
    }

    /// Whether it is time to tell the sinks: at the first update, then at most ten times a second.
    #[inline]
    pub fn due(&mut self, now: Instant) -> bool {
        let due = self.tell_at.is_none_or(|at| now >= at);
        if due {
            self.tell_at = now.checked_add(TELL_EVERY);
        }
        due
    }

    /// What a row of metrics gets.
    pub fn derived_metrics(&mut self) -> DerivedMetrics {
        // What was never updated has nothing to tell, not even that it stands at 0.
        if self.updates == 0 {
            return DerivedMetrics::default();
        }
        let stretch = self.stretch();
        let samples = stretch.filter(|_| self.has_samples);
        DerivedMetrics {
            samples_per_sec: samples.and_then(|stretch| positive(stretch.samples / stretch.seconds)),
            batch_time_ms: stretch.and_then(|stretch| positive(stretch.seconds / stretch.units * 1e3)),
            accumulated_samples: self.has_samples.then(|| self.accumulated_samples()),
            eta_seconds: self.eta(stretch),
            percent: self.event(ProgressKind::Advanced, "").percent(),
        }
    }

    /// What the sinks are told.
    pub fn event<'a>(&'a self, kind: ProgressKind, logger: &'a str) -> ProgressEvent<'a> {
        let mut event = ProgressEvent::new(kind, self.id, logger, &self.description);
        event.position = self.now.position;
        event.total = self.total;
        event.samples = self.has_samples.then_some(self.now.samples);
        event.elapsed = self.now.at.saturating_duration_since(self.started);
        event.line = self.options.slot;
        event.leave = self.options.leave;
        event
    }

    /// The same with rates and ETA.
    pub fn measured_event<'a>(&'a mut self, kind: ProgressKind, logger: &'a str) -> ProgressEvent<'a> {
        let derived_metrics = self.derived_metrics();
        let mut event = self.event(kind, logger);
        event.samples_per_sec = derived_metrics.samples_per_sec.filter(|rate| *rate > 0.0);
        event.rate = derived_metrics.batch_time_ms.and_then(|millis| positive(1e3 / millis));
        event.eta = derived_metrics
            .eta_seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        event
    }

    fn eta(&mut self, stretch: Option<WindowRate>) -> Option<f64> {
        let remaining = self.total?.saturating_sub(self.now.position);
        if remaining == 0 {
            return Some(0.0);
        }
        let remaining = remaining as f64;
        let forecast = if self.options.smoothing < 1.0 {
            self.history.forecast(self.options.smoothing, self.now.at)
        } else {
            None
        };
        let seconds = match forecast {
            Some(forecast) => forecast.seconds(remaining),
            None => remaining * stretch.map(|stretch| stretch.seconds / stretch.units)?,
        };
        // Nothing takes no time: then the clock has stood still.
        positive(seconds).filter(|seconds| *seconds > 0.0)
    }

    /// The work over the window, without the start-up. The first update says nothing: it may be a leap to where an
    /// earlier process has stopped, and the start may be long before the loop.
    fn stretch(&self) -> Option<WindowRate> {
        let newest = self.window.back()?;
        let from = &self.window[self.warm_ups().min(self.window.len().checked_sub(2)?)];
        WindowRate::between(from, newest)
    }

    /// How many intervals at the beginning of the window are warm-up.
    fn warm_ups(&self) -> usize {
        // The first interval of the window is number `updates - intervals` of the run, from 0.
        let intervals = self.window.len() - 1;
        let before = usize::try_from(self.updates - 1).unwrap_or(usize::MAX) - intervals;
        if before >= WARM_UPS || intervals < 3 {
            return 0;
        }
        let pace = |i: usize| WindowRate::between(&self.window[i], &self.window[i + 1]).map(|s| s.seconds / s.units);
        // The newest are enough to know what is typical, however large the window is.
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
        // After the last interval that is far too slow, but never so that nothing is left.
        let early = (WARM_UPS - before).min(intervals - 1);
        (0..early)
            .rev()
            .find(|i| pace(*i).is_some_and(|pace| pace > limit))
            .map_or(0, |last| last + 1)
    }
}

/// What was done in a stretch of time that is longer than nothing.
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
        slot: 0,
        leave: true,
    };

    /// A meter after updates of 1 unit and 32 samples that took so many milliseconds each.
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
    fn slow_first_steps_do_not_spoil_the_rate() {
        for slow in [vec![30_000], vec![30_000, 20_000, 9_000], vec![10, 30_000]] {
            let mut millis = slow.clone();
            millis.extend([10; 20]);
            let derived_metrics = after(OPTIONS, Some(100), &millis).derived_metrics();
            assert!(
                (derived_metrics.batch_time_ms.unwrap() - 10.0).abs() < 1e-6,
                "{slow:?}: {derived_metrics:?}"
            );
            assert!((derived_metrics.samples_per_sec.unwrap() - 3200.0).abs() < 1e-3);
        }
    }

    #[test]
    fn the_first_interval_has_no_rate() {
        let mut meter = after(OPTIONS, Some(10), &[500]);
        let derived_metrics = meter.derived_metrics();
        assert_eq!(
            (
                derived_metrics.samples_per_sec,
                derived_metrics.batch_time_ms,
                derived_metrics.eta_seconds
            ),
            (None, None, None)
        );
        assert_eq!(
            (derived_metrics.accumulated_samples, derived_metrics.percent),
            (Some(32), Some(10.0))
        );
        meter.update(1, Some(32), meter.now.at + Duration::from_millis(250));
        let derived_metrics = meter.derived_metrics();
        assert_eq!(
            (derived_metrics.samples_per_sec, derived_metrics.eta_seconds),
            (Some(128.0), Some(2.0))
        );
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
        // Five seconds in two hundred steps: as much again in the hundred that are left would be half of that.
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

    /// The ETA behind these steps, of a hundred more.
    fn eta_after(millis: &[u64]) -> f64 {
        let total = millis.len() as u64 + 100;
        after(OPTIONS, Some(total), millis)
            .derived_metrics()
            .eta_seconds
            .unwrap()
    }

    #[test]
    fn neither_a_warm_up_nor_what_came_before_the_start_spoils_the_eta() {
        let warm_up = [&[30_000, 20_000, 9_000, 4_000][..], &[10; 100]].concat();
        assert!((eta_after(&warm_up) - 1.0).abs() < 1e-6);
        // A run that is resumed begins with a leap.
        let start = Instant::now();
        let mut meter = Meter::start(1, "x", Some(1000), OPTIONS, start);
        meter.update(500, None, start);
        for i in 1..=5 {
            meter.update(1, None, start + Duration::from_millis(10 * i));
        }
        assert!((meter.derived_metrics().eta_seconds.unwrap() - 4.95).abs() < 1e-6);
    }

    #[test]
    fn pauses_count_by_their_share() {
        let steps: Vec<u64> = (1..=411).map(|i| if i % 50 == 0 { 510 } else { 10 }).collect();
        let expected = 100.0 * (0.01 + 8.0 * 0.5 / 410.0);
        assert!((eta_after(&steps) - expected).abs() < 0.05, "{}", eta_after(&steps));
        // Whether a pause was just now or long ago makes no difference to speak of.
        let before = eta_after(&steps[..349]);
        assert!((eta_after(&steps[..351]) / before - 1.0).abs() < 0.1, "{before}");
    }

    #[test]
    fn a_trend_goes_on() {
        let steps: Vec<u64> = (0..400).map(|i| 1000 + i).collect();
        let rest: f64 = (400..500).map(|i| f64::from(1000 + i) / 1e3).sum();
        assert!((eta_after(&steps) / rest - 1.0).abs() < 0.01);
    }

    #[test]
    fn the_eta_is_the_same_however_often_it_was_asked_for() {
        let mut millis: Vec<u64> = (0..700_u64).map(|i| 10 + i * 7919 % 13).collect();
        // An ETA is 100 ms old at most.
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
    fn what_cannot_be_known_is_absent() {
        let now = Instant::now();
        assert_eq!(
            Meter::start(1, "x", Some(9), OPTIONS, now).derived_metrics(),
            DerivedMetrics::default()
        );
        let mut meter = Meter::start(1, "x", Some(0), OPTIONS, now);
        meter.update(5, None, now);
        meter.update(5, None, now);
        // The clock stands still, the total is unknown, and there are no samples.
        assert_eq!(meter.derived_metrics(), DerivedMetrics::default());
        assert!(!meter.is_complete());
    }

    #[test]
    fn more_than_the_total_is_all_of_it() {
        let mut meter = after(OPTIONS, Some(3), &[10; 5]);
        let derived_metrics = meter.derived_metrics();
        assert_eq!(
            (derived_metrics.percent, derived_metrics.eta_seconds),
            (Some(100.0), Some(0.0))
        );
        assert!(meter.is_complete() && meter.position() == 5);
    }

    #[test]
    fn it_is_due_at_first_and_then_ten_times_a_second() {
        let start = Instant::now();
        let mut meter = Meter::start(1, "x", None, OPTIONS, start);
        let due = (0..1000)
            .filter(|i| meter.due(start + Duration::from_millis(*i)))
            .count();
        assert_eq!(due, 10);
    }

    proptest! {
        #[test]
        fn figures_are_finite_whatever_happens(
            updates in prop::collection::vec((any::<u64>(), prop::option::of(any::<u64>()), 0_u64..5_000_000_000), 0..60),
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
    }
}
