"""The client of the control socket, against a stand-in for the engine."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from vswap.cli import check, swapoff, swapon
from vswap.cli.progress import bytes_bar
from vswap.errors import ConfigError, VswapError
from vswap.monitor import sockets
from vswap.monitor.control import CancelledError, Control, RefusedError, encode
from vswap.monitor.sockets import Endpoint, endpoint, endpoints_of, parse_target

HELLO = {"ok": True, "result": {"protocol": 1, "version": "0", "build_id": "b", "space": 0}}
Script = Callable[[bytes], list[object]]


class FakeEngine:
    """Answers each line with what the script says; None hangs up."""

    def __init__(self, script: Script) -> None:
        self.name = f"vswap-test/{os.getpid()}/{id(self)}"
        self.lines: list[bytes] = []
        self._script = script
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind("\0" + self.name)
        self._server.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def endpoint(self) -> Endpoint:
        return Endpoint(os.getpid(), 0, "fake", self.name)

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, client.makefile("rb") as lines:
                for line in lines:
                    self.lines.append(line)
                    with suppress(BrokenPipeError):
                        if self._answer(client, line):
                            continue
                    break

    def _answer(self, client: socket.socket, line: bytes) -> bool:
        for part in [HELLO] if line == b"hello\n" else self._script(line):
            if part is None:
                return False
            raw = part if isinstance(part, bytes) else json.dumps(part).encode() + b"\n"
            client.sendall(raw)
        return True


@pytest.fixture
def fake() -> Iterator[Callable[[Script], FakeEngine]]:
    """Makes stand-ins and ends them."""
    made: list[FakeEngine] = []

    def make(script: Script) -> FakeEngine:
        made.append(FakeEngine(script))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


Fake = Callable[[Script], FakeEngine]


def test_the_answer_follows_any_number_of_progress_lines(fake: Fake) -> None:
    def script(_: bytes) -> list[object]:
        steps = [{"progress": {"done_bytes": n, "total_bytes": 4}} for n in (1, 2, 3)]
        return [*steps, {"ok": True, "result": {"moved_bytes": 4}}]

    engine = fake(script)
    seen: list[tuple[int, int]] = []
    with Control(engine.endpoint()) as control:
        answer = control.ask("swapoff", "/a b", on_progress=lambda *both: seen.append(both))
        assert control.ask("check") == {"moved_bytes": 4}
    assert answer == {"moved_bytes": 4}
    assert seen == [(1, 4), (2, 4), (3, 4)]
    assert engine.lines == [b"hello\n", b"swapoff /a%20b\n", b"check\n"]


def test_a_refusal_is_the_engines_own_sentence(fake: Fake) -> None:
    engine = fake(lambda _: [{"ok": False, "error": "the rest does not fit"}])
    with Control(engine.endpoint()) as control, pytest.raises(RefusedError, match="does not fit"):
        control.ask("swapoff", "/x")


def test_what_was_cancelled_says_so_and_a_success_that_came_first_is_one(fake: Fake) -> None:
    def stopped(line: bytes) -> list[object]:
        return [{"ok": False, "error": "given up"}] if line == b"cancel\n" else []

    def late(line: bytes) -> list[object]:
        return [{"ok": True, "result": {"moved_bytes": 1}}] if line == b"cancel\n" else []

    for script in (stopped, late):
        with Control(fake(script).endpoint()) as control:
            threading.Timer(0.05, control.cancel).start()
            if script is late:
                assert control.ask("swapoff", "/x") == {"moved_bytes": 1}
            else:
                with pytest.raises(CancelledError, match="given up"):
                    control.ask("swapoff", "/x")


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        (b"no json\n", "no answer"),
        (b"[1]\n", "no answer"),
        (b'{"half":', "hung up"),
        (None, "hung up"),
        (b"x" * (2 << 20), "no answer"),
    ],
)
def test_an_engine_that_answers_nonsense_is_one_clear_error(
    fake: Fake, part: bytes | None, sentence: str
) -> None:
    engine = fake(lambda _: [part, None])
    with Control(engine.endpoint()) as control, pytest.raises(VswapError, match=sentence):
        control.ask("check")


def test_an_engine_that_says_nothing_is_not_waited_for_forever() -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0vswap-test/{os.getpid()}/silent")
        server.listen()
        silent = Endpoint(os.getpid(), 0, "silent", f"vswap-test/{os.getpid()}/silent")
        with pytest.raises(VswapError, match="does not answer"):
            Control(silent, patience=0.05)


def test_another_protocol_is_refused_by_number(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(HELLO, "result", {"protocol": 7})
    with pytest.raises(VswapError, match="speaks protocol 7"):
        Control(fake(lambda _: []).endpoint())


def test_somebody_else_at_the_name_is_not_believed(fake: Fake) -> None:
    engine = fake(lambda _: [])
    with pytest.raises(VswapError, match="another process has its name"):
        Control(Endpoint(1, 0, "init", engine.name))
    with pytest.raises(VswapError, match="cannot be asked"):
        Control(Endpoint(os.getpid(), 0, "gone", "vswap-test/nobody"))


def test_words_are_written_so_that_every_byte_comes_through() -> None:
    assert encode(("swapon", "/a b%\n:2G")) == b"swapon /a%20b%25%0A:2G\n"
    assert encode(("swapoff", "/\udcff\u00e9")) == b"swapoff /%FF%C3%A9\n"


def process_tree(proc: Path, pid: int, start: int, names: list[str], inner: int) -> None:
    """A /proc with one process in it, which listens at the names."""
    folder = proc / str(pid)
    (folder / "net").mkdir(parents=True)
    fields = " ".join(["0"] * 19 + [str(start)] + ["0"] * 30)
    (folder / "stat").write_text(f"{pid} (a) b (c)) {fields}\n")
    (folder / "status").write_text(f"Name:\tx\nNSpid:\t{pid}\t{inner}\n")
    (folder / "cmdline").write_bytes(b"/usr/bin/job\0--fast\0")
    rows = ["Num       RefCount Protocol Flags    Type St Inode Path"]
    rows += [f"00: 00000002 00000000 00010000 0001 01 5 {name}" for name in names]
    rows += ["00: 00000003 00000000 00000000 0001 03 6 @vswap/7/99/2", "00: 0 0 0 0 0 0"]
    (folder / "net" / "unix").write_text("\n".join(rows) + "\n")


def test_an_engines_names_are_told_from_all_others(tmp_path: Path) -> None:
    names = [
        "@vswap/7/99/1",
        "@vswap/7/99",
        "@vswap/7/999",
        "@vswap/7/99/x",
        "@vswap/77/99",
        "/tmp/s",
    ]
    process_tree(tmp_path, 4007, 99, names, 7)
    found = endpoints_of(4007, str(tmp_path))
    assert [(one.pid, one.space, one.name) for one in found] == [
        (4007, 0, "vswap/7/99"),
        (4007, 1, "vswap/7/99/1"),
    ]
    assert found[0].command == "job --fast"
    assert [str(one) for one in found] == ["4007", "4007/1"]
    assert endpoints_of(4008, str(tmp_path)) == []


def test_one_of_several_spaces_is_named(tmp_path: Path) -> None:
    process_tree(tmp_path, 4007, 99, ["@vswap/7/99/1", "@vswap/7/99"], 7)
    assert endpoint("4007/1", str(tmp_path)).space == 1
    with pytest.raises(VswapError, match="2 spaces; name one with --pid: 4007, 4007/1"):
        endpoint("4007", str(tmp_path))


@pytest.mark.parametrize("text", ["", "x", "-1", "1/", "1/2/3", "1 ", "1/x", "9" * 11])
def test_what_is_no_process_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a process"):
        parse_target(text)
    assert parse_target("12") == (12, None)
    assert parse_target("12/3") == (12, 3)


def test_check_tells_broken_laws_and_ends_with_1(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"broken_count": 3, "broken": ["a page is lost", "a charge is wrong"]}
    engine = fake(lambda _: [{"ok": True, "result": broken}])
    monkeypatch.setattr(sockets, "endpoints_of", lambda *_: [engine.endpoint()])
    assert check.main(["--pid", str(os.getpid())]) == 1
    out = capsys.readouterr().out
    assert "3 laws are broken" in out
    assert "  a page is lost\n" in out
    assert "and 1 more" in out
    assert check.main(["--pid", str(os.getpid()), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["broken"] == broken["broken"]


DEVICE = {"path": "/a b", "kind": "file", "priority": -1, "state": "on", "error": 0,
          "capacity_bytes": 1 << 30, "used_bytes": 1 << 20, "written_bytes": 2 << 20, "read_bytes": 0,
          "errors": 0}  # fmt: skip


@pytest.fixture
def only(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Callable[[Script], FakeEngine]:
    """The stand-in is the one program there is."""

    def make(script: Script) -> FakeEngine:
        engine = fake(script)
        monkeypatch.setattr(sockets, "endpoints_of", lambda *_: [engine.endpoint()])
        monkeypatch.setattr(sockets, "only_program", lambda *_: os.getpid())
        return engine

    return make


def test_swapon_asks_for_what_was_said(only: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    engine = only(lambda _: [{"ok": True, "result": {"devices": [DEVICE]}}])
    assert swapon.main(["/a b:2G", "--priority", "5", "--kind", "file"]) == 0
    assert engine.lines[-1] == b"swapon /a%20b size=2147483648 priority=5 kind=file\n"
    assert capsys.readouterr().out == f"{os.getpid()}: /a b is on (file, 1.0 GiB, priority -1)\n"
    assert swapon.main(["/a:2G@7"]) == 0
    assert engine.lines[-1] == b"swapon /a size=2147483648 priority=7\n"
    assert swapon.main(["auto:2G"]) == 0
    assert engine.lines[-1] == b"swapon auto size=2147483648\n"
    capsys.readouterr()
    assert swapon.main(["relative", "--json"]) == 0
    assert engine.lines[-1] == f"swapon {os.getcwd()}/relative\n".encode()
    assert json.loads(capsys.readouterr().out)["capacity_bytes"] == 1 << 30


def test_swapon_shows_every_device(only: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    only(lambda _: [{"ok": True, "result": {"devices": [DEVICE, {**DEVICE, "path": "/z"}]}}])
    assert swapon.main(["--show", "--pid", str(os.getpid())]) == 0
    title, *rows = capsys.readouterr().out.splitlines()
    assert title.split()[:4] == ["PID", "DEVICE", "KIND", "PRIORITY"]
    assert [row.split("  ")[1].strip() for row in rows] == ["/a b", "/z"]
    assert swapon.main(["--show", "--json", "--pid", str(os.getpid())]) == 0
    assert [d["path"] for d in json.loads(capsys.readouterr().out)] == ["/a b", "/z"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--show", "/a"],
        ["--show", "--priority", "1"],
        ["/a", "--kind", "tape"],
        ["/a", "--priority", "high"],
        ["/a", "/b"],
    ],
)
def test_options_of_swapon_that_make_no_sense_are_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        swapon.main(words)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["/a:0"], "too small"),
        (["/a:99999999999T"], "64 bits"),
        (["/a:1X"], "not a size"),
        ([""], "missing"),
        (["/a", "--priority", "-1"], "0 to 32767"),
        (["/a@7", "--priority", "7"], "twice"),
        (["/a", "--pid", "me"], "not a process"),
    ],
)
def test_a_device_that_cannot_be_is_named(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        swapon.main(words)


def test_swapoff_tells_what_moved_or_the_engines_sentence(
    only: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    step = {"progress": {"done_bytes": 1, "total_bytes": 2}}
    engine = only(lambda _: [step, {"ok": True, "result": {"moved_bytes": 2 << 20}}])
    assert swapoff.main(["/a b"]) == 0
    assert engine.lines[-1] == b"swapoff /a%20b\n"
    assert capsys.readouterr().out == f"{os.getpid()}: /a b is off (2.0 MiB moved)\n"
    assert swapoff.main(["auto", "--json"]) == 0
    assert engine.lines[-1] == b"swapoff auto\n"
    told = json.loads(capsys.readouterr().out)
    assert told == {"pid": os.getpid(), "space": 0, "path": "auto", "moved_bytes": 2 << 20}
    only(lambda _: [{"ok": False, "error": "it does not fit"}])
    with pytest.raises(RefusedError, match="does not fit"):
        swapoff.main(["/a"])


def test_an_interrupt_ends_swapoff_in_order_with_130(
    only: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    def script(line: bytes) -> list[object]:
        if line == b"cancel\n":
            return [{"ok": False, "error": "given up; it is still on"}]
        os.kill(os.getpid(), signal.SIGINT)
        return [{"progress": {"done_bytes": 1, "total_bytes": 2}}]

    engine = only(script)
    before = signal.getsignal(signal.SIGINT)
    assert swapoff.main(["/a"]) == 130
    assert engine.lines[-1] == b"cancel\n"
    assert "still on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_a_bar_shows_bytes_where_somebody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with bytes_bar("swapoff [/a]") as show:
        show(1 << 20, 4 << 20)
        show(4 << 20, 4 << 20)
    assert capsys.readouterr().out == ""
