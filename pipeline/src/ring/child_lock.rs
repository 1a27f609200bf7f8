//! Locks by which a process shares its ring with children of a fork, each of which may be killed at
//! any moment.
//!
//! Two locks are in the block of the ring. The system releases both when their holder dies.
//!
//! - The writer's thread holds the first lock while it lives, so a child learns from memory alone
//!   that the writer is gone.
//! - A child holds the second lock while it pushes a frame. If the child dies meanwhile, the writer
//!   learns that nobody will ever commit the frame that it waits for.
//!
//! Threads of the process that has the writer need neither.

use std::sync::atomic::Ordering;

use super::Region;
use super::layout::{CHILD_DEATHS, CHILD_LOCK, WRITER_LOCK, WRITER_STATE};

// States of the writer.
/// The writer does not hold its lock yet.
const STARTING: u64 = 0;
const RUNNING: u64 = 1;
const GONE: u64 = 2;

/// Initializes the locks of a fresh block.
pub(super) fn initialize(region: &Region) {
    robust::initialize(region, WRITER_LOCK);
    robust::initialize(region, CHILD_LOCK);
}

/// For the writer's thread: notes that the writer runs.
pub(crate) fn writer_started(region: &Region) {
    robust::try_lock(region, WRITER_LOCK);
    region.front_word(WRITER_STATE).store(RUNNING, Ordering::Release);
}

/// For the writer's thread: notes that the writer reads no more frames.
pub(crate) fn writer_stopped(region: &Region) {
    region.front_word(WRITER_STATE).store(GONE, Ordering::Release);
    robust::unlock(region, WRITER_LOCK);
}

/// For a child: returns `true` if the writer has stopped, or died with its process.
pub(crate) fn is_writer_gone(region: &Region) -> bool {
    match region.front_word(WRITER_STATE).load(Ordering::Acquire) {
        STARTING => false,
        RUNNING => match robust::try_lock(region, WRITER_LOCK) {
            LockAttempt::Failed => false,
            LockAttempt::Locked | LockAttempt::LockedAfterDeath => {
                writer_stopped(region);
                true
            }
        },
        _ => true,
    }
}

/// For a child, for the time of one frame: takes the lock. Returns `None` if another child holds
/// it.
pub(crate) fn try_lock_for_child(region: &Region) -> Option<ChildLock<'_>> {
    match robust::try_lock(region, CHILD_LOCK) {
        LockAttempt::Failed => return None,
        LockAttempt::Locked => {}
        LockAttempt::LockedAfterDeath => drop(region.front_word(CHILD_DEATHS).fetch_add(1, Ordering::AcqRel)),
    }
    Some(ChildLock(region))
}

/// Returns the number of children that died while they pushed a frame.
pub(crate) fn child_deaths(region: &Region) -> u64 {
    region.front_word(CHILD_DEATHS).load(Ordering::Acquire)
}

/// The lock of children: no other child pushes a frame while the value lives.
pub(crate) struct ChildLock<'a>(&'a Region);

impl Drop for ChildLock<'_> {
    fn drop(&mut self) {
        robust::unlock(self.0, CHILD_LOCK);
    }
}

#[cfg_attr(
    any(loom, not(target_os = "linux")),
    allow(dead_code, reason = "without robust locks no holder dies")
)]
enum LockAttempt {
    Failed,
    Locked,
    /// The holder had died.
    LockedAfterDeath,
}

#[cfg(all(target_os = "linux", not(loom)))]
mod robust {
    use std::mem::MaybeUninit;

    use super::{LockAttempt, Region};

    fn at(region: &Region, offset: usize) -> *mut libc::pthread_mutex_t {
        const { assert!(size_of::<libc::pthread_mutex_t>() <= 128) };
        region.front_address(offset, size_of::<libc::pthread_mutex_t>()).cast()
    }

    pub(super) fn initialize(region: &Region, offset: usize) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the first call initializes the attributes, which live through the other calls.
        // The lock is in a fresh block that nobody else knows, on 128 bytes of its own, aligned to
        // them.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(at(region, offset), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        }
    }

    pub(super) fn try_lock(region: &Region, offset: usize) -> LockAttempt {
        let lock = at(region, offset);
        // SAFETY: initialized in `initialize`, and the block outlives the call. The guarded state
        // is consistent at every moment: an uncommitted frame does not count.
        unsafe {
            match libc::pthread_mutex_trylock(lock) {
                0 => LockAttempt::Locked,
                libc::EOWNERDEAD => {
                    libc::pthread_mutex_consistent(lock);
                    LockAttempt::LockedAfterDeath
                }
                _ => LockAttempt::Failed,
            }
        }
    }

    pub(super) fn unlock(region: &Region, offset: usize) {
        // SAFETY: as above. The lock belongs to this thread, or the call does nothing.
        unsafe { libc::pthread_mutex_unlock(at(region, offset)) };
    }
}

/// Without such locks, a child takes the writer for alive, and must not be killed.
#[cfg(not(all(target_os = "linux", not(loom))))]
mod robust {
    use super::{LockAttempt, Region};

    pub(super) fn initialize(_: &Region, _: usize) {}

    pub(super) fn try_lock(_: &Region, offset: usize) -> LockAttempt {
        match offset == super::WRITER_LOCK {
            true => LockAttempt::Failed,
            false => LockAttempt::Locked,
        }
    }

    pub(super) fn unlock(_: &Region, _: usize) {}
}
