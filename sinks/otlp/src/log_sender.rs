//! The thread that sends the records of a spool.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use logcore::sync::lock;
use logcore::{Deadline, suppress_logging};
use logcore_delivery::{DeliveryControl, DeliveryError, DeliveryErrorKind, DeliveryPosition, Lane, RetryingClient};
use prost::Message as _;

use crate::client::OtlpClient;
use crate::message::{LogRecord, LogsRequest, Resource, ResourceLogs, Scope, ScopeLogs};
use crate::settings::Endpoint;
use crate::spool::Spool;

/// Records that are collected for a request.
const MOST_RECORDS: usize = 2000;
/// Bytes of the records of a request, before gzip. Receivers take a few MB.
const MOST_BYTES: usize = 1 << 20;
/// Time for which records are collected.
const COLLECT: Duration = Duration::from_secs(1);

/// Sends the records of a spool until the run has ended.
pub(crate) struct LogSender {
    pub(crate) spool: Arc<Mutex<Spool>>,
    /// Further spools of earlier attempts, which go first.
    pub(crate) left: Vec<Mutex<Spool>>,
    pub(crate) control: Arc<DeliveryControl>,
    pub(crate) endpoint: Endpoint,
    pub(crate) resource: Resource,
}

impl LogSender {
    /// Starts the thread, `logcore-otlp`.
    pub(crate) fn start(self) -> io::Result<()> {
        let thread = thread::Builder::new().name("logcore-otlp".to_owned());
        thread.spawn(move || suppress_logging(|| self.run()))?;
        Ok(())
    }

    fn run(self) {
        if let Err(error) = self.deliver() {
            // The others have been reported.
            if error.kind() != DeliveryErrorKind::GaveUp {
                self.control.report_permanent(&error);
            }
        }
        self.control.set_finished();
    }

    fn deliver(&self) -> Result<(), DeliveryError> {
        let client = RetryingClient {
            api: Arc::new(OtlpClient::start("otlp", &self.endpoint)?),
            control: Arc::clone(&self.control),
            lane: Lane::Rows,
        };
        for left in &self.left {
            self.send_left(&client, left)?;
        }
        loop {
            // The end comes after the last record.
            let is_ending = self.control.is_ending();
            if let Some(reached) = self.send_part(&client, &self.spool)? {
                self.control.set_position(DeliveryPosition { reached, missing: 0 });
                continue;
            }
            if is_ending {
                return Ok(());
            }
            self.control.wait_for_work(Deadline::after(COLLECT));
        }
    }

    /// Sends the records of an earlier attempt, and empties their spool.
    fn send_left(&self, client: &RetryingClient<OtlpClient>, left: &Mutex<Spool>) -> Result<(), DeliveryError> {
        loop {
            match self.send_part(client, left) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // The records of this attempt do not depend on that spool.
                Err(error) if error.kind() == DeliveryErrorKind::Unreadable => {
                    self.control
                        .print_notice("left records", &format!("OpenTelemetry: {error}"));
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = lock(left).empty() {
            let text = format!("OpenTelemetry: cannot empty a spool whose records are sent: {error}");
            self.control.print_notice("left records", &text);
        }
        Ok(())
    }

    /// Sends the next records of a spool, and returns the position behind them. `None` if there are
    /// no records.
    fn send_part(
        &self,
        client: &RetryingClient<OtlpClient>,
        spool: &Mutex<Spool>,
    ) -> Result<Option<u64>, DeliveryError> {
        let unreadable = |error: io::Error| {
            let text = format!("cannot read the spool of records: {error}");
            DeliveryError::permanent(DeliveryErrorKind::Unreadable, text)
        };
        let part = lock(spool).next_part(MOST_BYTES, MOST_RECORDS).map_err(unreadable)?;
        if part.records.is_empty() {
            return Ok(None);
        }
        // A record that another program has damaged is left out.
        let records = part
            .records
            .iter()
            .filter_map(|record| LogRecord::decode(&**record).ok());
        let request = self.request(records.collect());
        let count = part.records.len() as u64;
        match client.persist_unless(DeliveryError::is_of_item, |api| api.send(&request)) {
            Ok(refused) => {
                let rejected = u64::try_from(refused.rejected).unwrap_or(0).min(count);
                self.refuse(rejected, &refused.error_message);
            }
            Err(error) if error.is_of_item() => self.refuse(count, &error.to_string()),
            Err(error) => return Err(error),
        }
        let saved = lock(spool).set_sent(part.end);
        if let Err(error) = saved {
            let text =
                format!("OpenTelemetry: cannot note on disk what is sent: {error}; after a kill, records may repeat");
            self.control.print_notice("position", &text);
        }
        Ok(Some(part.end))
    }

    fn request(&self, log_records: Vec<LogRecord>) -> LogsRequest {
        LogsRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(self.resource.clone()),
                scope_logs: vec![ScopeLogs {
                    scope: Some(Scope::of_logcore()),
                    log_records,
                }],
            }],
        }
    }

    /// Counts records that the receiver does not take.
    fn refuse(&self, count: u64, why: &str) {
        if count == 0 {
            return;
        }
        self.control.drop_calls("refused by the server", count);
        let text = format!(
            "OpenTelemetry: the receiver refuses records, which are dropped: {}",
            logcore_delivery::quote(why)
        );
        self.control.print_notice("records refused", &text);
    }
}
