//! The ring of a dead process, read from its file.

use std::fmt::{self, Display};

use super::Region;
use super::layout::{
    BOOT, CAPACITY, IN_FILE_BIT, INODE, MAGIC, NAMES_BYTES, NAMES_USED, NONCE, OLDER_MAGIC, PID, RingSizes, SLOT_BYTES,
    TURN,
};
use super::queue::RingIdentity;
use super::reader::RingReader;

/// The header of a ring, whose process may be alive.
pub(crate) struct RingHeader {
    pub(crate) sizes: RingSizes,
    pub(crate) identity: RingIdentity,
    pub(crate) pid: u64,
    /// See [`DeadRing`].
    pub(crate) is_older: bool,
    /// Number of bytes of the name table that are in use.
    pub(crate) names_used: usize,
    /// The turn of the checkpoint.
    pub(crate) turn: u64,
}

impl RingHeader {
    /// Reads the header of a ring of `length` bytes from its first bytes.
    ///
    /// # Errors
    ///
    /// If the contents contradict each other: the file is damaged, or is no ring.
    pub(crate) fn read(bytes: &[u8], length: usize) -> Result<Self, CorruptRing> {
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
        let names_used = size(NAMES_USED)?;
        if names_used > sizes.names {
            return Err(CorruptRing("its names exceed their table"));
        }
        Ok(Self {
            sizes,
            identity: RingIdentity {
                nonce: word(NONCE)?,
                inode: word(INODE)?,
                boot: word(BOOT)?,
            },
            pid: word(PID)?,
            is_older,
            names_used,
            turn: word(TURN)?,
        })
    }

    /// Returns the offset of the slot that holds the checkpoint.
    pub(crate) fn slot_offset(&self) -> usize {
        self.sizes.front() + usize::from(self.turn & 1 == 1) * self.sizes.slot
    }

    /// Reads the slot that holds the checkpoint.
    ///
    /// # Errors
    ///
    /// If the checkpoint does not fit into the slot.
    pub(crate) fn read_slot(&self, slot: &[u8]) -> Result<SavedCheckpoint, CorruptRing> {
        let length = slot.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        if length & IN_FILE_BIT != 0 {
            return Ok(SavedCheckpoint::Beside {
                turn: self.turn,
                length: length & !IN_FILE_BIT,
            });
        }
        let checkpoint = usize::try_from(length).ok().and_then(|length| slot[8..].get(..length));
        let checkpoint = checkpoint.ok_or(CorruptRing("its checkpoint exceeds its slot"))?;
        Ok(SavedCheckpoint::Inside(checkpoint.to_vec()))
    }
}

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
        let header = RingHeader::read(bytes, length)?;
        let slot = &bytes[header.slot_offset()..][..header.sizes.slot];
        let checkpoint = header.read_slot(slot)?;
        let (_, reader) = RingReader::in_region(region, header.sizes);
        Ok(Self {
            reader,
            checkpoint,
            identity: header.identity,
            pid: header.pid,
            is_older: header.is_older,
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
