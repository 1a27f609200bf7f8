//! Damage done on purpose, which the checks must find: a rig that finds nothing must be known to
//! look.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use facade::logcore::RunManifest;
use serde_json::Value;

use crate::chain::KillChain;
use crate::event_files;
use crate::findings::{ComparedOutput, Findings};
use crate::manifests::ManifestReader;
use crate::plan::{ChainStep, KillPlan, ProcessPlan, RunChoice};
use crate::random::{Random, mix};
use crate::receipts::CallKind;
use crate::stage::Stage;
use crate::wandb_log::{self, HISTORY, OUTPUT};
use crate::wandb_rewrite::rewrite;

/// Damages files in a log directory; returns `false` if there was nothing to damage.
type Tamper = fn(&Path) -> Result<bool>;

/// Damage before the recovery, of a process that was killed at this point.
const BEFORE: [(&str, &str, Tamper); 2] = [
    ("the ring deleted", "before write", delete_ring),
    ("an uncommitted frame taken for committed", "body", commit_all),
];

/// Damage after the recovery, with the output in which the check must see it; `None` for another
/// kind of fault.
const AFTER: [(&str, Option<ComparedOutput>, Tamper); 23] = [
    ("a line doubled", Some(ComparedOutput::Text), |folder| {
        lines(&folder.join("training.log"), doubled)
    }),
    ("a line cut", Some(ComparedOutput::Text), |folder| {
        lines(&folder.join("training.log"), |all| cut(all))
    }),
    ("a line removed", Some(ComparedOutput::Text), |folder| {
        lines(&folder.join("training.log"), removed)
    }),
    (
        "two lines of a thread exchanged",
        Some(ComparedOutput::Text),
        |folder| lines(&folder.join("training.log"), |all| exchanged(all)),
    ),
    ("the end removed", None, |folder| {
        lines(&folder.join("training.log"), without_end)
    }),
    ("a record doubled", Some(ComparedOutput::Records), |folder| {
        lines(&folder.join("records.jsonl"), doubled)
    }),
    ("a record removed", Some(ComparedOutput::Records), |folder| {
        lines(&folder.join("records.jsonl"), removed)
    }),
    ("a record cut", Some(ComparedOutput::Records), |folder| {
        lines(&folder.join("records.jsonl"), |all| cut(all))
    }),
    ("a row doubled", Some(ComparedOutput::Rows), |folder| {
        lines(&folder.join("metrics.jsonl"), doubled)
    }),
    ("a row removed", Some(ComparedOutput::Rows), |folder| {
        lines(&folder.join("metrics.jsonl"), removed)
    }),
    ("a row cut", Some(ComparedOutput::Rows), |folder| {
        lines(&folder.join("metrics.jsonl"), |all| cut(all))
    }),
    (
        "a console line of the W&B log doubled",
        Some(ComparedOutput::RunLines),
        |folder| run_records(folder, OUTPUT, doubled),
    ),
    (
        "a console line of the W&B log removed",
        Some(ComparedOutput::RunLines),
        |folder| run_records(folder, OUTPUT, removed),
    ),
    (
        "console lines of the W&B log in another order",
        Some(ComparedOutput::RunLines),
        |folder| run_records(folder, OUTPUT, |all| all.reverse()),
    ),
    (
        "a letter of a console line changed",
        Some(ComparedOutput::RunLines),
        |folder| run_records(folder, OUTPUT, |all| changed(all)),
    ),
    (
        "a row of the W&B log doubled",
        Some(ComparedOutput::RunRows),
        |folder| run_records(folder, HISTORY, doubled),
    ),
    (
        "a row of the W&B log removed",
        Some(ComparedOutput::RunRows),
        |folder| run_records(folder, HISTORY, removed),
    ),
    ("the W&B log cut", None, |folder| {
        run_log(folder, |bytes| bytes.truncate(bytes.len() - 9))
    }),
    ("a bit of the W&B log flipped", None, |folder| {
        run_log(folder, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        })
    }),
    ("an event doubled", Some(ComparedOutput::Events), |folder| {
        events(folder, doubled)
    }),
    ("an event removed", Some(ComparedOutput::Events), |folder| {
        events(folder, removed)
    }),
    ("an event file cut", Some(ComparedOutput::Events), |folder| {
        event_file(folder, |bytes| bytes.truncate(bytes.len() - 9))
    }),
    ("a bit of an event file flipped", None, |folder| {
        event_file(folder, |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        })
    }),
];

/// Number of kills to try, because the moment of a kill decides if there is something to damage.
const TRIES: u64 = 20;

/// Number of values that the first thread must have logged before the run is damaged.
const ENOUGH: u64 = 100;

pub(crate) fn run(folder: &Path, seed: u64) -> Result<()> {
    let mut random = Random::new(mix(seed));
    for (name, point, tamper) in BEFORE {
        let mut caught = false;
        for _ in 0..TRIES {
            let times = 3 + random.below(400) % if point == "body" { 400 } else { 4 };
            let mut chain = killed(&mut random, folder, &KillPlan::Point(point, times))?;
            let tampered = tamper(&chain.log())?;
            chain.recover()?;
            if tampered {
                caught = chain.check()?.any();
                break;
            }
        }
        ensure!(caught, "the rig does not see this damage: {name}");
    }
    let mut time = 20_000;
    let mut chain = loop {
        let chain = killed(&mut random, folder, &KillPlan::Ready(time))?;
        if chain.dead[0].returned.count(0, CallKind::Values) > ENOUGH {
            break chain;
        }
        time *= 2;
    };
    chain.recover()?;
    let before = chain.check()?;
    ensure!(
        !before.any(),
        "a run without damage fails the check: {:?}",
        before.words
    );
    for (name, output, tamper) in AFTER {
        let findings = tampered(&chain, &flat_files(&chain)?, tamper)?;
        let seen = output.map_or(findings.other > 0, |output| findings.any_in(output));
        ensure!(seen, "the rig does not see this damage: {name}");
    }
    let chain = resumed(&mut random, folder)?;
    for (name, output, tamper) in RESUMED {
        let findings = tampered(&chain, &resumed_files(&chain), tamper)?;
        let seen = output.map_or(findings.other > 0, |output| findings.any_in(output));
        ensure!(seen, "the rig does not see this damage: {name}");
    }
    wrong_states(&chain)?;
    let kinds = BEFORE.len() + AFTER.len() + RESUMED.len() + WRONG_STATES.len();
    println!("{kinds} kinds of planted damage are found");
    Ok(fs::remove_dir_all(folder)?)
}

/// Runs and kills two attempts of one run, of which the second repeats some steps of the first.
fn resumed(random: &mut Random, folder: &Path) -> Result<KillChain> {
    let mut time = 20_000;
    let is_enough = |chain: &KillChain| {
        let steps = |number: usize| chain.dead[number].returned.steps();
        steps(0) > 2 * REPEATED && steps(1) > 2 * REPEATED
    };
    loop {
        let mut chain = KillChain::new(folder)?;
        for generation in 0..2 {
            let life = ProcessPlan {
                run: RunChoice::Resumed(RUN.to_owned()),
                receipts: folder.join(format!("receipts-{generation}")),
                generation,
                ..plain_life(random, &chain, folder)
            };
            chain.step(&ChainStep {
                life,
                repeated: REPEATED,
                death: KillPlan::Ready(time),
                recoveries: Vec::new(),
            })?;
        }
        if is_enough(&chain) {
            chain.recover()?;
            let before = chain.check()?;
            ensure!(
                !before.any(),
                "two attempts without damage fail the check: {:?}",
                before.words
            );
            return Ok(chain);
        }
        time *= 2;
    }
}

/// Number of steps that the second attempt repeats.
const REPEATED: u64 = 10;
/// Name of the run.
const RUN: &str = "r0";

fn resumed_files(chain: &KillChain) -> Vec<PathBuf> {
    let names = [RunManifest::FILE, "metrics.jsonl"];
    names.iter().map(|name| chain.log().join(RUN).join(name)).collect()
}

/// Damage to a run with two attempts.
const RESUMED: [(&str, Option<ComparedOutput>, Tamper); 6] = [
    (
        "a step of the second attempt removed",
        Some(ComparedOutput::Rows),
        |log| {
            rows_of_shared(log, |all| {
                all.remove(sure_row(all));
            })
        },
    ),
    ("a repeated step doubled", Some(ComparedOutput::Rows), |log| {
        rows_of_shared(log, doubled)
    }),
    ("a row of another attempt", Some(ComparedOutput::Rows), |log| {
        rows_of_shared(log, |all| {
            if let Some(last) = all.last_mut() {
                *last = last.replace("\"attempt\":2", "\"attempt\":1");
            }
        })
    }),
    (
        "a first step before that of the attempt",
        Some(ComparedOutput::Rows),
        |log| {
            manifest(log, |manifest| {
                manifest["attempts"][1]["first_step"]["trainer"] = 0.into()
            })
        },
    ),
    ("the state of a run that is over", None, |log| {
        manifest(log, |manifest| manifest["state"] = "running".into())
    }),
    ("the last step of an attempt", None, |log| {
        manifest(log, |manifest| {
            manifest["attempts"][0]["last_step"] = 1_000_000_000.into()
        })
    }),
];

/// Changes the rows of the logger that both attempts share, and puts them behind the others.
fn rows_of_shared(log: &Path, change: impl FnOnce(&mut Vec<String>)) -> Result<bool> {
    lines(&log.join(RUN).join("metrics.jsonl"), |all| {
        let is_shared = |line: &mut String| line.contains("\"logger\":\"trainer\"");
        let mut shared: Vec<String> = all.extract_if(.., is_shared).collect();
        change(&mut shared);
        all.append(&mut shared);
    })
}

/// Returns the place of a row of the second attempt whose call had returned: the last rows may be
/// of calls that the kill came amid, which may be missing.
fn sure_row(rows: &[String]) -> usize {
    rows.len().saturating_sub(REPEATED as usize)
}

fn manifest(log: &Path, change: impl FnOnce(&mut Value)) -> Result<bool> {
    let path = log.join(RUN).join(RunManifest::FILE);
    let mut manifest = serde_json::from_slice(&fs::read(&path)?)?;
    change(&mut manifest);
    fs::write(path, manifest.to_string())?;
    Ok(true)
}

/// The states that the reader of `run.json` must see while processes live and die: whether the
/// process seems to live, whether it has the lock, and how much of the file is there.
const WRONG_STATES: [(&str, bool, bool, bool); 3] = [
    ("a dead process with a lock", false, true, true),
    ("a live process without a lock", true, false, true),
    ("a run.json that is cut", false, false, false),
];

fn wrong_states(chain: &KillChain) -> Result<()> {
    let (log, files) = (chain.log(), resumed_files(chain));
    let path = &files[0];
    let content = fs::read(path)?;
    let mut running: Value = serde_json::from_slice(&content)?;
    for place in ["/state", "/attempts/1/state"] {
        *running.pointer_mut(place).context("a state")? = "running".into();
    }
    for place in ["/ended", "/attempts/1/ended"] {
        *running.pointer_mut(place).context("an end")? = Value::Null;
    }
    let pid = running["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let true_states = [
        ("a dead process", false, false, true),
        ("a live process", true, true, true),
    ];
    let cases = WRONG_STATES
        .map(|case| (case, true))
        .into_iter()
        .chain(true_states.map(|case| (case, false)));
    for ((name, is_alive, is_locked, is_whole), is_wrong) in cases {
        let stage = Arc::new(Stage::default());
        if is_alive {
            stage.set_ready(pid.context("a process id")?);
        }
        let lock = fs::File::open(log.join(RUN).join(RunManifest::LOCK))?;
        if is_locked {
            lock.try_lock().context("the lock of a dead process")?;
        }
        let text = running.to_string();
        fs::write(path, &text[..text.len() - usize::from(!is_whole)])?;
        let reader = ManifestReader::start(&log, stage)?;
        sleep(Duration::from_millis(20));
        let mut findings = Findings::default();
        ensure!(reader.stop(&mut findings) > 0, "nobody has read run.json");
        ensure!(
            findings.any() == is_wrong,
            "the reader sees {:?} for {name}",
            findings.words
        );
    }
    Ok(fs::write(path, content)?)
}

fn killed(random: &mut Random, folder: &Path, death: &KillPlan) -> Result<KillChain> {
    let mut chain = KillChain::new(folder)?;
    let life = plain_life(random, &chain, folder);
    chain.live(&life, death)?;
    Ok(chain)
}

fn plain_life(random: &mut Random, chain: &KillChain, folder: &Path) -> ProcessPlan {
    ProcessPlan {
        folder: chain.log(),
        run: RunChoice::Flat,
        receipts: folder.join("receipts"),
        seed: random.next(),
        generation: 0,
        threads: 2,
        gap: 0,
        ring_bytes: 4 << 20,
        shared_memory: false,
        rotate_mb: None,
        own_steps: false,
        first_step: 0,
    }
}

fn flat_files(chain: &KillChain) -> Result<Vec<PathBuf>> {
    let names = ["training.log", "records.jsonl", "metrics.jsonl"];
    let mut files: Vec<_> = names.iter().map(|name| chain.log().join(name)).collect();
    files.extend(wandb_log::find(&chain.log())?);
    files.extend(event_files::find(&chain.log())?);
    Ok(files)
}

/// Returns the findings after damage to these files, which is undone.
fn tampered(chain: &KillChain, files: &[PathBuf], tamper: Tamper) -> Result<Findings> {
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

/// Sets the last bit in the word of each record that is not committed; see `ring.rs` of
/// `logcore-pipeline`.
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
    let mut committed = false;
    for place in (0..capacity).step_by(8) {
        let found = word(&bytes, data + place)?;
        // A word holds its own position; bytes elsewhere are no word.
        let at = (((found >> 24) ^ nonce) & 0xff_ffff_ffff) << 3;
        if at & (capacity - 1) == place && found & 1 == 0 && (found >> 1) & 7 == RECORD {
            bytes[(data + place) as usize] |= 1;
            committed = true;
        }
    }
    fs::write(&path, bytes)?;
    Ok(committed)
}

fn run_log(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<bool> {
    let Some(path) = longest(wandb_log::find(folder)?) else {
        return Ok(false);
    };
    let mut bytes = fs::read(&path)?;
    change(&mut bytes);
    fs::write(path, bytes)?;
    Ok(true)
}

/// Changes the records of this kind in the W&B log, which stays readable.
fn run_records(folder: &Path, kind: u64, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Result<bool> {
    run_log(folder, |bytes| {
        if let Some(rewritten) = rewrite(bytes, kind, change) {
            *bytes = rewritten;
        }
    })
}

fn event_file(folder: &Path, change: impl FnOnce(&mut Vec<u8>)) -> Result<bool> {
    let Some(path) = longest(event_files::find(folder)?) else {
        return Ok(false);
    };
    let mut bytes = fs::read(&path)?;
    change(&mut bytes);
    fs::write(path, bytes)?;
    Ok(true)
}

/// Changes the events with values in the event file, which stays readable.
fn events(folder: &Path, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Result<bool> {
    event_file(folder, |bytes| {
        if let Some(rewritten) = event_files::rewrite(bytes, change) {
            *bytes = rewritten;
        }
    })
}

/// Returns the longest of the files: that of another logger may have too little to damage.
fn longest(paths: Vec<PathBuf>) -> Option<PathBuf> {
    let length = |path: &PathBuf| path.metadata().map_or(0, |metadata| metadata.len());
    paths.into_iter().max_by_key(length)
}

fn lines(path: &Path, change: impl FnOnce(&mut Vec<String>)) -> Result<bool> {
    let text = fs::read_to_string(path)?;
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.len() < 10 {
        return Ok(false);
    }
    change(&mut lines);
    fs::write(path, lines.concat())?;
    Ok(true)
}

fn doubled<T: Clone>(all: &mut Vec<T>) {
    all.insert(all.len() / 2, all[all.len() / 2].clone());
}

fn cut(lines: &mut [String]) {
    let middle = lines.len() / 2;
    let line = &mut lines[middle];
    line.truncate(line.len() - 3);
}

fn removed<T>(all: &mut Vec<T>) {
    all.remove(all.len() / 2);
}

/// Changes the last letter, which stands before the line end.
fn changed(records: &mut [Vec<u8>]) {
    let middle = records.len() / 2;
    if let [.., letter, _] = &mut records[middle][..] {
        *letter ^= 1;
    }
}

fn exchanged(lines: &mut [String]) {
    let of_first: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].contains(" t0 ")).collect();
    if let [.., one, other] = of_first[..] {
        lines.swap(one, other);
    }
}

fn without_end(lines: &mut Vec<String>) {
    lines.pop();
}
