"""Groups and devices over the real engine: bytes stay where they may be, while devices and groups come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.capability import delivery
from support.group_program import run

MODES = ["thread", "signal"]


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


def test_pages_shared_with_a_group_that_ended_stay_off_the_devices_of_its_parent(
    tmp_path: Path,
) -> None:
    run(
        f"""
        allowed, open_to_all = {str(tmp_path / "a")!r}, {str(tmp_path / "b")!r}
        space = vswap.SwapSpace("200M", dedup="space", devices=[allowed + ":128M"])
        first, second = (space.group(name, devices=[allowed]) for name in ("first", "second"))
        a, b = first.zeros((16, MIB), "u1"), second.zeros((16, MIB), "u1")
        fill(a, noise, 1000), fill(b, noise, 1000)
        space.evict(a), space.evict(b)
        assert space.stats().dedup_saved_bytes > 8 * MIB
        first.drain("100M")
        assert first.stats().device_bytes > 8 * MIB > second.stats().device_bytes
        # What the other one shares is on the device now, and cannot follow to whoever pays next.
        del a
        first.close()
        used = lambda: {{d.path: d.used_bytes for d in space.devices()}}
        space.swapon(open_to_all, size="128M", priority=10)
        space.swapoff(allowed)
        assert used() == {{open_to_all: 0}}, used()
        verify(b, noise, 1000)
        lawful(space)
        """
    )


@pytest.mark.parametrize("faults", MODES)
def test_groups_devices_checks_and_forks_at_once_never_wait_for_each_other_for_good(
    faults: str, tmp_path: Path
) -> None:
    delivery(faults)
    run(
        f"""
        space = vswap.SwapSpace("64M", devices=[], faults={faults!r})
        kept = space.zeros((8, MIB), "u1")
        fill(kept)
        held = [content(row) for row in range(8)]
        # A child must not need a module that another thread is importing for the first time just then.
        space.group("first").close()
        def make_groups(turn):
            group = space.group("short", ram_max="32M")
            a = group.zeros((1, MIB), "u1")
            fill(a, first=turn)
            space.evict(a)
            verify(a, first=turn)
            del a
            group.close()
        def change_devices(turn):
            # Another file each time: a child may have the last one still.
            path = {str(tmp_path / "swap")!r} + str(turn)
            space.swapon(path, size="8M")
            space.swapoff(path)
        def check(turn):
            lawful(space)
        def fork(turn):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    # Nothing that has a lock of Python's or numpy's: another thread may have held that.
                    space.group("of a child").close()
                    assert np.array_equal(kept[turn % 8], held[turn % 8])
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(child, 0)[1] == 0
        failed = []
        def repeat(work, turns):
            try:
                for turn in range(turns):
                    work(turn)
            except BaseException as error:
                failed.append(error)
        works = [(make_groups, 60), (change_devices, 100), (check, 200), (fork, 40)]
        threads = [threading.Thread(target=repeat, args=work) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == [], failed
        verify(kept)
        lawful(space)
        """
    )
