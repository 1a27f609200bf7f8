//! The rules of a logger, from its batches to the files of incidents.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Barrier};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use logcore::{Deadline, EventKind, MetricBatch, MetricValue, Rule, RuleAnswer, Sink as _};
use logcore_health::rules::{Finding, Incident, RuleSink, TrippedMetrics, write_incident};
use proptest::prelude::*;

/// A sink, and what it has found.
struct Rules {
    sink: RuleSink,
    found: Receiver<Finding>,
    tripped: Arc<TrippedMetrics>,
}

impl Rules {
    fn new(rules: &[Rule]) -> Self {
        let (findings, found) = channel();
        let tripped = Arc::new(TrippedMetrics::default());
        Self {
            sink: RuleSink::new(rules, "metrics/", findings, Arc::clone(&tripped)),
            found,
            tripped,
        }
    }

    /// Logs values, a second after those of the step before.
    fn log(&mut self, step: u64, values: &[(&str, f64)]) {
        let values: Vec<_> = values
            .iter()
            .map(|(name, value)| (*name, MetricValue::Float(*value)))
            .collect();
        self.sink
            .metrics(&MetricBatch::at(at(step), "trainer", step, &values))
            .unwrap();
    }

    fn deliver(&mut self) -> Vec<String> {
        self.sink.deliver().unwrap();
        self.texts()
    }

    fn texts(&self) -> Vec<String> {
        let texts = self.found.try_iter().map(|finding| match finding {
            Finding::Began(episode) => Some(episode.text()),
            Finding::Ended(end) => Some(end.text()),
            Finding::Incident(incident) => {
                (incident.is_complete()).then(|| format!("incident of {} rows", incident.rows().count()))
            }
        });
        texts.flatten().collect()
    }

    fn finish(&mut self) -> Vec<Incident> {
        self.sink.finish(Deadline::after(Duration::from_secs(1))).unwrap();
        incidents(&self.found)
    }
}

/// Returns the incidents that are complete.
fn incidents(found: &Receiver<Finding>) -> Vec<Incident> {
    let (complete, _): (Vec<_>, Vec<_>) = all_incidents(found).into_iter().partition(Incident::is_complete);
    complete
}

fn all_incidents(found: &Receiver<Finding>) -> Vec<Incident> {
    let incidents = found.try_iter().filter_map(|finding| match finding {
        Finding::Incident(incident) => Some(*incident),
        _ => None,
    });
    incidents.collect()
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

fn rule(metric: &str) -> Rule {
    Rule {
        metric: metric.to_owned(),
        ..Rule::default()
    }
}

/// Makes an incident of one row, of a rule with this pattern, which must match `loss`.
fn incident_of(pattern: &str, step: u64) -> Incident {
    let mut rules = Rules::new(&[Rule {
        nan: true,
        ..rule(pattern)
    }]);
    rules.log(step, &[("metrics/loss", f64::NAN)]);
    rules.finish().remove(0)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_spike_is_told_once_with_the_usual_value_and_its_end() {
    let mut rules = Rules::new(&[Rule {
        spike: Some(6.0),
        then: RuleAnswer::Stop,
        ..rule("loss")
    }]);
    assert!(rules.sink.wants(EventKind::Metrics) && !rules.sink.wants(EventKind::Record));
    for step in 0..400 {
        let noise = [0.0, 0.02, -0.01, 0.03, -0.02, 0.01, -0.03][step as usize % 7];
        let loss = if (200..210).contains(&step) {
            812.4
        } else {
            2.31 + noise
        };
        rules.log(step, &[("metrics/loss", loss)]);
        assert_eq!(rules.tripped.is_tripped("loss"), (200..309).contains(&step), "{step}");
    }
    let texts = rules.deliver();
    assert!(
        texts[0].starts_with("loss is 812.4 at step 200, usually 2.3"),
        "{texts:?}"
    );
    assert!(texts[0].ends_with(" (rule loss-spike)"));
    assert_eq!(texts[1..], ["loss is usual again at step 309 (rule loss-spike)"]);
    assert_eq!(rules.finish().len(), 1);
}

#[test]
fn names_in_rules_are_those_that_the_program_logs() {
    let mut rules = Rules::new(&[
        Rule {
            above: Some(1.0),
            ..rule("system/*")
        },
        Rule {
            above: Some(1.0),
            ..rule("loss")
        },
    ]);
    rules.log(
        1,
        &[
            ("system/cpu", 2.0),
            ("metrics/loss", 2.0),
            ("metrics/val/loss", 2.0),
            ("metrics/metrics/loss", 2.0),
        ],
    );
    assert_eq!(
        rules.deliver(),
        [
            "system/cpu is 2 at step 1, above 1 (rule system/*-above)",
            "loss is 2 at step 1, above 1 (rule loss-above)"
        ]
    );
    assert!(rules.tripped.is_tripped("loss") && !rules.tripped.is_tripped("metrics/loss"));
}

#[test]
fn one_rule_speaks_once_a_step_and_names_ten_metrics() {
    let names: Vec<String> = (0..14).map(|at| format!("metrics/m{at}")).collect();
    let values: Vec<(&str, f64)> = names.iter().map(|name| (&**name, f64::NAN)).collect();
    let mut rules = Rules::new(&[]);
    // The second call for the step comes before the writer has delivered, the third one after.
    rules.log(7, &values[..6]);
    rules.log(7, &values[6..12]);
    let texts = rules.deliver();
    assert_eq!(texts.len(), 1);
    assert!(
        texts[0].starts_with("12 metrics at step 7 (rule *-nan): m0 is NaN; "),
        "{texts:?}"
    );
    assert!(texts[0].ends_with("; m9 is NaN; and 2 more"), "{texts:?}");
    rules.log(7, &values[12..]);
    assert_eq!(rules.deliver(), [""; 0]);
    assert!(rules.tripped.is_tripped("m13"));
    rules.log(8, &values);
    assert_eq!(
        rules.deliver(),
        ["2 metrics at step 8 (rule *-nan): m12 is NaN; m13 is NaN"],
        "metrics that come later in a step are told at the next one"
    );
    // The incident knows all, and has one row of three calls.
    let incidents = rules.finish();
    assert_eq!(incidents.len(), 2);
    let incident = &incidents[0];
    assert_eq!((incident.episode().breaches.len(), incident.episode().count), (10, 14));
    assert_eq!(
        incident.rows().map(|row| row.values.len()).collect::<Vec<_>>(),
        [14, 14]
    );
}

#[test]
fn metrics_that_turn_bad_in_calls_of_their_own_are_each_told_once() {
    let mut rules = Rules::new(&[]);
    let mut told = Vec::new();
    for step in 7..20 {
        for name in ["metrics/loss", "metrics/grad_norm", "metrics/accuracy"] {
            rules.log(step, &[(name, f64::NAN)]);
            told.extend(rules.deliver());
        }
    }
    let expected = [
        "loss is NaN at step 7 (rule *-nan)",
        "grad_norm is NaN at step 8 (rule *-nan)",
        "accuracy is NaN at step 9 (rule *-nan)",
    ];
    assert_eq!(told, expected);
}

#[test]
fn a_rule_speaks_at_most_once_a_minute_a_metric() {
    let mut rules = Rules::new(&[Rule {
        nan: true,
        window: 10,
        ..rule("*")
    }]);
    for step in 0..70 {
        let loss = if step % 15 == 5 { f64::NAN } else { 1.0 };
        rules.log(step, &[("metrics/loss", loss)]);
    }
    assert_eq!(
        rules.deliver(),
        [
            "loss is NaN at step 5, after 1 (rule *-nan)",
            "loss is finite again at step 15 (rule *-nan)",
            "loss is NaN at step 65, after 1 (rule *-nan)",
        ]
    );
    assert_eq!(rules.finish().len(), 2);
}

#[test]
fn an_episode_that_was_too_early_to_be_told_is_told_if_it_lasts() {
    let mut rules = Rules::new(&[Rule {
        nan: true,
        window: 10,
        ..rule("*")
    }]);
    // A row a second: one bad value, and from step 20 on no good one any more.
    for step in 0..200 {
        let loss = if step == 5 || step >= 20 { f64::NAN } else { 1.0 };
        rules.log(step, &[("metrics/loss", loss)]);
    }
    assert_eq!(
        rules.deliver(),
        [
            "loss is NaN at step 5, after 1 (rule *-nan)",
            "loss is finite again at step 15 (rule *-nan)",
            "loss is NaN at step 65, after 1 (rule *-nan)",
        ]
    );
    assert!(rules.tripped.is_tripped("loss"));
}

#[test]
fn an_incident_has_200_rows_before_and_after_and_comes_when_they_are_complete() {
    let mut rules = Rules::new(&[]);
    for step in 0..2000_u64 {
        let loss = if step == 1000 { f64::NAN } else { step as f64 };
        rules.log(step, &[("metrics/loss", loss), ("system/gpu", 0.5)]);
        // A second call for the same step, and a value that is replaced.
        rules.log(step, &[("metrics/accuracy", 0.25)]);
        rules.log(step, &[("metrics/loss", -1.0)]);
        if step == 1200 {
            assert!(incidents(&rules.found).is_empty());
        }
        if step == 1201 {
            let found = incidents(&rules.found);
            let steps: Vec<_> = found[0].rows().map(|row| row.step).collect();
            assert_eq!(steps, (800..=1200).flat_map(|step| [step, step]).collect::<Vec<_>>());
            let row = found[0].rows().nth(400).unwrap();
            assert!(matches!(row.values[0], ("loss", MetricValue::Float(loss)) if loss.is_nan()));
            assert_eq!(row.values[1..], [("system/gpu", 0.5.into()), ("accuracy", 0.25.into())]);
            assert_eq!(row.time, at(1000));
            assert_eq!(found[0].rows().nth(401).unwrap().values, [("loss", (-1.0).into())]);
        }
    }
    assert!(rules.finish().is_empty());
}

#[test]
fn incidents_that_wait_are_bounded() {
    let names: Vec<String> = (0..1000).map(|at| format!("metrics/m{at}")).collect();
    let mut rules = Rules::new(&[Rule {
        nan: true,
        window: 10,
        ..rule("*")
    }]);
    let mut waiting = Vec::new();
    for step in 0..1500_u64 {
        let is_bad = |at: usize| step % 7 == 0 && at as u64 == step / 7;
        let values = names.iter().enumerate();
        let values: Vec<_> = values
            .map(|(at, name)| (&**name, if is_bad(at) { f64::NAN } else { 1.0 }))
            .collect();
        rules.log(step, &values);
        waiting.extend(incidents(&rules.found));
    }
    waiting.extend(rules.finish());
    assert_eq!(waiting.len(), 100);
    let rows = waiting.iter().flat_map(|incident| incident.rows());
    let values: usize = rows.map(|row| row.values.len()).sum();
    // 3 MiB of values of 16 bytes, and nearly as many are used.
    assert!((150_000..=3 << 16).contains(&values), "{values}");
    // The first ones leave some to the next.
    assert!(waiting[..5].iter().all(|incident| incident.rows().count() >= 5));
}

#[test]
fn an_incident_of_wide_rows_has_as_many_before_as_after() {
    let names: Vec<String> = (0..1000).map(|at| format!("metrics/m{at}")).collect();
    let mut rules = Rules::new(&[]);
    for step in 0..400_u64 {
        let value = if step == 150 { f64::NAN } else { 1.0 };
        let values: Vec<_> = names.iter().map(|name| (&**name, value)).collect();
        rules.log(step, &values);
        if step == 151 {
            // The first rows are on the disk.
            assert!(!all_incidents(&rules.found)[0].is_complete());
        }
    }
    let incident = &incidents(&rules.found)[0];
    let steps: Vec<_> = incident.rows().map(|row| row.step).collect();
    let (first, last) = (150 - steps[0], steps[steps.len() - 1] - 150);
    assert!(first.abs_diff(last) <= 1 && first >= 40, "{first} {last}");
}

#[test]
fn the_file_of_an_incident_with_long_names_is_bounded() {
    let long = format!("metrics/{}", "x".repeat(1 << 20));
    let mut rules = Rules::new(&[]);
    for step in 0..300_u64 {
        let loss = if step == 100 { f64::NAN } else { 1.0 };
        rules.log(step, &[(&long, 0.5), ("metrics/loss", loss)]);
    }
    let incident = &rules.finish()[0];
    let steps: Vec<_> = incident.rows().map(|row| row.step).collect();
    assert!(steps.len() > 10 && steps.contains(&100), "{steps:?}");
    let run = tempfile::tempdir().unwrap();
    let name = write_incident(run.path(), incident, &[], 0, 1).unwrap();
    let file = run.path().join("incidents").join(name);
    assert!(file.metadata().unwrap().len() < 20 << 20);
}

/// Each of these was quadratic in the number of metrics.
#[test]
fn tens_of_thousands_of_metrics_that_come_and_go_bad_at_once_hold_nobody_up() {
    let names: Vec<String> = (0..50_000).map(|at| format!("metrics/m{at}")).collect();
    let mut rules = Rules::new(&[
        Rule { nan: true, ..rule("*") },
        Rule {
            missing: Some("1h".to_owned()),
            ..rule("*")
        },
    ]);
    let begun = std::time::Instant::now();
    for (step, value) in [(0, 1.0), (1, 2.0), (2, f64::NAN)] {
        for names in names.chunks(100) {
            let values: Vec<_> = names.iter().map(|name| (&**name, value)).collect();
            rules.log(step, &values);
        }
    }
    let told = rules.deliver();
    let expected = "50000 metrics at step 2 (rule *-nan): m0 is NaN, after 2; m1 is NaN, after 2;";
    assert!(told[0].starts_with(expected), "{told:?}");
    // A second in a debug build on a busy machine.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

#[test]
fn a_missing_metric_has_an_incident_too() {
    let mut rules = Rules::new(&[Rule {
        missing: Some("2s".to_owned()),
        ..rule("val/*")
    }]);
    let watch = rules.sink.missing_watch().unwrap();
    rules.log(1, &[("metrics/val/loss", 0.5)]);
    let findings: Vec<_> = (0..4).flat_map(|at_check| watch.check(at(at_check))).collect();
    // Nobody knows when the next rows come.
    let [Finding::Incident(first), Finding::Began(episode)] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert!(!first.is_complete() && first.rows().count() == 0);
    let run = tempfile::tempdir().unwrap();
    let name = write_incident(run.path(), first, &[], 0, 1).unwrap();
    assert_eq!(episode.incident_file(), Some(&*name));
    assert!(rules.tripped.is_tripped("val/loss"));
    rules.log(2, &[("metrics/loss", 0.5)]);
    let incident = &rules.finish()[0];
    assert_eq!(
        incident.episode().text(),
        "val/loss has had no value for 2s, since step 1 (rule val/*-missing)"
    );
    assert_eq!(incident.rows().count(), 2);
    assert_eq!(write_incident(run.path(), incident, &[], 0, 1).unwrap(), name);
    assert!(!rules.tripped.is_tripped("val/loss") && watch.check(at(9)).is_empty());
}

#[test]
fn missing_metrics_are_looked_for_while_the_writer_works() {
    let mut rules = Rules::new(&[Rule {
        missing: Some("1s".to_owned()),
        ..rule("*")
    }]);
    let watch = rules.sink.missing_watch().unwrap();
    let start = Barrier::new(2);
    let checked = std::thread::scope(|scope| {
        let checks = std::thread::Builder::new()
            .spawn_scoped(scope, || {
                start.wait();
                (0..1000).map(|_| watch.check(SystemTime::now()).len()).sum::<usize>()
            })
            .unwrap();
        start.wait();
        for step in 0..1000 {
            rules.log(step, &[(["metrics/a", "metrics/b"][step as usize % 2], 1.0)]);
        }
        checks.join().unwrap()
    });
    // The pattern, `a` and `b` begin and end at most once a minute each.
    assert!(checked <= 120);
    drop(rules.sink);
    assert!(!rules.tripped.is_tripped("a") && !rules.tripped.is_tripped("b") && !rules.tripped.is_tripped("*"));
}

#[test]
fn a_sink_that_is_dropped_trips_nothing_any_more() {
    let mut rules = Rules::new(&[]);
    rules.log(1, &[("metrics/loss", f64::NAN)]);
    assert!(rules.tripped.is_tripped("loss"));
    drop(rules.sink);
    assert!(!rules.tripped.is_tripped("loss"));
}

#[test]
fn a_file_holds_the_episode_the_rows_and_the_lines() {
    let mut rules = Rules::new(&[]);
    rules.log(1, &[("metrics/loss", 0.5), ("metrics/\u{202e}n\n", 1.0)]);
    rules.log(2, &[("metrics/loss", f64::NEG_INFINITY), ("metrics/\u{202e}n\n", 2.0)]);
    let incident = &rules.finish()[0];
    let run = tempfile::tempdir().unwrap();
    let lines = ["12:00 WARN \u{202e}one".to_owned()];
    let name = write_incident(run.path(), incident, &lines, 3, 2).unwrap();
    assert_eq!(name, "2-any-nan-rank3-attempt2.json");
    let text = std::fs::read_to_string(run.path().join("incidents").join(name)).unwrap();
    assert!(!text.contains('\u{202e}'));
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "rule": "*-nan",
        "metric": "loss",
        "value": "-Infinity",
        "usual": 0.5,
        "step": 2,
        "time": 1_700_000_002.0,
        "rank": 3,
        "attempt": 2,
        "text": "loss is -inf at step 2, after 0.5 (rule *-nan)",
        "metrics": [{"metric": "loss", "value": "-Infinity", "usual": 0.5}],
        "count": 1,
        "complete": true,
        "rows": [
            {"step": 1, "time": 1_700_000_001.0, "values": {"loss": 0.5, "\u{202e}n\n": 1.0}},
            {"step": 2, "time": 1_700_000_002.0, "values": {"loss": "-Infinity", "\u{202e}n\n": 2.0}},
        ],
        "lines": lines,
    });
    assert_eq!(file, expected);
    assert_eq!(names(&run.path().join("incidents")).len(), 1);
}

#[test]
fn a_file_overwrites_nothing_and_a_run_has_100() {
    let run = tempfile::tempdir().unwrap();
    let folder = run.path().join("incidents");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("7-any-nan.json"), "precious").unwrap();
    for number in 2..=100 {
        let name = write_incident(run.path(), &incident_of("*", 7), &[], 0, 1).unwrap();
        assert_eq!(name, format!("7-any-nan-{number}.json"));
    }
    let incident = incident_of("*", 7);
    let error = write_incident(run.path(), &incident, &[], 0, 1).unwrap_err();
    assert!(error.to_string().contains("100 incidents"), "{error}");
    assert_eq!(incident.episode().incident_file(), None);
    assert_eq!(
        std::fs::read_to_string(folder.join("7-any-nan.json")).unwrap(),
        "precious"
    );
    assert_eq!(names(&folder).len(), 100);
}

#[test]
fn an_incident_has_a_file_at_once_which_is_completed_although_the_run_has_100() {
    let run = tempfile::tempdir().unwrap();
    let folder = run.path().join("incidents");
    let mut rules = Rules::new(&[]);
    for step in 0..3 {
        rules.log(step, &[("metrics/loss", if step == 2 { f64::NAN } else { 0.5 })]);
    }
    rules.sink.deliver().unwrap();
    let findings: Vec<Finding> = rules.found.try_iter().collect();
    let [Finding::Incident(first), Finding::Began(episode)] = &findings[..] else {
        panic!("{findings:?}")
    };
    assert_eq!(
        (first.is_complete(), first.rows().count(), episode.incident_file()),
        (false, 3, None)
    );
    // Another logger has found the same.
    write_incident(run.path(), &incident_of("*", 2), &[], 0, 1).unwrap();
    let name = write_incident(run.path(), first, &[], 0, 1).unwrap();
    assert_eq!((&*name, episode.incident_file()), ("2-any-nan-2.json", Some(&*name)));
    let read = || -> serde_json::Value {
        serde_json::from_str(&std::fs::read_to_string(folder.join(&name)).unwrap()).unwrap()
    };
    assert_eq!(
        (read()["complete"].as_bool(), read()["rows"].as_array().unwrap().len()),
        (Some(false), 3)
    );
    for step in 3..=203 {
        rules.log(step, &[("metrics/loss", 0.5)]);
    }
    (3..=100).for_each(|number| std::fs::write(folder.join(format!("{number}.json")), "").unwrap());
    let second = &incidents(&rules.found)[0];
    assert_eq!(write_incident(run.path(), second, &[], 0, 1).unwrap(), name);
    assert_eq!(
        (read()["complete"].as_bool(), read()["rows"].as_array().unwrap().len()),
        (Some(true), 203)
    );
    assert_eq!(names(&folder).len(), 100);
}

#[test]
fn an_episode_beyond_the_hundredth_of_a_logger_has_no_incident() {
    let mut rules = Rules::new(&[Rule { nan: true, ..rule("*") }]);
    let run = tempfile::tempdir().unwrap();
    let mut named = Vec::new();
    for step in 0..103 {
        // Each metric is bad once.
        rules.log(step, &[(&format!("metrics/m{step}"), f64::NAN)]);
        rules.sink.deliver().unwrap();
        for finding in rules.found.try_iter() {
            match finding {
                Finding::Incident(incident) => drop(write_incident(run.path(), &incident, &[], 0, 1)),
                Finding::Began(episode) => named.push(episode.incident_file().is_some()),
                Finding::Ended(_) => {}
            }
        }
    }
    assert_eq!(
        (named.len(), named.iter().filter(|is_named| **is_named).count()),
        (103, 100)
    );
    assert!(named[..100].iter().all(|is_named| *is_named));
}

#[test]
fn later_attempts_have_their_number_in_the_name() {
    let run = tempfile::tempdir().unwrap();
    let names = (1..=3).map(|attempt| write_incident(run.path(), &incident_of("l*", 7), &[], 3, attempt).unwrap());
    assert_eq!(
        names.collect::<Vec<_>>(),
        [
            "7-lany-nan-rank3.json",
            "7-lany-nan-rank3-attempt2.json",
            "7-lany-nan-rank3-attempt3.json"
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_file_is_not_written_through_a_link() {
    use std::os::unix::fs::symlink;
    let (run, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let incident = incident_of("*", 7);
    symlink(outside.path(), run.path().join("incidents")).unwrap();
    assert!(write_incident(run.path(), &incident, &[], 0, 1).is_err());
    std::fs::remove_file(run.path().join("incidents")).unwrap();
    std::fs::create_dir(run.path().join("incidents")).unwrap();
    symlink(outside.path().join("file"), run.path().join("incidents/7-any-nan.json")).unwrap();
    let name = write_incident(run.path(), &incident, &[], 0, 1).unwrap();
    assert_eq!(name, "7-any-nan-2.json");
    assert_eq!(names(outside.path()), [""; 0]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// For any calls, each value of the last rows is in the incident once, in order.
    #[test]
    fn an_incident_holds_each_value_around_it(
        calls in prop::collection::vec((0..3_u64, prop::collection::btree_set(0..5_usize, 0..5)), 1..60),
        bad in 0..60_usize,
        pattern in "[*]\\PC{0,3}[*]{1,2}",
    ) {
        let mut rules = Rules::new(&[Rule { nan: true, ..rule("*") }, Rule { above: Some(1e300), ..rule(&pattern) }]);
        let (mut step, mut logged) = (0, Vec::new());
        for (at, (steps, metrics)) in calls.iter().enumerate() {
            step += steps;
            let names = ["metrics/a", "metrics/b", "metrics/c", "metrics/d", "time/e"];
            let values = metrics.iter().map(|metric| (names[*metric], at as f64)).collect::<Vec<_>>();
            logged.extend(values.iter().map(|(name, value)| (step, name.trim_start_matches("metrics/"), *value)));
            rules.log(step, &values);
            if at == bad.min(calls.len() - 1) {
                rules.log(step, &[("metrics/bad", f64::NAN)]);
            }
        }
        let incidents = rules.finish();
        prop_assert_eq!(incidents.len(), 1);
        let rows: Vec<_> = incidents[0].rows().collect();
        let values = rows.iter().flat_map(|row| row.values.iter().map(|(name, value)| (row.step, *name, value.as_f64())));
        let values: Vec<_> = values.filter(|(_, name, _)| *name != "bad").collect();
        prop_assert_eq!(values, logged);
        for row in &rows {
            let mut names: Vec<_> = row.values.iter().map(|(name, _)| *name).collect();
            names.sort_unstable();
            prop_assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
