//! Delivery over a network for logcore sinks: the part that is the same for every server.

mod books;
mod circuit;
mod control;
mod error;
mod http;
mod retry;
mod secret;
mod spool;
mod transfer;

pub use self::books::{SpoolBooks, SpoolLoss};
pub use self::circuit::Circuit;
pub use self::control::{DeliveryControl, DeliveryPosition, Lane};
pub use self::error::{DeliveryError, DeliveryErrorKind};
pub use self::http::{HttpClient, HttpReply, HttpSettings, RequestBody, parse_retry_after, quote};
pub use self::retry::{Backoff, RetryingClient};
pub use self::secret::{SecretFilter, basic_credentials};
pub use self::spool::{LineMark, load_position, lock_delivery, save_position};
pub use self::transfer::{Attempt, FinishedTransfer, Transfer, TransferQueue};
