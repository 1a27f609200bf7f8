//! The frames that travel through the ring: what their bodies hold, and how they are written and read.

pub(crate) mod body;
pub(crate) mod buffer;
pub(crate) mod chunks;
pub(crate) mod clock;
mod fields;
#[allow(
    dead_code,
    reason = "unused in a program without the feature `kv_serde` of `log`; see `fields`"
)]
mod json;
pub(crate) mod repeats;
