//! Readings of the threads of a process: where each one waits, and what it spends.
//!
//! On Linux the kernel tells all of this in `/proc/<pid>/task`, to every process about itself and
//! to a user about the user's processes. Other systems have nothing of the kind, and each list says
//! so.

mod system_calls;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use logcore::Deadline;
use logcore::escape::to_short_line;
use logcore::files;
use serde::{Serialize, Serializer};

/// Most threads in a list.
pub const MAX_THREADS: usize = 512;
/// Time after which no further thread is read.
pub const TIME_LIMIT: Duration = Duration::from_millis(200);

/// Reads the threads of a process, and remembers the reading: the next one tells what each thread
/// has spent since.
///
/// ```
/// use logcore_health::threads::ThreadReader;
///
/// let mut reader = ThreadReader::of_own_process();
/// let list = reader.read_threads();
/// # #[cfg(target_os = "linux")] {
/// let reading = |name: &str| list.threads.iter().find(|thread| thread.name.contains(name));
/// let own_name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
/// assert_eq!(reading(own_name.trim_end()).unwrap().state, Some('R'), "this very thread runs");
/// assert_eq!(list.since_last, None);
/// assert!(reader.read_threads().since_last.is_some());
/// # }
/// ```
#[derive(Debug)]
pub struct ThreadReader {
    pid: u32,
    folder: PathBuf,
    last: Option<LastReading>,
}

/// The threads of a process at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct ThreadList {
    /// Id of the process.
    pub pid: u32,
    /// At most [`MAX_THREADS`] threads: the main thread first, the others by id.
    pub threads: Vec<ThreadReading>,
    /// Number of threads that are not in the list, because there are too many or [`TIME_LIMIT`] was
    /// over.
    pub left_out: usize,
    /// Time since the reader's last list.
    pub since_last: Option<Duration>,
    /// Texts about what could not be read of the process. Of a thread, they are in its reading.
    pub problems: Vec<String>,
}

/// One thread at one moment. As JSON, times are in seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ThreadReading {
    /// Id of the thread. That of the main thread is the id of the process.
    pub tid: u32,
    /// Name, escaped to one line. The kernel keeps 15 bytes of it.
    pub name: String,
    /// State, in the letter of `ps`: `R` runs or could, `S` sleeps until something comes, `D` waits
    /// without a way to interrupt it, `T` stopped by a signal, `t` held by a debugger, `Z` dead.
    pub state: Option<char>,
    /// Name of the system call that the thread is in, such as `futex`, or `system call 999`.
    pub call: Option<String>,
    /// Target of the descriptor that the system call is about: a path, `pipe:[12]`, `socket:[34]`.
    /// Escaped to one line.
    pub file: Option<String>,
    /// Function of the kernel in which the thread waits.
    pub kernel_wait: Option<String>,
    /// Time on a CPU since the thread began, in clock ticks of the kernel, usually 10 ms.
    #[serde(serialize_with = "as_seconds")]
    pub cpu: Option<Duration>,
    /// Time on a CPU since the reader's last list, if the thread was in that list.
    #[serde(serialize_with = "as_seconds")]
    pub cpu_since_last: Option<Duration>,
    /// Number of times that the thread has waited since it began.
    pub waits: Option<u64>,
    /// Number of times that the thread has waited since the reader's last list. A thread that has
    /// not been woken meanwhile has 0.
    pub waits_since_last: Option<u64>,
    /// The parts that could not be read, and why: `syscall: Permission denied (os error 13)`.
    pub unread: Vec<String>,
}

#[derive(Debug)]
struct LastReading {
    at: Instant,
    /// CPU time and waits by thread id and start, because ids are used again.
    threads: BTreeMap<(u32, u64), (Duration, Option<u64>)>,
}

impl ThreadReader {
    /// Creates a reader of this process.
    #[must_use]
    pub fn of_own_process() -> Self {
        // Also where ids of processes are hidden, or those in `/proc` are another container's.
        Self::at(std::process::id(), Path::new("/proc/self"))
    }

    /// Creates a reader of the process with this id, which needs not be there.
    ///
    /// ```
    /// use logcore_health::threads::ThreadReader;
    ///
    /// let list = ThreadReader::of_process(u32::MAX).read_threads();
    /// assert!(list.threads.is_empty());
    /// assert!(list.problems[0].starts_with("cannot read"), "{}", list.problems[0]);
    /// ```
    #[must_use]
    pub fn of_process(pid: u32) -> Self {
        Self::at(pid, Path::new(&format!("/proc/{pid}")))
    }

    fn at(pid: u32, folder: &Path) -> Self {
        Self {
            pid,
            folder: folder.to_owned(),
            last: None,
        }
    }

    /// Reads the threads. Ends after about [`TIME_LIMIT`], whatever the number of threads. Whatever
    /// cannot be read is named in the list.
    #[must_use]
    pub fn read_threads(&mut self) -> ThreadList {
        self.read_within(MAX_THREADS, TIME_LIMIT)
    }

    /// Returns the folder of the process in `/proc`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn read_within(&mut self, most: usize, limit: Duration) -> ThreadList {
        let (now, deadline) = (Instant::now(), Deadline::after(limit));
        let mut list = ThreadList {
            pid: self.pid,
            threads: Vec::new(),
            left_out: 0,
            since_last: self.last.as_ref().map(|last| now - last.at),
            problems: Vec::new(),
        };
        let tids = match self.list_tids() {
            Ok(tids) => tids,
            Err(problem) => {
                list.problems.push(problem);
                return list;
            }
        };
        let has_known_calls = has_64_bits(&self.folder);
        let mut threads = BTreeMap::new();
        let mut count = 0;
        for &tid in tids.iter().take(most) {
            if deadline.has_passed() {
                break;
            }
            count += 1;
            // A thread may end meanwhile.
            let Some((reading, started)) = read_thread(&self.folder, tid, has_known_calls) else {
                continue;
            };
            list.threads.push(self.compare_with_last(reading, started));
            if let Some(reading) = list.threads.last() {
                threads.insert((tid, started), (reading.cpu.unwrap_or_default(), reading.waits));
            }
        }
        list.left_out = tids.len() - count;
        self.last = Some(LastReading { at: now, threads });
        list
    }

    fn list_tids(&self) -> Result<Vec<u32>, String> {
        let folder = self.folder.join("task");
        if !cfg!(target_os = "linux") {
            return Err(format!("cannot read threads: {} has no /proc", std::env::consts::OS));
        }
        let entries = fs::read_dir(&folder).map_err(|error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound => ". The process has ended, or is hidden from this user or container",
                _ => "",
            };
            format!("cannot read {}: {error}{hint}", folder.display())
        })?;
        let mut tids: Vec<u32> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        // Within a container that shows the machine's `/proc`, the main thread has another id.
        let main = fs::read_link(&self.folder)
            .ok()
            .and_then(|target| target.to_str()?.parse().ok())
            .unwrap_or(self.pid);
        tids.sort_unstable_by_key(|&tid| (tid != main, tid));
        Ok(tids)
    }

    fn compare_with_last(&self, mut reading: ThreadReading, started: u64) -> ThreadReading {
        let last = self
            .last
            .as_ref()
            .and_then(|last| last.threads.get(&(reading.tid, started)));
        if let Some((cpu, waits)) = last {
            reading.cpu_since_last = reading.cpu.map(|now| now.saturating_sub(*cpu));
            reading.waits_since_last = reading.waits.zip(*waits).map(|(now, last)| now.saturating_sub(last));
        }
        reading
    }
}

impl ThreadReading {
    /// Returns `true` if the thread cannot go on before somebody lets it: it was stopped by a
    /// signal or a debugger, its container is paused, or it has ended.
    ///
    /// ```
    /// use logcore_health::threads::ThreadReading;
    ///
    /// let mut thread = ThreadReading::default();
    /// assert!(!thread.is_stopped());
    /// thread.state = Some('T');
    /// assert!(thread.is_stopped());
    /// ```
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, Some('T' | 't' | 'Z' | 'X')) || self.is_frozen()
    }

    /// Returns the share of one CPU that the thread has used since the reader's last list, which
    /// was `since_last` before.
    ///
    /// ```
    /// use logcore_health::threads::ThreadReading;
    /// use std::time::Duration;
    ///
    /// let mut thread = ThreadReading::default();
    /// assert_eq!(thread.cpu_share(Some(Duration::from_secs(2))), None);
    /// thread.cpu_since_last = Some(Duration::from_secs(1));
    /// assert_eq!(thread.cpu_share(Some(Duration::from_secs(2))), Some(0.5));
    /// ```
    #[must_use]
    pub fn cpu_share(&self, since_last: Option<Duration>) -> Option<f64> {
        let (used, passed) = self.cpu_since_last.zip(since_last)?;
        (!passed.is_zero()).then(|| used.as_secs_f64() / passed.as_secs_f64())
    }

    /// Returns `true` if the thread's container or control group is paused.
    pub(crate) fn is_frozen(&self) -> bool {
        let (call, function) = (self.call.as_deref(), self.kernel_wait.as_deref());
        // Since Linux 6.1 a thread is frozen where it waits, and looks as if nothing could
        // interrupt these calls, which everything else can.
        self.state == Some('D') && call.is_some_and(|call| INTERRUPTIBLE.contains(&call))
            || function.is_some_and(|name| FREEZERS.contains(&name))
    }
}

/// Returns the function of the kernel in which a thread of this process waits; `None` if the thread
/// runs or is gone, or if this cannot be read.
///
/// ```
/// # #[cfg(target_os = "linux")] {
/// let own = std::fs::read_link("/proc/thread-self").unwrap();
/// let tid = own.file_name().unwrap().to_str().unwrap().parse().unwrap();
/// assert_eq!(logcore_health::threads::find_kernel_wait(tid), None, "this very thread runs");
/// # }
/// ```
#[must_use]
pub fn find_kernel_wait(tid: u32) -> Option<String> {
    let thread = Path::new("/proc/self/task").join(tid.to_string());
    read_kernel_wait(&thread).ok().flatten()
}

/// Functions of the kernel in which the threads of a paused container wait; the last one holds the
/// one before where the compiler has put them together. A thread that a signal has stopped may be
/// in the last one, too.
const FREEZERS: [&str; 3] = ["__refrigerator", "do_freezer_trap", "get_signal"];
/// Calls whose waits can always be interrupted.
const INTERRUPTIBLE: [&str; 8] = [
    "futex",
    "nanosleep",
    "clock_nanosleep",
    "poll",
    "ppoll",
    "epoll_wait",
    "epoll_pwait",
    "wait4",
];
/// Longest name of a file in a reading, in characters.
const MAX_FILE_CHARS: usize = 200;
/// Most bytes of a file in `/proc` that are read.
const MAX_BYTES: u64 = 64 << 10;

/// Reads one thread, and its start in clock ticks since the boot; `None` if it is gone.
fn read_thread(process: &Path, tid: u32, has_known_calls: bool) -> Option<(ThreadReading, u64)> {
    let folder = process.join("task").join(tid.to_string());
    let mut reading = ThreadReading {
        tid,
        ..ThreadReading::default()
    };
    let mut started = 0;
    match read(&folder, "stat") {
        Ok(stat) => match parse_stat(&stat) {
            Some(stat) => {
                (reading.name, reading.state, reading.cpu) = (stat.name, Some(stat.state), Some(stat.cpu));
                started = stat.started;
            }
            None => reading
                .unread
                .push("stat: this version does not know its form".to_owned()),
        },
        Err(_) if !folder.exists() => return None,
        Err(error) => reading.unread.push(format!("stat: {error}")),
    }
    match read(&folder, "status") {
        Ok(status) => {
            reading.waits = find_field(&status, "voluntary_ctxt_switches").and_then(|field| field.parse().ok());
        }
        Err(error) => reading.unread.push(format!("status: {error}")),
    }
    let has_call = match read(&folder, "syscall") {
        Ok(line) => {
            read_call(&line, &folder, has_known_calls, &mut reading);
            true
        }
        Err(error) => {
            reading.unread.push(format!("syscall: {error}"));
            false
        }
    };
    match read_kernel_wait(&folder) {
        Ok(None) if reading.state != Some('R') => {
            let cause = if has_call {
                "the kernel does not tell"
            } else {
                "not permitted"
            };
            reading.unread.push(format!("wchan: {cause}"));
        }
        Ok(function) => reading.kernel_wait = function,
        Err(error) => reading.unread.push(format!("wchan: {error}")),
    }
    Some((reading, started))
}

/// Reads the function of the kernel in which a thread waits; `None` for a thread that runs, and for
/// all threads to those who may not know.
fn read_kernel_wait(thread: &Path) -> io::Result<Option<String>> {
    let name = read(thread, "wchan")?;
    Ok(match name.trim() {
        "" | "0" => None,
        name => Some(to_short_line(name, MAX_FILE_CHARS).into_owned()),
    })
}

/// Reads a small file of `/proc`. Bytes that are no text are replaced.
fn read(folder: &Path, name: &str) -> io::Result<String> {
    let bytes = files::read(&folder.join(name), MAX_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

struct Stat {
    name: String,
    state: char,
    cpu: Duration,
    started: u64,
}

/// Parses `/proc/<pid>/stat`. The name stands in parentheses, and may have any, so that the last
/// one counts.
fn parse_stat(stat: &str) -> Option<Stat> {
    let (begin, end) = (stat.find('(')?, stat.rfind(')')?);
    let mut fields = stat.get(end + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Fields 14, 15 and 22 of proc(5); the state is the third.
    let user: u64 = fields.nth(10)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let started = fields.nth(6)?.parse().ok()?;
    Some(Stat {
        name: to_short_line(stat.get(begin + 1..end)?, MAX_FILE_CHARS).into_owned(),
        state,
        cpu: clock_ticks(user.saturating_add(system)),
        started,
    })
}

#[cfg(unix)]
fn clock_ticks(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    Duration::from_secs(ticks / per_second) + Duration::from_secs_f64((ticks % per_second) as f64 / per_second as f64)
}

#[cfg(not(unix))]
fn clock_ticks(_: u64) -> Duration {
    Duration::ZERO
}

/// Takes the system call from `/proc/<pid>/task/<tid>/syscall`: its number and its arguments in
/// hexadecimal digits, or a word.
fn read_call(line: &str, thread: &Path, has_known_calls: bool, reading: &mut ThreadReading) {
    let mut fields = line.split_ascii_whitespace();
    let number = match fields.next() {
        // It runs, or waits outside of any call, such as for a page of memory.
        Some("running" | "-1") => return,
        Some(number) => number,
        None => return reading.unread.push("syscall: it is empty".to_owned()),
    };
    let name = number
        .parse()
        .ok()
        .filter(|_| has_known_calls)
        .and_then(system_calls::name_of);
    let Some(name) = name else {
        reading.call = Some(format!("system call {}", to_short_line(number, 20)));
        return;
    };
    reading.call = Some(name.to_owned());
    let first = fields.next().and_then(|field| field.strip_prefix("0x"));
    let descriptor = first.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let Some(descriptor) = descriptor.filter(|_| system_calls::begins_with_descriptor(name)) else {
        return;
    };
    // The upper half of the register may hold anything: a descriptor is an `int`.
    let descriptor = descriptor & u64::from(u32::MAX);
    match fs::read_link(thread.join("fd").join(descriptor.to_string())) {
        Ok(target) => {
            reading.file = Some(to_short_line(&target.to_string_lossy(), MAX_FILE_CHARS).into_owned());
        }
        Err(error) => reading.unread.push(format!("fd {descriptor}: {error}")),
    }
}

/// Returns `true` if the process has the 64-bit calls of this machine, whose numbers are known
/// here.
fn has_64_bits(process: &Path) -> bool {
    // Pairs of type and value. With 32-bit values, the first 64 bits hold both.
    let first = files::read(&process.join("auxv"), MAX_BYTES)
        .ok()
        .and_then(|bytes| Some(u64::from_ne_bytes(*bytes.first_chunk()?)));
    cfg!(target_pointer_width = "64") && first.is_some_and(|kind| kind < 1 << 32)
}

/// Returns the value of a line `name: value`.
pub(crate) fn find_field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines()
        .find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

fn as_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(|time| time.as_secs_f64()).serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_line_ends_is_parsed_and_escaped() {
        let rest = "0 1 2 3 4 5 6 7 8 9 150 50 0 0 20 0 1 0 777 0";
        let stat = parse_stat(&format!("7 (a) R\n\u{1b}[2J(b)) D {rest}")).unwrap();
        assert_eq!(stat.name, r"a) R\n\x1b[2J(b)");
        assert_eq!((stat.state, stat.started), ('D', 777));
        #[cfg(unix)]
        assert_eq!(stat.cpu, clock_ticks(200));
        for hostile in [
            "",
            "7",
            "7 (a",
            "7 )a( R",
            "7 (a) R 1 2",
            "7 (a) R x x x x x x x x x x x x x x x x x x x x",
        ] {
            assert!(parse_stat(hostile).is_none(), "{hostile}");
        }
    }

    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    #[test]
    fn calls_have_names_or_numbers() {
        let call = |line: &str, has_known_calls| {
            let mut reading = ThreadReading::default();
            read_call(line, Path::new("/nonexistent"), has_known_calls, &mut reading);
            (reading.call, reading.unread.len())
        };
        let futex = if cfg!(target_arch = "x86_64") { 202 } else { 98 };
        assert_eq!(call(&format!("{futex} 0x1 0x2"), true), (Some("futex".to_owned()), 0));
        assert_eq!(
            call(&format!("{futex} 0x1 0x2"), false).0,
            Some(format!("system call {futex}"))
        );
        assert_eq!(call("99999 0x1", true).0.as_deref(), Some("system call 99999"));
        assert_eq!(call("running", true), (None, 0));
        assert_eq!(call("-1 0x7ffc 0x55", true), (None, 0));
        let read = if cfg!(target_arch = "x86_64") { 0 } else { 63 };
        assert_eq!(
            call(&format!("{read} 0x3"), true),
            (Some("read".to_owned()), 1),
            "fd 3 is unknown"
        );
        assert_eq!(call("", true), (None, 1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_known_calls_and_all_threads_are_counted() {
        assert_eq!(has_64_bits(Path::new("/proc/self")), cfg!(target_pointer_width = "64"));
        let mut reader = ThreadReader::of_own_process();
        let list = reader.read_within(0, TIME_LIMIT);
        assert!(list.threads.is_empty() && list.left_out > 0 && list.problems.is_empty());
        let list = reader.read_within(MAX_THREADS, Duration::ZERO);
        assert!(
            list.threads.is_empty() && list.left_out > 0,
            "no time is left for the first one"
        );
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "nonvoluntary_ctxt_switches:\t5\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(find_field(status, "voluntary_ctxt_switches"), Some("7"));
        assert_eq!(find_field(status, "voluntary"), None);
    }
}
