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

use std::fmt::{self, Display};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use logcore::kill_point::{kill_point, kill_point_amid};

use crate::ring::atomic::{AtomicU32, AtomicU64, fence};
use crate::ring::child_lock;
use crate::ring::layout::{
    BESIDE, BOOT, CAPACITY, DICTIONARY_BYTES, DICTIONARY_USED, HEAD, HEADER_BYTES, INODE, MAGIC, NONCE, OLDER_MAGIC,
    PID, SLEEPING, SLOT_BYTES, TAIL, TURN,
};
use crate::ring::region::Region;

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
    sizes: Sizes,
    capacity: u64,
    max_body: usize,
    nonce: u64,
    data: usize,
}

/// How the block is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    capacity: usize,
    dictionary: usize,
    slot: usize,
}

impl Sizes {
    /// For a ring of `bytes` bytes, rounded up to a power of two.
    pub(crate) fn of(bytes: usize) -> Self {
        if cfg!(loom) {
            let (dictionary, slot) = (0, 0);
            return Self {
                capacity: bytes,
                dictionary,
                slot,
            };
        }
        let capacity = bytes.next_power_of_two().max(HEADER_BYTES);
        let side = (capacity / 4).clamp(64 << 10, 1 << 20);
        Self {
            capacity,
            dictionary: side,
            slot: side,
        }
    }

    /// Of the whole block.
    pub(crate) fn total(self) -> usize {
        self.data() + self.capacity
    }

    fn data(self) -> usize {
        self.front() + 2 * self.slot
    }

    /// The bytes of the part that live processes have elsewhere: header and dictionary.
    pub(crate) fn front(self) -> usize {
        HEADER_BYTES + self.dictionary
    }
}

/// The word's length field has 20 bits of 8 bytes each; half of that leaves room for padding.
const MAX_FRAME: u64 = 4 << 20;
const WORD_BYTES: u64 = 8;
/// In the tail: the ring takes nothing more. No reservation succeeds from then on, since no such tail has room behind it.
const CLOSED: u64 = 1 << 63;

impl Ring {
    /// A ring of `bytes` bytes that ends with the process, and its one reader.
    ///
    /// # Errors
    ///
    /// If the system does not give so much memory.
    pub(crate) fn plain(bytes: usize) -> io::Result<(Arc<Self>, Reader)> {
        let sizes = Sizes::of(bytes);
        let region = Region::plain(sizes.total())?;
        Self::begin(&region, sizes, Origin::default());
        Ok(Self::new(region, sizes))
    }

    /// A ring that nobody reads, for those whose logger could not be opened.
    pub(crate) fn dead() -> Arc<Self> {
        let sizes = Sizes {
            capacity: 4096,
            dictionary: 0,
            slot: WORD_BYTES as usize,
        };
        match Region::plain(sizes.total()) {
            Ok(region) => {
                Self::begin(&region, sizes, Origin::default());
                Self::new(region, sizes).0
            }
            // Without two pages the process has no memory for anything.
            Err(_) => std::alloc::handle_alloc_error(std::alloc::Layout::new::<[u8; 8192]>()),
        }
    }

    /// Makes a fresh block of zeros one that a ring is in.
    pub(crate) fn begin(region: &Region, sizes: Sizes, origin: Origin) {
        for (at, value) in [
            (CAPACITY, sizes.capacity as u64),
            (NONCE, origin.nonce),
            (PID, u64::from(std::process::id())),
            (DICTIONARY_BYTES, sizes.dictionary as u64),
            (SLOT_BYTES, sizes.slot as u64),
            (BOOT, origin.boot),
            (INODE, origin.inode),
        ] {
            region.word(at).store(value, Ordering::Relaxed);
        }
        child_lock::begin(region);
        // Whoever finds the magic finds the rest.
        region.word(0).store(MAGIC, Ordering::Release);
    }

    /// The ring in a block that has [begun](Self::begin), and its one reader.
    pub(crate) fn new(region: Region, sizes: Sizes) -> (Arc<Self>, Reader) {
        let nonce = region.word(NONCE).load(Ordering::Relaxed);
        Self::over(region, sizes, nonce, 0)
    }

    /// The ring of a process that is no more, of which `region` is a copy, and a reader of it.
    ///
    /// # Errors
    ///
    /// What in it contradicts itself: the file was damaged, or is none of ours.
    pub(crate) fn of_dead(mut region: Region, length: usize) -> Result<Dead, Corrupt> {
        let bytes = &region.all_bytes()[..length];
        let word = |at: usize| {
            let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
            word.map(u64::from_le_bytes)
                .ok_or(Corrupt("it is shorter than its header"))
        };
        let older = match word(0)? {
            MAGIC => false,
            OLDER_MAGIC => true,
            _ => return Err(Corrupt("it is no ring of this version")),
        };
        let size = |at| word(at).map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let sizes = Sizes {
            capacity: size(CAPACITY)?,
            dictionary: size(DICTIONARY_BYTES)?,
            slot: size(SLOT_BYTES)?,
        };
        if !sizes.capacity.is_power_of_two() || sizes != Sizes::of(sizes.capacity) || sizes.total() != length {
            return Err(Corrupt("its sizes contradict each other"));
        }
        if size(DICTIONARY_USED)? > sizes.dictionary {
            return Err(Corrupt("its dictionary is longer than its place"));
        }
        let turn = word(TURN)?;
        let slot = &bytes[sizes.front() + usize::from(turn & 1 == 1) * sizes.slot..][..sizes.slot];
        let length = slot.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        let checkpoint = match length & BESIDE {
            0 => {
                let checkpoint = usize::try_from(length).ok().and_then(|length| slot[8..].get(..length));
                Saved::Within(
                    checkpoint
                        .ok_or(Corrupt("its checkpoint is longer than its place"))?
                        .to_vec(),
                )
            }
            _ => Saved::Beside(turn, length & !BESIDE),
        };
        let about = (word(BOOT)?, word(PID)?, word(NONCE)?, word(INODE)?);
        let (boot, pid, nonce, inode) = about;
        let (_, reader) = Self::over(region, sizes, nonce, 0);
        Ok(Dead {
            reader,
            checkpoint,
            origin: Origin { nonce, inode, boot },
            pid,
            older,
        })
    }

    fn over(region: Region, sizes: Sizes, nonce: u64, at: u64) -> (Arc<Self>, Reader) {
        let ring = Arc::new(Self {
            region,
            sizes,
            capacity: sizes.capacity as u64,
            max_body: ((sizes.capacity as u64 / 4).min(MAX_FRAME) - WORD_BYTES) as usize,
            nonce,
            data: sizes.data(),
        });
        let reader = Reader {
            ring: Arc::clone(&ring),
            at,
            seen: at,
            populated: 0,
            turn: 0,
            hole: None,
            lost: 0,
        };
        (ring, reader)
    }

    /// The longest body that fits into one frame; what is longer goes in pieces.
    #[inline]
    pub(crate) fn max_body(&self) -> usize {
        self.max_body
    }

    /// Puts a frame into the ring and returns the position of its end.
    ///
    /// # Panics
    ///
    /// If the body is longer than [`Ring::max_body`].
    // Measured: see `Shared::push_whole`.
    #[inline(always)]
    pub(crate) fn push(&self, kind: Kind, body: &[u8]) -> Result<u64, Full> {
        assert!(body.len() <= self.max_body());
        let length = (WORD_BYTES + body.len() as u64).next_multiple_of(8);
        let (start, at) = self.reserve(length)?;
        kill_point("reserved");
        if at > start {
            self.word(start)
                .store(self.stamped(start, at - start, Kind::Padding) | 1, Ordering::Release);
        }
        let word = self.stamped(at, length, kind);
        self.word(at).store(word, Ordering::Relaxed);
        // The length is visible before any byte of the body, for whoever reads the block after this process died.
        fence(Ordering::Release);
        kill_point("length");
        let body_at = self.offset(at) + WORD_BYTES as usize;
        // SAFETY: as below.
        kill_point_amid("body", body, |half| unsafe { self.region.write(body_at, half) });
        // SAFETY: the reservation gives these bytes to this thread alone: the writer looks at them only after the
        // committed word below, and other callers reserve elsewhere until the writer has moved the head past them.
        unsafe { self.region.write(body_at, body) };
        kill_point("copied");
        self.word(at).store(word | 1, Ordering::Release);
        kill_point("committed");
        Ok(at + length)
    }

    /// Everything reserved so far ends here.
    pub(crate) fn tail(&self) -> u64 {
        // Sequentially consistent: see `Sleep`.
        self.tail_word().load(Ordering::SeqCst) & !CLOSED
    }

    /// Takes nothing more from now on; returns the end of what was reserved by then, all of which is committed yet.
    pub(crate) fn close(&self) -> u64 {
        self.tail_word().fetch_or(CLOSED, Ordering::SeqCst) & !CLOSED
    }

    /// Whether nothing more is taken.
    pub(crate) fn is_closed(&self) -> bool {
        self.tail_word().load(Ordering::Relaxed) & CLOSED != 0
    }

    /// How many bytes are in use.
    pub(crate) fn used(&self) -> u64 {
        (self.tail_word().load(Ordering::Relaxed) & !CLOSED).saturating_sub(self.head())
    }

    /// Everything below is delivered.
    pub(crate) fn head(&self) -> u64 {
        self.region.front_word(HEAD).load(Ordering::Relaxed)
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

    /// In which the writer says whether it works, naps or sleeps.
    pub(crate) fn sleeping(&self) -> &AtomicU32 {
        self.region.front_half_word(SLEEPING)
    }

    /// Whether what is in it outlives the process.
    pub(crate) fn outlives(&self) -> bool {
        self.region.outlives()
    }

    /// Whether it did, until its file was cut or its disk failed.
    pub(crate) fn has_parted(&self) -> bool {
        self.region.has_parted()
    }

    /// The block.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The process that began it.
    pub(crate) fn pid(&self) -> u64 {
        self.region.word(PID).load(Ordering::Relaxed)
    }

    /// The block, and where the dictionary lies in it.
    pub(crate) fn dictionary_area(&self) -> (&Region, usize, usize) {
        (&self.region, HEADER_BYTES, self.sizes.dictionary)
    }

    /// How long a checkpoint may be.
    pub(crate) fn checkpoint_room(&self) -> usize {
        self.sizes.slot - 8
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
        let head = self.region.front_word(HEAD).load(Ordering::Acquire);
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
        self.region.front_word(TAIL)
    }
}

/// By what a ring is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// A number that no text in a message can guess.
    pub(crate) nonce: u64,
    /// Of its file, if it is in one.
    pub(crate) inode: u64,
    /// Tells this start of the machine from others.
    pub(crate) boot: u64,
}

impl Origin {
    /// Of a new ring in a file of this inode.
    pub(crate) fn new(inode: u64, boot: u64) -> Self {
        use std::hash::{BuildHasher, RandomState};
        // `RandomState` is seeded by the system.
        let nonce = RandomState::new().hash_one(std::process::id());
        Self { nonce, inode, boot }
    }
}

/// The ring of a process that is no more.
pub(crate) struct Dead {
    pub(crate) reader: Reader,
    pub(crate) checkpoint: Saved,
    pub(crate) origin: Origin,
    pub(crate) pid: u64,
    /// It is of the version before this one.
    pub(crate) older: bool,
}

/// Where a checkpoint is.
pub(crate) enum Saved {
    Within(Vec<u8>),
    /// In the file beside the ring for this turn, which has so many bytes.
    Beside(u64, u64),
}

/// What is wrong with a ring that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupt(pub(crate) &'static str);

impl Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The ring, as the writer sees it. There is one.
pub(crate) struct Reader {
    ring: Arc<Ring>,
    at: u64,
    /// The tail as it was last looked at: callers move it all the time, and each look takes its cache line from them.
    seen: u64,
    /// Up to where the pages of the data were asked for.
    populated: u64,
    /// Of the newest checkpoint.
    turn: u64,
    /// Where a frame is waited for whose bytes may have gone with the file.
    hole: Option<Hole>,
    /// Bytes of frames that have.
    lost: u64,
}

/// A frame that does not come.
struct Hole {
    at: u64,
    since: Instant,
    /// The tail when the wait began: those who reserved before are waited for.
    end: u64,
}

/// A caller is between reserving and committing for the time of a copy, or of some time slices. One that takes longer, in a ring
/// that has lost bytes, is taken for lost with them; should it come back after all, it may spoil what others have written there a
/// lap later.
const HOLE_PATIENCE: Duration = Duration::from_millis(500);

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
            if self.at == self.seen {
                self.seen = self.ring.tail();
                if self.at == self.seen {
                    return Next::Empty;
                }
            }
            // Acquire: with the committed word comes the body.
            let word = self.ring.word(self.at).load(Ordering::Acquire);
            let fresh = (word >> 24) == (self.ring.stamped(self.at, 0, Kind::Padding) >> 24);
            if !fresh || word & 1 == 0 {
                match self.ring.has_parted() && self.gives_up_on_hole() {
                    true => continue,
                    false => return Next::Pending,
                }
            }
            let (at, length) = (self.at, ((word >> 4) & 0xF_FFFF) * 8);
            self.at += length;
            match Kind::from_bits((word >> 1) & 7) {
                Some(Kind::Padding) | None => {}
                Some(_) if self.ring.has_parted() && self.has_lost_body(at, length) => self.lost += length,
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

    /// Whether something of the body of a committed frame has gone with the file.
    fn has_lost_body(&self, at: u64, length: u64) -> bool {
        let (offset, bytes) = (
            self.ring.offset(at) + WORD_BYTES as usize,
            (length - WORD_BYTES) as usize,
        );
        self.ring.region.has_lost(offset, bytes, at)
    }

    /// In a ring that has lost bytes: whether the frame that is waited for has been for too long, and the next was looked for.
    fn gives_up_on_hole(&mut self) -> bool {
        let hole = match self.hole.take() {
            Some(hole) if hole.at == self.at => hole,
            _ => Hole {
                at: self.at,
                since: Instant::now(),
                end: self.seen,
            },
        };
        if hole.since.elapsed() < HOLE_PATIENCE {
            self.hole = Some(hole);
            return false;
        }
        self.at += WORD_BYTES;
        while self.at < hole.end && !self.is_fresh(self.at) {
            self.at += WORD_BYTES;
        }
        self.lost += self.at - hole.at;
        true
    }

    fn is_fresh(&self, at: u64) -> bool {
        let word = self.ring.word(at).load(Ordering::Acquire);
        word >> 24 == self.ring.stamped(at, 0, Kind::Padding) >> 24
    }

    /// Bytes of frames that have gone with the file.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// For the ring of a dead process: the next frame that was committed, from `at` on.
    ///
    /// A process may die between reserving and writing the length: then nothing says where the next frame begins, and it is
    /// looked for at each word. Bytes of earlier laps are not taken for it, since their stamps differ. So it is looked for in the
    /// whole lap that begins at `end - capacity`, and the tail need not be known.
    pub(crate) fn next_committed(&mut self) -> Option<(Kind, &[u8])> {
        let end = self.seen;
        while self.at < end {
            let (at, word) = (self.at, self.ring.word(self.at).load(Ordering::Acquire));
            let length = ((word >> 4) & 0xF_FFFF) * 8;
            let left = self.ring.capacity - (at & (self.ring.capacity - 1));
            if !self.is_fresh(at) || length < WORD_BYTES || length > left || length > end - at {
                self.at += WORD_BYTES;
                continue;
            }
            self.at += length;
            let kind = Kind::from_bits((word >> 1) & 7).filter(|kind| *kind != Kind::Padding && word & 1 == 1);
            if let Some(kind) = kind {
                let offset = self.ring.offset(at) + WORD_BYTES as usize;
                // SAFETY: within the data, as just checked; the block is a copy that nobody writes to.
                return Some((kind, unsafe {
                    self.ring.region.bytes(offset, (length - WORD_BYTES) as usize)
                }));
            }
        }
        None
    }

    /// Passes over the frame that is waited for, which nobody will commit: the child of a fork that has reserved it is dead. Where
    /// it had not written how long it is, the next frame is looked for at each word, as in the ring of a dead process; twice,
    /// so that none is passed over that a caller is about to write.
    pub(crate) fn pass_over(&mut self) {
        let mut found = self.next_stamped();
        loop {
            thread::sleep(Duration::from_millis(10));
            match (found, self.next_stamped()) {
                (one, other) if one == other => break self.at = other,
                (_, other) => found = other,
            }
        }
    }

    /// Where the next frame behind the one at hand begins, committed or not; else the tail.
    fn next_stamped(&self) -> u64 {
        let tail = self.ring.tail();
        let stamped = |at: &u64| {
            let word = self.ring.word(*at).load(Ordering::Acquire);
            let length = ((word >> 4) & 0xF_FFFF) * 8;
            let is_of_this_lap = (word >> 24) == (self.ring.stamped(*at, 0, Kind::Padding) >> 24);
            (is_of_this_lap && length >= WORD_BYTES).then_some(length)
        };
        match stamped(&self.at) {
            Some(length) => self.at + length,
            None => (self.at + WORD_BYTES..tail)
                .step_by(WORD_BYTES as usize)
                .find(|at| stamped(at).is_some())
                .unwrap_or(tail),
        }
    }

    /// Goes to `at`, where the checkpoint of a dead process stands.
    ///
    /// # Errors
    ///
    /// If there can be no frame.
    pub(crate) fn go_to(&mut self, at: u64) -> Result<(), Corrupt> {
        if !at.is_multiple_of(8) || at >= 1 << 62 {
            return Err(Corrupt("its checkpoint lies off the ring"));
        }
        (self.at, self.seen) = (at, at + self.ring.capacity);
        Ok(())
    }

    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The end of what was read.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Writes a checkpoint, which counts from the moment at which this returns. It has room: see
    /// [`Ring::checkpoint_room`].
    pub(crate) fn save(&mut self, checkpoint: &[u8]) {
        self.put_slot(checkpoint.len() as u64, checkpoint);
    }

    /// The turn that the next checkpoint has.
    pub(crate) fn next_turn(&self) -> u64 {
        self.turn.wrapping_add(1)
    }

    /// The same for a checkpoint of so many bytes that is beside the ring, in the file for its turn.
    pub(crate) fn save_beside(&mut self, length: usize) {
        self.put_slot(BESIDE | length as u64, &[]);
    }

    fn put_slot(&mut self, length: u64, bytes: &[u8]) {
        assert!(bytes.len() <= self.ring.checkpoint_room());
        self.turn = self.next_turn();
        let region = &self.ring.region;
        let slot = self.ring.sizes.front() + (self.turn & 1) as usize * self.ring.sizes.slot;
        // SAFETY: this slot is not the one that counts, so nobody reads it; the reader is the only one who writes it.
        unsafe {
            region.write(slot, &length.to_le_bytes());
            kill_point_amid("slot", bytes, |half| region.write(slot + 8, half));
            region.write(slot + 8, bytes);
        }
        kill_point("saved");
        region.word(TURN).store(self.turn, Ordering::Release);
        kill_point("turn");
    }

    /// Gives everything that was read back to the callers.
    pub(crate) fn release(&mut self) {
        self.ring.region.front_word(HEAD).store(self.at, Ordering::Release);
    }

    /// Has the process have all pages for itself, in a ring that was parted from its file: nothing that becomes of the file
    /// concerns it any more.
    pub(crate) fn own(&self) {
        self.ring.region.own();
    }

    /// Asks for the pages that callers will come to next: after each write-back of a file its pages fault again, and a
    /// caller would wait for the disk.
    pub(crate) fn populate(&mut self) {
        let (capacity, step) = (self.ring.capacity, (self.ring.capacity / 8).max(HEADER_BYTES as u64));
        let wanted = self.ring.tail() + capacity / 4;
        self.populated = self.populated.max(wanted.saturating_sub(capacity / 4) & !(step - 1));
        while self.ring.outlives() && self.populated < wanted {
            self.ring
                .region
                .populate(self.ring.offset(self.populated), step.min(capacity) as usize);
            self.populated += step;
        }
    }
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
        let (ring, mut reader) = Ring::plain(4096).unwrap();
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
        let (ring, mut reader) = Ring::plain(4096).unwrap();
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
        let (ring, mut reader) = Ring::plain(8192).unwrap();
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
            let (ring, mut reader) = Ring::plain(4096).unwrap();
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
