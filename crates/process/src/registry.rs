//! Which engines this process has: what SIGBUS and fork look them up in.

use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::sync::RankedMutex;

use crate::engine::Engine;
use crate::error::StartError;

/// Engines at most in one process.
pub const MOST: usize = 64;

type Slots = [Option<Arc<Engine>>; MOST];

static ENGINES: RankedMutex<Slots, 3> = RankedMutex::new([const { None }; MOST]);

/// Enters an engine.
///
/// # Errors
/// When there are [`MOST`] already.
pub fn add(engine: &Arc<Engine>) -> Result<(), StartError> {
    let mut slots = ENGINES.lock_blocking_signals();
    let free = slots.iter_mut().find(|slot| slot.is_none());
    let slot = free.ok_or(StartError::Memory(Errno::ENOMEM))?;
    *slot = Some(Arc::clone(engine));
    Ok(())
}

/// Takes an engine out.
pub fn remove(engine: &Arc<Engine>) {
    let removed = {
        let mut slots = ENGINES.lock_blocking_signals();
        slots
            .iter_mut()
            .find(|slot| {
                slot.as_ref()
                    .is_some_and(|other| Arc::ptr_eq(other, engine))
            })
            .and_then(Option::take)
    };
    drop(removed);
}

/// The engine whose range holds `addr`.
pub fn find(addr: usize) -> Option<Arc<Engine>> {
    owner_in(&ENGINES.lock_blocking_signals(), addr)
}

/// The same for our signal handler, which every signal is blocked in: two system
/// calls less in every fault.
pub(crate) fn find_in_handler(addr: usize) -> Option<Arc<Engine>> {
    owner_in(&ENGINES.lock(), addr)
}

fn owner_in(slots: &Slots, addr: usize) -> Option<Arc<Engine>> {
    let mut engines = slots.iter().flatten();
    engines.find(|engine| engine.owns(addr)).cloned()
}

/// An engine whose range has a byte of `[addr, addr + len)`.
pub fn find_touching(addr: usize, len: usize) -> Option<Arc<Engine>> {
    let touches = |engine: &&Arc<Engine>| {
        let (low, bytes) = engine.range();
        addr < low + bytes && low < addr.saturating_add(len)
    };
    let slots = ENGINES.lock_blocking_signals();
    slots.iter().flatten().find(touches).cloned()
}

/// All engines, oldest first.
pub fn all() -> Vec<Arc<Engine>> {
    ENGINES
        .lock_blocking_signals()
        .iter()
        .flatten()
        .cloned()
        .collect()
}

/// Who forks now holds these still.
static HELD: RankedMutex<Vec<Arc<Engine>>, 2> = RankedMutex::new(Vec::new());

/// Keeps engines from coming and going until [`unlock_after_fork`]; returns them.
pub(crate) fn lock_for_fork() -> Vec<Arc<Engine>> {
    let engines = all();
    HELD.lock().clone_from(&engines);
    ENGINES.lock_for_fork();
    engines
}

/// The engines held by [`lock_for_fork`], in parent and child.
pub(crate) fn locked_for_fork() -> Vec<Arc<Engine>> {
    HELD.lock().clone()
}

/// Ends [`lock_for_fork`].
pub(crate) fn unlock_after_fork() {
    ENGINES.unlock_after_fork();
    HELD.lock().clear();
}
