//! The engine as the interposed calls see it.
//!
//! Everything the preload layer needs of `vswap_process` passes through here,
//! so a change of the engine's interface touches one file. Calls are only made
//! with ranges inside [`range`].

use core::sync::atomic::{AtomicI32, AtomicPtr, AtomicUsize, Ordering};
use std::sync::Arc;

use vswap_platform::errno::Errno;
use vswap_platform::map::Prot;
use vswap_process::{AllocKind, Config, Delivery, Engine, fork, registry};
use vswap_units::PAGE_SIZE;

use crate::rules;

static ENGINE: AtomicPtr<Engine> = AtomicPtr::new(core::ptr::null_mut());
static LOW: AtomicUsize = AtomicUsize::new(0);
static HIGH: AtomicUsize = AtomicUsize::new(0);

/// What memory is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A block of the malloc family, contents undefined.
    Block,
    /// A block of the malloc family that reads as zero.
    Zeroed,
    /// A mapping with this protection, which reads as zero.
    Map(i32),
}

/// What the configuration decided, once the engine runs.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Blocks smaller than this stay with the C library; `None` is "auto".
    pub min_alloc: Option<usize>,
    /// Whether the program's own threads resolve their faults.
    pub signal_mode: bool,
}

/// Starts the engine from the environment. On failure says why, in a sentence.
pub fn start() -> Result<Settings, String> {
    let config = Config::from_env(&variable).map_err(|error| error.to_string())?;
    let config = Config {
        build_id: vswap_capi::BUILD,
        ..config.ok_or("VSWAP_RAM is not set")?
    };
    let engine = Engine::start(config).map_err(|error| error.to_string())?;
    let (low, len) = engine.range();
    LOW.store(low, Ordering::Relaxed);
    HIGH.store(low + len, Ordering::Relaxed);
    let settings = Settings {
        min_alloc: engine.config().min_alloc.map(saturated),
        signal_mode: engine.delivery() == Delivery::Signal,
    };
    if settings.signal_mode {
        note_signal_range(engine.range());
        note_descriptors(&engine);
    }
    vswap_capi::set_current(&engine);
    // The program's engine lives until the process ends.
    let engine = Arc::into_raw(engine).cast_mut();
    ENGINE.store(engine, Ordering::Release);
    Ok(settings)
}

/// From the lowest to the highest address of memory whose faults the program's threads resolve themselves.
static SIGNAL_LOW: AtomicUsize = AtomicUsize::new(usize::MAX);
static SIGNAL_HIGH: AtomicUsize = AtomicUsize::new(0);

/// An engine of signal delivery has this range (address, length).
pub fn note_signal_range((low, len): (usize, usize)) {
    SIGNAL_LOW.fetch_min(low, Ordering::Relaxed);
    SIGNAL_HIGH.fetch_max(low + len, Ordering::Relaxed);
}

/// The pages of a buffer that are memory of an engine of signal delivery.
pub struct SignalPart {
    engine: Arc<Engine>,
    /// Its first address.
    pub addr: usize,
    /// Its bytes.
    pub len: usize,
}

impl SignalPart {
    /// Brings it in and keeps it there until [`SignalPart::unpin`]; false where it can only be brought in.
    pub fn pin(&self) -> bool {
        self.engine.pin(self.addr, self.len).is_ok()
    }

    /// Ends [`SignalPart::pin`].
    pub fn unpin(&self) {
        let _ = self.engine.unpin(self.addr, self.len);
    }
}

/// What of a buffer the kernel cannot bring in by itself.
pub fn signal_part(addr: usize, len: usize) -> Option<SignalPart> {
    let low = SIGNAL_LOW.load(Ordering::Relaxed);
    let high = SIGNAL_HIGH.load(Ordering::Relaxed);
    let (first, len) = rules::split(addr, len, low, high).inside;
    if len == 0 {
        return None;
    }
    // Others have memory between those ranges, and spaces end.
    let engine = registry::find_touching(first, len)?;
    let (low, bytes) = engine.range();
    let (first, len) = rules::split(first, len, low, low + bytes).inside;
    // Ranges of engines are whole pages, so whole pages of the part are in them too.
    let addr = first & !(PAGE_SIZE - 1);
    let len = (first + len).next_multiple_of(PAGE_SIZE) - addr;
    (engine.delivery() == Delivery::Signal).then_some(SignalPart { engine, addr, len })
}

/// The engine's descriptors, where it has them in the program's table; for calls that may not allocate.
static DESCRIPTORS: [AtomicI32; DESCRIPTORS_MOST] =
    [const { AtomicI32::new(-1) }; DESCRIPTORS_MOST];
const DESCRIPTORS_MOST: usize = 8;

fn note_descriptors(engine: &Engine) {
    let fds = engine.private_fds();
    let all = fds.into_iter().chain(core::iter::repeat(-1));
    for (slot, fd) in DESCRIPTORS.iter().zip(all) {
        slot.store(fd, Ordering::Relaxed);
    }
}

/// The engine's descriptors; unused places are -1.
pub fn private_descriptors() -> [i32; DESCRIPTORS_MOST] {
    DESCRIPTORS
        .each_ref()
        .map(|slot| slot.load(Ordering::Relaxed))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn saturated(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn engine() -> Option<&'static Engine> {
    // SAFETY: the pointer is null or a reference to an engine that is never freed.
    unsafe { ENGINE.load(Ordering::Acquire).as_ref() }
}

/// The managed range, empty before the engine runs.
#[inline]
pub fn range() -> (usize, usize) {
    (LOW.load(Ordering::Relaxed), HIGH.load(Ordering::Relaxed))
}

/// The largest alignment the engine can give: that of its range's beginning.
pub fn alignment_max() -> usize {
    1 << LOW.load(Ordering::Relaxed).trailing_zeros().min(62)
}

/// Whether the address is in the managed range.
#[inline]
pub fn owns(addr: usize) -> bool {
    let (low, high) = range();
    addr >= low && addr < high
}

/// Whether faults and reclaim are on: the budget is near.
pub fn is_armed() -> bool {
    engine().is_some_and(Engine::is_armed)
}

/// Memory of at least `bytes`, or `None` when the budget is full.
pub fn allocate(bytes: usize, align: usize, kind: Kind) -> Option<usize> {
    let kind = match kind {
        Kind::Block => AllocKind::Malloc,
        Kind::Zeroed => AllocKind::Zeroed,
        Kind::Map(prot) => AllocKind::Map(Prot::from_bits(prot)),
    };
    engine()?.allocate(bytes, align, kind)
}

/// Blocks of the engine begin on a page; other pointers into them are wild.
fn is_page(addr: usize) -> bool {
    addr.is_multiple_of(vswap_units::PAGE_SIZE)
}

/// Gives a block of the malloc family back; false when there is none.
pub fn release(addr: usize) -> bool {
    is_page(addr) && engine().is_some_and(|engine| engine.release(addr))
}

/// The size of the block that begins at `addr`.
pub fn block_size(addr: usize) -> Option<usize> {
    is_page(addr).then(|| engine()?.block_size(addr))?
}

/// Gives a block another size where it stands, if that is possible.
pub fn resize_in_place(addr: usize, bytes: usize) -> bool {
    engine().is_some_and(|engine| engine.resize_in_place(addr, bytes))
}

/// Forgets the bytes of a range: it reads as zero afterwards.
pub fn discard(addr: usize, len: usize) -> Result<(), Errno> {
    engine().map_or(Ok(()), |engine| engine.discard(addr, len))
}

/// Takes a range of a mapping (or of a block) away.
pub fn unmap(addr: usize, len: usize) -> Result<(), Errno> {
    engine().map_or(Ok(()), |engine| engine.unmap(addr, len))
}

/// Changes the protection of a range.
pub fn protect(addr: usize, len: usize, prot: i32) -> Result<(), Errno> {
    let prot = Prot::from_bits(prot);
    engine().map_or(Ok(()), |engine| engine.protect(addr, len, prot))
}

/// Somebody is about to map something of their own over the range.
pub fn foreign(addr: usize, len: usize) -> Result<(), Errno> {
    engine().map_or(Ok(()), |engine| engine.foreign(addr, len))
}

/// Moves a range out of memory as far as possible: advice, so it cannot fail.
pub fn evict(addr: usize, len: usize) {
    let _ = engine().map(|engine| engine.evict(addr, len));
}

/// Moves a range into memory as far as the budget allows.
pub fn prefetch(addr: usize, len: usize) {
    let _ = engine().map(|engine| engine.prefetch(addr, len));
}

/// Brings a range in and keeps it there until [`unpin`].
pub fn pin(addr: usize, len: usize) -> Result<(), Errno> {
    engine().map_or(Ok(()), |engine| engine.pin(addr, len).map(|_| ()))
}

/// Ends [`pin`].
pub fn unpin(addr: usize, len: usize) {
    let _ = engine().map(|engine| engine.unpin(addr, len));
}

/// Whether this process has an engine, of `vswap run` or of a space.
pub fn has_engines() -> bool {
    !registry::all().is_empty()
}

/// Takes every lock of the engines, so that the child gets consistent tables.
pub fn fork_prepare() {
    fork::prepare();
}

/// After a fork, in the parent.
pub fn fork_parent() {
    fork::parent();
}

/// After a fork, in the child: userfaultfd and threads of its own.
pub fn fork_child() {
    fork::child();
    if let Some(engine) = engine()
        && engine.delivery() == Delivery::Signal
    {
        note_descriptors(engine);
    }
}
