#![expect(
    unsafe_code,
    reason = "a signal handler maps zeros where pages of a file are gone: see the blocks"
)]
//! What becomes of a mapping whose pages are gone.
//!
//! Reading a page beyond the end of its file, or one that the disk does not give, raises SIGBUS, which ends a
//! process. Here the handler marks the mapping as lost, puts zeros in its place and lets the reader go on; who
//! reads looks at the mark before anything made of what it read leaves. Any other SIGBUS does what it did before.

use libc::{c_int, c_void, siginfo_t};
use std::{
    mem, ptr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering, fence},
    },
};

/// Mappings of this process that were lost, over its whole life.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// The latest slot; each leads to the one before it.
static LATEST: AtomicPtr<Slot> = AtomicPtr::new(ptr::null_mut());

/// What SIGBUS did before.
static BEFORE: OnceLock<libc::sigaction> = OnceLock::new();

/// A mapping as the signal handler sees it. Slots are never freed, so that the handler may walk over them at any
/// time: some bytes for every file that a process ever maps.
#[derive(Debug)]
pub(super) struct Slot {
    start: usize,
    end: usize,
    live: AtomicBool,
    state: AtomicU8,
    before: *mut Slot,
}

// SAFETY: `before` is only followed, and points to a slot that is never freed or changed but for its atomics.
unsafe impl Sync for Slot {}
// SAFETY: as above.
unsafe impl Send for Slot {}

/// A slot's state.
pub(super) const WHOLE: u8 = 0;
pub(super) const UNREADABLE: u8 = 1;
pub(super) const CHANGED: u8 = 2;

/// Says that there is a mapping of these bytes, until [`Slot::end`].
pub(super) fn add(bytes: &[u8]) -> &'static Slot {
    install();
    let start = bytes.as_ptr() as usize;
    let slot = Box::leak(Box::new(Slot {
        start,
        end: start + bytes.len(),
        live: AtomicBool::new(true),
        state: AtomicU8::new(WHOLE),
        before: ptr::null_mut(),
    }));
    let mut latest = LATEST.load(Ordering::Acquire);
    loop {
        slot.before = latest;
        match LATEST.compare_exchange(latest, slot, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return slot,
            Err(now) => latest = now,
        }
    }
}

impl Slot {
    /// The mapping is about to go. Its addresses may be another's afterwards.
    pub(super) fn end(&self) {
        self.live.store(false, Ordering::SeqCst);
    }

    /// Whether the mapping is as it was, or what became of it. Costs one load as long as nothing was lost.
    pub(super) fn state(&self) -> u8 {
        // What was read before is read before the mark is.
        fence(Ordering::Acquire);
        match LOST.load(Ordering::Relaxed) {
            0 => WHOLE,
            _ => self.state.load(Ordering::Acquire),
        }
    }

    /// Marks the mapping as lost. Safe in a signal handler.
    pub(super) fn lose(&self, state: u8) {
        let exchanged =
            self.state
                .compare_exchange(WHOLE, state, Ordering::SeqCst, Ordering::SeqCst);
        if exchanged.is_ok() {
            LOST.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Puts zeros in the place of the mapping. Safe in a signal handler.
    fn map_zeros(&self) -> bool {
        // SAFETY: the thread that got the signal reads this mapping, which therefore lives until the handler
        // returns; the range is the mapping's own, from the start of a page, and the system replaces whole pages.
        // The mapping stays readable for all threads, at every moment.
        let mapped = unsafe {
            libc::mmap(
                self.start as *mut c_void,
                self.end - self.start,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        mapped != libc::MAP_FAILED
    }
}

/// Mappings of this process that were lost so far.
pub(super) fn lost() -> usize {
    LOST.load(Ordering::SeqCst)
}

fn find(address: usize) -> Option<&'static Slot> {
    let mut at = LATEST.load(Ordering::Acquire);
    // SAFETY: slots are published whole and never freed.
    while let Some(slot) = unsafe { at.as_ref() } {
        if slot.live.load(Ordering::SeqCst) && (slot.start..slot.end).contains(&address) {
            return Some(slot);
        }
        at = slot.before;
    }
    None
}

/// Puts the handler in force, once. Where the system refuses, SIGBUS does what it did.
fn install() {
    BEFORE.get_or_init(|| {
        // SAFETY: all bits zero are a value of `sigaction`: the default action and an empty mask.
        let mut before: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: as above.
        let mut ours: libc::sigaction = unsafe { mem::zeroed() };
        ours.sa_sigaction = on_sigbus as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: both are whole values, and `on_sigbus` does only what a signal handler may do. What was in force is
        // known before the handler is, so that the handler never lacks it for long.
        unsafe {
            libc::sigaction(libc::SIGBUS, ptr::null(), &raw mut before);
            libc::sigaction(libc::SIGBUS, &raw const ours, ptr::null_mut());
        }
        before
    });
}

/// Loads and stores atomics, and calls `mmap`, `sigaction` and `raise`: nothing else may be done here.
extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the system hands a handler with SA_SIGINFO a whole `siginfo_t`. Codes above 0 are the kernel's own, of a
    // fault at an address; what another process sends has none.
    let fault = unsafe { ((*info).si_code > 0).then(|| (*info).si_addr() as usize) };
    if let Some(slot) = fault.and_then(find) {
        // The mark comes first: whoever sees the zeros sees the mark.
        slot.lose(UNREADABLE);
        if slot.map_zeros() {
            return;
        }
    }
    pass_on(signal, info, context, fault.is_some());
}

/// What would have happened without a handler of ours.
fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void, fault: bool) {
    let before = BEFORE.get().filter(|before| {
        fault && before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN
    });
    // SAFETY: `sa_sigaction` is a function of the type that `sa_flags` says, put there by who had the signal before;
    // the default action is in force again where there was none, and takes place when this handler returns: a fault
    // occurs again, and a signal that was sent is sent again.
    unsafe {
        match before {
            Some(before) if before.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) =
                    mem::transmute(before.sa_sigaction);
                handler(signal, info, context);
            }
            Some(before) => {
                let handler: extern "C" fn(c_int) = mem::transmute(before.sa_sigaction);
                handler(signal);
            }
            None => {
                let mut default: libc::sigaction = mem::zeroed();
                default.sa_sigaction = libc::SIG_DFL;
                libc::sigaction(signal, &raw const default, ptr::null_mut());
                if !fault {
                    libc::raise(signal);
                }
            }
        }
    }
}
