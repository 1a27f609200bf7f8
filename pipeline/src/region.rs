//! The memory that the ring lies in.
//!
//! Everything that callers and the writer share is in one block of bytes with fixed offsets, and nothing in it is a
//! pointer: the block is a file that is mapped where the ring shall outlive its process, and plain memory elsewhere.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use crate::layout::HEADER_BYTES;

/// A block of bytes, zeroed at first, aligned to a page.
pub(crate) struct Region {
    start: NonNull<u8>,
    layout: Layout,
    mapped: bool,
}

// SAFETY: the block belongs to this value alone, or is shared with other processes on the same terms as with other
// threads, and stays where it is; all access goes through atomics, or through the two methods whose callers promise that
// nobody else touches those bytes in the meantime.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Takes `bytes` bytes of plain memory. Pages that are never touched cost nothing.
    pub(crate) fn plain(bytes: usize) -> Self {
        let layout = layout(bytes);
        // SAFETY: the layout is not empty.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self {
            start,
            layout,
            mapped: false,
        }
    }

    /// Maps a file of `bytes` bytes, all of which it has room for: a page that a full disk cannot provide is a fatal
    /// signal to whoever touches it.
    #[cfg(unix)]
    pub(crate) fn map(file: &std::fs::File, bytes: usize) -> std::io::Result<Self> {
        use std::os::fd::AsRawFd as _;

        let layout = layout(bytes);
        let (access, sharing) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the system's choice touches no memory that is in use; the descriptor is
        // open for the length of the call.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                layout.size(),
                access,
                sharing,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self {
                start,
                layout,
                mapped: true,
            }),
            // The system gives the lowest page only to those who ask for it.
            None => Err(std::io::ErrorKind::OutOfMemory.into()),
        }
    }

    /// Has the system provide the pages of a part of the block for writing, so that no caller meets a fault that a disk
    /// is slow to serve. Where the system cannot, callers do it as they go.
    #[cfg(target_os = "linux")]
    pub(crate) fn populate(&self, offset: usize, length: usize) {
        assert!(offset.is_multiple_of(HEADER_BYTES) && offset + length <= self.layout.size());
        // SAFETY: the range lies in the block, and the advice changes none of its bytes.
        let _ = unsafe {
            libc::madvise(
                self.start.as_ptr().add(offset).cast(),
                length,
                libc::MADV_POPULATE_WRITE,
            )
        };
    }

    /// Elsewhere callers take the pages as they go.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn populate(&self, _: usize, _: usize) {}

    /// Whether it outlives the process.
    pub(crate) fn is_mapped(&self) -> bool {
        self.mapped
    }

    /// The word at `offset`, a multiple of 8.
    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.layout.size());
        // SAFETY: in bounds and aligned, as just checked (the block itself is aligned to a page). Bytes that are also
        // written by `write` are handed from one side to the other by release and acquire on such words.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Where `bytes` bytes at `offset` lie, for locks of the system.
    #[cfg(target_os = "linux")]
    pub(crate) fn address(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset + bytes <= self.layout.size());
        self.start.as_ptr().wrapping_add(offset)
    }

    /// The half word at `offset`, a multiple of 4, of which no byte is ever part of a word.
    pub(crate) fn half_word(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.layout.size());
        // SAFETY: in bounds and aligned, as just checked; nobody accesses it in another size.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
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
        #[cfg(unix)]
        if self.mapped {
            // SAFETY: mapped in `map` with this length; nothing that borrows from it outlives this value.
            let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.layout.size()) };
            return;
        }
        // SAFETY: allocated in `plain` with this layout.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

fn layout(bytes: usize) -> Layout {
    match Layout::from_size_align(bytes.max(HEADER_BYTES), HEADER_BYTES) {
        Ok(layout) => layout,
        // Sizes come from a checked config, far below the limit.
        Err(_) => unreachable!("{bytes} bytes exceed the address space"),
    }
}
