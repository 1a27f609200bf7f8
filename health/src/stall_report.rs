//! The report of a stall: all that can be known from within about a run that stands still, and the
//! commands that show more.

use std::fmt::{self, Display};
use std::io::{self, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::{Timestamp, ZonedDateTime};
use logcore::escape::to_short_line;
use logcore::files::{self, Folder};
use logcore::local_time_zone;
use logcore::text::{format_duration, format_value};

use crate::INCIDENTS_FOLDER;
use crate::slot::RankState;
use crate::threads::{ThreadList, ThreadReader, ThreadReading, find_field};

/// Most reports in the folder of a run.
pub const MAX_REPORTS: usize = 100;

/// A report of a stall; its `Display` form is the text of the file.
///
/// Whatever is not known is empty or `None`, and is left out of the text. Texts are escaped.
///
/// ```
/// use logcore_health::stall_report::{StallReport, Surroundings, write_report};
/// use logcore_health::threads::ThreadReader;
/// use std::time::{Duration, SystemTime};
///
/// let mut reader = ThreadReader::of_own_process();
/// let report = StallReport {
///     run: "trainer-k3v9q2ab".to_owned(),
///     rank: 3,
///     attempt: 1,
///     host: "node7".to_owned(),
///     time: SystemTime::now(),
///     quiet: Duration::from_secs(600),
///     limit: Duration::from_secs(600),
///     usual_gap: Some(Duration::from_secs(2)),
///     last_step: Some(1200),
///     phases: vec!["data".to_owned()],
///     lines: vec!["12:00:01 INFO step 1200".to_owned()],
///     first_stopped: None,
///     gpu: Vec::new(),
///     threads: reader.read_threads(),
///     surroundings: Surroundings::read(&reader),
/// };
/// let text = report.to_string();
/// assert!(text.starts_with("The run trainer-k3v9q2ab has not moved for 10:00.\n"), "{text}");
/// assert!(text.contains("last step      1200\n") && text.contains("py-spy dump --pid"), "{text}");
///
/// let run = tempfile::tempdir()?;
/// let name = write_report(run.path(), &report)?;
/// assert!(name.starts_with("stall-") && name.ends_with("-rank3.txt"), "{name}");
/// assert_eq!(std::fs::read_to_string(run.path().join("incidents").join(name))?, text);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StallReport {
    /// Id or folder name of the run.
    pub run: String,
    /// Rank of the process.
    pub rank: u32,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Name of the machine.
    pub host: String,
    /// Time of the report.
    pub time: SystemTime,
    /// Time without movement, as a [`StallWatch`](crate::stall::StallWatch) counts it.
    pub quiet: Duration,
    /// Quiet time that is a stall.
    pub limit: Duration,
    /// Usual time between two movements.
    pub usual_gap: Option<Duration>,
    /// Highest step.
    pub last_step: Option<u64>,
    /// Names of the open phases, the outermost one first.
    pub phases: Vec<String>,
    /// Newest lines of the log, the oldest one first.
    pub lines: Vec<String>,
    /// The rank that stopped before the others, as [`first_stopped`](crate::skew::first_stopped)
    /// finds it.
    pub first_stopped: Option<RankState>,
    /// Names and newest values of the GPU metrics.
    pub gpu: Vec<(String, f64)>,
    /// The threads of the process.
    pub threads: ThreadList,
    /// The memory of the process, and the way of a debugger to it.
    pub surroundings: Surroundings,
}

/// The memory of a process, and the way of a debugger to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Bytes of the process that are in memory.
    pub resident: Option<u64>,
    /// Bytes of the process that are swapped out.
    pub swapped: Option<u64>,
    /// Lines of the kernel about time lost to scarcity on the whole machine, such as `memory full
    /// avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
    pub pressure: Vec<String>,
    /// Content of `kernel.yama.ptrace_scope`; `None` where the kernel has no such setting.
    pub ptrace_scope: Option<u32>,
    /// `true` in a container of Docker, Podman or Kubernetes.
    pub is_container: bool,
    /// Texts about what could not be read.
    pub problems: Vec<String>,
}

impl Surroundings {
    /// Reads the surroundings of the reader's process. Takes well below a millisecond.
    #[must_use]
    pub fn read(reader: &ThreadReader) -> Self {
        let mut read = Self {
            is_container: is_container(),
            ..Self::default()
        };
        if !cfg!(target_os = "linux") {
            read.problems
                .push(format!("the memory: {} has no /proc", std::env::consts::OS));
            return read;
        }
        match read_text(&reader.folder().join("status")) {
            Ok(status) => {
                let bytes = |name| parse_kilobytes(find_field(&status, name)?);
                (read.resident, read.swapped) = (bytes("VmRSS"), bytes("VmSwap"));
            }
            Err(error) => read.problems.push(format!("the memory of the process: {error}")),
        }
        for resource in ["memory", "io"] {
            match read_text(&Path::new("/proc/pressure").join(resource)) {
                Ok(text) => read.pressure.extend(
                    text.lines()
                        .map(|line| format!("{resource} {}", to_short_line(line, 200))),
                ),
                Err(error) => read.problems.push(format!("/proc/pressure/{resource}: {error}")),
            }
        }
        let scope = read_text(Path::new("/proc/sys/kernel/yama/ptrace_scope"));
        read.ptrace_scope = scope.ok().and_then(|text| text.trim().parse().ok());
        read
    }
}

/// Writes a report to a new file `incidents/stall-<time>.txt` in the folder of a run, and returns
/// the file's name in `incidents`. Neither follows a link nor replaces a file: further reports of
/// the same second have a number.
///
/// # Errors
///
/// If the file cannot be written, or the folder holds [`MAX_REPORTS`] reports.
pub fn write_report(run_dir: &Path, report: &StallReport) -> io::Result<String> {
    let run = Folder::open(run_dir)?;
    run.create_dir_all(Path::new(INCIDENTS_FOLDER))?;
    let incidents = run.folder(Path::new(INCIDENTS_FOLDER))?;
    let is_report = |name: &str| name.starts_with("stall-");
    let entries = incidents.entries()?;
    let reports = entries
        .iter()
        .filter(|entry| entry.name.to_str().is_some_and(is_report));
    if reports.count() >= MAX_REPORTS {
        return Err(io::Error::new(
            io::ErrorKind::QuotaExceeded,
            format!("the folder {INCIDENTS_FOLDER} holds {MAX_REPORTS} reports of stalls already"),
        ));
    }
    let rank = match report.rank {
        0 => String::new(),
        rank => format!("-rank{rank}"),
    };
    let stem = format!("stall-{}{rank}", local(report.time).strftime("%Y%m%d-%H%M%S"));
    for number in 1..=MAX_REPORTS {
        let name = match number {
            1 => format!("{stem}.txt"),
            number => format!("{stem}-{number}.txt"),
        };
        match incidents.create_new(Path::new(&name)) {
            Ok(mut file) => {
                if let Err(error) = file.write_all(report.to_string().as_bytes()) {
                    // Half a report misleads.
                    let _ = incidents.remove_file(Path::new(&name));
                    return Err(error);
                }
                return Ok(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Says in a sentence for each kind of wait which threads are in it, the most telling first.
/// Threads of logcore are left out, and those whose wait could not be read.
///
/// ```
/// use logcore_health::stall_report::explain;
/// use logcore_health::threads::{ThreadReader, ThreadReading};
///
/// let mut list = ThreadReader::of_own_process().read_threads();
/// let waiting = |tid, name: &str, call: &str| ThreadReading {
///     tid,
///     name: name.to_owned(),
///     state: Some('S'),
///     call: Some(call.to_owned()),
///     ..ThreadReading::default()
/// };
/// list.pid = 7;
/// list.threads = vec![waiting(7, "main", "futex"), waiting(8, "loader", "nanosleep"), waiting(9, "other", "futex")];
/// assert_eq!(
///     explain(&list),
///     [
///         "2 threads, main (7) first: each waits for a lock or for another thread (futex)",
///         "loader (8) sleeps for a set time (nanosleep)",
///     ]
/// );
/// ```
#[must_use]
pub fn explain(list: &ThreadList) -> Vec<String> {
    let mut groups: Vec<(String, Vec<&ThreadReading>)> = Vec::new();
    for thread in sort_by_weight(list) {
        let Some(wait) = describe(thread, list.since_last).filter(|_| !is_own(thread)) else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == wait) {
            Some((_, threads)) => threads.push(thread),
            None => groups.push((wait, vec![thread])),
        }
    }
    let sentence = |(wait, threads): (String, Vec<&ThreadReading>)| match threads[..] {
        [thread] => format!("{} ({}) {wait}", thread.name, thread.tid),
        _ => format!(
            "{} threads, {} ({}) first: each {wait}",
            threads.len(),
            threads[0].name,
            threads[0].tid
        ),
    };
    groups.into_iter().map(sentence).collect()
}

/// Returns the commands that show the stacks of a process, and notes about what they need.
///
/// ```
/// use logcore_health::stall_report::{Surroundings, advise};
///
/// let advice = advise(4711, &Surroundings { ptrace_scope: Some(1), ..Surroundings::default() });
/// assert_eq!(advice[0], r#"gdb -p 4711 -batch -ex "thread apply all bt""#);
/// assert!(advice[3].contains("ptrace_scope"));
/// ```
#[must_use]
pub fn advise(pid: u32, surroundings: &Surroundings) -> Vec<String> {
    let mut advice = vec![
        format!("gdb -p {pid} -batch -ex \"thread apply all bt\""),
        format!("eu-stack -p {pid}"),
        format!("py-spy dump --pid {pid}"),
    ];
    match surroundings.ptrace_scope {
        None | Some(0) => {}
        Some(scope @ 1..=2) => advice.push(format!(
            "as root: kernel.yama.ptrace_scope is {scope}, so that a debugger may not look at processes of its own user"
        )),
        Some(scope) => advice.push(format!(
            "kernel.yama.ptrace_scope is {scope}: no debugger may look at any process until the next boot"
        )),
    }
    if surroundings.is_container {
        advice.push("inside the container, where the process has this id".to_owned());
        advice.push(
            "if the kernel refuses: docker run --cap-add SYS_PTRACE, or kubectl debug --profile=general".to_owned(),
        );
    }
    advice
}

impl Display for StallReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |text: &str| to_short_line(text, MAX_LINE_CHARS).into_owned();
        let pid = self.threads.pid;
        writeln!(
            f,
            "The run {} has not moved for {}.\n",
            line(&self.run),
            format_duration(self.quiet)
        )?;
        writeln!(
            f,
            "time           {}",
            local(self.time).strftime("%Y-%m-%d %H:%M:%S %:z")
        )?;
        writeln!(f, "rank           {}, attempt {}", self.rank, self.attempt)?;
        writeln!(f, "process        {pid} on {}", line(&self.host))?;
        if let Some(step) = self.last_step {
            writeln!(f, "last step      {step}")?;
        }
        if !self.phases.is_empty() {
            writeln!(f, "open phases    {}", line(&self.phases.join(" > ")))?;
        }
        if let Some(usual) = self.usual_gap {
            writeln!(f, "usual gap      {}", format_duration(usual))?;
        }
        writeln!(f, "limit          {}", format_duration(self.limit))?;
        if let Some(first) = &self.first_stopped {
            write!(f, "first to stop  rank {}", first.rank)?;
            if let Some(step) = first.step {
                write!(f, ", at step {step}")?;
            }
            writeln!(f, ", since {}", local(first.moved).strftime("%H:%M:%S"))?;
        }
        f.write_str(
            "\nTime in the phases `eval` and `checkpoint`, in `idle`, and while the process was stopped does not count.\n\
             A wait that is usual belongs in one of them.\n",
        )?;
        write_list(f, "In words", &explain(&self.threads))?;
        self.write_threads(f)?;
        self.write_memory(f)?;
        let gpu = self.gpu.iter();
        let gpu: Vec<_> = gpu
            .map(|(name, value)| format!("{:<30} {}", line(name), format_value(*value)))
            .collect();
        write_list(f, "GPU", &gpu)?;
        let lines: Vec<_> = self.lines.iter().map(|text| line(text)).collect();
        write_list(f, "Last lines of the log", &lines)?;
        write_list(f, "Stacks", &advise(pid, &self.surroundings))?;
        let mut problems = self.threads.problems.clone();
        problems.extend(self.surroundings.problems.iter().cloned());
        problems.extend(count_unread(&self.threads));
        write_list(f, "Not readable", &problems)
    }
}

impl StallReport {
    fn write_threads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = &self.threads;
        if list.threads.is_empty() {
            return Ok(());
        }
        write!(f, "\nThreads ({}", list.threads.len() + list.left_out)?;
        if list.left_out > 0 {
            write!(f, ", of which {} were not read", list.left_out)?;
        }
        if let Some(since_last) = list.since_last {
            write!(f, "; \"now\" is the last {:.1} s", since_last.as_secs_f64())?;
        }
        writeln!(f, ")")?;
        writeln!(
            f,
            "  {:>8} {:<15} state {:>10} {:>6}  waits in",
            "tid", "name", "CPU s", "now"
        )?;
        for thread in sort_by_weight(list) {
            let state = thread.state.unwrap_or('?');
            let cpu = thread
                .cpu
                .map_or("?".to_owned(), |cpu| format!("{:.2}", cpu.as_secs_f64()));
            let now = thread.cpu_share(list.since_last);
            let now = now.map_or("-".to_owned(), |share| format!("{:.0} %", share * 100.0));
            write!(
                f,
                "  {:>8} {:<15} {state:<5} {cpu:>10} {now:>6}  ",
                thread.tid, thread.name
            )?;
            let parts = [
                thread.call.as_deref(),
                thread.file.as_deref(),
                thread.kernel_wait.as_deref(),
            ];
            let parts: Vec<_> = parts.into_iter().flatten().collect();
            match (parts.is_empty(), state, thread.unread.is_empty()) {
                (false, ..) => writeln!(f, "{}", parts.join(", "))?,
                (true, 'R', _) => writeln!(f, "-")?,
                (true, _, true) => writeln!(f, "no system call")?,
                (true, _, false) => writeln!(f, "?")?,
            }
        }
        Ok(())
    }

    fn write_memory(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let surroundings = &self.surroundings;
        let sizes = [
            ("in memory", surroundings.resident),
            ("swapped out", surroundings.swapped),
        ];
        let sizes = sizes.into_iter().filter_map(|(name, bytes)| Some((name, bytes?)));
        let mut lines: Vec<_> = sizes
            .map(|(name, bytes)| format!("{name:<14} {:.1} MB", bytes as f64 / 1e6))
            .collect();
        let pressure = surroundings.pressure.iter();
        lines.extend(pressure.map(|line| format!("pressure       {line}")));
        write_list(f, "Memory", &lines)
    }
}

/// Longest line of the report that was given.
const MAX_LINE_CHARS: usize = 1000;
/// Most bytes of a file in `/proc` that are read.
const MAX_BYTES: u64 = 64 << 10;
/// Share of a CPU above which a thread is busy.
const BUSY: f64 = 0.5;

fn write_list(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(f, "  {line}"))
}

/// Returns the threads, the most telling first, and those of logcore last.
fn sort_by_weight(list: &ThreadList) -> Vec<&ThreadReading> {
    let mut threads: Vec<_> = list.threads.iter().collect();
    threads.sort_by_cached_key(|thread| {
        let is_main = thread.tid == list.pid;
        (is_own(thread), !is_main, weight(thread, list.since_last), thread.tid)
    });
    threads
}

fn is_own(thread: &ThreadReading) -> bool {
    thread.name.starts_with("logcore-")
}

/// Returns a number that is lower the more a thread tells.
fn weight(thread: &ThreadReading, since_last: Option<Duration>) -> u8 {
    let is_busy = thread.cpu_share(since_last).is_some_and(|share| share >= BUSY);
    match (thread.state, thread.call.as_deref().map(Wait::of)) {
        (Some('D' | 'T' | 't'), _) => 0,
        (Some('R'), _) => 1,
        _ if is_busy => 1,
        (_, Some(Wait::Input | Wait::Output | Wait::FileLock | Wait::Disk | Wait::Connection | Wait::Device)) => 2,
        (_, Some(Wait::Lock | Wait::Child)) => 3,
        (_, Some(Wait::Other)) | (_, None) => 4,
        (_, Some(Wait::Sleep)) => 5,
        (_, Some(Wait::Events | Wait::Client | Wait::Signal)) => 6,
    }
}

/// The purpose of a system call in which a thread waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Lock,
    Sleep,
    Input,
    Output,
    FileLock,
    Disk,
    Connection,
    Client,
    Device,
    Child,
    Events,
    Signal,
    Other,
}

impl Wait {
    fn of(call: &str) -> Self {
        match call {
            "futex" | "futex_wait" | "futex_waitv" => Self::Lock,
            "nanosleep" | "clock_nanosleep" => Self::Sleep,
            "read" | "readv" | "pread64" | "recvfrom" | "recvmsg" | "recvmmsg" => Self::Input,
            "write" | "writev" | "pwrite64" | "sendto" | "sendmsg" | "sendmmsg" | "sendfile" => Self::Output,
            "flock" | "fcntl" => Self::FileLock,
            "fsync" | "fdatasync" | "sync" | "syncfs" | "msync" | "sync_file_range" => Self::Disk,
            "connect" => Self::Connection,
            "accept" | "accept4" => Self::Client,
            "ioctl" => Self::Device,
            "wait4" | "waitid" => Self::Child,
            "poll" | "ppoll" | "select" | "pselect6" | "epoll_wait" | "epoll_pwait" | "epoll_pwait2"
            | "io_uring_enter" | "io_getevents" => Self::Events,
            "pause" | "rt_sigsuspend" | "rt_sigtimedwait" => Self::Signal,
            _ => Self::Other,
        }
    }
}

/// Says in words that follow the thread's name where it waits; `None` if that could not be read.
fn describe(thread: &ThreadReading, since_last: Option<Duration>) -> Option<String> {
    let share = thread.cpu_share(since_last);
    let percent = |share: f64| format!("{:.0} % of a CPU", share * 100.0);
    let text = match (thread.state?, share) {
        ('T', _) => "is stopped by a signal, SIGSTOP or one of its kind".to_owned(),
        ('t', _) => "is held by a debugger".to_owned(),
        ('Z' | 'X', _) => "has ended".to_owned(),
        _ if thread.is_frozen() => {
            "is frozen: its container or control group is paused, or the machine was suspended".to_owned()
        }
        ('D', _) => match &thread.call {
            Some(call) => format!(
                "waits in {} for a disk, a network file system or a device, and cannot be interrupted",
                with_file(call, thread)
            ),
            None if thread.unread.is_empty() => {
                "waits for a page of memory that is swapped out or in a file, and cannot be interrupted".to_owned()
            }
            None => "waits, and cannot be interrupted".to_owned(),
        },
        ('R', None) => "runs, or is ready to".to_owned(),
        ('R', Some(share)) if share < BUSY => format!("runs, or is ready to; {} lately", percent(share)),
        ('R', Some(share)) => format!("runs, {}: a computation, or a loop that waits", percent(share)),
        (_, Some(share)) if share >= BUSY => format!("was woken again and again, {} lately", percent(share)),
        _ => return describe_call(thread),
    };
    Some(text)
}

fn describe_call(thread: &ThreadReading) -> Option<String> {
    let Some(call) = thread.call.as_deref() else {
        let function = thread.kernel_wait.as_deref()?;
        return Some(format!("waits in the kernel, in {function}"));
    };
    let file = thread.file.as_deref();
    let named = file.unwrap_or("a file");
    let text = match Wait::of(call) {
        Wait::Lock => format!("waits for a lock or for another thread ({call})"),
        Wait::Sleep => format!("sleeps for a set time ({call})"),
        Wait::Input => format!("waits for bytes from {} ({call})", describe_file(named)),
        Wait::Output => format!(
            "waits until somebody takes its bytes from {} ({call})",
            describe_file(named)
        ),
        Wait::FileLock => format!("waits for the lock on {named}, which another process holds ({call})"),
        Wait::Disk => format!("waits until the disk has {named} ({call})"),
        Wait::Connection => format!("waits for a server to answer ({})", with_file(call, thread)),
        Wait::Client => format!("waits for a client to connect ({})", with_file(call, thread)),
        Wait::Device => format!("waits for the device {named} ({call})"),
        Wait::Child => format!("waits for a child process ({call})"),
        Wait::Events => format!("waits for events ({call})"),
        Wait::Signal => format!("waits for a signal ({call})"),
        Wait::Other => format!("waits in {}", with_file(call, thread)),
    };
    Some(text)
}

/// Adds the kind to what the kernel calls `pipe:[12]` or `socket:[34]`.
fn describe_file(file: &str) -> String {
    match file.split_once(":[") {
        Some((kind @ ("pipe" | "socket"), _)) => format!("the {kind} {file}"),
        _ => file.to_owned(),
    }
}

fn with_file(call: &str, thread: &ThreadReading) -> String {
    match &thread.file {
        Some(file) => format!("{call} of {file}"),
        None => call.to_owned(),
    }
}

/// Returns what could not be read of threads, each cause once.
fn count_unread(list: &ThreadList) -> Vec<String> {
    let mut causes: Vec<(&str, usize)> = Vec::new();
    for cause in list.threads.iter().flat_map(|thread| &thread.unread) {
        match causes.iter_mut().find(|(known, _)| known == cause) {
            Some((_, count)) => *count += 1,
            None => causes.push((cause, 1)),
        }
    }
    let text = |(cause, count)| match count {
        1 => format!("of one thread: {cause}"),
        count => format!("of {count} threads: {cause}"),
    };
    causes.into_iter().map(text).collect()
}

fn local(time: SystemTime) -> ZonedDateTime {
    ZonedDateTime::new(Timestamp::try_from(time).unwrap_or(Timestamp::MAX), local_time_zone())
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = files::read(path, MAX_BYTES)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Parses `12 kB`.
fn parse_kilobytes(field: &str) -> Option<u64> {
    field.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

fn is_container() -> bool {
    // The marks of Docker and Podman, and the variable of Kubernetes.
    let marks = ["/.dockerenv", "/run/.containerenv"];
    marks.iter().any(|mark| Path::new(mark).exists()) || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(tid: u32, name: &str, state: char, call: Option<&str>, file: Option<&str>) -> ThreadReading {
        ThreadReading {
            tid,
            name: name.to_owned(),
            state: Some(state),
            call: call.map(str::to_owned),
            file: file.map(str::to_owned),
            cpu: Some(Duration::from_millis(1230)),
            cpu_since_last: Some(Duration::ZERO),
            ..ThreadReading::default()
        }
    }

    fn report(threads: Vec<ThreadReading>) -> StallReport {
        let mut first = RankState::new(5, 2);
        first.step = Some(1199);
        first.moved = SystemTime::UNIX_EPOCH + Duration::from_secs(1_699_999_367);
        StallReport {
            run: "trainer".to_owned(),
            rank: 0,
            attempt: 2,
            host: "node7".to_owned(),
            time: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
            quiet: Duration::from_secs(603),
            limit: Duration::from_secs(600),
            usual_gap: Some(Duration::from_secs(2)),
            last_step: Some(1200),
            phases: vec!["epoch".to_owned(), "data".to_owned()],
            lines: vec!["one\u{1b}[2J\ntwo".to_owned()],
            first_stopped: Some(first),
            gpu: vec![("system/gpu.0.gpu".to_owned(), 100.0)],
            threads: ThreadList {
                pid: 7,
                threads,
                left_out: 3,
                since_last: Some(Duration::from_secs(1)),
                problems: Vec::new(),
            },
            surroundings: Surroundings {
                resident: Some(2_000_000),
                swapped: Some(1_500_000),
                ptrace_scope: Some(1),
                is_container: true,
                problems: vec!["/proc/pressure/memory: Permission denied (os error 13)".to_owned()],
                ..Surroundings::default()
            },
        }
    }

    #[test]
    fn the_text_has_all_that_is_known_and_names_what_is_not() {
        let mut hidden = thread(9, "hidden", 'S', None, None);
        hidden.unread.push("wchan: not permitted".to_owned());
        let text = report(vec![
            thread(8, "logcore-health", 'R', None, None),
            thread(7, "trainer", 'S', Some("futex"), None),
            hidden,
            thread(10, "loader", 'S', Some("read"), Some("pipe:[42]")),
        ])
        .to_string();
        for part in [
            "The run trainer has not moved for 10:03.",
            "rank           0, attempt 2\n",
            "process        7 on node7\n",
            "last step      1200\n",
            "open phases    epoch > data\n",
            "usual gap      00:02\n",
            "first to stop  rank 5, at step 1199, since ",
            "trainer (7) waits for a lock or for another thread (futex)\n",
            "loader (10) waits for bytes from the pipe pipe:[42] (read)\n",
            "Threads (7, of which 3 were not read; \"now\" is the last 1.0 s)\n",
            "swapped out    1.5 MB\n",
            "system/gpu.0.gpu",
            "  one\\x1b[2J\\ntwo\n",
            "gdb -p 7 -batch -ex \"thread apply all bt\"\n",
            "eu-stack -p 7\n",
            "py-spy dump --pid 7\n",
            "kernel.yama.ptrace_scope is 1",
            "--cap-add SYS_PTRACE",
            "  of one thread: wchan: not permitted\n",
            "  /proc/pressure/memory: Permission denied (os error 13)\n",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        let row = |name: &str| text.find(&format!(" {name:<15} ")).unwrap();
        assert!(row("trainer") < row("loader") && row("loader") < row("hidden"));
        assert!(row("hidden") < row("logcore-health"), "{text}");
        assert!(!text.contains("hidden (9)"), "nobody knows where it waits");
        assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
    }

    #[test]
    fn every_state_has_its_words() {
        let busy = |state, call| {
            let mut busy = thread(1, "a", state, call, None);
            busy.cpu_since_last = Some(Duration::from_secs(1));
            busy
        };
        let mut frozen = thread(1, "a", 'D', None, None);
        frozen.kernel_wait = Some("__refrigerator".to_owned());
        for (reading, part) in [
            (thread(1, "a", 'T', Some("futex"), None), "stopped by a signal"),
            (thread(1, "a", 't', None, None), "a debugger"),
            (
                thread(1, "a", 'D', Some("fsync"), Some("/nfs/x")),
                "in fsync of /nfs/x for a disk, a network file system",
            ),
            (thread(1, "a", 'D', None, None), "a page of memory"),
            (frozen, "is paused"),
            (thread(1, "a", 'D', Some("futex"), None), "is paused"),
            (busy('R', None), "runs, 100 % of a CPU: a computation, or a loop"),
            (busy('S', Some("sched_yield")), "again and again, 100 %"),
            (thread(1, "a", 'R', None, None), "ready to; 0 % of a CPU"),
            (thread(1, "a", 'S', Some("clock_nanosleep"), None), "sleeps"),
            (
                thread(1, "a", 'S', Some("recvfrom"), Some("socket:[5]")),
                "bytes from the socket socket:[5]",
            ),
            (
                thread(1, "a", 'S', Some("write"), Some("/tmp/fifo")),
                "takes its bytes from /tmp/fifo",
            ),
            (
                thread(1, "a", 'S', Some("flock"), Some("/x/.lock")),
                "the lock on /x/.lock",
            ),
            (
                thread(1, "a", 'S', Some("ioctl"), Some("/dev/nvidia0")),
                "the device /dev/nvidia0",
            ),
            (
                thread(1, "a", 'S', Some("epoll_wait"), None),
                "waits for events (epoll_wait)",
            ),
            (
                thread(1, "a", 'S', Some("system call 999"), None),
                "waits in system call 999",
            ),
        ] {
            let text = describe(&reading, Some(Duration::from_secs(1))).unwrap();
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn a_report_replaces_no_file_and_follows_no_link() {
        let folder = tempfile::tempdir().unwrap();
        let report = report(Vec::new());
        let first = write_report(folder.path(), &report).unwrap();
        let second = write_report(folder.path(), &report).unwrap();
        assert!(first.starts_with("stall-2023111") && first.ends_with(".txt"), "{first}");
        assert_eq!(second, first.replace(".txt", "-2.txt"));
        let is_allowed = |char: char| matches!(char, 'a'..='z' | '0'..='9' | '_' | '-' | '.');
        assert!(second.chars().all(is_allowed), "{second}");
        let incidents = folder.path().join(INCIDENTS_FOLDER);
        assert_eq!(
            std::fs::read_to_string(incidents.join(&first)).unwrap(),
            report.to_string()
        );
        #[cfg(unix)]
        {
            let third = first.replace(".txt", "-3.txt");
            std::os::unix::fs::symlink("/nonexistent/target", incidents.join(third)).unwrap();
            assert_eq!(
                write_report(folder.path(), &report).unwrap(),
                first.replace(".txt", "-4.txt")
            );
            let other = tempfile::tempdir().unwrap();
            std::os::unix::fs::symlink(folder.path(), other.path().join(INCIDENTS_FOLDER)).unwrap();
            assert!(write_report(other.path(), &report).is_err());
        }
    }

    #[test]
    fn a_run_has_a_hundred_reports_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let report = report(Vec::new());
        for _ in 0..MAX_REPORTS {
            write_report(folder.path(), &report).unwrap();
        }
        let error = write_report(folder.path(), &report).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        assert_eq!(
            std::fs::read_dir(folder.path().join(INCIDENTS_FOLDER)).unwrap().count(),
            MAX_REPORTS
        );
    }
}
