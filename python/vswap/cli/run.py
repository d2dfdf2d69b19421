"""``vswap run``: check everything, then execute the command or wait for it."""

from __future__ import annotations

import os
import sys

from vswap._library import require_library
from vswap.errors import ConfigError
from vswap.run.environment import command_environment, is_off
from vswap.run.inspect import unmanaged_reason
from vswap.run.options import RunOptions, parse_run
from vswap.run.resolve import (
    Command,
    CommandError,
    execute,
    resolve,
    restore_python_signals,
)
from vswap.run.swapspec import automatic_directories, automatic_directory, is_automatic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vswap.run.supervise import Ended
    from vswap.run.tree import ProcessRecord

OWN_FAILURE = 125


def main(words: Sequence[str]) -> int:
    """Run the sub-command."""
    environ = os.environ
    options = parse_run(words, environ)
    try:
        command = resolve(options.command, environ)
        if is_off(environ):
            return _run_plainly(command, options, environ)
        library = require_library()
        refusal = unmanaged_reason(command.path, command.argv, environ, library)
        if refusal is not None:
            if not options.allow_unmanaged:
                say(f"{refusal}; the command was not started (--allow-unmanaged starts it)")
                return OWN_FAILURE
            say(f"{refusal}; it runs unmanaged")
        _tell_of_missing_disk(options, environ)
        if options.wants_report:
            return _run_with_report(command, options, environ, library)
        _exec(command, command_environment(environ, options, library, None))
    except CommandError as error:
        say(str(error))
        return error.status
    return OWN_FAILURE


def say(sentence: str) -> None:
    """Write one line to stderr."""
    print(f"vswap: {sentence}", file=sys.stderr, flush=True)


def _exec(command: Command, environ: Mapping[str, str]) -> None:
    """Become the command."""
    restore_python_signals()
    execute(command, environ)


def _run_plainly(command: Command, options: RunOptions, environ: Mapping[str, str]) -> int:
    """Become the command without vswap, because VSWAP=off says so."""
    if options.wants_report:
        say("VSWAP=off: the command runs without vswap, and there is nothing to report")
    _exec(command, environ)
    return OWN_FAILURE


def _tell_of_missing_disk(options: RunOptions, environ: Mapping[str, str]) -> None:
    """Say that ``--swap auto`` found no disk: the run goes on, in compressed RAM alone."""
    if any(map(is_automatic, options.swap)) and automatic_directory(environ) is None:
        reasons = "; ".join(f"{d.path} {d.refusal}" for d in automatic_directories(environ))
        say(f"no place for a swap file ({reasons}): pages can only be compressed in RAM")


def _run_with_report(
    command: Command, options: RunOptions, environ: Mapping[str, str], library: str
) -> int:
    """Wait for the command, then report and end the way it ended."""
    from vswap.run.supervise import end_like, run_and_wait
    from vswap.run.tree import TreeMemory

    file = _open_report(options.report_json)
    tree = TreeMemory()
    started_in = command_environment(environ, options, library, tree.fd)
    ended = run_and_wait(command, started_in, lambda: _import_report(with_json=file is not None))
    records = tree.records()
    if not records and not tree.loaded:
        say("the command was never under vswap: the engine was not loaded in any process of it")
        if not options.allow_unmanaged:
            return OWN_FAILURE
    _write_reports(options, ended, records, file)
    return end_like(ended)


def _import_report(*, with_json: bool) -> None:
    """Import what reporting needs while the command runs, when it costs no time."""
    from importlib import import_module

    import_module("vswap.run.report")
    if with_json:
        import_module("json")


def _open_report(path: str | None) -> int | None:
    """Open the report's file before anything starts, so that a bad path starts nothing."""
    if path is None:
        return None
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ConfigError(f"the report cannot be written to {path}: {error.strerror}") from error


def _write_reports(
    options: RunOptions, ended: Ended, records: Sequence[ProcessRecord], file: int | None
) -> None:
    """Write the report to stderr, to the file, or to both."""
    from vswap.run.report import render_json, render_text, summarise

    summary = summarise(records, options.ram, ended.wall_seconds)
    if options.report:
        print(render_text(summary, ended, records), end="", file=sys.stderr, flush=True)
    if file is not None:
        import json

        with open(file, "w", encoding="utf-8") as out:
            json.dump(render_json(summary, ended, records, options.command), out, indent=2)
            out.write("\n")
