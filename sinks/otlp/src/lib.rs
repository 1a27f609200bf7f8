//! The sink `otlp`: records and metrics over OTLP/HTTP with protobuf, to a collector or any backend
//! that takes OpenTelemetry.
//!
//! ```toml
//! [sinks.otlp]
//! endpoint = "http://localhost:4318"
//! ```
//!
//! - **Records** go to `/v1/logs`, with their severity (5, 9, 13, 17), typed fields as attributes,
//!   `logcore.logger`, `logcore.step` (the step of the newest metrics) and, for records of the
//!   `log` facade, `code.namespace`. They are written to `<run>/otlp/logs.spool` first, and sent
//!   from there in batches: a receiver that is away loses nothing until `spool_mb` wait.
//! - **Metrics** go to `/v1/metrics` as gauges, each `period`: the last value of each name that
//!   matches `metrics`. The step is no attribute, because each step would be a series of its own.
//!   Metrics wait in memory only.
//! - **The resource** has `service.name` (the logger), `service.instance.id` (the id of the run),
//!   `host.name`, `process.pid`, `logcore.rank`, and in Kubernetes `k8s.pod.name` and the like.
//! - **Every rank sends.**
//! - **The run never waits.** Requests that fail with 429, 502, 503 or 504 are repeated, after
//!   `Retry-After` if the receiver names a time. Refused records are dropped and counted.
//! - **After a kill**, the next start in the same `log_dir` sends what was not sent, if its
//!   receiver is the same; a resumed run sends what its earlier attempts have left. A batch whose
//!   reply was lost may come twice.
//!
//! # Options
//!
//! Under `sinks.otlp` in the config; `sinks.otlp = true` is enough:
//!
//! | name | type | default | meaning |
//! |---|---|---|---|
//! | `endpoint` | text | `http://localhost:4318` | address, to which `/v1/logs` and `/v1/metrics` are added |
//! | `headers` | table | | headers of all requests; their values are secrets |
//! | `level` | `"trace"` to `"error"` | `"info"` | least severe records |
//! | `logs` | bool | `true` | send records |
//! | `metrics` | list | `["memory/*", "throughput/*", "system/*", "progress/*"]` | names of metrics, `*` for any characters; `[]` sends none |
//! | `period` | number | 15 | seconds between two exports of the metrics |
//! | `min_max` | bool | `false` | send `<name>.min` and `<name>.max` of each period, too |
//! | `spool_mb` | number | 256 | MB (1e6 bytes) of records that wait; further ones are dropped |
//! | `resource` | table | | further attributes of the resource |
//! | `timeout` | number | 10 | seconds after which a request without progress fails |
//!
//! # Variables
//!
//! These variables of OpenTelemetry hold where no option says anything:
//! `OTEL_EXPORTER_OTLP_ENDPOINT`, `_HEADERS`, `_TIMEOUT` (milliseconds), `_COMPRESSION` (`gzip`,
//! the default, or `none`), `_CERTIFICATE` (a file of trusted certificates in PEM), `_PROTOCOL`
//! (only `http/protobuf`), and their forms `OTEL_EXPORTER_OTLP_LOGS_…` and
//! `OTEL_EXPORTER_OTLP_METRICS_…`, which go first; `OTEL_RESOURCE_ATTRIBUTES` and
//! `OTEL_SERVICE_NAME`.
//!
//! # Example
//!
//! ```
//! # use std::io::{Read as _, Write as _};
//! # let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
//! # let endpoint = format!("http://{}", listener.local_addr().unwrap());
//! # let server = std::thread::spawn(move || {
//! #     let (mut stream, _) = listener.accept().unwrap();
//! #     let mut request = [0; 4096];
//! #     let count = stream.read(&mut request).unwrap();
//! #     stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
//! #     String::from_utf8_lossy(&request[..count]).into_owned()
//! # });
//! # let folder = tempfile::tempdir().unwrap();
//! use std::time::Duration;
//!
//! use logcore::{BuildContext, Deadline, LogConfig, Notices, Record, StopFlag, log, registry, serde_json::json};
//! use logcore_otlp as _;
//!
//! let config = LogConfig { log_dir: folder.path().into(), ..LogConfig::default() };
//! let stop = StopFlag::default();
//! let context = BuildContext::new(&config, &stop);
//! let mut sink = registry::build_sink("otlp", &json!({"endpoint": endpoint}), &context).unwrap();
//! sink.start(&Notices::new(|_, line| eprintln!("{line}"))).unwrap();
//! sink.record(&Record::new(log::Level::Info, "trainer", "begins")).unwrap();
//!
//! let deadline = Deadline::after(Duration::from_secs(30));
//! sink.finish(deadline).unwrap();
//! let (books, result) = sink.pending_delivery().unwrap()(deadline);
//! assert_eq!((books.delivered, result.is_ok()), (1, true));
//! # assert!(server.join().unwrap().starts_with("POST /v1/logs HTTP/1.1"));
//! ```

mod client;
mod gauge_sender;
mod gauges;
mod log_record;
mod log_sender;
mod message;
mod name_pattern;
mod resource;
mod settings;
mod sink;
mod spool;

pub use self::sink::OtlpSink;
