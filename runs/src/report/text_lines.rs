//! The newest text lines of a run.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::civil::DateTime;
use logcore::files::open_no_follow;

use crate::merge::LocalClock;

/// Most bytes of a line that are shown.
const MAX_LINE: usize = 2000;
/// Most rotated parts of a file that are looked at.
pub(super) const MAX_PARTS: u32 = 20;

/// A line, with the time at its beginning, or at the beginning of the nearest line before it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TextLine {
    /// Milliseconds since 1970, if they are known.
    pub(super) millis: Option<i64>,
    pub(super) rank: u32,
    pub(super) text: String,
}

/// The newest lines of all files, the oldest of them first.
#[derive(Debug, Default)]
pub(super) struct TextLines {
    pub(super) lines: Vec<TextLine>,
    /// Whether the files have earlier lines.
    pub(super) has_earlier: bool,
    /// Files that cannot be read, each with its error.
    pub(super) problems: Vec<(PathBuf, io::Error)>,
}

impl TextLines {
    /// Reads the newest lines of the files of the ranks: at most `lines`, with at most `bytes`.
    ///
    /// Local times count as those of this machine, unless that puts them out of `span`, the
    /// milliseconds from the start of the run to its end.
    pub(super) fn read(files: &BTreeMap<u32, PathBuf>, lines: usize, bytes: usize, span: (i64, i64)) -> Self {
        let mut read = Self::default();
        for (rank, path) in files {
            match read_tail(path, bytes) {
                Ok((text, has_earlier)) => {
                    read.has_earlier |= has_earlier;
                    read.lines.extend(split_lines(&text, *rank, span));
                }
                Err(error) => read.problems.push((path.clone(), error)),
            }
        }
        if files.len() > 1 {
            read.lines.sort_by_key(|line| line.millis);
        }
        let mut kept = read.lines.len().saturating_sub(lines);
        let mut size: usize = read.lines[kept..].iter().map(|line| line.text.len()).sum();
        while size > bytes {
            size -= read.lines[kept].text.len();
            kept += 1;
        }
        read.has_earlier |= kept > 0;
        read.lines.drain(..kept);
        read
    }
}

/// Reads the last bytes of a file and its rotated parts, from the beginning of a line. Returns
/// whether there are earlier ones.
fn read_tail(path: &Path, most: usize) -> io::Result<(String, bool)> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    let mut room = most as u64;
    let mut has_earlier = false;
    for number in 0..MAX_PARTS {
        let mut name = path.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let mut file = match open_no_follow(Path::new(&name)) {
            Ok(file) => file,
            Err(error) if number == 0 && error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) if number == 0 => continue,
            Err(_) => break,
        };
        let start = file.metadata()?.len().saturating_sub(room);
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        file.take(room).read_to_end(&mut piece)?;
        room -= piece.len() as u64;
        has_earlier = start > 0;
        if has_earlier {
            let end = piece.iter().position(|byte| *byte == b'\n');
            piece.drain(..end.map_or(piece.len(), |end| end + 1));
        }
        pieces.push(piece);
        if has_earlier {
            break;
        }
    }
    pieces.reverse();
    Ok((String::from_utf8_lossy(&pieces.concat()).into_owned(), has_earlier))
}

pub(super) fn split_lines(text: &str, rank: u32, span: (i64, i64)) -> Vec<TextLine> {
    let mut is_zoned = false;
    let clock = LocalClock::new();
    let mut before = None;
    let mut millis = None;
    let lines = text.lines().map(|line| {
        let line = without_colors(line);
        if let Some(time) = parse_zoned(&line) {
            is_zoned = true;
            millis = Some(time);
        } else if let Some(local) = parse_local(&line) {
            let time = clock.time(local, before);
            before = Some(time);
            millis = Some(time.millis);
        }
        TextLine {
            millis,
            rank,
            text: clip(&line, MAX_LINE),
        }
    });
    let mut lines: Vec<TextLine> = lines.collect();
    if !is_zoned {
        let times = lines.iter().filter_map(|line| line.millis);
        let zone = times
            .clone()
            .min()
            .zip(times.max())
            .map_or(0, |times| find_zone(times, span));
        let times = lines.iter_mut().filter_map(|line| line.millis.as_mut());
        times.for_each(|millis| *millis += zone);
    }
    lines
}

/// Returns the milliseconds that bring times of another time zone, or of UTC, into the span of the
/// run: the last line comes nearest to the end.
fn find_zone((first, last): (i64, i64), (start, end): (i64, i64)) -> i64 {
    const QUARTER: i64 = 15 * 60_000;
    const TOLERANCE: i64 = 2 * 60_000;
    let is_inside = |zone: &i64| first + zone >= start - TOLERANCE && last + zone <= end + TOLERANCE;
    if is_inside(&0) {
        return 0;
    }
    // Time zones are up to 14 hours from UTC, so two of them differ by at most 26.
    let zones = (-26 * 4..=26 * 4).map(|quarters| quarters * QUARTER);
    zones.filter(is_inside).max().unwrap_or(0)
}

/// Returns the milliseconds since 1970 of `2026-11-23T14:48:15.123Z`.
fn parse_zoned(line: &str) -> Option<i64> {
    let stamp = line.split([' ', '\t']).next().filter(|stamp| stamp.len() <= 40)?;
    Some(stamp.parse::<Timestamp>().ok()?.as_millisecond())
}

/// Returns the calendar time of `2026-11-23 14:48:15.123`.
fn parse_local(line: &str) -> Option<DateTime> {
    let is_stamp = |stamp: &&str| matches!(stamp.as_bytes()[10], b' ' | b'T');
    let parse = |length| line.get(..length).filter(is_stamp)?.parse().ok();
    parse(23).or_else(|| parse(19))
}

/// Removes the codes of terminal colors, which the formatter `colored` writes.
fn without_colors(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let codes = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        text.push_str(codes.strip_prefix('m').unwrap_or(part));
    }
    text
}

/// Shortens a text to at most so many bytes.
pub(super) fn clip(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(folder: &Path, ranks: &[u32], lines: usize, bytes: usize) -> TextLines {
        let files = ranks.iter().map(|rank| match rank {
            0 => (0, folder.join("training.log")),
            rank => (*rank, folder.join(format!("training.rank{rank}.log"))),
        });
        TextLines::read(&files.collect(), lines, bytes, (0, i64::MAX / 2))
    }

    fn texts(lines: &TextLines) -> Vec<&str> {
        lines.lines.iter().map(|line| &*line.text).collect()
    }

    #[test]
    fn the_newest_lines_come_from_all_parts() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("training.log.1"), "one\ntwo\nthree\n").unwrap();
        fs::write(folder.path().join("training.log"), "four\nfive").unwrap();
        let all = read(folder.path(), &[0], 9, 100);
        assert_eq!(
            (texts(&all), all.has_earlier),
            (vec!["one", "two", "three", "four", "five"], false)
        );
        let few = read(folder.path(), &[0], 2, 100);
        assert_eq!((texts(&few), few.has_earlier), (vec!["four", "five"], true));
        let short = read(folder.path(), &[0], 9, 16);
        assert_eq!(
            (texts(&short), short.has_earlier),
            (vec!["three", "four", "five"], true)
        );
        assert!(read(folder.path(), &[0], 9, 0).lines.is_empty());
    }

    #[test]
    fn ranks_are_sorted_by_time() {
        let folder = tempfile::tempdir().unwrap();
        let stamp = |second| format!("2026-11-23 14:48:{second:02}.123 | INFO  | a | at {second}\n");
        fs::write(folder.path().join("training.log"), stamp(1) + "  more\n" + &stamp(5)).unwrap();
        fs::write(folder.path().join("training.rank2.log"), stamp(3)).unwrap();
        let lines = read(folder.path(), &[0, 2], 9, 1000);
        let ranks: Vec<_> = lines.lines.iter().map(|line| line.rank).collect();
        assert_eq!(ranks, [0, 0, 2, 0]);
        let seconds: Vec<_> = lines
            .lines
            .iter()
            .map(|line| line.millis.unwrap() - lines.lines[0].millis.unwrap())
            .collect();
        assert_eq!(seconds, [0, 0, 2000, 4000]);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "secret\n").unwrap();
        std::os::unix::fs::symlink("secret", folder.path().join("training.log")).unwrap();
        let lines = read(folder.path(), &[0], 9, 1000);
        assert!(lines.lines.is_empty());
        assert!(lines.problems[0].1.to_string().contains("link"));
        fs::remove_file(folder.path().join("training.log")).unwrap();
        fs::write(folder.path().join("training.log"), "mine\n").unwrap();
        std::os::unix::fs::symlink("secret", folder.path().join("training.log.1")).unwrap();
        assert_eq!(texts(&read(folder.path(), &[0], 9, 1000)), ["mine"]);
    }

    #[test]
    fn times_of_another_zone_come_into_the_run() {
        const HOUR: i64 = 3_600_000;
        let span = (100 * HOUR, 110 * HOUR);
        assert_eq!(find_zone((101 * HOUR, 102 * HOUR), span), 0);
        assert_eq!(find_zone((95 * HOUR, 104 * HOUR), span), 6 * HOUR);
        assert_eq!(find_zone((106 * HOUR, 115 * HOUR + 1000), span), -5 * HOUR);
        assert_eq!(find_zone((0, HOUR), span), 0, "no zone is so far away");
    }

    #[test]
    fn times_and_colors_of_each_formatter_are_understood() {
        assert_eq!(parse_zoned("1970-01-01T00:00:01.5Z | INFO"), Some(1500));
        assert_eq!(parse_zoned("12 | INFO"), None);
        assert!(parse_local("2026-11-23 14:48:15 | INFO").is_some());
        assert_eq!(parse_local("2026-11-23é14:48:15.1234 | INFO"), None);
        assert_eq!(without_colors("\u{1b}[1;32mgreen\u{1b}[0m \u{1b}[x"), "green x");
        assert_eq!((clip("ééé", 6), clip("éééé", 6)), ("ééé".to_owned(), "é…".to_owned()));
    }
}
