//! Signal actions, signal masks, and the handlers that forward signals into a pipe.

use std::ffi::{c_int, c_void};
use std::io::{self, PipeReader};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd as _, IntoRawFd as _, RawFd};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::calls::{file_identity, set_nonblocking};

/// A handler that receives the details of its signal.
pub(crate) type SignalHandler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);

/// The action of a signal: the default one, none, or a handler.
#[derive(Clone, Copy)]
pub(crate) struct SignalAction(libc::sigaction);

impl SignalAction {
    /// Returns the action that is installed for a signal.
    pub(crate) fn installed(number: c_int) -> Self {
        let mut action = MaybeUninit::zeroed();
        // SAFETY: the struct lives through the call, which fills it; all zero, if the call failed,
        // is the default action.
        Self(unsafe {
            libc::sigaction(number, ptr::null(), action.as_mut_ptr());
            action.assume_init()
        })
    }

    /// An action that calls `handler` on the signal stack of the thread, if it has one. Interrupted
    /// system calls are restarted.
    ///
    /// # Safety
    ///
    /// The handler is async-signal-safe, see `signal-safety(7)`: it allocates nothing and takes no
    /// lock.
    pub(crate) unsafe fn with_handler(handler: SignalHandler) -> Self {
        let mut action = Self::default_action();
        action.0.sa_sigaction = handler as *const () as usize;
        action.0.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART | libc::SA_ONSTACK;
        action
    }

    fn default_action() -> Self {
        // SAFETY: all zero is a valid value of this C struct, and means the default action.
        Self(unsafe { MaybeUninit::zeroed().assume_init() })
    }

    /// The same action, with every other signal blocked while the handler runs.
    #[cfg(all(target_os = "linux", not(loom)))]
    pub(crate) fn blocking_all(mut self) -> Self {
        // SAFETY: the set lives through the call, which fills it.
        unsafe { libc::sigfillset(&raw mut self.0.sa_mask) };
        self
    }

    /// The default action, with the flags and the mask of this one.
    pub(crate) fn with_default_effect(mut self) -> Self {
        self.0.sa_sigaction = libc::SIG_DFL;
        self
    }

    /// Installs the action for a signal.
    pub(crate) fn install(&self, number: c_int) {
        // SAFETY: the struct lives through the call, and a handler in it does only what a handler
        // may: either `with_handler` demanded that, or the program had installed it before.
        unsafe { libc::sigaction(number, &raw const self.0, ptr::null_mut()) };
    }

    /// Installs the default action for a signal. Async-signal-safe.
    pub(crate) fn install_default(number: c_int) {
        // SAFETY: no memory is involved.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }

    /// Returns `true` if the signal has its default effect.
    pub(crate) fn is_default(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_DFL
    }

    /// Returns `true` if the signal is ignored.
    pub(crate) fn is_ignored(&self) -> bool {
        self.0.sa_sigaction == libc::SIG_IGN
    }

    fn calls(&self, handler: SignalHandler) -> bool {
        self.0.sa_sigaction == handler as *const () as usize
    }

    /// Calls the handler of the action, if it has one.
    ///
    /// # Safety
    ///
    /// The caller is a signal handler and passes on what it received from the kernel.
    pub(crate) unsafe fn call(&self, number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
        type HandlerWithoutInfo = extern "C" fn(c_int);
        let address = self.0.sa_sigaction;
        if self.is_default() || self.is_ignored() {
            return;
        }
        // SAFETY: the flags of an installed action determine the form of its function, and the
        // function receives what the kernel passed to our handler.
        unsafe {
            if self.0.sa_flags & libc::SA_SIGINFO != 0 {
                mem::transmute::<usize, SignalHandler>(address)(number, info, context);
            } else {
                mem::transmute::<usize, HandlerWithoutInfo>(address)(number);
            }
        }
    }
}

/// Sends a signal to the calling thread. Async-signal-safe.
pub(crate) fn raise(number: c_int) {
    // SAFETY: no memory is involved.
    let _ = unsafe { libc::raise(number) };
}

/// Ends the process without any exit hook.
pub(crate) fn exit_immediately(code: c_int) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Blocks signals in the calling thread.
pub(crate) fn block_in_this_thread(signals: &[c_int]) {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the set is initialized before a signal is added, and the calls change only the set
    // and the mask of this thread.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
    }
}

/// Runs the body of a signal handler and restores `errno`, which the interrupted code may be about
/// to read.
pub(crate) fn keep_errno<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: always a valid pointer, of this thread.
    let before = unsafe { *errno() };
    let result = body();
    // SAFETY: as above.
    unsafe { *errno() = before };
    result
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

/// Handlers that write the number of each signal into a pipe. Complete before the first handler is
/// installed.
pub(crate) struct SignalForwarding {
    /// The write end of the pipe. It does not block.
    pipe: c_int,
    /// Device and inode of both ends. A program that closes all descriptors, as daemons do, lets
    /// other files have their numbers.
    identity: (u64, u64),
    /// A child of a fork has the handlers, but no thread that reads the pipe.
    pid: u32,
    /// The numbers of the signals, with the actions before ours.
    signals: Box<[(c_int, SignalAction)]>,
}

/// The forwarding of the process that called last; lives forever.
static FORWARDING: AtomicPtr<SignalForwarding> = AtomicPtr::new(ptr::null_mut());

impl SignalForwarding {
    /// Prepares the pipe, and returns its read end. The handlers are not [installed](Self::install)
    /// yet.
    ///
    /// # Errors
    ///
    /// If the system has no pipe.
    pub(crate) fn prepare(numbers: impl Iterator<Item = c_int>) -> io::Result<(&'static Self, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        // A full pipe must not hold up a handler.
        set_nonblocking(&writer)?;
        let identity = file_identity(writer.as_raw_fd())?;
        let of_parent = Self::current();
        // A child of a fork has our handlers already, and the actions before them are those that
        // the parent found.
        let earlier = |number: c_int| {
            let now = SignalAction::installed(number);
            let of_parent = of_parent.filter(|_| now.calls(forward));
            of_parent.and_then(|parent| parent.earlier(number)).unwrap_or(now)
        };
        let forwarding: &'static Self = Box::leak(Box::new(Self {
            pipe: writer.into_raw_fd(),
            identity,
            pid: process::id(),
            signals: numbers.map(|number| (number, earlier(number))).collect(),
        }));
        FORWARDING.store(ptr::from_ref(forwarding).cast_mut(), Ordering::Release);
        Ok((forwarding, reader))
    }

    /// Installs the handlers, except for signals that the program ignores.
    pub(crate) fn install(&self) {
        for (number, earlier) in &self.signals {
            if !earlier.is_ignored() {
                // SAFETY: `forward` calls only async-signal-safe functions.
                let mut action = unsafe { SignalAction::with_handler(forward) };
                action.0.sa_mask = earlier.0.sa_mask;
                action.install(*number);
            }
        }
    }

    /// Returns `true` unless the program has closed this end of the pipe. Async-signal-safe.
    pub(crate) fn is_end_of_pipe(&self, end: RawFd) -> bool {
        file_identity(end).is_ok_and(|identity| identity == self.identity)
    }

    /// Gives the signals that come through the pipe their default effect.
    pub(crate) fn withdraw(&self) {
        let ours = self.signals.iter().map(|(number, _)| *number);
        ours.filter(|number| self.decides_about(*number))
            .for_each(SignalAction::install_default);
    }

    /// Returns `true` if the signal had its default effect before, and nothing has replaced our
    /// handler.
    pub(crate) fn decides_about(&self, number: c_int) -> bool {
        let earlier = self.earlier(number);
        earlier.is_some_and(|action| action.is_default()) && SignalAction::installed(number).calls(forward)
    }

    /// Returns the action of a forwarded signal before ours. Async-signal-safe.
    fn earlier(&self, number: c_int) -> Option<SignalAction> {
        let mut signals = self.signals.iter();
        signals
            .find(|(forwarded, _)| *forwarded == number)
            .map(|(_, action)| *action)
    }

    fn current() -> Option<&'static Self> {
        // SAFETY: null, or from a box that was complete when it was leaked.
        unsafe { FORWARDING.load(Ordering::Acquire).as_ref() }
    }
}

/// Calls only async-signal-safe functions: no allocation, no lock.
extern "C" fn forward(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let Some(forwarding) = SignalForwarding::current() else {
        return;
    };
    let Some(earlier) = forwarding.earlier(number) else {
        return;
    };
    if !earlier.is_default() {
        // SAFETY: called by a handler, with what the kernel passed to it.
        return unsafe { earlier.call(number, info, context) };
    }
    keep_errno(|| {
        // SAFETY: `getpid`, `fstat` and `write` are async-signal-safe; the byte lives through the
        // call.
        unsafe {
            if libc::getpid().cast_unsigned() == forwarding.pid && forwarding.is_end_of_pipe(forwarding.pipe) {
                let byte = number as u8;
                libc::write(forwarding.pipe, ptr::from_ref(&byte).cast(), 1);
                return;
            }
        }
        SignalAction::install_default(number);
        raise(number);
    });
}
