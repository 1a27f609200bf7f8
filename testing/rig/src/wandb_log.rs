//! Reads a W&B log by the description of its format, independently of the sink's own reader.
//!
//! 7 bytes of header, then a LevelDB log: blocks of 32 KiB, counted from the beginning of the file,
//! of chunks: CRC-32 over type and payload, length, type, payload. A record is one message of
//! protobuf, of which only this is looked at: `history = 2 { item = 1 { key = 1, nested_key = 2,
//! value_json = 16 } }`, `output_raw = 13 { line = 3 }`, `run = 17 { display_name = 8 }`,
//! `exit = 18 { exit_code = 1 }`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// The content of a log, as far as it is readable.
#[derive(Debug, Default)]
pub(crate) struct LoggedRun {
    pub(crate) name: String,
    /// JSON by key.
    pub(crate) rows: Vec<BTreeMap<String, String>>,
    /// Lines of the console: one message each, with its line end.
    pub(crate) lines: Vec<String>,
    pub(crate) exit_codes: Vec<u64>,
}

/// Returns the paths of the logs below a log directory.
pub(crate) fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let Ok(runs) = fs::read_dir(folder.join("wandb")) else {
        return Ok(found);
    };
    for run in runs {
        let run = run?;
        if run.file_type()?.is_dir() {
            for entry in fs::read_dir(run.path())? {
                let path = entry?.path();
                if path.extension().is_some_and(|ending| ending == "wandb") {
                    found.push(path);
                }
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns the content of a log, and its first fault.
pub(crate) fn read(bytes: &[u8]) -> (LoggedRun, Option<String>) {
    let mut run = LoggedRun::default();
    let mut number = 0;
    let read = each_record(bytes, |record| {
        number += 1;
        take_record(&mut run, record, number)
    });
    (run, read.err())
}

pub(crate) const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];
pub(crate) const BLOCK: usize = 32 << 10;
pub(crate) const CHUNK_HEADER: usize = 7;

/// Gives `take` the bytes of each record, up to the first fault or `None`.
pub(crate) fn each_record(bytes: &[u8], mut take: impl FnMut(&[u8]) -> Option<()>) -> Result<(), String> {
    if bytes.get(..HEADER.len()) != Some(&HEADER) {
        return Err("it does not begin as a W&B log".to_owned());
    }
    let mut at = HEADER.len();
    let mut record = Vec::new();
    // A first chunk may have no payload at all.
    let mut inside = false;
    while at < bytes.len() {
        let room = BLOCK - at % BLOCK;
        if room < CHUNK_HEADER {
            at += room;
            continue;
        }
        let damaged = |what: &str| format!("{what} at byte {at} of {}", bytes.len());
        let header = bytes.get(at..at + CHUNK_HEADER).ok_or_else(|| damaged("a cut chunk"))?;
        let sum = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let content = bytes.get(at + 6..at + CHUNK_HEADER + length);
        let content = content.ok_or_else(|| damaged("a cut chunk"))?;
        if crc32(content) != sum {
            return Err(damaged("a wrong checksum"));
        }
        let (kind, payload) = (content[0], &content[1..]);
        let is_first = matches!(kind, 1 | 2);
        if !(1..=4).contains(&kind) || is_first == inside || CHUNK_HEADER + length > room {
            return Err(damaged("a chunk out of place"));
        }
        record.extend_from_slice(payload);
        inside = matches!(kind, 2 | 3);
        if !inside {
            take(&record).ok_or_else(|| damaged("no protobuf, or out of order,"))?;
            record.clear();
        }
        at += CHUNK_HEADER + length;
    }
    match inside {
        true => Err("its last record has no end".to_owned()),
        false => Ok(()),
    }
}

/// Numbers of two fields.
pub(crate) const HISTORY: u64 = 2;
pub(crate) const OUTPUT: u64 = 13;

fn take_record(run: &mut LoggedRun, record: &[u8], number: u64) -> Option<()> {
    for field in fields(record) {
        match field? {
            (1, ProtoField::Number(num)) if num != number => return None,
            (HISTORY, ProtoField::Bytes(history)) => run.rows.push(row(history)?),
            (OUTPUT, ProtoField::Bytes(output)) => run.lines.push(text(output, 3)?),
            (17, ProtoField::Bytes(about)) => run.name = text(about, 8)?,
            (18, ProtoField::Bytes(exit)) => run.exit_codes.push(exit_code(exit)?),
            _ => {}
        }
    }
    Some(())
}

fn row(history: &[u8]) -> Option<BTreeMap<String, String>> {
    let mut row = BTreeMap::new();
    for field in fields(history) {
        if let (1, ProtoField::Bytes(item)) = field? {
            let mut key = text(item, 1)?;
            if key.is_empty() {
                key = text(item, 2)?;
            }
            // A key twice in a row would hide one of its values.
            if row.insert(key, text(item, 16)?).is_some() {
                return None;
            }
        }
    }
    Some(row)
}

fn exit_code(exit: &[u8]) -> Option<u64> {
    let mut code = 0;
    for field in fields(exit) {
        if let (1, ProtoField::Number(number)) = field? {
            code = number;
        }
    }
    Some(code)
}

/// Returns the text of a field; dots join the parts of a nested key.
fn text(message: &[u8], wanted: u64) -> Option<String> {
    let mut parts = Vec::new();
    for field in fields(message) {
        if let (number, ProtoField::Bytes(bytes)) = field?
            && number == wanted
        {
            parts.push(str::from_utf8(bytes).ok()?);
        }
    }
    Some(parts.join("."))
}

pub(crate) enum ProtoField<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// Returns the fields of a message; `None` stands for bytes that are no field.
pub(crate) fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, ProtoField<'_>)>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest);
        if field.is_none() {
            rest = &[];
        }
        Some(field)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, ProtoField<'a>)> {
    let tag = varint(rest)?;
    let field = match tag & 7 {
        0 => ProtoField::Number(varint(rest)?),
        1 => ProtoField::Bytes(take(rest, 8)?),
        2 => {
            let length = varint(rest)?;
            ProtoField::Bytes(take(rest, usize::try_from(length).ok()?)?)
        }
        5 => ProtoField::Bytes(take(rest, 4)?),
        _ => return None,
    };
    Some((tag >> 3, field))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(taken)
}

pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !bytes
        .iter()
        .fold(!0, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let mut sum = at as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 {
                0xedb8_8320 ^ (sum >> 1)
            } else {
                sum >> 1
            };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_of_the_check_string_is_the_standard_value() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn read_of_a_damaged_log_reports_the_fault() {
        assert!(read(b"no log").1.is_some());
        assert_eq!(read(&HEADER).1, None);
        let cut = [&HEADER[..], &[1, 2, 3]].concat();
        assert!(read(&cut).1.unwrap().contains("cut chunk at byte 7"));
    }
}
