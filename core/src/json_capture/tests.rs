use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::Serialize;
use serde_json::json;

use super::*;

struct FailingValue;

impl Serialize for FailingValue {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(ser::Error::custom("a lock is poisoned"))
    }
}

/// A list without an end.
struct EndlessList;

impl Serialize for EndlessList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        loop {
            list.serialize_element(&1)?;
        }
    }
}

/// A tree without an end.
struct EndlessTree;

impl Serialize for EndlessTree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq([EndlessTree])
    }
}

#[derive(Serialize)]
enum AnyVariant {
    Unit,
    New(f32),
    Tuple(u8, Option<char>),
    Struct { a: (), b: [i8; 2] },
}

fn omitted(captured: &JsonCapture) -> Vec<String> {
    captured.omitted.iter().map(ToString::to_string).collect()
}

#[test]
fn nan_and_infinities_become_texts() {
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
fn member_without_a_form_is_omitted_and_the_rest_stays() {
    #[derive(Serialize)]
    struct InnerStruct {
        fails: FailingValue,
        list: (u8, FailingValue, u8),
        wide: u128,
        endless: EndlessList,
        kept: &'static str,
    }
    #[derive(Serialize)]
    struct OuterStruct {
        stages: BTreeMap<(u32, u32), f64>,
        inner: InnerStruct,
        by_number: BTreeMap<i32, bool>,
    }
    let captured = JsonCapture::new(&OuterStruct {
        stages: [((0, 10), 0.5)].into(),
        inner: InnerStruct {
            fails: FailingValue,
            list: (1, FailingValue, 3),
            wide: u128::MAX,
            endless: EndlessList,
            kept: "x",
        },
        by_number: [(-1, true)].into(),
    });
    let expected = json!({"inner": {"list": [1, null, 3], "kept": "x"}, "by_number": {"-1": true}});
    assert_eq!(captured.value, Some(expected));
    let expected = [
        "`stages` (a map whose keys are not texts)",
        "`inner.fails` (a lock is poisoned)",
        "`inner.list[1]` (a lock is poisoned)",
        "`inner.wide` (an integer of more than 64 bits)",
        "`inner.endless` (more than 16 MiB)",
    ];
    assert_eq!(omitted(&captured), expected);
    let captured = JsonCapture::new(&FailingValue);
    assert_eq!(
        (captured.value.is_none(), omitted(&captured)),
        (true, vec!["the whole value (a lock is poisoned)".to_owned()])
    );
}

#[test]
fn a_panic_omits_the_innermost_member_and_the_rest_stays() {
    struct PanickingValue;
    impl Serialize for PanickingValue {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            panic!("no device")
        }
    }
    #[derive(Serialize)]
    struct Config {
        lr: f64,
        inner: (u8, PanickingValue),
        last: u8,
    }
    let captured = JsonCapture::new(&Config {
        lr: 0.5,
        inner: (1, PanickingValue),
        last: 2,
    });
    assert_eq!(captured.value, Some(json!({"lr": 0.5, "inner": [1, null], "last": 2})));
    assert_eq!(omitted(&captured), ["`inner[1]` (its `Serialize` panicked: no device)"]);
    let captured = JsonCapture::new(&PanickingValue);
    assert_eq!(
        (captured.value, captured.omitted[0].to_string()),
        (None, "the whole value (its `Serialize` panicked: no device)".to_owned())
    );
}

#[test]
fn deep_value_is_cut_at_a_depth_that_parsers_accept() {
    for captured in [JsonCapture::new(&EndlessTree), JsonCapture::new(&(1, EndlessTree))] {
        let text = captured.value.unwrap().to_string();
        assert!(text.contains("… (nested too deep)"), "{text}");
        serde_json::from_str::<Value>(&text).unwrap();
        assert_eq!(captured.omitted.len(), 1);
        assert!(captured.omitted[0].cause.contains("100 levels"));
    }
}

#[test]
fn variants_have_the_form_of_serde_json() {
    let kinds = [
        AnyVariant::Unit,
        AnyVariant::New(0.5),
        AnyVariant::Tuple(1, Some('x')),
        AnyVariant::Tuple(1, None),
        AnyVariant::Struct { a: (), b: [1, 2] },
    ];
    for kind in kinds {
        assert_eq!(JsonCapture::new(&kind).value, serde_json::to_value(&kind).ok());
    }
    let map = HashMap::from([(CharKey('a'), serde_json::Number::from(1))]);
    assert_eq!(JsonCapture::new(&map).value, serde_json::to_value(&map).ok());
    assert_eq!(JsonCapture::new("x").value, Some(json!("x")));
}

#[derive(Serialize, PartialEq, Eq, Hash)]
struct CharKey(char);

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
    fn json_value_is_captured_unchanged(value in any_json()) {
        let captured = JsonCapture::new(&value);
        prop_assert_eq!(captured.omitted, []);
        prop_assert_eq!(captured.value, Some(value));
    }
}
