//! How well the ETA foretells, beside indicatif's and tqdm's.

use anyhow::Result;
use eta::{HELD_OUT, KINDS, RECORDED, compare};

use crate::amounts::Amounts;
use crate::peers::PeerEntry;
use crate::table::{ReportTable, figure};

pub(crate) fn measure(_: &Amounts, _: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let note = format!(
        "No times are measured. Each kind of run is {} series of step times that seeds decide (50 to 100,000 steps in \
         one minute to ten hours), and not with the seeds that the constants of the estimator were chosen with. \
         `recorded` are two runs of the example `train`, a minute each, while builds took the same two cores; the \
         estimator was made in sight of them. The error is the mean of |shown − true| / true remaining time, in \
         percent, at 400 moments from 1 to 95 % of the time; the jump is how far the finish moves between two of \
         them, in percent of the remaining time.",
        HELD_OUT.count()
    );
    let columns = ["run", "ours", "indicatif", "tqdm", "jump", "indicatif", "tqdm"];
    let mut table = ReportTable::new("ETA", note, &columns);
    for kind in KINDS.iter().chain([&RECORDED]) {
        let scores = compare(*kind, HELD_OUT);
        let errors = scores.map(|score| figure(score.error * 100.0));
        let jumps = scores.map(|score| figure(score.jump * 100.0));
        table.row([kind.0.to_owned()].into_iter().chain(errors).chain(jumps));
    }
    Ok(vec![table])
}
