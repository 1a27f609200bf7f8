//! Measures what the rules cost on the writer's thread: nanoseconds a value, the median of many
//! rounds, with ten metrics a batch.
//!
//! Run with `cargo run --release -p logcore-health --example rule_cost`.

#![allow(clippy::print_stdout, reason = "the program shows a table")]

use std::hint::black_box;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use logcore::{MetricBatch, MetricValue, Rule, Sink as _};
use logcore_health::rules::RuleSink;

const ROUNDS: usize = 301;
const STEPS_A_ROUND: usize = 1000;
const METRICS: usize = 10;

fn main() {
    let rule = |change: fn(&mut Rule)| {
        let mut rule = Rule {
            metric: "*".to_owned(),
            ..Rule::default()
        };
        change(&mut rule);
        rule
    };
    let nan = rule(|rule| rule.nan = true);
    let spike = rule(|rule| rule.spike = Some(6.0));
    let others = [
        rule(|rule| rule.above = Some(1e9)),
        rule(|rule| rule.flat = Some(50)),
        rule(|rule| rule.missing = Some("10m".to_owned())),
    ];
    let all = [vec![nan.clone(), spike.clone()], others.into()].concat();
    println!("| rules on each metric | noise | ns a value |");
    println!("|---|---|---|");
    report("nan", "Gaussian", std::slice::from_ref(&nan), 0.0);
    report("nan, spike", "Gaussian", &[nan.clone(), spike.clone()], 0.0);
    report("nan, spike", "with outliers", &[nan, spike], 0.01);
    report("nan, spike, above, flat, missing", "Gaussian", &all, 0.0);
}

/// Measures rules on values with noise, of which so many are outliers of ten sigmas.
fn report(name: &str, noise_name: &str, rules: &[Rule], outliers: f64) {
    let mut sink = RuleSink::new(rules, "metrics/", mpsc::channel().0, Arc::default());
    let names: Vec<_> = (0..METRICS).map(|at| format!("metrics/train/loss_{at}")).collect();
    let mut seed = 1_u64;
    let mut uniform = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 11) as f64 / (1_u64 << 53) as f64
    };
    let mut value = move || {
        // The sum of twelve numbers from 0 to 1 has a variance of 1.
        let noise = (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
        let outlier = if uniform() < outliers { 10.0 } else { 0.0 };
        MetricValue::F32((2.0 + 0.02 * (noise + outlier)) as f32)
    };
    let rows: Vec<Vec<_>> = (0..STEPS_A_ROUND)
        .map(|_| names.iter().map(|name| (&**name, value())).collect())
        .collect();
    let mut step = 0;
    let mut play = || {
        for row in &rows {
            step += 1;
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(step);
            let _ = black_box(sink.metrics(&MetricBatch::at(time, "trainer", step, row)));
        }
    };
    for _ in 0..10 {
        play();
    }
    let mut rounds: Vec<f64> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        play();
        rounds.push(start.elapsed().as_secs_f64() * 1e9 / (STEPS_A_ROUND * METRICS) as f64);
    }
    rounds.sort_by(f64::total_cmp);
    println!("| {name} | {noise_name} | {:.1} |", rounds[ROUNDS / 2]);
}
