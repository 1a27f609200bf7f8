//! Tables whose columns are aligned and fit the window.

use std::iter::repeat_n;

use console::{measure_text_width, truncate_str};
use logcore::escape::to_one_line;

/// Columns of a window that is too narrow for a table are left out or cut.
pub(crate) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

/// A column of a table.
pub(crate) struct Column {
    name: String,
    is_right: bool,
    is_optional: bool,
}

/// A text with a colour.
pub(crate) struct Cell {
    text: String,
    color: Option<console::Color>,
}

/// Spaces between columns.
const GAP: usize = 2;

/// A column is not cut below this width.
const MIN_WIDTH: usize = 8;

/// Widest column where there is no window. A longer cell stays whole and is out of line, so that
/// one cell of a megabyte does not add a megabyte of spaces to every other row.
const MAX_WIDTH: usize = 1000;

impl Column {
    pub(crate) fn left(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            is_right: false,
            is_optional: false,
        }
    }

    pub(crate) fn right(name: impl Into<String>) -> Self {
        Self {
            is_right: true,
            ..Self::left(name)
        }
    }

    /// Lets the column be left out of a window that is too narrow; the last ones go first.
    pub(crate) fn optional(self) -> Self {
        Self {
            is_optional: true,
            ..self
        }
    }
}

impl Cell {
    pub(crate) fn colored(text: impl Into<String>, color: Option<console::Color>) -> Self {
        Self {
            text: text.into(),
            color,
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::colored(text, None)
    }
}

impl Table {
    /// Makes a table without rows. The names of columns can be foreign, such as ids of runs.
    pub(crate) fn new(mut columns: Vec<Column>) -> Self {
        for column in &mut columns {
            column.name = to_one_line(&column.name).into_owned();
        }
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row, which has a cell for each column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let one_line = |cell: Cell| Cell {
            text: to_one_line(&cell.text).into_owned(),
            ..cell
        };
        self.rows.push(cells.into_iter().map(one_line).collect());
    }

    /// Returns the lines, no wider than the window; whole cells if there is none.
    pub(crate) fn format(&self, window: Option<usize>, has_colors: bool) -> Vec<String> {
        let (shown, widths) = self.fit(window);
        let style = |text: &str, color: Option<console::Color>, is_header: bool| {
            let style = console::Style::new().force_styling(has_colors);
            let style = color.map_or(style.clone(), |color| style.clone().fg(color));
            let style = if is_header { style.bold() } else { style };
            style.apply_to(text).to_string()
        };
        let line = |cell: &dyn Fn(usize) -> (String, Option<console::Color>), is_header: bool| {
            let mut line = String::new();
            for (at, (column, width)) in shown.iter().zip(&widths).enumerate() {
                let (text, color) = cell(*column);
                let text = match window {
                    Some(_) => truncate_str(&text, *width, "…"),
                    None => text.into(),
                };
                let space = width.saturating_sub(measure_text_width(&text));
                let is_last = at + 1 == shown.len();
                let before = if self.columns[*column].is_right { space } else { 0 };
                let after = if is_last { 0 } else { space - before + GAP };
                // A width in `format!` panics above 65,535.
                line.extend(repeat_n(' ', before));
                line.push_str(&style(&text, color, is_header));
                line.extend(repeat_n(' ', after));
            }
            line.trim_end().to_owned()
        };
        let header = line(&|column| (self.columns[column].name.clone(), None), true);
        let rows = self
            .rows
            .iter()
            .map(|row| line(&|column| (row[column].text.clone(), row[column].color), false));
        std::iter::once(header).chain(rows).collect()
    }

    /// Returns the columns that have room, with their widths.
    fn fit(&self, window: Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let natural = |column: usize| {
            let cells = self.rows.iter().map(|row| measure_text_width(&row[column].text));
            let widest = cells.chain([measure_text_width(&self.columns[column].name)]).max();
            widest.unwrap_or(0).min(window.unwrap_or(MAX_WIDTH))
        };
        let mut shown: Vec<usize> = (0..self.columns.len()).collect();
        let mut widths: Vec<usize> = shown.iter().map(|column| natural(*column)).collect();
        let Some(width) = window else { return (shown, widths) };
        let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1);
        while total(&widths) > width
            && let Some(at) = shown.iter().rposition(|column| self.columns[*column].is_optional)
        {
            shown.remove(at);
            widths.remove(at);
        }
        while total(&widths) > width
            && let Some(widest) = widths.iter_mut().filter(|width| **width > MIN_WIDTH).max()
        {
            *widest -= 1;
        }
        (shown, widths)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(vec![
            Column::left("name"),
            Column::right("steps"),
            Column::right("loss").optional(),
        ]);
        table.row(["a".into(), "12".into(), "0.5".into()]);
        table.row(["a long name of a run".into(), "100000".into(), "0.25".into()]);
        table
    }

    #[test]
    fn columns_are_aligned() {
        let expected = [
            "name                   steps  loss",
            "a                         12   0.5",
            "a long name of a run  100000  0.25",
        ];
        assert_eq!(table().format(None, false), expected);
    }

    #[test]
    fn a_narrow_window_loses_optional_columns_first() {
        assert_eq!(
            table().format(Some(30), false),
            [
                "name                   steps",
                "a                         12",
                "a long name of a run  100000"
            ]
        );
        let narrow = table().format(Some(20), false);
        assert_eq!(narrow[2], "a long name…  100000");
        assert!(narrow.iter().all(|line| measure_text_width(line) <= 20));
    }

    #[test]
    fn a_long_cell_is_whole_and_widens_no_other_row_without_bound() {
        let long = "x".repeat(70_000);
        let mut table = Table::new(vec![Column::left("name"), Column::right("steps")]);
        table.row(["a".into(), "12".into()]);
        table.row([long.as_str().into(), "100000".into()]);
        let lines = table.format(None, false);
        assert_eq!(lines[2], format!("{long}  100000"));
        assert_eq!(lines[1], format!("a{}12", " ".repeat(MAX_WIDTH - 1 + GAP + 4)));
        let wide = table.format(Some(80_000), false);
        assert_eq!(wide[1].len(), wide[2].len());
        let narrow = table.format(Some(20), false);
        assert_eq!(narrow[2], "xxxxxxxxxxx…  100000");
    }

    #[test]
    fn names_of_others_command_no_terminal() {
        let mut table = Table::new(vec![Column::left("na\u{1b}[8m\nme")]);
        table.row(["a\u{1b}[2J\nb".into()]);
        assert_eq!(table.format(None, false), [r"na\x1b[8m\nme", r"a\x1b[2J\nb"]);
    }
}
