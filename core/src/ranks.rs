//! Which of several processes this is.

use std::env;

use serde::{Deserialize, Serialize};

use crate::{ConfigError, LogConfig};

/// The place of this process among those of the run, as its launcher or the config says.
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
    /// The number of the process in the whole run; 0 where there is only one.
    pub rank: u32,
    /// The number of the process on its machine, if that is known.
    pub local_rank: Option<u32>,
    /// How many processes there are, if that is known.
    pub world_size: Option<u32>,
}

impl Ranks {
    /// What the environment says. The first of these launchers that gives a rank is asked for all three:
    ///
    /// | launcher | rank | local rank | world size |
    /// |---|---|---|---|
    /// | torchrun | `RANK` | `LOCAL_RANK` | `WORLD_SIZE` |
    /// | SLURM | `SLURM_PROCID` | `SLURM_LOCALID` | `SLURM_NTASKS` |
    /// | Open MPI | `OMPI_COMM_WORLD_RANK` | `OMPI_COMM_WORLD_LOCAL_RANK` | `OMPI_COMM_WORLD_SIZE` |
    /// | other MPIs | `PMI_RANK` | `PMI_LOCAL_RANK` or `MPI_LOCALRANKID` | `PMI_SIZE` |
    ///
    /// One whose variables make no sense is left out; [`Ranks::env_problem`] tells. Without a launcher there is one
    /// process.
    pub fn from_env() -> Self {
        read(variable).0
    }

    /// What [`Ranks::from_env`] has left out, and why: a variable that is no number, a rank beyond the world size.
    pub fn env_problem() -> Option<ConfigError> {
        read(variable).1
    }

    /// What `config` says, and the environment where it says nothing.
    pub fn from_config(config: &LogConfig) -> Self {
        Self::from_env().overlaid(config.rank, config.world_size)
    }

    /// Whether this is rank 0, which speaks for all.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    fn overlaid(mut self, rank: Option<u32>, world_size: Option<u32>) -> Self {
        if let Some(rank) = rank.filter(|rank| *rank != self.rank) {
            // The local rank is that of the rank which the environment gave.
            (self.rank, self.local_rank) = (rank, None);
        }
        self.world_size = world_size.or(self.world_size).filter(|size| self.rank < *size);
        self
    }
}

/// One process alone.
impl Default for Ranks {
    fn default() -> Self {
        Self {
            rank: 0,
            local_rank: Some(0),
            world_size: Some(1),
        }
    }
}

/// The rank in the names of a process's files, if it has files of its own.
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
    /// The rank that stands in the names of the files of a process with this config: rank 0 has none, nor has any where
    /// `rank_files` is off.
    pub fn from_config(config: &LogConfig) -> Self {
        let ranks = Ranks::from_config(config);
        Self((config.rank_files && !ranks.is_first()).then_some(ranks.rank))
    }

    /// The name of this rank's file: the rank stands before the last ending.
    pub fn file_name(&self, name: &str) -> String {
        let Some(rank) = self.0 else { return name.to_owned() };
        let (stem, ending) = split(name);
        format!("{stem}.rank{rank}{ending}")
    }

    /// The name without a rank, and the rank; `None` if there is none in it.
    pub fn parse(name: &str) -> Option<(String, u32)> {
        let of = |text: &str, ending: &str| {
            let (stem, digits) = text.rsplit_once(".rank")?;
            let rank: u32 = digits.parse().ok()?;
            // Only what `name` would have written.
            (!stem.is_empty() && rank.to_string() == digits).then(|| (format!("{stem}{ending}"), rank))
        };
        let (stem, ending) = split(name);
        of(stem, ending).or_else(|| of(name, ""))
    }
}

/// A name before its last ending, and the ending with its dot. A dot at the beginning begins no ending.
fn split(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        None | Some(0) => (name, ""),
        Some(dot) => name.split_at(dot),
    }
}

/// What one launcher calls them. Of several names the first that is set counts.
struct Launcher {
    rank: &'static str,
    local_rank: &'static [&'static str],
    world_size: &'static str,
}

/// The innermost first: torchrun is started by SLURM, never the other way around.
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
    let mut nonsense = None;
    for launcher in &LAUNCHERS {
        match launcher.read(&variable) {
            Ok(Some(ranks)) => return (ranks, nonsense),
            Ok(None) => {}
            Err(error) => drop(nonsense.get_or_insert(error)),
        }
    }
    (Ranks::default(), nonsense)
}

impl Launcher {
    /// `None` if it gives no rank: then it did not start this process.
    fn read(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Ranks>, ConfigError> {
        let number = |name: &str| {
            let Some(text) = variable(name) else { return Ok(None) };
            text.trim().parse::<u32>().map(Some).map_err(|_| {
                let remedy = "it is no number from 0 on, so this launcher is not listened to; unset it, or set `rank` and `world_size`";
                ConfigError::new(name, format!("\"{}\"", text.escape_debug()), remedy)
            })
        };
        let Some(rank) = number(self.rank)? else {
            return Ok(None);
        };
        let world_size = number(self.world_size)?;
        if let Some(size) = world_size.filter(|size| rank >= *size) {
            let remedy = format!(
                "{} says that there are {size} processes, so this launcher is not listened to; set `rank` and `world_size`",
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
        let (ranks, nonsense) = read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        });
        (ranks, nonsense.map(|error| error.field))
    }

    fn ranks(rank: u32, local_rank: Option<u32>, world_size: Option<u32>) -> Ranks {
        Ranks {
            rank,
            local_rank,
            world_size,
        }
    }

    #[test]
    fn every_launcher_is_understood() {
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
            // A step of a shell in an allocation is one process.
            (
                &[("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0"), ("SLURM_NTASKS", "1")],
                Ranks::default(),
            ),
            // The set of the inner launcher is taken as a whole.
            (
                &[
                    ("RANK", "7"),
                    ("SLURM_PROCID", "1"),
                    ("SLURM_LOCALID", "0"),
                    ("SLURM_NTASKS", "2"),
                ],
                ranks(7, None, None),
            ),
            // Whoever gives no rank has started nothing.
            (
                &[("WORLD_SIZE", "8"), ("LOCAL_RANK", "2"), ("SLURM_NTASKS", "8")],
                Ranks::default(),
            ),
        ] {
            assert_eq!(of(variables), (expected, None), "{variables:?}");
        }
    }

    #[test]
    fn nonsense_is_left_out_and_named() {
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
    fn the_config_goes_before_the_environment() {
        let env = ranks(5, Some(1), Some(8));
        assert_eq!(env.overlaid(None, None), env);
        assert_eq!(env.overlaid(Some(2), None), ranks(2, None, Some(8)));
        assert_eq!(env.overlaid(Some(9), None), ranks(9, None, None));
        assert_eq!(env.overlaid(None, Some(6)), ranks(5, Some(1), Some(6)));
        assert_eq!(Ranks::default().overlaid(Some(3), None), ranks(3, None, None));
    }

    proptest! {
        #[test]
        fn a_name_is_found_again(name in "[a-z.]{0,4}[a-z][.a-z0-9]{0,8}", rank: u32) {
            let named = FileRank(Some(rank)).file_name(&name);
            prop_assert_eq!(FileRank::parse(&named), Some((name, rank)));
        }
    }
}
