//! Signals that end the process, or stop it. The handler does no more than write a byte into a pipe; a thread of its own
//! does what is to be done before the process ends as the signal would have ended it.
//!
//! Whoever else handles a signal decides what becomes of the process: a handler that was there before ours is called as if
//! ours were not there, and one that came after ours has replaced it. In both cases nothing is done here.

use std::fmt;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use logcore::PerProcess;

use crate::process::exit::runs_exit_handlers;

/// A signal that is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// `kill`, and what batch systems send before they kill.
    Terminate,
    /// The terminal has gone.
    HangUp,
    /// Ctrl-Z.
    Stop,
}

impl Signal {
    /// Its number; a process that it ends has 128 more than this as its exit code in a shell.
    pub fn number(self) -> i32 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
            Self::Stop => imp::STOP,
        }
    }
}

/// The name that everybody knows it by.
impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::HangUp => "SIGHUP",
            Self::Stop => "SIGTSTP",
        })
    }
}

/// What is done about signals.
#[derive(Clone, Copy)]
pub struct SignalWork {
    /// Before the process ends; a second signal of the same kind ends it at once.
    pub before_end: fn(Signal),
    /// Gets what stops the process and returns when it goes on.
    pub around_stop: fn(&mut dyn FnMut()),
}

/// If a signal is about to end the process, this returns only on the thread that sees to it, and on one that runs exit handlers.
pub(crate) fn wait_for_the_end() {
    match *lock(ENDING.get()) {
        Ending::By(thread) if thread != thread::current().id() && !runs_exit_handlers() => {}
        _ => return,
    }
    loop {
        thread::park();
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Ending {
    #[default]
    Not,
    By(ThreadId),
}

static ENDING: PerProcess<Mutex<Ending>> = PerProcess::new(|_| Mutex::default());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Handles signals from now on, on a thread of its own. Only the first call of a process counts. A signal that is ignored stays
/// ignored.
///
/// # Errors
///
/// If the system has no pipe or thread for it.
pub fn handle_signals(work: SignalWork) -> io::Result<()> {
    imp::handle(work)
}

#[cfg(unix)]
mod imp {
    use std::ffi::{c_int, c_void};
    use std::io::{self, Read as _};
    use std::mem::{self, MaybeUninit};
    use std::os::fd::IntoRawFd as _;
    use std::panic::catch_unwind;
    use std::process;
    use std::ptr;
    use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
    use std::thread;
    use std::time::Duration;

    use logcore::PerProcess;

    use super::{ENDING, Ending, Signal, SignalWork, lock};
    use crate::process::notice::settle_notices;

    pub(super) const STOP: i32 = libc::SIGTSTP;

    const SIGNALS: [Signal; 4] = [Signal::Interrupt, Signal::Terminate, Signal::HangUp, Signal::Stop];

    /// What the handler needs; complete before the first handler is installed.
    struct Handling {
        /// The end of the pipe that is written to. It does not block.
        pipe: c_int,
        /// A child of a fork has the handler, but not the thread.
        pid: u32,
        /// What was there before, in the order of `SIGNALS`.
        earlier: [libc::sigaction; SIGNALS.len()],
    }

    /// Of the process that called last; lives for ever.
    static HANDLING: AtomicPtr<Handling> = AtomicPtr::new(ptr::null_mut());

    fn handling() -> Option<&'static Handling> {
        // SAFETY: null, or from a box that was leaked when it was complete.
        unsafe { HANDLING.load(Ordering::Acquire).as_ref() }
    }

    pub(super) fn handle(work: SignalWork) -> io::Result<()> {
        static CALLED: PerProcess<AtomicBool> = PerProcess::new(|_| AtomicBool::new(false));
        if CALLED.get().swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let (mut reader, writer) = io::pipe()?;
        let pipe = writer.into_raw_fd();
        // SAFETY: the descriptor is ours and open; a full pipe must not hold up a handler.
        unsafe { libc::fcntl(pipe, libc::F_SETFL, libc::O_NONBLOCK) };
        let of_parent = handling();
        // In a child the handlers are ours already, and what was there before them is what the parent found.
        let before = |at: usize| match (installed(SIGNALS[at]), of_parent) {
            (now, Some(parent)) if is_ours(&now) => parent.earlier[at],
            (now, _) => now,
        };
        let handling: &'static Handling = Box::leak(Box::new(Handling {
            pipe,
            pid: process::id(),
            earlier: std::array::from_fn(before),
        }));
        HANDLING.store(ptr::from_ref(handling).cast_mut(), Ordering::Release);
        thread::Builder::new()
            .name("logcore-signals".to_owned())
            .spawn(move || {
                let mut number = [0];
                while reader.read_exact(&mut number).is_ok() {
                    for (signal, earlier) in SIGNALS.iter().zip(&handling.earlier) {
                        if signal.number() == i32::from(number[0])
                            && is_default(earlier)
                            && is_ours(&installed(*signal))
                        {
                            respond(*signal, work);
                        }
                    }
                }
            })?;
        for (signal, earlier) in SIGNALS.iter().zip(&handling.earlier) {
            if earlier.sa_sigaction != libc::SIG_IGN {
                install(*signal, handler as *const () as usize, earlier.sa_mask);
            }
        }
        Ok(())
    }

    fn respond(signal: Signal, work: SignalWork) {
        let (ours, default) = (installed(signal), libc::SIG_DFL);
        // From now on the signal acts as if nobody handled it, so that a second one ends the process at once.
        install(signal, default, ours.sa_mask);
        if signal == Signal::Stop {
            // The signal of a thread to itself is there when `raise` returns, and the process stands still until it goes on.
            (work.around_stop)(&mut || {
                // SAFETY: no memory is involved.
                let _ = unsafe { libc::raise(STOP) };
            });
            install(signal, ours.sa_sigaction, ours.sa_mask);
            return;
        }
        *lock(ENDING.get()) = Ending::By(thread::current().id());
        // The end of the process must not depend on what is done before it.
        let _ = catch_unwind(|| {
            (work.before_end)(signal);
            settle_notices(Duration::from_millis(100));
        });
        // SAFETY: no memory is involved.
        unsafe { libc::kill(libc::getpid(), signal.number()) };
        // Every thread may have the signal blocked.
        thread::sleep(Duration::from_millis(100));
        // SAFETY: ends the process; nothing of it is used after.
        unsafe { libc::_exit(128 + signal.number()) };
    }

    /// What is async-signal-safe, see `signal-safety(7)`: no allocation, no lock.
    extern "C" fn handler(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        let Some(handling) = handling() else { return };
        let earlier = SIGNALS
            .iter()
            .zip(&handling.earlier)
            .find(|(signal, _)| signal.number() == number)
            .map(|(_, earlier)| earlier);
        let Some(earlier) = earlier else { return };
        if !is_default(earlier) {
            return call(earlier, number, info, context);
        }
        // SAFETY: `getpid`, `signal`, `raise` and `write` are safe in handlers; the byte lives through the call, and errno,
        // which the interrupted code may be about to read, is put back.
        unsafe {
            let errno = *errno();
            if libc::getpid().cast_unsigned() == handling.pid {
                let byte = number as u8;
                libc::write(handling.pipe, ptr::from_ref(&byte).cast(), 1);
            } else {
                libc::signal(number, libc::SIG_DFL);
                libc::raise(number);
            }
            *self::errno() = errno;
        }
    }

    /// Calls a handler that was there before.
    fn call(earlier: &libc::sigaction, number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        type WithInfo = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
        type Plain = extern "C" fn(c_int);
        // SAFETY: whoever installed it gave a function of the form that its flags say, and it gets what the kernel gave us.
        unsafe {
            if earlier.sa_flags & libc::SA_SIGINFO != 0 {
                mem::transmute::<usize, WithInfo>(earlier.sa_sigaction)(number, info, context);
            } else {
                mem::transmute::<usize, Plain>(earlier.sa_sigaction)(number);
            }
        }
    }

    fn install(signal: Signal, action: usize, mask: libc::sigset_t) {
        // SAFETY: all zero is a valid value of this C struct; what matters is set.
        let mut new: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
        new.sa_sigaction = action;
        new.sa_mask = mask;
        // System calls of the program go on as if nothing had been.
        new.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        // SAFETY: the struct lives through the call, and the handler does only what a handler may.
        unsafe { libc::sigaction(signal.number(), &raw const new, ptr::null_mut()) };
    }

    fn installed(signal: Signal) -> libc::sigaction {
        let mut old = MaybeUninit::zeroed();
        // SAFETY: the struct lives through the call, which fills it; all zero, if it failed, is the default action.
        unsafe {
            libc::sigaction(signal.number(), ptr::null(), old.as_mut_ptr());
            old.assume_init()
        }
    }

    fn is_default(action: &libc::sigaction) -> bool {
        action.sa_sigaction == libc::SIG_DFL
    }

    fn is_ours(action: &libc::sigaction) -> bool {
        action.sa_sigaction == handler as *const () as usize
    }

    #[cfg(any(target_os = "linux", target_os = "emscripten"))]
    unsafe fn errno() -> *mut c_int {
        // SAFETY: always a valid pointer, of this thread.
        unsafe { libc::__errno_location() }
    }

    #[cfg(any(target_vendor = "apple", target_os = "freebsd"))]
    unsafe fn errno() -> *mut c_int {
        // SAFETY: always a valid pointer, of this thread.
        unsafe { libc::__error() }
    }
}

#[cfg(not(unix))]
mod imp {
    use std::io;

    use super::SignalWork;

    pub(super) const STOP: i32 = 0;

    /// There are no signals.
    pub(super) fn handle(_: SignalWork) -> io::Result<()> {
        Ok(())
    }
}
