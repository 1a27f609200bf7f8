//! How well the ETA foretells, beside indicatif's and tqdm's.

use anyhow::Result;
use eta::{EtaScore, HELD_OUT, KINDS, Recording, compare, compare_on};

use crate::amounts::Amounts;
use crate::peers::PeerEntry;
use crate::table::{ReportTable, figure};

pub(crate) fn measure(_: &Amounts, _: &[PeerEntry]) -> Result<Vec<ReportTable>> {
    let made = format!(
        "No times are measured. Each kind of run is {} series of step times that seeds decide (50 to 100,000 steps in \
         one minute to ten hours), and not with the seeds that the constants of the estimator were chosen with. The \
         error is the mean of |shown − true| / true remaining time, in percent, at 400 moments from 1 to 95 % of the \
         time; the jump is how far the finish moves between two of them, in percent of the remaining time.",
        HELD_OUT.count()
    );
    let columns = ["run", "ours", "indicatif", "tqdm", "jump", "indicatif", "tqdm"];
    let mut kinds = ReportTable::new("ETA", made, &columns);
    for kind in KINDS {
        kinds.row(cells(kind.0.to_owned(), compare(*kind, HELD_OUT)));
    }
    let recorded = "Step times of programs that really ran, on two cores that also compiled other programs; each file \
                    in `testing/benches/eta/src/recorded` says how. An earlier estimator was made in sight of those \
                    marked †, the present one in sight of all.";
    let mut recordings = ReportTable::new("ETA of recorded runs", recorded.to_owned(), &columns);
    for recording in Recording::all() {
        let mark = if recording.held_out { "" } else { " †" };
        recordings.row(cells(format!("{}{mark}", recording.name), compare_on(&recording.steps)));
    }
    Ok(vec![kinds, recordings])
}

fn cells(run: String, scores: [EtaScore; 3]) -> impl Iterator<Item = String> {
    let errors = scores.map(|score| figure(score.error * 100.0));
    let jumps = scores.map(|score| figure(score.jump * 100.0));
    [run].into_iter().chain(errors).chain(jumps)
}
