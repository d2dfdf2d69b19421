"""The engine's counters by position: the same list as crates/units, by test.

Values in shared memory have no names beside them in a tree slot, so the order
here is part of the interface.  Nothing is imported, because the run path imports this.
"""

from __future__ import annotations


class CounterInfo:
    """One row: its name, how to read its value, one line for people."""

    __slots__ = ("help", "kind", "name")

    def __init__(self, name: str, kind: str, help: str) -> None:
        """Keep the row."""
        self.name = name
        self.kind = kind
        self.help = help


COUNTERS: tuple[CounterInfo, ...] = (
    CounterInfo("ram_budget_bytes", "gauge", "RAM the engine keeps itself within"),
    CounterInfo("held_bytes", "gauge", "RAM held now, unmanaged memory included"),
    CounterInfo("held_peak_bytes", "peak", "highest RAM held"),
    CounterInfo("unmanaged_bytes", "gauge", "RAM the program holds that vswap does not manage"),
    CounterInfo("unmanaged_peak_bytes", "peak", "highest unmanaged RAM"),
    CounterInfo("resident_pages", "gauge", "managed pages in their place in memory"),
    CounterInfo("frame_pages", "gauge", "pages of the staging area holding swap-cached pages"),
    CounterInfo("pool_bytes", "gauge", "RAM in segments of compressed pages"),
    CounterInfo("table_bytes", "gauge", "RAM in the engine's tables"),
    CounterInfo("arena_bytes", "gauge", "RAM in the engine's own allocator"),
    CounterInfo("handed_out_bytes", "gauge", "managed bytes the program has allocated"),
    CounterInfo("handed_out_peak_bytes", "peak", "highest managed bytes allocated"),
    CounterInfo("swapped_pages", "gauge", "pages out of memory now"),
    CounterInfo("swapped_peak_pages", "peak", "highest number of pages out of memory"),
    CounterInfo(
        "same_filled_pages", "gauge", "swapped pages of one repeated word, which take no space"
    ),
    CounterInfo("stored_pages", "gauge", "swapped pages with bytes in the store"),
    CounterInfo("stored_bytes", "gauge", "compressed bytes of stored pages"),
    CounterInfo(
        "slot_pages", "gauge", "swapped pages that lie in plain slots of a device, as they are"
    ),
    CounterInfo("device_bytes", "gauge", "bytes in use on swap devices"),
    CounterInfo("device_peak_bytes", "peak", "highest bytes in use on swap devices"),
    CounterInfo("faults", "counter", "page faults vswap resolved"),
    CounterInfo("faults_zero_fill", "counter", "faults on pages never written before"),
    CounterInfo("faults_cached", "counter", "faults on pages still in the swap cache"),
    CounterInfo("faults_swap_in", "counter", "faults that brought a page back from the store"),
    CounterInfo("faults_stale", "counter", "faults another thread had already resolved"),
    CounterInfo(
        "moved_out_pages", "counter", "pages moved out of their place, into the swap cache first"
    ),
    CounterInfo("swap_out_pages", "counter", "pages swapped out"),
    CounterInfo("swap_out_bytes", "counter", "compressed bytes of pages swapped out"),
    CounterInfo("swap_out_same_pages", "counter", "pages swapped out as one repeated word"),
    CounterInfo("swap_out_raw_pages", "counter", "pages swapped out that did not compress"),
    CounterInfo("swap_out_slot_pages", "counter", "pages swapped out to plain slots, as they are"),
    CounterInfo("swap_in_pages", "counter", "pages brought back from the store"),
    CounterInfo(
        "ahead_swap_in_pages",
        "counter",
        "of those, pages that were brought back before the program touched them",
    ),
    CounterInfo(
        "ahead_zero_fill_pages",
        "counter",
        "zero pages put in place before the program touched them",
    ),
    CounterInfo(
        "second_chance_pages",
        "counter",
        "pages taken back from the swap cache before they were compressed",
    ),
    CounterInfo("freed_dropped_pages", "counter", "freed pages given back without swapping them"),
    CounterInfo(
        "rejected_pages",
        "counter",
        "pages that hardly compress and stayed in memory because no device would take them",
    ),
    CounterInfo("unmovable_pages", "counter", "times a page could not be moved out and stayed"),
    CounterInfo("pinned_pages", "gauge", "pages that may not be swapped out"),
    CounterInfo("device_written_bytes", "counter", "bytes written to swap devices"),
    CounterInfo("device_read_bytes", "counter", "bytes read from swap devices"),
    CounterInfo("device_errors", "counter", "errors of swap devices"),
    CounterInfo("cleaned_bytes", "counter", "live bytes the cleaner copied"),
    CounterInfo(
        "cleaned_segments", "counter", "half-dead segments the cleaner emptied and gave back"
    ),
    CounterInfo(
        "demoted_bytes",
        "counter",
        "compressed bytes moved from a full device to one of lower priority",
    ),
    CounterInfo(
        "promoted_bytes",
        "counter",
        "compressed bytes moved to a device of higher priority because they were read again",
    ),
    CounterInfo("entry_lookups", "counter", "looks into the swap layer's table of descriptors"),
    CounterInfo(
        "entry_pins", "counter", "swap entries pinned, to read or change where their page is"
    ),
    CounterInfo("descriptor_changes", "counter", "steps that descriptors of swap entries made"),
    CounterInfo(
        "cluster_locks",
        "counter",
        "locks of clusters of swap entries taken, to hand entries out or back",
    ),
    CounterInfo("device_write_calls", "counter", "writes to swap devices"),
    CounterInfo("device_read_calls", "counter", "reads from swap devices"),
    CounterInfo("waited_ns", "counter", "nanoseconds threads waited in faults"),
    CounterInfo("direct_reclaims", "counter", "faults that had to make room themselves"),
    CounterInfo(
        "over_budget_faults",
        "counter",
        "faults that went over the budget because no room could be made in time",
    ),
    CounterInfo(
        "alloc_failures", "counter", "allocations refused because nothing more could be moved out"
    ),
    CounterInfo("poisoned_pages", "counter", "pages whose bytes could not be read back"),
    CounterInfo(
        "workingset_refault_pages",
        "counter",
        "pages that came back after they had been written out",
    ),
    CounterInfo(
        "workingset_activate_pages",
        "counter",
        "of those, pages whose block reclaim spares since, because it came back soon",
    ),
    CounterInfo(
        "active_blocks", "gauge", "blocks of 16 pages that reclaim spares because they are in use"
    ),
    CounterInfo(
        "second_chance_window_pages",
        "gauge",
        "pages that may stay in the swap cache before the oldest are written out",
    ),
    CounterInfo(
        "dedup_hits", "counter", "pages swapped out by sharing bytes that were stored already"
    ),
    CounterInfo("dedup_different", "counter", "pages that looked like a stored one and were not"),
    CounterInfo("shared_objects", "gauge", "stored objects that several pages share or shared"),
    CounterInfo("shared_pages", "gauge", "swapped pages that are shares in such an object"),
    CounterInfo("dedup_saved_bytes", "gauge", "compressed bytes that are not stored twice"),
    CounterInfo("groups", "gauge", "groups of memory with a name"),
    CounterInfo("armed", "gauge", "1 while managed memory is registered for faults"),
    CounterInfo("full", "gauge", "1 while nothing more can be moved out"),
    CounterInfo("mode", "gauge", "fault delivery: 1 thread, 2 signal"),
)
"""``counter`` only grows, ``gauge`` is the value now, ``peak`` the highest gauge."""

NAMES: tuple[str, ...] = tuple(info.name for info in COUNTERS)
