//! A process of a run, as another process sees it: stopped, hung, dead, or out of sight.

use std::fs::TryLockError;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use logcore::{RunFacts, RunManifest, files};
use logcore_health::stall_report::{Surroundings, advise, explain};
use logcore_health::threads::{ThreadList, ThreadReader};
use logcore_runs::StoredRun;
use serde_json::{Value, json};

use crate::file_system::is_of_this_machine;

/// Time between two looks at the threads, in which those that run show it.
const SINCE_LAST: Duration = Duration::from_secs(1);

/// Says how the process of a rank stands, with its threads and what to do, as members of a JSON
/// object. `is_heard` is `true` if the rank has given a sign of life within the last minute.
pub(super) fn examine(run: &StoredRun, rank: u32, is_heard: bool) -> Value {
    let lock = RunManifest::lock_path(&run.dir, rank);
    let is_first = rank == run.manifest.rank;
    let is_here = RunFacts::own_host().is_some_and(|host| host == run.manifest.facts.host);
    let state = |state: &str| json!({"rank": rank, "process": state});
    let known = (is_first && is_here).then_some(run.manifest.facts.pid);
    let pid = match find_holder(&lock, known) {
        Ok(Some(pid)) => pid,
        Ok(None) if known.is_some() => {
            let mut object = state("hidden");
            object["unread"] = json!(["no process that this user or container can see holds the run's lock"]);
            return object;
        }
        // A live process holds the lock. Where another machine may hold it unseen, a live process
        // renews its sign of life.
        Ok(None) if !is_first && is_free(&lock) && (is_of_this_machine(&run.dir) || !is_heard) => return state("dead"),
        Ok(None) => return state("elsewhere"),
        // The system has no list of locks. The id in `run.json` is the next best.
        Err(_) => match known {
            Some(pid) => pid,
            None => return state("elsewhere"),
        },
    };
    let mut reader = ThreadReader::of_process(pid);
    let first = reader.read_threads();
    if first.threads.is_empty() {
        let mut object = state("hidden");
        object["unread"] = first.problems.into();
        return object;
    }
    thread::sleep(SINCE_LAST);
    let list = reader.read_threads();
    let surroundings = Surroundings::read(&reader);
    let (state, advice) = match is_stopped(&list) {
        true => ("stopped", vec![advise_stopped(&list)]),
        false => ("hung", advise(pid, &surroundings)),
    };
    let explanation = explain(&list);
    let unread = [list.problems, surroundings.problems].concat();
    json!({
        "rank": rank,
        "process": state,
        "pid": pid,
        "explanation": explanation,
        "advice": advice,
        "threads": list.threads,
        "threads_left_out": list.left_out,
        "memory": {"resident": surroundings.resident, "swapped": surroundings.swapped},
        "pressure": surroundings.pressure,
        "unread": unread,
    })
}

/// Returns `true` if no thread can go on before somebody lets it.
fn is_stopped(list: &ThreadList) -> bool {
    list.left_out == 0 && list.threads.iter().all(|thread| thread.is_stopped())
}

/// Returns the way to let a stopped process go on.
fn advise_stopped(list: &ThreadList) -> String {
    let has_state = |state| list.threads.iter().any(|thread| thread.state == Some(state));
    match (has_state('t'), has_state('T')) {
        (true, _) => "detach the debugger".to_owned(),
        (false, true) => format!("kill -CONT {}", list.pid),
        (false, false) => format!(
            "docker unpause or podman unpause, or write 0 into cgroup.freeze of the control group in /proc/{}/cgroup",
            list.pid
        ),
    }
}

/// Returns `true` if the file is there, and no process holds a lock on it.
fn is_free(path: &Path) -> bool {
    let Ok(file) = files::open_no_follow(path) else {
        return false;
    };
    // The lock goes with the file.
    !matches!(
        file.try_lock_shared(),
        Err(TryLockError::WouldBlock | TryLockError::Error(_))
    )
}

/// Returns the process on this machine that holds the lock on a file, if this process can see it.
///
/// That process is the right one also where two containers of one host name count their processes
/// anew. On some file systems the list has another device: there the holder must be the process
/// that is known from elsewhere.
#[cfg(target_os = "linux")]
fn find_holder(path: &Path, known: Option<u32>) -> io::Result<Option<u32>> {
    use std::os::unix::fs::MetadataExt as _;

    use rustix::fs::{major, minor};

    let metadata = files::open_no_follow(path)?.metadata()?;
    let device = metadata.dev();
    let device = format!("{:02x}:{:02x}", major(device), minor(device));
    let locks = files::read_to_string(Path::new("/proc/locks"), MAX_LOCKS)?;
    Ok(holder_in(&locks, &device, &metadata.ino().to_string(), known))
}

#[cfg(not(target_os = "linux"))]
fn find_holder(_: &Path, _: Option<u32>) -> io::Result<Option<u32>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Most bytes of the list of locks.
#[cfg(target_os = "linux")]
const MAX_LOCKS: u64 = 16 << 20;

/// Finds the process that holds a lock on a file, in lines such as `1: FLOCK  ADVISORY  WRITE 811
/// fd:01:13 0 EOF`. Those who wait for a lock have an arrow.
#[cfg(target_os = "linux")]
fn holder_in(locks: &str, device: &str, inode: &str, known: Option<u32>) -> Option<u32> {
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, file, ..] = fields[..] else {
            return None;
        };
        let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
        let (on, number) = file.rsplit_once(':')?;
        (number == inode && (on == device || Some(pid) == known)).then_some(pid)
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".lock");
        assert!(find_holder(&path, None).is_err());
        assert!(!is_free(&path), "no file");
        let file = std::fs::File::create(&path).unwrap();
        assert_eq!(find_holder(&path, None).unwrap(), None);
        assert!(is_free(&path));
        file.lock().unwrap();
        assert_eq!(find_holder(&path, None).unwrap(), Some(std::process::id()));
        assert!(!is_free(&path));
    }

    #[test]
    fn waiting_and_hidden_processes_hold_nothing() {
        let locks = "1: FLOCK  ADVISORY  WRITE 0 fd:01:13 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 7 fd:01:13 0 EOF\n\
                     2: POSIX  ADVISORY  WRITE 8 fd:01:13 0 EOF\n3: FLOCK  ADVISORY  WRITE 9 fd:01:14 0 EOF\n";
        assert_eq!(holder_in(locks, "fd:01", "13", Some(7)), None);
        assert_eq!(holder_in(locks, "fd:01", "14", None), Some(9));
        assert_eq!(
            holder_in(locks, "00:2a", "14", None),
            None,
            "a file of that number elsewhere"
        );
        assert_eq!(holder_in(locks, "00:2a", "14", Some(9)), Some(9));
    }
}
