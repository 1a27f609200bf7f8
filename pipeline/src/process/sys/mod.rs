//! The calls of the C library that have no safe form: signal actions and masks, the hooks around a
//! fork and an exit.
//!
//! The neighboring modules decide what happens and when. This module holds their `unsafe` blocks
//! and the proofs of these blocks, and offers safe functions.

#![allow(
    unsafe_code,
    reason = "signals, forks and exits are hooked through the C library, which has no safe interface for them"
)]

mod descriptors;
mod hooks;
#[cfg(unix)]
mod signals;

pub(crate) use self::descriptors::ExclusiveDescriptor;
#[cfg(unix)]
pub(crate) use self::descriptors::close_inherited_descriptors;
#[cfg(unix)]
pub(crate) use self::hooks::call_around_forks;
pub(crate) use self::hooks::{HeldLock, call_at_exit, call_at_unload};
#[cfg(all(target_os = "linux", not(loom)))]
pub(crate) use self::signals::keep_errno;
#[cfg(unix)]
pub(crate) use self::signals::{SignalAction, SignalForwarding, block_in_this_thread, exit_immediately, raise};
