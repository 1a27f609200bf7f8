//! The callers' side of the ring: a bounded queue of frames between many callers and one reader.
//!
//! ```text
//! frame at p (p % 8 == 0): u64 word, body, up to 7 bytes of slack; contiguous, never across the end of the data
//! word = ((p >> 3) ^ nonce) << 24 | (frame bytes / 8) << 4 | kind << 1 | committed        (40 + 20 + 3 + 1 bits)
//! ```
//!
//! 1. A caller reserves bytes by moving the tail.
//! 2. It writes the word uncommitted, then the body, then the word committed.
//! 3. The reader takes the frames in the order of their reservation, and releases their bytes by
//!    moving the head.
//!
//! A frame that is reserved but not committed delays the reader for the moment of the copy. The
//! stamp in the word (its upper 40 bits) distinguishes a frame of this lap from the bytes of an
//! earlier lap in the same place.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use logcore::kill_point::{kill_point, kill_point_amid};

use super::layout::{
    BOOT, CAPACITY, HEAD, HEADER_BYTES, INODE, MAGIC, NAMES_BYTES, NONCE, PID, RingSizes, SLOT_BYTES, TAIL, WAKEUP,
};
use super::wakeup::Wakeup;
use super::{AtomicU64, Region, child_lock, fence};

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// Fills the data up to its end.
    Padding = 0,
    Record = 1,
    Metrics = 2,
    Message = 3,
    Progress = 4,
    Config = 5,
    /// A part of a frame that is too long for the ring.
    Chunk = 6,
    Control = 7,
}

impl FrameKind {
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        Some(match bits {
            0 => Self::Padding,
            1 => Self::Record,
            2 => Self::Metrics,
            3 => Self::Message,
            4 => Self::Progress,
            5 => Self::Config,
            6 => Self::Chunk,
            7 => Self::Control,
            _ => return None,
        })
    }
}

/// The ring has no room at present.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RingFull;

/// The ring, as callers see it.
pub(crate) struct Ring {
    region: Region,
    sizes: RingSizes,
    capacity: u64,
    max_body: usize,
    nonce: u64,
    data: usize,
}

/// Returns the stamp of a frame at a position: the upper bits of its word.
pub(crate) fn stamp(at: u64, nonce: u64) -> u64 {
    (((at >> 3) ^ nonce) << STAMP_SHIFT) >> STAMP_SHIFT
}

/// Number of bits of a word below its stamp.
pub(crate) const STAMP_SHIFT: u32 = 24;

/// The word's length field counts up to 2^20 times 8 bytes; half of that leaves room for padding.
pub(crate) const MAX_FRAME: u64 = 4 << 20;
pub(crate) const WORD_BYTES: u64 = 8;
/// A bit of the tail that closes the ring. No reservation succeeds from then on, because no such
/// tail has room behind it.
const CLOSED: u64 = 1 << 63;

impl Ring {
    /// Creates a small ring that nobody reads, for loggers that could not be opened.
    pub(crate) fn disconnected() -> Arc<Self> {
        let sizes = RingSizes::smallest();
        match Region::plain(sizes.total()) {
            Ok(region) => {
                Self::initialize(&region, sizes, RingIdentity::default());
                Self::in_region(region, sizes)
            }
            // Without two pages the process has no memory for anything.
            Err(_) => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 8192]>()),
        }
    }

    /// Writes the header of a ring into a fresh block of zeros.
    pub(crate) fn initialize(region: &Region, sizes: RingSizes, identity: RingIdentity) {
        for (at, value) in [
            (CAPACITY, sizes.capacity as u64),
            (NONCE, identity.nonce),
            (PID, u64::from(std::process::id())),
            (NAMES_BYTES, sizes.names as u64),
            (SLOT_BYTES, sizes.slot as u64),
            (BOOT, identity.boot),
            (INODE, identity.inode),
        ] {
            region.word(at).store(value, Ordering::Relaxed);
        }
        child_lock::initialize(region);
        // A process that finds the magic finds the rest.
        region.word(0).store(MAGIC, Ordering::Release);
    }

    /// Returns the ring in an [initialized](Self::initialize) block.
    pub(super) fn in_region(region: Region, sizes: RingSizes) -> Arc<Self> {
        Arc::new(Self {
            nonce: region.word(NONCE).load(Ordering::Relaxed),
            region,
            sizes,
            capacity: sizes.capacity as u64,
            max_body: ((sizes.capacity as u64 / 4).min(MAX_FRAME) - WORD_BYTES) as usize,
            data: sizes.data(),
        })
    }

    /// Length of the longest body that fits into one frame. Longer bodies go in chunks.
    #[inline]
    pub(crate) fn max_body(&self) -> usize {
        self.max_body
    }

    /// Pushes a frame, and returns the position of its end.
    ///
    /// # Panics
    ///
    /// If the body is longer than [`Ring::max_body`].
    // Measured: see `PipelineState::push_whole`.
    #[inline(always)]
    pub(crate) fn push(&self, kind: FrameKind, body: &[u8]) -> Result<u64, RingFull> {
        assert!(body.len() <= self.max_body());
        let length = (WORD_BYTES + body.len() as u64).next_multiple_of(8);
        let (start, at) = self.reserve(length)?;
        kill_point("reserved");
        if at > start {
            self.word(start).store(
                self.stamped(start, at - start, FrameKind::Padding) | 1,
                Ordering::Release,
            );
        }
        let (place, word) = (self.word(at), self.stamped(at, length, kind));
        place.store(word, Ordering::Relaxed);
        // The length is visible before any byte of the body, for a process that reads the block
        // after this one died.
        fence(Ordering::Release);
        kill_point("length");
        let body_at = self.offset(at) + WORD_BYTES as usize;
        // SAFETY: as below.
        kill_point_amid("body", body, |half| unsafe { self.region.write(body_at, half) });
        // SAFETY: the reservation gives these bytes to this thread alone. The reader looks at them
        // only after the committed word below, and other callers reserve elsewhere until the reader
        // has moved the head past them.
        unsafe { self.region.write(body_at, body) };
        kill_point("copied");
        place.store(word | 1, Ordering::Release);
        kill_point("committed");
        Ok(at + length)
    }

    /// Returns the end of everything reserved so far.
    pub(crate) fn tail(&self) -> u64 {
        // Sequentially consistent: see `Wakeup`.
        self.tail_word().load(Ordering::SeqCst) & !CLOSED
    }

    /// Closes the ring: no further frame fits. Returns the end of the earlier reservations, all of
    /// which will still be committed.
    pub(crate) fn close(&self) -> u64 {
        self.tail_word().fetch_or(CLOSED, Ordering::SeqCst) & !CLOSED
    }

    /// Returns `true` if the ring is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.tail_word().load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Returns the number of bytes in use.
    pub(crate) fn used(&self) -> u64 {
        (self.tail_word().load(Ordering::Relaxed) & !CLOSED).saturating_sub(self.head())
    }

    /// Returns the position below which everything is delivered.
    pub(crate) fn head(&self) -> u64 {
        self.head_word().load(Ordering::Relaxed)
    }

    /// Returns `true` if a frame with such a body would fit now.
    pub(crate) fn has_room(&self, body_bytes: usize) -> bool {
        let length = (WORD_BYTES + body_bytes as u64).next_multiple_of(8);
        let tail = self.tail_word().load(Ordering::Relaxed);
        self.frame_position(tail, length).is_some()
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Returns the state by which the writer sleeps and is woken.
    #[inline]
    pub(crate) fn wakeup(&self) -> Wakeup<'_> {
        Wakeup(self.region.front_half_word(WAKEUP))
    }

    /// Returns `true` if the contents outlive the process.
    pub(crate) fn outlives_process(&self) -> bool {
        self.region.outlives_process()
    }

    /// Returns `true` if the contents would outlive the process, but the file was truncated or its
    /// disk failed.
    pub(crate) fn is_detached(&self) -> bool {
        self.region.is_detached()
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// Returns the id of the process that created the ring.
    pub(crate) fn pid(&self) -> u64 {
        self.region.word(PID).load(Ordering::Relaxed)
    }

    /// Returns the block, and the offset and the length of the name table in its front.
    pub(crate) fn name_area(&self) -> (&Region, usize, usize) {
        (&self.region, HEADER_BYTES, self.sizes.names)
    }

    /// Returns the length of the longest checkpoint that fits into a slot.
    pub(crate) fn checkpoint_room(&self) -> usize {
        self.sizes.slot - 8
    }

    /// Returns the offset of a slot for checkpoints.
    pub(super) fn slot_offset(&self, turn: u64) -> usize {
        self.sizes.front() + (turn & 1) as usize * self.sizes.slot
    }

    /// Reserves `length` bytes. Returns the start of the reservation, and the position of the frame
    /// in it (after the padding).
    fn reserve(&self, length: u64) -> Result<(u64, u64), RingFull> {
        let mut tail = self.tail_word().load(Ordering::Relaxed);
        loop {
            let at = self.frame_position(tail, length).ok_or(RingFull)?;
            // Success is sequentially consistent for the sake of `Wakeup`; on x86 that costs
            // nothing more.
            match self
                .tail_word()
                .compare_exchange_weak(tail, at + length, Ordering::SeqCst, Ordering::Relaxed)
            {
                Ok(_) => return Ok((tail, at)),
                Err(moved) => tail = moved,
            }
        }
    }

    /// Returns the position that a frame of `length` would have if the tail is `tail`; `None` if
    /// there is no room.
    fn frame_position(&self, tail: u64, length: u64) -> Option<u64> {
        let left = self.capacity - (tail & (self.capacity - 1));
        let at = if length > left { tail + left } else { tail };
        // Acquire: the reader is done with the bytes that it released. The difference saturates
        // because a stale tail may lie below a fresh head; the exchange then fails.
        let head = self.region.front_word(HEAD).load(Ordering::Acquire);
        ((at + length).saturating_sub(head) <= self.capacity).then_some(at)
    }

    #[inline]
    pub(super) fn stamped(&self, at: u64, length: u64, kind: FrameKind) -> u64 {
        (((at >> 3) ^ self.nonce) << 24) | ((length / 8) << 4) | ((kind as u64) << 1)
    }

    #[inline]
    pub(super) fn offset(&self, at: u64) -> usize {
        self.data + (at & (self.capacity - 1)) as usize
    }

    #[inline]
    pub(super) fn word(&self, at: u64) -> &AtomicU64 {
        self.region.word(self.offset(at))
    }

    #[inline]
    pub(super) fn head_word(&self) -> &AtomicU64 {
        self.region.front_word(HEAD)
    }

    fn tail_word(&self) -> &AtomicU64 {
        self.region.front_word(TAIL)
    }
}

/// The identity of a ring, which distinguishes it from other rings and from its copies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RingIdentity {
    /// A number that no text in a message can guess.
    pub(crate) nonce: u64,
    /// The inode of the ring's file, if it has one.
    pub(crate) inode: u64,
    /// The boot of the machine; see [`host_id`](super::host_id).
    pub(crate) boot: u64,
}

impl RingIdentity {
    /// The identity of a new ring in a file of this inode.
    pub(crate) fn new(inode: u64, boot: u64) -> Self {
        use std::hash::{BuildHasher, RandomState};
        // The system seeds `RandomState`.
        let nonce = RandomState::new().hash_one(std::process::id());
        Self { nonce, inode, boot }
    }
}
