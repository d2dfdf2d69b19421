"""Groups over the real engine: who pays, limits that hold, bytes that stay where they may be."""

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
import gc, os, threading
import numpy as np
import vswap
MIB, SEGMENT = 1 << 20, 256 << 10
def refused(kind, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        return str(error)
    raise AssertionError("not refused")
def content(row):
    return np.random.default_rng(row).integers(0, 50, 1 << 16).astype("u1").repeat(16) + row % 100
def noise(row):
    return np.random.default_rng(row).bytes(MIB)
def fill(array, make=content, first=0):
    for row in range(len(array)):
        array[row] = np.frombuffer(make(first + row), "u1")
def verify(array, make=content, first=0):
    for row in np.random.default_rng(7).permutation(len(array)).tolist():
        assert np.array_equal(array[row], np.frombuffer(make(first + row), "u1")), row
def lawful(space):
    assert space.check() == (), space.check()
"""
)


def run(body: str, **environ: str) -> str:
    return Child(None)(PRELUDE + dedent(body), timeout=150, **environ)


@pytest.mark.parametrize("faults", MODES)
@pytest.mark.parametrize("devices", [[], ["auto"]], ids=["ram", "file"])
def test_a_limit_of_ram_holds_and_another_group_is_not_disturbed(
    faults: str, devices: list[str]
) -> None:
    delivery(faults)
    run(
        f"""
        space = vswap.SwapSpace("160M", faults={faults!r}, devices={devices!r})
        tight, other = space.group("tight", ram_max="24M"), space.group("other")
        calm = other.zeros((40, MIB), "u1")
        fill(calm, first=500)
        a = tight.zeros((72, MIB), "u1")
        highest = 0
        for row in range(72):
            a[row] = content(row)
            highest = max(highest, tight.stats().ram_bytes)
        verify(a)
        highest = max(highest, tight.stats().ram_bytes)
        assert highest <= 24 * MIB + SEGMENT, highest
        stats = tight.stats()
        assert stats.swapped_pages > 10_000 and stats.ram_max_events > 0, stats
        assert other.stats().swapped_pages == 0, other.stats()
        assert other.stats().resident_pages >= 40 * 256
        verify(calm, first=500)
        lawful(space)
        """
    )


@pytest.mark.parametrize("faults", MODES)
def test_bytes_of_a_group_without_writeback_never_reach_a_device(
    faults: str, tmp_path: Path
) -> None:
    delivery(faults)
    run(
        f"""
        path = {str(tmp_path / "swap")!r}
        space = vswap.SwapSpace("64M", faults={faults!r}, devices=[path + ":256M"])
        private, public = space.group("private", writeback=False), space.group("public")
        below = private.group("below")
        secret, deep = private.zeros((12, MIB), "u1"), below.zeros((8, MIB), "u1")
        open_ = public.zeros((70, MIB), "u1")
        fill(secret, noise, 1000)
        fill(deep, noise, 2000)
        fill(open_, noise, 3000)
        for group in (private, below, public):
            group.drain("100M")
        verify(open_, noise, 3000)
        public.drain("100M")
        assert public.stats().device_bytes > 20 * MIB, public.stats()
        assert private.stats().device_bytes == 0 and below.stats().device_bytes == 0
        on_device = open(path, "rb").read()
        def pages_there(rows):
            there = 0
            for row in rows:
                made = noise(row)
                there += sum(made[at + 64 : at + 128] in on_device for at in range(0, MIB, 65536))
            return there
        assert pages_there(range(3000, 3070, 8)) > 0
        assert pages_there(list(range(1000, 1012)) + list(range(2000, 2008))) == 0
        verify(secret, noise, 1000)
        verify(deep, noise, 2000)
        lawful(space)
        """
    )


def test_pages_shared_with_another_group_leave_its_device_places_when_writeback_is_turned_off(
    tmp_path: Path,
) -> None:
    run(
        f"""
        import time
        path = {str(tmp_path / "swap")!r}
        space = vswap.SwapSpace("200M", dedup="space", devices=[path + ":256M"])
        public, private = space.group("public"), space.group("private")
        a, b = public.zeros((16, MIB), "u1"), private.zeros((16, MIB), "u1")
        fill(a, noise, 1000), fill(b, noise, 1000)
        space.evict(a), space.evict(b)
        shared = space.stats().dedup_saved_bytes
        assert shared > 8 * MIB, shared
        private.writeback = False
        public.drain("100M")
        assert public.stats().device_bytes > 0
        # What is left of the first sharer goes, and with it all that is on the device.
        del a
        soon(lambda: public.stats().device_bytes == 0, told=public.stats)
        assert private.stats().device_bytes == 0, private.stats()
        verify(b, noise, 1000)
        lawful(space)
        """
    )


def test_a_limit_of_compressed_ram_keeps_the_rest_in_memory_where_nothing_may_be_written() -> None:
    run(
        """
        space = vswap.SwapSpace("96M")
        group = space.group("g", zswap_max="3M", writeback=False)
        a = group.zeros((48, MIB), "u1")
        fill(a)
        group.drain("48M")
        stats = group.stats()
        assert 2 * MIB < stats.compressed_bytes <= 3 * MIB + SEGMENT, stats
        assert stats.device_bytes == 0 and stats.zswap_max_events > 0 and stats.stuck, stats
        assert stats.zswap_fail_events > 0
        # Others have room, and frames.
        other = space.zeros((80, MIB), "u1")
        fill(other, first=900)
        verify(other, first=900)
        verify(a)
        assert group.stats().compressed_bytes <= 3 * MIB + SEGMENT
        lawful(space)
        """
    )


def test_over_its_limit_of_compressed_ram_a_group_writes_back_its_own_oldest() -> None:
    run(
        """
        space = vswap.SwapSpace("200M")
        group, other = space.group("g", ram_max="16M", zswap_max="4M"), space.group("other")
        kept = other.zeros((24, MIB), "u1")
        fill(kept, first=300)
        space.evict(kept)
        before = other.stats().compressed_bytes
        a = group.zeros((64, MIB), "u1")
        for row in range(64):
            a[row] = content(row)
            assert group.stats().compressed_bytes <= 4 * MIB + SEGMENT
        verify(a)
        soon(lambda: group.stats().device_bytes > 2 * MIB)
        assert other.stats().device_bytes == 0
        assert other.stats().compressed_bytes == before > 0
        verify(kept, first=300)
        lawful(space)
        """
    )


def test_a_limit_of_device_bytes_is_never_passed() -> None:
    run(
        """
        space = vswap.SwapSpace("64M")
        group = space.group("g", swap_max="2M")
        a = group.zeros((40, MIB), "u1")
        fill(a, noise)
        group.drain("40M")
        space.evict(a)
        moved = group.drain("40M")
        assert moved <= 2 * MIB
        assert group.stats().device_bytes == 2 * MIB, group.stats()
        assert group.drain("1M") == 0
        assert group.stats().swap_max_events > 0
        verify(a, noise)
        lawful(space)
        """
    )


def test_a_drain_says_how_much_it_moved() -> None:
    run(
        """
        space = vswap.SwapSpace("200M")
        group, still = space.group("g"), space.group("still")
        assert group.drain("10M") == 0
        a, b = group.zeros((32, MIB), "u1"), still.zeros((8, MIB), "u1")
        fill(a, noise), fill(b, noise, 50)
        space.evict(a), space.evict(b)
        before = group.stats()
        moved = group.drain("10M")
        assert 10 * MIB <= moved < 10 * MIB + SEGMENT, moved
        after = group.stats()
        assert after.device_bytes - before.device_bytes == moved
        assert before.compressed_bytes - after.compressed_bytes == moved
        assert still.stats().device_bytes == 0
        rest = group.drain("1G")
        assert 0 < rest < MIB * 1024 and group.stats().compressed_bytes == 0
        assert group.drain(1) == 0
        verify(a, noise), verify(b, noise, 50)
        lawful(space)
        """
    )


def test_without_a_device_a_drain_compresses_what_is_in_memory() -> None:
    run(
        """
        space = vswap.SwapSpace("96M", devices=[])
        group = space.group("g")
        a = group.zeros((32, MIB), "u1")
        fill(a)
        moved = group.drain("8M")
        assert 8 * MIB <= moved < 9 * MIB, moved
        stats = group.stats()
        assert (stats.resident_pages + stats.cached_pages) * 4096 <= 24 * MIB + 65536, stats
        assert group.drain("1G") <= 24 * MIB
        verify(a)
        lawful(space)
        """
    )


def test_the_end_of_a_group_gives_everything_back() -> None:
    run(
        """
        space = vswap.SwapSpace("64M")
        group = space.group("g", ram_max="20M")
        below = group.group("below")
        a, b = group.zeros((40, MIB), "u1"), below.zeros((16, MIB), "u1")
        fill(a), fill(b, first=100)
        group.drain("4M")
        said = refused(vswap.SpaceInUseError, group.close)
        assert "below" in said, said
        said = refused(vswap.SpaceInUseError, below.close)
        assert "1 blocks of 16.0 MiB" in said, said
        verify(a), verify(b, first=100)
        del b
        below.close()
        below.close()
        assert "closed" in refused(vswap.VswapError, below.empty, 10)
        del a
        with group:
            pass
        group.close()
        assert space.groups() == []
        soon(lambda: space.stats().device_bytes == 0)
        stats = space.stats()
        assert (stats.swapped_pages, stats.resident_pages) == (0, 0), str(stats)
        again = space.group("g")
        assert again.stats().ram_bytes == 0
        c = again.zeros((30, MIB), "u1")
        fill(c)
        verify(c)
        lawful(space)
        """
    )


def test_a_limit_above_binds_all_groups_below_together() -> None:
    run(
        """
        space = vswap.SwapSpace("200M", devices=[])
        top = space.group("top", ram_max="32M")
        left, right = top.group("left"), top.group("right", ram_max="16M")
        a, b = left.zeros((40, MIB), "u1"), right.zeros((40, MIB), "u1")
        for row in range(40):
            a[row], b[row] = content(row), content(200 + row)
            assert top.stats().ram_bytes <= 32 * MIB + SEGMENT
            assert right.stats().ram_bytes <= 16 * MIB + SEGMENT
        verify(a), verify(b, first=200)
        seen = []
        def adds_up():  # reclaim goes on while the three are read one by one
            seen.append([group.stats().ram_bytes for group in (top, left, right, top)])
            before, *parts, after = seen[-1]
            return before == sum(parts) == after
        soon(adds_up, seconds=10, told=lambda: seen[-9:])
        assert top.stats().ram_bytes <= 32 * MIB + SEGMENT
        assert [group.path for group in space.groups()] == ["top", "top/left", "top/right"]
        lawful(space)
        """
    )


@pytest.mark.parametrize("faults", MODES)
def test_numpy_arrays_made_inside_and_in_threads_belong_to_the_group(faults: str) -> None:
    delivery(faults)
    run(
        f"""
        space = vswap.SwapSpace("96M", faults={faults!r})
        first, second = space.group("first", ram_max="24M"), space.group("second")
        done = []
        def work(number):
            rows = [np.full(MIB, number * 10 + row, "u1") for row in range(10)]
            for _ in range(3):
                for row, made in enumerate(rows):
                    assert (made == number * 10 + row).all()
                rows = [made.copy() for made in rows]
            done.append(rows)
        with space:
            outside = np.ones(MIB, "u1")
            with first:
                threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
                [thread.start() for thread in threads]
                a = np.arange(MIB)
                with second:
                    b = np.zeros(MIB) + 3
                c = a * 2
                [thread.join() for thread in threads]
            after = np.ones(MIB, "u1")
            live = {{group.name: group.stats().live_bytes for group in space.groups()}}
            assert live["second"] == 8 * MIB and live["first"] == 56 * MIB, live
            assert len(done) == 4 and first.stats().ram_bytes <= 24 * MIB + SEGMENT
            assert (c == np.arange(MIB) * 2).all() and (b == 3).all()
            lawful(space)
            del done[:], a, c, threads
            gc.collect()
            soon(lambda: first.stats().live_bytes == 0)
            first.close()
            lawful(space)
        """
    )


def test_memory_one_group_freed_is_paid_for_by_the_group_that_gets_it() -> None:
    run(
        """
        space = vswap.SwapSpace("96M", devices=[])
        a, b = space.group("a"), space.group("b")
        for turn in range(6):
            for owner in (a, b, space):
                array = owner.empty((6, MIB), "u1")
                fill(array, first=turn)
                small = owner.empty(70_000, "u1")
                small[:] = turn
                verify(array, first=turn)
                assert (small == turn).all()
                del array, small
        lawful(space)
        a.close()
        b.close()
        lawful(space)
        """
    )


def test_limits_change_at_any_time_and_what_cannot_be_changes_nothing() -> None:
    run(
        """
        space = vswap.SwapSpace("96M")
        group = space.group("g")
        a = group.zeros((32, MIB), "u1")
        fill(a)
        said = refused(vswap.ConfigError, setattr, group, "ram_max", "8M")
        assert "holds now" in said and "8.0 MiB" in said, said
        assert group.ram_max is None
        group.ram_max = "40M"
        group.zswap_max, group.swap_max, group.writeback = "20M", None, False
        assert (group.ram_max, group.zswap_max, group.writeback) == (40 * MIB, 20 * MIB, False)
        said = refused(vswap.ConfigError, group.limit, ram_max="50M", zswap_max="100")
        assert "segment" in said and group.ram_max == 40 * MIB
        for name, size in [("ram_max", "lots"), ("ram_max", "4K"), ("swap_max", -1)]:
            refused(vswap.ConfigError, setattr, group, name, size)
        group.writeback = True
        while group.stats().ram_bytes > 12 * MIB:
            space.evict(a)
            if not group.drain("8M"):
                break
        group.ram_max = "14M"
        verify(a)
        assert group.stats().ram_bytes <= 14 * MIB + SEGMENT
        lawful(space)
        """
    )


def test_what_cannot_be_a_group_is_refused_with_a_sentence() -> None:
    run(
        """
        space = vswap.SwapSpace("32M")
        web = space.group("web")
        assert "'web'" in refused(vswap.ConfigError, space.group, "web")
        web.group("web")
        for name in ("", "a/b", "x" * 65, "a\\nb"):
            assert "name" in refused(vswap.ConfigError, space.group, name)
        said = refused(vswap.ConfigError, space.group, "x", devices=["/nowhere"])
        assert "/nowhere" in said
        refused(vswap.ConfigError, space.group, "x", devices="auto")
        refused(vswap.ConfigError, space.group, "x", devices=[])
        assert "1.0 MiB" in refused(vswap.ConfigError, space.group, "x", ram_max=4096)
        elsewhere = vswap.SwapSpace("32M", devices=[])
        assert "another" in refused(vswap.ConfigError, elsewhere.group, "x", parent=web)
        assert [group.path for group in space.groups()] == ["web", "web/web"]
        deep = web
        said = ""
        for level in range(10):
            try:
                deep = deep.group(str(level))
            except vswap.ConfigError as error:
                said = str(error)
                break
        assert "deep" in said, said
        lawful(space)
        """
    )


def test_a_group_uses_the_devices_it_is_allowed(tmp_path: Path) -> None:
    run(
        f"""
        first, second = {str(tmp_path / "a")!r}, {str(tmp_path / "b")!r}
        space = vswap.SwapSpace("64M", devices=[first + ":64M", second + ":64M"])
        # A path from here is the same device.
        group = space.group("g", devices=[os.path.relpath(second)])
        assert group.devices == (second,)
        a = group.zeros((24, MIB), "u1")
        fill(a, noise)
        space.evict(a)
        assert group.drain("8M") >= 8 * MIB
        assert os.stat(first).st_blocks * 512 < 64 << 10
        assert os.stat(second).st_blocks * 512 >= 8 * MIB
        verify(a, noise)
        lawful(space)
        """
    )


@pytest.mark.parametrize("kind", ["file", "slots"])
def test_a_device_attached_later_is_only_for_groups_without_a_list(
    tmp_path: Path, kind: str
) -> None:
    run(
        f"""
        first, later = {str(tmp_path / "a")!r}, {str(tmp_path / "b")!r}
        def used(path):
            return next(d for d in space.devices() if d.path == path).used_bytes
        space = vswap.SwapSpace("64M", devices=[])
        space.swapon(first, size="64M", kind="file")
        listed, free = space.group("listed", devices=[first]), space.group("free")
        # The number of a device that is gone is given to the next one: the list is of names.
        space.swapoff(first)
        space.swapon(later, size="64M", kind={kind!r})
        a, b = listed.zeros((16, MIB), "u1"), free.zeros((16, MIB), "u1")
        fill(a)
        space.evict(a)
        listed.drain("8M")
        assert (used(later), listed.stats().device_bytes) == (0, 0)
        fill(b, noise, 100)
        space.evict(b)
        free.drain("4M")
        soon(lambda: used(later) >= 4 * MIB)
        assert listed.stats().device_bytes == 0
        # The one it names is its again as soon as it is on.
        space.swapon(first, size="64M", kind="file")
        moved = listed.drain("8M")
        assert used(first) >= moved >= 2 * SEGMENT, (moved, space.devices(), listed.stats())
        verify(a)
        verify(b, noise, 100)
        lawful(space)
        """
    )


@pytest.mark.parametrize("rule", ["devices", "writeback"])
def test_swapoff_counts_where_a_group_may_not_go_before_it_touches_anything(
    tmp_path: Path, rule: str
) -> None:
    run(
        f"""
        first, second = {str(tmp_path / "a")!r}, {str(tmp_path / "b")!r}
        space = vswap.SwapSpace("32M", devices=[first + ":128M"])
        group = space.group("g", devices=[first])
        a = group.zeros((64, MIB), "u1")
        fill(a, noise)
        assert group.stats().device_bytes > 24 * MIB, group.stats()
        space.swapon(second, size="256M")
        if {rule!r} == "writeback":
            group.limit(writeback=False, devices=None)
        before = space.devices()
        said = refused(vswap.CapacityError, space.swapoff, first)
        assert "fit nowhere else" in said, said
        after = space.devices()
        on, empty = after
        assert (on.path, on.state, empty.used_bytes) == (first, "on", 0), after
        assert on.used_bytes >= before[0].used_bytes
        verify(a, noise)
        group.limit(writeback=True, devices=None)
        space.swapoff(first)
        verify(a, noise)
        lawful(space)
        """
    )


def test_what_does_not_fit_a_group_is_a_memory_error_and_others_go_on() -> None:
    run(
        """
        space = vswap.SwapSpace("160M", devices=[])
        group = space.group("g", ram_max="16M")
        held = []
        def more():
            for row in range(64):
                held.append(group.empty(MIB, "u1"))
                held[-1][:] = np.frombuffer(noise(row), "u1")
                time.sleep(0.01)
        refused(MemoryError, more)
        assert group.stats().full and group.stats().ram_fail_events > 0
        assert len(held) < 48, len(held)
        other = space.zeros((40, MIB), "u1")
        fill(other, first=400)
        verify(other, first=400)
        for row, array in enumerate(held[:-1]):
            assert array.tobytes() == noise(row)
        lawful(space)
        """
    )


def test_a_forked_child_has_the_groups_and_goes_on() -> None:
    run(
        """
        space = vswap.SwapSpace("64M")
        group = space.group("g", ram_max="16M")
        a = group.zeros((32, MIB), "u1")
        fill(a)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                verify(a)
                b = group.zeros((16, MIB), "u1")
                fill(b, first=70)
                verify(b, first=70)
                lawful(space)
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        verify(a)
        lawful(space)
        """
    )
