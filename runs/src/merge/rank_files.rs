//! Finds the files of a run by rank, and formats sets of ranks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use logcore::FileRank;

use crate::MergeError;

/// The files of a run by rank 0's name and by rank.
pub(crate) type RankFiles = BTreeMap<String, BTreeMap<u32, PathBuf>>;

/// Files that are merged even if only rank 0 has them.
const DEFAULT_NAMES: [&str; 2] = ["training.log", "metrics.jsonl"];

/// Returns the files in a folder that several ranks may have. Rotated parts count for their file.
pub(crate) fn find(folder: &Path) -> Result<RankFiles, MergeError> {
    let unreadable = |error| MergeError::Unreadable {
        path: folder.to_owned(),
        line: 0,
        error,
    };
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name();
        if let Some(name) = name.to_str().filter(|name| !name.starts_with('.'))
            && !entry.path().is_dir()
        {
            names.insert(unrotated(name).to_owned());
        }
    }
    let mut found = RankFiles::new();
    for name in &names {
        if let Some((first, rank)) = FileRank::parse(name) {
            found.entry(first).or_default().insert(rank, folder.join(name));
        }
    }
    for name in names {
        if found.contains_key(&name) || DEFAULT_NAMES.contains(&name.as_str()) {
            let path = folder.join(&name);
            found.entry(name).or_default().insert(0, path);
        }
    }
    Ok(found)
}

/// Returns `training.log` for `training.log.3`.
fn unrotated(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((rest, number)) if !rest.is_empty() && number.parse::<u32>().is_ok() => rest,
        _ => name,
    }
}

/// Returns the mark of a record that these ranks have logged.
///
/// ```
/// use std::collections::BTreeSet;
///
/// assert_eq!(logcore_runs::rank_mark(&BTreeSet::from([3])), "[rank 3]");
/// assert_eq!(logcore_runs::rank_mark(&BTreeSet::from([0, 1, 2, 5])), "[ranks 0-2,5]");
/// ```
#[must_use]
pub fn rank_mark(ranks: &BTreeSet<u32>) -> String {
    format!("[{}]", rank_list(ranks))
}

/// Returns `rank 3` or `ranks 0-2,5`.
pub(crate) fn rank_list(ranks: &BTreeSet<u32>) -> String {
    let mut spans: Vec<(u32, u32)> = Vec::new();
    for rank in ranks {
        match spans.last_mut() {
            Some((_, last)) if *last + 1 == *rank => *last = *rank,
            _ => spans.push((*rank, *rank)),
        }
    }
    let spans: Vec<String> = spans
        .into_iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {}", spans.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rank_mark_joins_ranges() {
        for (ranks, words) in [
            (&[3][..], "[rank 3]"),
            (&[0, 1], "[ranks 0-1]"),
            (&[0, 1, 2, 5], "[ranks 0-2,5]"),
            (&[1, 3, 4], "[ranks 1,3-4]"),
        ] {
            assert_eq!(rank_mark(&ranks.iter().copied().collect()), words);
        }
    }

    #[test]
    fn find_includes_rotated_parts() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "training.log",
            "training.log.1",
            "training.rank2.log.7",
            "eval.rank1.log",
            "metrics.jsonl",
            "training.merged.log",
            "notes.log",
            ".logcore-1-a.rank1.ring",
        ] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find(folder.path()).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|(name, files)| (name.as_str(), files.keys().copied().collect::<Vec<_>>()))
            .collect();
        assert_eq!(
            shown,
            [
                ("eval.log", vec![1]),
                ("metrics.jsonl", vec![0]),
                ("training.log", vec![0, 2])
            ]
        );
        assert_eq!(found["training.log"][&2], folder.path().join("training.rank2.log"));
    }
}
