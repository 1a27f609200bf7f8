//! Gives each frame to the sinks of its logger.

use std::sync::Arc;

use logcore::{EventKind, MediaDescription, MediaItem, MetricBatch, MetricValue};

use super::logger_set::LoggerSet;
use super::name_sequences::NameSequences;
use crate::caller::pipeline_state::PipelineState;
use crate::frame::chunks::ChunkAssembler;
use crate::frame::decode::{
    MessageFrame, decode_config, decode_control, decode_message, decode_metrics, decode_progress, decode_record,
    logger_of,
};
use crate::frame::deferred::{DeferredFormatter, is_deferred};
use crate::frame::types::{LoggerId, MessageTarget, MetricName};
use crate::process::notice::print_notice;
use crate::ring::queue::FrameKind;

/// Decodes frames, and calls the sinks.
pub(crate) struct Dispatcher {
    state: Arc<PipelineState>,
    pub(crate) loggers: LoggerSet,
    /// The names and values of one metrics frame. The vector is kept for its memory.
    values: Vec<(&'static str, MetricValue)>,
    /// The sequences of names in the frames so far.
    sequences: NameSequences,
    deferred: DeferredFormatter,
    /// Number of calls to loggers that have ended.
    late_calls: u64,
}

impl Dispatcher {
    pub(crate) fn new(state: Arc<PipelineState>) -> Self {
        Self {
            loggers: LoggerSet::new(Arc::clone(&state)),
            state,
            values: Vec::new(),
            sequences: NameSequences::default(),
            deferred: DeferredFormatter::default(),
            late_calls: 0,
        }
    }

    /// Dispatches a frame that carries an event.
    pub(super) fn dispatch(&mut self, kind: FrameKind, body: &[u8]) {
        match kind {
            FrameKind::Record => self.record(body),
            FrameKind::Metrics => self.metrics(body),
            FrameKind::Progress => self.progress(body),
            FrameKind::Message => self.message(body),
            FrameKind::Config => self.config(body),
            FrameKind::Control | FrameKind::Chunk | FrameKind::Padding => {}
        }
    }

    /// Repeats a frame of a dead process. Returns the logger of the call, unless the frame is no
    /// call or only a state of a progress bar.
    pub(crate) fn replay(
        &mut self,
        chunks: &mut ChunkAssembler,
        kind: FrameKind,
        body: &[u8],
        deadline: logcore::Deadline,
    ) -> Option<LoggerId> {
        match kind {
            FrameKind::Control => {
                if let Some((_, hint)) = decode_control(body) {
                    self.loggers.replay(hint, deadline);
                }
                None
            }
            FrameKind::Chunk => {
                let (kind, body) = chunks.add(body)?;
                self.replay(chunks, kind, &body, deadline)
            }
            kind => {
                self.dispatch(kind, body);
                logger_of(body).filter(|_| kind != FrameKind::Progress)
            }
        }
    }

    /// Returns the number of late calls since the last time, and the name of a logger that has
    /// ended.
    pub(super) fn take_late_calls(&mut self) -> (u64, String) {
        (std::mem::take(&mut self.late_calls), self.loggers.last_ended.clone())
    }

    fn record(&mut self, body: &[u8]) {
        let body = match is_deferred(body) {
            false => body,
            true => match self.deferred.format(body) {
                Some(formatted) => formatted,
                None => return,
            },
        };
        let Some((frame, fields)) = decode_record(body) else {
            return;
        };
        let LoggerSet { loggers, sinks, .. } = &mut self.loggers;
        let Some(logger) = loggers.get(frame.logger) else {
            self.late_calls += 1;
            return;
        };
        let body = &body[..frame.length];
        let mut record = frame.record(&logger.name, frame.message);
        if let Some(fields) = &fields {
            record = record.with_fields(fields);
        }
        for route in &logger.routes {
            if route.admits(frame.level, frame.arrival.rule) {
                sinks.give_record(route.sink, body, &record, |id| loggers.name(id));
            }
        }
    }

    fn metrics(&mut self, body: &[u8]) {
        let Some(frame) = decode_metrics(body) else { return };
        let LoggerSet {
            loggers,
            sinks,
            shared_sinks,
            ..
        } = &mut self.loggers;
        let Some(logger) = loggers.get_mut(frame.logger) else {
            self.late_calls += 1;
            return;
        };
        logger.note_step(frame.step);
        let mut values = reuse(std::mem::take(&mut self.values));
        let sequence = self.sequences.find(&frame, &self.state.names);
        match sequence {
            Some(known) => {
                values.reserve(known.names.len());
                for (name, (_, value)) in known.names.iter().zip(frame.values()) {
                    values.push((name, value));
                }
            }
            None => values.extend(frame.values().filter_map(|(name, value)| match name {
                MetricName::Id(id) => Some((self.state.names.name(id)?, value)),
                MetricName::Text(text) => Some((text, value)),
            })),
        }
        let mut batch = MetricBatch::at(frame.time, &logger.name, frame.step, &values);
        // A damaged frame may have fewer values than names.
        if let Some(known) = sequence.filter(|known| known.names.len() == values.len()) {
            batch = batch.with_layout(known.layout);
        }
        for sink in logger.sinks(shared_sinks) {
            sinks.give(sink, EventKind::Metrics, |sink| sink.metrics(&batch));
        }
        self.values = reuse(values);
    }

    fn progress(&mut self, body: &[u8]) {
        let Some((id, mut event)) = decode_progress(body) else {
            return;
        };
        let LoggerSet {
            loggers,
            sinks,
            shared_sinks,
            ..
        } = &mut self.loggers;
        let Some(logger) = loggers.get(id) else { return };
        event.logger = &logger.name;
        for sink in logger.sinks(shared_sinks) {
            sinks.give(sink, EventKind::Progress, |sink| sink.progress(&event));
        }
    }

    fn config(&mut self, body: &[u8]) {
        let Some((id, json)) = decode_config(body) else { return };
        let LoggerSet {
            loggers,
            sinks,
            shared_sinks,
            ..
        } = &mut self.loggers;
        let Some(logger) = loggers.get(id) else {
            self.late_calls += 1;
            return;
        };
        let config = match serde_json::from_str(json) {
            Ok(config) => config,
            Err(error) => {
                let text = format!("cannot read hyper-parameters: {error}. They are skipped");
                print_notice("hyper-parameters", &text);
                return;
            }
        };
        for sink in logger.sinks(shared_sinks) {
            sinks.give(sink, EventKind::Config, |sink| sink.config(&config));
        }
    }

    fn message(&mut self, body: &[u8]) {
        let Some(frame) = decode_message(body) else {
            return;
        };
        let sink = match frame.target {
            MessageTarget::Sink(name) => name,
            MessageTarget::Alerts => return self.alert(&frame),
            MessageTarget::Media => return self.media(&frame),
        };
        let LoggerSet { loggers, sinks, .. } = &mut self.loggers;
        let Some(logger) = loggers.get(frame.logger) else {
            self.late_calls += 1;
            return;
        };
        for route in &logger.own {
            if sinks.get(route.sink).is_some_and(|slot| slot.name == sink) {
                sinks.give(route.sink, None, |sink| sink.message(frame.text));
            }
        }
    }

    /// Gives an alert to all sinks of the logger that take alerts.
    fn alert(&mut self, frame: &MessageFrame<'_>) {
        let LoggerSet {
            loggers,
            sinks,
            shared_sinks,
            ..
        } = &mut self.loggers;
        let Some(logger) = loggers.get(frame.logger) else {
            self.late_calls += 1;
            return;
        };
        let alert = match serde_json::from_str(frame.text) {
            Ok(alert) => alert,
            Err(error) => {
                print_notice("alert", &format!("cannot read an alert: {error}. It is skipped"));
                return;
            }
        };
        for sink in logger.sinks(shared_sinks) {
            sinks.give(sink, EventKind::Alert, |sink| sink.alert(&alert));
        }
    }

    /// Gives a media value to all sinks of the logger that take media.
    fn media(&mut self, frame: &MessageFrame<'_>) {
        let LoggerSet {
            loggers,
            sinks,
            shared_sinks,
            ..
        } = &mut self.loggers;
        let Some(logger) = loggers.get(frame.logger) else {
            self.late_calls += 1;
            return;
        };
        let description: MediaDescription = match serde_json::from_str(frame.text) {
            Ok(description) => description,
            Err(error) => {
                print_notice(
                    "media",
                    &format!("cannot read a media value: {error}. The value is skipped"),
                );
                return;
            }
        };
        let item = MediaItem::new(frame.time, &logger.name, &description);
        for sink in logger.sinks(shared_sinks) {
            sinks.give(sink, EventKind::Media, |sink| sink.media(&item));
        }
    }
}

/// Returns the same vector, empty, for borrows of another lifetime: collecting in place keeps its
/// memory.
fn reuse<'a>(mut values: Vec<(&str, MetricValue)>) -> Vec<(&'a str, MetricValue)> {
    values.clear();
    values
        .into_iter()
        .map(|_| unreachable!("the vector was just cleared"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log::{Level, LevelFilter};
    use logcore::Deadline;
    use logcore::testing::recording;
    use proptest::prelude::*;

    use super::*;
    use crate::caller::command::NamedSink;
    use crate::frame::encode::encode_record;
    use crate::frame::repeats::RepeatFolder;
    use crate::frame::types::{RecordOrigin, ReplayHint};
    use crate::ring::reader::RingReader;

    #[test]
    fn reuse_keeps_the_memory() {
        let mut values: Vec<(&str, MetricValue)> = Vec::with_capacity(100);
        values.push(("a", MetricValue::Int(1)));
        let again = reuse(values);
        assert!(again.is_empty() && again.capacity() >= 100);
    }

    /// A frame in the ring: a record, or a command.
    #[derive(Debug, Clone)]
    enum InputFrame {
        Record(Level, u8),
        Command,
    }

    fn input() -> impl Strategy<Value = Vec<InputFrame>> {
        let record = (any::<bool>(), 0..3_u8).prop_map(|(warns, text)| {
            let level = if warns { Level::Warn } else { Level::Info };
            InputFrame::Record(level, text)
        });
        prop::collection::vec(prop_oneof![9 => record, 1 => Just(InputFrame::Command)], 0..60)
    }

    /// Dispatches the input to a sink that continues with `folder`. Returns the calls of the sink,
    /// and the folder at the end.
    fn dispatched(input: &[InputFrame], folder: RepeatFolder, ends: bool) -> (Vec<String>, RepeatFolder) {
        let ring = RingReader::plain(4096).unwrap().0;
        let mut dispatcher = Dispatcher::new(Arc::new(PipelineState::new(ring)));
        let (handle, sink) = recording();
        let mut sink = NamedSink::new("recording", LevelFilter::Info, Box::new(sink));
        sink.repeat_folder = Some(folder);
        let now = Deadline::after(Duration::ZERO);
        dispatcher
            .loggers
            .restore(LoggerId(1), "trainer", false, None, vec![sink]);
        for frame in input {
            match frame {
                InputFrame::Command => dispatcher.loggers.replay(ReplayHint::None, now),
                InputFrame::Record(level, text) => {
                    let mut frame = Vec::new();
                    encode_record(
                        &mut frame,
                        LoggerId(1),
                        RecordOrigin::Method.into(),
                        &log::Record::builder()
                            .level(*level)
                            .args(format_args!("{text}"))
                            .build(),
                    );
                    dispatcher.record(&frame);
                }
            }
        }
        if ends {
            dispatcher.loggers.replay(ReplayHint::None, now);
        }
        let (frame, count) = dispatcher.loggers.repeat_folders().next().unwrap().state();
        (handle.calls(), RepeatFolder::restore(frame, count))
    }

    /// Returns the records that lines stand for.
    fn unfolded(lines: &[String]) -> Vec<String> {
        let mut records: Vec<String> = Vec::new();
        for line in lines {
            match line.split_once("last line repeated ") {
                None => records.push(line.clone()),
                Some((level, count)) => {
                    let count = count.split(' ').next().unwrap().parse().unwrap_or(1);
                    let last = records.last().unwrap().clone();
                    assert!(last.starts_with(level), "{line:?} after {last:?}");
                    records.extend(std::iter::repeat_n(last, count));
                }
            }
        }
        records
    }

    proptest! {
        #[test]
        fn folded_lines_stand_for_all_records(input in input()) {
            let (lines, _) = dispatched(&input, RepeatFolder::default(), true);
            let expected = input.iter().filter_map(|frame| match frame {
                InputFrame::Record(level, text) => Some(format!("record {level} trainer {text}")),
                InputFrame::Command => None,
            });
            prop_assert_eq!(unfolded(&lines), expected.collect::<Vec<_>>());
            let records = |line: &&String| !line.contains("repeated");
            let kept: Vec<_> = lines.iter().filter(records).collect();
            prop_assert!(kept.windows(2).all(|two| two[0] != two[1]), "{:?}", lines);
        }

        #[test]
        fn folding_continues_from_a_checkpoint_with_the_same_lines(input in input(), cut in 0..60_usize) {
            let cut = cut.min(input.len());
            let (whole, _) = dispatched(&input, RepeatFolder::default(), true);
            let (mut lines, folder) = dispatched(&input[..cut], RepeatFolder::default(), false);
            lines.extend(dispatched(&input[cut..], folder, true).0);
            prop_assert_eq!(lines, whole);
        }
    }
}
