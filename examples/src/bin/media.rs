//! Logs media of each kind at several steps.
//!
//! ```sh
//! cargo run -p examples --bin media
//! cargo run -p logcore-cli -- serve outputs/media
//! ```

use facade::{Histogram, Image, LogConfig, Table, setup_logging};

/// Width and height of an image in pixels.
const SIZE: u32 = 32;

fn main() -> anyhow::Result<()> {
    let log_dir = std::env::args_os().nth(1).unwrap_or("outputs/media".into());
    let logger = setup_logging(LogConfig {
        name: "trainer".into(),
        log_dir: log_dir.into(),
        ..LogConfig::default()
    })?;
    for epoch in 0..5_u32 {
        let step = u64::from(epoch) * 100;
        let loss = 2.0 / f64::from(epoch + 1);
        logger.log_metrics_at(step, [("loss", loss)]);
        logger.log_image(
            "val/sample",
            Image::rgb(SIZE, SIZE, slope(epoch)).caption(format!("epoch {epoch}")),
            step,
        );
        let weights = (0..1000).map(|at| (f64::from(at) * 0.1).sin() * loss);
        logger.log_histogram("weights", Histogram::of(weights, 40), step);
        let answer = format!("After {epoch} epochs the model says: {}", "na ".repeat(epoch as usize));
        logger.log_text("answer", answer, step);
    }
    let errors = Table::new(["label", "predicted", "count"])
        .row(["cat", "dog", "12"])
        .row(["dog", "cat", "7"]);
    logger.log_table("errors", errors, None);
    logger.log_html("attention", "<p>The <b>last</b> word counts.</p>", None);
    logger.save_file(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    logger.finish();
    Ok(())
}

/// Returns pixels that get more blue with each epoch.
fn slope(epoch: u32) -> Vec<u8> {
    let shade = |at: u32| u8::try_from(at * 255 / SIZE).unwrap_or(u8::MAX);
    (0..SIZE * SIZE)
        .flat_map(|at| {
            [
                shade(at % SIZE),
                shade(at / SIZE),
                u8::try_from(epoch * 50).unwrap_or(u8::MAX),
            ]
        })
        .collect()
}
