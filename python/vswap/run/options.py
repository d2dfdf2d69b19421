"""The options of ``vswap run``: from the command line, else from VSWAP_*, else defaults.

Options end at the first word that is not one, so a command's own options need
no ``--``.  argparse cannot do that (its REMAINDER loses words) and takes
longer to import than everything else here together, so one table describes
the options, a loop reads what is right, and argparse, made from the same
table, explains what is wrong.
"""

from __future__ import annotations

from vswap._config_text import check_codec, check_dedup, check_faults, check_min_alloc
from vswap.errors import ConfigError
from vswap.run.groupspec import check_group
from vswap.run.limits import default_budget, memory_limit
from vswap.run.swapspec import check_direct, check_swaps, usual_swap
from vswap.sizes import check_floor, parse_budget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping, Sequence

SWITCH = None
"""In place of a metavar: the option takes no value."""

OPTIONS: tuple[tuple[str, str | None, str], ...] = (
    (
        "--ram",
        "SIZE|PERCENT",
        "RAM the whole process may hold: 300M, 1.5GiB, or 40%% of what the cgroup or the machine "
        "allows (default 70%%, at least 16M)",
    ),
    (
        "--swap",
        "none|[slots:]auto|PATH[:SIZE]",
        "where pages go that do not fit compressed; may be repeated (default auto: one file "
        "without a name in /var/tmp or $TMPDIR, at most SIZE; a file called auto is ./auto); "
        "slots:PATH and slots:auto are plain 4 KiB slots for pages that do not compress",
    ),
    ("--codec", "lz4|zstd[:LEVEL]|raw", "compression (default lz4; raw: none, for measuring)"),
    (
        "--dedup",
        "off|group|space",
        "which swapped pages with equal bytes share them: none, those of one group, all "
        "(default group)",
    ),
    (
        "--group",
        "NAME[:SETTING=VALUE,...]",
        "a group that all memory of the program belongs to, with its limits (ram_max, zswap_max, "
        "swap_max: a size; writeback: on or off; device: a path); 'vswap set' changes them",
    ),
    ("--faults", "auto|thread|signal", "fault delivery (default auto)"),
    (
        "--min-alloc",
        "SIZE",
        "smallest allocation that is managed (default auto: every one in thread mode, 64K in "
        "signal mode)",
    ),
    ("--direct", SWITCH, "no virtual swap layer, pages go to plain slots only: for measuring"),
    ("--report", SWITCH, "report to stderr when the command has ended"),
    ("--report-json", "PATH", "write the report to a file, as JSON"),
    ("--allow-unmanaged", SWITCH, "run the command even where it cannot come under vswap"),
)

_VALUED = frozenset(name for name, metavar, _ in OPTIONS if metavar is not SWITCH)
_SWITCHES = frozenset(name for name, metavar, _ in OPTIONS if metavar is SWITCH)
_TRUE = frozenset({"1", "yes", "true", "on"})
_FALSE = frozenset({"", "0", "no", "false", "off"})
_VIRTUAL = "VSWAP_VIRTUAL"


class RunOptions:
    """Everything ``vswap run`` was told, checked."""

    def __init__(
        self, given: Mapping[str, list[str]], command: Sequence[str], environ: Mapping[str, str]
    ) -> None:
        """Check every value, the environment's where none was given."""
        self.command = tuple(command)
        self.ram = _ram(_value(given, "--ram", environ))
        self.direct = "--direct" in given or _virtual_is_off(environ)
        specs = given.get("--swap") or _swaps(environ) or usual_swap(direct=self.direct)
        self.swap = tuple(check_swaps(specs, environ))
        if self.direct:
            check_direct(self.swap)
        self.codec = check_codec(_value(given, "--codec", environ) or "lz4")
        self.dedup = check_dedup(_value(given, "--dedup", environ) or "group")
        group = _value(given, "--group", environ)
        self.group = check_group(group) if group else None
        if self.direct and self.group:
            raise ConfigError("without the virtual layer nobody is charged: leave out --group")
        self.faults = check_faults(_value(given, "--faults", environ) or "auto")
        self.min_alloc = _min_alloc(_value(given, "--min-alloc", environ))
        self.report = "--report" in given or _switch("--report", environ)
        self.report_json = _value(given, "--report-json", environ) or None
        self.allow_unmanaged = "--allow-unmanaged" in given or _switch("--allow-unmanaged", environ)

    @property
    def wants_report(self) -> bool:
        """Whether a parent has to wait for the command."""
        return self.report or self.report_json is not None


def parse_run(words: Sequence[str], environ: Mapping[str, str]) -> RunOptions:
    """Return the checked options, or raise ConfigError.

    ``--help`` and wrong options leave by argparse's SystemExit.
    """
    own, command = divide(words)
    given = _read(own)
    if given is None:
        build_parser().parse_args(own)
        raise ConfigError(f"these options cannot be read: {' '.join(own)}")
    if not command:
        raise ConfigError("no command given; write: vswap run [options] COMMAND [ARG...]")
    return RunOptions(given, command, environ)


def divide(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Divide the words into vswap's own and the command's."""
    index = 0
    while index < len(words):
        word = words[index]
        if word == "--":
            return list(words[:index]), list(words[index + 1 :])
        if not word.startswith("-") or word == "-":
            break
        index += 2 if word in _VALUED else 1
    return list(words[:index]), list(words[index:])


def _read(own: list[str]) -> dict[str, list[str]] | None:
    """Return the values given to each option; None where argparse has to speak."""
    given: dict[str, list[str]] = {}
    words = iter(own)
    for word in words:
        name, equals, value = word.partition("=")
        if name in _SWITCHES and not equals:
            given[name] = []
        elif name in _VALUED:
            taken = value if equals else next(words, None)
            if taken is None:
                return None
            given.setdefault(name, []).append(taken)
        else:
            return None
    return given


def variable(name: str) -> str:
    """Return the environment variable of an option."""
    if name == "--direct":
        return _VIRTUAL
    return "VSWAP_" + name[2:].upper().replace("-", "_")


def _value(given: Mapping[str, list[str]], name: str, environ: Mapping[str, str]) -> str:
    """Return the last value given, else the environment's, else ''."""
    return given[name][-1] if name in given else environ.get(variable(name), "")


def _ram(text: str) -> int:
    """Return the budget in bytes."""
    if not text:
        return check_floor(default_budget())
    total = memory_limit().bytes if "%" in text else 0
    return check_floor(parse_budget(text, total))


def _min_alloc(text: str) -> int | None:
    """Return the threshold; None leaves it to the engine, by its fault delivery."""
    return check_min_alloc(text) if text and text != "auto" else None


def _swaps(environ: Mapping[str, str]) -> list[str]:
    """Return the swap specs of the environment."""
    text = environ.get("VSWAP_SWAP", "").replace("\n", ",")
    return [spec.strip() for spec in text.split(",") if spec.strip()]


def _virtual_is_off(environ: Mapping[str, str]) -> bool:
    """Return whether VSWAP_VIRTUAL says no."""
    value = environ.get(_VIRTUAL, "yes").strip().lower()
    if value not in ("yes", "no"):
        raise ConfigError(f"{_VIRTUAL} is yes or no, not {value!r}")
    return value == "no"


def _switch(name: str, environ: Mapping[str, str]) -> bool:
    """Return a switch of the environment."""
    value = environ.get(variable(name), "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise ConfigError(f"{variable(name)} is a switch: set it to 1 or 0, not {value!r}")
    return value in _TRUE


def build_parser() -> ArgumentParser:
    """Return an argparse parser of the same options, for help and for errors."""
    import argparse

    variables = ", ".join(variable(name) for name, _, _ in OPTIONS)
    parser = argparse.ArgumentParser(
        prog="vswap run",
        usage="vswap run [options] [--] COMMAND [ARG...]",
        description="Run an unmodified program inside a RAM budget.",
        epilog=f"Options end at the first word. Each may be set in the environment too: "
        f"{variables} (several swaps separated by commas); VSWAP=off switches vswap off. "
        f"Exit status: the command's own; 125 where vswap fails, 126 where the command "
        f"cannot be executed, 127 where it is not found.",
        allow_abbrev=False,
    )
    for name, metavar, text in OPTIONS:
        if metavar is SWITCH:
            parser.add_argument(name, action="store_true", help=text)
        else:
            parser.add_argument(name, metavar=metavar, action="append", help=text)
    return parser
