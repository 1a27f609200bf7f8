//! Locks by which a process shares its ring with children of a fork, any of which may be killed at any moment.
//!
//! Two locks lie in the ring's block, both of a kind that the system gives back when its holder dies. The writer's thread holds the
//! first one while it lives, so that a child learns by a look into memory that the writer is gone. The second one is held by the
//! child that puts in a frame: if it dies at that, the writer learns that nobody will ever commit the frame that it waits for.
//! Threads of the process that has the writer need neither.

use std::sync::atomic::Ordering;

use crate::ring::layout::{CHILDREN_LOCK, DIED, WRITER_LOCK, WRITER_STATE};
use crate::ring::region::Region;

/// The first lock is not held yet.
const COMING: u64 = 0;
const THERE: u64 = 1;
const GONE: u64 = 2;

/// Prepares a fresh block.
pub(crate) fn begin(region: &Region) {
    lock::begin(region, WRITER_LOCK);
    lock::begin(region, CHILDREN_LOCK);
}

/// By the writer's thread: it is there.
pub(crate) fn writer_begins(region: &Region) {
    lock::try_take(region, WRITER_LOCK);
    region.front_word(WRITER_STATE).store(THERE, Ordering::Release);
}

/// By the writer's thread: it reads nothing more.
pub(crate) fn writer_ends(region: &Region) {
    region.front_word(WRITER_STATE).store(GONE, Ordering::Release);
    lock::give_back(region, WRITER_LOCK);
}

/// By a child: whether the writer has ended, or died with its process.
pub(crate) fn writer_is_gone(region: &Region) -> bool {
    match region.front_word(WRITER_STATE).load(Ordering::Acquire) {
        COMING => false,
        THERE => match lock::try_take(region, WRITER_LOCK) {
            lock::Taken::No => false,
            lock::Taken::Yes | lock::Taken::FromTheDead => {
                writer_ends(region);
                true
            }
        },
        _ => true,
    }
}

/// By a child, for the time of one frame; `None` if another child is at it.
pub(crate) fn take_turn(region: &Region) -> Option<Turn<'_>> {
    match lock::try_take(region, CHILDREN_LOCK) {
        lock::Taken::No => return None,
        lock::Taken::Yes => {}
        lock::Taken::FromTheDead => drop(region.front_word(DIED).fetch_add(1, Ordering::AcqRel)),
    }
    Some(Turn(region))
}

/// How many children have died at putting in a frame.
pub(crate) fn died(region: &Region) -> u64 {
    region.front_word(DIED).load(Ordering::Acquire)
}

/// No child puts in a frame while it lives.
pub(crate) struct Turn<'a>(&'a Region);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock::give_back(self.0, CHILDREN_LOCK);
    }
}

#[cfg(all(target_os = "linux", not(loom)))]
mod lock {
    use std::mem::MaybeUninit;

    use crate::ring::region::Region;

    pub(super) enum Taken {
        No,
        Yes,
        FromTheDead,
    }

    fn at(region: &Region, offset: usize) -> *mut libc::pthread_mutex_t {
        const { assert!(size_of::<libc::pthread_mutex_t>() <= 128) };
        region.front_address(offset, size_of::<libc::pthread_mutex_t>()).cast()
    }

    pub(super) fn begin(region: &Region, offset: usize) {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: the attributes are initialised by the first call and live through the others; the lock lies in a fresh block
        // that nobody else knows, on 128 bytes of its own, aligned to them.
        unsafe {
            libc::pthread_mutexattr_init(attributes.as_mut_ptr());
            libc::pthread_mutexattr_setpshared(attributes.as_mut_ptr(), libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(attributes.as_mut_ptr(), libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(at(region, offset), attributes.as_ptr());
            libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
        }
    }

    pub(super) fn try_take(region: &Region, offset: usize) -> Taken {
        let lock = at(region, offset);
        // SAFETY: initialised in `begin`, and the block outlives the call. The state that it guards is whole at every moment: a
        // frame that is not committed is none.
        unsafe {
            match libc::pthread_mutex_trylock(lock) {
                0 => Taken::Yes,
                libc::EOWNERDEAD => {
                    libc::pthread_mutex_consistent(lock);
                    Taken::FromTheDead
                }
                _ => Taken::No,
            }
        }
    }

    pub(super) fn give_back(region: &Region, offset: usize) {
        // SAFETY: as above; it is this thread's, or the call does nothing.
        unsafe { libc::pthread_mutex_unlock(at(region, offset)) };
    }
}

/// Without such locks a child takes the writer for alive, and is not to be killed.
#[cfg(not(all(target_os = "linux", not(loom))))]
mod lock {
    use crate::ring::region::Region;

    #[allow(dead_code)]
    pub(super) enum Taken {
        No,
        Yes,
        FromTheDead,
    }

    pub(super) fn begin(_: &Region, _: usize) {}

    pub(super) fn try_take(_: &Region, offset: usize) -> Taken {
        match offset == super::WRITER_LOCK {
            true => Taken::No,
            false => Taken::Yes,
        }
    }

    pub(super) fn give_back(_: &Region, _: usize) {}
}
