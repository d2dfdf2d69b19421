//! Whether this process is managed, and the one moment when it becomes so.
//!
//! The constructor only reads the environment. Programs that allocate little
//! before they exec another (shells, shims, compiler drivers) never start an
//! engine: the first [`GRACE_BYTES`] asked for stay with the C library. The
//! allocation that crosses that line starts the engine; calls that arrive
//! meanwhile, from the engine itself or from other threads, pass to libc.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};

use vswap_platform::{log, sys};

use crate::bridge::{self, Settings};
use crate::mark::{self, Mark};
use crate::{heap, presence, real, signals};

/// Bytes a program may ask for before the engine starts.
const GRACE_BYTES: usize = 1 << 20;

/// Blocks of at least this size are runs of pages of their own.
pub const LARGE: usize = 64 << 10;

/// In signal mode, mappings that look like an interpreter's heap stay out.
const SIGNAL_MODE_MAP_MIN: usize = 2 << 20;

/// Exit status of `vswap run` when the command cannot be managed.
const CANNOT_MANAGE: i32 = 125;

const OFF: u8 = 0;
const READY: u8 = 1;
const STARTING: u8 = 2;
const ON: u8 = 3;

static SIGNAL_MODE: AtomicBool = AtomicBool::new(false);
static MODE: AtomicU8 = AtomicU8::new(OFF);
static ASKED: AtomicUsize = AtomicUsize::new(0);
static BLOCK_MIN: AtomicUsize = AtomicUsize::new(usize::MAX);
static MAP_MIN: AtomicUsize = AtomicUsize::new(usize::MAX);

/// Proof that the engine runs and this thread may use it.
#[derive(Clone, Copy)]
pub struct Live(());

impl Live {
    /// Blocks smaller than this are the C library's.
    #[inline]
    pub fn block_min(self) -> usize {
        BLOCK_MIN.load(Ordering::Relaxed)
    }

    /// Mappings smaller than this are not managed.
    #[inline]
    pub fn map_min(self) -> usize {
        MAP_MIN.load(Ordering::Relaxed)
    }
}

/// Called by the constructor: is there a budget for this process?
pub fn read_environment() {
    let off = real::variable(c"VSWAP").is_some_and(|value| value == b"off" || value == b"0");
    if off || real::variable(c"VSWAP_RAM").is_none() {
        return;
    }
    presence::tell_parent();
    MODE.store(READY, Ordering::Release);
}

/// Whether managed memory may exist.
#[inline]
pub fn is_on() -> bool {
    MODE.load(Ordering::Acquire) == ON
}

/// Whether the program's threads resolve their own faults, of the program's engine or
/// of a space: then the kernel cannot, and whatever it is to read or write must be in
/// memory before.
#[inline]
pub fn is_signal_mode() -> bool {
    SIGNAL_MODE.load(Ordering::Acquire)
}

/// The engine, for an allocation of `bytes`; `None` when it is the C library's.
#[inline]
pub fn live(bytes: usize) -> Option<Live> {
    match MODE.load(Ordering::Acquire) {
        ON if !mark::is_set() => Some(Live(())),
        READY => wake(bytes),
        _ => None,
    }
}

#[cold]
fn wake(bytes: usize) -> Option<Live> {
    let before = ASKED.fetch_add(bytes, Ordering::Relaxed);
    if before.saturating_add(bytes) < GRACE_BYTES || mark::is_set() {
        return None;
    }
    MODE.compare_exchange(READY, STARTING, Ordering::AcqRel, Ordering::Acquire)
        .ok()?;
    let _mark = Mark::enter();
    let errno = crate::errno::errno();
    let started = bridge::start();
    match started {
        Ok(settings) => turn_on(settings),
        Err(reason) => turn_off(&reason),
    }
    crate::errno::set_errno(errno);
    is_on().then_some(Live(()))
}

fn turn_on(settings: Settings) {
    let (block_min, map_min) = thresholds(settings);
    BLOCK_MIN.store(block_min, Ordering::Relaxed);
    MAP_MIN.store(map_min, Ordering::Relaxed);
    if settings.signal_mode {
        begin_signal_mode();
    }
    if block_min < LARGE {
        heap::start();
    }
    MODE.store(ON, Ordering::Release);
}

/// Engines of signal delivery exist from now on.
pub fn begin_signal_mode() {
    if !SIGNAL_MODE.swap(true, Ordering::AcqRel) {
        signals::begin();
    }
}

/// From which sizes on blocks and mappings are managed. In signal mode small
/// blocks never are: the C library hands its own to the kernel unseen.
fn thresholds(settings: Settings) -> (usize, usize) {
    let auto_map = if settings.signal_mode {
        SIGNAL_MODE_MAP_MIN
    } else {
        LARGE
    };
    let auto_block = if settings.signal_mode { LARGE } else { 0 };
    match settings.min_alloc {
        Some(least) if settings.signal_mode => (least.max(LARGE), least.max(LARGE)),
        Some(least) => (least, least.max(LARGE)),
        None => (auto_block, auto_map),
    }
}

/// Never silently unmanaged: says why, and ends unless told to go on.
fn turn_off(reason: &str) {
    MODE.store(OFF, Ordering::Release);
    log::say(&["this program cannot be managed: ", reason]);
    if real::variable(c"VSWAP_ALLOW_UNMANAGED").is_none_or(|value| value == b"0") {
        sys::exit_now(CANNOT_MANAGE);
    }
}

/// In a forked child: a start that another thread had under way is lost.
pub fn after_fork_in_child() {
    if MODE.load(Ordering::Acquire) == STARTING {
        MODE.store(OFF, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_mode_manages_every_block_and_signal_mode_the_large_ones() {
        let thread = Settings {
            min_alloc: None,
            signal_mode: false,
        };
        assert_eq!(thresholds(thread), (0, LARGE));
        let signal = Settings {
            min_alloc: None,
            signal_mode: true,
        };
        assert_eq!(thresholds(signal), (LARGE, 2 << 20));
    }

    #[test]
    fn a_minimum_that_is_asked_for_holds_for_mappings_too() {
        let settings = Settings {
            min_alloc: Some(1 << 20),
            signal_mode: true,
        };
        assert_eq!(thresholds(settings), (1 << 20, 1 << 20));
    }
}
