"""Swap devices that come and go under a live space."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from support.capability import delivery
from support.child import Child
from support.soon import SOON

MODES = ["thread", "signal"]

PRELUDE = (
    SOON
    + """
import os, sys, threading
import numpy as np
import vswap
from pathlib import Path
MIB = 1 << 20
ROWS = 96
def content(row, salt=0):
    return np.random.default_rng(row + 1000 * salt).integers(0, 60000, 1 << 18)
def refused(kind, call, /, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return str(error)
    raise AssertionError("not refused")
def used(space, path):
    return next(d for d in space.devices() if d.path == path).used_bytes
def fill(space):
    a = space.zeros((ROWS, 1 << 18), "i8")
    for row in range(ROWS):
        a[row] = content(row)
    return a
def verify(a):
    for row in range(ROWS):
        assert np.array_equal(a[row], content(row)), row
def blocks(path):
    return os.stat(path).st_blocks * 512
"""
)


def run(body: str, folder: Path | None = None, **environ: str) -> str:
    head = f"FOLDER = Path({str(folder)!r})\n" if folder else ""
    return Child(None)(PRELUDE + head + dedent(body), timeout=150, **environ)


@pytest.mark.parametrize("faults", MODES)
def test_a_device_comes_fills_and_goes_with_every_byte_kept(faults: str, disk: Path) -> None:
    delivery(faults)
    run(
        f"""
        space = vswap.SwapSpace("64M", faults={faults!r}, devices=[])
        first, second = str(FOLDER / "first"), str(FOLDER / "second")
        assert space.devices() == ()
        device = space.swapon(first, size="300M", priority=5)
        assert (device.path, device.priority, device.state) == (first, 5, "on"), device
        assert (device.kind, device.capacity_bytes) == ("file", 300 * MIB)
        a = fill(space)
        soon(lambda: used(space, first) > 20 * MIB)
        space.swapon(second, size="300M")
        told = []
        space.swapoff(first, progress=lambda moved, total: told.append((moved, total)))
        assert told and told[-1][0] > 80 and told == sorted(told), told
        assert [d.path for d in space.devices()] == [second]
        assert used(space, second) > 20 * MIB and blocks(first) < MIB
        verify(a)
        assert space.check() == ()
        space.swapon(first, size="300M")
        verify(a)
        assert space.check() == ()
        open_files = [os.readlink(f"/proc/self/fd/{{n}}") for n in os.listdir("/proc/self/fd")
                      if os.path.exists(f"/proc/self/fd/{{n}}")]
        del a
        soon(lambda: used(space, second) == 0)
        space.swapoff(second)
        space.swapoff(first)
        assert space.devices() == () and space.check() == ()
        """,
        disk,
    )


def test_a_file_taken_off_can_be_used_by_the_next(disk: Path) -> None:
    run(
        """
        one, two = vswap.SwapSpace("32M", devices=[]), vswap.SwapSpace("32M", devices=[])
        path = FOLDER / "swap"
        one.swapon(path, size="64M")
        assert "in use" in refused(vswap.ConfigError, two.swapon, path)
        one.swapoff(path)
        two.swapon(path, size="64M")
        assert "in use" in refused(vswap.ConfigError, one.swapon, path)
        """,
        disk,
    )


def test_the_file_without_a_name_comes_and_goes_by_its_name_auto(disk: Path) -> None:
    run(
        """
        os.chdir(FOLDER)
        space = vswap.SwapSpace("64M", devices=["auto:384M@2"])
        first, = space.devices()
        assert (first.path, first.capacity_bytes, first.priority) == ("auto", 384 * MIB, 2), first
        a = fill(space)
        space.swapon("next", size="512M")
        space.swapoff("auto")
        assert "kind 'block'" in refused(vswap.VswapError, space.swapon, "auto", kind="block")
        again = space.swapon("auto", size="448M", priority=3)
        assert (again.path, again.kind, again.capacity_bytes) == ("auto", "file", 448 * MIB), again
        space.swapoff("next")
        verify(a)
        slots = vswap.SwapSpace("32M", devices=["slots:auto:96M"]).devices()
        assert [(d.kind, d.capacity_bytes) for d in slots] == [("slots", 96 * MIB)], slots
        assert sorted(os.listdir()) == ["next"]
        assert space.check() == ()
        """,
        disk,
    )


def test_mistakes_get_one_sentence_and_change_nothing(disk: Path) -> None:
    (disk / "data").write_text("somebody's")
    (disk / "link").symlink_to(disk / "swap")
    run(
        """
        space = vswap.SwapSpace("32M", devices=[])
        space.swapon(FOLDER / "swap", size="64M")
        before = space.devices()
        def no(word, *args, **kwargs):
            text = refused(vswap.ConfigError, space.swapon, *args, **kwargs)
            assert word in text and "\\n" not in text, text
        no("already", FOLDER / "swap")
        no("already", FOLDER / "link")
        no("at least", FOLDER / "other", size=0)
        no("at least", FOLDER / "other", size="100K")
        no("priority", FOLDER / "other", priority=-3)
        no("kind", FOLDER / "other", kind="tape")
        no("null", FOLDER / "other", kind="null")
        no("not a block device", FOLDER / "other", kind="block")
        no("not vswap's", FOLDER / "data")
        no("directory", FOLDER)
        no("does not exist", FOLDER / "none" / "swap")
        no("RAM", "/dev/shm/swap")
        text = refused(vswap.ConfigError, space.swapoff, FOLDER / "other")
        assert "not a swap device" in text, text
        assert space.devices() == before
        assert not (FOLDER / "other").exists() and (FOLDER / "data").read_text() == "somebody's"
        """,
        disk,
    )


def test_what_fits_nowhere_is_refused_and_stays(disk: Path) -> None:
    run(
        """
        space = vswap.SwapSpace("48M", devices=[FOLDER / "swap:400M"])
        a = fill(space)
        path = str(FOLDER / "swap")
        soon(lambda: used(space, path) > 60 * MIB)
        text = refused(vswap.CapacityError, space.swapoff, path)
        assert "MiB" in text and "fit nowhere" in text, text
        assert space.devices()[0].state == "on"
        verify(a)
        assert space.check() == ()
        """,
        disk,
    )


def test_without_another_device_the_bytes_come_back_to_ram(disk: Path) -> None:
    run(
        """
        space = vswap.SwapSpace("96M", devices=[FOLDER / "swap:400M"])
        def half_noise(row):
            page = np.random.default_rng(row).integers(0, 256, (256, 4096), "u1")
            page[:, 2048:] = row
            return page
        a = space.zeros((96, 256, 4096), "u1")
        for row in range(96):
            a[row] = half_noise(row)
        path = str(FOLDER / "swap")
        space.evict(a)
        soon(lambda: used(space, path) > 8 * MIB)
        space.swapoff(path)
        assert space.devices() == ()
        for row in range(96):
            assert np.array_equal(a[row], half_noise(row))
        assert space.stats().held_peak_bytes <= 96 * MIB * 1.05 + 24 * MIB
        assert space.check() == ()
        """,
        disk,
    )


def test_ctrl_c_and_exceptions_stop_a_swapoff_with_nothing_lost(disk: Path) -> None:
    run(
        """
        import signal
        space = vswap.SwapSpace("48M", devices=[FOLDER / "first:400M@9", FOLDER / "second:400M"])
        first = str(FOLDER / "first")
        a = fill(space)
        soon(lambda: used(space, first) > 40 * MIB)
        def interrupt(moved, total):
            if moved:
                os.kill(os.getpid(), signal.SIGINT)
        refused(KeyboardInterrupt, space.swapoff, first, progress=interrupt)
        def fail(moved, total):
            raise LookupError("mine")
        assert refused(LookupError, space.swapoff, first, progress=fail) == "mine"
        assert {d.state for d in space.devices()} == {"on"}
        verify(a)
        assert space.check() == ()
        space.swapoff(first)
        verify(a)
        assert space.check() == ()
        """,
        disk,
    )


@pytest.mark.parametrize("faults", MODES)
def test_devices_come_and_go_while_threads_write_at_random(faults: str, disk: Path) -> None:
    delivery(faults)
    run(
        f"""
        space = vswap.SwapSpace("48M", faults={faults!r}, devices=[FOLDER / "keep:500M@0"])
        PAGES = 24 * 256
        a = space.zeros((4, PAGES, 512), "i8")
        stop = threading.Event()
        failed = []
        def worker(n):
            try:
                numbers = np.random.default_rng(n)
                mine = a[n]
                salt = np.zeros(PAGES, "i8")
                ramp = np.arange(512) * 7919 % 100003
                while not stop.is_set():
                    page = int(numbers.integers(PAGES))
                    assert np.array_equal(mine[page], ramp * salt[page] + page * (salt[page] > 0))
                    salt[page] = numbers.integers(1, 1 << 20)
                    mine[page] = ramp * salt[page] + page
                for page in range(PAGES):
                    assert np.array_equal(mine[page], ramp * salt[page] + page * (salt[page] > 0))
            except BaseException as error:
                failed.append(repr(error))
                raise
        threads = [threading.Thread(target=worker, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        moved = 0
        until = time.monotonic() + 8
        def told(done, total):
            global moved
            moved = moved + 1 if done else moved
        rounds = 0
        while time.monotonic() < until and not failed:
            path = FOLDER / f"round{{rounds % 3}}"
            space.swapon(path, size="500M", priority=7)
            time.sleep(0.4)
            space.swapoff(path, progress=told)
            rounds += 1
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed, failed
        assert rounds > 3 and moved > 0, (rounds, moved)
        assert space.check() == ()
        """,
        disk,
    )


def test_a_child_takes_off_for_itself_alone(disk: Path) -> None:
    run(
        """
        space = vswap.SwapSpace("48M", devices=[FOLDER / "first:400M@9", FOLDER / "second:400M"])
        first = str(FOLDER / "first")
        a = fill(space)
        soon(lambda: used(space, first) > 40 * MIB)
        child = os.fork()
        if child == 0:
            try:
                space.swapoff(first)
                verify(a)
                assert [d.path for d in space.devices()] == [str(FOLDER / "second")]
                assert space.check() == ()
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        verify(a)
        assert [d.path for d in space.devices()] == [first, str(FOLDER / "second")]
        space.swapoff(first)
        verify(a)
        assert space.check() == ()
        """,
        disk,
    )


@pytest.mark.parametrize("kind", ["file", "slots"])
def test_a_file_a_child_still_has_pages_on_is_in_use_for_everybody_else(
    kind: str, disk: Path
) -> None:
    run(
        f"""
        space, path = vswap.SwapSpace("48M", devices=["auto:400M"]), FOLDER / "swap"
        space.swapon(path, size="200M", priority=9, kind={kind!r})
        def content(row):
            return np.frombuffer(np.random.default_rng(row).bytes(MIB), "i8")
        a = space.zeros((ROWS, MIB // 8), "i8")
        for row in range(ROWS):
            a[row] = content(row)
        soon(lambda: used(space, str(path)) > 20 * MIB)
        to_child, to_parent = os.pipe(), os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(to_child[1])
                assert os.read(to_child[0], 1) == b"."
                verify(a)
                assert space.check() == ()
                os._exit(0)
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
        space.swapoff(path)
        verify(a)
        other = vswap.SwapSpace("32M", devices=[])
        for taker in (space, other):
            assert "child" in refused(vswap.ConfigError, taker.swapon, path, kind={kind!r})
        os.write(to_child[1], b".")
        assert os.waitpid(child, 0)[1] == 0
        space.swapon(path, size="64M", kind={kind!r})
        verify(a)
        assert space.check() == ()
        """,
        disk,
    )


def test_devices_come_and_go_while_others_check_change_rules_and_fork(disk: Path) -> None:
    run(
        """
        space = vswap.SwapSpace("48M", dedup="space", devices=[FOLDER / "keep:500M@0"])
        group = space.group("g")
        a, b = space.zeros((ROWS, 1 << 16), "i8"), group.zeros((ROWS, 1 << 16), "i8")
        def content(row):
            return np.random.default_rng(row % 48).integers(0, 60000, 1 << 16)
        for row in range(ROWS):
            a[row] = b[row] = content(row)
        stop = threading.Event()
        failed, done = [], {}
        def again(what, act):
            try:
                while not stop.is_set():
                    act()
                    done[what] = done.get(what, 0) + 1
            except BaseException as error:
                failed.append(repr(error))
                raise
        def check():
            assert space.check() == ()
        def change():
            group.limit(writeback=False)
            group.limit(writeback=True)
        def fork():
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        acts = {"check": check, "change": change, "fork": fork}
        threads = [threading.Thread(target=again, args=act) for act in acts.items()]
        for thread in threads:
            thread.start()
        for number in range(24):
            path = FOLDER / f"round{number % 3}"
            space.swapon(path, size="500M", priority=7)
            space.evict(a)
            space.swapoff(path)
        stop.set()
        for thread in threads:
            thread.join()
        assert not failed and len(done) == 3, (failed, done)
        for row in range(ROWS):
            assert np.array_equal(a[row], content(row)) and np.array_equal(b[row], content(row)), row
        assert space.check() == ()
        """,
        disk,
    )
