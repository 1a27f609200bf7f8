//! Assembles frames that are too long for the ring from their chunks.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use super::bytes::ByteCursor;
use super::decode::decode_chunk;
use crate::ring::file::create_private_file;
use crate::ring::queue::FrameKind;

/// The chunks of frames that are not complete yet.
///
/// Chunks that were read cannot stay in the ring, or the ring would never have room for the rest.
/// So each chunk is also kept in a file, in case the process is killed before its frame is
/// complete.
#[derive(Default)]
pub(crate) struct ChunkAssembler {
    incomplete: HashMap<u64, Vec<u8>>,
    /// The path of the file, if the ring outlives the process.
    path: Option<PathBuf>,
    file: Option<File>,
    /// Number of valid bytes in the file.
    kept: u64,
}

impl ChunkAssembler {
    /// Keeps chunks in the file at `path`, too.
    pub(crate) fn with_file(path: Option<PathBuf>) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    /// Restores the chunks of a killed process from its file, of which the first `kept` bytes are
    /// valid.
    pub(crate) fn restore(file: Option<File>, kept: u64) -> Self {
        let mut assembler = Self::default();
        let mut bytes = Vec::new();
        // Without the file a long message is lost, and nothing else.
        if let Some(file) = file {
            let _ = file.take(kept).read_to_end(&mut bytes);
        }
        let mut cursor = ByteCursor::new(&bytes);
        while let Some(length) = cursor.u32()
            && let Some(body) = cursor.take(length as usize)
        {
            // Complete frames were delivered before the checkpoint.
            let _ = assembler.append(body);
        }
        assembler
    }

    /// Adds a chunk to its frame. Returns the frame if the chunk completes it.
    pub(crate) fn add(&mut self, body: &[u8]) -> Option<(FrameKind, Vec<u8>)> {
        let complete = self.append(body);
        if complete.is_none() || !self.incomplete.is_empty() {
            self.keep(body);
        }
        complete
    }

    /// Forgets frames whose remaining chunks will not come.
    pub(crate) fn abandon(&mut self, numbers: Vec<u64>) {
        for number in numbers {
            self.incomplete.remove(&number);
        }
    }

    /// Stops to keep chunks in a file, because nothing of the process outlives it anymore.
    pub(crate) fn detach_file(&mut self) {
        (self.path, self.file, self.kept) = (None, None, 0);
    }

    /// Returns the number of valid bytes in the file, for a checkpoint.
    pub(crate) fn kept_bytes(&self) -> u64 {
        match self.incomplete.is_empty() {
            true => 0,
            false => self.kept,
        }
    }

    /// Removes the file if the newest checkpoint refers to no byte of it.
    pub(crate) fn remove_unused_file(&mut self) {
        if self.incomplete.is_empty() && self.kept > 0 {
            self.kept = 0;
            if let (Some(path), Some(_)) = (&self.path, self.file.take()) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn append(&mut self, body: &[u8]) -> Option<(FrameKind, Vec<u8>)> {
        let chunk = decode_chunk(body)?;
        self.incomplete
            .entry(chunk.number)
            .or_default()
            .extend_from_slice(chunk.bytes);
        if !chunk.is_last {
            return None;
        }
        let complete = self.incomplete.remove(&chunk.number)?;
        Some((chunk.kind?, complete))
    }

    /// If the disk is full, the chunk is lost should the process be killed before its frame is
    /// complete.
    fn keep(&mut self, body: &[u8]) {
        let Some(path) = &self.path else { return };
        if self.file.is_none() {
            self.file = create_private_file(path).ok();
        }
        let Ok(length) = u32::try_from(body.len()) else { return };
        if let Some(file) = &mut self.file
            && file
                .write_all(&length.to_le_bytes())
                .and_then(|()| file.write_all(body))
                .is_ok()
        {
            self.kept += 4 + u64::from(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode::encode_chunk;
    use crate::frame::types::ChunkPlace;

    fn chunk(number: u64, is_last: bool, text: &str) -> Vec<u8> {
        let mut body = Vec::new();
        let place = match is_last {
            true => ChunkPlace::Last,
            false => ChunkPlace::Middle,
        };
        encode_chunk(&mut body, number, FrameKind::Config, place, text.as_bytes());
        body
    }

    #[test]
    fn chunks_of_an_incomplete_frame_outlive_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chunks");
        let mut assembler = ChunkAssembler::with_file(Some(path.clone()));
        assert_eq!(assembler.add(&chunk(1, false, "one ")), None);
        assert_eq!(assembler.add(&chunk(2, false, "other ")), None);
        assert_eq!(assembler.add(&chunk(2, true, "whole")).unwrap().1, b"other whole");
        let kept = assembler.kept_bytes();
        assert_eq!(assembler.add(&chunk(1, false, "two ")), None);

        let mut next = ChunkAssembler::restore(File::open(&path).ok(), kept);
        assert_eq!(next.add(&chunk(1, false, "two ")), None);
        assert_eq!(
            next.add(&chunk(1, true, "three")).unwrap(),
            (FrameKind::Config, b"one two three".to_vec())
        );

        assert!(assembler.add(&chunk(1, true, "three")).is_some());
        assert_eq!(assembler.kept_bytes(), 0);
        assembler.remove_unused_file();
        assert!(!path.exists());
    }
}
