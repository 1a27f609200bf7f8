//! The frames that travel through the ring: the layout of their bodies, and how they are written
//! and read.
//!
//! All numbers are little endian, and there are no pointers: another process may read a frame.
//! Times are nanoseconds since 1970.
//!
//! ```text
//! record    time i64, logger u32, level u8, arrival u8, fields u16, target length u32, message length u32,
//!           target, message, fields (see `fields`)
//!           (the message of a deferred record is: literal length u16, literal, arguments; see `deferred`)
//! metrics   time i64, logger u32, count u32, step u64, count x { tag u8, 8 bytes, id u32 | NO_ID, length u32, name }
//! progress  time i64, logger u32, kind u8, flags u8, line u32, id u64, position u64, total u64,
//!           samples u64, elapsed ns u64, eta ns u64, rate f64, samples/s f64,
//!           description length u32, description
//! config    time i64, logger u32, length u32, JSON
//! message   time i64, logger u32, length u32, name of the sink, length u32, text
//!           (an alert or a media value has a name that no sink has, and JSON as its text)
//! chunk     number u64, kind of the whole frame u8, last u8, length u32, bytes
//! control   ticket u64, code u8, logger u32, number i32, length u32, bytes (such as the name of a sink)
//! ```

pub(crate) mod buffer;
pub(crate) mod bytes;
#[allow(unsafe_code, reason = "ASCII is UTF-8, and a check for ASCII is much faster")]
pub(crate) mod checked_text;
pub(crate) mod chunks;
pub(crate) mod clock;
pub(crate) mod decode;
pub(crate) mod deferred;
pub(crate) mod encode;
mod fields;
mod format_spec;
#[allow(
    dead_code,
    reason = "unused in a program without the feature `kv_serde` of `log`; see `fields`"
)]
mod json;
pub(crate) mod repeats;
pub(crate) mod rewrite;
pub(crate) mod types;
