//! What one thread needs to serve faults and reclaim: made before the first
//! fault, because nothing may be allocated during one.

use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::map::AnonMap;
use vswap_platform::sync::{Guard, RankedMutex};
use vswap_platform::uffd::Userfaultfd;
use vswap_store::{CodecKind, Workspace};
use vswap_units::{BLOCK_SIZE, PAGE_SIZE};

/// Workers are claimed before any other engine lock.
pub const WORKER_RANK: u8 = 5;

/// A worker, held.
pub type WorkerGuard<'a> = Guard<'a, Worker, WORKER_RANK>;

/// Codec state and buffers of one thread of the engine.
pub struct Worker {
    /// The userfaultfd to speak to; changes at a fork.
    pub uffd: Option<Arc<Userfaultfd>>,
    /// Codec state.
    pub codec: Workspace,
    /// A block of memory to decode into where no frame is free.
    scratch: AnonMap,
    /// A block of address space for pages on their way out (`aside`).
    aside: AnonMap,
    /// The reclaim thread's: it cannot wait for reclaim.
    pub is_reclaimer: bool,
}

impl Worker {
    /// A worker for this codec.
    ///
    /// # Errors
    /// The kernel's, when its buffers cannot be mapped.
    pub fn new(kind: CodecKind) -> Result<Self, Errno> {
        Ok(Self {
            uffd: None,
            codec: Workspace::new(kind).ok_or(Errno::ENOMEM)?,
            scratch: AnonMap::new(BLOCK_SIZE, PAGE_SIZE)?,
            aside: AnonMap::reserve_none(BLOCK_SIZE, PAGE_SIZE)?,
            is_reclaimer: false,
        })
    }

    /// Address of page `slot` of the scratch block.
    pub fn scratch_addr(&self, slot: usize) -> usize {
        self.scratch.addr() + slot * PAGE_SIZE
    }

    /// Address aside of page `slot` of a block.
    pub fn aside_addr(&self, slot: usize) -> usize {
        self.aside.addr() + slot * PAGE_SIZE
    }

    /// The scratch block, and the codec state beside it.
    pub fn parts(&mut self) -> (&AnonMap, &mut Workspace) {
        (&self.scratch, &mut self.codec)
    }
}

/// The workers of an engine.
pub struct Workers {
    slots: Vec<RankedMutex<Worker, WORKER_RANK>>,
}

impl Workers {
    /// Workers that serve no faults: the first is the reclaimer's; the last ones, backwards,
    /// are the writer's, that of whoever asks from outside, and the one that reads ahead.
    pub const BESIDE: usize = 4;

    /// `count` workers.
    ///
    /// # Errors
    /// The kernel's, when their buffers cannot be mapped.
    pub fn new(count: usize, kind: CodecKind) -> Result<Self, Errno> {
        let slots: Result<Vec<_>, _> = (0..count)
            .map(|index| {
                Worker::new(kind).map(|worker| {
                    RankedMutex::new(Worker {
                        is_reclaimer: index == 0,
                        ..worker
                    })
                })
            })
            .collect();
        Ok(Self { slots: slots? })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Worker `index` modulo their number; waits for it.
    pub fn take(&self, index: usize) -> Option<WorkerGuard<'_>> {
        Some(self.slots.get(index % self.slots.len().max(1))?.lock())
    }

    /// The writer's own.
    pub fn of_writer(&self) -> Option<WorkerGuard<'_>> {
        self.take(self.slots.len().checked_sub(1)?)
    }

    /// For whoever asks from outside: checks, changes of rules and ends of groups. Taken before `world` is entered or closed.
    pub fn of_caller(&self) -> Option<WorkerGuard<'_>> {
        self.take(self.slots.len().checked_sub(2)?)
    }

    /// That of the thread that reads ahead, which holds it all the time.
    pub fn of_ahead(&self) -> Option<WorkerGuard<'_>> {
        self.take(self.slots.len().checked_sub(3)?)
    }

    /// Any free worker that serves faults, else waits for the one `hint` names.
    pub fn claim(&self, hint: usize) -> Option<WorkerGuard<'_>> {
        let serving = self
            .slots
            .get(1..=self.slots.len().checked_sub(Self::BESIDE)?)?;
        let hint = hint % serving.len().max(1);
        let from_hint = serving.iter().cycle().skip(hint).take(serving.len());
        from_hint
            .clone()
            .find_map(|slot| slot.try_lock())
            .or_else(|| Some(serving.get(hint)?.lock()))
    }

    /// In a forked child: the threads that held workers are gone.
    pub fn reset_in_child(&self) {
        self.slots.iter().for_each(RankedMutex::reset_in_child);
    }

    /// Tells every worker which userfaultfd to speak to.
    pub fn adopt(&self, uffd: &Arc<Userfaultfd>) {
        for slot in &self.slots {
            slot.lock().uffd = Some(Arc::clone(uffd));
        }
    }
}
