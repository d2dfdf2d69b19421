"""vswap run with a report: exit status, signals, slots, and what escapes."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.child import Child

RUN_PATH_MODULES_MOST = 25
"""Modules, the standard library's too, that come on top of a bare interpreter."""


def report(
    child: Child, tmp_path: Path, *command: str, **environ: str
) -> tuple[int, dict[str, object]]:
    """Run with a JSON report; status and report."""
    path = tmp_path / "report.json"
    words = ["run", "--ram", "64M", "--report-json", str(path), *command]
    done = child.cli(*words, **environ)
    return done.returncode, json.loads(path.read_text() or "{}")


def start(child: Child, *words: str, **options: object) -> subprocess.Popen[str]:
    """Start the command line and do not wait."""
    command = [sys.executable, "-m", "vswap", *words]
    return subprocess.Popen(
        command, env=child.environ(), text=True, stdout=subprocess.PIPE, **options
    )  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("status", [0, 1, 42, 125])
def test_the_exit_status_of_the_command_becomes_ours(
    child: Child, tmp_path: Path, status: int
) -> None:
    code, told = report(child, tmp_path, "sh", "-c", f"exit {status}")
    assert (code, told["exit_status"]) == (status, status)


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "PIPE", "INT"])
def test_a_death_by_signal_becomes_ours(child: Child, tmp_path: Path, name: str) -> None:
    code, told = report(child, tmp_path, "sh", "-c", f"kill -{name} $$")
    number = int(getattr(signal, f"SIG{name}"))
    assert (code, told["signal"]) == (-number, number)


def test_without_a_report_the_command_takes_our_place(child: Child) -> None:
    process = start(child, "run", "--ram", "64M", "sh", "-c", "echo $$")
    out, _ = process.communicate(timeout=30)
    assert int(out) == process.pid


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_sent_to_us_is_passed_on_once(child: Child, number: signal.Signals) -> None:
    program = (
        "import signal, time, sys\n"
        f"signal.signal({int(number)}, lambda *_: print('got', flush=True))\n"
        "print('ready', flush=True); time.sleep(0.7); sys.exit(7)"
    )
    process = start(child, "run", "--report", "--ram", "64M", sys.executable, "-c", program,
                    stderr=subprocess.DEVNULL)  # fmt: skip
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.communicate(timeout=30)[0] == "got\n"
    assert process.returncode == 7


def test_a_terminals_interrupt_reaches_the_command_once(child: Child) -> None:
    program = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, lambda *_: print('got', flush=True))\n"
        "print('ready', flush=True); end = time.time() + 1\n"
        "while time.time() < end: time.sleep(0.1)"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        command = [sys.executable, "-m", "vswap", "run", "--report", "--ram", "64M"]
        os.execve(sys.executable, [*command, sys.executable, "-c", program], child.environ())
    seen = b""
    while b"ready" not in seen:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"\x03")
    try:
        while True:
            seen += os.read(terminal, 1000)
    except OSError:  # the terminal hangs up with the last process
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert seen.count(b"got") == 1
    assert b"vswap report" in seen


def test_the_command_starts_with_default_signals_and_without_our_descriptors(
    child: Child,
) -> None:
    # A shell is asked: Python would ignore SIGPIPE by itself.
    shell = "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls /proc/self/fd | tr '\\n' ' '"
    # Signals 32 and 33 are the C library's own: no program can set them, some runners ignore them.
    of_the_c_library = 0b11 << 31
    for options in ((), ("--report",)):
        done = child.cli("run", *options, "--ram", "64M", "sh", "-c", shell)
        masks, ignored, descriptors = done.stdout.splitlines()
        assert int(masks.split()[1], 16) == 0
        assert int(ignored.split()[1], 16) & ~of_the_c_library == 0
        low = [int(word) for word in descriptors.split() if int(word) < 100]
        assert low == [0, 1, 2, 3]


def test_a_command_that_is_not_found_or_not_executable_has_its_own_status(
    child: Child, tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_text("text")
    assert child.cli("run", "--ram", "64M", "no-such-command").returncode == 127
    assert child.cli("run", "--ram", "64M", str(plain)).returncode == 126
    assert child.cli("run", "--report", "--ram", "64M", "no-such-command").returncode == 127


def test_an_interpreter_that_is_missing_is_told_before_and_with_a_report(
    child: Child, tmp_path: Path
) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    for options in ((), ("--report",)):
        done = child.cli("run", *options, "--ram", "64M", str(script))
        assert done.returncode == 127
        assert "vswap report" not in done.stderr


def test_a_script_without_a_first_line_runs_by_the_shell(child: Child, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("exit 9\n")
    script.chmod(0o755)
    assert child.cli("run", "--ram", "64M", str(script)).returncode == 9
    assert child.cli("run", "--report", "--ram", "64M", str(script)).returncode == 9


def test_our_own_failures_are_125_and_one_sentence(child: Child) -> None:
    for words in (("--ram", "1M", "true"), ("--rom", "true"), ("--swap", "/", "true"), ()):
        done = child.cli("run", *words)
        assert done.returncode == 125
        assert "vswap" in done.stderr
        assert "Traceback" not in done.stderr
    assert child.cli("run", "true", VSWAP_LIB="/nowhere").returncode == 125


def test_the_report_names_everything_once(child: Child) -> None:
    done = child.cli("run", "--report", "--ram", "64M", "true")
    for words in ("RAM budget         64.0 MiB", "highest RAM held   20.0 MiB", "unmanaged",
                  "most swapped out", "compression ratio  4.00", "one word", "100 (none)",
                  "5.1 us", "1,000, 0", "refaults, active", "written", "read", "waited", "this one"):  # fmt: skip
        assert words in done.stderr, words
    assert done.stdout == ""


def test_every_process_of_the_tree_has_its_slot(child: Child, tmp_path: Path) -> None:
    _, told = report(child, tmp_path, "sh", "-c", "true | cat; sh -c 'kill -9 $$'; true")
    assert told["processes"] >= 3  # type: ignore[operator]
    assert told["ram_budget_bytes"] == 64 << 20


def test_a_report_that_cannot_be_written_starts_nothing(child: Child, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    done = child.cli("run", "--report-json", "/no/such/dir/r", "--ram", "64M", "touch", str(mark))
    assert done.returncode == 125
    assert not mark.exists()


def test_a_command_that_escapes_is_told_and_ends_with_125(child: Child) -> None:
    words = ("run", "--report", "--ram", "64M", "true")
    done = child.cli(*words, FAKE_ENGINE="absent")
    assert done.returncode == 125
    assert "never under vswap" in done.stderr
    allowed = child.cli("run", "--allow-unmanaged", *words[1:], FAKE_ENGINE="absent")
    assert allowed.returncode == 0
    assert "vswap report" in allowed.stderr


def test_a_command_too_small_for_an_engine_is_no_escape(child: Child) -> None:
    done = child.cli("run", "--report", "--ram", "64M", "true", FAKE_ENGINE="idle")
    assert done.returncode == 0
    assert "no engine was needed" in done.stderr


def test_a_static_program_is_refused_unless_allowed(child: Child, tmp_path: Path) -> None:
    source, static = tmp_path / "s.c", tmp_path / "static"
    source.write_text("int main(void) { return 3; }")
    subprocess.run(["cc", "-static", str(source), "-o", str(static)], check=True)
    done = child.cli("run", "--ram", "64M", str(static))
    assert done.returncode == 125
    assert "statically linked" in done.stderr
    allowed = child.cli("run", "--allow-unmanaged", "--ram", "64M", str(static))
    assert allowed.returncode == 3
    assert "unmanaged" in allowed.stderr


def test_vswap_off_runs_the_command_without_anything(child: Child) -> None:
    shell = "echo ${LD_PRELOAD:-none} ${VSWAP_RAM:-none}"
    done = child.cli("run", "--ram", "64M", "sh", "-c", shell, VSWAP="off", VSWAP_LIB="/nowhere")
    assert done.stdout == "none none\n"


def test_the_run_path_imports_little(child: Child) -> None:
    # How long it takes is a figure, not a test: `make figures`.
    probe = (
        "import sys\nbefore = set(sys.modules)\nsys.argv = ['vswap', 'run', '--ram', '64M', 'true']\n"
        "import os\nos.execve = lambda *a: (print(sorted({*sys.modules} - before)), os._exit(0))\n"
        "sys.stdout.reconfigure(line_buffering=True)\n"
        "from vswap.cli.main import main\nmain()"
    )
    loaded = set(eval(child(probe)))
    heavy = {
        "numpy",
        "rich",
        "argparse",
        "re",
        "typing",
        "cffi",
        "ctypes",
        "enum",
        "json",
        "shutil",
    }
    assert not loaded & heavy
    assert len(loaded) <= RUN_PATH_MODULES_MOST, sorted(loaded)


def test_a_report_imports_no_more_than_it_has_to(child: Child) -> None:
    probe = (
        "import sys\nsys.argv = ['vswap', 'run', '--report', '--ram', '64M', 'true']\n"
        "from vswap.cli.main import main\nmain()\nprint(sorted(sys.modules))"
    )
    loaded = set(eval(child(probe)))
    assert not loaded & {
        "numpy",
        "rich",
        "argparse",
        "re",
        "typing",
        "cffi",
        "ctypes",
        "enum",
        "json",
    }
