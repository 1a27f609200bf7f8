//! The memory that the ring lies in.
//!
//! Everything that callers and the writer share is in one block of bytes with fixed offsets, and nothing in it is a
//! pointer: the block is a file that is mapped where the ring shall outlive its process, and plain memory elsewhere.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

#[cfg(target_os = "linux")]
use crate::ring::fault::Watched;
use crate::ring::layout::HEADER_BYTES;

/// No page is smaller.
const PAGE: usize = 4096;

/// A block of bytes, zeroed at first, aligned to a page.
pub(crate) struct Region {
    start: NonNull<u8>,
    layout: Layout,
    /// The first bytes of the block, as live processes have them: the block itself, or, since others may cut a file and a disk may
    /// fail, memory that is no file and that a process shares with its forks.
    front: NonNull<u8>,
    front_bytes: usize,
    mapped: bool,
    /// Has faults of the mapping mended.
    #[cfg(target_os = "linux")]
    watched: Option<Watched>,
}

// SAFETY: the block belongs to this value alone, or is shared with other processes on the same terms as with other
// threads, and stays where it is; all access goes through atomics, or through the methods whose callers promise that
// nobody else touches those bytes in the meantime.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Takes `bytes` bytes of plain memory. Pages that are never touched cost nothing.
    ///
    /// # Errors
    ///
    /// If the system does not give so much.
    pub(crate) fn plain(bytes: usize) -> io::Result<Self> {
        let layout = layout(bytes)?;
        // SAFETY: the layout is not empty.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            start,
            layout,
            front: start,
            front_bytes: layout.size(),
            mapped: false,
            #[cfg(target_os = "linux")]
            watched: None,
        })
    }

    /// Maps a file of `bytes` bytes, for all of which it has room; the first `front_bytes` live processes have elsewhere. `kept` is
    /// the same file, which stays open for as long as the ring is used.
    ///
    /// # Errors
    ///
    /// If the system has no memory or no address for it.
    #[cfg(unix)]
    pub(crate) fn map(
        file: &std::fs::File,
        kept: &std::fs::File,
        bytes: usize,
        front_bytes: usize,
    ) -> io::Result<Self> {
        use std::os::fd::AsRawFd as _;

        let layout = layout(bytes)?;
        let start = map(layout.size(), libc::MAP_SHARED, file.as_raw_fd())?;
        let unmap = |start: NonNull<u8>, bytes: usize| {
            // SAFETY: just mapped with this length, and nobody knows of it yet.
            let _ = unsafe { libc::munmap(start.as_ptr().cast(), bytes) };
        };
        #[cfg(not(target_os = "linux"))]
        let _ = kept;
        let front = map(front_bytes, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
            .inspect_err(|_| unmap(start, layout.size()))?;
        #[cfg(target_os = "linux")]
        let watched = Watched::begin(start, layout.size(), kept, front)
            .inspect_err(|_| {
                unmap(front, front_bytes);
                unmap(start, layout.size());
            })
            .map(Some)?;
        Ok(Self {
            start,
            layout,
            front,
            front_bytes,
            mapped: true,
            #[cfg(target_os = "linux")]
            watched,
        })
    }

    /// Has the system provide the pages of a part of the block for writing, so that no caller meets a fault that a disk
    /// is slow to serve.
    ///
    /// Each page is touched, as a caller would. To ask for them (`MADV_POPULATE_WRITE`) is no way: on a disk that is frozen the
    /// system call holds the lock on the process' memory for as long, and with it whoever in the program allocates some.
    pub(crate) fn populate(&self, offset: usize, length: usize) {
        for page in (offset..offset + length).step_by(PAGE) {
            let word = self.word(page);
            let value = word.load(Ordering::Relaxed);
            // A write that changes nothing, in one step: where a caller has been faster, either it fails or it puts back what the
            // caller has written. (Others that change nothing are taken for reads by the compiler.)
            let _ = word.compare_exchange(value, value, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Has the process have all pages for itself, after it was parted from the file.
    #[cfg(target_os = "linux")]
    pub(crate) fn own(&self) {
        // SAFETY: the range is the block, and the advice changes none of its bytes. A page that cannot be had stays a fault.
        let _ = unsafe {
            libc::madvise(
                self.start.as_ptr().cast(),
                self.layout.size(),
                libc::MADV_POPULATE_WRITE,
            )
        };
    }

    /// Elsewhere nothing is parted.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn own(&self) {}

    /// Whether it outlives the process: it is a file, and has not been parted from it.
    pub(crate) fn outlives(&self) -> bool {
        self.mapped && !self.has_parted()
    }

    /// Whether it was a file and is memory of this process now, because the file was cut or its disk has failed.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_parted(&self) -> bool {
        self.watched.as_ref().is_some_and(Watched::has_parted)
    }

    /// Elsewhere a fault ends the process.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn has_parted(&self) -> bool {
        false
    }

    /// Whether something is missing of these bytes, which were reserved at the position `at` and are complete by now, because it had
    /// been written before a page was lost with the file.
    ///
    /// Copies go forwards, and what is missing is zeros, where a page begins or the bytes do. So nothing that is whole is taken for
    /// damaged, unless it was on its way when the file was cut and has eight zeros just there.
    #[cfg(target_os = "linux")]
    pub(crate) fn has_lost(&self, offset: usize, length: usize, at: u64) -> bool {
        const LOOK: usize = 8;
        let Some(watched) = &self.watched else { return false };
        watched.gone(offset, length, at).any(|page| {
            let from = page.max(offset);
            let bytes = LOOK.min(offset + length - from);
            // SAFETY: the caller has seen the release store that hands them over.
            unsafe { self.bytes(from, bytes) }.iter().all(|byte| *byte == 0)
        })
    }

    /// Elsewhere a fault ends the process.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn has_lost(&self, _: usize, _: usize, _: u64) -> bool {
        false
    }

    /// The word at `offset`, a multiple of 8.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.layout.size());
        // SAFETY: in bounds and aligned, as just checked (the block itself is aligned to a page). Bytes that are also
        // written by `write` are handed from one side to the other by release and acquire on such words.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Where `bytes` bytes at `offset` of the front lie, for locks of the system.
    #[cfg(target_os = "linux")]
    pub(crate) fn front_address(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset + bytes <= self.front_bytes);
        self.front.as_ptr().wrapping_add(offset)
    }

    /// The word at `offset`, a multiple of 8, of the front.
    pub(crate) fn front_word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.front_bytes);
        // SAFETY: in bounds and aligned, as for `word`.
        unsafe { AtomicU64::from_ptr(self.front.as_ptr().add(offset).cast()) }
    }

    /// The half word at `offset`, a multiple of 4, of the front, of which no byte is ever part of a word.
    pub(crate) fn front_half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.front_bytes);
        // SAFETY: in bounds and aligned, as just checked; nobody accesses it in another size.
        unsafe { AtomicU32::from_ptr(self.front.as_ptr().add(offset).cast()) }
    }

    /// Copies `bytes` to `offset`.
    ///
    /// # Safety
    ///
    /// Nobody else reads or writes these bytes until the caller has handed them over through a release store.
    pub(crate) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.layout.size());
        // SAFETY: in bounds as just checked; the source is another object; no one else is there by the caller's promise.
        unsafe { put(self.start, offset, bytes) }
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
            if self.mapped {
                put(self.start, offset, bytes);
            }
            put(self.front, offset, bytes);
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

    /// The bytes at `offset` of the front.
    ///
    /// # Safety
    ///
    /// As for [`bytes`](Self::bytes).
    pub(crate) unsafe fn front_bytes(&self, offset: usize, length: usize) -> &[u8] {
        assert!(offset + length <= self.front_bytes);
        // SAFETY: as for `bytes`.
        unsafe { std::slice::from_raw_parts(self.front.as_ptr().add(offset), length) }
    }

    /// All bytes, for who has the block alone.
    pub(crate) fn all_bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block lives as long as this value, which is borrowed for writing.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.layout.size()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        #[cfg(unix)]
        if self.mapped {
            // Before the addresses are another's.
            #[cfg(target_os = "linux")]
            drop(self.watched.take());
            // SAFETY: mapped in `map` with these lengths; nothing that borrows from them outlives this value.
            unsafe {
                libc::munmap(self.front.as_ptr().cast(), self.front_bytes);
                libc::munmap(self.start.as_ptr().cast(), self.layout.size());
            }
            return;
        }
        // SAFETY: allocated in `plain` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

/// # Safety
///
/// There are so many bytes behind `start`, and nobody else reads or writes them.
unsafe fn put(start: NonNull<u8>, offset: usize, bytes: &[u8]) {
    // SAFETY: by the caller's promise.
    unsafe {
        start
            .as_ptr()
            .add(offset)
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len())
    }
}

#[cfg(unix)]
fn map(bytes: usize, flags: libc::c_int, file: libc::c_int) -> io::Result<NonNull<u8>> {
    // SAFETY: a new mapping at an address of the system's choice touches no memory that is in use; the descriptor is open for
    // the length of the call, or none.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            file,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // The system gives the lowest page only to those who ask for it.
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn layout(bytes: usize) -> io::Result<Layout> {
    Layout::from_size_align(bytes.max(HEADER_BYTES), HEADER_BYTES).map_err(|_| io::ErrorKind::OutOfMemory.into())
}
