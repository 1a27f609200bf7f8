//! Delivery over a network for logcore sinks: the part that is the same for every server.

mod error;
mod http;
mod secret;

pub use self::error::{DeliveryError, DeliveryErrorKind};
pub use self::http::{HttpClient, HttpReply, HttpSettings, RequestBody, parse_retry_after, quote};
pub use self::secret::{SecretFilter, basic_credentials};
