//! Signals: one that ends the process finishes the loggers first; one that stops it gets a clean
//! terminal.

use logcore::OnSignal;
use logcore_pipeline::{Signal, SignalAnswer, SignalWork, handle_signals, print_notice};

use crate::logger::terminal;
use crate::process::stop_signal;

/// Handles signals from now on. `before_end` runs before a signal ends the process, and `ask`
/// answers the first ones, if the config wants that.
pub(crate) fn handle(on_signal: OnSignal, before_end: fn(Signal), ask: fn(Signal) -> SignalAnswer) {
    let asks = on_signal == OnSignal::Ask;
    if asks {
        stop_signal::switch_on();
    }
    let work = SignalWork {
        before_end,
        around_stop: |stop| terminal::suspend(stop),
        ask: asks.then_some(ask),
    };
    if let Err(error) = handle_signals(work) {
        let unheard = if asks {
            ", and `stop_requested` hears of none"
        } else {
            ""
        };
        print_notice(
            "signals",
            &format!("signals end the process without a last word{unheard}: {error}"),
        );
    }
}
