//! The page.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use crate::row::{Row, Verdict};
use crate::sections::Fact;

/// The machine, and the rows of all sections.
#[derive(Debug)]
pub(crate) struct Report {
    machine: Vec<Fact>,
    sections: Vec<(&'static str, Vec<Row>)>,
}

impl Report {
    /// A report about a machine, without rows.
    pub(crate) fn new(machine: Vec<Fact>) -> Self {
        Self {
            machine,
            sections: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, title: &'static str, rows: Vec<Row>) {
        self.sections.push((title, rows));
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.sections.iter().flat_map(|(_, rows)| rows)
    }

    /// Returns `true` if a row fails, or if none holds: then nothing is proven.
    pub(crate) fn fails(&self) -> bool {
        let [holding, failing, _] = self.counts();
        failing > 0 || holding == 0
    }

    /// Returns the number of rows with each verdict as text.
    pub(crate) fn summary(&self) -> String {
        let [holding, failing, not_tried] = self.counts();
        format!("{holding} rows hold, {failing} fail, {not_tried} were not tried")
    }

    fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for row in self.rows() {
            let at = match row.verdict {
                Verdict::Holds => 0,
                Verdict::Fails(_) => 1,
                Verdict::NotTried(_) => 2,
            };
            counts[at] += 1;
        }
        counts
    }

    /// Returns the page in Markdown.
    pub(crate) fn page(&self, took: Duration) -> String {
        let mut page = format!(
            "# GPU proof\n\n`cargo xtask gpu-proof` has written this page; [gpu.md](gpu.md) explains the values. Numbers \
             before a colon are those of the open questions there.\n\n**{}.**\n\n| | |\n|---|---|\n",
            self.summary()
        );
        let date = Timestamp::now().strftime("%Y-%m-%d %H:%M UTC").to_string();
        let took = format!("{:.0} s", took.as_secs_f64());
        let version = format!("{} ({})", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH);
        let of_run = [("date", date), ("duration", took), ("version of the proof", version)];
        let of_run = of_run.map(|(name, value)| Fact {
            name: name.to_owned(),
            value,
        });
        for fact in of_run.iter().chain(&self.machine) {
            let _ = writeln!(page, "| {} | {} |", in_cell(&fact.name), in_cell(&fact.value));
        }
        for (title, rows) in &self.sections {
            let _ = write!(page, "\n## {title}\n\n| row | answer | verdict |\n|---|---|---|\n");
            for row in rows {
                let verdict = match &row.verdict {
                    Verdict::Holds => "holds".to_owned(),
                    Verdict::Fails(condition) => format!("**fails**: must be: {condition}"),
                    Verdict::NotTried(reason) => format!("not tried: {reason}"),
                };
                let cells = [&row.subject, &row.answer, &verdict].map(|text| in_cell(text));
                let _ = writeln!(page, "| {} |", cells.join(" | "));
            }
        }
        page
    }
}

/// Returns the text for a cell of a table. Names of devices and messages come from outside.
fn in_cell(text: &str) -> String {
    let text = text.replace(|c: char| c.is_control(), " ");
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rows: Vec<Row>) -> Report {
        let mut report = Report::new(vec![Fact {
            name: "driver".to_owned(),
            value: "550|54".to_owned(),
        }]);
        report.add("Known allocations", rows);
        report
    }

    #[test]
    fn page_has_machine_rows_and_verdicts() {
        let rows = vec![
            Row::check("a pool", "5 bytes", true, ""),
            Row::check("a peak", "5 bytes", false, "6 bytes"),
            Row::not_tried("slices", "there are none"),
        ];
        let report = report(rows);
        assert!(report.fails());
        let page = report.page(Duration::from_secs(61));
        for line in [
            "**1 rows hold, 1 fail, 1 were not tried.**",
            "| duration | 61 s |",
            "| driver | 550\\|54 |",
            "## Known allocations",
            "| a pool | 5 bytes | holds |",
            "| a peak | 5 bytes | **fails**: must be: 6 bytes |",
            "| slices |  | not tried: there are none |",
        ] {
            assert!(page.lines().any(|seen| seen == line), "{line} is not in\n{page}");
        }
    }

    #[test]
    fn proof_without_a_row_that_holds_fails() {
        assert!(report(vec![Row::not_tried("slices", "there are none")]).fails());
        assert!(!report(vec![Row::check("a pool", "5 bytes", true, "")]).fails());
    }
}
