//! The meter of a progress, where the feature `progress` has one; the same face without it, with nothing behind.

#[cfg(feature = "progress")]
pub(crate) use self::with::{Meter, State};
#[cfg(not(feature = "progress"))]
pub(crate) use self::without::{Meter, State, Throughput};
#[cfg(feature = "progress")]
pub(crate) use logcore_progress::Throughput;

#[cfg(feature = "progress")]
mod with {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::{Duration, Instant};

    use logcore::{LogConfig, MetricValue, ProgressEvent, ProgressKind};
    use logcore_progress::{MeterOptions, Throughput};

    /// The progress that a logger shows.
    pub(crate) struct Meter {
        inner: logcore_progress::Meter,
        description: Arc<str>,
    }

    /// What the sinks are to be told of a progress.
    pub(crate) struct State {
        event: ProgressEvent<'static>,
        description: Arc<str>,
    }

    impl State {
        pub(crate) fn with_record<T>(&self, logger: &str, use_it: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
            use_it(&self.event.with_texts(logger, &self.description))
        }
    }

    impl Meter {
        /// A progress that begins now; its samples count on from those of progresses before it.
        pub(crate) fn start(config: &LogConfig, total: Option<u64>, description: &str, samples_before: u64) -> Self {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let options = MeterOptions {
                window: config.progress_window,
                smoothing: config.progress_smoothing,
                line: config.progress_position,
                leave: config.progress_leave,
            };
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            Self {
                description: description.into(),
                inner: logcore_progress::Meter::start(id, description, total, options, Instant::now())
                    .with_prior_samples(samples_before),
            }
        }

        /// Takes an update; returns whether it is time to tell the sinks.
        #[inline]
        pub(crate) fn update(&mut self, n: u64, batch: Option<u64>) -> bool {
            let now = Instant::now();
            self.inner.update(n, batch, now);
            self.inner.due(now)
        }

        /// It stood still for so long.
        pub(crate) fn exclude_pause(&mut self, pause: Duration) {
            self.inner.exclude_pause(pause);
        }

        pub(crate) fn accumulated_samples(&self) -> u64 {
            self.inner.accumulated_samples()
        }

        pub(crate) fn add_to(&self, throughput: &mut Throughput) {
            throughput.add(self.inner.work());
        }

        pub(crate) fn state(&mut self, kind: ProgressKind) -> State {
            State {
                event: self.inner.measured_event(kind, "").with_texts("", ""),
                description: Arc::clone(&self.description),
            }
        }

        pub(crate) fn figures(&mut self) -> impl Iterator<Item = (&'static str, MetricValue)> + use<> {
            self.inner.derived_metrics().iter()
        }
    }
}

#[cfg(not(feature = "progress"))]
mod without {
    use std::time::Duration;

    use logcore::{LogConfig, MetricValue, ProgressEvent, ProgressKind};

    pub(crate) struct Meter;

    #[derive(Clone, Copy, Default)]
    pub(crate) struct Throughput;

    #[allow(clippy::unused_self)]
    impl Throughput {
        pub(crate) fn units_per_sec(&self) -> Option<f64> {
            None
        }

        pub(crate) fn samples_per_sec(&self) -> Option<f64> {
            None
        }
    }

    pub(crate) struct State;

    impl State {
        pub(crate) fn with_record<T>(&self, logger: &str, use_it: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
            use_it(&ProgressEvent::new(ProgressKind::Advanced, 0, logger, ""))
        }
    }

    #[allow(clippy::unused_self)]
    impl Meter {
        pub(crate) fn start(_: &LogConfig, _: Option<u64>, _: &str, _: u64) -> Self {
            Self
        }

        pub(crate) fn update(&mut self, _: u64, _: Option<u64>) -> bool {
            false
        }

        pub(crate) fn exclude_pause(&mut self, _: Duration) {}

        pub(crate) fn accumulated_samples(&self) -> u64 {
            0
        }

        pub(crate) fn add_to(&self, _: &mut Throughput) {}

        pub(crate) fn state(&mut self, _: ProgressKind) -> State {
            State
        }

        pub(crate) fn figures(&mut self) -> impl Iterator<Item = (&'static str, MetricValue)> + use<> {
            std::iter::empty()
        }
    }
}
