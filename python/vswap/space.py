"""SwapSpace: memory for arrays that may be larger than RAM.

Stable while: the engine's handle is valid as long as the object here lives.
The memory needs neither: the engine gives it back when the last block is freed,
whoever holds it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from vswap import _context, _loader
from vswap import devices as _devices
from vswap._abi import SCOPE_PROCESS, SCOPE_SPACE
from vswap._config_text import DEFAULT_MIN_ALLOC, check_min_alloc, space_config
from vswap._loader import Engine, error_for
from vswap._makers import ArrayMaker
from vswap.devices import Device
from vswap.errors import ConfigError, SpaceInUseError, VswapError
from vswap.run.swapspec import device_name
from vswap.sizes import check_floor, format_size, parse_budget
from vswap.stats import SpaceStats

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vswap.groups import Group

_TEXT_BYTES = 64 << 10
_ERROR_BYTES = 1024


class SwapSpace(ArrayMaker):
    """A space of swappable memory with a RAM budget of its own.

    Used as a context manager it takes every NumPy array of at least
    ``min_alloc`` bytes made inside; its methods make arrays anywhere.

    Args:
        ram: RAM this space may hold: ``"300M"``, bytes, or ``"40%"`` of what
            the cgroup or machine allows.
        process_ram: instead of ``ram``: RAM the whole process may hold. One
            space of a process may be made this way.
        devices: where pages go that do not fit compressed: ``"auto"`` or
            ``"PATH"``, each with ``[:SIZE][@PRIORITY]`` behind it, and with
            ``slots:`` before it for plain 4 KiB slots. ``None`` means
            ``["auto"]``, an empty list none at all.
        codec: ``"lz4"``, ``"zstd"``, ``"zstd:LEVEL"`` or ``"raw"``.
        faults: ``"auto"``, ``"thread"`` or ``"signal"``.
        dedup: which swapped pages with equal bytes share them: ``"off"``,
            ``"group"`` (those of one group) or ``"space"`` (all).
        numpy: whether ``with`` makes the space NumPy's memory handler.
        threads: whether threads started inside ``with`` are covered too.
        min_alloc: arrays smaller than this stay in ordinary memory.
        virtual: ``False`` takes the virtual swap layer out: pages go to plain
            slots and nowhere else. For measuring; needs ``slots:`` devices,
            and ``devices=None`` means ``["slots:auto"]`` then.
    """

    _policy = "workingset"
    """Which pages go first; not a setting: ``fifo`` measures what this one gains."""
    _read_ahead = True
    """Are pages brought in before they are touched? Not a setting: without, the same touches bring the same pages."""

    def __init__(
        self,
        ram: str | int | None = None,
        *,
        process_ram: str | int | None = None,
        devices: Sequence[str | os.PathLike[str]] | None = None,
        codec: str = "lz4",
        faults: str = "auto",
        dedup: str = "group",
        numpy: bool = True,
        threads: bool = True,
        min_alloc: str | int = DEFAULT_MIN_ALLOC,
        virtual: bool = True,
    ) -> None:
        """Check the arguments, load the engine, make the space."""
        if (ram is None) == (process_ram is None):
            raise ConfigError("give either ram= (for this space) or process_ram= (for the process)")
        self._setup(numpy=numpy, threads=threads, threshold=check_min_alloc(min_alloc))
        budget: str | int = ram if ram is not None else (process_ram or 0)
        config = space_config(
            scope=SCOPE_PROCESS if ram is None else SCOPE_SPACE,
            ram=budget,
            total=_total_for(budget),
            devices=_device_specs(devices, virtual=virtual),
            codec=codec,
            faults=faults,
            dedup=dedup,
            min_alloc=self._threshold,
            policy=self._policy,
            read_ahead=self._read_ahead,
            virtual=virtual,
        )
        self._engine = _loader.engine()
        self._handle = _create(self._engine, config)
        give_back = weakref.finalize(self, _give_back, self._engine.lib, self._handle)
        # At exit other objects may still read their arrays: nothing is unmapped then.
        give_back.atexit = False

    def _setup(self, *, numpy: bool, threads: bool, threshold: int) -> None:
        """Set what needs no engine."""
        self._numpy = numpy
        self._threads = threads
        self._threshold = threshold
        self._groups: weakref.WeakValueDictionary[int, Group] = weakref.WeakValueDictionary()
        self._depth = 0
        self._depth_lock = threading.Lock()
        self._closed = False
        self._is_current = False
        self._retired = False

    @classmethod
    def _adopt(cls, engine: Engine, handle: Any) -> SwapSpace:
        """Wrap the engine of ``vswap run``, which is not ours to give back."""
        space = cls.__new__(cls)
        space._setup(numpy=True, threads=True, threshold=DEFAULT_MIN_ALLOC)
        space._engine = engine
        space._handle = handle
        space._is_current = True
        return space

    # -- the with statement -------------------------------------------------

    def __enter__(self) -> SwapSpace:
        """Take the arrays made from here on in this context."""
        self._require_open()
        handler = self._handler() if self._numpy else None
        _context.enter(self, handler, threads=self._threads)
        with self._depth_lock:
            self._depth += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop taking arrays; never raises, and nothing held is lost."""
        _context.leave_last_of(self)
        with self._depth_lock:
            self._depth -= 1
            last = self._depth == 0
        if last and not (self._is_current or self._closed):
            self._retired = True
            self._engine.lib.vswap_retire(self._handle)

    @property
    def retired(self) -> bool:
        """Whether the space was left or closed and takes nothing new."""
        return self._closed or self._retired

    def _require_open(self) -> Any:
        """Return the handle, or say why nothing new can be made."""
        if self._closed:
            raise VswapError("this space is closed; make a new SwapSpace")
        if self.retired:
            raise VswapError("this space was left and takes nothing new; make a new SwapSpace")
        return self._handle

    def _require_handle(self) -> Any:
        """Return the handle of a space that may be left but is not closed."""
        if self._closed:
            raise VswapError("this space is closed")
        return self._handle

    # -- arrays and groups --------------------------------------------------

    def _new_np_context(self, out: Any) -> int:
        return int(self._engine.lib.vswap_np_context(self._handle, self._threshold, out))

    def group(
        self,
        name: str,
        *,
        ram_max: str | int | None = None,
        zswap_max: str | int | None = None,
        swap_max: str | int | None = None,
        writeback: bool = True,
        devices: Sequence[str | os.PathLike[str]] | None = None,
        parent: Group | None = None,
    ) -> Group:
        """Make a part of this space with limits of its own; see ``Group``.

        Args:
            name: told apart from the others below the same parent.
            ram_max: RAM it may hold in all: in memory and compressed.
            zswap_max: compressed RAM it may hold, in segments of 256 KiB.
            swap_max: bytes it may hold on devices, in segments of 256 KiB.
            writeback: whether its bytes may go to a device at all.
            devices: the devices it may use, as the space names them; None: all.
            parent: the group it is a part of; its limits bind too.
        """
        from vswap.groups import limits_text, make_group

        limits = limits_text(
            ram_max=ram_max,
            zswap_max=zswap_max,
            swap_max=swap_max,
            writeback=writeback,
            devices=devices,
        )
        made = make_group(self, name, parent, limits)
        self._groups[made._key] = made
        return made

    def groups(self) -> list[Group]:
        """Return the groups there are now, each behind the one above it."""
        from vswap.groups import Group, told_groups

        found = []
        for told in told_groups(self)[1:]:
            key = int(told["id"])
            group = self._groups.get(key)
            if group is None:
                group = self._groups.setdefault(key, Group(self, key, told["path"]))
            found.append(group)
        return found

    # -- moving pages -------------------------------------------------------

    def evict(self, what: Any) -> int:
        """Swap out the pages of an array now; return how many left memory."""
        return self._on_span("vswap_evict", what)

    def prefetch(self, what: Any) -> int:
        """Bring the pages of an array back before they are needed; return how many."""
        return self._on_span("vswap_prefetch", what)

    @contextlib.contextmanager
    def pin(self, what: Any) -> Iterator[None]:
        """Keep the pages of an array in memory while the ``with`` is open."""
        self._on_span("vswap_pin", what)
        try:
            yield
        finally:
            self._on_span("vswap_unpin", what)

    def _on_span(self, function: str, what: Any) -> int:
        """Call one of the engine's functions on the memory of ``what``."""
        from vswap._arrays import memory_span

        handle = self._require_handle()
        ffi = self._engine.ffi
        address, length = memory_span(what, ffi)
        if length == 0:
            return 0
        call = getattr(self._engine.lib, function)
        return self._check_code(call(handle, ffi.cast("void *", address), length))

    # -- devices ------------------------------------------------------------

    def swapon(
        self,
        path: str | os.PathLike[str],
        *,
        size: str | int | None = None,
        priority: int | None = None,
        kind: str | None = None,
    ) -> Device:
        """Attach a swap device while everything runs; return it.

        Args:
            path: a file, made if it is not there, a raw block device, or
                ``auto`` for a file without a name.
            size: what it may hold; left out, what there is room for.
            priority: 0 to 32767, higher ones are filled first, equal ones in
                turn; left out, below all others.
            kind: ``"file"``, ``"block"``, or ``"slots"`` for plain 4 KiB slots on
                either; left out, what is found at ``path``.
        """
        handle = self._require_handle()
        spec = _devices.device_spec(path, size=size, priority=priority, kind=kind)
        _devices.swapon(self._engine, handle, spec)
        name = device_name(path)
        return next(device for device in self.devices() if device.path == name)

    def swapoff(
        self, path: str | os.PathLike[str], *, progress: _devices.Progress | None = None
    ) -> None:
        """Take a swap device off while everything runs.

        What is on it goes to the other devices and to RAM; where it fits
        nowhere nothing is touched and CapacityError says how much is too much.
        ``progress(moved, total)`` is called now and then. An exception in it,
        or Ctrl-C, stops with the device on and nothing lost.
        """
        name = device_name(path)
        _devices.swapoff(self._engine, self._require_handle(), name, progress)

    def devices(self) -> tuple[Device, ...]:
        """Return the swap devices, the highest priority first."""
        return _devices.devices(self._engine, self._require_handle())

    # -- budget and counters ------------------------------------------------

    @property
    def ram(self) -> int:
        """The RAM budget in bytes; may be set at any time, in bytes or ``"200M"``."""
        return self.stats().ram_budget_bytes

    @ram.setter
    def ram(self, value: str | int) -> None:
        budget = check_floor(parse_budget(value, _total_for(value)))
        self._check_code(self._engine.lib.vswap_set_ram(self._require_handle(), budget))

    def stats(self) -> SpaceStats:
        """Return the counters of this space now."""
        ffi, lib = self._engine.ffi, self._engine.lib
        count = lib.vswap_counter_count()
        values = ffi.new("uint64_t[]", count)
        self._check_code(lib.vswap_counters(self._require_handle(), values, count))
        names = (ffi.string(lib.vswap_counter_name(i)).decode() for i in range(count))
        return SpaceStats.from_values(dict(zip(names, values, strict=True)))

    def trace(self, *, on: bool | None = None, since: int = 0) -> NDArray[Any]:
        """Return what happened to pages, the last 65,536 events at most.

        The array has the fields ``number``, ``time_ns`` (of a
        monotonic clock), ``event`` (1 to 5: see docs/python.md),
        ``thread``, ``duration_ns`` and ``page``. ``on=True`` begins
        noting events, ``on=False`` ends it; ``since`` leaves out events of a
        lower number, such as those of an earlier call.
        """
        from vswap._trace import read_events

        handle, lib = self._require_handle(), self._engine.lib
        if on is not None:
            self._check_code(lib.vswap_trace_on(handle, int(on)))
        return read_events(self._engine.ffi, lib, handle, since)

    def check(self) -> tuple[str, ...]:
        """Check the engine's conservation laws; return those that do not hold."""
        ffi, lib = self._engine.ffi, self._engine.lib
        report = ffi.new("char[]", _TEXT_BYTES)
        broken = self._check_code(lib.vswap_check(self._require_handle(), report, _TEXT_BYTES))
        lines = ffi.string(report).decode(errors="replace").splitlines()
        return tuple(lines or ["a law without a report"]) if broken else ()

    def describe(self) -> dict[str, Any]:
        """Return the configuration in force."""
        import json

        ffi = self._engine.ffi
        text = ffi.new("char[]", _TEXT_BYTES)
        self._check_code(self._engine.lib.vswap_describe(self._require_handle(), text, _TEXT_BYTES))
        described: dict[str, Any] = json.loads(ffi.string(text))
        return described

    def live(self) -> tuple[int, int]:
        """Return how many blocks, and bytes, are held in this space."""
        ffi = self._engine.ffi
        blocks, held = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        self._check_code(self._engine.lib.vswap_live(self._require_handle(), blocks, held))
        return int(blocks[0]), int(held[0])

    def close(self) -> None:
        """Give the space back now; SpaceInUseError while anything lives in it."""
        if self._closed:
            return
        if self._is_current:
            raise VswapError("the engine of 'vswap run' ends with the process")
        blocks, held = self.live()
        if blocks or self._depth:
            raise SpaceInUseError(_in_use(blocks, held), blocks=blocks, bytes=held)
        code = self._engine.lib.vswap_close(self._handle)
        if code == -_EBUSY:
            blocks, held = self.live()
            raise SpaceInUseError(_in_use(blocks, held), blocks=blocks, bytes=held)
        self._check_code(code)
        self._closed = True

    def __repr__(self) -> str:
        """Name the space by its state and budget."""
        if self._closed:
            return "<vswap.SwapSpace closed>"
        state = "current" if self._is_current else "retired" if self.retired else "open"
        return f"<vswap.SwapSpace {state} ram={format_size(self.ram)}>"


_EBUSY = 16
_current: SwapSpace | None = None


def current() -> SwapSpace | None:
    """Return the engine this program runs under, or None outside ``vswap run``."""
    global _current
    if _current is None:
        if not _loader.is_loaded():
            return None
        engine = _loader.engine()
        handle = engine.lib.vswap_current()
        if handle == engine.ffi.NULL:
            return None
        _current = SwapSpace._adopt(engine, handle)
    return _current


def _create(engine: Engine, config: str) -> Any:
    """Make a space in the engine, or raise what its sentence says."""
    out = engine.ffi.new("vswap_space **")
    sentence = engine.ffi.new("char[]", _ERROR_BYTES)
    code = engine.lib.vswap_space_create(os.fsencode(config), out, sentence, _ERROR_BYTES)
    if code < 0:
        raise error_for(code, engine.ffi.string(sentence).decode(errors="replace"))
    return out[0]


def _give_back(lib: Any, handle: Any) -> None:
    """Retire a space nobody has an object of any more; its arrays live on."""
    lib.vswap_retire(handle)
    lib.vswap_space_destroy(handle)


def _device_specs(devices: Sequence[str | os.PathLike[str]] | None, *, virtual: bool) -> list[str]:
    """Return checked swap specs; a bare string would be taken letter by letter."""
    if isinstance(devices, (str, os.PathLike)):
        raise ConfigError(f"devices is a list: write devices=[{os.fspath(devices)!r}]")
    from vswap.run.swapspec import check_direct, check_swap, usual_swap

    if devices is None:
        return usual_swap(direct=not virtual)
    specs = [check_swap(os.fspath(device)) for device in devices]
    if not virtual:
        check_direct(specs)
    return specs or ["none"]


def _total_for(budget: str | int) -> int:
    """Return what a percentage is a share of; looked up only for one."""
    if not (isinstance(budget, str) and "%" in budget):
        return 0
    from vswap.run.limits import memory_limit

    return memory_limit().bytes


def _in_use(blocks: int, held: int) -> str:
    """Say what keeps a space from being closed."""
    if not blocks:
        return "this space is still in use by a 'with' that is open"
    noun = "block" if blocks == 1 else "blocks"
    return f"{blocks} {noun} of {format_size(held)} still live in this space; delete them first"
