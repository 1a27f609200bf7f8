//! The macros `trace!` to `error!`, which log to a given logger.

/// Logs at TRACE to a logger; see [`info!`](crate::info).
#[macro_export]
macro_rules! trace {
    ($logger:expr, $($rest:tt)+) => { $crate::__log_to!(@read ($logger) (Trace) $($rest)+) };
}

/// Logs at DEBUG to a logger; see [`info!`](crate::info).
#[macro_export]
macro_rules! debug {
    ($logger:expr, $($rest:tt)+) => { $crate::__log_to!(@read ($logger) (Debug) $($rest)+) };
}

/// Logs at INFO to a logger: a message with its arguments, then fields.
///
/// The message is that of `format!`. A `key = value` is a field of the record; the message can name
/// the field. As in the macros of `log`, `key:? = value` takes the value by its `Debug`,
/// `key:% = value` by its `Display`. A `;` between arguments and fields is allowed.
///
/// If no logger of the process wants the level, nothing is evaluated, and the call costs what that
/// of `log::info!` costs.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let quiet = facade::LogConfig { enable_console: false, run: "flat".into(), ..Default::default() };
/// # let config = facade::LogConfig { log_dir: folder.path().into(), ..quiet };
/// let logger = facade::setup_logging(config)?;
/// let loss = 0.5;
/// facade::info!(logger, "loss {loss}");
/// facade::info!(logger, "step {} of {}", 3, 10);
/// facade::info!(logger, "saved", path:? = "a b.pt", epoch = 2);
/// facade::info!(logger, "epoch {epoch} took {:.1} s", 2.51, epoch = 3);
/// logger.flush()?;
/// # #[cfg(feature = "file")] {
/// let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
/// let messages: Vec<&str> = text.lines().map(|line| line.split_once("| root | ").unwrap().1).collect();
/// assert_eq!(messages[..2], ["loss 0.5", "step 3 of 10"]);
/// assert!(messages[2].starts_with("saved | path=") && messages[2].ends_with(" epoch=2"));
/// assert_eq!(messages[3], "epoch 3 took 2.5 s | epoch=3");
/// # }
/// # Ok::<(), facade::LogError>(())
/// ```
///
/// # Deferred formatting
///
/// The call formats nothing, and takes about a fifth of the time, if
///
/// - each argument is an integer, a `bool`, a `char`, a float, or a text of at most 256 bytes,
/// - each field of the literal takes the next argument: `{}`, `{:.4}`, `{:>8.3e}`, but neither
///   `{loss}` nor `{0}` nor `{:.*}`,
/// - the call has no fields, neither its own nor those of spans,
/// - the level is not ERROR, and the logger has neither directives, nor a limit, nor `redact`,
/// - at most a quarter of the ring is in use.
///
/// Then the writer formats, and a recovery does so for a killed process. The text is the same in
/// any case.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// # let quiet = facade::LogConfig { enable_console: false, run: "flat".into(), ..Default::default() };
/// # let config = facade::LogConfig { log_dir: folder.path().into(), ..quiet };
/// let logger = facade::setup_logging(config)?;
/// let (step, loss, lr) = (7, 0.123456, 3e-4);
/// facade::info!(logger, "step {} loss={:.4} lr={:.3e}", step, loss, lr); // deferred
/// facade::info!(logger, "step {step} loss={loss:.4} lr={lr:.3e}"); // formatted here
/// logger.flush()?;
/// # #[cfg(feature = "file")] {
/// let text = std::fs::read_to_string(folder.path().join("training.log")).unwrap();
/// let messages: Vec<&str> = text.lines().map(|line| line.split_once("| root | ").unwrap().1).collect();
/// assert_eq!(messages, ["step 7 loss=0.1235 lr=3.000e-4"; 2]);
/// # }
/// # Ok::<(), facade::LogError>(())
/// ```
#[macro_export]
macro_rules! info {
    ($logger:expr, $($rest:tt)+) => { $crate::__log_to!(@read ($logger) (Info) $($rest)+) };
}

/// Logs at WARN to a logger; see [`info!`](crate::info).
#[macro_export]
macro_rules! warn {
    ($logger:expr, $($rest:tt)+) => { $crate::__log_to!(@read ($logger) (Warn) $($rest)+) };
}

/// Logs at ERROR to a logger; see [`info!`](crate::info). The record is delivered when this
/// returns, as with [`UnifiedLogger::error`](crate::UnifiedLogger::error).
#[macro_export]
macro_rules! error {
    ($logger:expr, $($rest:tt)+) => { $crate::__log_to!(@read ($logger) (Error) $($rest)+) };
}

/// Sorts the arguments of [`info!`](crate::info) into those of the message and fields, one by one,
/// and passes them to `log::log!`, or without fields to the logger, because their formatting may
/// wait.
#[doc(hidden)]
#[macro_export]
macro_rules! __log_to {
    (@read $logger:tt $level:tt $message:literal $(, $value:expr)* ; $($fields:tt)*) => {
        $crate::__log_to!($logger $level $message [] [] $(, $value)*, $($fields)*)
    };
    (@read $logger:tt $level:tt $message:literal $($rest:tt)*) => {
        $crate::__log_to!($logger $level $message [] [] $($rest)*)
    };
    (($logger:expr) ($level:ident) $message:literal [] [] $(,)?) => {
        $crate::logcore::log::log!(logger: $logger, $crate::logcore::log::Level::$level, $message)
    };
    // The arguments are values for the writer and, behind references as in `format!`, a formatted
    // message for the case that the writer cannot format.
    (($logger:expr) ($level:ident) $message:literal [$(($argument:ident $value:expr))+] [] $(,)?) => {
        if $crate::logcore::log::Level::$level <= $crate::logcore::log::STATIC_MAX_LEVEL
            && $crate::logcore::log::Level::$level <= $crate::logcore::log::max_level()
        {
            #[allow(unused_imports)]
            use $crate::__deferred::{AnyLogger as _, KnownArgument as _, OtherArgument as _};
            match (&$logger, $(&$value,)+) {
                (logger, $($argument,)+) => $crate::__deferred::Logger(logger).log_call(
                    $crate::logcore::log::Level::$level,
                    ::core::module_path!(),
                    &$crate::__deferred::Message {
                        deferred: const {
                            $crate::__deferred::DeferredMessage::new($message, [$(::core::stringify!($argument)),+].len())
                        },
                        arguments: &[$((&$crate::__deferred::Argument($argument)).deferred_argument()),+],
                        formatted: ::core::format_args!($message $(, *$argument)+),
                    },
                ),
            }
        }
    };
    // The message can name the fields, so they are variables there. All values are evaluated before
    // one of them hides a variable of the same name.
    (
        ($logger:expr) ($level:ident) $message:literal
        [$(($argument:ident $value:expr))*] [$(($key:ident ($($capture:tt)*) $field:expr))+] $(,)?
    ) => {
        if $crate::logcore::log::Level::$level <= $crate::logcore::log::STATIC_MAX_LEVEL
            && $crate::logcore::log::Level::$level <= $crate::logcore::log::max_level()
        {
            match (&$logger, $(&$value,)* $(&$field,)+) {
                (logger, $($argument,)* $($key,)+) => $crate::logcore::log::log!(
                    logger: *logger,
                    $crate::logcore::log::Level::$level,
                    $($key $($capture)* = *$key),+;
                    $message $(, *$argument)*
                ),
            }
        }
    };
    (
        $logger:tt $level:tt $message:literal $arguments:tt [$($fields:tt)*],
        $key:ident : $capture:tt = $field:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__log_to!(
            $logger $level $message $arguments [$($fields)* ($key (: $capture) $field)] $(, $($rest)*)?
        )
    };
    (
        $logger:tt $level:tt $message:literal $arguments:tt [$($fields:tt)*],
        $key:ident = $field:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__log_to!($logger $level $message $arguments [$($fields)* ($key () $field)] $(, $($rest)*)?)
    };
    // Each `argument` is a name of its own, because each comes from an expansion of its own.
    (
        $logger:tt $level:tt $message:literal [$($arguments:tt)*] $fields:tt,
        $value:expr $(, $($rest:tt)*)?
    ) => {
        $crate::__log_to!($logger $level $message [$($arguments)* (argument $value)] $fields $(, $($rest)*)?)
    };
}
