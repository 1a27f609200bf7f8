//! Recovery: delivers the frames that killed processes have left in their rings.
//!
//! 1. `search` finds the names of rings: in the log directory, and through the entries there in the
//!    folders of its runs. `found_ring` opens the ring behind a name, and proves that its process
//!    is dead, by its lock.
//! 2. `recover` restores the sinks from the resume points of the newest checkpoint, and gives them
//!    the frames from there on.
//! 3. Each logger that was open ends as killed, and the ring is removed. The `outcome` describes
//!    what was done.
//!
//! Recovery writes nothing into a ring, so it may itself be killed and repeated.

pub(crate) mod found_ring;
pub(crate) mod outcome;
pub(crate) mod recover;
mod search;
