"""The reader of event rings, beside a writer that is as fast as it likes."""

from __future__ import annotations

import mmap
import os
import struct

import numpy as np
import pytest

from vswap._trace import EVENT
from vswap.bench import event_rings

EVENTS = 1 << 10


class Writer:
    """What an engine does: claims a ring and writes."""

    def __init__(self, rings: event_rings.EventRings, pid: int) -> None:
        fd = os.open(rings.path, os.O_RDWR)
        self._memory = mmap.mmap(fd, 0)
        os.close(fd)
        count, self._events = struct.unpack_from("<II", self._memory, 8)
        (asked,) = struct.unpack_from("<I", self._memory, 16)
        struct.pack_into("<I", self._memory, 16, asked + 1)
        self._places = None
        if asked < count:
            struct.pack_into("<I", self._memory, 24 + 4 * asked, pid)
            start = mmap.PAGESIZE + asked * self._events * EVENT.itemsize
            self._places = np.frombuffer(self._memory, EVENT, self._events, start)
        self._next = 0

    def note(self, page: int, *, finish: bool = True) -> None:
        assert self._places is not None
        place = self._places[self._next % self._events : self._next % self._events + 1]
        place["number"], place["event"], place["duration_ns"], place["page"] = 0, 3, 2 * page, page
        if finish:
            place["number"] = self._next + 1
        self._next += 1


@pytest.fixture
def rings() -> event_rings.EventRings:
    return event_rings.EventRings(rings=2, ring_events=EVENTS)


def test_every_event_is_read_once_however_often_one_looks(rings: event_rings.EventRings) -> None:
    writer = Writer(rings, 77)
    for page in range(3 * EVENTS):
        writer.note(page)
        if page % 100 == 0:
            rings.read()
    rings.read(ended=True)
    (events,) = rings.events()
    assert (events.pid, events.lost) == (77, 0)
    assert events.pages.tolist() == list(range(3 * EVENTS))
    assert (events.took_ns == 2 * events.pages).all()
    assert set(events.kinds.tolist()) == {3}


def test_what_was_written_over_is_counted_as_lost(rings: event_rings.EventRings) -> None:
    writer = Writer(rings, 1)
    writer.note(0)
    rings.read()
    for page in range(1, 2 * EVENTS + 11):
        writer.note(page)
    rings.read()
    (events,) = rings.events()
    assert events.lost == EVENTS + 10
    assert events.pages.tolist() == [0, *range(EVENTS + 11, 2 * EVENTS + 11)]


def test_an_event_that_is_being_written_is_waited_for_until_its_writer_has_ended(
    rings: event_rings.EventRings,
) -> None:
    writer = Writer(rings, 1)
    writer.note(0)
    writer.note(1, finish=False)
    writer.note(2)
    rings.read()
    assert rings.events()[0].pages.tolist() == [0]
    rings.read(ended=True)
    (events,) = rings.events()
    assert (events.pages.tolist(), events.lost) == ([0, 2], 1)


def test_every_process_is_told_apart_and_one_without_a_ring_is_counted(
    rings: event_rings.EventRings,
) -> None:
    writers = [Writer(rings, pid) for pid in (5, 6, 7)]
    writers[0].note(50)
    rings.read()
    writers[1].note(60)
    rings.read(ended=True)
    told = [(events.pid, events.pages.tolist()) for events in rings.events()]
    assert told == [(5, [50]), (6, [60])]
    assert rings.without_ring == 1


def test_what_is_beyond_the_most_that_is_kept_counts_as_lost(
    rings: event_rings.EventRings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_rings, "MOST_KEPT", 10)
    writer = Writer(rings, 1)
    for page in range(25):
        writer.note(page)
        rings.read()
    (events,) = rings.events()
    assert (events.pages.tolist(), events.lost) == (list(range(10)), 15)


def test_nobody_can_make_the_memory_shorter(rings: event_rings.EventRings) -> None:
    fd = os.open(rings.path, os.O_RDWR)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 4096)
    os.close(fd)
