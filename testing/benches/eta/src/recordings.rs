/// The step times of a program that really ran, from a file in `recorded/`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Name of the file.
    pub name: &'static str,
    /// The program, and the machine's other work.
    pub run: &'static str,
    /// `true` if it was set apart before any estimator saw it. The present estimator was made in
    /// sight of all.
    pub held_out: bool,
    /// Seconds of each step.
    pub steps: Vec<f64>,
}

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("recorded/", $name, ".txt")))),*]
    };
}

/// Recorded on two cores that also compiled other programs. Which are held out was decided before
/// any estimator saw them: ten at first, and all since. Both `train-rows` are older.
const FILES: &[(&str, &str)] = files![
    "cargo-units",
    "disk-throttled",
    "gzip-folder",
    "numpy-batches",
    "numpy-lengths",
    "python-garbage",
    "sort-caches",
    "sqlite-import",
    "train-alone",
    "train-paused",
    "train-rows-1",
    "train-rows-2",
    "disk-cold",
    "fetch-loopback",
    "hash-files",
    "node-warm-up",
    "python-compile",
    "train-beside-build",
    "train-checkpoints",
    "train-hot",
    "train-nice",
    "train-validated",
    "bpe-merges",
    "gcc-units",
    "git-commits",
    "grep-tree",
    "gru-epochs",
    "images",
    "node-index",
    "numpy-idle",
    "numpy-kmeans",
    "numpy-loader",
    "numpy-quota",
    "q-learning",
    "rustc-crates",
    "sha-usr",
    "sqlite-queries",
    "sqlite-updates",
    "sweep",
    "train-limited",
    "write-synced",
    "xz-folder",
    "zstd-files",
];

impl Recording {
    /// Returns all recordings, the held-out ones last.
    pub fn all() -> Vec<Self> {
        FILES.iter().map(|(name, text)| Self::parse(name, text)).collect()
    }

    /// Parses the text of a file: three lines, `run: TEXT`, `set: develop` or `set: judge`,
    /// `unit: N µs`, and the times of the steps in that unit, as integers.
    fn parse(name: &'static str, text: &'static str) -> Self {
        let mut lines = text.lines();
        let mut field = |key: &str| {
            let value = lines.next().and_then(|line| line.strip_prefix(key));
            value.unwrap_or_else(|| panic!("{name}: no line `{key}`"))
        };
        let run = field("run: ");
        let held_out = field("set: ") == "judge";
        let unit: f64 = field("unit: ").trim_end_matches(" µs").parse().expect("a unit");
        let times = lines.flat_map(|line| line.split(' '));
        let steps = times
            .map(|time| f64::from(time.parse::<u32>().expect("a time")) * unit * 1e-6)
            .collect();
        Self {
            name,
            run,
            held_out,
            steps,
        }
    }
}
