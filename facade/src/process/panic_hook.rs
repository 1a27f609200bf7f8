//! The panic hook: the logger that captures warnings logs each panic.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;
use std::thread;

use logcore::log::{Level, Record};
use logcore::{is_catching_panic, is_logging_suppressed};
use logcore_pipeline::RecordOrigin;

use crate::logger::report::note_panic;
use crate::logger::terminal;
use crate::process::global_log;

/// Installs the hook before the present one, once. `on_abort` runs after a panic that aborts the
/// process.
pub(crate) fn install(on_abort: fn()) {
    static ONCE: Once = Once::new();
    // A panicking thread must not change hooks; the next set-up installs the hook.
    if thread::panicking() {
        return;
    }
    ONCE.call_once(|| {
        let earlier = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if is_catching_panic() {
                return earlier(info);
            }
            log_panic(info);
            // The output of the earlier hook must not break a bar.
            terminal::suspend(|| earlier(info));
            if cfg!(panic = "abort") && !is_logging_suppressed() {
                // No destructor runs after this hook.
                on_abort();
            }
        }));
    });
}

fn log_panic(info: &PanicHookInfo<'_>) {
    // The pipeline reports a panic of a sink as an error of that sink.
    if is_logging_suppressed() {
        return;
    }
    let thread = thread::current();
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message = text
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    note_panic(format!("panicked at {location}: {message}"));
    let Some(logger) = global_log::capturing() else {
        return;
    };
    // In a forked child, a thread of the parent may have held the lock of the backtrace at the
    // fork.
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
                "thread `{}` panicked at {location}: {message}\n{backtrace}",
                thread.name().unwrap_or("unnamed")
            ))
            .build(),
    );
}
