//! The progresses of a logger that are open: one that counts the steps, and those that were started within it.

use std::time::Instant;

use logcore::ProgressKind;

use crate::progress::{Meter, State};

#[derive(Default)]
pub(crate) struct Nest {
    /// The newest of those that count steps, over or not.
    outermost: Option<Level>,
    /// Those within it, the innermost last. Only that one may be over: it stays until the next update or start, so that a
    /// `finish_progress` behind its loop is its own.
    inner: Vec<Level>,
}

struct Level {
    /// Its description without digits: the same for all epochs.
    kind: String,
    total: Option<u64>,
    position: u64,
    began: Instant,
    is_over: bool,
    meter: Option<Meter>,
}

/// Which progress an update or an end was for, and what the sinks are to be told of it.
pub(crate) enum Told {
    /// One within another.
    Inner { state: State, lasting: bool },
    /// The one that counts the steps.
    Outermost(ProgressKind),
}

impl Nest {
    /// Whether the innermost progress has to end before one of this description starts: it may go on for ever, or it is what
    /// the new one takes the place of, or within that.
    pub(crate) fn gives_way_to(&mut self, description: &str) -> bool {
        self.forget_over();
        let kind = kind_of(description);
        let open = || self.outermost.iter().filter(|level| !level.is_over).chain(&self.inner);
        open().last().is_some_and(|innermost| innermost.total.is_none()) || open().any(|level| level.kind == kind)
    }

    /// Whether a progress that starts now is one within another.
    pub(crate) fn is_open(&self) -> bool {
        self.outermost.as_ref().is_some_and(|level| !level.is_over)
    }

    /// Puts a progress into the open one, or in the place of the one that is over; returns the meter of the latter.
    pub(crate) fn start(&mut self, total: Option<u64>, description: &str, meter: Option<Meter>) -> Option<Meter> {
        let level = Level {
            kind: kind_of(description),
            total,
            position: 0,
            began: Instant::now(),
            is_over: false,
            meter,
        };
        if self.is_open() {
            self.inner.push(level);
            return None;
        }
        self.outermost.replace(level).and_then(|level| level.meter)
    }

    /// The state of the progress that has just started.
    pub(crate) fn started(&mut self) -> Option<State> {
        let newest = self.inner.last_mut().or(self.outermost.as_mut())?;
        Some(newest.meter.as_mut()?.state(ProgressKind::Started))
    }

    /// Whether the next update is for the outermost progress.
    #[inline]
    pub(crate) fn is_flat(&self) -> bool {
        self.inner.is_empty()
    }

    /// Advances the innermost progress if it is within another; `None` if none is.
    #[cold]
    pub(crate) fn advance_inner(&mut self, n: u64, batch: Option<u64>) -> Option<Option<Told>> {
        self.forget_over();
        let level = self.inner.last_mut()?;
        let (due, ends) = level.advance(n, batch);
        let kind = if ends {
            ProgressKind::Finished
        } else {
            ProgressKind::Advanced
        };
        let told = level.meter.as_mut().filter(|_| due).map(|meter| Told::Inner {
            state: meter.state(kind),
            lasting: ends,
        });
        if ends {
            self.resume_outer();
        }
        Some(told)
    }

    /// Advances the outermost progress.
    #[inline]
    pub(crate) fn advance_outermost(&mut self, n: u64, batch: Option<u64>) -> Option<Told> {
        let (due, ends) = self.outermost.as_mut()?.advance(n, batch);
        due.then_some(Told::Outermost(if ends {
            ProgressKind::Finished
        } else {
            ProgressKind::Advanced
        }))
    }

    /// Ends the innermost progress, if it is still going.
    pub(crate) fn end_innermost(&mut self) -> Option<Told> {
        let Some(level) = self.inner.last_mut() else {
            let level = self.outermost.as_mut().filter(|level| !level.is_over)?;
            level.is_over = true;
            return level.meter.is_some().then_some(Told::Outermost(ProgressKind::Finished));
        };
        if !level.is_over {
            self.resume_outer();
        }
        let level = self.inner.pop()?;
        let mut meter = level.meter.filter(|_| !level.is_over)?;
        Some(Told::Inner {
            state: meter.state(ProgressKind::Finished),
            lasting: true,
        })
    }

    /// The meter of the progress that counts the steps.
    #[inline]
    pub(crate) fn meter(&mut self) -> Option<&mut Meter> {
        self.outermost.as_mut()?.meter.as_mut()
    }

    /// Whether there is such a meter.
    #[inline]
    pub(crate) fn has_meter(&self) -> bool {
        matches!(&self.outermost, Some(level) if level.meter.is_some())
    }

    /// The time of the innermost progress, which ends now, is none of the progress around it.
    fn resume_outer(&mut self) {
        let (Some(innermost), outer) = (self.inner.last(), self.inner.len().saturating_sub(2)) else {
            return;
        };
        let pause = innermost.began.elapsed();
        let outer = match self.inner.len() {
            0 | 1 => self.outermost.as_mut(),
            _ => self.inner.get_mut(outer),
        };
        if let Some(meter) = outer.and_then(|level| level.meter.as_mut()) {
            meter.exclude_pause(pause);
        }
    }

    fn forget_over(&mut self) {
        self.inner.retain(|level| !level.is_over);
    }
}

impl Level {
    /// Returns whether the sinks should be told, and whether this ended it.
    #[inline]
    fn advance(&mut self, n: u64, batch: Option<u64>) -> (bool, bool) {
        self.position = self.position.saturating_add(n);
        let due = self.meter.as_mut().is_some_and(|meter| meter.update(n, batch));
        // A progress that is over is shown no more.
        if self.is_over {
            return (false, false);
        }
        self.is_over = self.total.is_some_and(|total| self.position >= total);
        (self.meter.is_some() && (self.is_over || due), self.is_over)
    }
}

fn kind_of(description: &str) -> String {
    description.chars().filter(|c| !c.is_numeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a progress without a meter as the logger does; returns how many are open then.
    fn start(nest: &mut Nest, total: impl Into<Option<u64>>, description: &str) -> usize {
        while nest.gives_way_to(description) {
            nest.end_innermost();
        }
        nest.start(total.into(), description, None);
        1 + nest.inner.len()
    }

    #[test]
    fn a_start_within_an_open_progress_is_inside_it() {
        let mut nest = Nest::default();
        assert_eq!(start(&mut nest, 3, "Epochs"), 1);
        assert_eq!(start(&mut nest, 100, "Epoch 0"), 2);
        assert_eq!(start(&mut nest, 10, "Validate"), 3);
        // The next epoch takes the place of the last, and ends what is within it.
        assert_eq!(start(&mut nest, 100, "Epoch 1"), 2);
        assert_eq!(nest.inner[0].kind, "Epoch ");
        assert_eq!(start(&mut nest, 3, "Epochs"), 1);
    }

    #[test]
    fn one_without_a_total_gives_way() {
        let mut nest = Nest::default();
        start(&mut nest, None, "Reading");
        assert_eq!(start(&mut nest, 10, "Train"), 1);
        assert_eq!(start(&mut nest, None, "Checking"), 2);
        assert_eq!(start(&mut nest, 5, "Saving"), 2);
    }

    #[test]
    fn an_end_behind_a_loop_is_that_of_the_loop() {
        let mut nest = Nest::default();
        start(&mut nest, 30, "Train");
        start(&mut nest, 2, "Validate");
        nest.advance_inner(2, None);
        nest.end_innermost();
        assert!(nest.is_open() && nest.is_flat());
        nest.advance_outermost(30, None);
        assert!(!nest.is_open());
        nest.end_innermost();
        // Without an end of its own, the next update is the outer one's.
        start(&mut nest, 30, "Train");
        start(&mut nest, 2, "Validate");
        nest.advance_inner(2, None);
        assert!(nest.advance_inner(1, None).is_none() && nest.is_flat());
    }
}
