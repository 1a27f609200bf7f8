//! Writes a W&B log anew, with other records: damage that no checksum and no record number reveals.

use crate::wandb_log::{BLOCK, CHUNK_HEADER, HEADER, ProtoField, crc32, each_record, fields};

/// Returns the log with the records of field `wanted` (see [`wandb_log`](crate::wandb_log)) as
/// `change` leaves them, and all others as they are; `None` if the log is not readable.
///
/// The changed records stand together, at the position of the first.
pub(crate) fn rewrite(bytes: &[u8], wanted: u64, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Option<Vec<u8>> {
    let mut records = Vec::new();
    each_record(bytes, |record| {
        records.push(without_number(record)?);
        Some(())
    })
    .ok()?;
    let is_wanted = |record: &Vec<u8>| fields(record).flatten().any(|(field, _)| field == wanted);
    let place = records.iter().position(is_wanted)?;
    let (mut changed, mut others): (Vec<_>, Vec<_>) = records.into_iter().partition(is_wanted);
    change(&mut changed);
    others.splice(place..place, changed);
    let mut log = HEADER.to_vec();
    for (at, record) in others.iter().enumerate() {
        let mut numbered = vec![NUMBER_TAG];
        put_varint(&mut numbered, at as u64 + 1);
        numbered.extend_from_slice(record);
        put_record(&mut log, &numbered);
    }
    Some(log)
}

/// `num = 1`, a varint, which our sink and the official client write first.
const NUMBER_TAG: u8 = 8;

fn without_number(record: &[u8]) -> Option<Vec<u8>> {
    let Some(Some((1, ProtoField::Number(_)))) = fields(record).next() else {
        return None;
    };
    let length = 1 + record[1..].iter().position(|byte| *byte < 0x80)? + 1;
    Some(record[length..].to_vec())
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_record(log: &mut Vec<u8>, mut rest: &[u8]) {
    let mut first = true;
    loop {
        let mut room = BLOCK - log.len() % BLOCK;
        if room < CHUNK_HEADER {
            log.resize(log.len() + room, 0);
            room = BLOCK;
        }
        let (part, after) = rest.split_at(rest.len().min(room - CHUNK_HEADER));
        let kind = match (first, after.is_empty()) {
            (true, true) => 1,
            (true, false) => 2,
            (false, false) => 3,
            (false, true) => 4,
        };
        let content = [&[kind], part].concat();
        log.extend_from_slice(&crc32(&content).to_le_bytes());
        log.extend_from_slice(&(part.len() as u16).to_le_bytes());
        log.extend_from_slice(&content);
        (first, rest) = (false, after);
        if rest.is_empty() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wandb_log::{self, OUTPUT};

    #[test]
    fn rewrite_result_reads_back() {
        let mut log = HEADER.to_vec();
        for (number, length) in [(1, 3), (2, 40_000), (3, BLOCK - 20), (4, 0)] {
            let line = "x".repeat(length);
            let mut output = vec![3 << 3 | 2];
            put_varint(&mut output, length as u64);
            output.extend_from_slice(line.as_bytes());
            let mut record = vec![NUMBER_TAG, number, (OUTPUT as u8) << 3 | 2];
            put_varint(&mut record, output.len() as u64);
            record.extend_from_slice(&output);
            put_record(&mut log, &record);
        }
        let lengths = |log: &[u8]| {
            let (run, damage) = wandb_log::read(log);
            assert_eq!(damage, None);
            run.lines.iter().map(String::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&log), [3, 40_000, BLOCK - 20, 0]);
        let same = rewrite(&log, OUTPUT, |_| {}).unwrap();
        assert_eq!(same, log);
        let other = rewrite(&log, OUTPUT, |records| drop(records.remove(1))).unwrap();
        assert_eq!(lengths(&other), [3, BLOCK - 20, 0]);
    }
}
