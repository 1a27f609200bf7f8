//! The panic hook: the logger that captures warnings logs each panic.

use std::backtrace::Backtrace;
use std::panic::{self, PanicHookInfo};
use std::sync::Once;
use std::thread;

use logcore::log::{Level, Metadata, Record};
use logcore::panic_text::{PANIC_TARGET, panic_text};
use logcore::{call_hooks, is_catching_panic, is_logging_suppressed};
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
            let is_shown = log_panic(info);
            // The output of the earlier hook must not break a bar.
            terminal::suspend(|| call_hooks(is_shown, || earlier(info)));
            if cfg!(panic = "abort") && !is_logging_suppressed() {
                // No destructor runs after this hook.
                on_abort();
            }
        }));
    });
}

/// Logs a panic; returns `true` if a console has shown it to who looks at stderr.
fn log_panic(info: &PanicHookInfo<'_>) -> bool {
    // The pipeline reports a panic of a sink as an error of that sink.
    if is_logging_suppressed() {
        return false;
    }
    let thread = thread::current();
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message = text
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    note_panic(format!("panicked at {location}: {message}"));
    let Some(logger) = global_log::fallback() else {
        return false;
    };
    let name = thread.name().unwrap_or("unnamed");
    let message = format!("thread `{name}` panicked at {location}: {message}");
    // In a forked child, a thread of the parent may have held the lock of the backtrace at the
    // fork.
    let text = match logger.producer().is_inherited() {
        true => message,
        false => panic_text(&message, &Backtrace::force_capture().to_string()),
    };
    let metadata = Metadata::builder().level(Level::Error).target(PANIC_TARGET).build();
    logger.log(
        RecordOrigin::Facade.into(),
        &Record::builder()
            .metadata(metadata.clone())
            .args(format_args!("{text}"))
            .build(),
    );
    logger.shows_on_console(&metadata)
}
