//! The state of a git repository, read from its files without a child process.
//!
//! Anybody may have written these files. So only hashes, names of refs and the address of a remote
//! are taken from them, each checked, and no name in them leads to a file outside the repository's
//! own folders.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use logcore::escape::to_one_line;
use logcore::serde_json::Value;
use logcore::{GitFacts, files, redacted};

/// Returns the state of the repository that holds `folder`; `None` if no repository does.
pub(super) fn read_repository(folder: &Path) -> Option<GitFacts> {
    folder.ancestors().take(MAX_DEPTH).find_map(|folder| {
        let repository = Repository::open(&folder.join(".git"))?;
        let head = repository.resolve("HEAD")?;
        Some(GitFacts {
            branch: head.branch(),
            commit: head.commit,
            remote: repository.remote(),
        })
    })
}

/// Most folders between the working folder and the repository's.
const MAX_DEPTH: usize = 64;
/// Most refs that lead from `HEAD` to a commit.
const MAX_REFS: usize = 5;
/// Most bytes of a file with one line.
const LINE_LIMIT: u64 = 8 << 10;
/// Most bytes of a repository's `config`.
const CONFIG_LIMIT: u64 = 1 << 20;
/// Bytes of `packed-refs` that are searched. A ref has about 100.
const PACKED_LIMIT: u64 = 64 << 20;

/// The folders of a repository.
struct Repository {
    /// The folder with `HEAD`, which a worktree has for itself.
    own: PathBuf,
    /// The folder with branches and config, which all worktrees share.
    common: PathBuf,
}

/// The end of the refs that begin with `HEAD`.
struct Head {
    /// The last ref, such as `refs/heads/main`; `None` if `HEAD` is a commit.
    name: Option<String>,
    commit: Option<String>,
}

impl Repository {
    /// Opens the folder `.git`, or the folder that the file `.git` of a worktree or a submodule
    /// names.
    fn open(path: &Path) -> Option<Self> {
        let kind = fs::metadata(path).ok()?;
        let own = match kind.is_dir() {
            true => path.to_owned(),
            false => path.parent()?.join(read_line(path)?.strip_prefix("gitdir:")?.trim()),
        };
        let common = match read_line(&own.join("commondir")) {
            Some(common) => own.join(common),
            None => own.clone(),
        };
        Some(Self { own, common })
    }

    /// Follows a ref to its commit. `None` if that is no ref, so that this is no repository.
    fn resolve(&self, first: &str) -> Option<Head> {
        let mut name = first.to_owned();
        for _ in 0..MAX_REFS {
            let Some(content) = self.ref_content(&name) else {
                // A branch without a commit has no file.
                return (name != first).then_some(Head {
                    name: Some(name),
                    commit: None,
                });
            };
            if is_hash(&content) {
                return Some(Head {
                    name: Some(name).filter(|name| name != first),
                    commit: Some(content),
                });
            }
            let target = content.strip_prefix("ref:")?.trim();
            if !is_ref_name(target) {
                return None;
            }
            target.clone_into(&mut name);
        }
        None
    }

    /// Returns the content of a ref.
    fn ref_content(&self, name: &str) -> Option<String> {
        read_line(&self.own.join(name))
            .or_else(|| read_line(&self.common.join(name)))
            .or_else(|| self.packed_hash(name))
    }

    /// Searches `packed-refs`, whose lines are `<hash> <name>`.
    fn packed_hash(&self, name: &str) -> Option<String> {
        let file = files::open_no_follow(&self.common.join("packed-refs")).ok()?;
        let lines = BufReader::new(file.take(PACKED_LIMIT)).split(b'\n');
        lines.map_while(Result::ok).find_map(|line| {
            let hash = line.strip_suffix(name.as_bytes())?.strip_suffix(b" ")?;
            std::str::from_utf8(hash)
                .ok()
                .filter(|hash| is_hash(hash))
                .map(str::to_owned)
        })
    }

    /// Returns the address of `origin`, else of the first remote, without a password.
    fn remote(&self) -> Option<String> {
        let config = files::read_no_follow(&self.common.join("config"), CONFIG_LIMIT).ok()?;
        let address = remote_address(&String::from_utf8_lossy(&config))?;
        match redacted(&Value::String(address)) {
            Value::String(shown) => Some(to_one_line(&shown).into_owned()),
            _ => None,
        }
    }
}

impl Head {
    fn branch(&self) -> Option<String> {
        let branch = self.name.as_deref()?.strip_prefix("refs/heads/")?;
        // The name in a repository whose refs lie in a database.
        (branch != ".invalid").then(|| to_one_line(branch).into_owned())
    }
}

/// Reads a file that has one line.
fn read_line(path: &Path) -> Option<String> {
    let text = String::from_utf8(files::read_no_follow(path, LINE_LIMIT).ok()?).ok()?;
    Some(text.trim().to_owned()).filter(|line| !line.is_empty() && !line.contains(char::is_control))
}

/// Returns `true` for a hash of SHA-1 or SHA-256.
fn is_hash(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Returns `true` for the name of a ref, which is a path beneath `refs`.
fn is_ref_name(name: &str) -> bool {
    name.starts_with("refs/") && files::is_plain_relative(Path::new(name))
}

/// Returns the address of `origin` in a repository's config, else that of the first remote.
fn remote_address(config: &str) -> Option<String> {
    let (mut remote, mut first) = (None, None);
    for line in config.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.split_once(']').map_or("", |(section, _)| section);
            remote = section.split_once(' ').and_then(|(kind, name)| {
                let is_remote = kind.eq_ignore_ascii_case("remote");
                is_remote.then(|| name.trim().trim_matches('"').to_owned())
            });
        } else if let (Some(name), Some((key, value))) = (&remote, line.split_once('='))
            && key.trim().eq_ignore_ascii_case("url")
        {
            let address = value.trim().trim_matches('"').to_owned();
            if name == "origin" {
                return Some(address);
            }
            first.get_or_insert(address);
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use tempfile::TempDir;

    use super::*;

    const HASH: &str = "0123456789abcdef0123456789abcdef01234567";

    /// Creates a repository of these files.
    fn repository(content: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in content {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn facts(commit: Option<&str>, branch: Option<&str>) -> Option<GitFacts> {
        Some(GitFacts {
            commit: commit.map(str::to_owned),
            branch: branch.map(str::to_owned),
            remote: None,
        })
    }

    #[test]
    fn a_branch_is_loose_packed_or_without_a_commit() {
        let head = (".git/HEAD", "ref: refs/heads/feature/a\n");
        let loose = repository(&[head, (".git/refs/heads/feature/a", HASH)]);
        assert_eq!(read_repository(loose.path()), facts(Some(HASH), Some("feature/a")));
        let packed = format!(
            "# pack-refs with: peeled\n{HASH} refs/heads/more/feature/a\n{HASH} refs/heads/feature/a\n^{HASH}\n"
        );
        let packed = repository(&[head, (".git/packed-refs", &packed)]);
        assert_eq!(read_repository(packed.path()), facts(Some(HASH), Some("feature/a")));
        let unborn = repository(&[head]);
        assert_eq!(read_repository(unborn.path()), facts(None, Some("feature/a")));
        let detached = repository(&[(".git/HEAD", HASH), ("src/deep/main.rs", "")]);
        assert_eq!(
            read_repository(&detached.path().join("src/deep")),
            facts(Some(HASH), None)
        );
    }

    #[test]
    fn files_of_others_lead_nowhere() {
        let outside = repository(&[("secret", HASH)]);
        let secret = outside.path().join("secret");
        for head in [
            "ref: refs/../../secret".to_owned(),
            format!("ref: {}", secret.display()),
            "ref: ".to_owned(),
            "the content of another file".to_owned(),
            "ref: refs/heads/a\u{1b}[2J".to_owned(),
        ] {
            let folder = repository(&[(".git/HEAD", &head), ("secret", HASH)]);
            assert_eq!(read_repository(folder.path()), None, "{head}");
        }
        let circle = repository(&[
            (".git/HEAD", "ref: refs/heads/a"),
            (".git/refs/heads/a", "ref: refs/heads/b"),
            (".git/refs/heads/b", "ref: refs/heads/a"),
        ]);
        assert_eq!(read_repository(circle.path()), None);
        let huge = repository(&[(".git/HEAD", &"0".repeat(1 << 20))]);
        assert_eq!(read_repository(huge.path()), None);
    }

    #[cfg(unix)]
    #[test]
    fn pipes_and_links_in_a_repository_are_passed_over() {
        use std::os::unix::fs::symlink;
        let pipe = repository(&[(".git/config", "")]);
        let made = Command::new("mkfifo")
            .arg(pipe.path().join(".git/HEAD"))
            .status()
            .unwrap();
        assert!(made.success());
        assert_eq!(read_repository(pipe.path()), None);
        let link = repository(&[(".git/HEAD", "ref: refs/heads/a"), (".git/refs/heads/b", HASH)]);
        symlink("b", link.path().join(".git/refs/heads/a")).unwrap();
        assert_eq!(read_repository(link.path()), facts(None, Some("a")));
    }

    #[test]
    fn remote_is_origin_or_the_first_without_its_password() {
        let address = |config: &str| {
            let folder = repository(&[(".git/HEAD", HASH), (".git/config", config)]);
            read_repository(folder.path()).unwrap().remote
        };
        let origin = "[core]\n\turl = no\n[remote \"up\"]\n\turl = git@host:up.git\n[remote \"origin\"]\n\turl = https://me:pw@host/a.git\n";
        assert_eq!(address(origin).unwrap(), "https://me:***@host/a.git");
        assert_eq!(
            address("[Remote \"up\"]\n  URL = \"git@host:up.git\"\n").unwrap(),
            "git@host:up.git"
        );
        assert_eq!(address("[remote \"up\"\nurl"), None);
    }

    /// Compares with git itself: a packed branch, a worktree, a submodule, a detached commit.
    #[test]
    fn real_repositories_are_read_as_git_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let git = |at: &Path, arguments: &[&str]| {
            let mut git = Command::new("git");
            git.current_dir(at).args([
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "protocol.file.allow=always",
            ]);
            // Hooks of a surrounding git set these.
            git.env_remove("GIT_DIR")
                .env_remove("GIT_INDEX_FILE")
                .env_remove("GIT_WORK_TREE");
            let output = git.args(arguments).output().ok()?;
            assert!(
                output.status.success(),
                "{arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        let (main, tree) = (folder.path().join("main"), folder.path().join("tree"));
        fs::create_dir(&main).unwrap();
        if git(&main, &["init", "-q", "-b", "trunk"]).is_none() {
            // git is not installed.
            return;
        }
        let commit = |at: &Path| git(at, &["commit", "-q", "--allow-empty", "-m", "x"]).unwrap();
        let check = |at: &Path| {
            let found = read_repository(at).unwrap();
            assert_eq!(found.commit, git(at, &["rev-parse", "HEAD"]), "{}", at.display());
            assert_eq!(
                found.branch.unwrap_or_default(),
                git(at, &["branch", "--show-current"]).unwrap()
            );
        };
        commit(&main);
        check(&main);
        git(&main, &["pack-refs", "--all"]).unwrap();
        check(&main);
        git(&main, &["worktree", "add", "-q", "-b", "side", "../tree"]).unwrap();
        commit(&tree);
        check(&tree);
        git(&main, &["submodule", "--quiet", "add", "../tree", "sub"]).unwrap();
        check(&main.join("sub"));
        git(&tree, &["checkout", "-q", "--detach"]).unwrap();
        commit(&tree);
        check(&tree);
    }
}
