//! A look at a damaged ring, and the recovery of its folder with arbitrary files beside it.
//!
//! An input is the length of the ring and then [sections](crate::sections): files, parts of the
//! ring, and frames, which get valid header words.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path};
use std::sync::LazyLock;
use std::time::UNIX_EPOCH;

use facade::RecoveryError;
use memchr::{memchr, memmem};
use serde_json::json;

use crate::{folder, killed, sections};

/// `name length u8, name, content`.
const FILE: u8 = 0;
/// `offset u32, bytes`.
const PART: u8 = 1;
/// `kind u8, body`.
const FRAME: u8 = 2;

const RING: &str = ".logcore-1-00000000.ring";
/// Greatest length of the ring; longer rings are slow and find no other faults.
const LONGEST: u32 = 1 << 20;

// As `pipeline/src/ring/layout.rs` has it.
const CAPACITY: usize = 8;
const NONCE: usize = 16;
const BOOT: usize = 56;

pub(crate) fn run(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk() else {
        return;
    };
    let mut ring = vec![0; (u32::from_le_bytes(*length) % (LONGEST + 1)) as usize];
    let mut files = Vec::new();
    for (tag, part) in sections::read(rest) {
        match tag % 3 {
            FILE => files.extend(file(part)),
            PART => put_part(&mut ring, part),
            _ => drop(put_frame(&mut ring, part)),
        }
    }
    // The ring of this start of the machine, unless it says that it is of none.
    if word(&ring, BOOT).is_some_and(|boot| boot != 0) {
        put_word(&mut ring, BOOT, *BOOT_ID);
    }
    for (name, content) in files {
        // Names of files may be those of folders of others.
        let path = folder::path().join(name);
        let _ = path.parent().map(fs::create_dir_all);
        let _ = fs::write(path, content);
    }
    put_identities(&mut ring);
    let path = folder::path().join(RING);
    if fs::write(&path, &ring).is_ok() {
        look(&path, &ring);
        check(&path);
    }
    folder::clear();
}

/// Reads the ring as that of a process that lives: the ring stays as it is.
fn look(path: &Path, ring: &[u8]) {
    const MOST: usize = 100;
    if let Ok(snapshot) = facade::read_live_ring(path, MOST) {
        assert!(snapshot.calls.len() <= MOST);
    }
    assert!(fs::read(path).is_ok_and(|left| left == ring));
}

/// Recovers the folder: the ring is delivered, set aside or refused. It is a copy, so only a
/// trusting recovery delivers it, and then the ring is gone.
fn check(ring: &Path) {
    for outcome in facade::recover_trusted(folder::path()) {
        match outcome {
            Ok(recovered) => assert!(!ring.exists(), "{recovered} is there again"),
            Err(RecoveryError::Refused { why, .. }) => assert!(!why.is_empty()),
            Err(other) => panic!("{other}"),
        }
    }
    // Once more, and it is the same: what was refused for now is still there, and nothing else.
    let again = facade::recover_trusted(folder::path());
    assert!(again.iter().all(Result::is_err));
    assert_eq!(again.is_empty(), !ring.exists());
}

/// Returns a ring with its files, a ring without them, and an empty ring.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let left = killed::files();
    let is_ring = |name: &str| name.starts_with(".logcore-") && name.ends_with(".ring");
    let (_, ring) = left.iter().find(|(name, _)| is_ring(name)).expect("a ring was left");
    assert!(
        memmem::find(ring, IDENTITY).is_some(),
        "its marks have another form than is known here"
    );
    let mut alone = (ring.len() as u32).to_le_bytes().to_vec();
    for (offset, bytes) in written_parts(ring) {
        let part = [&(offset as u32).to_le_bytes(), bytes].concat();
        sections::put(PART, &part, &mut alone);
    }
    let mut whole = alone.clone();
    for (name, content) in left.iter().filter(|(name, _)| !is_ring(name)) {
        let name = name.replace(".ring.pieces", "");
        let name = if name.starts_with(".logcore-") {
            format!("{RING}.pieces")
        } else {
            name
        };
        let file = [&[name.len() as u8], name.as_bytes(), content].concat();
        sections::put(FILE, &file, &mut whole);
    }
    let mut with_frames = alone.clone();
    for kind in 1..8 {
        sections::put(FRAME, &[&[kind], &[0; 80][..]].concat(), &mut with_frames);
    }
    vec![whole, alone, with_frames, vec![0; 4]]
}

/// Returns the parts of a file that are not zeros.
fn written_parts(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    const GAP: usize = 16;
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| *byte != 0) {
        let start = (at + start) & !7;
        let length = bytes[start..].windows(GAP).position(|window| window == [0; GAP]);
        let end = length.map_or(bytes.len(), |length| start + length).min(start + 60_000);
        parts.push((start, &bytes[start..end]));
        at = end;
    }
    parts
}

/// Writes a file beside the ring, if its name stays in the folder.
fn file(part: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = part.split_first()?;
    let (name, content) = rest.split_at_checked(usize::from(*length))?;
    let name = std::str::from_utf8(name).ok()?;
    let stays = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (stays && !name.is_empty() && name != RING).then_some((name, content))
}

fn put_part(ring: &mut [u8], part: &[u8]) {
    let Some((offset, bytes)) = part.split_first_chunk() else {
        return;
    };
    let offset = u32::from_le_bytes(*offset) as usize;
    if let Some(place) = ring.get_mut(offset..) {
        let length = place.len().min(bytes.len());
        place[..length].copy_from_slice(&bytes[..length]);
    }
}

/// Appends a frame in the way of a caller.
fn put_frame(ring: &mut [u8], part: &[u8]) -> Option<()> {
    let (kind, body) = part.split_first()?;
    let (tail, capacity, nonce) = (tail(ring)?, word(ring, CAPACITY)?, word(ring, NONCE)?);
    let length = (8 + body.len() as u64).next_multiple_of(8);
    let within = tail.checked_rem(capacity)?;
    let data = ring.len().checked_sub(usize::try_from(capacity).ok()?)?;
    let at = data.checked_add(usize::try_from(within).ok()?)?;
    if within + length > capacity || tail % 8 != 0 || tail > 1 << 62 {
        return None;
    }
    let stamp = ((tail >> 3) ^ nonce) << 24;
    put_word(ring, at, stamp | (length / 8) << 4 | u64::from(kind & 7) << 1 | 1);
    ring.get_mut(at + 8..)?.get_mut(..body.len())?.copy_from_slice(body);
    Some(())
}

/// Returns the end of the newest frame; each frame holds its position.
fn tail(ring: &[u8]) -> Option<u64> {
    let (capacity, nonce) = (word(ring, CAPACITY)?, word(ring, NONCE)?);
    let data = ring.len().checked_sub(usize::try_from(capacity).ok()?)?;
    let end = |place: usize| {
        let found = word(ring, place)?;
        let at = (((found >> 24) ^ nonce) & 0xff_ffff_ffff) << 3;
        let is_frame = at.checked_rem(capacity)? == (place - data) as u64;
        is_frame.then_some(at + ((found >> 4) & 0xf_ffff) * 8)
    };
    let places = (data..ring.len()).step_by(8);
    Some(places.filter_map(end).max().unwrap_or(0) & !7)
}

fn word(ring: &[u8], at: usize) -> Option<u64> {
    ring.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

fn put_word(ring: &mut [u8], at: usize, value: u64) {
    if let Some(place) = ring.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_le_bytes();
    }
}

/// The boot id that a ring of this boot holds.
static BOOT_ID: LazyLock<u64> = LazyLock::new(|| {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
});

/// The JSON before the identity of a file in a resume point, and before its path.
const IDENTITY: &[u8] = b"\"file\":{";
const PATH: &[u8] = b"\"path\":\"";

/// Replaces the identities in resume points, because the files are new ones.
fn put_identities(ring: &mut [u8]) {
    let places: Vec<_> = memmem::find_iter(ring, IDENTITY)
        .map(|at| at + IDENTITY.len())
        .collect();
    for place in places {
        let Some(path) = memmem::rfind(&ring[..place], PATH) else {
            continue;
        };
        let path = until(b'"', &ring[path + PATH.len()..]);
        let about = std::str::from_utf8(path)
            .ok()
            .and_then(|path| fs::metadata(folder::path().join(path)).ok());
        let length = until(b'}', &ring[place..]).len();
        if let Some(about) = about {
            let identity = json!({"device": about.dev(), "number": about.ino(), "made": made(&about)}).to_string();
            // JSON has room for spaces, and the text must not become longer.
            let text = format!("{:<length$}", &identity[1..identity.len() - 1]);
            if text.len() == length {
                ring[place..place + length].copy_from_slice(text.as_bytes());
            }
        }
    }
}

fn made(about: &Metadata) -> Option<u64> {
    let since = about.created().ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_nanos()).ok()
}

fn until(end: u8, bytes: &[u8]) -> &[u8] {
    &bytes[..memchr(end, bytes).unwrap_or(bytes.len())]
}
