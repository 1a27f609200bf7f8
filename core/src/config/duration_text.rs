//! Times as texts: `10m`.

use std::time::Duration;

/// Parses a whole number with a unit: `ms`, `s`, `m` or `min`, `h`. Returns `None` for any other
/// text.
pub(crate) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    match unit.trim() {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" | "min" => Some(Duration::from_secs(number.checked_mul(60)?)),
        "h" => Some(Duration::from_secs(number.checked_mul(3600)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_with_a_unit_is_a_time() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("90s", 90_000),
            (" 10m ", 600_000),
            ("2 min", 120_000),
            ("2h", 7_200_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "10",
            "m",
            "-1s",
            "1e3s",
            "1..2s",
            "10 weeks",
            "9999999999999999999h",
            "1.5s",
            "ten m",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
