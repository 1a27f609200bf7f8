//! The signals that end the program: none leaves an output that is not complete.

use std::thread;

use anyhow::{Context as _, Result};
use logcore::files;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Removes the temporary files of outputs before a signal ends the program, from now on.
///
/// # Errors
///
/// If the system refuses.
pub(crate) fn remove_outputs_at_end() -> Result<()> {
    let ignored = ignored_signals();
    let wanted = [SIGHUP, SIGINT, SIGTERM].into_iter();
    let wanted = wanted.filter(|signal| ignored & (1 << (signal - 1)) == 0);
    let mut signals = Signals::new(wanted).context("cannot wait for signals")?;
    files::list_unfinished();
    let thread = thread::Builder::new().name("logcore-signals".to_owned());
    let spawned = thread.spawn(move || {
        for signal in signals.forever() {
            // The program ends here, as it does without a handler.
            files::remove_unfinished(|| drop(emulate_default_handler(signal)));
        }
    });
    spawned.map(drop).context("cannot wait for signals")
}

/// Returns the signals that the program was told to ignore, as `nohup` and the shell behind `&` do:
/// a bit for each. Where the system does not tell, there are none.
fn ignored_signals() -> u64 {
    let status = files::read_to_string("/proc/self/status".as_ref(), 1 << 16).unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}
