use crate::Estimator;

const SMOOTHING: f64 = 0.3;
const MIN_INTERVAL: f64 = 0.1;
/// How often its monitor looks whether a bar has not been printed for as long.
const MAX_INTERVAL: f64 = 10.0;

/// The estimator of tqdm 4 (`tqdm.update` and `EMA` in `tqdm/std.py`, `TMonitor` in
/// `tqdm/_monitor.py`) with its defaults: moving averages of the steps and the seconds between two
/// prints, which are at least 0.1 s apart.
#[derive(Debug)]
pub(crate) struct Tqdm {
    total: u64,
    position: u64,
    printed: u64,
    printed_at: f64,
    monitor_at: f64,
    /// Steps that are not even looked at.
    min_steps: f64,
    steps: Average,
    seconds: Average,
    steps_a_print: Average,
}

impl Tqdm {
    /// A bar of this length.
    pub(crate) fn new(total: u64) -> Self {
        Self {
            total,
            position: 0,
            printed: 0,
            printed_at: 0.0,
            monitor_at: MAX_INTERVAL,
            min_steps: 0.0,
            steps: Average::default(),
            seconds: Average::default(),
            steps_a_print: Average::default(),
        }
    }

    fn monitor(&mut self, at: f64) {
        while self.monitor_at <= at {
            if self.min_steps > 1.0 && self.monitor_at - self.printed_at >= MAX_INTERVAL {
                self.min_steps = 1.0;
            }
            self.monitor_at += MAX_INTERVAL;
        }
    }
}

impl Estimator for Tqdm {
    fn step(&mut self, at: f64) {
        self.monitor(at);
        self.position += 1;
        let steps = (self.position - self.printed) as f64;
        let seconds = at - self.printed_at;
        if steps < self.min_steps || seconds < MIN_INTERVAL {
            return;
        }
        self.steps.add(steps);
        self.seconds.add(seconds);
        self.min_steps = if seconds >= MAX_INTERVAL {
            steps * MIN_INTERVAL / seconds
        } else {
            self.steps_a_print.add(steps * MIN_INTERVAL / seconds);
            self.steps_a_print.value()
        };
        (self.printed, self.printed_at) = (self.position, at);
    }

    fn shown(&mut self) -> Option<f64> {
        let seconds_a_step = self.seconds.value() / self.steps.value();
        (self.steps.calls > 0).then(|| (self.total - self.position) as f64 * seconds_a_step)
    }
}

/// An exponential moving average, corrected for its start.
#[derive(Debug, Default)]
struct Average {
    last: f64,
    calls: i32,
}

impl Average {
    fn add(&mut self, value: f64) {
        self.last = SMOOTHING * value + (1.0 - SMOOTHING) * self.last;
        self.calls += 1;
    }

    fn value(&self) -> f64 {
        self.last / (1.0 - (1.0 - SMOOTHING).powi(self.calls))
    }
}
