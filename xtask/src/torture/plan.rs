//! What a chain of processes does, and how each of them is killed.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// What one process of a chain does until it is killed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Life {
    pub(crate) folder: PathBuf,
    /// Where it writes which of its calls have returned.
    pub(crate) receipts: PathBuf,
    pub(crate) seed: u64,
    pub(crate) generation: u64,
    pub(crate) threads: u64,
    /// Microseconds between two calls of a thread.
    pub(crate) gap: u64,
    pub(crate) ring_bytes: u64,
    pub(crate) shared_memory: bool,
    pub(crate) rotate_mb: Option<f64>,
    /// Its first thread alone logs metrics, at steps of its own, with a handle for every second value.
    pub(crate) own_steps: bool,
}

/// How a process dies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Death {
    /// So many microseconds after it said that it is ready.
    Ready(u64),
    /// After it was started: its setting up is hit.
    Started(u64),
    /// When it passes a point for the n-th time.
    Point(&'static str, u64),
    /// By another signal, so many microseconds after it said that it is ready.
    Signal(u64, Signal),
}

/// Another signal than the one that nobody can handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signal {
    pub(crate) name: &'static str,
    pub(crate) number: i32,
    /// So many microseconds later comes the one that nobody can handle; without it the process ends by the first.
    pub(crate) killed_after: Option<u64>,
}

/// Those that end a process at once, those that the logger sees to first, and one that stops it.
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

impl Death {
    /// What is counted together.
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

/// The life and the death of one process, and how often the folder is recovered after it by processes that are killed, too.
pub(crate) struct Step {
    pub(crate) life: Life,
    pub(crate) death: Death,
    pub(crate) recoveries: Vec<Death>,
}

/// The points of the ring and of the files, and up to which power of two they are counted.
const POINTS: [(&str, u64); 16] = [
    ("reserved", 11),
    ("length", 11),
    ("body", 11),
    ("copied", 11),
    ("committed", 11),
    ("before write", 5),
    ("after write", 5),
    ("marks", 4),
    ("slot", 4),
    ("saved", 4),
    ("turn", 4),
    ("head", 4),
    ("renamed", 8),
    ("put aside", 5),
    ("ring begun", 1),
    ("ring made", 1),
];
const START_POINTS: [(&str, u64); 3] = [("ring named", 1), ("pointer", 1), ("ring made", 1)];
const RECOVERY_POINTS: [(&str, u64); 6] = [
    ("recovery begins", 1),
    ("replayed", 10),
    ("all replayed", 1),
    ("unlinking", 2),
    ("renamed", 8),
    ("put aside", 5),
];

/// Draws a chain in `folder`.
pub(crate) fn chain(random: &mut Random, folder: &std::path::Path, generations: u64) -> Vec<Step> {
    let rotate_mb = *random.pick(&[None, None, Some(0.03), Some(0.1), Some(0.5)]);
    let seed = random.next();
    (0..generations)
        .map(|generation| {
            let life = Life {
                folder: folder.join("log"),
                receipts: folder.join(format!("receipts-{generation}")),
                seed,
                generation,
                threads: 2 + random.below(3),
                gap: *random.pick(&[0, 0, 2, 50]),
                ring_bytes: (16 << 10) << random.below(9),
                shared_memory: random.one_in(2),
                rotate_mb,
                own_steps: random.one_in(3),
            };
            Step {
                life,
                death: death(random),
                recoveries: recoveries(random),
            }
        })
        .collect()
}

fn death(random: &mut Random) -> Death {
    match random.below(20) {
        16.. => Death::Signal(random.below(25_000), signal(random)),
        0..8 => Death::Ready(random.below(25_000)),
        8..10 => Death::Started(random.below(25_000)),
        10..14 => point(random, &POINTS),
        14 => point(random, &START_POINTS),
        _ => point(random, &RECOVERY_POINTS),
    }
}

fn signal(random: &mut Random) -> Signal {
    let (name, number) = *random.pick(&SIGNALS);
    let killed = name == STOP || random.one_in(3);
    Signal {
        name,
        number,
        killed_after: killed.then(|| random.below(20_000)),
    }
}

fn recoveries(random: &mut Random) -> Vec<Death> {
    if !random.one_in(4) {
        return Vec::new();
    }
    let one = |random: &mut Random| match random.one_in(2) {
        true => Death::Started(random.below(8_000)),
        false => point(random, &RECOVERY_POINTS),
    };
    (0..1 + random.below(3)).map(|_| one(random)).collect()
}

fn point(random: &mut Random, points: &[(&'static str, u64)]) -> Death {
    let (name, bits) = *random.pick(points);
    Death::Point(name, random.magnitude(bits))
}
