//! A crate that is only named in a manifest is not linked, and its registration is then not there: each is named here.

#[cfg(feature = "console")]
use logcore_console as _;
#[cfg(feature = "file")]
use logcore_file as _;
#[cfg(feature = "gpu")]
use logcore_gpu as _;
#[cfg(feature = "jsonl")]
use logcore_jsonl as _;
#[cfg(feature = "memory")]
use logcore_memory as _;
#[cfg(feature = "wandb")]
use logcore_wandb as _;
