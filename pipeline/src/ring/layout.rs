//! The layout of the block of bytes that holds a ring.
//!
//! ```text
//! 0     magic "LOGRING2" | capacity | nonce | pid | name bytes used | name table bytes | slot bytes | boot   u64 each
//! 64    tail      u64   end of the reservations; counts bytes since creation, never wraps;
//!                       the highest bit closes the ring
//! 128   head      u64   end of the bytes that are free again
//! 192   wakeup    u32   state of the writer: 0 works, 1 naps, 2 sleeps, 3 was woken
//! 256   turn      u64   the checkpoint is in slot `turn & 1`
//! 264   inode     u64   of the file itself, which exposes a copy
//! 512   lock of the system that the writer holds while it lives
//! 640   lock of the system for children of a fork, of which one at a time may push a frame
//! 768   state of the writer for children, u64; at 776 the number of children that died while they pushed, u64
//! 4096  name table, append-only: u16 length, bytes; the id of a name is its offset
//! then  two slots for checkpoints, each u64 length, bytes: see `writer::checkpoint`
//! then  data, `capacity` bytes (a power of two); position p is at p & (capacity - 1)
//! ```
//!
//! Live processes need the tail, the head, the wakeup, the locks and the name table even if the
//! file is lost. So they keep these in memory of their own, the *front* of a
//! [`Region`](super::Region). The file has a copy of the name table for the next process. The next
//! process needs no tail, because the stamp of a frame identifies its lap.
//!
//! The version before, "LOGRING1", had the tail in the file, no inode, and resume points with whole
//! paths.

pub(crate) const CAPACITY: usize = 8;
pub(crate) const NONCE: usize = 16;
pub(crate) const PID: usize = 24;
pub(crate) const NAMES_USED: usize = 32;
pub(crate) const NAMES_BYTES: usize = 40;
pub(crate) const SLOT_BYTES: usize = 48;
pub(crate) const BOOT: usize = 56;
pub(crate) const TAIL: usize = 64;
pub(crate) const HEAD: usize = 128;
pub(crate) const WAKEUP: usize = 192;
pub(crate) const TURN: usize = 256;
pub(crate) const INODE: usize = 264;
/// Locks of the system, with room for the form of any system.
pub(crate) const WRITER_LOCK: usize = 512;
pub(crate) const CHILD_LOCK: usize = 640;
pub(crate) const WRITER_STATE: usize = 768;
pub(crate) const CHILD_DEATHS: usize = 776;
/// Bytes before the name table. The model checker has room for little.
pub(crate) const HEADER_BYTES: usize = if cfg!(loom) { 320 } else { 4096 };
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"LOGRING2");
pub(crate) const OLDER_MAGIC: u64 = u64::from_le_bytes(*b"LOGRING1");
/// A bit in the length of a checkpoint that is in a file beside the ring, because its slot is too
/// small.
pub(crate) const IN_FILE_BIT: u64 = 1 << 63;

/// The sizes of the parts of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RingSizes {
    pub(crate) capacity: usize,
    pub(super) names: usize,
    pub(crate) slot: usize,
}

impl RingSizes {
    /// The sizes of a ring of `bytes` bytes, rounded up to a power of two.
    pub(crate) fn for_capacity(bytes: usize) -> Self {
        if cfg!(loom) {
            let (names, slot) = (0, 0);
            return Self {
                capacity: bytes,
                names,
                slot,
            };
        }
        let capacity = bytes.next_power_of_two().max(HEADER_BYTES);
        let side = (capacity / 4).clamp(64 << 10, 1 << 20);
        Self {
            capacity,
            names: side,
            slot: side,
        }
    }

    /// The smallest sizes, of a ring that nobody reads.
    pub(super) fn smallest() -> Self {
        Self {
            capacity: 4096,
            names: 0,
            slot: 8,
        }
    }

    /// Length of the whole block.
    pub(crate) fn total(self) -> usize {
        self.data() + self.capacity
    }

    /// Offset of the data.
    pub(crate) fn data(self) -> usize {
        self.front() + 2 * self.slot
    }

    /// Length of the part that live processes keep in memory of their own: header and name table.
    pub(crate) fn front(self) -> usize {
        HEADER_BYTES + self.names
    }
}
