//! Delivery over a network for logcore sinks: the part that is the same for every server.
//!
//! A sink that sends to a server must never hold up the program, and must lose nothing while the
//! server is away. So it writes to a spool on disk, and threads of its own deliver the spool. This
//! crate has the parts of such a delivery; the sink has the requests of its server.
//!
//! - **HTTP.** An [`HttpClient`] has a thread of its own, proxies and the certificate authorities
//!   of the machine, and no limit for large content that makes progress.
//! - **Trouble.** A [`DeliveryError`] tells whether another try may help. A [`RetryingClient`]
//!   repeats requests with jittered waits ([`Backoff`]) and respects `Retry-After`. A [`Circuit`]
//!   stays open while a server or an item refuses.
//! - **One line for each kind of trouble.** The [`DeliveryControl`] prints a kind of trouble once
//!   until it is over, and has the state that a sink and its threads share: the end of the run, the
//!   deadline, the position. A [`SecretFilter`] and [`quote`] make replies of a server printable.
//! - **Spool.** [`save_position`] replaces the position of a delivery as a whole, a [`LineMark`]
//!   tells whether a file of lines is still the same one, and [`lock_delivery`] makes sure that a
//!   spool has one delivery.
//! - **Books.** [`SpoolBooks`] count calls as delivered, spooled or dropped, and always balance.
//! - **Files.** A [`TransferQueue`] sends files apart from the rows.
//!
//! ```
//! use std::fs::{self, File};
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use logcore::files::Folder;
//! use logcore_delivery::{
//!     DeliveryControl, DeliveryError, DeliveryPosition, Lane, LineMark, RetryingClient, SpoolBooks, load_position,
//!     save_position,
//! };
//!
//! let outside = tempfile::tempdir().unwrap();
//! let spool = outside.path().join("metrics.jsonl");
//! let control = Arc::new(DeliveryControl::new("MLflow", None));
//!
//! // The sink writes a row to its spool.
//! let mut books = SpoolBooks::default();
//! books.accept();
//! fs::write(&spool, "{\"step\":1}\n").unwrap();
//! books.spool();
//! books.mark(11, 0);
//!
//! // The thread of the delivery sends what the server does not have, and saves the position.
//! let client = RetryingClient { api: Arc::new(()), control: Arc::clone(&control), lane: Lane::Rows };
//! let folder = Folder::open(outside.path()).unwrap();
//! let file = File::open(&spool).unwrap();
//! let mark: LineMark = load_position(&folder, Path::new("mlflow.json")).unwrap().unwrap_or_default();
//! assert_eq!(mark.find_in(&file).unwrap(), Some(0));
//! client.persist(|()| Ok::<_, DeliveryError>("a request with the line"))?;
//! let mark = LineMark::behind_line(&file, 0..11).unwrap();
//! save_position(&folder, Path::new("mlflow.json"), &mark).unwrap();
//! control.set_position(DeliveryPosition { reached: mark.offset(), missing: 0 });
//!
//! assert_eq!(books.delivered_to(control.position()).delivered, 1);
//! # Ok::<(), DeliveryError>(())
//! ```
//!
//! The types of `reqwest` are a part of this interface: a request is built with its builder.

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
