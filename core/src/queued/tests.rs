use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use log::Level;

use super::*;

/// Waits at a barrier before each record.
struct GatedSink(Arc<Barrier>);

impl Sink for GatedSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        self.0.wait();
        Ok(())
    }
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

#[test]
fn full_queue_drops_and_counts_calls() {
    let gate = Arc::new(Barrier::new(2));
    let mut sink = Queued::with_capacity(GatedSink(Arc::clone(&gate)), 1);
    let record = Record::new(Level::Info, "t", "m");
    let refused = (0..10).filter(|_| sink.record(&record).is_err()).count() as u64;
    // One call may be in progress, and one in the queue.
    assert!((8..=9).contains(&refused), "{refused}");
    for _ in 0..10 - refused {
        gate.wait();
    }
    sink.finish(soon()).unwrap();
    let books = sink.books().unwrap();
    assert_eq!(books.delivered, 10 - refused);
    assert_eq!(books.dropped["queue full"], refused);
    assert!(books.balanced());
}

#[test]
fn finish_of_a_hanging_sink_returns_at_its_deadline_with_balanced_books() {
    let gate = Arc::new(Barrier::new(2));
    let mut sink = Queued::new(GatedSink(gate));
    for _ in 0..3 {
        sink.record(&Record::new(Level::Info, "t", "m")).unwrap();
    }
    let error = sink.finish(Deadline::after(Duration::from_millis(20))).unwrap_err();
    assert_eq!(error.reason(), "not delivered in time");
    let books = sink.books().unwrap();
    assert_eq!(books.dropped["not delivered in time"], 3);
    assert!(books.balanced());
}

#[test]
fn errors_and_panics_are_returned_and_counted() {
    struct FailingOnceSink(u32);
    impl Sink for FailingOnceSink {
        fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
            self.0 += 1;
            match self.0 {
                1 => Err(SinkError::new("no")),
                2 => panic!("made to panic"),
                _ => Ok(()),
            }
        }
    }
    let mut sink = Queued::new(FailingOnceSink(0));
    let record = Record::new(Level::Info, "t", "m");
    sink.record(&record).unwrap();
    assert_eq!(sink.flush(soon()).unwrap_err().to_string(), "no");
    sink.record(&record).unwrap();
    assert_eq!(sink.flush(soon()).unwrap_err().reason(), "panic");
    sink.record(&record).unwrap();
    sink.finish(soon()).unwrap();
    let books = sink.books().unwrap();
    assert_eq!((books.accepted, books.delivered), (3, 1));
    assert!(books.balanced());
}

#[test]
fn queued_forwards_every_method() {
    crate::testing::check_forwarding(|sink| Box::new(Queued::new(sink)));
}

/// Keeps records until `deliver`, and fails the first deliveries.
struct BufferingSink {
    gate: Option<Arc<Barrier>>,
    kept: u64,
    delivered: u64,
    failures: u32,
}

impl Sink for BufferingSink {
    fn record(&mut self, _: &Record<'_>) -> Result<(), SinkError> {
        self.kept += 1;
        if let Some(gate) = &self.gate {
            gate.wait();
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), SinkError> {
        if self.failures > 0 {
            self.failures -= 1;
            return Err(SinkError::new("no network").with_reason("network"));
        }
        self.delivered = self.kept;
        Ok(())
    }

    fn resume_point(&mut self) -> Option<ResumePoint> {
        ResumePoint::new(&self.kept)
    }

    fn books(&self) -> Option<SinkBooks> {
        let mut books = SinkBooks::default();
        (books.accepted, books.delivered, books.spooled) = (self.kept, self.delivered, self.kept - self.delivered);
        Some(books)
    }
}

#[test]
fn resume_point_is_complete_only_while_nothing_waits() {
    let gate = Arc::new(Barrier::new(2));
    let mut sink = Queued::new(BufferingSink {
        gate: Some(Arc::clone(&gate)),
        kept: 0,
        delivered: 0,
        failures: 0,
    });
    assert_eq!(sink.resume_point(), ResumePoint::new(&0));
    sink.record(&Record::new(Level::Info, "t", "m")).unwrap();
    assert!(!sink.resume_point().unwrap().is_complete());
    gate.wait();
    sink.flush(soon()).unwrap();
    assert_eq!(sink.resume_point(), ResumePoint::new(&1));
}

#[test]
fn books_include_those_of_the_sink_and_of_the_queue() {
    let gate = Arc::new(Barrier::new(2));
    let mut sink = Queued::with_capacity(
        BufferingSink {
            gate: Some(Arc::clone(&gate)),
            kept: 0,
            delivered: 0,
            failures: u32::MAX,
        },
        1,
    );
    let record = Record::new(Level::Info, "t", "m");
    let refused = (0..5).filter(|_| sink.record(&record).is_err()).count() as u64;
    for _ in 0..5 - refused {
        gate.wait();
    }
    let _ = sink.finish(soon());
    let books = sink.books().unwrap();
    assert_eq!((books.accepted, books.spooled), (5, 5 - refused));
    assert!(books.balanced(), "{books:?}");
}

#[test]
fn failed_deliver_is_repeated_and_reported_meanwhile() {
    let mut sink = Queued::new(BufferingSink {
        gate: None,
        kept: 0,
        delivered: 0,
        failures: 2,
    });
    sink.record(&Record::new(Level::Info, "t", "m")).unwrap();
    while sink.deliver().is_ok() {
        thread::yield_now();
    }
    assert_eq!(
        sink.deliver().map_err(|error| error.reason().to_owned()),
        Err("network".to_owned())
    );
    while sink.books().unwrap().delivered == 0 {
        thread::yield_now();
    }
    let _ = sink.deliver();
    sink.finish(soon())
        .unwrap_or_else(|error| assert_eq!(error.reason(), "network"));
}
