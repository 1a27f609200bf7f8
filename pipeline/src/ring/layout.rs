//! What lies where in the block that holds a ring.
//!
//! ```text
//! 0     magic "LOGRING2" | capacity | nonce | pid | dictionary bytes used | dictionary bytes | slot bytes | boot   u64 each
//! 64    tail      u64   reserved up to here; counts bytes since creation, never wraps; the highest bit says that nothing more
//!                       is taken
//! 128   head      u64   bytes below are free again
//! 192   sleeping  u32   what the writer is doing: 0 works, 1 naps, 2 sleeps, 3 was rung for
//! 256   turn      u64   the checkpoint is in slot `turn & 1`
//! 264   inode     u64   of the file itself, by which a copy is known
//! 512   locks of the system: that of the writer, who holds it while it lives, and that of children of a fork, one of which may
//!       put a frame in at a time; then whether the writer is there, and how many children have died at that
//! 4096  dictionary, append-only: u16 length, bytes; the id of a name is its offset
//! then  two slots, each u64 length, bytes: see `checkpoint`
//! then  data, `capacity` bytes (a power of two); position p lies at p & (capacity - 1)
//! ```
//!
//! Live processes need the tail, the head, the state of the writer, the locks and the dictionary whatever becomes of the file, so they have
//! these in memory of their own (the `front` of a [`Region`](crate::ring::region::Region)); the file has a copy of the dictionary for
//! the next process, which needs no tail: a frame's stamp says that it is of this lap.
//!
//! The version before, "LOGRING1", had the tail in the file, no inode, and marks with whole paths.

pub(crate) const CAPACITY: usize = 8;
pub(crate) const NONCE: usize = 16;
pub(crate) const PID: usize = 24;
pub(crate) const DICTIONARY_USED: usize = 32;
pub(crate) const DICTIONARY_BYTES: usize = 40;
pub(crate) const SLOT_BYTES: usize = 48;
pub(crate) const BOOT: usize = 56;
pub(crate) const TAIL: usize = 64;
pub(crate) const HEAD: usize = 128;
pub(crate) const SLEEPING: usize = 192;
pub(crate) const TURN: usize = 256;
/// Locks of the system, with room for any system's form of them.
pub(crate) const WRITER_LOCK: usize = 512;
pub(crate) const CHILDREN_LOCK: usize = 640;
pub(crate) const WRITER_STATE: usize = 768;
pub(crate) const DIED: usize = 776;
pub(crate) const INODE: usize = 264;
/// What stands before the dictionary. The model that explores every interleaving has room for little.
pub(crate) const HEADER_BYTES: usize = if cfg!(loom) { 320 } else { 4096 };
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"LOGRING2");
pub(crate) const OLDER_MAGIC: u64 = u64::from_le_bytes(*b"LOGRING1");
/// Set in the length of a checkpoint that is in a file beside the ring, since its slot has no room for it.
pub(crate) const BESIDE: u64 = 1 << 63;
