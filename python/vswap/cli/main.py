"""The ``vswap`` command: choose the sub-command, and only then import it.

``vswap run`` stands before every program it runs, so nothing here may import
more than it needs (a test measures it).
"""

from __future__ import annotations

import sys

_COMMANDS = {
    "run": ("vswap.cli.run", "run a program inside a RAM budget"),
    "stat": ("vswap.cli.stat", "show the counters of running vswap programs"),
    "set": ("vswap.cli.set", "change the RAM budget of a running program"),
    "swapon": ("vswap.cli.swapon", "give a running program another swap device, or show them"),
    "swapoff": ("vswap.cli.swapoff", "take a swap device off a running program"),
    "check": ("vswap.cli.check", "check that everything adds up in a running program"),
    "doctor": ("vswap.cli.doctor", "say what this machine allows, and how to allow more"),
    "bench": ("vswap.bench.cli", "compare with the kernel's own swap"),
}

OWN_FAILURE = 125
"""Exit status of ``vswap run`` where vswap itself fails, as of nice and timeout."""


def main(words: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    words = sys.argv[1:] if words is None else words
    name = words[0] if words else "--help"
    if name in ("-h", "--help", "help"):
        print(usage(), end="")
        return 0 if words else 2
    if name in ("-V", "--version"):
        return _version()
    if name not in _COMMANDS:
        print(f"vswap: no such command: {name}\n{usage()}", end="", file=sys.stderr)
        return 2
    return _dispatch(name, words[1:])


def usage() -> str:
    """Return the list of sub-commands."""
    lines = [f"  {name:<8}{text}" for name, (_, text) in _COMMANDS.items()]
    return "\n".join(
        ["usage: vswap COMMAND ...", "", *lines, "", "vswap COMMAND --help says more.", ""]
    )


def _dispatch(name: str, rest: list[str]) -> int:
    """Import one sub-command and run it; every failure is one sentence on stderr."""
    from vswap.errors import VswapError

    failure = OWN_FAILURE if name == "run" else 1
    try:
        from importlib import import_module

        status: int = import_module(_COMMANDS[name][0]).main(rest)
    except SystemExit as exit_:
        # argparse ends with 2 for wrong options; under run that is an own failure.
        if name == "run" and exit_.code not in (0, None):
            return OWN_FAILURE
        raise
    except VswapError as error:
        print(f"vswap: {error}", file=sys.stderr)
        return failure if name == "run" or not isinstance(error, ValueError) else 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        return 130
    return status or 0


def _version() -> int:
    """Print the version of the package, and of the engine if it is there."""
    import vswap

    print(f"vswap {vswap.__version__}")
    return 0
