//! The bounded ring of bytes between many callers and one writer.
//!
//! ```text
//! frame at p (p % 8 == 0): u64 word, body, up to 7 bytes of slack; contiguous, never across the end of the data
//! word = ((p >> 3) ^ nonce) << 24 | (frame bytes / 8) << 4 | kind << 1 | committed        (40 + 20 + 3 + 1 bits)
//! ```
//!
//! A caller reserves by moving the tail, writes the word uncommitted, the body, then the word committed. The writer
//! reads frames in the order of reservation; a frame that is reserved and not committed holds it up for the moment that
//! the copy takes. The stamp in the word tells a frame of this lap from whatever an earlier lap left in its place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::region::{CAPACITY, HEAD, HEADER_BYTES, MAGIC, NONCE, PID, Region, SLEEPING, TAIL};

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing: the rest of the data before its end.
    Padding = 0,
    Record = 1,
    Metrics = 2,
    // 3 is kept free for records that are formatted later.
    Progress = 4,
    Message = 3,
    Config = 5,
    /// A part of a frame that is too long for the ring.
    Piece = 6,
    Control = 7,
}

impl Kind {
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            0 => Self::Padding,
            1 => Self::Record,
            2 => Self::Metrics,
            4 => Self::Progress,
            3 => Self::Message,
            5 => Self::Config,
            6 => Self::Piece,
            7 => Self::Control,
            _ => return None,
        })
    }
}

/// There is no room at present.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// The ring, as callers see it.
pub(crate) struct Ring {
    region: Region,
    capacity: u64,
    nonce: u64,
    data: usize,
    dictionary_bytes: usize,
}

/// The word's length field has 20 bits of 8 bytes each; half of that leaves room for padding.
const MAX_FRAME: u64 = 4 << 20;
const WORD_BYTES: u64 = 8;

impl Ring {
    /// A ring of `bytes` bytes, rounded up to a power of two, and its one reader.
    pub(crate) fn new(bytes: usize) -> (Arc<Self>, Reader) {
        let capacity = bytes.next_power_of_two().max(HEADER_BYTES);
        let dictionary_bytes = (capacity / 4).clamp(64 << 10, 1 << 20);
        let data = HEADER_BYTES + dictionary_bytes;
        let region = Region::new(data + capacity);
        let nonce = random();
        region.word(CAPACITY).store(capacity as u64, Ordering::Relaxed);
        region.word(NONCE).store(nonce, Ordering::Relaxed);
        region.word(PID).store(u64::from(std::process::id()), Ordering::Relaxed);
        region.word(0).store(MAGIC, Ordering::Relaxed);
        let ring = Arc::new(Self {
            region,
            capacity: capacity as u64,
            nonce,
            data,
            dictionary_bytes,
        });
        let reader = Reader {
            ring: Arc::clone(&ring),
            at: 0,
        };
        (ring, reader)
    }

    /// The longest body that fits into one frame; what is longer goes in pieces.
    pub(crate) fn max_body(&self) -> usize {
        ((self.capacity / 4).min(MAX_FRAME) - WORD_BYTES) as usize
    }

    /// Puts a frame into the ring and returns the position of its end.
    ///
    /// # Panics
    ///
    /// If the body is longer than [`Ring::max_body`].
    pub(crate) fn push(&self, kind: Kind, body: &[u8]) -> Result<u64, Full> {
        assert!(body.len() <= self.max_body());
        let length = (WORD_BYTES + body.len() as u64).next_multiple_of(8);
        let (start, at) = self.reserve(length)?;
        if at > start {
            self.word(start)
                .store(self.stamped(start, at - start, Kind::Padding) | 1, Ordering::Release);
        }
        let word = self.stamped(at, length, kind);
        self.word(at).store(word, Ordering::Relaxed);
        // The length is visible before any byte of the body, for whoever reads the block after this process died.
        fence(Ordering::Release);
        // SAFETY: the reservation gives these bytes to this thread alone: the writer looks at them only after the
        // committed word below, and other callers reserve elsewhere until the writer has moved the head past them.
        unsafe { self.region.write(self.offset(at) + WORD_BYTES as usize, body) };
        self.word(at).store(word | 1, Ordering::Release);
        Ok(at + length)
    }

    /// Everything reserved so far ends here.
    pub(crate) fn tail(&self) -> u64 {
        // Sequentially consistent: see `Sleep`.
        self.tail_word().load(Ordering::SeqCst)
    }

    /// How many bytes are in use.
    pub(crate) fn used(&self) -> u64 {
        let head = self.region.word(HEAD).load(Ordering::Relaxed);
        self.tail_word().load(Ordering::Relaxed).saturating_sub(head)
    }

    /// Whether a frame with such a body would find room now.
    pub(crate) fn has_room(&self, body_bytes: usize) -> bool {
        let length = (WORD_BYTES + body_bytes as u64).next_multiple_of(8);
        let tail = self.tail_word().load(Ordering::Relaxed);
        self.placed(tail, length).is_some()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// The word in which the writer says whether it works, naps or sleeps.
    pub(crate) fn sleeping(&self) -> &AtomicU64 {
        self.region.word(SLEEPING)
    }

    /// The block, and where the dictionary lies in it.
    pub(crate) fn dictionary_area(&self) -> (&Region, usize, usize) {
        (&self.region, HEADER_BYTES, self.dictionary_bytes)
    }

    /// Takes `length` bytes: returns where the reservation starts and where the frame stands in it (behind the padding).
    fn reserve(&self, length: u64) -> Result<(u64, u64), Full> {
        let mut tail = self.tail_word().load(Ordering::Relaxed);
        loop {
            let at = self.placed(tail, length).ok_or(Full)?;
            // Success is sequentially consistent for the sake of `Sleep`; it costs nothing more on x86.
            match self
                .tail_word()
                .compare_exchange_weak(tail, at + length, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => return Ok((tail, at)),
                Err(moved) => tail = moved,
            }
        }
    }

    /// Where a frame of `length` would stand if the tail is `tail`; `None` if there is no room.
    fn placed(&self, tail: u64, length: u64) -> Option<u64> {
        let left = self.capacity - (tail & (self.capacity - 1));
        let at = if length > left { tail + left } else { tail };
        // Acquire: the writer is done with the bytes that it freed. The difference saturates because a stale tail may lie
        // below a fresh head; the exchange then fails.
        let head = self.region.word(HEAD).load(Ordering::Acquire);
        ((at + length).saturating_sub(head) <= self.capacity).then_some(at)
    }

    fn stamped(&self, at: u64, length: u64, kind: Kind) -> u64 {
        (((at >> 3) ^ self.nonce) << 24) | ((length / 8) << 4) | ((kind as u64) << 1)
    }

    fn offset(&self, at: u64) -> usize {
        self.data + (at & (self.capacity - 1)) as usize
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        self.region.word(self.offset(at))
    }

    fn tail_word(&self) -> &AtomicU64 {
        self.region.word(TAIL)
    }
}

/// The ring, as the writer sees it. There is one.
pub(crate) struct Reader {
    ring: Arc<Ring>,
    at: u64,
}

/// What the reader found.
pub(crate) enum Next<'r> {
    /// A frame. Its body ends with up to 7 bytes that mean nothing.
    Frame(Kind, &'r [u8]),
    /// A caller is between reserving and committing.
    Pending,
    /// There is nothing.
    Empty,
}

impl Reader {
    /// The next frame. Its bytes stay in the ring until [`Reader::release`].
    pub(crate) fn next(&mut self) -> Next<'_> {
        loop {
            if self.at == self.ring.tail() {
                return Next::Empty;
            }
            // Acquire: with the committed word comes the body.
            let word = self.ring.word(self.at).load(Ordering::Acquire);
            let fresh = (word >> 24) == (self.ring.stamped(self.at, 0, Kind::Padding) >> 24);
            if !fresh || word & 1 == 0 {
                return Next::Pending;
            }
            let (at, length) = (self.at, ((word >> 4) & 0xF_FFFF) * 8);
            self.at += length;
            match Kind::from_bits((word >> 1) & 7) {
                Some(Kind::Padding) | None => {}
                Some(kind) => {
                    let offset = self.ring.offset(at) + WORD_BYTES as usize;
                    // SAFETY: the committed word of this lap was seen with acquire, so the caller is done with the body;
                    // nobody reserves these bytes before `release`, which needs `&mut self` and so ends this borrow.
                    let body = unsafe { self.ring.region.bytes(offset, (length - WORD_BYTES) as usize) };
                    return Next::Frame(kind, body);
                }
            }
        }
    }

    /// The end of what was read.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Gives everything that was read back to the callers.
    pub(crate) fn release(&mut self) {
        self.ring.region.word(HEAD).store(self.at, Ordering::Release);
    }
}

/// A number that no text in a message can guess. `RandomState` is seeded by the system.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn read_all(reader: &mut Reader) -> Vec<(Kind, Vec<u8>)> {
        let mut frames = Vec::new();
        while let Next::Frame(kind, body) = reader.next() {
            frames.push((kind, body.to_vec()));
        }
        reader.release();
        frames
    }

    #[test]
    fn what_goes_in_comes_out_whole_over_many_laps() {
        let (ring, mut reader) = Ring::new(4096);
        for round in 0..10_000_u32 {
            let body = vec![round as u8; (round as usize * 37) % (ring.max_body() + 1)];
            ring.push(Kind::Record, &body).unwrap();
            let frames = read_all(&mut reader);
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].0, Kind::Record);
            assert_eq!(&frames[0].1[..body.len()], body);
        }
    }

    #[test]
    fn a_full_ring_says_so_and_has_room_after_release() {
        let (ring, mut reader) = Ring::new(4096);
        let mut pushed = 0;
        while ring.push(Kind::Metrics, &[7; 100]).is_ok() {
            pushed += 1;
        }
        // 100 bytes and the word take 112.
        assert_eq!(pushed, 4096 / 112);
        assert!(!ring.has_room(100));
        assert_eq!(read_all(&mut reader).len(), pushed);
        assert!(ring.has_room(100));
        ring.push(Kind::Metrics, &[7; 100]).unwrap();
    }

    #[test]
    fn many_callers_keep_their_own_order() {
        const THREADS: u32 = 4;
        const EACH: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let (ring, mut reader) = Ring::new(8192);
        thread::scope(|scope| {
            for id in 0..THREADS {
                let ring = &ring;
                scope.spawn(move || {
                    for number in 0..EACH {
                        let body = [id.to_le_bytes(), number.to_le_bytes()].concat();
                        while ring.push(Kind::Record, &body).is_err() {
                            thread::yield_now();
                        }
                    }
                });
            }
            let mut expected = [0; THREADS as usize];
            while expected.iter().sum::<u32>() < THREADS * EACH {
                match reader.next() {
                    Next::Frame(_, body) => {
                        let id = u32::from_le_bytes(body[..4].try_into().unwrap());
                        let number = u32::from_le_bytes(body[4..8].try_into().unwrap());
                        assert_eq!(number, expected[id as usize]);
                        expected[id as usize] += 1;
                    }
                    Next::Pending => thread::yield_now(),
                    Next::Empty => {
                        reader.release();
                        thread::yield_now();
                    }
                }
            }
        });
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(sizes in prop::collection::vec(0_usize..1016, 1..200), batch in 1_usize..5) {
            let (ring, mut reader) = Ring::new(4096);
            let mut waiting: Vec<Vec<u8>> = Vec::new();
            for (number, size) in sizes.into_iter().enumerate() {
                let body: Vec<u8> = (0..size).map(|i| (i + number) as u8).collect();
                if waiting.len() >= batch || ring.push(Kind::Config, &body).is_err() {
                    for (frame, sent) in read_all(&mut reader).iter().zip(waiting.drain(..)) {
                        prop_assert_eq!(&frame.1[..sent.len()], &sent);
                    }
                    ring.push(Kind::Config, &body).unwrap();
                }
                waiting.push(body);
            }
            prop_assert!(read_all(&mut reader).len() <= waiting.len() + 1);
        }
    }
}
