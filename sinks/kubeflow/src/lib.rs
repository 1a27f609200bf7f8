//! The sink `kubeflow`: progress, remaining time and metrics in the status of a Kubeflow TrainJob.
//!
//! ```toml
//! [sinks.kubeflow]
//! ```
//!
//! Kubeflow Trainer (2.2 and later, with its feature gate for the status of jobs) gives the
//! containers of a TrainJob an address, a token and a certificate. The sink of rank 0 posts there
//! what `kubectl get trainjob` and dashboards then show. Elsewhere the sink does nothing, and says
//! so once.
//!
//! - **Progress** is that of the outermost open progress or bar whose total is known; the remaining
//!   time is the estimate that its bar shows.
//! - **Metrics** are the newest values, by the names that the program gave them. Names of more than
//!   64 characters are left out, because the server would refuse the whole status.
//! - **The end** of a run with exit code 0 is 100 %. After another end the last percentage stands.
//! - **Seldom**: one request in [`period`](#options) seconds, and one at the end. Only the newest
//!   status counts, so nothing is kept that could not be sent.
//! - **The token rotates**: it is read again for each request. So is the certificate after a
//!   failure.
//! - **The run never waits** for the server. A line says what does not work, once for each kind.
//!
//! # Options
//!
//! Under `sinks.kubeflow` in the config:
//!
//! | name | default | meaning |
//! |---|---|---|
//! | `metrics` | `["*"]` | names of metrics; `val/*` are all that begin with `val/`. The first 32 are sent |
//! | `period` | `5.0` | seconds between two requests, at least 5 |
//! | `url` | `KUBEFLOW_TRAINER_SERVER_URL` | the address of the status |
//! | `token_file` | `KUBEFLOW_TRAINER_SERVER_TOKEN` | path of the token |
//! | `ca_file` | `KUBEFLOW_TRAINER_SERVER_CA_CERT` | path of the certificate that the server's is checked against |
//!
//! The protocol is that of Kubeflow's guide [TrainJob progress][guide].
//!
//! [guide]: https://github.com/kubeflow/trainer/blob/master/docs/user-guides/trainjob-progress.md

mod options;
mod reporter;
mod sink;
mod status;

pub use self::sink::KubeflowSink;
