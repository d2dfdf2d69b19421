"""What a space has done and holds: a frozen snapshot that can be subtracted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from vswap.counters import COUNTERS
from vswap.sizes import PAGE_SIZE, format_size

_STATES = frozenset({"armed", "full", "mode", "ram_budget_bytes"})


@dataclasses.dataclass(frozen=True, slots=True)
class SpaceStats:
    """Counters of one engine at one moment.

    ``after - before`` is again a SpaceStats: counts and gauges are subtracted
    (a gauge may come out negative), while peaks and states keep the later
    value, since a difference of those means nothing.
    """

    ram_budget_bytes: int = 0
    """RAM the engine keeps itself within."""
    held_bytes: int = 0
    """RAM held now, unmanaged memory included."""
    held_peak_bytes: int = 0
    """Highest RAM held."""
    unmanaged_bytes: int = 0
    """RAM the program holds that vswap does not manage."""
    unmanaged_peak_bytes: int = 0
    """Highest unmanaged RAM."""
    resident_pages: int = 0
    """Managed pages in their place in memory."""
    frame_pages: int = 0
    """Pages of the staging area holding swap-cached pages."""
    pool_bytes: int = 0
    """RAM in segments of compressed pages."""
    table_bytes: int = 0
    """RAM in the engine's tables."""
    arena_bytes: int = 0
    """RAM in the engine's own allocator."""
    handed_out_bytes: int = 0
    """Managed bytes the program has allocated."""
    handed_out_peak_bytes: int = 0
    """Highest managed bytes allocated."""
    swapped_pages: int = 0
    """Pages out of memory now."""
    swapped_peak_pages: int = 0
    """Highest number of pages out of memory."""
    same_filled_pages: int = 0
    """Swapped pages of one repeated word, which take no space."""
    stored_pages: int = 0
    """Swapped pages with bytes in the store."""
    stored_bytes: int = 0
    """Compressed bytes of stored pages."""
    slot_pages: int = 0
    """Swapped pages that lie in plain slots of a device, as they are."""
    device_bytes: int = 0
    """Bytes in use on swap devices."""
    device_peak_bytes: int = 0
    """Highest bytes in use on swap devices."""
    faults: int = 0
    """Page faults vswap resolved."""
    faults_zero_fill: int = 0
    """Faults on pages never written before."""
    faults_cached: int = 0
    """Faults on pages still in the swap cache."""
    faults_swap_in: int = 0
    """Faults that brought a page back from the store."""
    faults_stale: int = 0
    """Faults another thread had already resolved."""
    moved_out_pages: int = 0
    """Pages moved out of their place, into the swap cache first."""
    swap_out_pages: int = 0
    """Pages swapped out."""
    swap_out_bytes: int = 0
    """Compressed bytes of pages swapped out."""
    swap_out_same_pages: int = 0
    """Pages swapped out as one repeated word."""
    swap_out_raw_pages: int = 0
    """Pages swapped out that did not compress."""
    swap_out_slot_pages: int = 0
    """Pages swapped out to plain slots, as they are."""
    swap_in_pages: int = 0
    """Pages brought back from the store."""
    ahead_swap_in_pages: int = 0
    """Of those, pages that were brought back before the program touched them."""
    ahead_zero_fill_pages: int = 0
    """Zero pages put in place before the program touched them."""
    second_chance_pages: int = 0
    """Pages taken back from the swap cache before they were compressed."""
    freed_dropped_pages: int = 0
    """Freed pages given back without swapping them."""
    rejected_pages: int = 0
    """Pages that hardly compress and stayed in memory because no device would take them."""
    unmovable_pages: int = 0
    """Times a page could not be moved out and stayed."""
    pinned_pages: int = 0
    """Pages that may not be swapped out."""
    device_written_bytes: int = 0
    """Bytes written to swap devices."""
    device_read_bytes: int = 0
    """Bytes read from swap devices."""
    device_errors: int = 0
    """Errors of swap devices."""
    cleaned_bytes: int = 0
    """Live bytes the cleaner copied."""
    cleaned_segments: int = 0
    """Half-dead segments the cleaner emptied and gave back."""
    demoted_bytes: int = 0
    """Compressed bytes moved from a full device to one of lower priority."""
    promoted_bytes: int = 0
    """Compressed bytes moved to a device of higher priority because they were read again."""
    entry_lookups: int = 0
    """Looks into the swap layer's table of descriptors."""
    entry_pins: int = 0
    """Swap entries pinned, to read or change where their page is."""
    descriptor_changes: int = 0
    """Steps that descriptors of swap entries made."""
    cluster_locks: int = 0
    """Locks of clusters of swap entries taken, to hand entries out or back."""
    device_write_calls: int = 0
    """Writes to swap devices."""
    device_read_calls: int = 0
    """Reads from swap devices."""
    waited_ns: int = 0
    """Nanoseconds threads waited in faults."""
    direct_reclaims: int = 0
    """Faults that had to make room themselves."""
    over_budget_faults: int = 0
    """Faults that went over the budget because no room could be made in time."""
    alloc_failures: int = 0
    """Allocations refused because nothing more could be moved out."""
    poisoned_pages: int = 0
    """Pages whose bytes could not be read back."""
    workingset_refault_pages: int = 0
    """Pages that came back after they had been written out."""
    workingset_activate_pages: int = 0
    """Of those, pages whose block reclaim spares since, because it came back soon."""
    active_blocks: int = 0
    """Blocks of 16 pages that reclaim spares because they are in use."""
    second_chance_window_pages: int = 0
    """Pages that may stay in the swap cache before the oldest are written out."""
    dedup_hits: int = 0
    """Pages swapped out by sharing bytes that were stored already."""
    dedup_different: int = 0
    """Pages that looked like a stored one and were not."""
    shared_objects: int = 0
    """Stored objects that several pages share or shared."""
    shared_pages: int = 0
    """Swapped pages that are shares in such an object."""
    dedup_saved_bytes: int = 0
    """Compressed bytes that are not stored twice."""
    groups: int = 0
    """Groups of memory with a name."""
    armed: int = 0
    """1 while managed memory is registered for faults."""
    full: int = 0
    """1 while nothing more can be moved out."""
    mode: int = 0
    """Fault delivery: 1 thread, 2 signal."""

    def __sub__(self, earlier: SpaceStats) -> SpaceStats:
        """Return what changed since ``earlier``."""
        if not isinstance(earlier, SpaceStats):
            return NotImplemented
        changed = {
            info.name: getattr(self, info.name) - getattr(earlier, info.name)
            for info in COUNTERS
            if info.kind != "peak" and info.name not in _STATES
        }
        return dataclasses.replace(self, **changed)

    @property
    def ratio(self) -> float | None:
        """How many times smaller the pages in the store are; None if there are none."""
        if self.stored_bytes <= 0 or self.stored_pages <= 0:
            return None
        return self.stored_pages * PAGE_SIZE / self.stored_bytes

    @property
    def waited_seconds(self) -> float:
        """Seconds threads waited for vswap, all threads added."""
        return self.waited_ns / 1e9

    def __str__(self) -> str:
        """Say in one line what matters most."""
        return (
            f"held {format_size(self.held_bytes)} of {format_size(self.ram_budget_bytes)}, "
            f"swapped out {format_size(self.swapped_pages * PAGE_SIZE)}, "
            f"{self.faults} faults, waited {self.waited_seconds:.2f} s"
        )

    @classmethod
    def from_values(cls, values: Mapping[str, int]) -> SpaceStats:
        """Build from a mapping; names this version does not know are left out."""
        known = {info.name for info in COUNTERS}
        return cls(**{name: value for name, value in values.items() if name in known})
