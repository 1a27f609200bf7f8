//! The schema of the JSON objects, and whether all that the program prints fits it.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use crate::common::logcore;
use crate::support::write_run;

#[test]
fn objects_fit_the_schema_whatever_the_files_hold() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write_run(folder.path(), "one", "finished", 1000);
    let texts = r#"{"trainer":{"last_step":"many","steps_per_sec":"fast","samples_per_sec":[1],"mfu":{},"goodput":true,
        "gpu_energy_kwh":"NaN","metrics":[{"name":"loss","last":"low"},{"name":7},8]},"other":9}"#;
    fs::write(dir.join("summary.json"), texts).unwrap();
    fs::write(dir.join("config.json"), r#"{"config":[1]}"#).unwrap();
    let torn = "{\"step\":1,\"time\":1.5,\"logger\":\"trainer\",\"metrics/loss\":8.0}\n{\"step\n{\"st";
    fs::write(dir.join("metrics.jsonl"), torn).unwrap();
    let broken = write_run(folder.path(), "broken", "finished", 900);
    fs::write(broken.join("summary.json"), "[").unwrap();
    fs::remove_file(broken.join("metrics.jsonl")).unwrap();
    fs::create_dir(broken.join("metrics.jsonl.1")).unwrap();
    for arguments in [
        &["ls"][..],
        &["show", "one"],
        &["show", "broken"],
        &["show", "nothing"],
        &["compare", "one", "broken"],
        &["plot", "one", "loss"],
        &["plot", "broken"],
        &["report", "one", "-o", "page.html"],
        &["report", "one", "-o", "-"],
        &["export", "one", "--to", "csv", "-o", "rows.csv"],
        &["export", "one", "--to", "csv"],
        &["merge", "one", "--out", "merged"],
        &["merge", "nothing"],
        &["watch", "one"],
        &["watch", "one", "--until", "stall", "--timeout", "0s"],
        &["watch", "nothing"],
        &["tail", "nothing"],
        &["prune", "--keep", "0", "--dry-run"],
        &["repair"],
        &["import", "nothing.csv"],
    ] {
        check(folder.path(), arguments);
    }
    let show = check(folder.path(), &["show", "one"]);
    assert!(show["runs"][0]["steps_per_sec"].is_null() && show["runs"][0]["last_step"].is_null());
}

#[cfg(unix)]
#[test]
fn a_watch_that_fails_names_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let dir = write_run(folder.path(), "one", "finished", 1000);
    fs::remove_file(dir.join("metrics.jsonl")).unwrap();
    std::os::unix::fs::symlink("elsewhere", dir.join("metrics.jsonl")).unwrap();
    let failed = check(folder.path(), &["watch", "one", "--until", "nan"]);
    assert_eq!((&failed["id"], &failed["dir"]), (&"one".into(), &"one".into()));
    assert_eq!(failed["problems"].as_array().unwrap().len(), 1);
}

#[test]
fn data_and_the_object_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    write_run(folder.path(), "one", "finished", 1000);
    for arguments in [
        &["export", "one", "--to", "csv"][..],
        &["export", "one", "--to", "jsonl", "-o", "-"],
        &["report", "one", "-o", "-"],
    ] {
        let output = logcore(folder.path(), &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        let error = object["problems"][0]["error"].as_str().unwrap();
        assert!(error.contains("Name a file with -o, or leave --json out"), "{error}");
    }
}

/// Runs a command, and returns its object, which must fit the schema.
fn check(folder: &Path, arguments: &[&str]) -> Value {
    let schema: Value = serde_json::from_str(include_str!("../../schema/output.json")).unwrap();
    let output = logcore(folder, &[arguments, &["--json"]].concat());
    let object: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    let misfits = Checker { root: &schema }.misfits(&schema, &object, "");
    assert!(misfits.is_empty(), "{arguments:?}: {misfits:?}\n{object}");
    object
}

/// Checks values with the keywords of JSON Schema that our schema has.
struct Checker<'a> {
    root: &'a Value,
}

impl Checker<'_> {
    /// Returns what does not fit, with its place.
    fn misfits(&self, schema: &Value, value: &Value, place: &str) -> Vec<String> {
        let mut misfits = Vec::new();
        for (keyword, wanted) in schema.as_object().unwrap() {
            let fits = match keyword.as_str() {
                "$schema" | "$defs" | "title" => true,
                "$ref" => {
                    let path = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                    let target = self.root.pointer(path).unwrap_or_else(|| panic!("{path} is no schema"));
                    misfits.extend(self.misfits(target, value, place));
                    true
                }
                "type" => match wanted {
                    Value::Array(types) => types.iter().any(|wanted| is_of_type(value, wanted)),
                    wanted => is_of_type(value, wanted),
                },
                "const" => value == wanted,
                "enum" => wanted.as_array().unwrap().contains(value),
                "minimum" => value.as_f64().is_none_or(|value| value >= wanted.as_f64().unwrap()),
                "required" => match value {
                    Value::Object(members) => names(wanted).all(|name| members.contains_key(name)),
                    _ => true,
                },
                "properties" => {
                    for (name, schema) in wanted.as_object().unwrap() {
                        if let Some(member) = value.get(name) {
                            misfits.extend(self.misfits(schema, member, &format!("{place}/{name}")));
                        }
                    }
                    true
                }
                "additionalProperties" => {
                    let known = schema.get("properties").and_then(Value::as_object);
                    let others = value.as_object().into_iter().flatten();
                    for (name, member) in
                        others.filter(|(name, _)| !known.is_some_and(|known| known.contains_key(*name)))
                    {
                        let place = format!("{place}/{name}");
                        match wanted {
                            Value::Bool(is_allowed) if *is_allowed => {}
                            Value::Bool(_) => misfits.push(place),
                            schema => misfits.extend(self.misfits(schema, member, &place)),
                        }
                    }
                    true
                }
                "items" => {
                    for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                        misfits.extend(self.misfits(wanted, item, &format!("{place}/{at}")));
                    }
                    true
                }
                "oneOf" => self.count_fits(wanted, value, place) == 1,
                "anyOf" => self.count_fits(wanted, value, place) > 0,
                other => panic!("{other} is not known here"),
            };
            if !fits {
                misfits.push(format!("{place}: {keyword}"));
            }
        }
        misfits
    }

    fn count_fits(&self, schemas: &Value, value: &Value, place: &str) -> usize {
        let schemas = schemas.as_array().unwrap().iter();
        schemas
            .filter(|schema| self.misfits(schema, value, place).is_empty())
            .count()
    }
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().unwrap().iter().filter_map(Value::as_str)
}

fn is_of_type(value: &Value, wanted: &Value) -> bool {
    match wanted.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("{other} is no type"),
    }
}

/// Every reference leads to a definition, also one that no object above has needed.
#[test]
fn references_of_the_schema_lead_somewhere() {
    fn collect<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| collect(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
            _ => {}
        }
    }
    let schema: Map<String, Value> = serde_json::from_str(include_str!("../../schema/output.json")).unwrap();
    let schema = Value::Object(schema);
    let mut found = Vec::new();
    collect(&schema, &mut found);
    assert!(found.len() > 3);
    for reference in found {
        assert!(
            schema.pointer(reference.trim_start_matches('#')).is_some(),
            "{reference}"
        );
    }
}
