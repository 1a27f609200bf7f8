//! The memory of a ring.
//!
//! Everything that callers and the writer share is in one block of bytes with fixed offsets,
//! without pointers. The block is a mapped file if the ring shall outlive its process, and plain
//! memory otherwise.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(target_os = "linux")]
use super::fault::GuardedMapping;
use super::layout::HEADER_BYTES;
#[cfg(unix)]
use crate::process::sys::calls;

/// No page is smaller.
const PAGE: usize = 4096;

/// A block of bytes, initially zero, aligned to a page.
pub(crate) struct Region {
    start: NonNull<u8>,
    layout: Layout,
    /// The first bytes of the block, as live processes use them. This is the block itself, or
    /// anonymous memory that a process shares with its forks, because a file may be truncated and a
    /// disk may fail. It has at least [`HEADER_BYTES`] bytes.
    front: NonNull<u8>,
    front_bytes: usize,
    memory: RegionMemory,
    /// Repairs faults of the mapping.
    #[cfg(target_os = "linux")]
    guard: Option<GuardedMapping>,
}

/// The origin of a block.
enum RegionMemory {
    Mapped,
    /// The allocation that contains the block.
    Allocated(NonNull<u8>, Layout),
}

// SAFETY: the block belongs to this value alone, or is shared with other processes on the same
// terms as with other threads, and stays at its address. All access goes through atomics, or
// through methods whose callers promise that nobody else touches those bytes in the meantime.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Allocates `bytes` bytes of plain memory. Pages that are never touched cost nothing.
    ///
    /// # Errors
    ///
    /// If the system has too little memory.
    pub(crate) fn plain(bytes: usize) -> io::Result<Self> {
        let layout = layout(bytes)?;
        // An allocation that asks for the alignment would be filled with zeros, which takes
        // milliseconds: only plain ones are zero from the system.
        let size = layout.size() + layout.align();
        let around = Layout::from_size_align(size, 1).map_err(|_| io::ErrorKind::OutOfMemory)?;
        // SAFETY: the layout is not empty.
        let allocation = NonNull::new(unsafe { alloc_zeroed(around) }).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the offset is less than the alignment, so the block lies in the allocation.
        let start = unsafe { allocation.add(allocation.align_offset(layout.align())) };
        Ok(Self {
            start,
            layout,
            front: start,
            front_bytes: layout.size(),
            memory: RegionMemory::Allocated(allocation, around),
            #[cfg(target_os = "linux")]
            guard: None,
        })
    }

    /// Maps a file of `bytes` bytes, all of which are allocated on its disk; live processes keep
    /// the first `front_bytes` elsewhere. `kept` is the same file, and stays open for as long as
    /// the ring is used.
    ///
    /// # Errors
    ///
    /// If the system has no memory or no address range left.
    #[cfg(unix)]
    pub(crate) fn map(
        file: &std::fs::File,
        kept: &std::fs::File,
        bytes: usize,
        front_bytes: usize,
    ) -> io::Result<Self> {
        #[cfg(not(target_os = "linux"))]
        let _ = kept;
        assert!(front_bytes >= HEADER_BYTES);
        let layout = layout(bytes)?;
        let start = Mapping::new(layout.size(), Some(file))?;
        let front = Mapping::new(front_bytes, None)?;
        // The file is new and its bytes are zeros: at the first touch, ext4 would fill megabytes of
        // memory with them while the set-up waits.
        #[cfg(target_os = "linux")]
        let _ = calls::read_single_pages(start.start.as_ptr(), layout.size());
        #[cfg(target_os = "linux")]
        let guard = Some(GuardedMapping::guard(start.start, layout.size(), kept, front.start)?);
        Ok(Self {
            start: start.into_raw(),
            layout,
            front: front.into_raw(),
            front_bytes,
            memory: RegionMemory::Mapped,
            #[cfg(target_os = "linux")]
            guard,
        })
    }

    /// Makes the system provide the pages of a part of the block for writing, so that no caller
    /// meets a fault that a disk is slow to serve.
    ///
    /// Each page is touched as a caller would touch it. The advice `MADV_POPULATE_WRITE` is no
    /// alternative: on a frozen disk, the system call holds the lock on the memory of the process
    /// until the disk thaws, and blocks every allocation meanwhile.
    pub(crate) fn populate(&self, offset: usize, length: usize) {
        for page in (offset..offset + length).step_by(PAGE) {
            let word = self.word(page);
            let value = word.load(Ordering::Relaxed);
            // An atomic write that changes nothing. If a caller was faster, the exchange fails or
            // writes the caller's value again. The compiler turns other such writes, like
            // `fetch_or(0)`, into reads.
            let _ = word.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Gives the process private copies of all pages, after the mapping was detached from the file.
    #[cfg(target_os = "linux")]
    pub(crate) fn make_private(&self) {
        // A page without a copy stays a fault.
        let _ = calls::provide_pages(self.start.as_ptr(), self.layout.size());
    }

    /// Does nothing: on other systems no mapping is ever detached.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn make_private(&self) {}

    /// Returns `true` if the contents outlive the process: the block is a file, and the mapping is
    /// not detached from it.
    pub(crate) fn outlives_process(&self) -> bool {
        self.is_mapped() && !self.is_detached()
    }

    /// Returns `true` if the block was a file and is now memory of this process, because the file
    /// was truncated or its disk failed.
    #[cfg(target_os = "linux")]
    pub(crate) fn is_detached(&self) -> bool {
        self.guard.as_ref().is_some_and(GuardedMapping::is_detached)
    }

    /// Returns `false`: on other systems a fault ends the process.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn is_detached(&self) -> bool {
        false
    }

    /// Returns `true` if a frame reserved at `position` may have been lost with the file, because
    /// the file failed after the reservation. The frame may lie on a page that is still there: the
    /// system puts zeros behind the end of a truncated file.
    #[cfg(target_os = "linux")]
    pub(crate) fn may_have_lost(&self, position: u64) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.was_attached_at(position))
    }

    /// Returns `false`: on other systems a fault ends the process.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn may_have_lost(&self, _: u64) -> bool {
        false
    }

    /// Returns `true` if some of these bytes were lost with a page of the file. They were reserved
    /// at `position`, and are complete by now.
    ///
    /// Copies go forward, and lost bytes are zeros at the beginning of a page or of the range. So
    /// an intact range is never taken for damaged, unless it was written while the file was
    /// truncated and has zeros at just that place: eight, or fewer that are the end of the range.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_lost(&self, offset: usize, length: usize, position: u64) -> bool {
        const SAMPLE: usize = 8;
        let Some(guard) = &self.guard else { return false };
        guard.lost_pages(offset, length, position).any(|page| {
            let from = page.max(offset);
            let bytes = SAMPLE.min(offset + length - from);
            // SAFETY: the caller has seen the release store that hands the bytes over.
            unsafe { self.bytes(from, bytes) }.iter().all(|byte| *byte == 0)
        })
    }

    /// Returns `false`: on other systems a fault ends the process.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn has_lost(&self, _: usize, _: usize, _: u64) -> bool {
        false
    }

    /// Returns the word at `offset`, a multiple of 8.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.layout.size());
        // SAFETY: in bounds and aligned, as just checked (the block itself is aligned to a page).
        // Bytes that are also written by `write` are handed from one side to the other by release
        // and acquire on such words.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Returns the address of `bytes` bytes at `offset` of the front, for locks of the system.
    #[cfg(target_os = "linux")]
    pub(crate) fn front_address(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset + bytes <= self.front_bytes);
        self.front.as_ptr().wrapping_add(offset)
    }

    /// Returns the word at `offset`, a multiple of 8, of the header in the front.
    // The bound is a constant, as the offsets are, so that nothing is left to check. Measured: 15
    // instructions a call.
    #[inline]
    pub(crate) fn front_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= HEADER_BYTES);
        // SAFETY: in bounds and aligned, as for `word`: every front has the bytes of the header.
        unsafe { AtomicU64::from_ptr(self.front.as_ptr().add(offset).cast()) }
    }

    /// Returns the half word at `offset`, a multiple of 4, of the header in the front. None of its
    /// bytes are ever part of a word.
    #[inline]
    pub(crate) fn front_half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= HEADER_BYTES);
        // SAFETY: in bounds and aligned, as for `front_word`; nobody accesses it in another size.
        unsafe { AtomicU32::from_ptr(self.front.as_ptr().add(offset).cast()) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes these bytes until the caller has handed them over through a
    /// release store.
    pub(crate) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.layout.size());
        // SAFETY: in bounds as just checked; the source is another object; nobody else is there by
        // the caller's promise.
        unsafe { copy_to(self.start, offset, bytes) }
    }

    /// Copies `bytes` to `offset` of the front, and of the file behind it.
    ///
    /// # Safety
    ///
    /// As for [`write`](Self::write).
    pub(crate) unsafe fn write_front(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.front_bytes);
        // SAFETY: as for `write`; the front is no longer than the block.
        unsafe {
            if self.is_mapped() {
                copy_to(self.start, offset, bytes);
            }
            copy_to(self.front, offset, bytes);
        }
    }

    /// Returns the bytes at `offset`.
    ///
    /// # Safety
    ///
    /// Their last writer has handed them over (an acquire load has seen its release store), and
    /// nobody writes them while the slice lives.
    pub(crate) unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset + length <= self.layout.size());
        // SAFETY: in bounds as just checked, initialized (zeroed at first), not written meanwhile
        // by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(offset), length) }
    }

    /// Returns the bytes at `offset` of the front.
    ///
    /// # Safety
    ///
    /// As for [`bytes`](Self::bytes).
    pub(crate) unsafe fn front_bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset + length <= self.front_bytes);
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts(self.front.as_ptr().add(offset), length) }
    }

    fn is_mapped(&self) -> bool {
        matches!(self.memory, RegionMemory::Mapped)
    }

    /// Returns all bytes to an exclusive owner.
    pub(crate) fn all_bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block lives as long as this value, which is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        match self.memory {
            #[cfg(unix)]
            RegionMemory::Mapped => {
                // Before the addresses belong to another mapping.
                #[cfg(target_os = "linux")]
                drop(self.guard.take());
                drop((
                    Mapping {
                        start: self.front,
                        bytes: self.front_bytes,
                    },
                    Mapping {
                        start: self.start,
                        bytes: self.layout.size(),
                    },
                ));
            }
            #[cfg(not(unix))]
            RegionMemory::Mapped => {}
            // SAFETY: allocated in `plain` with this layout.
            RegionMemory::Allocated(allocation, layout) => unsafe { dealloc(allocation.as_ptr(), layout) },
        }
    }
}

/// A mapping that ends when it is dropped. Nothing borrows from it by then.
#[cfg(unix)]
struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

#[cfg(unix)]
impl Mapping {
    fn new(bytes: usize, file: Option<&std::fs::File>) -> io::Result<Self> {
        let start = calls::map_shared(bytes, file)?;
        Ok(Self { start, bytes })
    }

    fn into_raw(self) -> NonNull<u8> {
        std::mem::ManuallyDrop::new(self).start
    }
}

#[cfg(unix)]
impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `Region::map` mapped this length, and nothing borrows from the mapping.
        unsafe { calls::unmap(self.start, self.bytes) };
    }
}

/// # Safety
///
/// There are so many bytes behind `start`, and nobody else reads or writes them.
unsafe fn copy_to(start: NonNull<u8>, offset: usize, bytes: &[u8]) {
    // SAFETY: by the caller's promise.
    unsafe {
        start
            .as_ptr()
            .add(offset)
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
    }
}

fn layout(bytes: usize) -> io::Result<Layout> {
    Layout::from_size_align(bytes.max(HEADER_BYTES), HEADER_BYTES).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
