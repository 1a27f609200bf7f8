//! Delivery over a network for logcore sinks: the part that is the same for every server.

mod error;

pub use self::error::{DeliveryError, DeliveryErrorKind};
