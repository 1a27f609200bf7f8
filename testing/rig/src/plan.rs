//! The plan of a chain: the work of each process, and the way in which it is killed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The work of one process of a chain, until it is killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    /// The log directory.
    pub(crate) folder: PathBuf,
    pub(crate) run: RunChoice,
    /// Path of its receipt file.
    pub(crate) receipts: PathBuf,
    pub(crate) seed: u64,
    pub(crate) generation: u64,
    pub(crate) threads: u64,
    /// Microseconds between two calls of a thread.
    pub(crate) gap: u64,
    pub(crate) ring_bytes: u64,
    pub(crate) shared_memory: bool,
    pub(crate) rotate_mb: Option<f64>,
    /// `true` if only the first thread logs metrics, at steps of its own, with a handle for every
    /// second value.
    pub(crate) own_steps: bool,
    /// First step of the logger that all attempts of a resumed run share.
    pub(crate) first_step: u64,
}

/// The run that a process logs into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunChoice {
    /// The files lie in the log directory itself.
    Flat,
    /// A run of its own.
    New,
    /// The run of this name, which an earlier process may have begun.
    Resumed(String),
}

impl RunChoice {
    /// Returns the name of a run that several processes go on with.
    pub(crate) fn resumed(&self) -> Option<&str> {
        match self {
            Self::Resumed(run) => Some(run),
            Self::Flat | Self::New => None,
        }
    }
}

/// The way in which a process is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KillPlan {
    /// Killed so many microseconds after it is ready.
    Ready(u64),
    /// Killed so many microseconds after its start, during the setup.
    Started(u64),
    /// Killed when it passes a point for the n-th time.
    Point(&'static str, u64),
    /// Ended by another signal, so many microseconds after it is ready.
    Signal(u64, SentSignal),
}

/// A signal other than SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentSignal {
    pub(crate) name: &'static str,
    pub(crate) number: i32,
    /// Microseconds until SIGKILL follows; `None` if the process must end by the first signal.
    pub(crate) killed_after: Option<u64>,
}

/// Signals that end a process at once, signals that the logger handles first, and one that stops
/// the process.
const SIGNALS: [(&str, i32); 8] = [
    ("SIGTERM", 15),
    ("SIGINT", 2),
    ("SIGHUP", 1),
    ("SIGQUIT", 3),
    ("SIGABRT", 6),
    ("SIGSEGV", 11),
    ("SIGBUS", 7),
    (STOP, 19),
];
const STOP: &str = "SIGSTOP";

impl KillPlan {
    /// Returns the name of the row in which such kills are counted.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Ready(_) => "any moment".to_owned(),
            Self::Started(_) => "any moment of the start".to_owned(),
            Self::Point(name, _) => format!("at `{name}`"),
            Self::Signal(_, signal) => match signal.killed_after {
                None => signal.name.to_owned(),
                Some(_) => format!("{} and SIGKILL", signal.name),
            },
        }
    }
}

/// The plan of one process, and of the recoveries after it that are killed, too.
pub(crate) struct ChainStep {
    pub(crate) life: ProcessPlan,
    /// Number of steps of the attempt before that a resumed run repeats.
    pub(crate) repeated: u64,
    pub(crate) death: KillPlan,
    pub(crate) recoveries: Vec<KillPlan>,
}

/// The points of the ring and of the files, each with the greatest power of two for the number of
/// passes.
const POINTS: [(&str, u64); 16] = [
    ("reserved", 11),
    ("length", 11),
    ("body", 11),
    ("copied", 11),
    ("committed", 11),
    ("before write", 5),
    ("after write", 5),
    ("checkpoint", 4),
    ("slot", 4),
    ("saved", 4),
    ("turn", 4),
    ("head", 4),
    ("renamed", 8),
    ("put aside", 5),
    ("ring begun", 1),
    ("ring made", 1),
];
const START_POINTS: [(&str, u64); 5] = [
    ("entry begun", 1),
    ("entry made", 1),
    ("ring named", 1),
    ("pointer", 1),
    ("ring made", 1),
];
const RECOVERY_POINTS: [(&str, u64); 8] = [
    ("run noted", 1),
    ("entry used", 1),
    ("recovery begins", 1),
    ("replayed", 10),
    ("all replayed", 1),
    ("unlinking", 2),
    ("renamed", 8),
    ("put aside", 5),
];

/// Draws a chain in `folder`.
pub(crate) fn chain(random: &mut Random, folder: &std::path::Path, generations: u64) -> Vec<ChainStep> {
    let rotate_mb = *random.pick(&[None, None, Some(0.03), Some(0.1), Some(0.5)]);
    let seed = random.next();
    let is_flat = random.one_in(4);
    (0..generations)
        .map(|generation| {
            let life = ProcessPlan {
                folder: folder.join("log"),
                run: match is_flat {
                    true => RunChoice::Flat,
                    false => run(random),
                },
                receipts: folder.join(format!("receipts-{generation}")),
                seed,
                generation,
                threads: 2 + random.below(3),
                gap: *random.pick(&[0, 0, 2, 50]),
                ring_bytes: (16 << 10) << random.below(9),
                shared_memory: random.one_in(2),
                rotate_mb,
                own_steps: random.one_in(3),
                first_step: 0,
            };
            ChainStep {
                life,
                repeated: random.magnitude(7),
                death: death(random),
                recoveries: recoveries(random),
            }
        })
        .collect()
}

fn run(random: &mut Random) -> RunChoice {
    match random.one_in(4) {
        true => RunChoice::New,
        false => RunChoice::Resumed(format!("r{}", random.below(2))),
    }
}

fn death(random: &mut Random) -> KillPlan {
    match random.below(20) {
        16.. => KillPlan::Signal(random.below(25_000), signal(random)),
        0..8 => KillPlan::Ready(random.below(25_000)),
        8..10 => KillPlan::Started(random.below(25_000)),
        10..14 => point(random, &POINTS),
        14 => point(random, &START_POINTS),
        _ => point(random, &RECOVERY_POINTS),
    }
}

fn signal(random: &mut Random) -> SentSignal {
    let (name, number) = *random.pick(&SIGNALS);
    let killed = name == STOP || random.one_in(3);
    SentSignal {
        name,
        number,
        killed_after: killed.then(|| random.below(20_000)),
    }
}

fn recoveries(random: &mut Random) -> Vec<KillPlan> {
    if !random.one_in(4) {
        return Vec::new();
    }
    let one = |random: &mut Random| match random.one_in(2) {
        true => KillPlan::Started(random.below(8_000)),
        false => point(random, &RECOVERY_POINTS),
    };
    (0..1 + random.below(3)).map(|_| one(random)).collect()
}

fn point(random: &mut Random, points: &[(&'static str, u64)]) -> KillPlan {
    let (name, bits) = *random.pick(points);
    KillPlan::Point(name, random.magnitude(bits))
}
