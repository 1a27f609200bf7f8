//! Frames that are too long for the ring and come in pieces.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use crate::frame::body::{Cursor, decode_piece};
use crate::ring::queue::Kind;

/// The pieces of frames that are not whole yet.
///
/// What was read of them cannot stay in the ring, or it would never have room for the rest. So each is also in a file, for
/// the case that the process is killed before its frame is whole.
#[derive(Default)]
pub(crate) struct Pieces {
    open: HashMap<u64, Vec<u8>>,
    /// Where the file is, if the ring outlives the process.
    path: Option<PathBuf>,
    file: Option<File>,
    /// How much of the file counts.
    kept: u64,
}

impl Pieces {
    /// From now on the process has nothing that outlives it.
    pub(crate) fn keep_no_more(&mut self) {
        (self.path, self.file, self.kept) = (None, None, 0);
    }

    /// Keeps pieces in the file at `path`, too.
    pub(crate) fn kept_in(path: Option<PathBuf>) -> Self {
        Self {
            path,
            ..Self::default()
        }
    }

    /// The pieces that a killed process had read, of which its checkpoint says how many bytes count.
    pub(crate) fn of_dead(file: Option<File>, kept: u64) -> Self {
        let mut pieces = Self::default();
        let mut bytes = Vec::new();
        // Without the file a long message is lost, and nothing else.
        if let Some(file) = file {
            let _ = file.take(kept).read_to_end(&mut bytes);
        }
        let mut cursor = Cursor::over(&bytes);
        while let Some(length) = cursor.u32()
            && let Some(body) = cursor.take(length as usize)
        {
            // Those that are whole were delivered before the checkpoint.
            let _ = pieces.put(body);
        }
        pieces
    }

    /// Adds a piece to its frame; returns the frame if it was the last.
    pub(crate) fn add(&mut self, body: &[u8]) -> Option<(Kind, Vec<u8>)> {
        let whole = self.put(body);
        if whole.is_none() || !self.open.is_empty() {
            self.keep(body);
        }
        whole
    }

    /// Forgets frames of which the rest will not come.
    pub(crate) fn abandon(&mut self, numbers: Vec<u64>) {
        for number in numbers {
            self.open.remove(&number);
        }
    }

    /// How many bytes of the file a checkpoint has to name.
    pub(crate) fn kept(&self) -> u64 {
        match self.open.is_empty() {
            true => 0,
            false => self.kept,
        }
    }

    /// A checkpoint names so many bytes as [`kept`](Self::kept) says; if that is none, the file is emptied.
    pub(crate) fn settle(&mut self) {
        if self.open.is_empty() && self.kept > 0 {
            self.kept = 0;
            if let (Some(path), Some(_)) = (&self.path, self.file.take()) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    fn put(&mut self, body: &[u8]) -> Option<(Kind, Vec<u8>)> {
        let piece = decode_piece(body)?;
        self.open
            .entry(piece.number)
            .or_default()
            .extend_from_slice(piece.bytes);
        if !piece.last {
            return None;
        }
        let whole = self.open.remove(&piece.number)?;
        // A piece of pieces would be one that we never wrote.
        let kind = Kind::from_bits(u64::from(piece.kind)).filter(|kind| *kind != Kind::Piece)?;
        Some((kind, whole))
    }

    /// What a full disk does not take is lost if the process is killed before the frame is whole.
    fn keep(&mut self, body: &[u8]) {
        let Some(path) = &self.path else { return };
        if self.file.is_none() {
            self.file = crate::ring::file::private_file(path).ok();
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
    use crate::frame::body::encode_piece;

    fn piece(number: u64, last: bool, text: &str) -> Vec<u8> {
        let mut body = Vec::new();
        encode_piece(&mut body, number, Kind::Config as u8, last, text.as_bytes());
        body
    }

    #[test]
    fn what_was_read_of_a_long_frame_outlives_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pieces");
        let mut pieces = Pieces::kept_in(Some(path.clone()));
        assert_eq!(pieces.add(&piece(1, false, "one ")), None);
        assert_eq!(pieces.add(&piece(2, false, "other ")), None);
        assert_eq!(pieces.add(&piece(2, true, "whole")).unwrap().1, b"other whole");
        let kept = pieces.kept();
        assert_eq!(pieces.add(&piece(1, false, "two ")), None);

        let mut next = Pieces::of_dead(File::open(&path).ok(), kept);
        assert_eq!(next.add(&piece(1, false, "two ")), None);
        assert_eq!(
            next.add(&piece(1, true, "three")).unwrap(),
            (Kind::Config, b"one two three".to_vec())
        );

        assert!(pieces.add(&piece(1, true, "three")).is_some());
        assert_eq!(pieces.kept(), 0);
        pieces.settle();
        assert!(!path.exists());
    }
}
