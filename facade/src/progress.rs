//! The meter of a progress, where the feature `progress` has one; the same face without it, with nothing behind.

#[cfg(feature = "progress")]
pub(crate) use self::with::{Meter, State};
#[cfg(not(feature = "progress"))]
pub(crate) use self::without::{Meter, State};

#[cfg(feature = "progress")]
mod with {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use logcore::{LogConfig, MetricValue, ProgressEvent, ProgressKind};
    use logcore_progress::MeterOptions;

    /// The progress that a logger shows.
    pub(crate) struct Meter {
        inner: logcore_progress::Meter,
        description: Arc<str>,
        ended: bool,
    }

    /// What the sinks are to be told of a progress.
    pub(crate) struct State {
        event: ProgressEvent<'static>,
        description: Arc<str>,
    }

    impl State {
        pub(crate) fn lend<T>(&self, logger: &str, use_it: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
            use_it(&self.event.with_texts(logger, &self.description))
        }
    }

    impl Meter {
        pub(crate) fn start(config: &LogConfig, total: Option<u64>, description: String) -> Self {
            static NEXT: AtomicU64 = AtomicU64::new(0);
            let options = MeterOptions {
                window: config.progress_window,
                smoothing: config.progress_smoothing,
                slot: config.progress_position,
                leave: config.progress_leave,
            };
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            Self {
                description: description.as_str().into(),
                inner: logcore_progress::Meter::start(id, description, total, options, Instant::now()),
                ended: false,
            }
        }

        /// Takes an update; returns whether the sinks should be told, and whether this ended it.
        pub(crate) fn update(&mut self, n: u64, batch: Option<u64>) -> (bool, bool) {
            let now = Instant::now();
            self.inner.update(n, batch, now);
            let ends = !self.ended && self.inner.is_complete();
            self.ended |= ends;
            (ends || self.inner.due(now), ends)
        }

        /// Ends it; returns whether it was still going.
        pub(crate) fn end(&mut self) -> bool {
            !std::mem::replace(&mut self.ended, true)
        }

        pub(crate) fn state(&mut self, kind: ProgressKind) -> State {
            State {
                event: self.inner.measured_event(kind, "").with_texts("", ""),
                description: Arc::clone(&self.description),
            }
        }

        pub(crate) fn figures(&mut self) -> impl Iterator<Item = (&'static str, MetricValue)> + use<> {
            self.inner.figures().iter()
        }
    }
}

#[cfg(not(feature = "progress"))]
mod without {
    use logcore::{LogConfig, MetricValue, ProgressEvent, ProgressKind};

    pub(crate) struct Meter;

    pub(crate) struct State;

    impl State {
        pub(crate) fn lend<T>(&self, logger: &str, use_it: impl FnOnce(&ProgressEvent<'_>) -> T) -> T {
            use_it(&ProgressEvent::new(ProgressKind::Advanced, 0, logger, ""))
        }
    }

    #[allow(clippy::unused_self)]
    impl Meter {
        pub(crate) fn start(_: &LogConfig, _: Option<u64>, _: String) -> Self {
            Self
        }

        pub(crate) fn update(&mut self, _: u64, _: Option<u64>) -> (bool, bool) {
            (false, false)
        }

        pub(crate) fn end(&mut self) -> bool {
            false
        }

        pub(crate) fn state(&mut self, _: ProgressKind) -> State {
            State
        }

        pub(crate) fn figures(&mut self) -> impl Iterator<Item = (&'static str, MetricValue)> + use<> {
            std::iter::empty()
        }
    }
}
