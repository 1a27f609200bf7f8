//! The media of a run as JSON for the page: groups of the values of one key, which a person looks
//! through step by step.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use logcore::{MediaContent, MediaDescription, StoredMedia};
use serde_json::{Value, json};

use crate::StoredRun;
use crate::report::page::escape;
use crate::report::text_lines::clip;

/// The most values of a group: more are thinned.
const MOST_OF_GROUP: usize = 100;
/// The most groups of a run, and the most ranges of a histogram: an index may come from anybody.
const MOST_GROUPS: usize = 300;
const MOST_RANGES: usize = 4096;
/// The most bytes of the media of a run that is live: each new value sends all of them again.
const MOST_LIVE: usize = 512 << 10;
/// The most bytes of a text or page, and the most rows of a table, that a report holds.
const MOST_TEXT: usize = 100_000;
const MOST_ROWS: usize = 1000;

/// How the page gets the files of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MediaSource {
    /// The content is in the page.
    Inline,
    /// The page asks its server for the path.
    Server,
}

/// The media of a run for the page.
#[derive(Debug, Default)]
pub(super) struct MediaData {
    /// A JSON array of groups, escaped; empty if there are none.
    pub(super) json: String,
    /// The number of values in it.
    pub(super) values: usize,
    /// The number of values that the run has besides.
    pub(super) left_out: usize,
}

/// Values of one key, kind, logger and rank.
type Groups<'a> = BTreeMap<(&'a str, &'static str, &'a str, u32), Vec<&'a StoredMedia>>;

impl MediaData {
    /// Reads what fits into `room` bytes. Each group has its last value before any has a second
    /// one.
    pub(super) fn read(run: &StoredRun, source: MediaSource, room: usize) -> Self {
        let Ok(media) = run.media() else {
            return Self::default();
        };
        let room = match source {
            MediaSource::Inline => room,
            MediaSource::Server => room.min(MOST_LIVE),
        };
        let mut groups = Groups::new();
        for (rank, value) in &media.values {
            let about = &value.description;
            let key = (&*about.key, about.content.kind(), &*value.logger, *rank);
            groups.entry(key).or_default().push(value);
        }
        while groups.len() > MOST_GROUPS {
            groups.pop_last();
        }
        let mut turns: Vec<(usize, usize, usize)> = Vec::new();
        for (group, values) in groups.values_mut().enumerate() {
            values.sort_by_key(|value| value.description.step);
            let order = spread(values.len()).into_iter().take(MOST_OF_GROUP);
            turns.extend(order.enumerate().map(|(turn, at)| (turn, group, at)));
        }
        turns.sort_unstable();
        let heads: Vec<String> = groups.keys().map(|key| head(*key)).collect();
        let all: Vec<&Vec<&StoredMedia>> = groups.values().collect();
        let mut taken: Vec<BTreeMap<usize, String>> = vec![BTreeMap::new(); all.len()];
        let mut left = room.saturating_sub(2);
        for (_, group, at) in turns {
            // The content of an image takes four bytes for three.
            let bytes = match &all[group][at].description {
                MediaDescription {
                    file: Some(file),
                    content: MediaContent::Image { .. },
                    ..
                } => file.size / 3 * 4,
                _ => 0,
            };
            if source == MediaSource::Inline && bytes > left as u64 {
                continue;
            }
            let Ok(value) = item(run, all[group][at], source) else {
                continue;
            };
            let begins = if taken[group].is_empty() {
                heads[group].len() + 3
            } else {
                0
            };
            let size = value.len() + 1 + begins;
            if size <= left {
                left -= size;
                taken[group].insert(at, value);
            }
        }
        let values = taken.iter().map(BTreeMap::len).sum();
        let groups = heads.iter().zip(&taken).filter(|(_, items)| !items.is_empty());
        let groups = groups.map(|(head, items)| {
            let items: Vec<&str> = items.values().map(String::as_str).collect();
            format!("{head}{}]}}", items.join(","))
        });
        let groups: Vec<String> = groups.collect();
        Self {
            json: match groups.is_empty() {
                true => String::new(),
                false => format!("[{}]", groups.join(",")),
            },
            values,
            left_out: media.values.len() - values,
        }
    }
}

/// Returns the beginning of a group, up to its items.
fn head((key, kind, logger, rank): (&str, &str, &str, u32)) -> String {
    let head =
        escape(&json!({"key": clip(key, 200), "kind": kind, "logger": clip(logger, 200), "rank": rank}).to_string());
    format!("{},\"items\":[", head.strip_suffix('}').unwrap_or(&head))
}

/// Returns one value as JSON, with its content or its path.
fn item(run: &StoredRun, value: &StoredMedia, source: MediaSource) -> io::Result<String> {
    let about = &value.description;
    let mut item = json!({"step": about.step, "time": value.time});
    if let Some(caption) = &about.caption {
        item["caption"] = clip(caption, 2000).into();
    }
    if let MediaContent::Histogram { counts, edges } = &about.content {
        if counts.len() > MOST_RANGES || edges.len() != counts.len() + 1 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        item["counts"] = json!(counts);
        item["edges"] = json!(edges);
    }
    if let Some(file) = &about.file {
        let read = |limit| run.read_media(&file.path, limit);
        match (source, &about.content) {
            (MediaSource::Server, _) => item["path"] = file.path.as_str().into(),
            (_, MediaContent::Image { format, .. }) => {
                let kind = if format == "png" { "png" } else { "jpeg" };
                let bytes = read(super::MAX_DATA_BYTES as u64)?;
                item["url"] = format!("data:image/{kind};base64,{}", STANDARD.encode(bytes)).into();
            }
            (_, MediaContent::Table { .. }) => item["table"] = table(&read(super::MAX_DATA_BYTES as u64)?)?,
            (_, MediaContent::Html | MediaContent::Text) => {
                let bytes = read(super::MAX_DATA_BYTES as u64)?;
                item["text"] = clip(&String::from_utf8_lossy(&bytes), MOST_TEXT).into();
            }
            _ => {}
        }
        if about.content == MediaContent::File {
            item["size"] = file.size.into();
        }
    }
    Ok(escape(&item.to_string()))
}

/// Returns the first rows of a table file.
fn table(bytes: &[u8]) -> io::Result<Value> {
    let mut table: Value = serde_json::from_slice(bytes)?;
    if let Some(rows) = table["data"].as_array_mut() {
        rows.truncate(MOST_ROWS);
    }
    Ok(json!({"columns": table["columns"], "data": table["data"]}))
}

/// Returns the numbers below `count` in an order whose beginnings are spread: the last, the first,
/// the middle, then the middles between.
fn spread(count: usize) -> Vec<usize> {
    let mut order = Vec::with_capacity(count);
    order.extend(count.checked_sub(1));
    if count > 1 {
        order.push(0);
    }
    let mut spans = std::collections::VecDeque::from([(0, count.saturating_sub(1))]);
    while let Some((low, high)) = spans.pop_front() {
        if high - low < 2 || order.len() >= MOST_OF_GROUP {
            continue;
        }
        let middle = usize::midpoint(low, high);
        order.push(middle);
        spans.extend([(low, middle), (middle, high)]);
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_number_comes_once_and_early_ones_are_spread(count in 0_usize..300) {
            let order = spread(count);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            sorted.dedup();
            prop_assert_eq!(sorted.len(), order.len());
            prop_assert_eq!(order.len(), count.min(MOST_OF_GROUP));
            prop_assert!(order.iter().all(|at| *at < count));
            if count > 0 {
                prop_assert_eq!((order[0], sorted[0]), (count - 1, 0));
                let widest = sorted.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(0);
                prop_assert!(widest <= count / 32 + 1, "{widest} of {count}");
            }
        }
    }
}
