//! Calls on their way to sinks, with slow, failing and panicking sinks.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use logcore::log::{Level, LevelFilter};
use logcore::testing::{BlockingSink, FailingSink, PanickingSink, SinkGate, recording};
use logcore::{
    Deadline, LogError, LoggerEnd, MetricBatch, MetricValue, OnFull, PendingDelivery, Record, Sink, SinkBooks,
    SinkError, log,
};
use logcore_pipeline::{
    DeferredArgument, DeferredMessage, ForkMutex, LoggerOutcome, MetricName, NamedSink, Pipeline, Producer,
    Propagation, RING_FULL, RecordOrigin, RepeatFolder,
};

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(20))
}

fn named(name: &str, sink: impl Sink + 'static) -> NamedSink {
    NamedSink::new(name, LevelFilter::Trace, Box::new(sink))
}

fn open(pipeline: &Pipeline, name: &str, sinks: Vec<NamedSink>) -> Producer {
    let producer = pipeline.producer(name);
    producer.open(Propagation::None, None, sinks, soon()).unwrap();
    producer
}

fn log_text(producer: &Producer, level: Level, text: &str) {
    producer.record(
        RecordOrigin::Method,
        &log::Record::builder().level(level).args(format_args!("{text}")).build(),
    );
}

/// Keeps messages, cheaply even if there are many.
#[derive(Clone, Default)]
struct MessageSink(Arc<Mutex<Vec<String>>>);

impl Sink for MessageSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.0.lock().unwrap().push(record.message().to_owned());
        Ok(())
    }
}

/// Logs a message that tells where it was formatted.
fn log_deferred(producer: &Producer, level: Level, argument: DeferredArgument<'_>) {
    producer.record_deferred(
        RecordOrigin::Method,
        &log::Record::builder()
            .level(level)
            .args(format_args!("by the caller"))
            .build(),
        DeferredMessage::new("by the {}", 1).unwrap(),
        &[argument],
    );
}

#[test]
fn writer_formats_what_can_wait() {
    let pipeline = Pipeline::start(1 << 20).unwrap();
    let (handle, sink) = recording();
    let producer = open(&pipeline, "trainer", vec![named("recording", sink)]);
    let writer = DeferredArgument::Text("writer");
    log_deferred(&producer, Level::Warn, writer);
    log_deferred(&producer, Level::Error, writer);
    log_deferred(&producer, Level::Info, DeferredArgument::Other);
    log_deferred(&producer, Level::Info, DeferredArgument::Text(&"x".repeat(257)));
    producer.finish(Arc::default(), soon()).unwrap();
    let calls = handle.calls();
    let expected = [
        "record WARN trainer by the writer",
        "record ERROR trainer by the caller",
        "record INFO trainer by the caller",
        "record INFO trainer by the caller",
    ];
    assert_eq!(calls[..4], expected);
}

#[test]
fn callers_format_while_more_than_a_quarter_of_the_ring_is_in_use() {
    const CALLS: usize = 5000;
    let pipeline = Pipeline::start(64 << 10).unwrap();
    let (gate, messages) = (SinkGate::default(), MessageSink::default());
    let sinks = vec![
        named("slow", BlockingSink(gate.clone())),
        named("messages", messages.clone()),
    ];
    let producer = open(&pipeline, "trainer", sinks);
    producer.set_policy(OnFull::Drop, Duration::ZERO);
    for _ in 0..CALLS {
        log_deferred(&producer, Level::Info, DeferredArgument::Text("writer"));
    }
    gate.open();
    let books = producer.finish(Arc::default(), soon()).unwrap().books;
    let messages = messages.0.lock().unwrap();
    let by_writer = messages.iter().take_while(|text| *text == "by the writer").count();
    let by_caller = messages[by_writer..]
        .iter()
        .filter(|text| *text == "by the caller")
        .count();
    assert_eq!(by_writer + by_caller, messages.len());
    // A frame of either has 40 to 72 bytes.
    let bounds = (16 << 10) / 72..=(16 << 10) / 40 + 1;
    assert!(bounds.contains(&by_writer), "{by_writer}");
    assert!(by_caller >= (32 << 10) / 72, "{by_caller}");
    let dropped = books["messages"].dropped[RING_FULL] as usize;
    assert_eq!(messages.len() + dropped, CALLS);
}

#[test]
fn equal_records_fold_whatever_was_in_their_place_in_the_ring() {
    const ROUNDS: usize = 1000;
    let pipeline = Pipeline::start(16 << 10).unwrap();
    let messages = MessageSink::default();
    let mut sink = named("messages", messages.clone());
    sink.repeat_folder = Some(RepeatFolder::default());
    let producer = open(&pipeline, "trainer", vec![sink]);
    for round in 0..ROUNDS {
        log_text(&producer, Level::Info, &format!("{round}{}", "x".repeat(round % 97)));
        (0..3).for_each(|_| log_text(&producer, Level::Info, "again"));
    }
    producer.finish(Arc::default(), soon()).unwrap();
    let messages = messages.0.lock().unwrap();
    let counts = messages.iter().filter(|text| *text == "last line repeated 2 times");
    assert_eq!((messages.len(), counts.count()), (3 * ROUNDS, ROUNDS));
}

#[test]
fn equal_records_fold_wherever_they_are_formatted() {
    let pipeline = Pipeline::start(1 << 20).unwrap();
    let (handle, sink) = recording();
    let mut sink = named("recording", sink);
    sink.repeat_folder = Some(RepeatFolder::default());
    let producer = open(&pipeline, "trainer", vec![sink]);
    for argument in [DeferredArgument::Text("caller"), DeferredArgument::Other] {
        log_deferred(&producer, Level::Info, argument);
        log_deferred(&producer, Level::Info, argument);
    }
    producer.flush(soon()).unwrap();
    assert_eq!(
        handle.calls()[..2],
        [
            "record INFO trainer by the caller",
            "record INFO trainer last line repeated 3 times"
        ]
    );
}

#[test]
fn small_ring_keeps_records_of_eight_threads_complete_and_in_order() {
    const THREADS: usize = 8;
    const LINES: usize = 20_000;
    let pipeline = Pipeline::start(16 << 10).unwrap();
    let messages = MessageSink::default();
    let producer = open(&pipeline, "many", vec![named("messages", messages.clone())]);
    thread::scope(|scope| {
        for id in 0..THREADS {
            let producer = &producer;
            scope.spawn(move || {
                for number in 0..LINES {
                    log_text(
                        producer,
                        Level::Info,
                        &format!("{id} {number} {}", "x".repeat(number % 97)),
                    );
                }
            });
        }
    });
    let books = producer.finish(Arc::default(), soon()).unwrap().books;
    assert_eq!(books["messages"].delivered, (THREADS * LINES) as u64);
    let mut next = [0; THREADS];
    for message in messages.0.lock().unwrap().iter() {
        let mut parts = message.split(' ');
        let id: usize = parts.next().unwrap().parse().unwrap();
        let number: usize = parts.next().unwrap().parse().unwrap();
        assert_eq!(number, next[id]);
        assert_eq!(parts.next().unwrap().len(), number % 97);
        next[id] += 1;
    }
    assert_eq!(next, [LINES; THREADS]);
}

#[test]
fn long_message_is_delivered_whole() {
    let pipeline = Pipeline::start(4096).unwrap();
    let messages = MessageSink::default();
    let producer = open(&pipeline, "long", vec![named("messages", messages.clone())]);
    let text = |id: usize| {
        (0..1_000_000)
            .map(|i| char::from(b'a' + ((i + id) % 26) as u8))
            .collect::<String>()
    };
    thread::scope(|scope| {
        for id in 0..3 {
            let producer = &producer;
            scope.spawn(move || log_text(producer, Level::Info, &text(id)));
        }
    });
    producer.flush(soon()).unwrap();
    let mut got = messages.0.lock().unwrap().clone();
    got.sort();
    assert!(got.len() == 3 && (0..3).all(|id| got[id] == text(id)));
}

#[test]
fn full_ring_drops_by_policy_and_the_books_balance() {
    let pipeline = Pipeline::start(4096).unwrap();
    let gate = SinkGate::default();
    let producer = open(&pipeline, "dropping", vec![named("slow", BlockingSink(gate.clone()))]);
    producer.set_policy(OnFull::Drop, Duration::ZERO);
    for _ in 0..1000 {
        log_text(
            &producer,
            Level::Info,
            "a line of some length, so that the ring is full soon",
        );
    }
    gate.open();
    let books = &producer.finish(Arc::default(), soon()).unwrap().books["slow"];
    assert_eq!(books.accepted, 1000);
    assert!(books.dropped[RING_FULL] > 800, "{books:?}");
    assert!(books.balanced(), "{books:?}");
}

#[test]
fn ending_logger_waits_for_no_sink_beyond_its_deadline() {
    let pipeline = Pipeline::start(4096).unwrap();
    let gate = SinkGate::default();
    let producer = open(&pipeline, "ending", vec![named("slow", BlockingSink(gate.clone()))]);
    producer.set_end_deadline(Deadline::after(Duration::ZERO));
    // Far more than there is room for. The test is that the loop ends.
    for _ in 0..1000 {
        log_text(
            &producer,
            Level::Info,
            "a line of some length, so that the ring is full soon",
        );
        producer.message("slow", "the same of a message");
    }
    gate.open();
    let books = &producer.finish(Arc::default(), soon()).unwrap().books["slow"];
    assert!(books.dropped[RING_FULL] > 800 && books.balanced(), "{books:?}");
}

/// A sink whose delivery continues after `finish`.
struct PendingSink;

impl Sink for PendingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn metrics(&mut self, _: &MetricBatch<'_>) -> Result<(), SinkError> {
        Ok(())
    }

    fn pending_delivery(&mut self) -> Option<PendingDelivery> {
        Some(Box::new(|_| {
            let mut books = SinkBooks::default();
            (books.accepted, books.delivered) = (1, 1);
            (books, Ok(()))
        }))
    }
}

#[test]
fn account_of_a_pending_delivery_includes_replaced_sinks() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let producer = open(&pipeline, "late", vec![named("sink", recording().1)]);
    log_text(&producer, Level::Info, "before");
    producer
        .open(Propagation::None, None, vec![named("sink", PendingSink)], soon())
        .unwrap();
    log_text(&producer, Level::Info, "after");
    let books = &producer.finish(Arc::default(), soon()).unwrap().books["sink"];
    assert_eq!((books.accepted, books.delivered), (2, 2));
}

#[test]
fn error_is_delivered_when_the_call_returns() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let (handle, sink) = recording();
    let producer = open(&pipeline, "errors", vec![named("recording", sink)]);
    for number in 0..100 {
        log_text(&producer, Level::Error, &number.to_string());
        assert_eq!(handle.calls().len(), number + 1);
    }
}

#[test]
fn hanging_sink_is_named_and_delays_only_the_first_error() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let gate = SinkGate::default();
    let producer = open(&pipeline, "hanging", vec![named("stuck", BlockingSink(gate.clone()))]);
    producer.set_policy(OnFull::Wait, Duration::from_millis(500));
    // Only the first call waits. If each did, the test would take over ten minutes.
    for _ in 0..1500 {
        log_text(&producer, Level::Error, "x");
    }
    gate.wait_for_visitor();
    match producer.flush(Deadline::after(Duration::from_millis(20))).unwrap_err() {
        LogError::Timeout {
            call: "flush",
            sink: Some(sink),
        } => assert_eq!(sink, "sink `stuck` of logger `hanging`"),
        other => panic!("{other:?}"),
    }
    gate.open();
    producer.flush(soon()).unwrap();
}

#[test]
fn failing_or_panicking_sink_does_not_affect_others() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let (handle, sink) = recording();
    let sinks = vec![
        named("failing", FailingSink("server error")),
        named("panicking", PanickingSink),
        named("recording", sink),
    ];
    let producer = open(&pipeline, "unharmed", sinks);
    for _ in 0..10 {
        log_text(&producer, Level::Info, "x");
    }
    let books = producer.finish(Arc::default(), soon()).unwrap().books;
    assert_eq!(handle.calls().len(), 12);
    assert_eq!(books["failing"].dropped["server error"], 10);
    assert_eq!(books["panicking"].dropped["panic"], 10);
    assert!(
        books.values().all(|books| books.accepted == 10 && books.balanced()),
        "{books:?}"
    );
}

#[test]
fn log_calls_of_a_sink_are_ignored() {
    struct LoggingSink(Arc<Producer>);
    impl Sink for LoggingSink {
        fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
            log_text(&self.0, Level::Error, "from within");
            self.0.metrics(0, std::iter::empty());
            self.0.flush(soon()).map_err(SinkError::new)
        }
    }
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let (handle, sink) = recording();
    let producer = Arc::new(pipeline.producer("chatty"));
    let chatty = LoggingSink(Arc::clone(&producer));
    producer
        .open(
            Propagation::None,
            None,
            vec![named("chatty", chatty), named("recording", sink)],
            soon(),
        )
        .unwrap();
    log_text(&producer, Level::Info, "once");
    producer.flush(soon()).unwrap();
    assert_eq!(handle.calls(), ["record INFO chatty once", "flush"]);
}

#[test]
fn display_that_logs_makes_a_record_of_its_own() {
    struct LoggingDisplay<'a>(&'a Producer);
    impl std::fmt::Display for LoggingDisplay<'_> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            log_text(self.0, Level::Info, "inner");
            f.write_str("outer")
        }
    }
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let (handle, sink) = recording();
    let producer = open(&pipeline, "nested", vec![named("recording", sink)]);
    producer.record(
        RecordOrigin::Method,
        &log::Record::builder()
            .args(format_args!("{}", LoggingDisplay(&producer)))
            .build(),
    );
    producer.flush(soon()).unwrap();
    assert_eq!(
        handle.calls(),
        ["record INFO nested inner", "record INFO nested outer", "flush"]
    );
}

#[test]
fn reopened_logger_switches_sinks_between_two_records() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let (first, first_sink) = recording();
    let (second, second_sink) = recording();
    let producer = open(&pipeline, "live", vec![named("it", first_sink)]);
    log_text(&producer, Level::Info, "1");
    producer
        .open(Propagation::None, None, vec![named("it", second_sink)], soon())
        .unwrap();
    log_text(&producer, Level::Info, "2");
    let outcome = LoggerOutcome {
        end: LoggerEnd::from_exit_code(3),
        ..LoggerOutcome::default()
    };
    let books = producer.finish(outcome.into(), soon()).unwrap().books;
    assert_eq!(first.calls(), ["record INFO live 1", "finish"]);
    assert_eq!(second.calls(), ["record INFO live 2", "logger_ended 3", "finish"]);
    assert_eq!((books["it"].accepted, books["it"].delivered), (2, 2));
}

#[test]
fn records_propagate_to_parents() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let (root, root_sink) = recording();
    let (top, top_sink) = recording();
    let (leaf, leaf_sink) = recording();
    let _root = open(&pipeline, "root", vec![named("it", root_sink)]);
    let _top = open(&pipeline, "app", vec![named("it", top_sink)]);
    let producer = pipeline.producer("app::data.loader");
    producer
        .open(Propagation::ToParents, None, vec![named("it", leaf_sink)], soon())
        .unwrap();
    log_text(&producer, Level::Info, "x");
    producer.metrics(4, [(MetricName::Text("loss"), MetricValue::Int(1))].into_iter());
    producer.flush(soon()).unwrap();
    assert_eq!(
        leaf.calls()[..2],
        [
            "record INFO app::data.loader x",
            "metrics app::data.loader 4 loss=Int(1)"
        ]
    );
    assert_eq!(top.calls(), ["record INFO app::data.loader x", "flush"]);
    // `app` itself does not propagate.
    assert_eq!(root.calls(), [] as [&str; 0]);
}

#[test]
fn shared_sink_receives_records_of_every_logger() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let before = open(&pipeline, "before", vec![]);
    let (handle, sink) = recording();
    pipeline.share("common", Box::new(sink), soon());
    let after = open(&pipeline, "after", vec![]);
    log_text(&before, Level::Info, "x");
    log_text(&after, Level::Info, "y");
    assert_eq!(
        after.finish(Arc::default(), soon()).unwrap().books["common"].accepted,
        2
    );
    assert_eq!(handle.calls(), ["record INFO before x", "record INFO after y", "flush"]);
    pipeline.finish_shared(LoggerEnd::default(), soon()).unwrap();
    assert_eq!(handle.calls()[3..], ["logger_ended 0", "finish"]);
}

#[test]
fn metric_names_travel_as_numbers_or_as_text() {
    let pipeline = Pipeline::start(1 << 16).unwrap();
    let (handle, sink) = recording();
    let producer = open(&pipeline, "names", vec![named("recording", sink)]);
    let id = producer.intern("metrics/loss").unwrap();
    let values = [
        (MetricName::Id(id), MetricValue::Float(0.5)),
        (MetricName::Text("new"), MetricValue::Int(3)),
    ];
    producer.metrics(7, values.into_iter());
    producer.flush(soon()).unwrap();
    assert_eq!(
        handle.calls(),
        ["metrics names 7 metrics/loss=Float(0.5) new=Int(3)", "flush"]
    );
}

#[test]
fn repeated_records_become_one_line_and_count_in_the_books() {
    let pipeline = Pipeline::start(1 << 20).unwrap();
    let (folding, each) = (MessageSink::default(), MessageSink::default());
    let folded = NamedSink {
        repeat_folder: Some(RepeatFolder::default()),
        ..named("folding", folding.clone())
    };
    let producer = open(&pipeline, "many", vec![folded, named("each", each.clone())]);
    let other = open(&pipeline, "other", Vec::new());
    for text in ["one", "two", "two", "two", "one", "one"] {
        log_text(&producer, Level::Info, text);
    }
    log_text(&producer, Level::Warn, "one");
    // A record of another logger does not end the repetition.
    log_text(&other, Level::Info, "else");
    log_text(&producer, Level::Warn, "one");
    producer.flush(soon()).unwrap();
    let lines = [
        "one",
        "two",
        "last line repeated 2 times",
        "one",
        "last line repeated once",
        "one",
        "last line repeated once",
    ];
    assert_eq!(*folding.0.lock().unwrap(), lines);
    log_text(&producer, Level::Warn, "one");
    let books = producer.finish(Arc::default(), soon()).unwrap().books;
    assert_eq!(folding.0.lock().unwrap()[lines.len()..], ["last line repeated once"]);
    assert_eq!(each.0.lock().unwrap().len(), 9);
    for (sink, books) in &books {
        assert_eq!((books.accepted, books.delivered), (9, 9), "{sink}");
    }
    pipeline.end(soon()).unwrap();
}

/// A sink that sends messages to a channel.
struct ChannelSink(mpsc::Sender<String>);

impl Sink for ChannelSink {
    fn record(&mut self, record: &Record<'_>) -> Result<(), SinkError> {
        self.0.send(record.message().to_owned()).map_err(SinkError::new)
    }
}

#[test]
fn repeat_count_is_written_without_a_further_record() {
    let pipeline = Pipeline::start(1 << 20).unwrap();
    let (lines, written) = mpsc::channel();
    let sink = NamedSink {
        repeat_folder: Some(RepeatFolder::default()),
        ..named("folding", ChannelSink(lines))
    };
    let producer = open(&pipeline, "many", vec![sink]);
    for _ in 0..3 {
        log_text(&producer, Level::Info, "again");
    }
    assert_eq!(written.recv().unwrap(), "again");
    assert_eq!(written.recv().unwrap(), "last line repeated 2 times");
    producer.finish(Arc::default(), soon()).unwrap();
    pipeline.end(soon()).unwrap();
}

#[test]
fn handles_can_be_shared_between_threads() {
    fn assert_shareable<T: Send + Sync>() {}
    assert_shareable::<Producer>();
    assert_shareable::<Pipeline>();
    assert_shareable::<ForkMutex<Vec<u8>>>();
}
