//! Sends files and other large items on a thread of their own, so that they do not delay the rows.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use logcore::suppress_logging;

use crate::circuit::Circuit;
use crate::control::{DeliveryControl, Lane};
use crate::error::{DeliveryError, DeliveryErrorKind};

/// A file or another item that is sent apart from the rows.
pub trait Transfer: Send + 'static {
    /// The result of a transfer that needs no further try.
    type Outcome: Send + 'static;

    /// Tries once, and continues where an earlier try stopped. Calls
    /// [`DeliveryControl::request_started`] before the first request.
    ///
    /// # Errors
    ///
    /// A temporary error has the transfer tried again, later: with all others behind it, or, if the
    /// error [is of the item](DeliveryError::of_item), alone. A permanent error ends the transfer.
    fn attempt(&mut self) -> Result<Attempt<Self::Outcome>, DeliveryError>;

    /// Returns the number of parts that the server has, so that a transfer of many parts is not
    /// punished for a few failures. Default: 0.
    fn parts_done(&self) -> usize {
        0
    }
}

/// The result of a try that ended a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt<T> {
    /// The server has accepted the item.
    Sent(T),
    /// The server was not asked: it had the item already, or there is none to send.
    Unsent(T),
}

/// A transfer that has ended.
#[derive(Debug)]
pub struct FinishedTransfer<T: Transfer> {
    /// The transfer; `None` if its thread has stopped unexpectedly.
    pub transfer: Option<T>,
    /// The outcome, or the permanent or last error. After an error, the item stays on disk.
    pub result: Result<T::Outcome, DeliveryError>,
}

/// The queue of the thread that sends items. An error of the server pauses all transfers, an error
/// of an item only that transfer. After the end of the run, the transfers fail for which no time is
/// left.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use logcore_delivery::{Attempt, DeliveryControl, DeliveryError, Lane, Transfer, TransferQueue};
///
/// /// A file that the server accepts at the second try.
/// struct File(&'static str, u32);
///
/// impl Transfer for File {
///     type Outcome = String;
///
///     fn attempt(&mut self) -> Result<Attempt<String>, DeliveryError> {
///         self.1 += 1;
///         match self.1 {
///             1 => Err(DeliveryError::from_status(503, None, "", None)),
///             _ => Ok(Attempt::Sent(format!("{} is there", self.0))),
///         }
///     }
/// }
///
/// let control = Arc::new(DeliveryControl::new("MLflow", None));
/// let mut queue = TransferQueue::start("example", &control, Lane::Files).unwrap();
/// queue.push(File("model.bin", 0));
/// let mut done = Vec::new();
/// while done.is_empty() {
///     control.wait_for_message(Duration::from_millis(20));
///     done = queue.poll();
/// }
/// assert_eq!(done[0].result.as_deref(), Ok("model.bin is there"));
/// assert_eq!(queue.open(), 0);
/// ```
pub struct TransferQueue<T: Transfer> {
    /// Transfers for the thread.
    inbox: Sender<T>,
    /// Results of the thread.
    results: Receiver<FinishedTransfer<T>>,
    /// Number of transfers without a result.
    open: usize,
}

impl<T: Transfer> TransferQueue<T> {
    /// Starts the thread, `logcore-<name>-files`. It ends soon after the queue is dropped.
    ///
    /// # Errors
    ///
    /// If the system starts no thread.
    pub fn start(name: &str, control: &Arc<DeliveryControl>, lane: Lane) -> io::Result<Self> {
        let (inbox, transfers) = channel();
        let (outbox, results) = channel();
        let worker = TransferWorker {
            control: Arc::clone(control),
            lane,
            queue: VecDeque::new(),
            server: Circuit::default(),
            outbox,
        };
        thread::Builder::new()
            .name(format!("logcore-{name}-files"))
            .spawn(move || suppress_logging(|| worker.run(&transfers)))?;
        Ok(Self {
            inbox,
            results,
            open: 0,
        })
    }

    /// Adds a transfer.
    pub fn push(&mut self, transfer: T) {
        self.open += 1;
        // If the thread has stopped, `poll` reports the failure.
        let _ = self.inbox.send(transfer);
    }

    /// Returns the number of transfers that have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Returns the transfers that have ended since the last call. The control is
    /// [notified](DeliveryControl::notify) about each.
    pub fn poll(&mut self) -> Vec<FinishedTransfer<T>> {
        let mut all = Vec::new();
        loop {
            match self.results.try_recv() {
                Ok(done) => {
                    self.open -= 1;
                    all.push(done);
                }
                Err(TryRecvError::Empty) => return all,
                Err(TryRecvError::Disconnected) => {
                    if std::mem::take(&mut self.open) > 0 {
                        let error = DeliveryError::permanent(
                            DeliveryErrorKind::Unreadable,
                            "the thread that uploads files has stopped",
                        );
                        all.push(FinishedTransfer {
                            transfer: None,
                            result: Err(error),
                        });
                    }
                    return all;
                }
            }
        }
    }
}

impl<T: Transfer> fmt::Debug for TransferQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransferQueue")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

/// The thread that sends items.
struct TransferWorker<T: Transfer> {
    control: Arc<DeliveryControl>,
    lane: Lane,
    queue: VecDeque<TransferTask<T>>,
    /// The server is not asked while this is open.
    server: Circuit,
    outbox: Sender<FinishedTransfer<T>>,
}

/// A transfer with the state of its tries.
struct TransferTask<T> {
    transfer: T,
    /// The transfer is not tried while this is open.
    item: Circuit,
    /// The error of the last try.
    error: Option<DeliveryError>,
}

impl<T: Transfer> TransferWorker<T> {
    /// Works on the transfers until the queue is dropped.
    fn run(mut self, inbox: &Receiver<T>) {
        while let Some((mut task, is_ending)) = self.next_task(inbox) {
            let parts = task.transfer.parts_done();
            match task.transfer.attempt() {
                Ok(Attempt::Sent(outcome)) => {
                    self.server.close();
                    match self.queue.iter().any(|task| task.error.is_some()) {
                        true => self.control.renew_retry_limit(self.lane),
                        false => self.control.request_succeeded(self.lane),
                    }
                    self.report(task.transfer, Ok(outcome));
                }
                Ok(Attempt::Unsent(outcome)) => self.report(task.transfer, Ok(outcome)),
                Err(error) if error.is_temporary() => {
                    if task.transfer.parts_done() > parts {
                        task.item.forgive();
                    }
                    self.requeue(task, error, is_ending);
                }
                Err(error) => self.report(task.transfer, Err(error)),
            }
        }
    }

    /// Returns the next task that is due, and whether the run has ended. `None` if the queue was
    /// dropped.
    fn next_task(&mut self, inbox: &Receiver<T>) -> Option<(TransferTask<T>, bool)> {
        loop {
            match inbox.try_recv() {
                Ok(transfer) => {
                    self.queue.push_back(TransferTask::new(transfer));
                    continue;
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return None,
            }
            if self.queue.is_empty() {
                self.queue.push_back(TransferTask::new(inbox.recv().ok()?));
                continue;
            }
            let is_ending = self.control.is_ending();
            let mut wait = self.server.time_to_retry(is_ending);
            if wait.is_zero() {
                let waits: Vec<_> = self
                    .queue
                    .iter()
                    .map(|task| task.item.time_to_retry(is_ending))
                    .collect();
                if let Some(at) = waits.iter().position(Duration::is_zero) {
                    return Some((self.queue.remove(at)?, is_ending));
                }
                wait = waits.into_iter().min().unwrap_or_default();
            }
            if is_ending && self.control.is_out_of_time_after(self.lane, wait) {
                self.fail_all();
                continue;
            }
            match inbox.recv_timeout(wait.min(LONGEST_WAIT)) {
                Ok(transfer) => self.queue.push_back(TransferTask::new(transfer)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
    }

    /// Fails all waiting tasks, because no time is left for them.
    fn fail_all(&mut self) {
        let mut errors = self.queue.iter().filter_map(|task| task.error.as_ref());
        let of_server = errors.find(|error| !error.is_of_item()).cloned();
        // A later transfer is tried once, like these.
        self.server.allow_try();
        for task in std::mem::take(&mut self.queue) {
            let error = task.error.or_else(|| of_server.clone());
            self.report(task.transfer, Err(error.unwrap_or_else(DeliveryError::gave_up)));
        }
    }

    /// Puts a failed task back: behind the others, or first if the error concerns all of them.
    fn requeue(&mut self, mut task: TransferTask<T>, error: DeliveryError, was_ending: bool) {
        self.control.request_failed(self.lane, &error);
        let is_of_item = error.is_of_item();
        let circuit = if is_of_item { &mut task.item } else { &mut self.server };
        circuit.open(&error, was_ending);
        task.error = Some(error);
        match is_of_item {
            true => self.queue.push_back(task),
            false => self.queue.push_front(task),
        }
    }

    /// Sends a result to the queue.
    fn report(&self, transfer: T, result: Result<T::Outcome, DeliveryError>) {
        let transfer = Some(transfer);
        let _ = self.outbox.send(FinishedTransfer { transfer, result });
        self.control.notify();
    }
}

/// The longest wait before the end of the run is checked again.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

impl<T> TransferTask<T> {
    fn new(transfer: T) -> Self {
        Self {
            transfer,
            item: Circuit::default(),
            error: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use logcore::Deadline;

    use super::*;

    /// A transfer whose tries have the results of a list, last one first, and nothing after them.
    struct Listed {
        name: &'static str,
        results: Tries,
        tried: Arc<Mutex<Vec<&'static str>>>,
    }

    type Tries = Vec<Result<Attempt<()>, DeliveryError>>;

    impl Transfer for Listed {
        type Outcome = ();

        fn attempt(&mut self) -> Result<Attempt<()>, DeliveryError> {
            self.tried.lock().unwrap().push(self.name);
            self.results.pop().unwrap()
        }
    }

    /// Sends transfers until all have ended, and returns their names and errors, and the order of
    /// the tries.
    fn sent(
        control: &Arc<DeliveryControl>,
        transfers: Vec<(&'static str, Tries)>,
    ) -> (Vec<(&'static str, Option<DeliveryErrorKind>)>, Vec<&'static str>) {
        let tried = Arc::<Mutex<Vec<_>>>::default();
        let mut queue = TransferQueue::start("test", control, Lane::Files).unwrap();
        {
            // No transfer is tried before all are in the queue.
            let _no_try = tried.lock().unwrap();
            for (name, results) in transfers {
                let tried = Arc::clone(&tried);
                queue.push(Listed { name, results, tried });
            }
        }
        let mut done = Vec::new();
        while queue.open() > 0 {
            control.wait_for_message(LONGEST_WAIT);
            done.extend(queue.poll());
        }
        let done = done
            .into_iter()
            .map(|done| (done.transfer.unwrap().name, done.result.err().map(|error| error.kind())));
        let done = done.collect();
        let tried = std::mem::take(&mut *tried.lock().unwrap());
        (done, tried)
    }

    fn busy() -> DeliveryError {
        DeliveryError::from_status(503, None, "", None)
    }

    #[test]
    fn transfers_of_a_stopped_thread_fail() {
        let (inbox, _) = channel();
        let (_, results) = channel();
        let mut queue = TransferQueue {
            inbox,
            results,
            open: 0,
        };
        queue.push(Listed {
            name: "a",
            results: Vec::new(),
            tried: Arc::default(),
        });
        let done = queue.poll();
        assert!(done.len() == 1 && done[0].result.is_err(), "{}", done.len());
        assert_eq!(queue.open(), 0);
        assert!(queue.poll().is_empty());
    }

    #[test]
    fn an_error_of_an_item_delays_only_the_item() {
        let control = Arc::new(DeliveryControl::new("test", None));
        let item = vec![Ok(Attempt::Sent(())), Err(busy().of_item())];
        let (done, tried) = sent(&control, vec![("a", item), ("b", vec![Ok(Attempt::Sent(()))])]);
        assert_eq!(tried, ["a", "b", "a"]);
        assert_eq!(done, [("b", None), ("a", None)]);
    }

    #[test]
    fn an_error_of_the_server_delays_all() {
        let control = Arc::new(DeliveryControl::new("test", None));
        let first = vec![Ok(Attempt::Sent(())), Err(busy())];
        let (done, tried) = sent(&control, vec![("a", first), ("b", vec![Ok(Attempt::Unsent(()))])]);
        assert_eq!(tried, ["a", "a", "b"]);
        assert_eq!(done, [("a", None), ("b", None)]);
        assert!(control.current_error().is_none());
    }

    #[test]
    fn a_permanent_error_ends_its_transfer() {
        let control = Arc::new(DeliveryControl::new("test", None));
        let refused = vec![Err(DeliveryError::from_status(400, None, "", None))];
        let (done, _) = sent(&control, vec![("a", refused), ("b", vec![Ok(Attempt::Sent(()))])]);
        assert_eq!(done, [("a", Some(DeliveryErrorKind::Refused)), ("b", None)]);
    }

    #[test]
    fn without_time_the_transfers_fail_with_the_error_of_the_server() {
        let control = Arc::new(DeliveryControl::new("test", None));
        control.run_ended(Deadline::after(Duration::ZERO));
        let (done, tried) = sent(&control, vec![("a", vec![Err(busy())]), ("b", Vec::new())]);
        assert_eq!(tried, ["a"]);
        let failed = Some(DeliveryErrorKind::ServerError);
        assert_eq!(done, [("a", failed), ("b", failed)]);
    }
}
