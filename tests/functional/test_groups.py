"""Groups over the real engine: who pays, and limits that hold."""

from __future__ import annotations

import pytest

from support.capability import delivery
from support.group_program import run

MODES = ["thread", "signal"]


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
