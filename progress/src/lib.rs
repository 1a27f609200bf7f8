//! Progress: throughput and ETA on the caller's side ([`Meter`]), bars on the writer's ([`Bars`]), and the words that
//! both kinds of output share ([`text`]).

mod bars;
mod forecast;
mod meter;
mod pace_history;
mod segment;
pub mod text;
mod throughput;

pub use self::bars::{Bars, Viewport};
pub use self::meter::{DerivedMetrics, Meter, MeterOptions, WorkSample};
pub use self::throughput::Throughput;
