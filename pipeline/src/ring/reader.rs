//! The writer's side of the ring: takes the frames in order, releases their bytes, and saves
//! checkpoints.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use logcore::kill_point::{kill_point, kill_point_amid};

use super::Region;
use super::layout::{HEADER_BYTES, IN_FILE_BIT, RingSizes, TURN};
use super::queue::{FrameKind, Ring, RingIdentity, WORD_BYTES};

/// The ring, as its one reader sees it.
pub(crate) struct RingReader {
    ring: Arc<Ring>,
    position: u64,
    /// The tail at the last look. Callers move the tail all the time, and each look takes its cache
    /// line from them.
    seen: u64,
    /// The end of the data whose pages were requested.
    populated: u64,
    /// The turn of the newest checkpoint.
    turn: u64,
    /// A reserved frame that is not committed, and whose bytes may be lost with the file.
    missing: Option<MissingFrame>,
    /// Number of bytes of lost frames.
    lost: u64,
}

/// A reserved frame that is not committed.
struct MissingFrame {
    position: u64,
    since: Instant,
    /// The tail at the beginning of the wait: earlier reservations are waited for.
    tail: u64,
}

/// A caller commits within the time of a copy, or of some time slices. A frame that takes longer
/// counts as lost, if it was reserved before the ring was detached from its file. If its caller
/// continues later, the caller may damage what others have written there a lap later.
const MISSING_TIMEOUT: Duration = Duration::from_secs(2);

/// The next thing in the ring.
pub(crate) enum NextFrame<'r> {
    /// A frame. Its body ends with up to 7 meaningless bytes.
    Frame(FrameKind, &'r [u8]),
    /// A caller has reserved a frame and not committed it.
    Pending,
    /// The ring is empty.
    Empty,
}

impl RingReader {
    /// Creates a ring of `bytes` bytes that ends with the process, and its one reader.
    ///
    /// # Errors
    ///
    /// If the system has too little memory.
    pub(crate) fn plain(bytes: usize) -> io::Result<(Arc<Ring>, Self)> {
        let sizes = RingSizes::for_capacity(bytes);
        let region = Region::plain(sizes.total())?;
        Ring::initialize(&region, sizes, RingIdentity::default());
        Ok(Self::in_region(region, sizes))
    }

    /// Returns the ring in an [initialized](Ring::initialize) block, and its one reader.
    pub(crate) fn in_region(region: Region, sizes: RingSizes) -> (Arc<Ring>, Self) {
        let ring = Ring::in_region(region, sizes);
        let reader = Self {
            ring: Arc::clone(&ring),
            position: 0,
            seen: 0,
            populated: 0,
            turn: 0,
            missing: None,
            lost: 0,
        };
        (ring, reader)
    }

    /// Returns the next frame. Its bytes stay in the ring until [`RingReader::release`].
    #[inline]
    pub(crate) fn next(&mut self) -> NextFrame<'_> {
        loop {
            if self.position == self.seen {
                self.seen = self.ring.tail();
                if self.position == self.seen {
                    return NextFrame::Empty;
                }
            }
            // Acquire: with the committed word comes the body.
            let word = self.ring.word(self.position).load(Ordering::Acquire);
            if !self.is_of_this_lap(self.position, word) || word & 1 == 0 {
                match self.ring.region().may_have_lost(self.position) && self.skip_missing() {
                    true => continue,
                    false => return NextFrame::Pending,
                }
            }
            let (at, length) = (self.position, frame_length(word));
            self.position += length;
            match frame_kind(word) {
                Some(FrameKind::Padding) | None => {}
                Some(_) if self.ring.is_detached() && self.has_lost_body(at, length) => self.lost += length,
                Some(kind) => {
                    let offset = self.ring.offset(at) + WORD_BYTES as usize;
                    // SAFETY: the committed word of this lap was seen with acquire, so the caller
                    // is done with the body. Nobody reserves these bytes before `release`, which
                    // needs `&mut self` and so ends this borrow.
                    let body = unsafe { self.ring.region().bytes(offset, (length - WORD_BYTES) as usize) };
                    return NextFrame::Frame(kind, body);
                }
            }
        }
    }

    /// For the ring of a dead process: returns the next committed frame.
    ///
    /// A process may die between its reservation and the write of the length. Then the beginning of
    /// the next frame is unknown, and the reader looks for it at each word. Bytes of earlier laps
    /// are not taken for a frame, because their stamps differ. So the search covers the whole lap
    /// from [`seek`](Self::seek) on, and the tail need not be known.
    pub(crate) fn next_committed(&mut self) -> Option<(FrameKind, &[u8])> {
        let end = self.seen;
        while self.position < end {
            let at = self.position;
            let word = self.ring.word(at).load(Ordering::Acquire);
            let length = frame_length(word);
            let left = self.ring.capacity() - (at & (self.ring.capacity() - 1));
            if !self.is_of_this_lap(at, word) || length < WORD_BYTES || length > left || length > end - at {
                self.position += WORD_BYTES;
                continue;
            }
            self.position += length;
            let kind = frame_kind(word).filter(|kind| *kind != FrameKind::Padding && word & 1 == 1);
            if let Some(kind) = kind {
                let offset = self.ring.offset(at) + WORD_BYTES as usize;
                // SAFETY: within the data, as just checked; the block is a copy that nobody writes
                // to.
                return Some((kind, unsafe {
                    self.ring.region().bytes(offset, (length - WORD_BYTES) as usize)
                }));
            }
        }
        None
    }

    /// Skips the pending frame, whose caller is dead: a child of a fork that was killed after its
    /// reservation.
    ///
    /// If the child had not written the length, the next frame is looked for at each word, as in
    /// the ring of a dead process. The search is repeated until two results agree, so that no frame
    /// is skipped that a caller is about to write.
    pub(crate) fn skip_uncommitted(&mut self) {
        let mut found = self.next_stamped();
        loop {
            thread::sleep(Duration::from_millis(10));
            match (found, self.next_stamped()) {
                (first, second) if first == second => break self.position = second,
                (_, second) => found = second,
            }
        }
    }

    /// For the ring of a dead process: continues at the position of a checkpoint. Returns `false`
    /// if no frame can be there.
    pub(super) fn try_seek(&mut self, position: u64) -> bool {
        if !position.is_multiple_of(8) || position >= 1 << 62 {
            return false;
        }
        (self.position, self.seen) = (position, position + self.ring.capacity());
        true
    }

    pub(crate) fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Returns the end of the frames that were read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Returns the number of bytes of frames that were lost with the file.
    pub(crate) fn lost_bytes(&self) -> u64 {
        self.lost
    }

    /// Saves a checkpoint, which counts when this returns. It fits into a slot: see
    /// [`Ring::checkpoint_room`].
    pub(crate) fn save(&mut self, checkpoint: &[u8]) {
        self.write_slot(checkpoint.len() as u64, checkpoint);
    }

    /// Saves that the checkpoint of the [next turn](Self::next_turn) is in a file beside the ring,
    /// and how long it is.
    pub(crate) fn save_beside(&mut self, length: usize) {
        self.write_slot(IN_FILE_BIT | length as u64, &[]);
    }

    /// Returns the turn of the next checkpoint.
    pub(crate) fn next_turn(&self) -> u64 {
        self.turn.wrapping_add(1)
    }

    /// Releases the bytes of all frames that were read.
    pub(crate) fn release(&mut self) {
        self.ring.head_word().store(self.position, Ordering::Release);
    }

    /// Gives the process private copies of all pages, in a ring that was detached from its file.
    /// Then no later damage of the file concerns the ring.
    pub(crate) fn make_private(&self) {
        self.ring.region().make_private();
    }

    /// Requests the pages that callers will write to next. After each write-back of a file its
    /// pages fault again, and a caller would wait for the disk.
    ///
    /// Looks for frames after each step, but requests as much as the largest batch takes: at the
    /// start of a process the first command does not wait for milliseconds.
    pub(crate) fn populate(&mut self, batch_bytes: u64) {
        let capacity = self.ring.capacity();
        let step = (capacity / 64).clamp(HEADER_BYTES as u64, capacity);
        let tail = self.ring.tail();
        let wanted = tail + capacity / 4;
        self.populated = self.populated.max(tail & !(step - 1));
        let enough = self.populated + batch_bytes;
        while self.ring.outlives_process() && self.populated < wanted {
            let offset = self.ring.offset(self.populated);
            self.ring.region().populate(offset, step as usize);
            self.populated += step;
            if self.populated >= enough && self.ring.tail() != self.position {
                break;
            }
        }
    }

    fn write_slot(&mut self, length: u64, bytes: &[u8]) {
        assert!(bytes.len() <= self.ring.checkpoint_room());
        self.turn = self.next_turn();
        let region = self.ring.region();
        let slot = self.ring.slot_offset(self.turn);
        // SAFETY: this slot is not the one that counts, so nobody reads it, and only the reader
        // writes it.
        unsafe {
            region.write(slot, &length.to_le_bytes());
            kill_point_amid("slot", bytes, |half| region.write(slot + 8, half));
            region.write(slot + 8, bytes);
        }
        kill_point("saved");
        region.word(TURN).store(self.turn, Ordering::Release);
        kill_point("turn");
    }

    /// Returns `true` if a part of the body of a committed frame was lost with the file.
    fn has_lost_body(&self, at: u64, length: u64) -> bool {
        let offset = self.ring.offset(at) + WORD_BYTES as usize;
        self.ring.region().has_lost(offset, (length - WORD_BYTES) as usize, at)
    }

    /// For a ring that has lost bytes: skips the pending frame if it has been pending for too long.
    /// Returns `true` if it did.
    fn skip_missing(&mut self) -> bool {
        let missing = match self.missing.take() {
            Some(missing) if missing.position == self.position => missing,
            _ => MissingFrame {
                position: self.position,
                since: Instant::now(),
                tail: self.seen,
            },
        };
        if missing.since.elapsed() < MISSING_TIMEOUT {
            self.missing = Some(missing);
            return false;
        }
        self.position += WORD_BYTES;
        while self.position < missing.tail && !self.is_stamped(self.position) {
            self.position += WORD_BYTES;
        }
        self.lost += self.position - missing.position;
        true
    }

    /// Returns the beginning of the frame after the pending one, committed or not; the tail if
    /// there is none.
    fn next_stamped(&self) -> u64 {
        let tail = self.ring.tail();
        let length_at = |at: u64| {
            let word = self.ring.word(at).load(Ordering::Acquire);
            let length = frame_length(word);
            (self.is_of_this_lap(at, word) && length >= WORD_BYTES).then_some(length)
        };
        match length_at(self.position) {
            Some(length) => self.position + length,
            None => (self.position + WORD_BYTES..tail)
                .step_by(WORD_BYTES as usize)
                .find(|at| length_at(*at).is_some())
                .unwrap_or(tail),
        }
    }

    fn is_stamped(&self, at: u64) -> bool {
        self.is_of_this_lap(at, self.ring.word(at).load(Ordering::Acquire))
    }

    /// Returns `true` if a word at a position bears the stamp of this lap.
    #[inline]
    fn is_of_this_lap(&self, at: u64, word: u64) -> bool {
        word >> 24 == self.ring.stamped(at, 0, FrameKind::Padding) >> 24
    }
}

/// Length of the frame that begins with a word.
pub(crate) fn frame_length(word: u64) -> u64 {
    ((word >> 4) & 0xF_FFFF) * 8
}

pub(crate) fn frame_kind(word: u64) -> Option<FrameKind> {
    FrameKind::from_bits((word >> 1) & 7)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;
    #[cfg(all(target_os = "linux", not(miri)))]
    use crate::ring::layout::TAIL;

    fn read_all(reader: &mut RingReader) -> Vec<(FrameKind, Vec<u8>)> {
        let mut frames = Vec::new();
        while let NextFrame::Frame(kind, body) = reader.next() {
            frames.push((kind, body.to_vec()));
        }
        reader.release();
        frames
    }

    #[test]
    fn frames_stay_intact_over_many_laps() {
        let (ring, mut reader) = RingReader::plain(4096).unwrap();
        for round in 0..10_000_u32 {
            let body = vec![round as u8; (round as usize * 37) % (ring.max_body() + 1)];
            ring.push(FrameKind::Record, &body).unwrap();
            let frames = read_all(&mut reader);
            assert_eq!(frames.len(), 1);
            assert_eq!(frames[0].0, FrameKind::Record);
            assert_eq!(&frames[0].1[..body.len()], body);
        }
    }

    #[test]
    fn a_full_ring_refuses_frames_until_a_release() {
        let (ring, mut reader) = RingReader::plain(4096).unwrap();
        let mut pushed = 0;
        while ring.push(FrameKind::Metrics, &[7; 100]).is_ok() {
            pushed += 1;
        }
        // 100 bytes and the word take 112.
        assert_eq!(pushed, 4096 / 112);
        assert!(!ring.has_room(100));
        assert_eq!(read_all(&mut reader).len(), pushed);
        assert!(ring.has_room(100));
        ring.push(FrameKind::Metrics, &[7; 100]).unwrap();
    }

    #[test]
    fn frames_of_each_caller_keep_their_order() {
        const THREADS: u32 = 4;
        const EACH: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let (ring, mut reader) = RingReader::plain(8192).unwrap();
        thread::scope(|scope| {
            for id in 0..THREADS {
                let ring = &ring;
                scope.spawn(move || {
                    for number in 0..EACH {
                        let body = [id.to_le_bytes(), number.to_le_bytes()].concat();
                        while ring.push(FrameKind::Record, &body).is_err() {
                            thread::yield_now();
                        }
                    }
                });
            }
            let mut expected = [0; THREADS as usize];
            while expected.iter().sum::<u32>() < THREADS * EACH {
                match reader.next() {
                    NextFrame::Frame(_, body) => {
                        let id = u32::from_le_bytes(body[..4].try_into().unwrap());
                        let number = u32::from_le_bytes(body[4..8].try_into().unwrap());
                        assert_eq!(number, expected[id as usize]);
                        expected[id as usize] += 1;
                    }
                    NextFrame::Pending => thread::yield_now(),
                    NextFrame::Empty => {
                        reader.release();
                        thread::yield_now();
                    }
                }
            }
        });
    }

    /// Returns a ring in a file that the test can cut.
    #[cfg(all(target_os = "linux", not(miri)))]
    fn in_file() -> (std::fs::File, Arc<Ring>, RingReader) {
        let sizes = RingSizes::for_capacity(1 << 16);
        let file = tempfile::tempfile().unwrap();
        file.set_len(sizes.total() as u64).unwrap();
        let region = Region::map(&file, &file, sizes.total(), sizes.front()).unwrap();
        Ring::initialize(&region, sizes, RingIdentity::default());
        let (ring, reader) = RingReader::in_region(region, sizes);
        (file, ring, reader)
    }

    /// Lets the reader's wait for the pending frame be over.
    #[cfg(all(target_os = "linux", not(miri)))]
    fn end_wait(reader: &mut RingReader) {
        assert!(matches!(reader.next(), NextFrame::Pending));
        reader.missing.as_mut().unwrap().since -= MISSING_TIMEOUT;
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn a_frame_in_the_rest_of_a_cut_page_is_skipped() {
        let (file, ring, mut reader) = in_file();
        ring.push(FrameKind::Record, &[1; 100]).unwrap();
        let cut = ring.push(FrameKind::Record, &[2; 100]).unwrap() - 112;
        // The system fills the rest of the page with zeros, and keeps the page.
        let end = ring.offset(cut) as u64;
        assert!(!end.is_multiple_of(4096));
        file.set_len(end).unwrap();
        let fill = [3; 5000];
        ring.push(FrameKind::Record, &fill).unwrap();
        assert!(ring.is_detached());

        assert!(matches!(reader.next(), NextFrame::Frame(_, [1, ..])));
        end_wait(&mut reader);
        assert!(matches!(reader.next(), NextFrame::Frame(_, body) if *body == fill));
        assert_eq!(reader.lost_bytes(), 112);
    }

    #[cfg(all(target_os = "linux", not(miri)))]
    #[test]
    fn a_frame_reserved_after_the_cut_is_waited_for() {
        let (file, ring, mut reader) = in_file();
        file.set_len(0).unwrap();
        ring.push(FrameKind::Record, &[1; 100]).unwrap();
        assert!(ring.is_detached());
        assert_eq!(read_all(&mut reader).len(), 1);

        // A caller reserves, and does not run for a long time.
        ring.region().front_word(TAIL).fetch_add(112, Ordering::SeqCst);
        assert!(matches!(reader.next(), NextFrame::Pending));
        assert!(reader.missing.is_none());
        assert_eq!(reader.lost_bytes(), 0);
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_pushed(
            sizes in prop::collection::vec(0_usize..1016, 1..200),
            batch in 1_usize..5,
        ) {
            let (ring, mut reader) = RingReader::plain(4096).unwrap();
            let mut waiting: Vec<Vec<u8>> = Vec::new();
            for (number, size) in sizes.into_iter().enumerate() {
                let body: Vec<u8> = (0..size).map(|i| (i + number) as u8).collect();
                if waiting.len() >= batch || ring.push(FrameKind::Config, &body).is_err() {
                    for (frame, sent) in read_all(&mut reader).iter().zip(waiting.drain(..)) {
                        prop_assert_eq!(&frame.1[..sent.len()], &sent);
                    }
                    ring.push(FrameKind::Config, &body).unwrap();
                }
                waiting.push(body);
            }
            prop_assert!(read_all(&mut reader).len() <= waiting.len() + 1);
        }
    }
}
