//! Copies of the frames in a ring that other processes write to.
//!
//! The tail and the head of a live ring are in the memory of its process. The file has the position
//! of the newest checkpoint, and the stamps of the frames. So the frames are found from
//! there: behind the checkpoint those that the writer may not have taken, as in a recovery, and
//! before it the older ones of the same lap.
//!
//! 1. A first copy has the words of the frames. A frame counts if its word is committed.
//! 2. A second copy has their bodies, which are complete, because their words were.
//! 3. A third copy shows which of them callers had begun to overwrite. A caller writes the word of
//!    a frame before any byte of its body. So if a body of the second copy has bytes of a later
//!    frame, then the third copy has the word of the later frame, or the word of one that overwrote
//!    that frame in turn. In the second case, the writer has saved a checkpoint behind the later
//!    frame before, and the checkpoint that is read last tells so.
//!
//! Nothing is written or locked, and all reads are system calls: a file that becomes shorter is an
//! error, and ends nobody.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::atomic::{Ordering, fence};

use crate::recovery::found_ring::{MAX_CHECKPOINT_BYTES, MAX_RING_BYTES, ReadableRing, open_regular_file};
use crate::ring::dead::{CorruptRing, RingHeader, SavedCheckpoint};
use crate::ring::file::checkpoint_file;
use crate::ring::layout::{HEADER_BYTES, IN_FILE_BIT};
use crate::ring::queue::{FrameKind, MAX_FRAME, STAMP_SHIFT, WORD_BYTES, stamp};
use crate::ring::reader::{frame_kind, frame_length};
use crate::writer::checkpoint;

/// Number of attempts to find a checkpoint that its writer does not replace meanwhile.
const CHECKPOINT_ATTEMPTS: usize = 1000;
/// Number of attempts to find a frame that nobody overwrites meanwhile.
const COPY_ATTEMPTS: usize = 20;

/// Frames of a ring that were complete and are intact.
pub(super) struct RingCopy {
    pub(super) pid: u64,
    /// `true` if the ring is of the version before this one.
    pub(super) is_older: bool,
    /// The newest checkpoint.
    pub(super) checkpoint: Vec<u8>,
    /// The position of that checkpoint: the writer has taken the frames before.
    pub(super) position: u64,
    /// The name table.
    pub(super) names: Vec<u8>,
    /// Number of frames that were overwritten while they were read.
    pub(super) overwritten: u64,
    /// Number of frames that were not committed.
    pub(super) unfinished: u64,
    frames: Vec<CopiedFrame>,
    data: Vec<u8>,
}

/// A frame in the ring.
#[derive(Clone, Copy)]
pub(super) struct CopiedFrame {
    pub(super) position: u64,
    pub(super) kind: FrameKind,
    word: u64,
}

impl RingCopy {
    /// Copies the frames of a ring.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is no ring, or its process is too fast.
    pub(super) fn take(ring: &ReadableRing) -> io::Result<Self> {
        let source = RingSource::open(&ring.path, &ring.file)?;
        let identity = source.header()?.identity;
        if ring
            .expected
            .is_some_and(|expected| expected != (identity.nonce, identity.inode))
        {
            return Err(io::Error::other(
                "its pointer leads to another ring than the one it was made for",
            ));
        }
        let mut copy = source.copy(|| {})?;
        for _ in 1..COPY_ATTEMPTS {
            if !copy.frames.is_empty() || copy.overwritten == 0 {
                break;
            }
            copy = source.copy(|| {})?;
        }
        Ok(copy)
    }

    /// Returns the frames with their bodies, the newest last.
    pub(super) fn frames(&self) -> impl Iterator<Item = (CopiedFrame, &[u8])> {
        self.frames.iter().map(|frame| {
            let start = offset_of(frame.position, &self.data);
            let end = start + frame_length(frame.word) as usize;
            (*frame, &self.data[start + WORD_BYTES as usize..end])
        })
    }
}

/// The file of a ring.
struct RingSource<'f> {
    path: &'f Path,
    file: &'f File,
    length: usize,
}

impl<'f> RingSource<'f> {
    fn open(path: &'f Path, file: &'f File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if length > MAX_RING_BYTES {
            return Err(corrupt(CorruptRing("it is longer than any ring")));
        }
        let length = length as usize;
        Ok(Self { path, file, length })
    }

    /// Copies the frames. `pause` is called between two copies.
    fn copy(&self, mut pause: impl FnMut()) -> io::Result<RingCopy> {
        let sizes = self.header()?.sizes;
        let data_at = sizes.data() as u64;
        let (mut words, mut data) = (buffer(sizes.capacity)?, buffer(sizes.capacity)?);
        self.read(data_at, &mut words)?;
        pause();
        // The writer's position is behind all frames that were released before the first copy.
        let (header, checkpoint, position) = self.checkpoint()?;
        fence(Ordering::Acquire);
        self.read(data_at, &mut data)?;
        pause();
        fence(Ordering::Acquire);

        let nonce = header.identity.nonce;
        let capacity = words.len() as u64;
        let (mut newer, mut older, mut unfinished) = (Vec::new(), Vec::new(), 0);
        let mut end = position;
        let mut note = |frames: &mut Vec<CopiedFrame>, at, word| match frame_kind(word) {
            Some(FrameKind::Padding) => {}
            Some(kind) if word & 1 == 1 => frames.push(CopiedFrame {
                position: at,
                kind,
                word,
            }),
            _ => unfinished += 1,
        };
        walk(&words, nonce, position..position + capacity, |at, word| {
            end = end.max(at + frame_length(word));
            note(&mut newer, at, word);
        });
        walk(&words, nonce, end.saturating_sub(capacity)..position, |at, word| {
            note(&mut older, at, word)
        });
        let mut frames = older;
        frames.append(&mut newer);

        self.read(data_at, &mut words)?;
        fence(Ordering::Acquire);
        // The names of all frames are there before the frames are.
        let (newest, _, mut overwritten_until) = self.checkpoint()?;
        let mut names = buffer(newest.names_used)?;
        self.read(HEADER_BYTES as u64, &mut names)?;
        if let Some(first) = frames.first() {
            let longest = MAX_FRAME.min(capacity);
            let next_lap = (first.position + capacity).saturating_sub(longest).max(position)..end + capacity;
            walk(&words, nonce, next_lap, |at, word| {
                overwritten_until = overwritten_until.max(at + frame_length(word));
            });
        }
        let before = frames.len();
        frames.retain(|frame| {
            word_at(&words, frame.position) == frame.word && frame.position + capacity >= overwritten_until
        });
        Ok(RingCopy {
            pid: header.pid,
            is_older: header.is_older,
            checkpoint,
            position,
            names,
            overwritten: (before - frames.len()) as u64,
            unfinished,
            frames,
            data,
        })
    }

    /// Returns the header, the newest checkpoint and its position.
    fn checkpoint(&self) -> io::Result<(RingHeader, Vec<u8>, u64)> {
        for _ in 0..CHECKPOINT_ATTEMPTS {
            let header = self.header()?;
            fence(Ordering::Acquire);
            let checkpoint = self.checkpoint_of(&header);
            fence(Ordering::Acquire);
            // The writer has not begun to overwrite the slot of this turn before the next one
            // counts.
            if self.header()?.turn != header.turn {
                continue;
            }
            let checkpoint = checkpoint?;
            // Before the first checkpoint, the writer is at the beginning.
            let position = match checkpoint.is_empty() {
                true => 0,
                false => {
                    let saved = checkpoint::read(&checkpoint, header.is_older);
                    saved
                        .ok_or(corrupt(CorruptRing("its checkpoint cannot be read")))?
                        .position
                }
            };
            if !position.is_multiple_of(WORD_BYTES) || position >= 1 << 62 {
                return Err(corrupt(CorruptRing("its checkpoint is not on the ring")));
            }
            return Ok((header, checkpoint, position));
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "its writer saves a checkpoint after the other: try again",
        ))
    }

    /// Reads the checkpoint of a header, which its writer may be replacing.
    fn checkpoint_of(&self, header: &RingHeader) -> io::Result<Vec<u8>> {
        let at = header.slot_offset() as u64;
        let mut length = [0; 8];
        self.read(at, &mut length)?;
        let room = header.sizes.slot as u64;
        let bytes = match u64::from_le_bytes(length) {
            beside if beside & IN_FILE_BIT != 0 => 0,
            inside => inside.min(room - 8),
        };
        let mut slot = buffer(8 + bytes as usize)?;
        self.read(at, &mut slot)?;
        match header.read_slot(&slot).map_err(corrupt)? {
            SavedCheckpoint::Inside(checkpoint) => Ok(checkpoint),
            SavedCheckpoint::Beside { length, .. } if length > MAX_CHECKPOINT_BYTES => {
                Err(corrupt(CorruptRing("its checkpoint is longer than any")))
            }
            SavedCheckpoint::Beside { turn, length } => {
                let file = open_regular_file(&checkpoint_file(self.path, turn)).map_err(io::Error::other)?;
                let file = file.ok_or(corrupt(CorruptRing("its checkpoint is missing")))?;
                let mut checkpoint = Vec::new();
                file.take(length).read_to_end(&mut checkpoint)?;
                match checkpoint.len() as u64 == length {
                    true => Ok(checkpoint),
                    false => Err(corrupt(CorruptRing("its checkpoint is truncated"))),
                }
            }
        }
    }

    fn header(&self) -> io::Result<RingHeader> {
        let mut bytes = vec![0; HEADER_BYTES.min(self.length)];
        self.read(0, &mut bytes)?;
        RingHeader::read(&bytes, self.length).map_err(corrupt)
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> io::Result<()> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(bytes).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => corrupt(CorruptRing("it became shorter while it was read")),
            _ => error,
        })
    }
}

/// Gives the frames at these positions to `visit`, each with its word. A frame is known by its
/// stamp, committed or not; from there its length leads to the next one.
fn walk(data: &[u8], nonce: u64, positions: std::ops::Range<u64>, mut visit: impl FnMut(u64, u64)) {
    let mut at = positions.start;
    while at < positions.end {
        let word = word_at(data, at);
        let length = frame_length(word);
        let left = (data.len() - offset_of(at, data)) as u64;
        if word >> STAMP_SHIFT != stamp(at, nonce) || length < WORD_BYTES || length > left {
            at += WORD_BYTES;
            continue;
        }
        visit(at, word);
        at += length;
    }
}

fn word_at(data: &[u8], position: u64) -> u64 {
    let at = offset_of(position, data);
    data[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word))
}

/// The length of the data is a power of two.
fn offset_of(position: u64, data: &[u8]) -> usize {
    (position & (data.len() as u64 - 1)) as usize
}

fn buffer(length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes
        .try_reserve_exact(length)
        .map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    bytes.resize(length, 0);
    Ok(bytes)
}

fn corrupt(corrupt: CorruptRing) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, corrupt.0)
}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::ring::Region;
    use crate::ring::layout::{RingSizes, TAIL};
    use crate::ring::queue::{Ring, RingIdentity};
    use crate::ring::reader::{NextFrame, RingReader};
    use crate::writer::checkpoint::{WriterPosition, write_head};

    const CAPACITY: usize = 1 << 16;

    struct LiveRing {
        file: tempfile::NamedTempFile,
        ring: Arc<Ring>,
        reader: RingReader,
    }

    impl LiveRing {
        fn new() -> Self {
            let sizes = RingSizes::for_capacity(CAPACITY);
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(sizes.total() as u64).unwrap();
            let region = Region::map(file.as_file(), file.as_file(), sizes.total(), sizes.front()).unwrap();
            Ring::initialize(&region, sizes, RingIdentity::new(0, 7));
            let (ring, reader) = RingReader::in_region(region, sizes);
            Self { file, ring, reader }
        }

        /// Takes all frames, saves a checkpoint and releases them, as the writer does.
        fn take_all(reader: &mut RingReader) {
            while let NextFrame::Frame(..) = reader.next() {}
            let mut bytes = Vec::new();
            let writer = WriterPosition {
                folders: &[],
                position: reader.position(),
                chunk_bytes: 0,
            };
            write_head(&mut bytes, writer, 0, 0);
            reader.save(&bytes);
            reader.release();
        }

        fn push(&mut self, number: u32, words: usize) {
            let body = body(number, words);
            while self.ring.push(FrameKind::Record, &body).is_err() {
                Self::take_all(&mut self.reader);
            }
        }
    }

    fn source(file: &tempfile::NamedTempFile) -> RingSource<'_> {
        RingSource::open(file.path(), file.as_file()).unwrap()
    }

    /// A body that shows whether it is whole.
    fn body(number: u32, words: usize) -> Vec<u8> {
        number.to_le_bytes().repeat(2 * words)
    }

    /// Returns the numbers of the frames, each of which is whole.
    fn numbers(copy: &RingCopy) -> Vec<u32> {
        let number = |(_, body): (CopiedFrame, &[u8])| {
            let mut numbers = body
                .chunks(4)
                .map(|number| u32::from_le_bytes(number.try_into().unwrap()));
            let first = numbers.next().unwrap();
            assert!(numbers.all(|number| number == first), "a torn frame");
            first
        };
        copy.frames().map(number).collect()
    }

    #[test]
    fn frames_before_and_behind_the_checkpoint_are_found() {
        let mut live = LiveRing::new();
        assert!(numbers(&source(&live.file).copy(|| {}).unwrap()).is_empty());
        for number in 0..10 {
            live.push(number, 3);
            if number == 6 {
                LiveRing::take_all(&mut live.reader);
            }
        }
        let copy = source(&live.file).copy(|| {}).unwrap();
        assert_eq!(numbers(&copy), (0..10).collect::<Vec<_>>());
        let unwritten = copy.frames().filter(|(frame, _)| frame.position >= copy.position);
        assert_eq!(unwritten.count(), 3);
        assert_eq!((copy.overwritten, copy.unfinished), (0, 0));
    }

    #[test]
    fn frames_of_an_earlier_lap_are_found_until_they_are_overwritten() {
        let mut live = LiveRing::new();
        for number in 0..3000 {
            live.push(number, 7);
        }
        let copy = source(&live.file).copy(|| {}).unwrap();
        // 8 bytes of the word and 56 of the body: the last lap, whole.
        let lap = (CAPACITY / 64) as u32;
        assert_eq!(numbers(&copy), (3000 - lap..3000).collect::<Vec<_>>());
    }

    #[test]
    fn frames_that_are_overwritten_while_they_are_read_are_left_out() {
        for (at_pause, pushed, expected) in [(1, 100, 100), (2, 100, 100), (1, 1024, 1024), (2, 5000, 1024)] {
            let mut live = LiveRing::new();
            for number in 0..1024 {
                live.push(number, 7);
            }
            LiveRing::take_all(&mut live.reader);
            let file = tempfile::NamedTempFile::new().unwrap();
            // The same file, whose ring the pause needs for itself.
            let file = std::mem::replace(&mut live.file, file);
            let mut pauses = 0;
            let copy = source(&file).copy(|| {
                pauses += 1;
                if pauses == at_pause {
                    for number in 0..pushed {
                        live.push(5000 + number, 7);
                    }
                }
            });
            let copy = copy.unwrap();
            let mut expected_numbers: Vec<u32> = (expected..1024).collect();
            if at_pause == 1 && pushed < 1024 {
                // The first copy has been before: none of the new ones is in it.
                expected_numbers = (pushed..1024).collect();
            }
            assert_eq!(numbers(&copy), expected_numbers, "{at_pause} {pushed}");
            assert_eq!(copy.overwritten, u64::from(expected));
        }
    }

    #[test]
    fn a_frame_is_left_out_whose_word_alone_is_intact() {
        let LiveRing { file, ring, mut reader } = LiveRing::new();
        for number in 0..1024 {
            ring.push(FrameKind::Record, &body(number, 7)).unwrap();
        }
        LiveRing::take_all(&mut reader);
        let mut pauses = 0;
        let copy = source(&file).copy(|| {
            pauses += 1;
            if pauses == 1 {
                // A caller has reserved the beginning of frame 0 and written nothing. The next one
                // writes into its middle.
                ring.region().front_word(TAIL).fetch_add(24, Ordering::SeqCst);
                ring.push(FrameKind::Record, &body(5000, 7)).unwrap();
            }
        });
        let copy = copy.unwrap();
        assert_eq!(numbers(&copy), (2..1024).collect::<Vec<_>>());
        assert_eq!(copy.overwritten, 2);
    }

    #[test]
    fn a_frame_that_is_not_committed_is_counted() {
        let mut live = LiveRing::new();
        live.push(1, 3);
        live.push(2, 3);
        let at = live.ring.tail() - 32;
        let word = live
            .ring
            .region()
            .word(RingSizes::for_capacity(CAPACITY).data() + at as usize);
        word.fetch_and(!1, Ordering::SeqCst);
        live.push(3, 3);
        let copy = source(&live.file).copy(|| {}).unwrap();
        assert_eq!((numbers(&copy), copy.unfinished), (vec![1, 3], 1));
    }

    #[test]
    fn no_frame_is_torn_while_callers_write() {
        let LiveRing { file, ring, mut reader } = LiveRing::new();
        let is_over = AtomicBool::new(false);
        let (mut found, mut overwritten) = (0, 0);
        thread::scope(|scope| {
            for thread in 0..2 {
                let (ring, is_over) = (&ring, &is_over);
                scope.spawn(move || {
                    for number in 0_u32.. {
                        let body = body(2 * number + thread, 1 + number as usize % 1500);
                        while ring.push(FrameKind::Record, &body).is_err() {
                            if is_over.load(Ordering::Relaxed) {
                                return;
                            }
                            thread::yield_now();
                        }
                    }
                });
            }
            let (is_over, ring) = (&is_over, &ring);
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    // A writer has more to do than to save checkpoints.
                    match ring.used() > CAPACITY as u64 / 4 {
                        true => LiveRing::take_all(&mut reader),
                        false => thread::yield_now(),
                    }
                }
            });
            let copies = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                // The threads may share a core, so that a pause between the passes loses every
                // frame.
                let until = Instant::now() + Duration::from_secs(20);
                for copies in 0_u32.. {
                    let pause: fn() = if copies.is_multiple_of(2) {
                        thread::yield_now
                    } else {
                        || {}
                    };
                    let copy = source(&file).copy(pause).unwrap();
                    found += numbers(&copy).len();
                    overwritten += copy.overwritten;
                    if copies >= 300 && (found > 0 && overwritten > 0 || Instant::now() >= until) {
                        break;
                    }
                }
            }));
            // The threads end, whatever is found.
            is_over.store(true, Ordering::Relaxed);
            copies.unwrap();
        });
        assert!(found > 0 && overwritten > 0, "{found} {overwritten}");
    }

    #[test]
    fn files_that_are_no_rings_are_refused() {
        let live = LiveRing::new();
        let whole = std::fs::read(live.file.path()).unwrap();
        let refuse = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            let opened = RingSource::open(file.path(), file.as_file()).unwrap();
            opened.copy(|| {}).err().unwrap().to_string()
        };
        assert_eq!(refuse(b""), "it is shorter than its header");
        assert_eq!(refuse(&[7; 100]), "it is not a ring of this version");
        assert_eq!(refuse(&whole[..whole.len() - 1]), "its sizes contradict each other");
        let mut longer = whole.clone();
        longer[9] ^= 0x80;
        assert_eq!(refuse(&longer), "its sizes contradict each other");
        let mut checkpoint = whole;
        let slot = RingSizes::for_capacity(CAPACITY).front();
        checkpoint[slot..slot + 8].copy_from_slice(&(1_u64 << 40).to_le_bytes());
        assert_eq!(refuse(&checkpoint), "its checkpoint exceeds its slot");
    }

    proptest! {
        #[test]
        fn a_damaged_ring_never_panics(
            frames in prop::collection::vec((any::<u32>(), 1_usize..200), 0..50),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..50),
        ) {
            let mut live = LiveRing::new();
            for (number, words) in frames {
                live.push(number, words);
            }
            let mut bytes = std::fs::read(live.file.path()).unwrap();
            for (at, byte) in damage {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            let copy = RingSource::open(file.path(), file.as_file()).unwrap().copy(|| {});
            let _ = copy.map(|copy| copy.frames().count());
        }
    }
}
