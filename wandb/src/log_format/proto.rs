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
    /// Content of the record.
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
    /// Versions.
    #[prost(message, optional, tag = "1")]
    pub(crate) version: Option<VersionRecord>,
}

/// The versions of the writer and of the oldest server.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct VersionRecord {
    /// Version of the writer.
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
    /// Id of the run.
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    /// User or team.
    #[prost(string, tag = "2")]
    pub(crate) entity: String,
    /// Project.
    #[prost(string, tag = "3")]
    pub(crate) project: String,
    /// Config of a resumed run.
    #[prost(message, optional, tag = "4")]
    pub(crate) config: Option<ItemsRecord>,
    /// Summary of a resumed run.
    #[prost(message, optional, tag = "5")]
    pub(crate) summary: Option<ItemsRecord>,
    /// Group of the run.
    #[prost(string, tag = "6")]
    pub(crate) run_group: String,
    /// Type of the job.
    #[prost(string, tag = "7")]
    pub(crate) job_type: String,
    /// Display name.
    #[prost(string, tag = "8")]
    pub(crate) display_name: String,
    /// Description for people.
    #[prost(string, tag = "9")]
    pub(crate) notes: String,
    /// Tags.
    #[prost(string, repeated, tag = "10")]
    pub(crate) tags: Vec<String>,
    /// Id of the sweep.
    #[prost(string, tag = "12")]
    pub(crate) sweep_id: String,
    /// Name of the host.
    #[prost(string, tag = "13")]
    pub(crate) host: String,
    /// First step of this part of the run.
    #[prost(int64, tag = "14")]
    pub(crate) starting_step: i64,
    /// The server's internal id of the run.
    #[prost(string, tag = "16")]
    pub(crate) storage_id: String,
    /// Start of this part of the run.
    #[prost(message, optional, tag = "17")]
    pub(crate) start_time: Option<Timestamp>,
    /// `true` if the run resumes a run of the server.
    #[prost(bool, tag = "18")]
    pub(crate) resumed: bool,
    /// Versions and features of the client.
    #[prost(message, optional, tag = "19")]
    pub(crate) telemetry: Option<TelemetryRecord>,
    /// Seconds for which earlier parts of the run lasted.
    #[prost(int32, tag = "20")]
    pub(crate) runtime: i32,
    /// Git commit of the program.
    #[prost(message, optional, tag = "21")]
    pub(crate) git: Option<GitRecord>,
    /// `true` if the run resumes an earlier run whose state is unknown, so that a sync asks the
    /// server.
    #[prost(bool, tag = "24")]
    pub(crate) resume: bool,
    /// `true` if the steps stay as they are, and those that the server has already are not sent.
    /// The official client skips this field, and counts on from the server's newest step.
    #[prost(bool, tag = "1000")]
    pub(crate) keeps_steps: bool,
}

/// The git commit of the program.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GitRecord {
    /// Address of the repository.
    #[prost(string, tag = "1")]
    pub(crate) remote_url: String,
    /// Hash of the commit.
    #[prost(string, tag = "2")]
    pub(crate) commit: String,
}

/// A `ConfigRecord` or a `SummaryRecord`, which have the same form.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ItemsRecord {
    /// Items to set.
    #[prost(message, repeated, tag = "1")]
    pub(crate) update: Vec<Item>,
    /// Items to remove.
    #[prost(message, repeated, tag = "2")]
    pub(crate) remove: Vec<Item>,
}

/// A key, or the path of a nested key, and the value as JSON.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    /// Top-level key. Empty if the item has a path.
    #[prost(string, tag = "1")]
    pub(crate) key: String,
    /// Path of a nested key.
    #[prost(string, repeated, tag = "2")]
    pub(crate) nested_key: Vec<String>,
    /// The value as JSON.
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
    /// Values of the row.
    #[prost(message, repeated, tag = "1")]
    pub(crate) item: Vec<Item>,
    /// Step of the row.
    #[prost(message, optional, tag = "2")]
    pub(crate) step: Option<HistoryStep>,
}

/// The step of a row.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct HistoryStep {
    /// Number of the step.
    #[prost(int64, tag = "1")]
    pub(crate) num: i64,
}

/// Readings of the machine at one time.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StatsRecord {
    /// 0 for readings of the system.
    #[prost(int32, tag = "1")]
    pub(crate) stats_type: i32,
    /// Time of the readings.
    #[prost(message, optional, tag = "2")]
    pub(crate) timestamp: Option<Timestamp>,
    /// The readings.
    #[prost(message, repeated, tag = "3")]
    pub(crate) item: Vec<Item>,
}

/// A part of the console output.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct OutputRaw {
    /// 0 for standard error, 1 for standard output.
    #[prost(int32, tag = "1")]
    pub(crate) output_type: i32,
    /// Time of the output.
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
    /// The line without a line end.
    #[prost(string, tag = "1")]
    pub(crate) line: String,
}

/// The end of a run.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct ExitRecord {
    /// Exit code of the program.
    #[prost(int32, tag = "1")]
    pub(crate) exit_code: i32,
    /// Whole seconds.
    #[prost(int32, tag = "2")]
    pub(crate) runtime: i32,
    /// `true` if another process continues the run.
    #[prost(bool, tag = "3")]
    pub(crate) not_complete: bool,
}

/// Notice that the run is about to be preempted.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct PreemptingRecord {}

/// Files of the run to upload.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilesRecord {
    /// The files.
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
    /// Name of the metric. Empty for a prefix.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Prefix with a trailing `*`. Empty for a single metric.
    #[prost(string, tag = "2")]
    pub(crate) glob_name: String,
    /// Metric of the x-axis.
    #[prost(string, tag = "4")]
    pub(crate) step_metric: String,
    /// Number of the definition of the step metric.
    #[prost(int32, tag = "5")]
    pub(crate) step_metric_index: i32,
    /// Flags.
    #[prost(message, optional, tag = "6")]
    pub(crate) options: Option<MetricOptions>,
    /// Values of the summary.
    #[prost(message, optional, tag = "7")]
    pub(crate) summary: Option<MetricSummaryKinds>,
    /// 1 minimize, 2 maximize.
    #[prost(int32, tag = "8")]
    pub(crate) goal: i32,
    /// Handling of an earlier definition.
    #[prost(message, optional, tag = "9")]
    pub(crate) control: Option<MetricControl>,
    /// `true` if the definition follows from a prefix.
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
    /// Rows without the step metric get its last value.
    #[prost(bool, tag = "1")]
    pub(crate) step_sync: bool,
    /// The metric has no automatic chart.
    #[prost(bool, tag = "2")]
    pub(crate) hidden: bool,
    /// `true` if the user defined the metric, `false` if it is only a step metric.
    #[prost(bool, tag = "3")]
    pub(crate) defined: bool,
}

/// The values that the summary of a metric has.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricSummaryKinds {
    /// Least value.
    #[prost(bool, tag = "1")]
    pub(crate) min: bool,
    /// Greatest value.
    #[prost(bool, tag = "2")]
    pub(crate) max: bool,
    /// Mean.
    #[prost(bool, tag = "3")]
    pub(crate) mean: bool,
    /// Best value, by the goal.
    #[prost(bool, tag = "4")]
    pub(crate) best: bool,
    /// Last value.
    #[prost(bool, tag = "5")]
    pub(crate) last: bool,
    /// No summary.
    #[prost(bool, tag = "6")]
    pub(crate) none: bool,
    /// The plain last value.
    #[prost(bool, tag = "7")]
    pub(crate) copy: bool,
    /// First value.
    #[prost(bool, tag = "8")]
    pub(crate) first: bool,
}

/// The handling of an earlier definition of the same metric.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MetricControl {
    /// The definition replaces an earlier one.
    #[prost(bool, tag = "1")]
    pub(crate) overwrite: bool,
}

/// A notification for people.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AlertRecord {
    /// Title.
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    /// Text.
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    /// `INFO`, `WARN` or `ERROR`.
    #[prost(string, tag = "3")]
    pub(crate) level: String,
    /// Time between equal alerts in milliseconds.
    #[prost(int64, tag = "4")]
    pub(crate) wait_duration: i64,
}

/// Versions and features of the client.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TelemetryRecord {
    /// Used features.
    #[prost(message, optional, tag = "3")]
    pub(crate) feature: Option<FeatureRecord>,
    /// Version of the client.
    #[prost(string, tag = "5")]
    pub(crate) cli_version: String,
    /// Version of the core of the official client.
    #[prost(string, tag = "12")]
    pub(crate) core_version: String,
    /// Operating system and architecture.
    #[prost(string, tag = "13")]
    pub(crate) platform: String,
}

/// Features that the run used.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct FeatureRecord {
    /// The program ended the run.
    #[prost(bool, tag = "2")]
    pub(crate) finish: bool,
    /// The run was offline.
    #[prost(bool, tag = "4")]
    pub(crate) offline: bool,
    /// The run was resumed.
    #[prost(bool, tag = "5")]
    pub(crate) resumed: bool,
}

/// An artifact of the run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ArtifactRecord {
    /// Id of the run.
    #[prost(string, tag = "1")]
    pub(crate) run_id: String,
    /// Project of the run.
    #[prost(string, tag = "2")]
    pub(crate) project: String,
    /// Entity of the run.
    #[prost(string, tag = "3")]
    pub(crate) entity: String,
    /// Type of the artifact.
    #[prost(string, tag = "4")]
    pub(crate) r#type: String,
    /// Name of the artifact.
    #[prost(string, tag = "5")]
    pub(crate) name: String,
    /// Digest of the manifest.
    #[prost(string, tag = "6")]
    pub(crate) digest: String,
    /// Description for people.
    #[prost(string, tag = "7")]
    pub(crate) description: String,
    /// JSON object.
    #[prost(string, tag = "8")]
    pub(crate) metadata: String,
    /// `true` if a user created the artifact explicitly.
    #[prost(bool, tag = "9")]
    pub(crate) user_created: bool,
    /// `true` if the run also uses the artifact.
    #[prost(bool, tag = "10")]
    pub(crate) use_after_commit: bool,
    /// Names of the version.
    #[prost(string, repeated, tag = "11")]
    pub(crate) aliases: Vec<String>,
    /// List of the files.
    #[prost(message, optional, tag = "12")]
    pub(crate) manifest: Option<ManifestRecord>,
    /// `true` if the artifact is complete.
    #[prost(bool, tag = "14")]
    pub(crate) finalize: bool,
    /// Random id of the version.
    #[prost(string, tag = "15")]
    pub(crate) client_id: String,
    /// Random id of the artifact of all versions.
    #[prost(string, tag = "16")]
    pub(crate) sequence_client_id: String,
    /// Algorithm of the digest.
    #[prost(string, tag = "20")]
    pub(crate) digest_algorithm: String,
}

/// The list of the files of an artifact.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ManifestRecord {
    /// Version of the format.
    #[prost(int32, tag = "1")]
    pub(crate) version: i32,
    /// Name of the storage.
    #[prost(string, tag = "2")]
    pub(crate) storage_policy: String,
    /// Settings of the storage.
    #[prost(message, repeated, tag = "3")]
    pub(crate) storage_policy_config: Vec<StoragePolicyItem>,
    /// The files.
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
    /// Path in the artifact.
    #[prost(string, tag = "1")]
    pub(crate) path: String,
    /// MD5 digest in base64.
    #[prost(string, tag = "2")]
    pub(crate) digest: String,
    /// Size in bytes.
    #[prost(int64, tag = "4")]
    pub(crate) size: i64,
    /// Path of the copy that is uploaded.
    #[prost(string, tag = "6")]
    pub(crate) local_path: String,
}

/// The machine, the user and the program of a run.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct EnvironmentRecord {
    /// Operating system and architecture.
    #[prost(string, tag = "1")]
    pub(crate) os: String,
    /// Version of Python.
    #[prost(string, tag = "2")]
    pub(crate) python: String,
    /// Start of the run.
    #[prost(message, optional, tag = "3")]
    pub(crate) started_at: Option<Timestamp>,
    /// Arguments of the program.
    #[prost(string, repeated, tag = "5")]
    pub(crate) args: Vec<String>,
    /// Name of the program.
    #[prost(string, tag = "6")]
    pub(crate) program: String,
    /// Path of the program in its repository.
    #[prost(string, tag = "7")]
    pub(crate) code_path: String,
    /// Git commit of the program.
    #[prost(message, optional, tag = "9")]
    pub(crate) git: Option<GitRecord>,
    /// Working folder.
    #[prost(string, tag = "11")]
    pub(crate) root: String,
    /// Name of the host.
    #[prost(string, tag = "12")]
    pub(crate) host: String,
    /// Name of the user.
    #[prost(string, tag = "13")]
    pub(crate) username: String,
    /// Path of the executable.
    #[prost(string, tag = "14")]
    pub(crate) executable: String,
    /// Number of CPU cores.
    #[prost(uint32, tag = "16")]
    pub(crate) cpu_count: u32,
    /// Number of logical CPUs.
    #[prost(uint32, tag = "17")]
    pub(crate) cpu_count_logical: u32,
    /// Name of the GPU.
    #[prost(string, tag = "18")]
    pub(crate) gpu_type: String,
    /// Number of GPUs.
    #[prost(uint32, tag = "19")]
    pub(crate) gpu_count: u32,
    /// Disks by path.
    #[prost(map = "string, message", tag = "20")]
    pub(crate) disk: HashMap<String, DiskRecord>,
    /// Memory of the machine.
    #[prost(message, optional, tag = "21")]
    pub(crate) memory: Option<MemoryRecord>,
    /// Model of the CPU.
    #[prost(message, optional, tag = "22")]
    pub(crate) cpu: Option<CpuRecord>,
    /// NVIDIA's GPUs.
    #[prost(message, repeated, tag = "24")]
    pub(crate) gpu_nvidia: Vec<GpuRecord>,
    /// Id of the writer of this log. Ids sort by time.
    #[prost(string, tag = "199")]
    pub(crate) writer_id: String,
}

/// The CPU of a machine.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CpuRecord {
    /// Name of the model.
    #[prost(string, tag = "3")]
    pub(crate) model: String,
}

/// A GPU of NVIDIA's.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct GpuRecord {
    /// Name of the model.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

/// The size of a disk in bytes.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct DiskRecord {
    /// Size in bytes.
    #[prost(uint64, tag = "1")]
    pub(crate) total: u64,
    /// Used bytes.
    #[prost(uint64, tag = "2")]
    pub(crate) used: u64,
}

/// The size of the memory in bytes.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct MemoryRecord {
    /// Size in bytes.
    #[prost(uint64, tag = "1")]
    pub(crate) total: u64,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(crate) struct Timestamp {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
    /// Nanoseconds of the second.
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
