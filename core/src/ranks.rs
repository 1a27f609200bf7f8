//! The rank of this process in a run of several processes.

use std::env;

use serde::{Deserialize, Serialize};

use crate::{ConfigError, LogConfig};

/// The rank of this process in the run, from the config or from the environment of the launcher.
///
/// ```
/// use logcore::{LogConfig, Ranks};
///
/// let config = LogConfig { rank: Some(3), world_size: Some(8), ..LogConfig::default() };
/// let ranks = Ranks::from_config(&config);
/// assert_eq!((ranks.rank, ranks.world_size), (3, Some(8)));
/// assert!(!ranks.is_first());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ranks {
    /// Number of the process in the whole run; 0 in a run of one process.
    pub rank: u32,
    /// Number of the process on its machine, if known.
    pub local_rank: Option<u32>,
    /// Number of processes in the run, if known.
    pub world_size: Option<u32>,
}

impl Ranks {
    /// Reads the environment. The first of these launchers that sets a rank provides all three
    /// numbers:
    ///
    /// | launcher | rank | local rank | world size |
    /// |---|---|---|---|
    /// | torchrun | `RANK` | `LOCAL_RANK` | `WORLD_SIZE` |
    /// | SLURM | `SLURM_PROCID` | `SLURM_LOCALID` | `SLURM_NTASKS` |
    /// | Open MPI | `OMPI_COMM_WORLD_RANK` | `OMPI_COMM_WORLD_LOCAL_RANK` | `OMPI_COMM_WORLD_SIZE` |
    /// | other MPIs | `PMI_RANK` | `PMI_LOCAL_RANK` or `MPI_LOCALRANKID` | `PMI_SIZE` |
    ///
    /// A launcher with invalid variables is ignored; see [`Ranks::env_problem`]. Without a
    /// launcher, the run has one process.
    #[must_use]
    pub fn from_env() -> Self {
        read(variable).0
    }

    /// Returns the reason why [`Ranks::from_env`] ignored a launcher: a variable that is not a
    /// number, or a rank beyond the world size.
    ///
    /// ```
    /// // No launcher started this program, or its variables are valid.
    /// assert_eq!(logcore::Ranks::env_problem(), None);
    /// ```
    #[must_use]
    pub fn env_problem() -> Option<ConfigError> {
        read(variable).1
    }

    /// Reads the config, and the environment for the fields that the config leaves open.
    #[must_use]
    pub fn from_config(config: &LogConfig) -> Self {
        Self::from_env().overlaid(config.rank, config.world_size)
    }

    /// Returns `true` for rank 0, which logs for all ranks.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    fn overlaid(mut self, rank: Option<u32>, world_size: Option<u32>) -> Self {
        if let Some(rank) = rank.filter(|rank| *rank != self.rank) {
            // The local rank belongs to the rank of the environment.
            (self.rank, self.local_rank) = (rank, None);
        }
        self.world_size = world_size.or(self.world_size).filter(|size| self.rank < *size);
        self
    }
}

/// The rank of the only process of a run.
impl Default for Ranks {
    fn default() -> Self {
        Self {
            rank: 0,
            local_rank: Some(0),
            world_size: Some(1),
        }
    }
}

/// The rank in the file names of a process: `training.rank3.log`. `None` if the names have no rank.
///
/// ```
/// use logcore::FileRank;
///
/// assert_eq!(FileRank(Some(3)).file_name("training.log"), "training.rank3.log");
/// assert_eq!(FileRank(Some(3)).file_name("training"), "training.rank3");
/// assert_eq!(FileRank(None).file_name("training.log"), "training.log");
/// assert_eq!(FileRank::parse("training.rank3.log"), Some(("training.log".to_owned(), 3)));
/// assert_eq!(FileRank::parse("training.log"), None);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRank(pub Option<u32>);

impl FileRank {
    /// Returns the rank for the file names of a process with this config. Rank 0 has none, and no
    /// rank has one if `rank_files` is off.
    #[must_use]
    pub fn from_config(config: &LogConfig) -> Self {
        let ranks = Ranks::from_config(config);
        Self((config.rank_files && !ranks.is_first()).then_some(ranks.rank))
    }

    /// Returns the name of this rank's file. The rank stands before the last extension.
    #[must_use]
    pub fn file_name(&self, name: &str) -> String {
        let Some(rank) = self.0 else { return name.to_owned() };
        let (stem, extension) = split_extension(name);
        format!("{stem}.rank{rank}{extension}")
    }

    /// Splits a file name into the name without a rank, and the rank. Returns `None` if the name
    /// has no rank.
    #[must_use]
    pub fn parse(name: &str) -> Option<(String, u32)> {
        let parse = |text: &str, extension: &str| {
            let (stem, digits) = text.rsplit_once(".rank")?;
            let rank: u32 = digits.parse().ok()?;
            // Only names that `file_name` returns: no leading zeros.
            (!stem.is_empty() && rank.to_string() == digits).then(|| (format!("{stem}{extension}"), rank))
        };
        let (stem, extension) = split_extension(name);
        parse(stem, extension).or_else(|| parse(name, ""))
    }
}

/// Splits a name into stem and extension. The extension includes its dot; a leading dot starts no
/// extension.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        None | Some(0) => (name, ""),
        Some(dot) => name.split_at(dot),
    }
}

/// The variables of one launcher. Of several names, the first that is set counts.
struct Launcher {
    rank: &'static str,
    local_rank: &'static [&'static str],
    world_size: &'static str,
}

/// The innermost launcher first: SLURM starts torchrun, never the other way around.
const LAUNCHERS: [Launcher; 4] = [
    Launcher {
        rank: "RANK",
        local_rank: &["LOCAL_RANK"],
        world_size: "WORLD_SIZE",
    },
    Launcher {
        rank: "SLURM_PROCID",
        local_rank: &["SLURM_LOCALID"],
        world_size: "SLURM_NTASKS",
    },
    Launcher {
        rank: "OMPI_COMM_WORLD_RANK",
        local_rank: &["OMPI_COMM_WORLD_LOCAL_RANK"],
        world_size: "OMPI_COMM_WORLD_SIZE",
    },
    Launcher {
        rank: "PMI_RANK",
        local_rank: &["PMI_LOCAL_RANK", "MPI_LOCALRANKID"],
        world_size: "PMI_SIZE",
    },
];

fn variable(name: &str) -> Option<String> {
    Some(env::var_os(name)?.to_string_lossy().into_owned()).filter(|value| !value.trim().is_empty())
}

fn read(variable: impl Fn(&str) -> Option<String>) -> (Ranks, Option<ConfigError>) {
    let mut problem = None;
    for launcher in &LAUNCHERS {
        match launcher.read(&variable) {
            Ok(Some(ranks)) => return (ranks, problem),
            Ok(None) => {}
            Err(error) => drop(problem.get_or_insert(error)),
        }
    }
    (Ranks::default(), problem)
}

impl Launcher {
    /// Returns `None` if the launcher sets no rank: it did not start this process.
    fn read(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Ranks>, ConfigError> {
        let number = |name: &str| {
            let Some(text) = variable(name) else { return Ok(None) };
            text.trim().parse::<u32>().map(Some).map_err(|_| {
                let remedy = "not a non-negative integer, so this launcher is ignored; unset the variable, or set \
                              `rank` and `world_size`";
                ConfigError::new(name, format!("\"{}\"", text.escape_debug()), remedy)
            })
        };
        let Some(rank) = number(self.rank)? else {
            return Ok(None);
        };
        let world_size = number(self.world_size)?;
        if let Some(size) = world_size.filter(|size| rank >= *size) {
            let remedy = format!(
                "{} is {size}, so this launcher is ignored; set `rank` and `world_size`",
                self.world_size
            );
            return Err(ConfigError::new(self.rank, rank, remedy));
        }
        let local_rank = self.local_rank.iter().find(|name| variable(name).is_some());
        Ok(Some(Ranks {
            rank,
            local_rank: local_rank.map_or(Ok(None), |name| number(name))?,
            world_size,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(variables: &[(&str, &str)]) -> (Ranks, Option<String>) {
        let (ranks, problem) = read(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (ranks, problem.map(|error| error.field))
    }

    fn ranks(rank: u32, local_rank: Option<u32>, world_size: Option<u32>) -> Ranks {
        Ranks {
            rank,
            local_rank,
            world_size,
        }
    }

    #[test]
    fn from_env_reads_every_launcher() {
        for (variables, expected) in [
            (&[][..], Ranks::default()),
            (
                &[("RANK", "11"), ("LOCAL_RANK", "3"), ("WORLD_SIZE", "16")],
                ranks(11, Some(3), Some(16)),
            ),
            (
                &[("SLURM_PROCID", "2"), ("SLURM_LOCALID", "0"), ("SLURM_NTASKS", "4")],
                ranks(2, Some(0), Some(4)),
            ),
            (
                &[
                    ("OMPI_COMM_WORLD_RANK", "1"),
                    ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
                    ("OMPI_COMM_WORLD_SIZE", "2"),
                ],
                ranks(1, Some(1), Some(2)),
            ),
            (
                &[("PMI_RANK", "5"), ("PMI_SIZE", "6"), ("MPI_LOCALRANKID", "1")],
                ranks(5, Some(1), Some(6)),
            ),
            // A shell in a SLURM allocation is one process.
            (
                &[("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0"), ("SLURM_NTASKS", "1")],
                Ranks::default(),
            ),
            // The inner launcher provides all three numbers.
            (
                &[
                    ("RANK", "7"),
                    ("SLURM_PROCID", "1"),
                    ("SLURM_LOCALID", "0"),
                    ("SLURM_NTASKS", "2"),
                ],
                ranks(7, None, None),
            ),
            // A launcher without a rank did not start the process.
            (
                &[("WORLD_SIZE", "8"), ("LOCAL_RANK", "2"), ("SLURM_NTASKS", "8")],
                Ranks::default(),
            ),
        ] {
            assert_eq!(of(variables), (expected, None), "{variables:?}");
        }
    }

    #[test]
    fn from_env_with_invalid_variables_ignores_the_launcher_and_names_the_variable() {
        for (variables, expected, field) in [
            (&[("RANK", "gold")][..], Ranks::default(), "RANK"),
            (&[("RANK", "-1"), ("WORLD_SIZE", "8")], Ranks::default(), "RANK"),
            (&[("RANK", "8"), ("WORLD_SIZE", "8")], Ranks::default(), "RANK"),
            (&[("RANK", "1"), ("WORLD_SIZE", "many")], Ranks::default(), "WORLD_SIZE"),
            (
                &[("RANK", "gold"), ("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4")],
                ranks(3, None, Some(4)),
                "RANK",
            ),
        ] {
            assert_eq!(of(variables), (expected, Some(field.to_owned())), "{variables:?}");
        }
    }

    #[test]
    fn config_overrides_the_environment() {
        let env = ranks(5, Some(1), Some(8));
        assert_eq!(env.overlaid(None, None), env);
        assert_eq!(env.overlaid(Some(2), None), ranks(2, None, Some(8)));
        assert_eq!(env.overlaid(Some(9), None), ranks(9, None, None));
        assert_eq!(env.overlaid(None, Some(6)), ranks(5, Some(1), Some(6)));
        assert_eq!(Ranks::default().overlaid(Some(3), None), ranks(3, None, None));
    }

    proptest! {
        #[test]
        fn parse_reverts_file_name(name in "[a-z.]{0,4}[a-z][.a-z0-9]{0,8}", rank: u32) {
            let named = FileRank(Some(rank)).file_name(&name);
            prop_assert_eq!(FileRank::parse(&named), Some((name, rank)));
        }
    }
}
