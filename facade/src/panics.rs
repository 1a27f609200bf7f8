//! Panics are written by the logger that captures warnings.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use logcore::log::{Level, Record};
use logcore::{PerProcess, RunEnd, is_catching_panic, is_logging_suppressed};
use logcore_pipeline::RecordOrigin;

use crate::manager::LogManager;
use crate::{global, screen};

/// What the last panic said, and where.
static LAST: PerProcess<Mutex<Option<String>>> = PerProcess::new(|_| Mutex::default());

/// The end of a run that the last panic of the process has ended.
pub(crate) fn end() -> Option<RunEnd> {
    let message = LAST.get().lock().unwrap_or_else(PoisonError::into_inner).clone()?;
    Some(RunEnd::Panicked { message })
}

/// Puts our hook before the one that is there, once.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    // Hooks cannot be changed by a thread that is panicking; the next set-up will do it.
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if is_catching_panic() {
                return earlier(info);
            }
            write(info);
            // What it prints must not stand in the middle of a bar.
            screen::suspend(|| earlier(info));
            if cfg!(panic = "abort") && !is_logging_suppressed() {
                // Nobody unwinds: this is the last chance to say how the run ended.
                LogManager::get_instance().aborts();
            }
        }));
    });
}

fn write(info: &PanicHookInfo<'_>) {
    // A panic of a sink is told as trouble of that sink.
    if is_logging_suppressed() {
        return;
    }
    let thread = thread::current();
    let message = info.payload_as_str().unwrap_or("(no message)");
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    *LAST.get().lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("panicked at {place}: {message}"));
    let Some(logger) = global::capturing() else { return };
    // Another thread may have held the lock around it at the fork.
    let backtrace = match logger.producer().is_inherited() {
        true => Backtrace::disabled(),
        false => Backtrace::force_capture(),
    };
    logger.log(
        RecordOrigin::Facade,
        &Record::builder()
            .level(Level::Error)
            .target("panic")
            .args(format_args!(
                "thread `{}` panicked at {place}: {message}\n{backtrace}",
                thread.name().unwrap_or("unnamed")
            ))
            .build(),
    );
}
