//! Tables as aligned text and as Markdown.

use std::fmt::Write as _;

/// A table whose first column is text and whose others are figures.
pub(crate) struct ReportTable {
    title: String,
    note: String,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    picture: Option<ReportPicture>,
}

/// A picture that stands beside the page.
pub(crate) struct ReportPicture {
    pub(crate) file_name: &'static str,
    pub(crate) svg: String,
    about: &'static str,
}

impl ReportTable {
    pub(crate) fn new(title: impl Into<String>, note: impl Into<String>, columns: &[&str]) -> Self {
        Self {
            title: title.into(),
            note: note.into(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
            picture: None,
        }
    }

    /// Adds a picture, which the Markdown names.
    pub(crate) fn with_picture(self, file_name: &'static str, about: &'static str, svg: String) -> Self {
        let picture = Some(ReportPicture { file_name, svg, about });
        Self { picture, ..self }
    }

    pub(crate) fn picture(&self) -> Option<&ReportPicture> {
        self.picture.as_ref()
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        assert_eq!(
            cells.len(),
            self.columns.len(),
            "a row of `{}` has a cell for each column",
            self.title
        );
        self.rows.push(cells);
    }

    pub(crate) fn text(&self) -> String {
        let widths = self.widths();
        let mut out = format!("{}\n{}\n", self.title, self.note);
        for cells in std::iter::once(&self.columns).chain(&self.rows) {
            let mut line = String::new();
            for (index, (cell, &width)) in cells.iter().zip(&widths).enumerate() {
                let _ = if index == 0 {
                    write!(line, "{cell:<width$}")
                } else {
                    write!(line, "  {cell:>width$}")
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    pub(crate) fn markdown(&self) -> String {
        let mut out = format!("## {}\n\n{}\n\n", self.title, self.note);
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        out.push_str(&line(&self.columns));
        out.push_str(&format!("|---|{}\n", "---:|".repeat(self.columns.len() - 1)));
        for row in &self.rows {
            out.push_str(&line(row));
        }
        if let Some(picture) = &self.picture {
            out.push_str(&format!("\n![{}]({})\n", picture.about, picture.file_name));
        }
        out
    }

    fn widths(&self) -> Vec<usize> {
        (0..self.columns.len())
            .map(|column| {
                let cells = self.rows.iter().map(|row| &row[column]);
                cells
                    .chain([&self.columns[column]])
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect()
    }
}

/// A figure with as many digits as it deserves; a dash for none.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "-".to_owned(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.1 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> ReportTable {
        let mut table = ReportTable::new("Calls", "in ns", &["peer", "p50"]);
        table.row(["limit".to_owned(), figure(380.4)]);
        table.row(["a peer".to_owned(), figure(1.0)]);
        table
    }

    #[test]
    fn text_is_aligned() {
        assert_eq!(
            table().text(),
            "Calls\nin ns\npeer     p50\nlimit    380\na peer  1.00\n"
        );
    }

    #[test]
    fn markdown_has_a_rule_for_each_column() {
        assert_eq!(
            table().markdown(),
            "## Calls\n\nin ns\n\n| peer | p50 |\n|---|---:|\n| limit | 380 |\n| a peer | 1.00 |\n"
        );
    }

    #[test]
    fn markdown_names_the_picture() {
        let table = table().with_picture("calls.svg", "Calls", "<svg/>".to_owned());
        assert!(table.markdown().ends_with("| 1.00 |\n\n![Calls](calls.svg)\n"));
        assert_eq!(table.picture().map(|picture| picture.svg.as_str()), Some("<svg/>"));
    }

    #[test]
    fn no_figure_is_a_dash() {
        assert_eq!(figure(f64::NAN), "-");
        assert_eq!(figure(0.0012), "0.0012");
    }
}
