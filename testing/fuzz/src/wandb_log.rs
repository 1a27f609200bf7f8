//! W&B logs: files of any bytes, and records of any bytes in chunks with valid checksums.

use std::fs;

use crate::{folder, killed, sections};

const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];
const BLOCK: usize = 32 << 10;
const CHUNK_HEADER: usize = 7;

/// Reads a log. The first byte chooses its form, the second the record behind which the log is
/// resumed.
pub(crate) fn run(input: &[u8]) {
    let Some((&[kind, record], rest)) = input.split_first_chunk() else {
        return;
    };
    let bytes = match kind % 2 {
        0 => rest.to_vec(),
        _ => chunks(rest),
    };
    let path = folder::path().join("run-x.wandb");
    fs::write(&path, bytes).expect("a file is written");
    logcore_wandb::fuzzing::read_log(&path, usize::from(record));
    // An import takes what there is, and tells the damage. Bytes that begin otherwise are no log.
    let _ = logcore_wandb::read_log(&path, &mut |_| Ok(()));
    folder::clear();
}

/// A log as it is, cut and with bits that have flipped; and the records of it.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let left = killed::files();
    let log = left.iter().find(|(name, _)| name.ends_with(".wandb"));
    let (_, log) = log.expect("a log was left");
    let whole = [&[0, 3], log.as_slice()].concat();
    let mut flipped = whole.clone();
    flipped[log.len() / 2] ^= 4;
    let cut = whole[..whole.len() - 5].to_vec();
    let mut records = vec![1, 3];
    let mut rest = &log[HEADER.len()..];
    while let Some((header, after)) = rest.split_first_chunk::<CHUNK_HEADER>() {
        let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
        let Some((payload, after)) = after.split_at_checked(length) else {
            break;
        };
        sections::put(header[6], payload, &mut records);
        rest = after;
    }
    vec![whole, flipped, cut, records]
}

/// A log of these chunks: `kind, payload`. A chunk that does not fit a block is cut, as a foreign
/// writer might.
fn chunks(input: &[u8]) -> Vec<u8> {
    let mut log = HEADER.to_vec();
    for (kind, payload) in sections::read(input) {
        let room = BLOCK - log.len() % BLOCK;
        if room < CHUNK_HEADER {
            log.resize(log.len() + room, 0);
        }
        let room = BLOCK - log.len() % BLOCK - CHUNK_HEADER;
        let payload = &payload[..payload.len().min(room)];
        let mut sum = crc32fast::Hasher::new();
        sum.update(&[kind]);
        sum.update(payload);
        log.extend_from_slice(&sum.finalize().to_le_bytes());
        log.extend_from_slice(&(payload.len() as u16).to_le_bytes());
        log.push(kind);
        log.extend_from_slice(payload);
    }
    log
}
