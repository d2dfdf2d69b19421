//! One engine: a managed range, its budget, and what serves it.
//!
//! Everything hangs off an [`Engine`]; two in one process know nothing of each
//! other but the table SIGBUS looks addresses up in (`registry`).
//!
//! Lock order, lowest first: worker (5), userfaultfd slots (6, 9), names of groups (10), run allocator (25), desk (27), being
//! inside `world` (28), block (30), protections (32), frames and victims (35), then the floors below.

use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use vswap_platform::errno::Errno;
use vswap_platform::file;
use vswap_platform::map::AnonMap;
use vswap_platform::sync::{Event, RankedMutex};
use vswap_platform::thread::Thread;
use vswap_platform::uffd::Userfaultfd;
use vswap_space::DedupOptions;
use vswap_store::CodecKind;
use vswap_units::Counters;
use vswap_units::{BLOCK_PAGES, BLOCK_SIZE, LatencyHistogram, PAGE_SHIFT, PAGE_SIZE, rank};

use crate::ahead::Ahead;
use crate::areas::Areas;
use crate::budget::{Budget, Scope};
use crate::config::{Config, ConfigError};
use crate::control::slots::Slots;
use crate::delivery::Delivery;
use crate::devices;
use crate::error::StartError;
use crate::frames::Frames;
use crate::groups::GroupTable;
use crate::handlers::Handlers;
use crate::holes::Holes;
use crate::names::Names;
use crate::region::{HUGE_PAGE, Region};
use crate::runs::RunAllocator;
use crate::service::{Desk, Threads};
use crate::streams::Streams;
use crate::swapon::Board;
use crate::trace::Trace;
use crate::tree::TreeSlot;
use crate::victims::Victims;
use crate::window::Window;
use crate::worker::Workers;
use crate::workingset::Clock;
use crate::world::World;
use crate::writeback::DevicesFull;

/// Address space per byte of budget, and its bounds: a range far larger than
/// any budget costs nothing but page-table-free address space.
const REGION_MOST: usize = 256 << 30;
const REGION_LEAST: usize = 256 << 20;
/// Budget per page the index of duplicates remembers, at 8 bytes each: as many
/// as compress to half and fill all of it.
const RAM_PER_INDEXED_PAGE: usize = PAGE_SIZE / 2;
/// Threads that may serve faults at once in signal delivery.
const SIGNAL_WORKERS: usize = 16;

/// One engine. See the module's head.
pub struct Engine {
    pub(crate) config: Config,
    pub(crate) delivery: Delivery,
    pub(crate) region: Region,
    pub(crate) frames: Frames,
    /// Of the root group; the others' are in `groups`.
    pub(crate) victims: Victims,
    pub(crate) clock: Clock,
    pub(crate) window: Window,
    pub(crate) groups: GroupTable,
    pub(crate) budget: Budget,
    pub(crate) layer: Names,
    pub(crate) workers: Workers,
    pub(crate) uffd: RankedMutex<Option<ManuallyDrop<Arc<Userfaultfd>>>, 9>,
    /// Signal delivery: the descriptor in force in the program's table, once it closed ours.
    pub(crate) recovered: RankedMutex<Option<Arc<Userfaultfd>>, 6>,
    pub(crate) runs: RankedMutex<RunAllocator, { rank::REGION }>,
    pub(crate) world: World,
    pub(crate) desk: Desk,
    /// Held while the program changes what it may do with pages, and by whoever restores it.
    pub(crate) protections: RankedMutex<(), { rank::PROTECTION }>,
    pub(crate) board: Board,
    pub(crate) threads: Threads,
    pub(crate) handlers: Handlers,
    pub(crate) handles: RankedMutex<Vec<Thread>, 7>,
    pub(crate) control: Slots,
    /// Of faults that bring pages back, and of first touches.
    pub(crate) streams: Streams,
    pub(crate) fresh_streams: Streams,
    pub(crate) areas: Areas,
    pub(crate) ahead: Ahead,
    pub(crate) zeros: AnonMap,
    pub(crate) counters: Counters,
    pub(crate) latency: LatencyHistogram,
    pub(crate) armed: AtomicBool,
    pub(crate) reclaim_event: Event,
    pub(crate) write_event: Event,
    /// Memory was given back: who waits for room looks again.
    pub(crate) room_event: Event,
    /// Whether a look for something to clean may be worth it.
    pub(crate) holes: Holes,
    /// Segments to write because the reclaimer waits for room only a device can give.
    pub(crate) writeback_wanted: AtomicU32,
    /// When reclaim last gained nothing, 0 if it gained something since: faults do not wait for it.
    pub(crate) strained_ns: AtomicU64,
    /// May pages be moved into the log?
    pub(crate) log_takes_frames: AtomicBool,
    /// How far things had moved when a fault last waited for room in vain.
    pub(crate) vain_at: AtomicU64,
    /// Waits for room in vain, one after the other.
    pub(crate) vain_waits: AtomicU32,
    /// How often the reclaimer has looked whether there is something to do.
    pub(crate) looks: AtomicU64,
    /// No device takes more, as far as is known.
    pub(crate) devices_full: DevicesFull,
    private_fds: RankedMutex<Vec<i32>, 8>,
    pub(crate) auto_dirs: Vec<PathBuf>,
    high_water: AtomicU64,
    live_blocks: AtomicI64,
    retired: AtomicBool,
    pub(crate) unarmed_look_ns: AtomicU64,
    pub(crate) refused_ns: AtomicU64,
    handler: AtomicUsize,
    pub(crate) tree: Option<TreeSlot>,
    pub(crate) trace: Trace,
}

impl Engine {
    /// Everything an engine is made of; nothing runs yet.
    pub(crate) fn build(
        config: Config,
        delivery: Delivery,
        opened: Vec<devices::Opened>,
    ) -> Result<Self, StartError> {
        let ram = config.ram;
        let region =
            Region::reserve(region_bytes(ram), REGION_LEAST).map_err(StartError::Memory)?;
        let workers = match delivery {
            Delivery::Thread => crate::handlers::MAX_HANDLERS.min(handler_cpus()) + Workers::BESIDE,
            Delivery::Signal => SIGNAL_WORKERS + Workers::BESIDE,
        };
        let dedup = DedupOptions::new(config.dedup, ram as usize / RAM_PER_INDEXED_PAGE);
        let layer = devices::names(&region, &config, opened)
            .and_then(|names| names.with_dedup(dedup))
            .map_err(StartError::Memory)?;
        let private_fds = layer.store().device_fds();
        Ok(Self {
            delivery,
            frames: Frames::new(frame_runs(ram)).map_err(StartError::Memory)?,
            victims: Victims::new(region.pages() / BLOCK_PAGES, config.policy)
                .map_err(StartError::Memory)?,
            groups: GroupTable::new().map_err(StartError::Memory)?,
            clock: Clock::default(),
            window: Window::default(),
            budget: Budget::new(config.scope, ram),
            layer,
            workers: Workers::new(workers, config.codec).map_err(StartError::Memory)?,
            uffd: RankedMutex::new(None),
            recovered: RankedMutex::new(None),
            runs: RankedMutex::new(RunAllocator::new(region.pages() as u64)),
            world: World::default(),
            desk: Desk::default(),
            protections: RankedMutex::new(()),
            board: Board::default(),
            threads: Threads::default(),
            handlers: Handlers::default(),
            handles: RankedMutex::new(Vec::with_capacity(64)),
            control: Slots::default(),
            streams: Streams::default(),
            fresh_streams: Streams::default(),
            areas: Areas::default(),
            ahead: Ahead::default(),
            auto_dirs: file::auto_dirs(),
            zeros: zero_block().map_err(StartError::Memory)?,
            counters: Counters::new(),
            latency: LatencyHistogram::new(),
            armed: AtomicBool::new(false),
            reclaim_event: Event::new(),
            write_event: Event::new(),
            room_event: Event::new(),
            holes: Holes::default(),
            writeback_wanted: AtomicU32::new(0),
            devices_full: DevicesFull::default(),
            strained_ns: AtomicU64::new(0),
            log_takes_frames: AtomicBool::new(false),
            vain_at: AtomicU64::new(u64::MAX),
            vain_waits: AtomicU32::new(0),
            looks: AtomicU64::new(0),
            private_fds: RankedMutex::new(private_fds),
            high_water: AtomicU64::new(0),
            live_blocks: AtomicI64::new(0),
            retired: AtomicBool::new(false),
            unarmed_look_ns: AtomicU64::new(0),
            refused_ns: AtomicU64::new(0),
            handler: AtomicUsize::new(0),
            tree: TreeSlot::of(&config),
            trace: Trace::new(config.events_path.as_deref()).map_err(StartError::Memory)?,
            region,
            config,
        })
    }

    /// Speaks to this userfaultfd from now on. The last one is never closed by
    /// us: its number may mean another file in this thread's table.
    pub(crate) fn adopt(&self, uffd: Arc<Userfaultfd>) {
        self.workers.adopt(&uffd);
        self.private_fds.lock().push(uffd.raw_fd());
        *self.uffd.lock() = Some(ManuallyDrop::new(uffd));
    }

    /// The descriptors that belong to the engine's private table.
    pub fn private_fds(&self) -> Vec<i32> {
        self.private_fds.lock().clone()
    }

    /// Replaces them, at a fork.
    pub(crate) fn set_private_fds(&self, fds: Vec<i32>) {
        *self.private_fds.lock() = fds;
    }

    /// The configuration in force as JSON, sizes in bytes.
    pub fn describe(&self) -> String {
        let config = &self.config;
        let scope = if config.scope == Scope::Process {
            "process"
        } else {
            "space"
        };
        let faults = if self.delivery == Delivery::Thread {
            "thread"
        } else {
            "signal"
        };
        let codec = match config.codec {
            CodecKind::Lz4 => "lz4".to_owned(),
            CodecKind::Zstd(level) => format!("zstd:{level}"),
            CodecKind::Raw => "raw".to_owned(),
        };
        let dedup = config.dedup.name();
        let virtual_layer = !config.direct;
        let swap: Vec<String> = config
            .swap
            .iter()
            .map(|spec| format!("{:?}", spec.to_string()))
            .collect();
        let (ram, swap) = (self.ram(), swap.join(","));
        format!(
            r#"{{"ram_bytes":{ram},"scope":"{scope}","faults":"{faults}","codec":"{codec}","dedup":"{dedup}","virtual":{virtual_layer},"swap":[{swap}],"device_bytes":{},"region_bytes":{}}}"#,
            self.layer.store().device_capacity().0,
            self.region.bytes(),
        )
    }

    /// How faults are delivered.
    pub fn delivery(&self) -> Delivery {
        self.delivery
    }

    /// The configuration in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The counters, live.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Fault latencies, live.
    pub fn latency(&self) -> &LatencyHistogram {
        &self.latency
    }

    /// The ring of events.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What is named where: the virtual swap layer, or slots.
    pub fn layer(&self) -> &Names {
        &self.layer
    }

    /// First address and length of the managed range.
    pub fn range(&self) -> (usize, usize) {
        (self.region.base(), self.region.bytes())
    }

    /// The budget in bytes.
    pub fn ram(&self) -> u64 {
        self.budget.ram()
    }

    /// Changes the budget; reclaim follows at once.
    ///
    /// # Errors
    /// Below the floor.
    pub fn set_ram(&self, bytes: u64) -> Result<(), ConfigError> {
        crate::config::check_ram(bytes)?;
        self.budget.set_ram(bytes);
        self.reclaim_event.signal();
        Ok(())
    }

    /// Bytes held now, as far as is known without asking the kernel.
    pub fn held(&self) -> u64 {
        match self.budget.scope() {
            Scope::Process => self.budget.estimate(),
            Scope::Space => self.own_bytes(),
        }
    }

    /// What this engine itself holds: resident pages, frames, segments, tables.
    pub(crate) fn own_bytes(&self) -> u64 {
        let pages = self.counters.resident_pages.get() + self.frames.present_pages();
        let store = self.layer.store();
        let stored = store.ram_bytes().0 + store.readahead_bytes().0;
        (pages << PAGE_SHIFT) + stored + self.counters.table_bytes.get()
    }

    /// Would `pages` more fit under the high watermark?
    pub(crate) fn has_room(&self, pages: u32) -> bool {
        self.held() + (u64::from(pages) << PAGE_SHIFT) <= self.budget.high()
    }

    /// Live blocks and the bytes handed out in them.
    pub fn live(&self) -> (u64, u64) {
        let blocks = self.live_blocks.load(Ordering::Acquire).max(0) as u64;
        (blocks, self.counters.handed_out_bytes.get())
    }

    pub(crate) fn count_live(&self, change: i64) {
        self.live_blocks.fetch_add(change, Ordering::AcqRel);
    }

    /// From now on nothing new is handed out.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Has the engine been retired?
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    pub(crate) fn raise_high_water(&self, end_page: u64) {
        self.high_water.fetch_max(end_page, Ordering::Relaxed);
    }

    /// Bytes from the region's start that were ever handed out.
    pub(crate) fn high_water_bytes(&self) -> usize {
        (self.high_water.load(Ordering::Relaxed) as usize) << PAGE_SHIFT
    }

    pub(crate) fn next_handler(&self) -> usize {
        1 + self.handler.fetch_add(1, Ordering::Relaxed)
            % (self.workers.len() - Workers::BESIDE).max(1)
    }

    /// A fault may come while the range is being registered: its block is
    /// known to nobody before the present pages are counted.
    pub(crate) fn wait_until_armed(&self) {
        while !self.is_armed() && !self.is_stopping() {
            vswap_platform::thread::yield_now();
        }
    }
}

fn handler_cpus() -> usize {
    vswap_platform::thread::cpus_allowed().map_or(1, |cpus| cpus.count().max(1))
}

fn region_bytes(ram: u64) -> usize {
    let wanted = (ram as usize).saturating_mul(256);
    wanted
        .clamp(16 << 30, REGION_MOST)
        .next_multiple_of(HUGE_PAGE)
}

/// Frames for the widest second-chance window (an eighth of the budget), spares
/// and what is in flight. Unused ones cost no memory.
fn frame_runs(ram: u64) -> usize {
    (ram as usize / 8 / BLOCK_SIZE).clamp(32, 8192) + 96
}

/// The zero pages that first touch is copied from.
fn zero_block() -> Result<AnonMap, Errno> {
    let zeros = AnonMap::new(BLOCK_SIZE, PAGE_SIZE)?;
    // Written once so that the kernel never has to fault them in during a copy.
    zeros.fill(0, 0, BLOCK_SIZE);
    Ok(zeros)
}
