//! Signals that end the process, or stop it.
//!
//! The handler only writes a byte into a pipe. A thread reads the pipe and does the work before the
//! process ends as the signal would have ended it.
//!
//! The program may handle a signal itself, and then decides what becomes of the process. A handler
//! that was installed before ours is called as if ours did not exist; a handler that was installed
//! later has replaced ours. In both cases the work here is not done.

use std::fmt;
use std::io;

/// A signal that is handled.
///
/// ```
/// use logcore_pipeline::Signal;
///
/// assert_eq!(Signal::Terminate.to_string(), "SIGTERM");
/// // The exit code that a shell shows for a process which the signal has ended.
/// assert_eq!(128 + Signal::Terminate.number(), 143);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: the default of `kill`, and the warning of batch systems before they kill.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
    /// SIGTSTP: Ctrl-Z.
    Stop,
    /// SIGUSR1: the early warning of batch systems. Handled only with [`SignalWork::ask`].
    User1,
}

impl Signal {
    /// Returns the number of the signal. The exit code of a process that it ends is greater by 128
    /// in a shell.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
            Self::Stop => imp::STOP,
            Self::User1 => imp::USER1,
        }
    }
}

/// Writes the conventional name of the signal, such as `SIGINT`.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
            Self::Stop => "SIGTSTP",
            Self::User1 => "SIGUSR1",
        })
    }
}

/// The work that signals cause; see [`handle_signals`].
#[derive(Debug, Clone, Copy)]
pub struct SignalWork {
    /// Runs before the process ends. A second signal of the same kind ends the process at once.
    pub before_end: fn(Signal),
    /// Runs when the process is to be stopped. The argument stops the process, and returns when the
    /// process continues.
    pub around_stop: fn(&mut dyn FnMut()),
    /// Answers SIGTERM and SIGUSR1, if the program wants to be asked before one of them ends the
    /// process.
    pub ask: Option<fn(Signal) -> SignalAnswer>,
}

/// The answer to a signal that asks the program to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalAnswer {
    /// The process goes on; the next such signal is answered anew.
    GoOn,
    /// The process ends.
    End,
}

/// Handles signals from now on, on a separate thread. Only the first call of a process counts. A
/// signal that the program ignores stays ignored.
///
/// # Errors
///
/// If the system has no pipe or no thread left.
///
/// ```
/// use logcore_pipeline::{SignalWork, handle_signals};
///
/// handle_signals(SignalWork {
///     before_end: |signal| eprintln!("ended by {signal}"),
///     around_stop: |stop| stop(),
///     ask: None,
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn handle_signals(work: SignalWork) -> io::Result<()> {
    imp::handle(work)
}

/// Sends a signal to this process.
///
/// # Errors
///
/// If the system refuses; elsewhere than on Unix, always.
pub fn signal_self(signal: Signal) -> io::Result<()> {
    imp::signal_self(signal)
}

#[cfg(unix)]
mod imp {
    use std::io::{self, PipeReader, Read as _};
    use std::mem;
    use std::os::fd::AsRawFd as _;
    use std::panic::catch_unwind;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::Duration;

    use logcore::PerProcess;

    use super::{Signal, SignalAnswer, SignalWork};
    use crate::process::ending::begin_signal_end;
    use crate::process::notice::settle_last_notices;
    use crate::process::sys::calls::kill_self;
    use crate::process::sys::{SignalAction, SignalForwarding, exit_immediately, raise};

    pub(super) const STOP: i32 = libc::SIGTSTP;

    pub(super) const USER1: i32 = libc::SIGUSR1;

    const SIGNALS: [Signal; 4] = [Signal::Interrupt, Signal::Terminate, Signal::HangUp, Signal::Stop];

    pub(super) fn signal_self(signal: Signal) -> io::Result<()> {
        kill_self(signal.number())
    }

    pub(super) fn handle(work: SignalWork) -> io::Result<()> {
        static CALLED: PerProcess<AtomicBool> = PerProcess::new(|_| AtomicBool::new(false));
        if CALLED.get().swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let mut signals = SIGNALS.to_vec();
        signals.extend(work.ask.map(|_| Signal::User1));
        let prepare = |signals: &[Signal]| SignalForwarding::prepare(signals.iter().map(|signal| signal.number()));
        let (forwarding, pipe) = prepare(&signals)?;
        thread::Builder::new()
            .name("logcore-signals".to_owned())
            .spawn(move || {
                let (mut forwarding, mut pipe) = (forwarding, pipe);
                loop {
                    respond_to_all(&signals, forwarding, &mut pipe, work);
                    // The program has closed all descriptors, as daemons do. Their numbers may
                    // belong to other files by now.
                    mem::forget(pipe);
                    (forwarding, pipe) = match prepare(&signals) {
                        Ok(prepared) => prepared,
                        Err(_) => return forwarding.withdraw(),
                    };
                }
            })
            .map_err(|error| io::Error::new(error.kind(), format!("cannot start a thread: {error}")))?;
        forwarding.install();
        Ok(())
    }

    /// Responds to the signals that come through the pipe, until the program has closed the pipe. A
    /// byte of a file that has got its number since is no signal.
    fn respond_to_all(signals: &[Signal], forwarding: &SignalForwarding, pipe: &mut PipeReader, work: SignalWork) {
        let mut number = [0];
        while pipe.read_exact(&mut number).is_ok() && forwarding.is_end_of_pipe(pipe.as_raw_fd()) {
            let received = signals
                .iter()
                .copied()
                .find(|signal| signal.number() == i32::from(number[0]));
            if let Some(signal) = received.filter(|signal| forwarding.decides_about(signal.number())) {
                respond(signal, work);
            }
        }
    }

    fn respond(signal: Signal, work: SignalWork) {
        if let (Signal::Terminate | Signal::User1, Some(ask)) = (signal, work.ask)
            && ask(signal) == SignalAnswer::GoOn
        {
            return;
        }
        let ours = SignalAction::installed(signal.number());
        // From now on the signal has its default effect, so that a second one ends the process at
        // once.
        ours.with_default_effect().install(signal.number());
        if signal == Signal::Stop {
            // A signal of a thread to itself has arrived when `raise` returns. So the process stops
            // there until it continues.
            (work.around_stop)(&mut || raise(STOP));
            ours.install(signal.number());
            return;
        }
        begin_signal_end();
        // The end of the process must not depend on the work before it.
        let _ = catch_unwind(|| {
            (work.before_end)(signal);
            settle_last_notices(Duration::from_millis(100));
        });
        let _ = kill_self(signal.number());
        // Every thread may have the signal blocked.
        thread::sleep(Duration::from_millis(100));
        exit_immediately(128 + signal.number())
    }
}

#[cfg(not(unix))]
mod imp {
    use std::io;

    use super::{Signal, SignalWork};

    pub(super) const STOP: i32 = 0;
    pub(super) const USER1: i32 = 0;

    pub(super) fn signal_self(_: Signal) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// There are no signals.
    pub(super) fn handle(_: SignalWork) -> io::Result<()> {
        Ok(())
    }
}
