//! The way through the system: caller → ring → writer → sinks.
//!
//! Callers encode what they are told into frames in a bounded ring of bytes ([`Port`]); one thread, the writer, takes
//! them out in order and calls the sinks. Programs use this through `logcore-facade`.

// The ring is the one place in the workspace where memory is shared by hand. Each block has its proof beside it.
#![allow(unsafe_code)]

mod buffer;
mod clock;
mod command;
mod delivery;
mod dictionary;
mod exit;
mod frame;
mod notice;
mod pipeline;
mod port;
mod region;
mod ring;
mod shared;
mod writer;

pub use self::command::NamedSink;
pub use self::dictionary::NameId;
pub use self::exit::at_exit;
pub use self::frame::{Name, Route};
pub use self::notice::notice;
pub use self::pipeline::Pipeline;
pub use self::port::{Port, RING_FULL};
