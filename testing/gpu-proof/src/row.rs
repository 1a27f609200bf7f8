//! The rows of the proof, and the lines in which a section hands them over.

/// One claim, what the machine answered, and whether the claim holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) subject: String,
    pub(crate) answer: String,
    pub(crate) verdict: Verdict,
}

/// The result of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    /// The condition that should have held.
    Fails(String),
    /// The reason.
    NotTried(String),
}

/// Begins each line with a row, because libraries of the driver may print, too.
const MARK: &str = "row";

impl Row {
    /// A row that holds if `holds`; `condition` says what that means.
    pub(crate) fn check(
        subject: impl Into<String>,
        answer: impl Into<String>,
        holds: bool,
        condition: impl Into<String>,
    ) -> Self {
        Self {
            subject: subject.into(),
            answer: answer.into(),
            verdict: if holds {
                Verdict::Holds
            } else {
                Verdict::Fails(condition.into())
            },
        }
    }

    /// A row that this machine cannot answer.
    pub(crate) fn not_tried(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            answer: String::new(),
            verdict: Verdict::NotTried(reason.into()),
        }
    }

    /// A row of a section or program that did not end as it should.
    pub(crate) fn failed(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::check(subject, reason, false, "ends by itself, without an error")
    }

    /// Returns the row as one line.
    pub(crate) fn line(&self) -> String {
        let (verdict, text) = match &self.verdict {
            Verdict::Holds => ("holds", ""),
            Verdict::Fails(condition) => ("fails", condition.as_str()),
            Verdict::NotTried(reason) => ("not tried", reason.as_str()),
        };
        let fields = [MARK, &self.subject, &self.answer, verdict, text];
        fields.map(on_one_line).join("\t")
    }

    /// Returns the row of a line; `None` if the line has none.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split('\t').collect();
        let [MARK, subject, answer, verdict, text] = fields[..] else {
            return None;
        };
        Some(Self {
            subject: subject.to_owned(),
            answer: answer.to_owned(),
            verdict: match verdict {
                "holds" => Verdict::Holds,
                "fails" => Verdict::Fails(text.to_owned()),
                "not tried" => Verdict::NotTried(text.to_owned()),
                _ => return None,
            },
        })
    }
}

/// Returns the text without line ends and tabs.
fn on_one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

/// Returns a number with a comma between each three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Returns a number of bytes as text; `nothing` for none.
pub(crate) fn bytes_or_nothing(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "nothing".to_owned(), grouped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_their_lines() {
        for row in [
            Row::check("a pool", "5 bytes", true, "never shown"),
            Row::check("a pool", "5 bytes", false, "6 bytes"),
            Row::not_tried("slices", "there are none"),
        ] {
            let parsed = Row::parse(&row.line()).unwrap();
            assert_eq!(parsed, row);
        }
        let split = Row::failed("a\tpool", "two\nlines").line();
        assert_eq!(Row::parse(&split).unwrap().answer, "two lines");
    }

    #[test]
    fn other_lines_are_no_rows() {
        for line in ["", "row", "row\ta\tb\tperhaps\t", "a warning of the driver"] {
            assert_eq!(Row::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn numbers_are_grouped_by_three_digits() {
        let texts = [0, 999, 1_000, 268_435_456].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "268,435,456"]);
    }
}
