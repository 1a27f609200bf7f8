//! Model tests of a few calls and the writer, in every interleaving that the memory model tells
//! apart: `cargo xtask model`.

use std::sync::Arc;

use loom::thread;

use super::queue::{FrameKind, Ring};
use super::reader::{NextFrame, RingReader};
use super::wakeup::{ASLEEP, NAPPING};

/// Four frames of one number each.
const BYTES: usize = 64;

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn push(ring: &Ring, number: u64) {
    while ring.push(FrameKind::Record, &number.to_le_bytes()).is_err() {
        thread::yield_now();
    }
}

/// Reads `count` numbers, and releases what it has read whenever the ring is empty.
fn read(reader: &mut RingReader, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match reader.next() {
            NextFrame::Frame(kind, body) => {
                assert_eq!(kind, FrameKind::Record);
                numbers.push(u64::from_le_bytes(body.try_into().unwrap()));
            }
            NextFrame::Pending | NextFrame::Empty => {
                reader.release();
                thread::yield_now();
            }
        }
    }
    reader.release();
    numbers
}

#[test]
fn two_callers_and_the_writer() {
    explore(3, || {
        let (ring, mut reader) = RingReader::plain(BYTES).unwrap();
        let callers = [1, 2].map(|number| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || push(&ring, number))
        });
        let mut numbers = read(&mut reader, 2);
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);
        for caller in callers {
            caller.join().unwrap();
        }
    });
}

#[test]
fn room_is_taken_again_only_when_it_was_read() {
    explore(2, || {
        let (ring, mut reader) = RingReader::plain(BYTES).unwrap();
        let caller = thread::spawn(move || (1..=6).for_each(|number| push(&ring, number)));
        assert_eq!(read(&mut reader, 6), [1, 2, 3, 4, 5, 6]);
        caller.join().unwrap();
    });
}

#[test]
fn no_wakeup_is_lost() {
    explore(3, || {
        let (ring, mut reader) = RingReader::plain(BYTES).unwrap();
        let caller = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                push(&ring, 1);
                let wakeup = ring.wakeup();
                if wakeup.state() == ASLEEP {
                    wakeup.wake();
                }
            })
        };
        // As in the writer: when it sleeps without a limit, only a caller can wake it.
        let wakeup = ring.wakeup();
        loop {
            match reader.next() {
                NextFrame::Frame(..) => break,
                NextFrame::Pending => thread::yield_now(),
                NextFrame::Empty => wakeup.sleep(ASLEEP, None, || ring.tail() == reader.position()),
            }
        }
        caller.join().unwrap();
    });
}

#[test]
fn a_wakeup_ends_a_nap() {
    explore(3, || {
        let (ring, mut reader) = RingReader::plain(BYTES).unwrap();
        let caller = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                push(&ring, 1);
                ring.wakeup().wake();
            })
        };
        // A nap that nobody ends lasts forever in the model.
        let wakeup = ring.wakeup();
        loop {
            match reader.next() {
                NextFrame::Frame(..) => break,
                NextFrame::Pending => thread::yield_now(),
                NextFrame::Empty => wakeup.sleep(NAPPING, None, || true),
            }
        }
        caller.join().unwrap();
    });
}
