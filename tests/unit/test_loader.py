"""One engine in a process, whichever way it came in."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.child import Child

ASK = """
import vswap._loader as loader
from vswap.errors import VswapError
try:
    engine = loader.engine()
    print(engine.path, engine.build_id, engine.version, engine.abi)
except VswapError as error:
    print(type(error).__name__, error)
"""


def test_the_packaged_engine_is_opened_once(child: Child, fake_engine: Path) -> None:
    assert child(ASK) == f"{fake_engine} fake-build-0001 0.0-fake 1\n"
    again = "import vswap._loader as l; print(l.engine() is l.engine())"
    assert child(again) == "True\n"


def test_a_preloaded_engine_is_adopted(child: Child, fake_engine: Path) -> None:
    print_maps = (
        ASK + "print(len({l.split()[-1] for l in open('/proc/self/maps') if 'libvswap' in l}))"
    )
    told = child(print_maps, LD_PRELOAD=str(fake_engine))
    assert told == f"{fake_engine} fake-build-0001 0.0-fake 1\n1\n"


def test_a_copy_of_the_same_build_elsewhere_is_the_same_engine(
    child: Child, fake_engine: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "libvswap.so.1"
    shutil.copy(fake_engine, copy)
    assert child(ASK, LD_PRELOAD=str(copy)).startswith(f"{copy} fake-build-0001")
    link = tmp_path / "a link" / "libvswap.so.1"
    link.parent.mkdir()
    link.symlink_to(fake_engine)
    assert child(ASK, VSWAP_LIB=str(link)).startswith(f"{fake_engine} fake-build-0001")


def test_another_build_in_the_process_is_refused_with_both_names(
    child: Child, fake_engine: Path, other_engine: Path
) -> None:
    told = child(ASK, LD_PRELOAD=str(other_engine))
    assert told.startswith("EngineMismatchError")
    for part in (str(other_engine), "other-build-0002", str(fake_engine), "fake-build-0001"):
        assert part in told


def test_another_interface_in_the_process_is_refused(
    child: Child, newer_engine: Path, fake_engine: Path
) -> None:
    told = child(ASK, LD_PRELOAD=str(newer_engine))
    assert told.startswith("EngineMismatchError")
    assert "interface 9" in told
    assert str(fake_engine) in told


def test_a_packaged_engine_of_another_interface_is_refused(newer_engine: Path) -> None:
    told = Child(newer_engine)(ASK)
    assert told.startswith("EngineMismatchError")
    assert "interface 9" in told


def test_an_engine_replaced_on_disk_while_the_program_runs_is_refused(
    child: Child, fake_engine: Path, other_engine: Path, tmp_path: Path
) -> None:
    installed = tmp_path / "libvswap.so.1"
    shutil.copy(fake_engine, installed)
    upgrade = f"import os; os.replace({str(tmp_path / 'new')!r}, {str(installed)!r})\n" + ASK
    shutil.copy(other_engine, tmp_path / "new")
    told = child(upgrade, LD_PRELOAD=str(installed), VSWAP_LIB=str(installed))
    assert told.startswith("EngineMismatchError")
    assert "start the program again after an upgrade" in told


def test_a_missing_engine_says_what_to_do(child: Child) -> None:
    told = child(ASK, VSWAP_LIB="/nowhere/libvswap.so.1")
    assert told.startswith("UnsupportedKernelError")
    assert "VSWAP_LIB" in told


def test_a_library_that_cannot_be_loaded_says_so(child: Child, tmp_path: Path) -> None:
    broken = tmp_path / "libvswap.so.1"
    broken.write_text("not a library")
    assert "cannot be loaded" in child(ASK, VSWAP_LIB=str(broken))


def test_importing_vswap_loads_neither_engine_nor_numpy(child: Child) -> None:
    program = """
import sys, vswap
loaded = {"numpy", "cffi", "_cffi_backend", "ctypes", "argparse"} & set(sys.modules)
print(loaded, "libvswap" in open("/proc/self/maps").read(), sorted(vswap.__all__) == dir(vswap))
"""
    assert child(program, VSWAP_LIB="/nowhere") == "set() False True\n"


def test_the_first_use_on_a_system_that_cannot_work_says_why(child: Child) -> None:
    program = """
import vswap
try:
    vswap.SwapSpace(ram="64M")
except vswap.UnsupportedKernelError as error:
    print(isinstance(error, OSError), isinstance(error, vswap.VswapError), error.errno, error)
"""
    told = child(program, FAKE_ENGINE_FAIL="38")
    assert told == "True True 38 the fake engine was told to fail\n"


def test_current_is_none_outside_a_run_and_loads_nothing(child: Child, fake_engine: Path) -> None:
    program = (
        "import vswap, sys; print(vswap.current(), 'libvswap' in open('/proc/self/maps').read())"
    )
    assert child(program) == "None False\n"
    inside = "import vswap; s = vswap.current(); print(s is vswap.current(), s)"
    told = child(inside, LD_PRELOAD=str(fake_engine), VSWAP_RAM=str(64 << 20))
    assert told.startswith("True <vswap.SwapSpace current")
