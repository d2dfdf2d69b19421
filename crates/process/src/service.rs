//! The engine's threads, and what they are asked.
//!
//! | thread | job |
//! |---|---|
//! | `vswap-reclaim` | owns the private descriptor table; samples, reclaims, answers requests, publishes counters |
//! | `vswap-fault/N` | thread delivery: one per CPU, pinned, serves faults (`handlers`) |
//! | `vswap-ahead` | brings in what a sequential program is going to touch (`ahead`) |
//! | `vswap-write` | writes segments to devices, cleans the log, attaches devices and takes them off |
//! | `vswap-control` | waits for clients of the control socket; each gets a `vswap-client` |
//!
//! The reclaim thread leaves the program's descriptor table first
//! (`unshare(CLONE_FILES)`) and keeps the userfaultfd and the swap files in its
//! own, which the others share: a program that closes every descriptor closes
//! none of them. In signal delivery the program's threads need them too, so
//! both tables hold them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::sync::{Event, RankedMutex};
use vswap_platform::thread;
use vswap_space::GroupId;
use vswap_store::Tiers;
use vswap_units::BLOCK_PAGES;

use crate::ahead::ahead_main;
use crate::change::Changes;
use crate::control::thread::control_main;
use crate::delivery::Delivery;
use crate::engine::Engine;
use crate::error::StartError;
use crate::handlers::{MAX_HANDLERS, fault_main};
use crate::publish::Publisher;
use crate::together::TOGETHER;

/// Asked by program threads that may hold the run allocator's lock.
const ASKING_RANK: u8 = 27;
const TICK_ARMED_NS: u64 = 10_000_000;
const TICK_IDLE_NS: u64 = 50_000_000;
/// How long the writer sleeps; less while a device waits to be emptied.
const PAUSE_IDLE_NS: u64 = 100_000_000;
const PAUSE_CHANGING_NS: u64 = 2_000_000;

/// Work only an engine thread can do.
#[derive(Clone, Copy, Debug)]
pub enum Request {
    /// Register the region for faults.
    Arm,
    /// Register a range again that had been mapped over.
    Register {
        /// First address.
        addr: usize,
        /// Bytes.
        len: usize,
    },
    /// Move a page range out of memory.
    Evict {
        /// First page.
        first: usize,
        /// Pages.
        count: usize,
    },
    /// Bring a page range in.
    Prefetch {
        /// First page.
        first: usize,
        /// Pages.
        count: usize,
    },
    /// Move bytes of a group out of compressed RAM, or into it.
    Drain {
        /// Whose.
        group: GroupId,
        /// How many at most, but for what one segment has more.
        most: u64,
    },
    /// End all threads.
    Stop,
}

/// One request at a time, and the answers.
pub struct Desk {
    asking: RankedMutex<(), ASKING_RANK>,
    question: RankedMutex<Option<Request>, { vswap_units::rank::DEVICE }>,
    answer: AtomicU64,
    answered: Event,
}

impl Desk {
    /// Nobody asks while the program forks.
    pub(crate) fn lock_for_fork(&self) {
        self.asking.lock_for_fork();
    }

    /// In the parent.
    pub(crate) fn unlock_after_fork(&self) {
        self.asking.unlock_after_fork();
    }

    /// In the child: whoever was asked is gone.
    pub(crate) fn reset_in_child(&self) {
        self.asking.unlock_after_fork();
        self.question.reset_in_child();
        *self.question.lock() = None;
        self.answered.after_fork_in_child();
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            asking: RankedMutex::new(()),
            question: RankedMutex::new(None),
            answer: AtomicU64::new(0),
            answered: Event::new(),
        }
    }
}

/// How far the threads are.
#[derive(Default)]
pub struct Threads {
    state: AtomicU32,
    pub(crate) reclaim_tid: AtomicU32,
}

const STARTING: u32 = 1;
const UP: u32 = 2;
const FAILED: u32 = 3;
const STOPPED: u32 = 4;

impl Threads {
    fn state(&self) -> u32 {
        self.state.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, state: u32) {
        self.state.store(state, Ordering::Release);
    }
}

impl Engine {
    /// Starts the threads and waits until they serve. The descriptors are open
    /// in the calling thread's table; in thread delivery they are private to
    /// the engine afterwards.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub(crate) fn bring_up(self: &Arc<Self>) -> Result<(), StartError> {
        self.threads.set(STARTING);
        self.start_one("vswap-reclaim", None, reclaim_main)?;
        while self.threads.state() == STARTING {
            self.desk.answered.wait(1_000_000);
        }
        if self.threads.state() != UP {
            return Err(StartError::Thread(Errno::EAGAIN));
        }
        if self.delivery() == Delivery::Thread {
            for fd in self.private_fds() {
                vswap_platform::file::close_number(fd);
            }
        }
        Ok(())
    }

    /// Ends the threads; nothing of the range may be in use any more.
    pub fn shut_down(self: &Arc<Self>) {
        self.ask(Request::Stop);
        self.handlers.call();
        let handles = std::mem::take(&mut *self.handles.lock());
        for handle in handles {
            let _ = handle.join();
        }
    }

    /// Asks an engine thread and waits for the answer.
    pub(crate) fn ask(&self, request: Request) -> u64 {
        let _asking = self.desk.asking.lock();
        if self.threads.state() != UP {
            return 0;
        }
        let mut seen = self.desk.answered.seen();
        *self.desk.question.lock() = Some(request);
        self.reclaim_event.signal();
        while self.desk.question.lock().is_some() {
            self.desk.answered.wait_past(seen, 100_000_000);
            seen = self.desk.answered.seen();
        }
        self.desk.answer.load(Ordering::Acquire)
    }

    /// Does somebody wait for an answer?
    pub(crate) fn is_asked(&self) -> bool {
        self.desk.question.lock().is_some()
    }

    /// From a program thread that holds the run allocator's lock.
    pub(crate) fn ask_to_arm(&self) -> bool {
        self.ask(Request::Arm) != 0
    }

    fn serve_request(self: &Arc<Self>) -> bool {
        let Some(request) = *self.desk.question.lock() else {
            return true;
        };
        let Some(mut worker) = self.workers.take(0) else {
            return false;
        };
        let answer = match request {
            Request::Arm => worker
                .uffd
                .clone()
                .is_some_and(|uffd| self.arm(&uffd))
                .into(),
            Request::Register { addr, len } => worker
                .uffd
                .as_ref()
                .is_some_and(|uffd| uffd.register(addr, len).is_ok())
                .into(),
            Request::Evict { first, count } => self.evict_range(&mut worker, first, count),
            Request::Prefetch { first, count } => self.load_range(&mut worker, first, count),
            Request::Drain { group, most } => self.drain_step(&mut worker, group, most),
            Request::Stop => 1,
        };
        drop(worker);
        if matches!(request, Request::Stop) {
            self.threads.set(STOPPED);
        }
        self.desk.answer.store(answer, Ordering::Release);
        *self.desk.question.lock() = None;
        self.desk.answered.signal();
        !matches!(request, Request::Stop)
    }

    /// Moves out and writes out every block of a range.
    fn evict_range(&self, worker: &mut crate::worker::Worker, first: usize, count: usize) -> u64 {
        let before = self.counters.moved_out_pages.get();
        let end = (first + count).div_ceil(BLOCK_PAGES);
        for block in (first / BLOCK_PAGES..end).step_by(TOGETHER) {
            let _inside = self.world.enter();
            self.evict_blocks(worker, block, TOGETHER.min(end - block));
        }
        loop {
            let _inside = self.world.enter();
            if !self.write_out_and_drop(worker, TOGETHER) {
                break;
            }
        }
        // Memory kept for a log that grows: it was asked to shrink.
        let inside = self.world.enter();
        self.layer.store().trim();
        drop(inside);
        self.counters.moved_out_pages.get() - before
    }

    fn start_threads(self: &Arc<Self>) -> Result<(), StartError> {
        if self.delivery() == Delivery::Thread {
            let cpus = thread::cpus_allowed().map_err(StartError::Thread)?;
            for (index, cpu) in cpus.iter().take(MAX_HANDLERS).enumerate() {
                self.start_one(&format!("vswap-fault/{index}"), Some(cpu), fault_main)?;
            }
        }
        self.start_one("vswap-ahead", None, ahead_main)?;
        self.start_one("vswap-write", None, write_main)?;
        self.start_control();
        Ok(())
    }

    /// The last thread, and the one that a program can do without.
    fn start_control(self: &Arc<Self>) {
        self.open_control();
        if self.control.listener().is_some()
            && let Err(StartError::Thread(error)) =
                self.start_one("vswap-control", None, control_main)
        {
            self.without_control(error);
        }
    }

    fn start_one(
        self: &Arc<Self>,
        name: &str,
        cpu: Option<usize>,
        main: fn(Arc<Self>),
    ) -> Result<(), StartError> {
        let handle =
            thread::spawn_with(name, cpu, main, Arc::clone(self)).map_err(StartError::Thread)?;
        self.handles.lock().push(handle);
        Ok(())
    }

    /// Have the threads been told to end?
    pub(crate) fn is_stopping(&self) -> bool {
        self.threads.state() == STOPPED
    }
}

/// The reclaim thread from its first breath: descriptors, threads, then the loop.
fn reclaim_main(engine: Arc<Engine>) {
    engine
        .threads
        .reclaim_tid
        .store(thread::current_tid() as u32, Ordering::Release);
    let private =
        thread::unshare_files().and_then(|()| thread::close_other_fds(&engine.private_fds()));
    engine.layer.store().kept_by(thread::current_tid() as i32);
    let publisher = Publisher::new(&engine.describe());
    let up = private
        .map_err(StartError::Thread)
        .and_then(|()| engine.start_threads());
    engine.threads.set(if up.is_ok() { UP } else { FAILED });
    engine.desk.answered.signal();
    if up.is_ok() {
        reclaim_loop(&engine, &publisher);
        engine.write_event.signal();
        engine.ahead.wake();
        engine.control.wake();
    }
}

fn reclaim_loop(engine: &Arc<Engine>, publisher: &Publisher) {
    loop {
        let seen = engine.reclaim_event.seen();
        if !engine.serve_request() {
            return;
        }
        engine.tick(publisher);
        let pause = if engine.is_armed() {
            TICK_ARMED_NS
        } else {
            TICK_IDLE_NS
        };
        engine.reclaim_event.wait_past(seen, pause);
    }
}

fn write_main(engine: Arc<Engine>) {
    let (mut changes, mut tiers) = (Changes::default(), Tiers::default());
    while !engine.is_stopping() {
        let seen = engine.write_event.seen();
        Changes::gather_room(&engine);
        let changed = changes.step(&engine);
        let worked = engine.write_back_step() || changed || engine.migrate_step(&mut tiers);
        if !worked {
            let soon = changes.any();
            let pause = if soon {
                PAUSE_CHANGING_NS
            } else {
                PAUSE_IDLE_NS
            };
            engine.write_event.wait_past(seen, pause);
        }
    }
}
