//! The serialized form of a config, in files and in JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use log::LevelFilter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LogConfig, OnFull, OnSignal, ProgressRows, RingPlace, Rule, level};

/// The fields of [`LogConfig`], for serde. `LogConfig` implements the serde traits itself, because
/// its errors name the field and a remedy. The compiler reports a field that is missing here.
#[derive(Serialize, Deserialize)]
#[serde(remote = "LogConfig", default = "LogConfig::default", deny_unknown_fields)]
pub(super) struct ConfigFields {
    name: String,
    log_dir: PathBuf,
    run: String,
    run_id: Option<String>,
    resume: Option<String>,
    #[serde(with = "level")]
    console_level: LevelFilter,
    #[serde(with = "level")]
    file_level: LevelFilter,
    filename: String,
    enable_console: bool,
    enable_file: bool,
    enable_wandb: bool,
    enable_progress: bool,
    enable_metrics: bool,
    enable_memory: bool,
    capture_warnings: bool,
    handle_signals: bool,
    #[serde(with = "level")]
    foreign_level: LevelFilter,
    heed_rust_log: bool,
    propagate: bool,
    rank: Option<u32>,
    world_size: Option<u32>,
    rank_files: bool,
    rank_wait: f64,
    #[serde(with = "level")]
    other_ranks_level: LevelFilter,
    other_ranks_wandb: bool,
    wandb_project: Option<String>,
    wandb_name: Option<String>,
    wandb_tags: Vec<String>,
    progress_window: usize,
    progress_smoothing: f64,
    progress_metrics: Vec<String>,
    progress_position: u32,
    progress_leave: bool,
    progress_rows: ProgressRows,
    metrics_window: usize,
    metrics_history: bool,
    metrics_prefix: String,
    hyper_parameters: BTreeMap<String, Value>,
    sinks: BTreeMap<String, Value>,
    probes: BTreeMap<String, Value>,
    directives: String,
    watch_file: Option<PathBuf>,
    fold_repeats: bool,
    limit_per_site: String,
    redact: Vec<String>,
    ring_bytes: usize,
    ring_place: RingPlace,
    on_full: OnFull,
    finish_summary: bool,
    report: bool,
    span_metrics: Vec<String>,
    rules: Vec<Rule>,
    stall_after: String,
    on_signal: OnSignal,
    stop_before: String,
    grace: f64,
    flops_per_sample: Option<f64>,
    peak_flops: Option<f64>,
    flush_timeout: f64,
    finish_timeout: f64,
}
