//! The ring of a dead process, read from its file.

use std::fmt::{self, Display};

use super::Region;
use super::layout::{
    BOOT, CAPACITY, IN_FILE_BIT, INODE, MAGIC, NAMES_BYTES, NAMES_USED, NONCE, OLDER_MAGIC, PID, RingSizes, SLOT_BYTES,
    TURN,
};
use super::queue::RingIdentity;
use super::reader::RingReader;

/// The ring of a dead process.
pub(crate) struct DeadRing {
    pub(crate) reader: RingReader,
    pub(crate) checkpoint: SavedCheckpoint,
    pub(crate) identity: RingIdentity,
    pub(crate) pid: u64,
    /// `true` if the ring is of the version before this one.
    pub(crate) is_older: bool,
}

/// The place of a checkpoint.
pub(crate) enum SavedCheckpoint {
    /// The checkpoint is in the ring.
    Inside(Vec<u8>),
    /// The checkpoint has `length` bytes and is in the file of its turn beside the ring.
    Beside { turn: u64, length: u64 },
}

/// The damage of a ring that cannot be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CorruptRing(pub(crate) &'static str);

impl DeadRing {
    /// Reads a ring. `region` holds a copy of its file, of `length` bytes.
    ///
    /// # Errors
    ///
    /// If the contents contradict each other: the file is damaged, or is no ring.
    pub(crate) fn parse(mut region: Region, length: usize) -> Result<Self, CorruptRing> {
        let bytes = &region.all_bytes()[..length];
        let word = |at: usize| {
            let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
            word.map(u64::from_le_bytes)
                .ok_or(CorruptRing("it is shorter than its header"))
        };
        let is_older = match word(0)? {
            MAGIC => false,
            OLDER_MAGIC => true,
            _ => return Err(CorruptRing("it is not a ring of this version")),
        };
        let size = |at| word(at).map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        let sizes = RingSizes {
            capacity: size(CAPACITY)?,
            names: size(NAMES_BYTES)?,
            slot: size(SLOT_BYTES)?,
        };
        if !sizes.capacity.is_power_of_two()
            || sizes != RingSizes::for_capacity(sizes.capacity)
            || sizes.total() != length
        {
            return Err(CorruptRing("its sizes contradict each other"));
        }
        if size(NAMES_USED)? > sizes.names {
            return Err(CorruptRing("its names exceed their table"));
        }
        let turn = word(TURN)?;
        let slot = &bytes[sizes.front() + usize::from(turn & 1 == 1) * sizes.slot..][..sizes.slot];
        let length = slot.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        let checkpoint = match length & IN_FILE_BIT {
            0 => {
                let checkpoint = usize::try_from(length).ok().and_then(|length| slot[8..].get(..length));
                let checkpoint = checkpoint.ok_or(CorruptRing("its checkpoint exceeds its slot"))?;
                SavedCheckpoint::Inside(checkpoint.to_vec())
            }
            _ => SavedCheckpoint::Beside {
                turn,
                length: length & !IN_FILE_BIT,
            },
        };
        let pid = word(PID)?;
        let identity = RingIdentity {
            nonce: word(NONCE)?,
            inode: word(INODE)?,
            boot: word(BOOT)?,
        };
        let (_, reader) = RingReader::in_region(region, sizes);
        Ok(Self {
            reader,
            checkpoint,
            identity,
            pid,
            is_older,
        })
    }

    /// Continues at the position of the checkpoint.
    ///
    /// # Errors
    ///
    /// If no frame can be there.
    pub(crate) fn seek(&mut self, position: u64) -> Result<(), CorruptRing> {
        match self.reader.try_seek(position) {
            true => Ok(()),
            false => Err(CorruptRing("its checkpoint is not on the ring")),
        }
    }
}

impl Display for CorruptRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}
