//! Finds the files of a run by rank, and formats sets of ranks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use logcore::FileRank;
use logcore_health::EVENTS_FILE;

use crate::MergeError;
use crate::media::MEDIA_INDEX;
use crate::merge::text::begins_record;
use crate::run_file;

/// The files of a run by rank 0's name and by rank.
pub(crate) type RankFiles = BTreeMap<String, BTreeMap<u32, PathBuf>>;

/// Files that are merged even if only rank 0 has them.
const DEFAULT_NAMES: [&str; 2] = ["training.log", "metrics.jsonl"];
/// Further files of lines that each rank writes.
const OTHER_NAMES: [&str; 3] = ["records.jsonl", EVENTS_FILE, MEDIA_INDEX];
/// Bytes of a text file among whose lines one is a record. A panic may stand before.
const RECORD_WITHIN: u64 = 64 << 10;

/// Returns the files in a folder that several ranks may have. Rotated parts count for their file.
///
/// A program may have files of its own with a rank in the name, such as the weights of a rank. Of
/// names that logcore does not give itself, only those of texts count.
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
    found.retain(|name, files| {
        let is_known = DEFAULT_NAMES.contains(&name.as_str()) || OTHER_NAMES.contains(&name.as_str());
        is_known || is_text(name) || has_records(files, false)
    });
    Ok(found)
}

/// Returns `true` for the files of a name that logcore gives itself, and for texts with a record. A
/// text that cannot be read counts, so that the merge names it.
pub(crate) fn can_be_merged(name: &str, files: &BTreeMap<u32, PathBuf>) -> bool {
    DEFAULT_NAMES.contains(&name) || has_records(files, is_text(name))
}

fn is_text(name: &str) -> bool {
    [".log", ".txt"].iter().any(|ending| name.ends_with(ending))
}

/// Returns `true` if one of the files has a record of a text file among its first lines, and
/// `if_unread` if one that is there cannot be read.
fn has_records(files: &BTreeMap<u32, PathBuf>, if_unread: bool) -> bool {
    files.values().any(|path| {
        let mut start = Vec::new();
        let read = run_file::open(path).and_then(|file| file.take(RECORD_WITHIN).read_to_end(&mut start));
        match read {
            Ok(_) => String::from_utf8_lossy(&start).lines().any(begins_record),
            Err(error) => if_unread && error.kind() != io::ErrorKind::NotFound,
        }
    })
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
    span_list(&spans)
}

/// Returns the ranks below the last that are not in the set, like [`rank_list`]; `None` if there
/// are none. The number in the name of a file may be anything.
pub(crate) fn missing_list(ranks: &BTreeSet<u32>) -> Option<String> {
    let mut spans = Vec::new();
    let mut next = 0;
    for rank in ranks {
        if *rank > next {
            spans.push((next, *rank - 1));
        }
        next = rank.saturating_add(1);
    }
    (!spans.is_empty()).then(|| span_list(&spans))
}

fn span_list(spans: &[(u32, u32)]) -> String {
    let word = match spans {
        [(first, last)] if first == last => "rank",
        _ => "ranks",
    };
    let spans = spans.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    format!("{word} {}", spans.collect::<Vec<_>>().join(","))
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
    fn missing_list_has_the_gaps() {
        for (ranks, words) in [
            (&[0, 1][..], None),
            (&[], None),
            (&[1], Some("rank 0")),
            (&[0, 2, 5, u32::MAX], Some("ranks 1,3-4,6-4294967294")),
        ] {
            assert_eq!(missing_list(&ranks.iter().copied().collect()).as_deref(), words);
        }
    }

    #[test]
    fn find_leaves_files_of_the_program_alone() {
        let folder = tempfile::tempdir().unwrap();
        let record = "2026-11-23 14:48:15.123 | INFO  | trainer | Starting\n";
        for (name, text) in [
            ("model.rank0.pt", "\u{0}\u{1}"),
            ("model.rank1.pt", "\u{0}\u{1}"),
            ("a.rank1.csv", "step,loss\n1,0.5\n"),
            ("out.rank1", record),
            ("records.rank1.jsonl", "{}\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let found = find(folder.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["out", "records.jsonl"]);
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
