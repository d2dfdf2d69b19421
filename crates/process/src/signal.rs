//! Signal delivery: the faulting thread serves itself, inside SIGBUS.
//!
//! The handler runs with every signal blocked on the program's stack, so it
//! uses little of it: codec state and buffers are a worker's.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use vswap_platform::errno::Errno;
use vswap_platform::signal::{FaultSignal, Verdict, install_fault_handler};
use vswap_platform::uffd::Userfaultfd;
use vswap_platform::{log, thread};
use vswap_units::PAGE_SIZE;

use crate::engine::Engine;
use crate::fault::Outcome;
use crate::registry;
use crate::worker::Worker;

/// Routes SIGBUS to the engines of this process.
///
/// # Errors
/// The kernel's.
pub fn install() -> Result<(), Errno> {
    install_fault_handler(libc_sigbus(), false, on_fault).map(|_| ())
}

const fn libc_sigbus() -> i32 {
    7
}

fn on_fault(fault: &FaultSignal) -> Verdict {
    let Some(engine) = registry::find_in_handler(fault.addr) else {
        return Verdict::NotOurs;
    };
    engine.wait_until_armed();
    let hint = thread::current_cpu().unwrap_or(0);
    let Some(mut worker) = engine.workers.claim(hint) else {
        return Verdict::NotOurs;
    };
    match engine.resolve(&mut worker, fault.addr) {
        Outcome::Resolved => Verdict::Resolved,
        Outcome::Deferred => {
            engine.keep_descriptor(&mut worker, fault.addr);
            Verdict::Resolved
        }
        Outcome::Failed | Outcome::NotOurs => Verdict::NotOurs,
    }
}

impl Engine {
    /// A fault that came to nothing may mean that the program closed our
    /// descriptor: then it is taken again out of the engine's private table.
    /// Without it swapped memory would be lost, so that is the end.
    fn keep_descriptor(&self, worker: &mut Worker, addr: usize) {
        let page = addr & !(PAGE_SIZE - 1);
        let works = |uffd: &Userfaultfd| uffd.wake(page, PAGE_SIZE).is_ok();
        if worker.uffd.as_deref().is_some_and(works) {
            return;
        }
        let mut recovered = self.recovered.lock();
        if !recovered.as_deref().is_some_and(works) {
            *recovered = self.recover_descriptor();
        }
        worker.uffd.clone_from(&recovered);
    }

    fn recover_descriptor(&self) -> Option<Arc<Userfaultfd>> {
        let keeper = self.threads.reclaim_tid.load(Ordering::Acquire) as i32;
        let original = self.uffd.lock();
        match original.as_deref().map(|uffd| uffd.recover(keeper)) {
            Some(Ok(uffd)) => Some(Arc::new(uffd)),
            _ => {
                log::say(&[
                    "the program closed vswap's userfaultfd and this kernel cannot bring it back (Linux 6.9 can): stopping before memory is lost",
                ]);
                vswap_platform::signal::die()
            }
        }
    }
}
