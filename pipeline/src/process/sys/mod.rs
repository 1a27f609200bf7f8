//! The calls of the C library: [system calls](calls), signal actions and masks, the hooks around a
//! fork and an exit.
//!
//! The neighboring modules decide what happens and when. This module holds their `unsafe` blocks
//! and the proofs of these blocks. It offers safe functions wherever a function can be safe.

#![allow(
    unsafe_code,
    reason = "system calls, and hooks of signals, forks and exits, go through the C library, which is not safe Rust"
)]

#[cfg(unix)]
pub(crate) mod calls;
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
