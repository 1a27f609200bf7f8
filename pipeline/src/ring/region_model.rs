//! The memory of a ring in the model checker: atomics and cells that it watches.

use std::fs::File;
use std::io;

use loom::cell::UnsafeCell;

use super::layout::WAKEUP;
use super::{AtomicU32, AtomicU64};

/// A block of zeroed bytes. Each eight of them are watched for races. The interface is that of the
/// real memory.
pub(crate) struct ModelRegion {
    words: Vec<AtomicU64>,
    wakeup: AtomicU32,
    cells: Vec<UnsafeCell<[u8; 8]>>,
}

// SAFETY: the model checks that no cell is accessed by two threads at once.
unsafe impl Sync for ModelRegion {}

impl ModelRegion {
    pub(crate) fn plain(bytes: usize) -> io::Result<Self> {
        Ok(Self {
            words: (0..bytes / 8).map(|_| AtomicU64::new(0)).collect(),
            wakeup: AtomicU32::new(0),
            cells: (0..bytes / 8).map(|_| UnsafeCell::new([0; 8])).collect(),
        })
    }

    pub(crate) fn map(_: &File, _: &File, _: usize, _: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn populate(&self, _: usize, _: usize) {}

    pub(crate) fn make_private(&self) {}

    pub(crate) fn outlives_process(&self) -> bool {
        false
    }

    pub(crate) fn is_detached(&self) -> bool {
        false
    }

    pub(crate) fn may_have_lost(&self, _: u64) -> bool {
        false
    }

    pub(crate) fn has_lost(&self, _: usize, _: usize, _: u64) -> bool {
        false
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset != WAKEUP);
        &self.words[offset / 8]
    }

    pub(crate) fn front_word(&self, offset: usize) -> &AtomicU64 {
        self.word(offset)
    }

    pub(crate) fn front_half_word(&self, offset: usize) -> &AtomicU32 {
        assert_eq!(offset, WAKEUP);
        &self.wakeup
    }

    /// # Safety
    ///
    /// As of the real memory; the model checks it.
    pub(crate) unsafe fn write(&self, offset: usize, bytes: &[u8]) {
        for (at, part) in bytes.chunks(8).enumerate() {
            // SAFETY: by the caller's promise, which the model checks.
            self.cells[offset / 8 + at].with_mut(|cell| unsafe { (&mut *cell)[..part.len()].copy_from_slice(part) });
        }
    }

    /// # Safety
    ///
    /// As of the real memory; the model checks it.
    pub(crate) unsafe fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let cells = &self.cells[offset / 8..(offset + length).div_ceil(8)];
        // SAFETY: by the caller's promise, which the model checks.
        let bytes = cells
            .iter()
            .flat_map(|cell| cell.with(|cell| unsafe { *cell }))
            .take(length);
        // The model is small and soon over.
        Vec::leak(bytes.collect())
    }

    /// # Safety
    ///
    /// As of the real memory; the model checks it.
    pub(crate) unsafe fn write_front(&self, offset: usize, bytes: &[u8]) {
        // SAFETY: by the caller's promise, which the model checks.
        unsafe { self.write(offset, bytes) }
    }

    /// # Safety
    ///
    /// As of the real memory; the model checks it.
    pub(crate) unsafe fn front_bytes(&self, offset: usize, length: usize) -> &[u8] {
        // SAFETY: by the caller's promise, which the model checks.
        unsafe { self.bytes(offset, length) }
    }

    /// Returns nothing: the model reads no rings of dead processes.
    pub(crate) fn all_bytes(&mut self) -> &mut [u8] {
        &mut []
    }
}
