//! Every interleaving of a few calls and the writer, as far as the memory model lets them differ: `cargo xtask model`.

use std::sync::Arc;

use loom::thread;

use crate::ring::queue::{Kind, Next, Reader, Ring};
use crate::ring::wakeup::{ASLEEP, Bell, NAPPING};

/// Four frames of one number each.
const BYTES: usize = 64;

fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

fn push(ring: &Ring, number: u64) {
    while ring.push(Kind::Record, &number.to_le_bytes()).is_err() {
        thread::yield_now();
    }
}

/// Reads numbers until there are `count`, and gives the ring back after each.
fn read(reader: &mut Reader, count: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        match reader.next() {
            Next::Frame(kind, body) => {
                assert_eq!(kind, Kind::Record);
                numbers.push(u64::from_le_bytes(body.try_into().unwrap()));
            }
            Next::Pending | Next::Empty => {
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
        let (ring, mut reader) = Ring::plain(BYTES).unwrap();
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
        let (ring, mut reader) = Ring::plain(BYTES).unwrap();
        let caller = thread::spawn(move || (1..=6).for_each(|number| push(&ring, number)));
        assert_eq!(read(&mut reader, 6), [1, 2, 3, 4, 5, 6]);
        caller.join().unwrap();
    });
}

#[test]
fn no_wake_up_is_lost() {
    explore(3, || {
        let (ring, mut reader) = Ring::plain(BYTES).unwrap();
        let caller = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                push(&ring, 1);
                let bell = Bell(ring.sleeping());
                if bell.state() == ASLEEP {
                    bell.ring();
                }
            })
        };
        // As the writer does it: once it sleeps for good, only a caller can wake it.
        let bell = Bell(ring.sleeping());
        loop {
            match reader.next() {
                Next::Frame(..) => break,
                Next::Pending => thread::yield_now(),
                Next::Empty => bell.sleep(ASLEEP, None, || ring.tail() == reader.position()),
            }
        }
        caller.join().unwrap();
    });
}

#[test]
fn who_waits_is_not_kept_waiting_by_a_nap() {
    explore(3, || {
        let (ring, mut reader) = Ring::plain(BYTES).unwrap();
        let caller = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                push(&ring, 1);
                Bell(ring.sleeping()).ring();
            })
        };
        // A nap that nobody ends is for ever here.
        let bell = Bell(ring.sleeping());
        loop {
            match reader.next() {
                Next::Frame(..) => break,
                Next::Pending => thread::yield_now(),
                Next::Empty => bell.sleep(NAPPING, None, || true),
            }
        }
        caller.join().unwrap();
    });
}
