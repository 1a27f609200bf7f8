//! The bars of a terminal, where the feature `progress` has them; the same face without it, with nothing behind.

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
                Some(bars) if !bars.is_empty() => bars.lines(output.room(), now),
                _ => Vec::new(),
            }
        }

        /// The bars; colored or not as the first who asks for them says.
        pub(crate) fn bars(&mut self, color: bool) -> &mut Bars {
            self.0.get_or_insert_with(|| Bars::new(color))
        }
    }
}

#[cfg(not(feature = "progress"))]
mod without {
    use std::time::Instant;

    use crate::output::StreamOutput;

    #[derive(Default)]
    pub(crate) struct BarArea;

    #[allow(clippy::unused_self)]
    impl BarArea {
        pub(crate) fn is_empty(&self) -> bool {
            true
        }

        pub(crate) fn lines(&mut self, _: &StreamOutput, _: Instant) -> Vec<String> {
            Vec::new()
        }
    }
}
