"""Which space takes new arrays here: per context, inherited by new threads.

NumPy keeps its handler in a context variable.  Beside it this module keeps the
stack of entered spaces, so that leaving puts the right handler back even where
spaces are left in another order than they were entered, and leaving in a
context that never entered changes nothing.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import NamedTuple


class Entry(NamedTuple):
    """One ``with`` that is open in this context."""

    token: object
    owner: object
    handler: object | None
    previous: object | None
    threads: bool


_stack: ContextVar[tuple[Entry, ...]] = ContextVar("vswap_stack", default=())
_hook_lock = threading.Lock()
_hooked = False


def enter(owner: object, handler: object | None, *, threads: bool) -> object:
    """Put a handler (None: leave NumPy alone) in force here; return a token."""
    if threads and handler is not None:
        _hook_threads()
    token = object()
    previous = None
    if handler is not None:
        from vswap._numpy_handler import set_handler

        previous = set_handler(handler)
    _stack.set((*_stack.get(), Entry(token, owner, handler, previous, threads)))
    return token


def leave_last_of(owner: object) -> None:
    """Undo the latest ``enter`` of this owner in this context, if there is one."""
    token = next((e.token for e in reversed(_stack.get()) if e.owner is owner), None)
    if token is not None:
        leave(token)


def leave(token: object) -> None:
    """Undo the ``enter`` that gave this token, if it happened in this context."""
    stack = _stack.get()
    at = next((i for i, entry in enumerate(stack) if entry.token is token), None)
    if at is None:
        return
    entry, above = stack[at], stack[at + 1 :]
    rest = list(stack[:at] + above)
    _stack.set(tuple(rest))
    if entry.handler is None:
        return
    heir = next((i for i, e in enumerate(above) if e.handler is not None), None)
    if heir is not None:
        rest[at + heir] = above[heir]._replace(previous=entry.previous)
        _stack.set(tuple(rest))
        return
    _restore(entry)


def _restore(entry: Entry) -> None:
    """Put back the handler of before, unless somebody else's is in force by now."""
    from vswap._numpy_handler import get_handler, set_handler

    if entry.previous is not None and get_handler() is entry.handler:
        set_handler(entry.previous)


def _hook_threads() -> None:
    """Let threads started from now on begin in the space of their starter.

    Before 3.14 a new thread starts with an empty context, so the arrays of a
    thread pool would silently not be in the space.
    """
    global _hooked
    with _hook_lock:
        if _hooked:
            return
        original = threading.Thread.start

        @functools.wraps(original)
        def start(self: threading.Thread) -> None:
            covering = _covering()
            if covering is not None and not self.is_alive():
                self.run = _inside(covering, self.run)  # type: ignore[method-assign]
            original(self)

        threading.Thread.start = start  # type: ignore[method-assign]
        _hooked = True


def _covering() -> Entry | None:
    """Return the entry whose handler threads started here are to begin with."""
    for entry in reversed(_stack.get()):
        if entry.handler is not None:
            return entry if entry.threads else None
    return None


def _inside(covering: Entry, run: Callable[[], None]) -> Callable[[], None]:
    """Return ``run`` with the handler put in force first, in the new thread."""

    def run_in_space() -> None:
        token = enter(covering.owner, covering.handler, threads=True)
        try:
            run()
        finally:
            leave(token)

    return run_in_space
