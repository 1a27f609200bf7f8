//! The records of a `.wandb` file: the part of W&B's `wandb_internal.proto` that this crate writes
//! or reads.
//!
//! Field numbers are those of the release 0.31.0. Readers skip unknown fields.

use std::collections::HashMap;

use prost::{Message, Oneof};

/// A record of the log, with its number.
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

/// The content of a record.
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

/// The first record of a log.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HeaderRecord {
    #[prost(message, optional, tag = "1")]
    pub(crate) version: Option<VersionRecord>,
}

/// The versions of the writer and of the oldest server.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct VersionRecord {
    #[prost(string, tag = "1")]
    pub(crate) producer: String,
    /// The oldest *server* that accepts the run.
    #[prost(string, tag = "2")]
    pub(crate) min_consumer: String,
}

/// The names and the start of a run. Later records of this kind change the name, the notes and the
/// tags.
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
    /// Seconds for which earlier parts of the run lasted.
    #[prost(int32, tag = "20")]
    pub(crate) runtime: i32,
    #[prost(message, optional, tag = "21")]
    pub(crate) git: Option<GitRecord>,
    /// `true` if the run resumes an earlier run whose state is unknown, so that a sync asks the
    /// server.
    #[prost(bool, tag = "24")]
    pub(crate) resume: bool,
}

/// The git commit of the program.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GitRecord {
    #[prost(string, tag = "1")]
    pub(crate) remote_url: String,
    #[prost(string, tag = "2")]
    pub(crate) commit: String,
}

/// A `ConfigRecord` or a `SummaryRecord`, which have the same form.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ItemsRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<Item>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) remove: Vec<Item>,
}

/// A key, or the path of a nested key, and the value as JSON.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) nested_key: Vec<String>,
    #[prost(string, tag = "16")]
    pub(crate) value_json: String,
    /// A typed value, which newer clients write instead of JSON.
    #[prost(oneof = "TypedValue", tags = "3, 4, 5, 6, 7, 8")]
    pub(crate) typed: Option<TypedValue>,
}

/// A value of a newer client.
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

/// The JSON value null.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct NullValue {}

/// A row.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HistoryRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) item: Vec<Item>,
    #[prost(message, optional, tag = "2")]
    pub(crate) step: Option<HistoryStep>,
}

/// The step of a row.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct HistoryStep {
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
}

/// Readings of the machine at one time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatsRecord {
    #[prost(int32, tag = "1")]
    pub(crate) stats_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) item: Vec<Item>,
}

/// A part of the console output.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutputRaw {
    #[prost(int32, tag = "1")]
    pub(crate) output_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    /// Text with line ends, not necessarily a complete line.
    #[prost(string, tag = "3")]
    pub(crate) line: String,
}

/// `OutputRaw::output_type` of standard output; standard error is 0.
pub(crate) const STDOUT: i32 = 1;

/// A console line without a time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutputLine {
    #[prost(string, tag = "1")]
    pub(crate) line: String,
}

/// The end of a run.
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

/// Notice that the run is about to be preempted.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PreemptingRecord {}

/// Files of the run to upload.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesRecord {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<FilesItem>,
}

/// A file of the run to upload.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesItem {
    /// Relative to `files/`, with `/`.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// Time of the upload: 0 now, 1 at the end of the run, 2 whenever the file changes.
    #[prost(int32, tag = "2")]
    pub(crate) policy: i32,
    /// Type of the file: 0 other, 1 W&B's own, 2 media, 3 artifact.
    #[prost(int32, tag = "3")]
    pub(crate) r#type: i32,
}

/// `FilesItem::type` of media.
pub(crate) const MEDIA: i32 = 2;

/// The definition of a metric.
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
    /// 1 minimize, 2 maximize.
    #[prost(int32, tag = "8")]
    pub(crate) goal: i32,
    #[prost(message, optional, tag = "9")]
    pub(crate) control: Option<MetricControl>,
    #[prost(bool, tag = "10")]
    pub(crate) expanded_from_glob: bool,
}

impl MetricRecord {
    /// Merges a later definition of the same name, or replaces this one if the later definition
    /// asks for that.
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

/// Flags of the definition of a metric.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricOptions {
    #[prost(bool, tag = "1")]
    pub(crate) step_sync: bool,
    #[prost(bool, tag = "2")]
    pub(crate) hidden: bool,
    /// `true` if the user defined the metric, `false` if it is only a step metric.
    #[prost(bool, tag = "3")]
    pub(crate) defined: bool,
}

/// The values that the summary of a metric has.
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

/// The handling of an earlier definition of the same metric.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricControl {
    #[prost(bool, tag = "1")]
    pub(crate) overwrite: bool,
}

/// A notification for people.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlertRecord {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    #[prost(string, tag = "3")]
    pub(crate) level: String,
    /// Time between equal alerts in milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) wait_duration: i64,
}

/// Versions and features of the client.
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

/// Features that the run used.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct FeatureRecord {
    #[prost(bool, tag = "2")]
    pub(crate) finish: bool,
    #[prost(bool, tag = "4")]
    pub(crate) offline: bool,
    #[prost(bool, tag = "5")]
    pub(crate) resumed: bool,
}

/// An artifact of the run.
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

/// The list of the files of an artifact.
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

/// A setting of the storage of an artifact.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StoragePolicyItem {
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    #[prost(string, tag = "2")]
    pub(crate) value_json: String,
}

/// A file of an artifact.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestEntry {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    #[prost(string, tag = "2")]
    pub(crate) digest: String,
    #[prost(int64, tag = "4")]
    pub(crate) size: i64,
    /// Path of the copy that is uploaded.
    #[prost(string, tag = "6")]
    pub(crate) local_path: String,
}

/// The machine, the user and the program of a run.
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

/// The size of a disk in bytes.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DiskRecord {
    #[prost(uint64, tag = "1")]
    pub(crate) total: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) used: u64,
}

/// The size of the memory in bytes.
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
    /// Converts a time. Times before 1970 become 1970.
    pub(crate) fn from_system(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        }
    }

    /// Returns the seconds since 1970.
    pub(crate) fn seconds(self) -> f64 {
        self.seconds as f64 + f64::from(self.nanos) / 1e9
    }
}
