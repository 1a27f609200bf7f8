//! The bars of a terminal. Without the feature `progress` the area is always empty.

#[cfg(feature = "progress")]
pub(crate) use self::with::BarArea;
#[cfg(not(feature = "progress"))]
pub(crate) use self::without::BarArea;

#[cfg(feature = "progress")]
mod with {
    use std::time::Instant;

    use logcore_progress::Bars;

    use crate::output::StreamOutput;

    #[derive(Default)]
    pub(crate) struct BarArea(Option<Bars>);

    impl BarArea {
        pub(crate) fn is_empty(&self) -> bool {
            self.0.as_ref().is_none_or(Bars::is_empty)
        }

        pub(crate) fn lines(&mut self, output: &StreamOutput, now: Instant) -> Vec<String> {
            match &mut self.0 {
                Some(bars) if !bars.is_empty() => bars.lines(output.viewport(), now),
                _ => Vec::new(),
            }
        }

        /// Returns the bars. The first caller decides about color.
        pub(crate) fn bars(&mut self, color: bool) -> &mut Bars {
            self.0.get_or_insert_with(|| match color {
                true => Bars::colored(),
                false => Bars::plain(),
            })
        }
    }
}

#[cfg(not(feature = "progress"))]
mod without {
    use std::time::Instant;

    use crate::output::StreamOutput;

    #[derive(Default)]
    pub(crate) struct BarArea;

    #[allow(clippy::unused_self, reason = "the methods of the area with bars")]
    impl BarArea {
        pub(crate) fn is_empty(&self) -> bool {
            true
        }

        pub(crate) fn lines(&mut self, _: &StreamOutput, _: Instant) -> Vec<String> {
            Vec::new()
        }
    }
}
