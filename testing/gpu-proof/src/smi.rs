//! Asks `nvidia-smi`, which comes with the driver.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::child;

/// The program reads for 20 s at most; it was seen to take 18 s where nothing keeps the driver
/// loaded.
const LONGEST: Duration = Duration::from_secs(20);

/// Returns the fields of each GPU, by NVML's index. A field that the GPU does not have is `None`.
///
/// # Errors
///
/// If `nvidia-smi` cannot be started, does not know a field, or answers something else.
pub(crate) fn query(fields: &[&str]) -> Result<Vec<Vec<Option<f64>>>> {
    let mut command = Command::new("nvidia-smi");
    command
        .arg(format!("--query-gpu={}", fields.join(",")))
        .arg("--format=csv,noheader,nounits");
    let output = child::run(&mut command, Instant::now() + LONGEST)?;
    ensure!(
        output.code == Some(0),
        "nvidia-smi refuses {}: {} ({})",
        fields.join(","),
        output.stdout.trim(),
        output.end
    );
    parse(&output.stdout, fields.len()).context("cannot read the answer of nvidia-smi")
}

fn parse(csv: &str, fields: usize) -> Result<Vec<Vec<Option<f64>>>> {
    let lines = csv.lines().filter(|line| !line.trim().is_empty());
    let gpus: Vec<Vec<Option<f64>>> = lines
        .map(|line| line.split(',').map(|field| field.trim().parse().ok()).collect())
        .collect();
    ensure!(
        !gpus.is_empty() && gpus.iter().all(|gpu| gpu.len() == fields),
        "{csv:?} has not {fields} fields for each GPU"
    );
    Ok(gpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_numbers_or_missing() {
        let gpus = parse("1024, 35, 81.25\n0, [N/A], [Not Supported]\n", 3).unwrap();
        assert_eq!(gpus[0], [Some(1024.0), Some(35.0), Some(81.25)]);
        assert_eq!(gpus[1], [Some(0.0), None, None]);
    }

    #[test]
    fn other_answers_are_errors() {
        for csv in ["", "1, 2\n", "Unable to determine the device handle\n"] {
            assert!(parse(csv, 3).is_err(), "{csv:?}");
        }
    }
}
