//! The file `run-<id>.wandb`: a LevelDB log of protobuf records.
//!
//! After a header of 7 bytes come blocks of 32 KiB, counted from byte 0 of the file. A block holds
//! chunks: checksum (CRC-32 over type and payload, little endian), payload length, type, payload. A
//! record that does not fit the rest of its block continues in the next block. So a file that is
//! cut anywhere is readable up to the last complete record.

pub(crate) mod items;
pub(crate) mod json;
mod live_log;
mod log_file;
pub(crate) mod proto;
mod reader;
mod row_record;
mod writer;

pub(crate) use self::live_log::LiveLog;
pub(crate) use self::reader::{LogEntry, LogReadError, LogReader};
pub(crate) use self::row_record::{RowItem, RowView};
pub(crate) use self::writer::{LogEnd, LogLoss, LogWriter};

/// `:W&B`, the number 0xBEE1 and version 0.
const HEADER: [u8; 7] = [b':', b'W', b'&', b'B', 0xe1, 0xbe, 0];
/// Bytes of a block.
const BLOCK: usize = 32 << 10;
/// Checksum, length, type.
const CHUNK_HEADER: usize = 7;

/// Types of chunks: a complete record, or a part of a record.
const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;

/// Returns the number of a record as a position in the log. A log of others may have any numbers.
pub(crate) fn position_of(num: i64) -> u64 {
    u64::try_from(num).unwrap_or(0)
}

/// Returns the checksum of a chunk. Unlike in LevelDB, the checksum is not masked.
fn checksum(kind: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[kind]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::log_format::proto::{ExitRecord, LogRecord, OutputLine, RecordKind};

    fn record(text: &str) -> RecordKind {
        RecordKind::OutputLine(OutputLine { line: text.to_owned() })
    }

    fn read_all(path: &std::path::Path) -> Vec<LogRecord> {
        let mut reader = LogReader::open(path).unwrap();
        let mut all = Vec::new();
        while let Ok(LogEntry::Record(record)) = reader.next() {
            all.push(record);
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Records of all lengths around the ends of blocks are read back, and a cut loses only the
        /// records after it.
        #[test]
        fn written_records_are_read_back_up_to_a_cut(
            lengths in prop::collection::vec(
                prop_oneof![0_usize..40, 32_700_usize..32_780, 65_000_usize..70_000],
                1..12,
            ),
            cut in 0.0..1.0,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("run-x.wandb");
            let mut writer = LogWriter::create(&path, []).unwrap();
            let mut ends = Vec::new();
            for length in &lengths {
                writer.append(record(&"x".repeat(*length)));
                writer.write_out().unwrap();
                ends.push(fs::metadata(&path).unwrap().len());
            }
            let read = read_all(&path);
            prop_assert_eq!(read.len(), lengths.len());
            for (at, (record, length)) in read.iter().zip(&lengths).enumerate() {
                prop_assert_eq!(record.num, at as i64 + 1);
                let Some(RecordKind::OutputLine(OutputLine { line })) = &record.kind else { panic!("another kind") };
                prop_assert_eq!(line.len(), *length);
            }
            let size = (fs::metadata(&path).unwrap().len() as f64 * cut) as u64;
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
            if size >= 7 {
                let whole = ends.iter().filter(|end| **end <= size).count();
                prop_assert_eq!(read_all(&path).len(), whole);
            }
        }

        #[test]
        fn random_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x.wandb");
            let mut file = HEADER.to_vec();
            file.extend(&bytes);
            fs::write(&path, file).unwrap();
            let mut reader = LogReader::open(&path).unwrap();
            while let Ok(LogEntry::Record(_)) = reader.next() {}
        }
    }

    #[test]
    fn a_reader_follows_a_growing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-x.wandb");
        let mut writer = LogWriter::create(&path, []).unwrap();
        let mut reader = LogReader::open(&path).unwrap();
        assert!(matches!(reader.next(), Ok(LogEntry::End)));
        let long = "y".repeat(100_000);
        writer.append(record(&long));
        writer.append(RecordKind::Exit(ExitRecord::default()));
        writer.write_out().unwrap();
        assert!(matches!(reader.next(), Ok(LogEntry::Record(_))));
        assert!(matches!(reader.next(), Ok(LogEntry::Record(_))));
        assert!(matches!(reader.next(), Ok(LogEntry::End)));
        writer.append(record("z"));
        assert!(matches!(reader.next(), Ok(LogEntry::End)));
        writer.write_out().unwrap();
        assert!(matches!(reader.next(), Ok(LogEntry::Record(record)) if record.num == 3));
    }

    #[test]
    fn a_flipped_bit_is_detected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-x.wandb");
        let mut writer = LogWriter::create(&path, []).unwrap();
        writer.append(record("hello"));
        writer.append(record("world"));
        writer.write_out().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let mut reader = LogReader::open(&path).unwrap();
        assert!(matches!(reader.next(), Ok(LogEntry::Record(_))));
        assert!(matches!(reader.next(), Err(LogReadError::Damaged { .. })));
    }

    #[test]
    fn a_log_with_the_greatest_record_number_can_be_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-x.wandb");
        let mut first = LogWriter::create(&path, [record("one")]).unwrap();
        first.write_out().unwrap();
        let end = LogEnd {
            num: i64::MAX,
            ..first.end()
        };
        let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        let mut writer = LogWriter::continue_at(&path, file, end).unwrap();
        writer.append(RecordKind::Exit(ExitRecord::default()));
        writer.write_out().unwrap();
        assert_eq!(read_all(&path).last().unwrap().num, i64::MAX);
    }

    #[test]
    fn a_second_log_of_the_same_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run-x.wandb");
        let _first = LogWriter::create(&path, []).unwrap();
        assert!(LogWriter::create(&path, []).is_err());
    }
}
