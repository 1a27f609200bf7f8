//! Descriptors of locked files, which every child of a fork closes.

use std::fs::File;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

/// A descriptor whose file lock must end with this process.
///
/// A child of a fork inherits a copy of the descriptor, and the copy would keep the lock. So each
/// child closes its copy, unless the number belongs to another file by then.
#[derive(Debug)]
pub(crate) struct ExclusiveDescriptor(#[cfg_attr(not(unix), allow(dead_code, reason = "never read"))] Option<usize>);

struct DescriptorEntry {
    descriptor: AtomicI32,
    device: AtomicU64,
    inode: AtomicU64,
}

/// One entry for the ring, and one for each live run. Without a free entry the lock lasts as long
/// as the children.
static DESCRIPTORS: [DescriptorEntry; 256] = [const {
    DescriptorEntry {
        descriptor: AtomicI32::new(FREE),
        device: AtomicU64::new(0),
        inode: AtomicU64::new(0),
    }
}; 256];
const FREE: i32 = -1;
const RESERVED: i32 = -2;

impl ExclusiveDescriptor {
    /// Makes every child of a fork close its copy of the descriptor of `file`.
    #[cfg(unix)]
    pub(crate) fn register(file: &File) -> Self {
        use std::os::fd::AsRawFd as _;
        use std::os::unix::fs::MetadataExt as _;

        let Ok(metadata) = file.metadata() else {
            return Self(None);
        };
        let index = DESCRIPTORS.iter().position(|entry| {
            let exchanged = entry
                .descriptor
                .compare_exchange(FREE, RESERVED, Ordering::Relaxed, Ordering::Relaxed);
            exchanged.is_ok()
        });
        if let Some(entry) = index.map(|index| &DESCRIPTORS[index]) {
            entry.device.store(metadata.dev(), Ordering::Relaxed);
            entry.inode.store(metadata.ino(), Ordering::Relaxed);
            entry.descriptor.store(file.as_raw_fd(), Ordering::Release);
        }
        Self(index)
    }
}

#[cfg(unix)]
impl ExclusiveDescriptor {
    /// Closes the descriptor of `file`, unless the program has closed the descriptor itself: its
    /// number may belong to another file by then.
    pub(crate) fn close(self, file: File) {
        use std::os::unix::fs::MetadataExt as _;

        let is_ours = self.0.is_none_or(|index| {
            let entry = &DESCRIPTORS[index];
            let expected = (
                entry.device.load(Ordering::Relaxed),
                entry.inode.load(Ordering::Relaxed),
            );
            file.metadata()
                .is_ok_and(|found| (found.dev(), found.ino()) == expected)
        });
        drop(self);
        if is_ours {
            drop(file);
        } else {
            std::mem::forget(file);
        }
    }
}

impl Drop for ExclusiveDescriptor {
    /// Runs before the descriptor is closed, so that no child looks at a number that belongs to
    /// another file.
    fn drop(&mut self) {
        if let Some(index) = self.0 {
            DESCRIPTORS[index].descriptor.store(FREE, Ordering::Release);
        }
    }
}

/// Closes this child's copies of all registered descriptors.
#[cfg(unix)]
pub(crate) fn close_inherited_descriptors() {
    DESCRIPTORS.iter().for_each(DescriptorEntry::close_copy);
}

#[cfg(unix)]
impl DescriptorEntry {
    fn close_copy(&self) {
        use super::calls::file_identity;

        let descriptor = self.descriptor.swap(FREE, Ordering::Acquire);
        if descriptor < 0 {
            return;
        }
        let expected = (self.device.load(Ordering::Relaxed), self.inode.load(Ordering::Relaxed));
        // The call fails if the program has closed the descriptor itself.
        if file_identity(descriptor).is_ok_and(|identity| identity == expected) {
            // SAFETY: the descriptor is this child's copy of the descriptor of a ring or of a run's
            // lock: it has the device and the inode of that file, and the owner never closes it in
            // a child (see `ring::file` and `process_lock`).
            unsafe { libc::close(descriptor) };
        }
    }
}
