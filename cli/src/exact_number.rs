//! Numbers of the files, compared exactly.

use std::cmp::Ordering;

use serde_json::Value;

/// A number in a file or in a condition. A double has room for 53 bits, so that two seeds of 64
/// bits would be equal as doubles.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ExactNumber {
    Integer(i128),
    Float(f64),
}

impl ExactNumber {
    /// Returns the number of a JSON value; `None` for another value.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let integer = value
            .as_i64()
            .map(i128::from)
            .or_else(|| value.as_u64().map(i128::from));
        integer.map(Self::Integer).or_else(|| value.as_f64().map(Self::Float))
    }

    /// Reads a number; also `NaN` and the infinities, which the files have as texts.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let integer = text.parse().ok().map(Self::Integer);
        integer.or_else(|| text.parse().ok().map(Self::Float))
    }

    pub(crate) fn is_nan(self) -> bool {
        matches!(self, Self::Float(float) if float.is_nan())
    }

    /// Returns the order of two numbers. A NaN equals a NaN, and has no order to another number.
    pub(crate) fn compare(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Integer(one), Self::Integer(other)) => Some(one.cmp(&other)),
            (Self::Float(one), Self::Float(other)) if one.is_nan() && other.is_nan() => Some(Ordering::Equal),
            (Self::Float(one), Self::Float(other)) => one.partial_cmp(&other),
            (Self::Integer(one), Self::Float(other)) => compare_mixed(one, other),
            (Self::Float(one), Self::Integer(other)) => compare_mixed(other, one).map(Ordering::reverse),
        }
    }
}

fn compare_mixed(integer: i128, float: f64) -> Option<Ordering> {
    // A whole double is an integer; the cast keeps those beyond the range at its ends. Any other
    // double is below 2^53, where a rounded integer keeps its order to it.
    match float.fract() == 0.0 {
        true => Some(integer.cmp(&(float as i128))),
        false => (integer as f64).partial_cmp(&float),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(one: &str, other: &str) -> Option<Ordering> {
        ExactNumber::parse(one)?.compare(ExactNumber::parse(other)?)
    }

    #[test]
    fn numbers_that_are_one_double_differ() {
        assert_eq!(order("9007199254740993", "9007199254740992"), Some(Ordering::Greater));
        assert_eq!(order("9007199254740993", "9007199254740992.0"), Some(Ordering::Greater));
        assert_eq!(
            order("18446744073709551615", "1.8446744073709552e19"),
            Some(Ordering::Less)
        );
        assert_eq!(order("-3", "-2.5"), Some(Ordering::Less));
        assert_eq!(order("1e3", "1000"), Some(Ordering::Equal));
        assert_eq!(order("inf", "18446744073709551615"), Some(Ordering::Greater));
        assert_eq!(order("NaN", "NaN"), Some(Ordering::Equal));
        assert_eq!(order("NaN", "1"), None);
        assert_eq!(order("1k", "1"), None);
    }

    #[test]
    fn value_has_all_its_digits() {
        for number in [json!(u64::MAX), json!(i64::MIN), json!(0.1), json!(-7)] {
            let parsed = ExactNumber::parse(&number.to_string()).unwrap();
            assert_eq!(ExactNumber::of(&number).unwrap().compare(parsed), Some(Ordering::Equal));
        }
        assert!(ExactNumber::of(&json!("1")).is_none());
    }

    #[test]
    fn order_is_that_of_the_integers() {
        let near = |number: i128| [number - 1, number, number + 1];
        let numbers: Vec<i128> = [
            i64::MIN.into(),
            -(1 << 53),
            0,
            1 << 53,
            i64::MAX.into(),
            u64::MAX.into(),
        ]
        .into_iter()
        .flat_map(near)
        .collect();
        for one in numbers.iter().copied() {
            for other in numbers.iter().copied() {
                assert_eq!(order(&one.to_string(), &other.to_string()), Some(one.cmp(&other)));
                let rounded = other as f64;
                let mixed = ExactNumber::Integer(one).compare(ExactNumber::Float(rounded));
                assert_eq!(mixed, Some(one.cmp(&(rounded as i128))), "{one} {rounded}");
                let reversed = ExactNumber::Float(rounded).compare(ExactNumber::Integer(one));
                assert_eq!(reversed, mixed.map(Ordering::reverse));
            }
        }
    }
}
