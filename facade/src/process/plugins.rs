//! Names each plugin crate, because the linker drops a crate that only the manifest names, and its
//! registration with it.

#[cfg(feature = "console")]
use logcore_console as _;
#[cfg(feature = "file")]
use logcore_file as _;
#[cfg(feature = "gpu")]
use logcore_gpu as _;
#[cfg(feature = "jsonl")]
use logcore_jsonl as _;
#[cfg(feature = "kubeflow")]
use logcore_kubeflow as _;
#[cfg(feature = "memory")]
use logcore_memory as _;
#[cfg(feature = "mlflow")]
use logcore_mlflow as _;
#[cfg(feature = "otlp")]
use logcore_otlp as _;
#[cfg(feature = "tensorboard")]
use logcore_tensorboard as _;
#[cfg(feature = "wandb")]
use logcore_wandb as _;
#[cfg(feature = "webhook")]
use logcore_webhook as _;
