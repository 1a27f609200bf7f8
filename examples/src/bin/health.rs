//! A training whose loss spikes, and that stops well: at SIGTERM, after `touch …/STOP`, or at a
//! NaN.
//!
//! ```sh
//! cargo run -p examples --bin health
//! touch outputs/health/latest/STOP
//! ```

use std::thread::sleep;
use std::time::Duration;

use facade::{LogConfig, OnSignal, Rule, RuleAnswer, setup_logging};

fn main() -> anyhow::Result<()> {
    let logger = setup_logging(LogConfig {
        name: "trainer".into(),
        log_dir: "outputs/health".into(),
        rules: vec![
            Rule {
                metric: "loss".into(),
                spike: Some(6.0),
                ..Rule::default()
            },
            Rule {
                metric: "*".into(),
                nan: true,
                then: RuleAnswer::Stop,
                ..Rule::default()
            },
        ],
        on_signal: OnSignal::Ask,
        ..LogConfig::default()
    })?;
    logger.start_progress(1000, "Training");
    for step in 1..=1000_u32 {
        sleep(Duration::from_millis(10));
        let loss = match step {
            400 => 80.0,
            900 => f64::NAN,
            _ => 2.0 / (1.0 + f64::from(step) / 100.0) + 0.01 * f64::from(step * 7919 % 100) / 100.0,
        };
        logger.log_metrics([("loss", loss)]);
        logger.update_progress(1, 32);
        if step % 200 == 0 {
            let _checkpoint = logger.phase("checkpoint");
            sleep(Duration::from_millis(100));
        }
        if let Some(reason) = logger.stop_reason().filter(|_| logger.stop_requested()) {
            logger.info(format_args!("Stopped at step {step}, because of {reason}"));
            break;
        }
    }
    Ok(())
}
