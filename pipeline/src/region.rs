//! The memory that the ring lies in.
//!
//! Everything that callers and the writer share is in one block of bytes with fixed offsets, and nothing in it is a
//! pointer, so that the block could as well be a shared mapping.
//!
//! ```text
//! 0     magic "RINGLOG1" | capacity | nonce | pid | dictionary bytes used        u64 each
//! 64    tail      u64   reserved up to here; counts bytes since creation, never wraps
//! 128   head      u64   bytes below are free again
//! 192   sleeping  u64   what the writer is doing: 0 works, 1 naps, 2 sleeps
//! 4096  dictionary, append-only: u16 length, bytes; the id of a name is its offset
//! then  data, `capacity` bytes (a power of two); position p lies at p & (capacity - 1)
//! ```

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

pub(crate) const CAPACITY: usize = 8;
pub(crate) const NONCE: usize = 16;
pub(crate) const PID: usize = 24;
pub(crate) const DICTIONARY_USED: usize = 32;
pub(crate) const TAIL: usize = 64;
pub(crate) const HEAD: usize = 128;
pub(crate) const SLEEPING: usize = 192;
pub(crate) const HEADER_BYTES: usize = 4096;
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"RINGLOG1");

/// A block of zeroed bytes, aligned to a page.
pub(crate) struct Region {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block belongs to this value alone and stays where it is; all access goes through atomics, or through the
// two methods whose callers promise that nobody else touches those bytes in the meantime.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Takes `bytes` bytes. Pages that are never touched cost nothing.
    pub(crate) fn new(bytes: usize) -> Self {
        let layout = match Layout::from_size_align(bytes.max(HEADER_BYTES), HEADER_BYTES) {
            Ok(layout) => layout,
            // Sizes come from a checked config, far below the limit.
            Err(_) => unreachable!("{bytes} bytes exceed the address space"),
        };
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self { start, layout }
    }

    /// The word at `offset`, a multiple of 8.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.layout.size());
        // SAFETY: in bounds and aligned, as just checked (the block itself is aligned to a page). Bytes that are also
        // written by `write` are handed from one side to the other by release and acquire on such words.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes these bytes until the caller has handed them over through a release store.
    pub(crate) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.layout.size());
        // SAFETY: in bounds as just checked; the source is another object; no one else is there by the caller's promise.
        unsafe {
            self.start
                .as_ptr()
                .add(offset)
                .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
        }
    }

    /// The bytes at `offset`.
    ///
    /// # Safety
    ///
    /// Their last writer has handed them over (an acquire load has seen its release store), and nobody writes them while
    /// the slice lives.
    pub(crate) unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset + length <= self.layout.size());
        // SAFETY: in bounds as just checked, initialised (zeroed at first), not written meanwhile by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), length) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}
