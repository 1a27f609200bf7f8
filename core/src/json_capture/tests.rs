use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::*;

struct Fails;

impl Serialize for Fails {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("a lock is poisoned"))
    }
}

/// A list without an end.
struct Endless;

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        loop {
            list.serialize_element(&1)?;
        }
    }
}

/// A tree without an end.
struct Bottomless;

impl Serialize for Bottomless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq([Bottomless])
    }
}

#[derive(Serialize)]
enum Kind {
    Unit,
    New(f32),
    Tuple(u8, Option<char>),
    Struct { a: (), b: [i8; 2] },
}

fn omitted(captured: &JsonCapture) -> Vec<String> {
    captured.omitted.iter().map(ToString::to_string).collect()
}

#[test]
fn numbers_that_are_none_are_texts() {
    let captured = JsonCapture::new(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]);
    assert_eq!(captured.value, Some(json!(["NaN", "Infinity", "-Infinity", -0.0])));
    let captured = JsonCapture::new(&(0.1_f32, f32::NAN, f32::MAX, i64::MIN, u64::MAX, 7_u128, -7_i128));
    let expected = json!([
        0.1,
        "NaN",
        340282350000000000000000000000000000000.0,
        i64::MIN,
        u64::MAX,
        7,
        -7
    ]);
    assert_eq!(captured.value, Some(expected));
    assert_eq!(captured.omitted, []);
}

#[test]
fn what_has_no_form_is_left_out_by_name_and_the_rest_stays() {
    #[derive(Serialize)]
    struct Inner {
        fails: Fails,
        list: (u8, Fails, u8),
        wide: u128,
        endless: Endless,
        kept: &'static str,
    }
    #[derive(Serialize)]
    struct Outer {
        stages: BTreeMap<(u32, u32), f64>,
        inner: Inner,
        by_number: BTreeMap<i32, bool>,
    }
    let captured = JsonCapture::new(&Outer {
        stages: [((0, 10), 0.5)].into(),
        inner: Inner {
            fails: Fails,
            list: (1, Fails, 3),
            wide: u128::MAX,
            endless: Endless,
            kept: "x",
        },
        by_number: [(-1, true)].into(),
    });
    let expected = json!({"inner": {"list": [1, null, 3], "kept": "x"}, "by_number": {"-1": true}});
    assert_eq!(captured.value, Some(expected));
    let expected = [
        "`stages` (a map whose keys are no text)",
        "`inner.fails` (a lock is poisoned)",
        "`inner.list[1]` (a lock is poisoned)",
        "`inner.wide` (an integer of more than 64 bits)",
        "`inner.endless` (there is more than 16 MiB of it)",
    ];
    assert_eq!(omitted(&captured), expected);
    let captured = JsonCapture::new(&Fails);
    assert_eq!(
        (captured.value.is_none(), omitted(&captured)),
        (true, vec!["all of it (a lock is poisoned)".to_owned()])
    );
}

#[test]
fn what_is_too_deep_is_cut_where_json_can_still_be_read() {
    for captured in [JsonCapture::new(&Bottomless), JsonCapture::new(&(1, Bottomless))] {
        let text = captured.value.unwrap().to_string();
        assert!(text.contains("… (nested too deep)"), "{text}");
        serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(captured.omitted.len(), 1);
        assert!(captured.omitted[0].why.contains("100 levels"));
    }
}

#[test]
fn forms_are_those_of_serde_json() {
    let kinds = [
        Kind::Unit,
        Kind::New(0.5),
        Kind::Tuple(1, Some('x')),
        Kind::Tuple(1, None),
        Kind::Struct { a: (), b: [1, 2] },
    ];
    for kind in kinds {
        assert_eq!(JsonCapture::new(&kind).value, serde_json::to_value(&kind).ok());
    }
    let map = HashMap::from([(Wrapped('a'), serde_json::Number::from(1))]);
    assert_eq!(JsonCapture::new(&map).value, serde_json::to_value(&map).ok());
    assert_eq!(JsonCapture::new("x").value, Some(json!("x")));
}

#[derive(Serialize, PartialEq, Eq, Hash)]
struct Wrapped(char);

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,5}", inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_captured_as_it_is(value in any_json()) {
        let captured = JsonCapture::new(&value);
        prop_assert_eq!(captured.omitted, []);
        prop_assert_eq!(captured.value, Some(value));
    }
}
