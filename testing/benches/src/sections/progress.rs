//! The time of a progress update.

use std::time::Instant;

use anyhow::{Context, Result};
use facade::setup_logging;
use hot_paths::median;
use indicatif::{ProgressBar, ProgressDrawTarget};

use crate::amounts::Amounts;
use crate::peers::{PeerEntry, config};
use crate::table::{ReportTable, figure};

pub(crate) fn measure(amounts: &Amounts, _: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let (mut theirs, mut ours, mut ours_batched) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..amounts.rounds {
        let bar = ProgressBar::with_draw_target(Some(amounts.small_calls), ProgressDrawTarget::hidden());
        theirs.push(nanoseconds(amounts, || bar.inc(1)));

        let folder = tempfile::tempdir().context("make a folder for a progress")?;
        let logger = setup_logging(config(folder.path()))?;
        logger.start_progress(amounts.small_calls, "without batch sizes");
        ours.push(nanoseconds(amounts, || logger.update_progress(1, None::<u64>)));
        logger.start_progress(amounts.small_calls, "with batch sizes");
        ours_batched.push(nanoseconds(amounts, || logger.update_progress(1, 32)));
    }

    let note = format!(
        "Nanoseconds a call, loop included; {} rounds of {} calls, medians. The bar is hidden: what is left is the \
         counting and the decision whether to draw. `×` is the ratio to it, round by round.",
        amounts.rounds, amounts.small_calls
    );
    let mut table = ReportTable::new("Progress updates", note, &["call", "ns", "×"]);
    for (name, own) in [
        ("indicatif, inc", &theirs),
        ("update_progress(1, None)", &ours),
        ("update_progress(1, 32)", &ours_batched),
    ] {
        let ratios = own.iter().zip(&theirs).map(|(own, theirs)| own / theirs);
        table.row([
            name.to_owned(),
            figure(median(own.iter().copied())),
            figure(median(ratios)),
        ]);
    }
    Ok(vec![table])
}

fn nanoseconds(amounts: &Amounts, call: impl Fn()) -> f64 {
    let started = Instant::now();
    (0..amounts.small_calls).for_each(|_| call());
    started.elapsed().as_secs_f64() * 1e9 / amounts.small_calls as f64
}
