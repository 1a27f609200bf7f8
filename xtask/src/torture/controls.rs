//! Damage that has to be found: a rig that finds nothing must be known to look.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

use super::chain::Chain;
use super::check::Findings;
use super::plan::{Death, Life};
use super::receipts::What;
use super::wandb_log;
use crate::random::{Random, mix};

/// A way to do damage in a log directory; whether there was anything to damage.
type Tamper = fn(&Path) -> Result<bool>;

/// Before what was left is recovered: after a death at this point.
const BEFORE: [(&str, &str, Tamper); 2] = [
    ("the ring deleted", "before write", delete_ring),
    ("an uncommitted frame taken for committed", "body", commit_all),
];

/// After it.
const AFTER: [(&str, Tamper); 10] = [
    ("a line doubled", |folder| lines(&folder.join("training.log"), doubled)),
    ("a line cut", |folder| {
        lines(&folder.join("training.log"), |all| cut(all))
    }),
    ("a line removed", |folder| lines(&folder.join("training.log"), removed)),
    ("two lines of a thread exchanged", |folder| {
        lines(&folder.join("training.log"), |all| exchanged(all))
    }),
    ("the end removed", |folder| {
        lines(&folder.join("training.log"), without_end)
    }),
    ("a row doubled", |folder| lines(&folder.join("metrics.jsonl"), doubled)),
    ("a row removed", |folder| lines(&folder.join("metrics.jsonl"), removed)),
    ("a row cut", |folder| {
        lines(&folder.join("metrics.jsonl"), |all| cut(all))
    }),
    ("the W&B log cut", |folder| {
        run_log(folder, |bytes| bytes.truncate(bytes.len() - 9))
    }),
    ("a bit of the W&B log flipped", |folder| {
        run_log(folder, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        })
    }),
];

/// The moment of a death decides whether there is something to damage.
const TRIES: u64 = 20;

/// Values of the first thread in a run that is damaged afterwards.
const ENOUGH: u64 = 100;

pub(crate) fn run(folder: &Path, seed: u64) -> Result<()> {
    let mut random = Random::new(mix(seed));
    for (name, point, tamper) in BEFORE {
        let mut caught = false;
        for _ in 0..TRIES {
            let times = 3 + random.below(400) % if point == "body" { 400 } else { 4 };
            let mut chain = killed(&mut random, folder, &Death::Point(point, times))?;
            let tampered = tamper(&chain.log())?;
            chain.recover()?;
            if tampered {
                caught = chain.check()?.any();
                break;
            }
        }
        ensure!(caught, "the rig does not see it: {name}");
    }
    let mut time = 20_000;
    let mut chain = loop {
        let chain = killed(&mut random, folder, &Death::Ready(time))?;
        if chain.dead[0].returned.count(0, What::Values) > ENOUGH {
            break chain;
        }
        time *= 2;
    };
    chain.recover()?;
    let before = chain.check()?;
    ensure!(!before.any(), "a plain run is not as it should be: {:?}", before.words);
    for (name, tamper) in AFTER {
        let findings = tampered(&chain, tamper)?;
        ensure!(findings.any(), "the rig does not see it: {name}");
    }
    println!(
        "{} kinds of damage that was done on purpose are seen",
        BEFORE.len() + AFTER.len()
    );
    Ok(fs::remove_dir_all(folder)?)
}

fn killed(random: &mut Random, folder: &Path, death: &Death) -> Result<Chain> {
    let mut chain = Chain::new(folder)?;
    let life = Life {
        folder: chain.log(),
        receipts: folder.join("receipts"),
        seed: random.next(),
        generation: 0,
        threads: 2,
        gap: 0,
        ring_bytes: 4 << 20,
        shared_memory: false,
        rotate_mb: None,
        own_steps: false,
    };
    chain.live(&life, death)?;
    Ok(chain)
}

/// What is found after damage, which is undone.
fn tampered(chain: &Chain, tamper: Tamper) -> Result<Findings> {
    let mut files = vec![chain.log().join("training.log"), chain.log().join("metrics.jsonl")];
    files.extend(wandb_log::find(&chain.log())?);
    let contents: Vec<_> = files.iter().map(fs::read).collect::<Result<_, _>>()?;
    ensure!(tamper(&chain.log())?, "there is nothing to damage");
    let findings = chain.check()?;
    for (path, content) in files.iter().zip(contents) {
        fs::write(path, content)?;
    }
    Ok(findings)
}

fn ring(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "ring") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn delete_ring(folder: &Path) -> Result<bool> {
    let Some(ring) = ring(folder)? else { return Ok(false) };
    fs::remove_file(ring)?;
    Ok(true)
}

/// Sets the last bit in the word of each record that is not committed; see `ring.rs` of `logcore-pipeline`.
fn commit_all(folder: &Path) -> Result<bool> {
    const RECORD: u64 = 1;

    let Some(path) = ring(folder)? else { return Ok(false) };
    let mut bytes = fs::read(&path)?;
    let word = |bytes: &[u8], at: u64| {
        let word = bytes.get(at as usize..).and_then(|rest| rest.first_chunk());
        word.map(|word| u64::from_le_bytes(*word)).context("a short ring")
    };
    let (capacity, nonce) = (word(&bytes, 8)?, word(&bytes, 16)?);
    let data = 4096 + word(&bytes, 40)? + 2 * word(&bytes, 48)?;
    let (tail, mut at) = (word(&bytes, 64)?, word(&bytes, 128)?);
    let mut committed = false;
    while at < tail {
        let place = data + (at & (capacity - 1));
        let found = word(&bytes, place)?;
        let stamped = found >> 24 == ((at >> 3) ^ nonce) & 0xff_ffff_ffff;
        let (length, kind) = (((found >> 4) & 0xf_ffff) * 8, (found >> 1) & 7);
        if stamped && found & 1 == 0 && kind == RECORD {
            bytes[place as usize] |= 1;
            committed = true;
        }
        at += if stamped && length > 0 { length } else { 8 };
    }
    fs::write(&path, bytes)?;
    Ok(committed)
}

fn run_log(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<bool> {
    let Some(path) = wandb_log::find(folder)?.pop() else {
        return Ok(false);
    };
    let mut bytes = fs::read(&path)?;
    change(&mut bytes);
    fs::write(path, bytes)?;
    Ok(true)
}

fn lines(path: &Path, change: impl FnOnce(&mut Vec<&str>)) -> Result<bool> {
    let text = fs::read_to_string(path)?;
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    if lines.len() < 10 {
        return Ok(false);
    }
    change(&mut lines);
    fs::write(path, lines.concat())?;
    Ok(true)
}

fn doubled(lines: &mut Vec<&str>) {
    lines.insert(lines.len() / 2, lines[lines.len() / 2]);
}

fn cut(lines: &mut [&str]) {
    let middle = lines.len() / 2;
    lines[middle] = &lines[middle][..lines[middle].len() - 3];
}

fn removed(lines: &mut Vec<&str>) {
    lines.remove(lines.len() / 2);
}

fn exchanged(lines: &mut [&str]) {
    let of_first: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(" t0 ")).collect();
    if let [.., one, other] = of_first[..] {
        lines.swap(one, other);
    }
}

fn without_end(lines: &mut Vec<&str>) {
    lines.pop();
}
