//! Progress: throughput and ETA on the caller's side ([`Meter`]), bars on the writer's ([`Bars`]), and the words that
//! both kinds of output share ([`text`]).

mod bars;
mod forecast;
mod history;
mod meter;
pub mod text;
mod throughput;

pub use self::bars::{Bars, Room};
pub use self::meter::{Figures, Meter, MeterOptions, Work};
pub use self::throughput::Throughput;
