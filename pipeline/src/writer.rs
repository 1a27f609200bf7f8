//! The one thread that takes frames out of the ring and has them delivered.

use std::collections::HashMap;
use std::hint;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::delivery::Delivery;
use crate::frame::{decode_piece, decode_ticket};
use crate::ring::{Kind, Next, Reader};
use crate::shared::{ASLEEP, AWAKE, NAPPING, Shared};

/// The sinks are asked to write out at the latest after this many bytes.
const BATCH_BYTES: u64 = 256 << 10;
/// Naps between looks while there was work a moment ago; the longest bounds the delay of a lone line.
const NAPS: [Duration; 3] = [
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
];
/// After this long without work the writer sleeps until it is woken.
const IDLE: Duration = Duration::from_millis(200);
/// A sink in trouble is asked to try again after this.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    shared: Arc<Shared>,
    reader: Reader,
    delivery: Delivery,
    /// Long frames that have not all their pieces yet.
    pieces: HashMap<u64, Vec<u8>>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, reader: Reader) -> Self {
        Self {
            delivery: Delivery::new(Arc::clone(&shared)),
            shared,
            reader,
            pieces: HashMap::new(),
        }
    }

    /// Works until the process ends.
    pub(crate) fn run(mut self) {
        // If a fault of our own ends this thread, callers must learn of it instead of waiting for ever.
        struct End(Arc<Shared>);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.delivered.end();
            }
        }
        let _end = End(Arc::clone(&self.shared));

        let mut last_work = Instant::now();
        let mut empty_looks = 0;
        loop {
            if self.drain() {
                last_work = Instant::now();
                empty_looks = 0;
            } else {
                self.rest(last_work.elapsed(), empty_looks);
                empty_looks += 1;
            }
        }
    }

    /// Delivers a batch; returns whether there was anything.
    fn drain(&mut self) -> bool {
        let start = self.reader.position();
        let mut patience = Patience::new();
        loop {
            match self.reader.next() {
                Next::Frame(kind, body) => {
                    handle(&self.shared, &mut self.delivery, &mut self.pieces, kind, body);
                    patience = Patience::new();
                }
                // What is complete is not held up by a caller that has lost its core between reserving and committing.
                Next::Pending if patience.wait() => {}
                Next::Pending | Next::Empty => break,
            }
            if self.reader.position() - start >= BATCH_BYTES {
                break;
            }
        }
        let worked = self.reader.position() != start;
        self.delivery.deliver(RETRY);
        if worked {
            self.reader.release();
            self.shared.delivered.advance(self.reader.position());
            for number in self.shared.take_abandoned() {
                self.pieces.remove(&number);
            }
        }
        worked
    }

    fn rest(&self, idle: Duration, empty_looks: usize) {
        let sleeping = self.shared.ring.sleeping();
        if idle < IDLE {
            sleeping.store(NAPPING, Ordering::SeqCst);
            thread::park_timeout(NAPS[empty_looks.min(NAPS.len() - 1)]);
        } else {
            // Sequentially consistent, as the callers' side: see `Shared::push_whole`.
            sleeping.store(ASLEEP, Ordering::SeqCst);
            if self.shared.ring.tail() == self.reader.position() {
                match self.delivery.in_trouble() {
                    true => thread::park_timeout(RETRY),
                    false => thread::park(),
                }
            }
        }
        sleeping.store(AWAKE, Ordering::SeqCst);
    }
}

fn handle(shared: &Shared, delivery: &mut Delivery, pieces: &mut HashMap<u64, Vec<u8>>, kind: Kind, body: &[u8]) {
    match kind {
        Kind::Record => delivery.record(body),
        Kind::Metrics => delivery.metrics(body),
        Kind::Progress => delivery.progress(body),
        Kind::Message => delivery.message(body),
        Kind::Config => delivery.config(body),
        Kind::Control => {
            if let Some(command) = decode_ticket(body).and_then(|ticket| shared.take_command(ticket)) {
                delivery.command(command);
            }
        }
        Kind::Piece => {
            let Some(piece) = decode_piece(body) else { return };
            pieces.entry(piece.number).or_default().extend_from_slice(piece.bytes);
            if piece.last
                && let Some(whole) = pieces.remove(&piece.number)
                && let Some(kind) = Kind::from_bits(u64::from(piece.kind))
            {
                handle(shared, delivery, pieces, kind, &whole);
            }
        }
        Kind::Padding => {}
    }
}

/// How long to wait for a caller that is between reserving and committing: the time of a copy, then that of a time slice.
struct Patience(u32);

impl Patience {
    fn new() -> Self {
        Self(0)
    }

    /// Waits a little; returns whether it is worth looking again.
    fn wait(&mut self) -> bool {
        self.0 += 1;
        match self.0 {
            0..100 => hint::spin_loop(),
            100..200 => thread::yield_now(),
            _ => return false,
        }
        true
    }
}
