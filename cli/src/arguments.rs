//! The command line.

use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Looks at what training runs have left, completes it and delivers it.
#[derive(Debug, Parser)]
#[command(name = "logcore", version, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print one JSON object
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// The folder that holds the runs [default: outputs/logs, or else the current folder]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "LOGCORE_LOG_DIR",
        hide_env_values = true
    )]
    pub(crate) log_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the runs in a folder
    Ls(ListArguments),
    /// Show one run: configuration, ends, ledger, attempts, files
    Show {
        /// A folder, a folder's name, an id or its beginning, or `latest`
        #[arg(default_value = "latest")]
        run: String,
    },
    /// Show how runs differ: configuration and statistics side by side
    Compare {
        /// Folders, ids or their beginnings, or `latest`
        #[arg(required = true, num_args = 2..)]
        runs: Vec<String>,
    },
    /// Draw curves in the terminal
    Plot(PlotArguments),
    /// Write runs as one HTML page that works offline
    Report(ReportArguments),
    /// Show the page of the runs in a folder, live, in a browser
    Serve(ServeArguments),
    /// Print the newest lines of a run, of all ranks
    Tail(TailArguments),
    /// Print the last calls in the memory of a run, also if it hangs or is stopped
    Snap(SnapArguments),
    /// Wait for the end of a run, or for trouble, and print one JSON object
    Watch(WatchArguments),
    /// Write the rows of a run for another program: of each step those of the newest attempt
    Export(ExportArguments),
    /// Merge the files of all ranks into one text and one file of rows
    Merge {
        /// A run, or the folder that holds the files
        #[arg(default_value = "latest")]
        run: String,
        /// The folder for the merged files [default: the run's]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Complete the files of killed runs
    Repair {
        /// Deliver copies of rings, too, into the folders that they are in
        #[arg(long)]
        trust: bool,
        /// Folders of runs, or folders that hold runs [default: the folder of the runs]
        folders: Vec<PathBuf>,
    },
    /// Make a run of what another program has logged: a CSV file, or a W&B run
    Import(ImportArguments),
    /// Look for what keeps runs from working well, and tell what mends it
    Doctor(DoctorArguments),
    /// Delete old runs, after a list and a yes
    Prune(PruneArguments),
    /// Deliver runs that are only on disk to W&B or MLflow
    Sync(SyncArguments),
    /// Print the manual in the form that `man` reads
    Man(ManArguments),
    /// Print the completions for a shell
    Completions { shell: Shell },
}

#[derive(Debug, Args)]
pub(crate) struct ListArguments {
    /// The folder that holds the runs
    pub(crate) dir: Option<PathBuf>,
    /// Show only runs for which this holds, such as `state = killed`, `config.lr > 1e-4` or
    /// `summary.loss.min < 0.5`; the operators are = != < <= > >= and ~ for a regular expression;
    /// several conditions all hold
    #[arg(long = "where", value_name = "COLUMN OP VALUE")]
    pub(crate) conditions: Vec<String>,
    /// Sort by a column, the greatest first; with a `-` before its name, the least first
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    pub(crate) sort: Option<String>,
    /// Show these columns: id, name, dir, state, age, started, ended, duration, attempt,
    /// world_size, last_step, rows, steps_per_sec, samples_per_sec, mfu, gpu_energy_kwh, goodput,
    /// wandb_url, resumed_from, config.NAME, summary.NAME.last, .min, .max or .mean
    #[arg(long, value_name = "COLUMN,…", value_delimiter = ',')]
    pub(crate) columns: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct PlotArguments {
    /// Runs, and then metrics, such as `loss` [default: the newest run, and its first four metrics]
    #[arg(value_name = "RUN… METRIC")]
    pub(crate) words: Vec<String>,
    /// Lines of a plot
    #[arg(long, default_value_t = 12)]
    pub(crate) height: u16,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArguments {
    /// Folders, ids or their beginnings, or `latest` [default: the newest 20]
    pub(crate) runs: Vec<String>,
    /// The file to write; - is the standard output [default: report.html]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The folder that holds the runs
    pub(crate) dir: Option<PathBuf>,
    /// The address to listen on; others than loopback let the network in
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// The port; 0 for any free one
    #[arg(long, default_value_t = 7117)]
    pub(crate) port: u16,
    /// A further name of this machine that browsers may use
    #[arg(long, value_name = "NAME")]
    pub(crate) allow_host: Vec<String>,
    /// Take the token from a file [default: LOGCORE_TOKEN, or else a random one]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Let everybody on this machine read; on loopback only
    #[arg(long, conflicts_with = "token_file")]
    pub(crate) no_token: bool,
}

#[derive(Debug, Args)]
pub(crate) struct TailArguments {
    /// A folder, a folder's name, an id or its beginning, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    /// Number of lines
    #[arg(short = 'n', long, default_value_t = 20)]
    pub(crate) lines: usize,
    /// Go on with the lines that come, also of a later attempt; --json prints one object a line
    #[arg(short, long)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SnapArguments {
    /// The id of a process, or a run: a folder, a folder's name, an id or its beginning, or
    /// `latest`
    #[arg(value_name = "PID|RUN", default_value = "latest")]
    pub(crate) process_or_run: String,
    /// Number of calls
    #[arg(short = 'n', long, default_value_t = 100)]
    pub(crate) lines: usize,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArguments {
    /// A folder, a folder's name, an id or its beginning, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    /// The events to wait for
    #[arg(long, value_enum, value_delimiter = ',', default_value = "end")]
    pub(crate) until: Vec<WatchedEvent>,
    /// The time without a new row and without a movement that a rank tells that is a stall, such as
    /// 90s, 10m or 2h; a stall that the run's own watchdog tells is seen at once
    #[arg(long, value_name = "TIME", value_parser = parse_time, default_value = "10m")]
    pub(crate) stall_after: Duration,
    /// Give up after so much time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WatchedEvent {
    End,
    Nan,
    Stall,
}

/// Reads a time such as `90s`, `10m`, `2h` or `1d`; without a unit, seconds.
pub(crate) fn parse_time(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().last() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&text[..at], unit),
        _ => (text, 's'),
    };
    let factor = match unit {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3600.0,
        'd' => 86400.0,
        _ => return Err(format!("`{unit}` is no unit of time: write s, m, h or d")),
    };
    let seconds = number.parse::<f64>().map_err(|_| format!("`{number}` is no number"))? * factor;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Reads a time as [`parse_time`] does, with a unit: who writes 30 for 30 days would delete all runs
/// of more than 30 seconds ago.
fn parse_age(text: &str) -> Result<Duration, String> {
    let age = parse_time(text)?;
    match text.ends_with(|unit: char| unit.is_ascii_alphabetic()) {
        true => Ok(age),
        false => Err(format!(
            "`{text}` has no unit: write {text}s, {text}m, {text}h or {text}d"
        )),
    }
}

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// A folder, a folder's name, an id or its beginning, or `latest`
    pub(crate) run: String,
    /// The form of the output
    #[arg(long, value_enum)]
    pub(crate) to: ExportForm,
    /// The file to write; - is the standard output. For TensorBoard, a new folder
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub(crate) output: PathBuf,
    /// The rank whose rows are written
    #[arg(long, default_value_t = 0)]
    pub(crate) rank: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ExportForm {
    Csv,
    Jsonl,
    Parquet,
    /// Event files, in the folder that -o names
    #[value(name = "tensorboard")]
    TensorBoard,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// A .csv file, a .wandb file, a folder that holds W&B runs, or an event file of TensorBoard or
    /// a folder of them
    pub(crate) path: PathBuf,
    /// The name of the run [default: that of the file, the folder, or the W&B run]
    #[arg(long)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArguments {
    /// The folder that holds the runs
    pub(crate) dir: Option<PathBuf>,
    /// Ask no server
    #[arg(long)]
    pub(crate) offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// The command whose page is printed [default: the page of the program]
    #[arg(conflicts_with = "output")]
    pub(crate) page: Option<String>,
    /// Write all pages into this folder
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct PruneArguments {
    /// The folder that holds the runs
    pub(crate) dir: Option<PathBuf>,
    /// Keep the newest N of the runs for which all conditions hold
    #[arg(long, value_name = "N")]
    pub(crate) keep: Option<usize>,
    /// Delete only runs that ended so long ago, such as 12h or 30d
    #[arg(long, value_name = "TIME", value_parser = parse_age)]
    pub(crate) older_than: Option<Duration>,
    /// Delete only runs for which this holds, as for `ls`
    #[arg(long = "where", value_name = "COLUMN OP VALUE")]
    pub(crate) conditions: Vec<String>,
    /// Delete W&B runs, too, that the server does not have completely
    #[arg(long)]
    pub(crate) unsent: bool,
    /// Delete without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// List what would be deleted, and delete nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SyncArguments {
    /// Folders of runs, or folders that hold runs [default: the folder of the runs]
    pub(crate) folders: Vec<PathBuf>,
    /// The kind of the server
    #[arg(long, value_enum, default_value_t)]
    pub(crate) to: SyncTarget,
    /// The address of the server
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Give up on a run after so many seconds of failures
    #[arg(long, value_name = "SECONDS")]
    pub(crate) retry_limit: Option<u64>,
}

/// A kind of server that runs are delivered to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum SyncTarget {
    #[default]
    Wandb,
    Mlflow,
}

impl Command {
    /// Returns the name, as the user writes it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ls(_) => "ls",
            Self::Show { .. } => "show",
            Self::Compare { .. } => "compare",
            Self::Plot(_) => "plot",
            Self::Report(_) => "report",
            Self::Serve(_) => "serve",
            Self::Tail(_) => "tail",
            Self::Snap(_) => "snap",
            Self::Watch(_) => "watch",
            Self::Export(_) => "export",
            Self::Merge { .. } => "merge",
            Self::Repair { .. } => "repair",
            Self::Import(_) => "import",
            Self::Doctor(_) => "doctor",
            Self::Prune(_) => "prune",
            Self::Sync(_) => "sync",
            Self::Man(_) => "man",
            Self::Completions { .. } => "completions",
        }
    }

    /// Returns `true` if the command writes files that the user names.
    #[cfg(unix)]
    pub(crate) fn has_output(&self) -> bool {
        matches!(
            self,
            Self::Export(_) | Self::Man(_) | Self::Merge { .. } | Self::Report(_)
        )
    }
}

/// Joins a condition that the user has written as three words, `--where state = killed`.
pub(crate) fn join_conditions(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let is_condition = argument == "--where";
        joined.push(argument);
        let Some(column) = arguments.next_if(|_| is_condition) else {
            continue;
        };
        // Also what other languages write, which the condition refuses with a remedy.
        let is_operator = |next: &str| !next.is_empty() && next.chars().all(|sign| "=!<>~".contains(sign));
        let operator = arguments.next_if(|next| next.to_str().is_some_and(is_operator));
        let mut condition = column;
        if let Some(operator) = operator {
            condition.push(" ");
            condition.push(operator);
            condition.push(" ");
            condition.push(arguments.next().unwrap_or_default());
        }
        joined.push(condition);
    }
    joined
}

/// The operators of conditions. One that begins as another does comes first.
pub(crate) const OPERATORS: [&str; 7] = ["!=", "<=", ">=", "=", "<", ">", "~"];

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("90", 90.0),
            ("1.5m", 90.0),
            ("2h", 7200.0),
            ("1d", 86400.0),
            ("0s", 0.0),
        ] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs_f64(seconds)));
        }
        assert!(
            ["", "m", "-1s", "3w", "1e99d", "é"]
                .iter()
                .all(|text| parse_time(text).is_err())
        );
    }

    #[test]
    fn a_condition_is_one_word_or_three() {
        let join = |words: &str| -> Vec<String> {
            let words = words.split('|').map(OsString::from);
            let joined = join_conditions(words);
            joined.into_iter().map(|word| word.into_string().unwrap()).collect()
        };
        assert_eq!(
            join("ls|--where|state|=|killed|dir"),
            ["ls", "--where", "state = killed", "dir"]
        );
        assert_eq!(
            join("ls|--where|state=killed|dir"),
            ["ls", "--where", "state=killed", "dir"]
        );
        assert_eq!(join("ls|--where|state|==|killed"), ["ls", "--where", "state == killed"]);
        assert_eq!(join("ls|--where"), ["ls", "--where"]);
    }
}
