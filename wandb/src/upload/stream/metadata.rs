//! The environment of a run in the form of W&B's page.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::log_format::proto::EnvironmentRecord;

/// Returns the content of `wandb-metadata.json`. Empty values are left out.
pub(crate) fn environment_json(environment: &EnvironmentRecord) -> Value {
    let mut all = Map::new();
    let mut put = |name: &str, value: Value| {
        if !matches!(&value, Value::Null) && value != "" && value != 0 && value != json!([]) {
            all.insert(name.to_owned(), value);
        }
    };
    put("os", environment.os.as_str().into());
    put("python", environment.python.as_str().into());
    put("program", environment.program.as_str().into());
    put("codePath", environment.code_path.as_str().into());
    put("root", environment.root.as_str().into());
    put("host", environment.host.as_str().into());
    put("username", environment.username.as_str().into());
    put("executable", environment.executable.as_str().into());
    put("args", environment.args.clone().into());
    put("cpu_count", environment.cpu_count.into());
    put("cpu_count_logical", environment.cpu_count_logical.into());
    put("gpu", environment.gpu_type.as_str().into());
    put("gpu_count", environment.gpu_count.into());
    put("writerId", environment.writer_id.as_str().into());
    if let Some(time) = environment.started_at {
        let at = Timestamp::new(time.seconds, time.nanos).unwrap_or(Timestamp::UNIX_EPOCH);
        put("startedAt", at.to_string().into());
    }
    if let Some(git) = &environment.git {
        put("git", json!({"remote": git.remote_url, "commit": git.commit}));
    }
    // The JSON form of protobuf has 64-bit integers as strings.
    let disks = environment.disk.iter().map(|(path, disk)| {
        let sizes = json!({"total": disk.total.to_string(), "used": disk.used.to_string()});
        (path.clone(), sizes)
    });
    let disks: Map<_, _> = disks.collect();
    if !disks.is_empty() {
        put("disk", disks.into());
    }
    if let Some(memory) = environment.memory {
        put("memory", json!({"total": memory.total.to_string()}));
    }
    if let Some(cpu) = &environment.cpu {
        put("cpu", json!({"model": cpu.model}));
    }
    let gpus = environment.gpu_nvidia.iter().map(|gpu| json!({"name": gpu.name}));
    put("gpu_nvidia", gpus.collect());
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_format::proto::{CpuRecord, GitRecord, GpuRecord, MemoryRecord};

    #[test]
    fn members_have_the_names_of_the_official_client() {
        let environment = EnvironmentRecord {
            args: vec!["--lr".into(), "0.1".into()],
            git: Some(GitRecord {
                remote_url: "git@host:a.git".into(),
                commit: "0c9".into(),
            }),
            memory: Some(MemoryRecord { total: 1 << 40 }),
            cpu: Some(CpuRecord {
                model: "AMD EPYC".into(),
            }),
            gpu_type: "NVIDIA H200".into(),
            gpu_count: 1,
            gpu_nvidia: vec![GpuRecord {
                name: "NVIDIA H200".into(),
            }],
            ..EnvironmentRecord::default()
        };
        let expected = json!({
            "args": ["--lr", "0.1"], "git": {"remote": "git@host:a.git", "commit": "0c9"},
            "memory": {"total": "1099511627776"}, "cpu": {"model": "AMD EPYC"},
            "gpu": "NVIDIA H200", "gpu_count": 1, "gpu_nvidia": [{"name": "NVIDIA H200"}],
        });
        assert_eq!(environment_json(&environment), expected);
        assert_eq!(environment_json(&EnvironmentRecord::default()), json!({}));
    }
}
