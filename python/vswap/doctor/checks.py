"""The checks, each one function that returns a Finding."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Callable

from vswap._library import packaged_library
from vswap.doctor.aside import obstacle
from vswap.doctor.finding import LIMITED, MISSING, OK, Finding
from vswap.doctor.userfaultfd import Userfaultfd
from vswap.run.limits import default_budget, memory_limit
from vswap.run.swapspec import automatic_directories, automatic_directory
from vswap.sizes import GIB, MIB, format_size

_GVISOR = ("4.4.0", "#1 SMP Sun Jan 10 15:06:54 PST 2016")
"""gVisor answers uname with these whatever it runs on."""

_LEAST_MAP_COUNT = 65530
_LEAST_DATA = 4 * GIB


def read(path: str) -> str:
    """Return a file of /proc or /sys without its line end, '' where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def status_field(name: str) -> str:
    """Return one field of /proc/self/status."""
    for line in read("/proc/self/status").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def in_gvisor() -> bool:
    """Whether this is gVisor, which has no userfaultfd at all."""
    return (platform.release(), platform.version()) == _GVISOR


def in_container() -> bool:
    """Whether signs of a container are here: it says whose settings to change."""
    signs = ("/.dockerenv", "/run/.containerenv")
    return any(os.path.exists(sign) for sign in signs) or "container" in os.environ


def kernel(uffd: Userfaultfd) -> Finding:
    """Check the kernel's release, and that it is one."""
    release = platform.release()
    data: dict[str, object] = {
        "release": release,
        "machine": platform.machine(),
        "gvisor": in_gvisor(),
    }
    if in_gvisor():
        fix = "run the container with runc instead of gVisor (docker run --runtime=runc ...)"
        return Finding("kernel", MISSING, "gVisor, which has no userfaultfd", fix, data)
    if uffd.best.works and not uffd.best.has("MOVE"):
        return _without_move(f"Linux {release} without UFFDIO_MOVE", data)
    return Finding("kernel", OK, f"Linux {release}", "", data)


def _without_move(found: str, data: dict[str, object]) -> Finding:
    """Say whether what takes the place of MOVE works."""
    in_the_way = obstacle()
    data["without_move"] = in_the_way or "works"
    if in_the_way:
        return Finding("kernel", MISSING, f"{found}, nor what takes its place ({in_the_way})",
                       "use Linux 6.8 or newer, or allow mremap and mbind"
                       " (docker run --cap-add SYS_NICE ...)", data)  # fmt: skip
    return Finding("kernel", LIMITED, f"{found}: pages are copied out", "use Linux 6.8 or newer",
                   data)  # fmt: skip


def engine(_: Userfaultfd) -> Finding:
    """Check that the engine is there and loads."""
    from vswap import _loader
    from vswap.errors import VswapError

    path = packaged_library()
    try:
        loaded = _loader.engine()
    except VswapError as error:
        return Finding("engine", MISSING, str(error), "install vswap again", {"path": path})
    data = {"path": loaded.path, "version": loaded.version, "build_id": loaded.build_id}
    return Finding("engine", OK, f"{loaded.version} ({loaded.path})", "", data)


def userfaultfd(uffd: Userfaultfd) -> Finding:
    """Check the modes: kernel faults too (thread mode), user faults only (signal mode)."""
    data = {
        "kernel_mode": uffd.kernel_mode.works,
        "user_mode": uffd.user_mode.works,
        "device": uffd.device.works,
        "features": uffd.best.feature_names,
        "errors": {
            "kernel_mode": uffd.kernel_mode.why,
            "user_mode": uffd.user_mode.why,
            "device": uffd.device.why,
        },
    }
    if uffd.handles_kernel_faults:
        way = "system call" if uffd.kernel_mode.works else "/dev/userfaultfd"
        return Finding("userfaultfd", OK, f"kernel and user faults, by {way}", "", data)
    if uffd.user_mode.works:
        return Finding("userfaultfd", LIMITED, "user faults only", _fix_for_kernel_mode(), data)
    return Finding("userfaultfd", MISSING, f"none ({uffd.user_mode.why})", _fix_for_any(uffd), data)


def _fix_for_kernel_mode() -> str:
    """Return the line that gives thread mode."""
    if in_container():
        return "docker run --device /dev/userfaultfd ...  (or --cap-add SYS_PTRACE)"
    if os.path.exists("/dev/userfaultfd"):
        return f"sudo setfacl -m u:{os.getuid()}:rw /dev/userfaultfd"
    return "sudo sysctl vm.unprivileged_userfaultfd=1"


def _fix_for_any(uffd: Userfaultfd) -> str:
    """Return the line that gives userfaultfd at all."""
    if uffd.user_mode.why == "ENOSYS" and status_field("Seccomp") != "2":
        return "use a kernel with CONFIG_USERFAULTFD (5.11 or newer)"
    return (
        "docker run --security-opt seccomp=unconfined ...  (or a profile that allows userfaultfd)"
    )


def features(uffd: Userfaultfd) -> Finding:
    """Check the features the engine uses."""
    names = {"MOVE": "6.8", "POISON": "6.6", "SIGBUS": "4.14"}
    lacking = [name for name in names if not uffd.best.has(name)]
    data = {name: uffd.best.has(name) for name in names}
    if not uffd.best.works:
        return Finding("features", MISSING, "none, without userfaultfd", "", data)
    if lacking:
        newest = max(names[name] for name in lacking)
        return Finding("features", LIMITED, f"without {', '.join(lacking)}",
                       f"use Linux {newest} or newer", data)  # fmt: skip
    return Finding("features", OK, ", ".join(names), "", data)


def seccomp(_: Userfaultfd) -> Finding:
    """Check whether a filter may stand between us and the kernel."""
    mode = {"0": "none", "1": "strict", "2": "filter"}.get(status_field("Seccomp"), "unknown")
    privileges = "NoNewPrivs" if status_field("NoNewPrivs") == "1" else "new privileges possible"
    return Finding("seccomp", OK, f"{mode}, {privileges}", "", {"mode": mode})


def privileges(uffd: Userfaultfd) -> Finding:
    """Check what we may do, where it matters for userfaultfd."""
    capabilities = int(status_field("CapEff") or "0", 16)
    ptrace = bool(capabilities >> 19 & 1)
    sysctl = read("/proc/sys/vm/unprivileged_userfaultfd")
    found = f"uid {os.geteuid()}, CAP_SYS_PTRACE {'yes' if ptrace else 'no'}"
    data = {"uid": os.geteuid(), "cap_sys_ptrace": ptrace, "unprivileged_userfaultfd": sysctl}
    if uffd.handles_kernel_faults or ptrace:
        return Finding("privileges", OK, found, "", data)
    return Finding("privileges", LIMITED, f"{found}, vm.unprivileged_userfaultfd={sysctl or '?'}",
                   _fix_for_kernel_mode(), data)  # fmt: skip


def limits(_: Userfaultfd) -> Finding:
    """Check the resource limits a large reservation, many maps or a swap file can meet."""
    kinds = {
        "AS": (resource.RLIMIT_AS, _LEAST_DATA, "ulimit -v unlimited"),
        "DATA": (resource.RLIMIT_DATA, _LEAST_DATA, "ulimit -d unlimited"),
        "FSIZE": (resource.RLIMIT_FSIZE, GIB, "ulimit -f unlimited"),
        "NOFILE": (resource.RLIMIT_NOFILE, 64, "ulimit -n 1024"),
        "MEMLOCK": (resource.RLIMIT_MEMLOCK, MIB, "ulimit -l 8192"),
    }
    current = {name: resource.getrlimit(kind)[0] for name, (kind, _, _) in kinds.items()}
    tight = [n for n, value in current.items() if value != resource.RLIM_INFINITY
             and value < kinds[n][1] and not (n == "MEMLOCK" and os.geteuid() == 0)]  # fmt: skip
    if tight:
        shown = ", ".join(f"RLIMIT_{name}={current[name]}" for name in tight)
        return Finding("rlimits", LIMITED, shown, "; ".join(kinds[n][2] for n in tight), current)
    return Finding("rlimits", OK, "nothing in the way", "", current)


def overcommit(_: Userfaultfd) -> Finding:
    """Check the kernel's accounting of address space."""
    mode = read("/proc/sys/vm/overcommit_memory")
    maps = int(read("/proc/sys/vm/max_map_count") or _LEAST_MAP_COUNT)
    data = {"overcommit_memory": mode, "max_map_count": maps}
    if mode == "2":
        return Finding("overcommit", LIMITED, "strict: what a program reserves is limited",
                       "sudo sysctl vm.overcommit_memory=0", data)  # fmt: skip
    if maps < _LEAST_MAP_COUNT:
        return Finding("overcommit", LIMITED, f"only {maps} maps a process",
                       f"sudo sysctl vm.max_map_count={_LEAST_MAP_COUNT}", data)  # fmt: skip
    return Finding("overcommit", OK, f"mode {mode}, {maps} maps a process", "", data)


def disk(_: Userfaultfd) -> Finding:
    """Check where ``--swap auto`` would put its file."""
    judged = list(automatic_directories(os.environ))
    data = {d.path: {"free_bytes": d.free_bytes, "refusal": d.refusal} for d in judged}
    chosen = automatic_directory(os.environ)
    if chosen is None:
        reasons = "; ".join(f"{d.path} {d.refusal}" for d in judged)
        return Finding("disk", LIMITED, f"no place for a swap file: {reasons}",
                       "export TMPDIR=/a/directory/on/a/disk", data)  # fmt: skip
    return Finding("disk", OK, f"{chosen.path}, {format_size(chosen.free_bytes)} free", "", data)


def memory(_: Userfaultfd) -> Finding:
    """Check what bounds our memory, and the budget that follows."""
    limit = memory_limit()
    found = f"{format_size(limit.bytes)} ({limit.source}); default --ram {format_size(default_budget())}"
    data = {
        "limit_bytes": limit.bytes,
        "source": limit.source,
        "default_ram_bytes": default_budget(),
    }
    return Finding("memory", OK, found, "", data)


def yama(_: Userfaultfd) -> Finding:
    """Check whether one process may take descriptors from another of the same user."""
    scope = read("/proc/sys/kernel/yama/ptrace_scope") or "none"
    data = {"ptrace_scope": scope}
    if scope in ("2", "3") and os.geteuid() != 0:
        return Finding("yama", LIMITED, f"ptrace_scope {scope}: debuggers cannot attach",
                       "sudo sysctl kernel.yama.ptrace_scope=1", data)  # fmt: skip
    return Finding("yama", OK, f"ptrace_scope {scope}", "", data)


CHECKS: tuple[Callable[[Userfaultfd], Finding], ...] = (
    kernel, engine, userfaultfd, features, privileges, seccomp, limits, overcommit, memory, disk,
    yama,
)  # fmt: skip


def verdict(uffd: Userfaultfd, findings: list[Finding]) -> tuple[bool, str]:
    """Return whether vswap works here, and what it will do."""
    if any(f.name == "engine" and f.status == MISSING for f in findings):
        return False, "vswap cannot work here: its engine does not load"
    if not uffd.best.works:
        return False, "vswap cannot work here: there is no userfaultfd"
    if any(f.name == "kernel" and f.status == MISSING for f in findings):
        return False, "vswap cannot work here: pages cannot be taken out of memory safely"
    mode = "thread" if uffd.handles_kernel_faults else "signal"
    move = "moves pages" if uffd.best.has("MOVE") else "copies pages"
    place = automatic_directory(os.environ)
    where = f"compressed RAM, then a file in {place.path}" if place else "compressed RAM only"
    return True, f"vswap works here: {mode} mode, {move}, swaps to {where}"
