//! The bars of a terminal. Without the feature `progress` there are never any.

use std::time::Instant;

#[cfg(feature = "progress")]
use logcore_progress::Bars;

use crate::output::StreamOutput;

/// The area below the log lines, with the bars of all loggers.
#[derive(Default)]
pub(crate) struct BarArea {
    #[cfg(feature = "progress")]
    bars: Option<Bars>,
}

#[cfg(feature = "progress")]
impl BarArea {
    pub(crate) fn is_empty(&self) -> bool {
        self.bars.as_ref().is_none_or(Bars::is_empty)
    }

    pub(crate) fn lines(&mut self, output: &StreamOutput, now: Instant) -> Vec<String> {
        match &mut self.bars {
            Some(bars) if !bars.is_empty() => bars.lines(output.viewport(), now),
            _ => Vec::new(),
        }
    }

    /// Returns the bars. The first caller decides about color.
    pub(crate) fn bars(&mut self, color: bool) -> &mut Bars {
        self.bars.get_or_insert_with(|| match color {
            true => Bars::colored(),
            false => Bars::plain(),
        })
    }
}

#[cfg(not(feature = "progress"))]
#[allow(clippy::unused_self, reason = "the same methods as with bars")]
impl BarArea {
    pub(crate) fn is_empty(&self) -> bool {
        true
    }

    pub(crate) fn lines(&mut self, _: &StreamOutput, _: Instant) -> Vec<String> {
        Vec::new()
    }
}
