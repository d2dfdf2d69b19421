"""The engine's event ring as a structured array.

The four words of an event are drawn in crates/process/src/trace.rs; this dtype lies over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVENT = np.dtype(
    [
        ("number", "<u8"),
        ("time_ns", "<u8"),
        ("event", "<u2"),
        ("thread", "<u2"),
        ("duration_ns", "<u4"),
        ("page", "<u8"),
    ]
)


def read_events(ffi: Any, lib: Any, handle: Any, since: int) -> NDArray[Any]:
    """Copy what the ring holds; the array is ordinary memory, not of the space."""
    events = np.frombuffer(bytearray(lib.vswap_trace_capacity() * EVENT.itemsize), EVENT)
    words = ffi.cast("uint64_t *", ffi.from_buffer(events))
    count = lib.vswap_trace_read(handle, since, words, events.size)
    return events[: max(count, 0)].copy()
