//! The records of a `.wandb` file: the part of W&B's `wandb_internal.proto` that a client writes or `sync` reads.
//!
//! Field numbers are those of the release 0.31.0. What is not named here is skipped when a foreign file is read.

use std::collections::HashMap;

use prost::{Message, Oneof};

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogRecord {
    /// Counts 1, 2, 3, … in the order of the file.
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
    #[prost(
        oneof = "RecordKind",
        tags = "2, 3, 5, 6, 7, 8, 10, 11, 12, 13, 17, 18, 21, 23, 26, 27"
    )]
    pub(crate) kind: Option<RecordKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum RecordKind {
    #[prost(message, tag = "2")]
    History(HistoryRecord),
    #[prost(message, tag = "3")]
    Summary(ItemsRecord),
    #[prost(message, tag = "5")]
    Config(ItemsRecord),
    #[prost(message, tag = "6")]
    Files(FilesRecord),
    #[prost(message, tag = "7")]
    Stats(StatsRecord),
    #[prost(message, tag = "8")]
    Artifact(Box<ArtifactRecord>),
    #[prost(message, tag = "10")]
    Alert(AlertRecord),
    #[prost(message, tag = "11")]
    Telemetry(TelemetryRecord),
    #[prost(message, tag = "12")]
    Metric(MetricRecord),
    #[prost(message, tag = "13")]
    Output(OutputRaw),
    #[prost(message, tag = "17")]
    Run(Box<RunRecord>),
    #[prost(message, tag = "18")]
    Exit(ExitRecord),
    #[prost(message, tag = "21")]
    Header(HeaderRecord),
    #[prost(message, tag = "23")]
    Preempting(PreemptingRecord),
    #[prost(message, tag = "26")]
    Environment(Box<EnvironmentRecord>),
    #[prost(message, tag = "27")]
    OutputLine(OutputLine),
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeaderRecord {
    #[prost(message, optional, tag = "1")]
    pub(crate) version: Option<VersionRecord>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct VersionRecord {
    #[prost(string, tag = "1")]
    pub(crate) producer: String,
    /// The oldest *server* that can take the run.
    #[prost(string, tag = "2")]
    pub(crate) min_consumer: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct RunRecord {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(string, tag = "2")]
    pub(crate) entity: String,
    #[prost(string, tag = "3")]
    pub(crate) project: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) config: Option<ItemsRecord>,
    #[prost(message, optional, tag = "5")]
    pub(crate) summary: Option<ItemsRecord>,
    #[prost(string, tag = "6")]
    pub(crate) run_group: String,
    #[prost(string, tag = "7")]
    pub(crate) job_type: String,
    #[prost(string, tag = "8")]
    pub(crate) display_name: String,
    #[prost(string, tag = "9")]
    pub(crate) notes: String,
    #[prost(string, repeated, tag = "10")]
    pub(crate) tags: Vec<String>,
    #[prost(string, tag = "12")]
    pub(crate) sweep_id: String,
    #[prost(string, tag = "13")]
    pub(crate) host: String,
    #[prost(int64, tag = "14")]
    pub(crate) starting_step: i64,
    #[prost(string, tag = "16")]
    pub(crate) storage_id: String,
    #[prost(message, optional, tag = "17")]
    pub(crate) start_time: Option<Timestamp>,
    #[prost(bool, tag = "18")]
    pub(crate) resumed: bool,
    #[prost(message, optional, tag = "19")]
    pub(crate) telemetry: Option<TelemetryRecord>,
    /// Seconds that earlier parts of the run took.
    #[prost(int32, tag = "20")]
    pub(crate) runtime: i32,
    #[prost(message, optional, tag = "21")]
    pub(crate) git: Option<GitRecord>,
    /// `allow` or `must` was asked, so that `sync` asks the server where the run stands.
    #[prost(bool, tag = "24")]
    pub(crate) resume: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct GitRecord {
    #[prost(string, tag = "1")]
    pub(crate) remote_url: String,
    #[prost(string, tag = "2")]
    pub(crate) commit: String,
}

/// A `ConfigRecord` or a `SummaryRecord`: they have the same form.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ItemsRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<Item>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) remove: Vec<Item>,
}

/// A key or the path of one, and the value as JSON.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    pub(crate) value_json: String,
    /// Newer clients can write a typed value instead; it is only read.
    #[prost(oneof = "TypedValue", tags = "3, 4, 5, 6, 7, 8")]
    pub(crate) typed: Option<TypedValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum TypedValue {
    #[prost(message, tag = "3")]
    Null(NullValue),
    #[prost(bool, tag = "4")]
    Bool(bool),
    #[prost(sint64, tag = "5")]
    Integer(i64),
    #[prost(double, tag = "6")]
    Number(f64),
    #[prost(string, tag = "7")]
    Text(String),
    #[prost(string, tag = "8")]
    Json(String),
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NullValue {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistoryRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) item: Vec<Item>,
    #[prost(message, optional, tag = "2")]
    pub(crate) step: Option<HistoryStep>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct HistoryStep {
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatsRecord {
    #[prost(int32, tag = "1")]
    pub(crate) stats_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) item: Vec<Item>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutputRaw {
    #[prost(int32, tag = "1")]
    pub(crate) output_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    /// Any piece of text, line ends included.
    #[prost(string, tag = "3")]
    pub(crate) line: String,
}

/// `OutputRaw::output_type` of standard output; standard error is 0.
pub(crate) const STDOUT: i32 = 1;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutputLine {
    #[prost(string, tag = "1")]
    pub(crate) line: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ExitRecord {
    #[prost(int32, tag = "1")]
    pub(crate) exit_code: i32,
    /// Whole seconds.
    #[prost(int32, tag = "2")]
    pub(crate) runtime: i32,
    #[prost(bool, tag = "3")]
    pub(crate) not_complete: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PreemptingRecord {}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<FilesItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesItem {
    /// Relative to `files/`, with `/`.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// 0 now, 1 at the end, 2 whenever it changes.
    #[prost(int32, tag = "2")]
    pub(crate) policy: i32,
    /// 0 other, 1 W&B's own, 2 media, 3 artifact.
    #[prost(int32, tag = "3")]
    pub(crate) r#type: i32,
}

/// `FilesItem::type` of media.
pub(crate) const MEDIA: i32 = 2;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct MetricRecord {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) glob_name: String,
    #[prost(string, tag = "4")]
    pub(crate) step_metric: String,
    #[prost(int32, tag = "5")]
    pub(crate) step_metric_index: i32,
    #[prost(message, optional, tag = "6")]
    pub(crate) options: Option<MetricOptions>,
    #[prost(message, optional, tag = "7")]
    pub(crate) summary: Option<MetricSummaryKinds>,
    /// 1 minimise, 2 maximise.
    #[prost(int32, tag = "8")]
    pub(crate) goal: i32,
    #[prost(message, optional, tag = "9")]
    pub(crate) control: Option<MetricControl>,
    #[prost(bool, tag = "10")]
    pub(crate) expanded_from_glob: bool,
}

impl MetricRecord {
    /// A later definition of the same name: what it does not say stays, unless it is to replace the earlier one.
    pub(crate) fn update(&mut self, newer: Self) {
        if newer.control.is_some_and(|control| control.overwrite) {
            *self = newer;
            return;
        }
        if !newer.step_metric.is_empty() {
            self.step_metric = newer.step_metric;
        }
        let (old, new) = (self.options.unwrap_or_default(), newer.options.unwrap_or_default());
        self.options = Some(MetricOptions {
            step_sync: old.step_sync || new.step_sync,
            hidden: old.hidden || new.hidden,
            defined: old.defined || new.defined,
        });
        self.summary = newer.summary.or(self.summary);
        if newer.goal != 0 {
            self.goal = newer.goal;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricOptions {
    #[prost(bool, tag = "1")]
    pub(crate) step_sync: bool,
    #[prost(bool, tag = "2")]
    pub(crate) hidden: bool,
    /// It was defined by the user, and is not only somebody's step metric.
    #[prost(bool, tag = "3")]
    pub(crate) defined: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricSummaryKinds {
    #[prost(bool, tag = "1")]
    pub(crate) min: bool,
    #[prost(bool, tag = "2")]
    pub(crate) max: bool,
    #[prost(bool, tag = "3")]
    pub(crate) mean: bool,
    #[prost(bool, tag = "4")]
    pub(crate) best: bool,
    #[prost(bool, tag = "5")]
    pub(crate) last: bool,
    #[prost(bool, tag = "6")]
    pub(crate) none: bool,
    #[prost(bool, tag = "7")]
    pub(crate) copy: bool,
    #[prost(bool, tag = "8")]
    pub(crate) first: bool,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricControl {
    #[prost(bool, tag = "1")]
    pub(crate) overwrite: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlertRecord {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    #[prost(string, tag = "3")]
    pub(crate) level: String,
    /// Milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) wait_duration: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TelemetryRecord {
    #[prost(message, optional, tag = "3")]
    pub(crate) feature: Option<FeatureRecord>,
    #[prost(string, tag = "5")]
    pub(crate) cli_version: String,
    #[prost(string, tag = "12")]
    pub(crate) core_version: String,
    #[prost(string, tag = "13")]
    pub(crate) platform: String,
}

/// What the run made use of; one flag each.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct FeatureRecord {
    #[prost(bool, tag = "2")]
    pub(crate) finish: bool,
    #[prost(bool, tag = "4")]
    pub(crate) offline: bool,
    #[prost(bool, tag = "5")]
    pub(crate) resumed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArtifactRecord {
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    #[prost(string, tag = "3")]
    pub(crate) entity: String,
    #[prost(string, tag = "4")]
    pub(crate) r#type: String,
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    #[prost(string, tag = "6")]
    pub(crate) digest: String,
    #[prost(string, tag = "7")]
    pub(crate) description: String,
    #[prost(string, tag = "8")]
    pub(crate) metadata: String,
    #[prost(bool, tag = "9")]
    pub(crate) user_created: bool,
    #[prost(bool, tag = "10")]
    pub(crate) use_after_commit: bool,
    #[prost(string, repeated, tag = "11")]
    pub(crate) aliases: Vec<String>,
    #[prost(message, optional, tag = "12")]
    pub(crate) manifest: Option<ManifestRecord>,
    #[prost(bool, tag = "14")]
    pub(crate) finalize: bool,
    #[prost(string, tag = "15")]
    pub(crate) client_id: String,
    #[prost(string, tag = "16")]
    pub(crate) sequence_client_id: String,
    #[prost(string, tag = "20")]
    pub(crate) digest_algorithm: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestRecord {
    #[prost(int32, tag = "1")]
    pub(crate) version: i32,
    #[prost(string, tag = "2")]
    pub(crate) storage_policy: String,
    #[prost(message, repeated, tag = "3")]
    pub(crate) storage_policy_config: Vec<StoragePolicyItem>,
    #[prost(message, repeated, tag = "4")]
    pub(crate) contents: Vec<ManifestEntry>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoragePolicyItem {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value_json: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestEntry {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    #[prost(string, tag = "2")]
    pub(crate) digest: String,
    #[prost(int64, tag = "4")]
    pub(crate) size: i64,
    /// Where the content lies until it is uploaded.
    #[prost(string, tag = "6")]
    pub(crate) local_path: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnvironmentRecord {
    #[prost(string, tag = "1")]
    pub(crate) os: String,
    #[prost(string, tag = "2")]
    pub(crate) python: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) started_at: Option<Timestamp>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) args: Vec<String>,
    #[prost(string, tag = "6")]
    pub(crate) program: String,
    #[prost(string, tag = "7")]
    pub(crate) code_path: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) git: Option<GitRecord>,
    #[prost(string, tag = "11")]
    pub(crate) root: String,
    #[prost(string, tag = "12")]
    pub(crate) host: String,
    #[prost(string, tag = "13")]
    pub(crate) username: String,
    #[prost(string, tag = "14")]
    pub(crate) executable: String,
    #[prost(uint32, tag = "16")]
    pub(crate) cpu_count: u32,
    #[prost(uint32, tag = "17")]
    pub(crate) cpu_count_logical: u32,
    #[prost(string, tag = "18")]
    pub(crate) gpu_type: String,
    #[prost(uint32, tag = "19")]
    pub(crate) gpu_count: u32,
    #[prost(map = "string, message", tag = "20")]
    pub(crate) disk: HashMap<String, DiskRecord>,
    #[prost(message, optional, tag = "21")]
    pub(crate) memory: Option<MemoryRecord>,
    #[prost(string, tag = "199")]
    pub(crate) writer_id: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DiskRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) total: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) used: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MemoryRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) total: u64,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Timestamp {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    #[prost(int32, tag = "2")]
    pub(crate) nanos: i32,
}

impl Timestamp {
    pub(crate) fn of(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        }
    }

    pub(crate) fn seconds(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }
}
