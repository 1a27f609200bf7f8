//! The open progresses of a logger: the outermost, whose positions are steps, and those nested in
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use logcore::{LogConfig, MetricValue, ProgressEvent, ProgressKind};
use logcore_progress::{Meter, MeterOptions, Throughput};

/// A progress that begins.
#[derive(Clone, Copy)]
pub(crate) struct ProgressBegin<'a> {
    /// Number of units that are done already.
    pub(crate) position: u64,
    /// Number of units of the whole work, above 0; `None` if it is unknown.
    pub(crate) total: Option<u64>,
    pub(crate) description: &'a str,
}

/// The open progresses, outermost first.
#[derive(Default)]
pub(crate) struct ProgressStack {
    /// The newest progress that counts steps. It stays here after its end.
    outermost: Option<ProgressLevel>,
    /// The progresses nested in it, the innermost last. Only the innermost may be over: it stays
    /// until the next update or start, so that a `finish_progress` after its loop ends nothing
    /// else.
    nested: Vec<ProgressLevel>,
}

struct ProgressLevel {
    /// The description without digits, which is the same for all epochs.
    kind: String,
    total: Option<u64>,
    position: u64,
    began: Instant,
    is_over: bool,
    meter: Option<ProgressMeter>,
}

/// An update of a progress for the sinks.
pub(crate) enum ProgressUpdate {
    /// A nested progress has moved.
    Nested {
        snapshot: ProgressSnapshot,
        is_lasting: bool,
    },
    /// The progress that counts steps has moved.
    Outermost(ProgressKind),
}

/// Result of advancing the innermost nested progress.
pub(crate) enum NestedAdvance {
    /// No progress is nested, so the update is for the outermost one.
    NotNested,
    /// The progress has moved; the sinks need no update yet.
    NotDue,
    /// The sinks need this update.
    Due(ProgressUpdate),
}

impl ProgressStack {
    /// Returns `true` if the innermost progress has to end before one of this description starts:
    /// its total is unknown, or the new progress replaces it or an outer one.
    pub(crate) fn must_end_before(&mut self, description: &str) -> bool {
        self.remove_over();
        let kind = kind_of(description);
        let open = || self.outermost.iter().filter(|level| !level.is_over).chain(&self.nested);
        open().last().is_some_and(|innermost| innermost.total.is_none()) || open().any(|level| level.kind == kind)
    }

    /// Returns `true` if a progress that starts now is nested in another.
    pub(crate) fn is_open(&self) -> bool {
        self.outermost.as_ref().is_some_and(|level| !level.is_over)
    }

    /// Returns the sum of the positions of the progresses that are kept.
    #[cfg(feature = "health")]
    pub(crate) fn position(&self) -> u64 {
        let positions = self.outermost.iter().chain(&self.nested).map(|level| level.position);
        positions.fold(0, u64::saturating_add)
    }

    /// Returns `true` if the open progress is measured.
    pub(crate) fn is_measured(&self) -> bool {
        self.is_open() && self.has_meter()
    }

    /// Pushes a progress; with no open progress, the new one replaces the outermost.
    pub(crate) fn start(&mut self, begin: ProgressBegin<'_>, meter: Option<ProgressMeter>) {
        let level = ProgressLevel {
            kind: kind_of(begin.description),
            total: begin.total,
            position: begin.position,
            began: Instant::now(),
            is_over: false,
            meter,
        };
        match self.is_open() {
            true => self.nested.push(level),
            false => self.outermost = Some(level),
        }
    }

    /// Returns the state of the progress that has just started.
    pub(crate) fn started(&mut self) -> Option<ProgressSnapshot> {
        let newest = self.nested.last_mut().or(self.outermost.as_mut())?;
        Some(newest.meter.as_mut()?.snapshot(ProgressKind::Started))
    }

    /// Returns `true` if no progress is nested, so that the next update is for the outermost one.
    #[inline]
    pub(crate) fn has_no_nested(&self) -> bool {
        self.nested.is_empty()
    }

    /// Advances the innermost nested progress.
    #[cold]
    pub(crate) fn advance_nested(&mut self, n: u64, batch: Option<u64>) -> NestedAdvance {
        self.remove_over();
        let Some(level) = self.nested.last_mut() else {
            return NestedAdvance::NotNested;
        };
        let (is_due, ends) = level.advance(n, batch);
        let kind = if ends {
            ProgressKind::Finished
        } else {
            ProgressKind::Advanced
        };
        let update = level
            .meter
            .as_mut()
            .filter(|_| is_due)
            .map(|meter| ProgressUpdate::Nested {
                snapshot: meter.snapshot(kind),
                is_lasting: ends,
            });
        if ends {
            self.resume_outer();
        }
        update.map_or(NestedAdvance::NotDue, NestedAdvance::Due)
    }

    /// Advances the outermost progress.
    #[inline]
    pub(crate) fn advance_outermost(&mut self, n: u64, batch: Option<u64>) -> Option<ProgressUpdate> {
        let (is_due, ends) = self.outermost.as_mut()?.advance(n, batch);
        is_due.then_some(ProgressUpdate::Outermost(if ends {
            ProgressKind::Finished
        } else {
            ProgressKind::Advanced
        }))
    }

    /// Ends the innermost progress, if it is open.
    pub(crate) fn end_innermost(&mut self) -> Option<ProgressUpdate> {
        let Some(level) = self.nested.last_mut() else {
            let level = self.outermost.as_mut().filter(|level| !level.is_over)?;
            level.is_over = true;
            let has_meter = level.meter.is_some();
            return has_meter.then_some(ProgressUpdate::Outermost(ProgressKind::Finished));
        };
        if !level.is_over {
            self.resume_outer();
        }
        let level = self.nested.pop()?;
        let mut meter = level.meter.filter(|_| !level.is_over)?;
        Some(ProgressUpdate::Nested {
            snapshot: meter.snapshot(ProgressKind::Finished),
            is_lasting: true,
        })
    }

    /// Returns the meter of the outermost progress.
    #[inline]
    pub(crate) fn meter(&mut self) -> Option<&mut ProgressMeter> {
        self.outermost.as_mut()?.meter.as_mut()
    }

    /// Returns the meter of the outermost progress, which stays after its end.
    pub(crate) fn last_meter(&self) -> Option<&ProgressMeter> {
        self.outermost.as_ref()?.meter.as_ref()
    }

    /// Returns `true` if the outermost progress has a meter.
    #[inline]
    pub(crate) fn has_meter(&self) -> bool {
        matches!(&self.outermost, Some(level) if level.meter.is_some())
    }

    /// Excludes the time of the innermost progress, which ends now, from the pace of the progress
    /// around it.
    fn resume_outer(&mut self) {
        let (Some(innermost), outer) = (self.nested.last(), self.nested.len().saturating_sub(2)) else {
            return;
        };
        let pause = innermost.began.elapsed();
        let outer = match self.nested.len() {
            0 | 1 => self.outermost.as_mut(),
            _ => self.nested.get_mut(outer),
        };
        if let Some(meter) = outer.and_then(|level| level.meter.as_mut()) {
            meter.exclude_pause(pause);
        }
    }

    fn remove_over(&mut self) {
        self.nested.retain(|level| !level.is_over);
    }
}

impl ProgressLevel {
    /// Returns whether the sinks should get the update, and whether the update ends the progress.
    #[inline]
    fn advance(&mut self, n: u64, batch: Option<u64>) -> (bool, bool) {
        self.position = self.position.saturating_add(n);
        let is_due = self.meter.as_mut().is_some_and(|meter| meter.update(n, batch));
        // The sinks no longer show a progress that is over.
        if self.is_over {
            return (false, false);
        }
        self.is_over = self.total.is_some_and(|total| self.position >= total);
        (self.meter.is_some() && (self.is_over || is_due), self.is_over)
    }
}

fn kind_of(description: &str) -> String {
    description.chars().filter(|c| !c.is_numeric()).collect()
}

/// The meter of one progress, with its description.
pub(crate) struct ProgressMeter {
    meter: Meter,
    description: Arc<str>,
}

/// The state of a progress at one moment, for the sinks.
pub(crate) struct ProgressSnapshot {
    event: ProgressEvent<'static>,
    description: Arc<str>,
}

impl ProgressSnapshot {
    pub(crate) fn with_event<T>(&self, logger: &str, use_event: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
        use_event(&self.event.with_texts(logger, &self.description))
    }
}

impl ProgressMeter {
    /// Starts a progress now. Its samples count on from those of earlier progresses.
    pub(crate) fn start(config: &LogConfig, begin: ProgressBegin<'_>, samples_before: u64) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let options = MeterOptions {
            window: config.progress_window,
            smoothing: config.progress_smoothing,
            line: config.progress_position,
            leave: config.progress_leave,
        };
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        // The snapshot adds the description, so that the meter needs none.
        let meter = Meter::start(id, "", begin.total, options, Instant::now())
            .with_position(begin.position)
            .with_prior_samples(samples_before);
        Self {
            meter,
            description: begin.description.into(),
        }
    }

    /// Takes an update; returns `true` if an event for the sinks is due.
    #[inline]
    pub(crate) fn update(&mut self, n: u64, batch: Option<u64>) -> bool {
        let now = Instant::now();
        self.meter.update(n, batch, now);
        self.meter.due(now)
    }

    #[cfg(feature = "health")]
    pub(crate) fn position(&self) -> u64 {
        self.meter.position()
    }

    fn exclude_pause(&mut self, pause: Duration) {
        self.meter.exclude_pause(pause);
    }

    /// Counts on from another number of samples than at the start.
    pub(crate) fn set_prior_samples(&mut self, samples: u64) {
        self.meter.set_prior_samples(samples);
    }

    pub(crate) fn accumulated_samples(&self) -> u64 {
        self.meter.accumulated_samples()
    }

    pub(crate) fn add_to(&self, throughput: &mut Throughput) {
        throughput.add(self.meter.work());
    }

    pub(crate) fn snapshot(&mut self, kind: ProgressKind) -> ProgressSnapshot {
        ProgressSnapshot {
            event: self.meter.measured_event(kind, "").with_texts("", ""),
            description: Arc::clone(&self.description),
        }
    }

    /// Returns the metrics that follow from the progress: throughput, ETA, percentage.
    pub(crate) fn derived_metrics(&mut self) -> impl Iterator<Item = (&'static str, MetricValue)> + use<> {
        self.meter.derived_metrics().iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a progress without a meter as the logger does; returns the number of open progresses.
    fn start(stack: &mut ProgressStack, total: impl Into<Option<u64>>, description: &str) -> usize {
        while stack.must_end_before(description) {
            stack.end_innermost();
        }
        let begin = ProgressBegin {
            position: 0,
            total: total.into(),
            description,
        };
        stack.start(begin, None);
        1 + stack.nested.len()
    }

    #[test]
    fn a_start_within_an_open_progress_is_nested() {
        let mut stack = ProgressStack::default();
        assert_eq!(start(&mut stack, 3, "Epochs"), 1);
        assert_eq!(start(&mut stack, 100, "Epoch 0"), 2);
        assert_eq!(start(&mut stack, 10, "Validate"), 3);
        // The next epoch replaces the last one, and ends the progress nested in it.
        assert_eq!(start(&mut stack, 100, "Epoch 1"), 2);
        assert_eq!(stack.nested[0].kind, "Epoch ");
        assert_eq!(start(&mut stack, 3, "Epochs"), 1);
    }

    #[test]
    fn a_start_ends_a_progress_without_a_total() {
        let mut stack = ProgressStack::default();
        start(&mut stack, None, "Reading");
        assert_eq!(start(&mut stack, 10, "Train"), 1);
        assert_eq!(start(&mut stack, None, "Checking"), 2);
        assert_eq!(start(&mut stack, 5, "Saving"), 2);
    }

    #[test]
    fn an_end_after_a_loop_ends_the_progress_of_the_loop() {
        let mut stack = ProgressStack::default();
        start(&mut stack, 30, "Train");
        start(&mut stack, 2, "Validate");
        stack.advance_nested(2, None);
        stack.end_innermost();
        assert!(stack.is_open() && stack.has_no_nested());
        stack.advance_outermost(30, None);
        assert!(!stack.is_open());
        stack.end_innermost();
        // Without an end of its own, the next update is for the outer progress.
        start(&mut stack, 30, "Train");
        start(&mut stack, 2, "Validate");
        stack.advance_nested(2, None);
        assert!(matches!(stack.advance_nested(1, None), NestedAdvance::NotNested));
        assert!(stack.has_no_nested());
    }
}
