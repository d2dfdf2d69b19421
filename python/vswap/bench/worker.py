"""One contender in a process of its own, so that no crash or leak touches another's figures."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from vswap.bench.contender import Contender, Unavailable
from vswap.bench.measure import measure, warm_up

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

CONTENDERS = ("vswap-thread", "vswap-signal", "zram-lz4", "zram-lzo-rle", "memmap")


def make_contender(name: str) -> Contender:
    """The contender of that name, not opened yet; imports only what it needs."""
    kind, _, variant = name.partition("-")
    if kind == "vswap":
        from vswap.bench.contender_vswap import VswapContender

        return VswapContender(variant)
    if kind == "zram":
        from vswap.bench.contender_zram import ZramContender

        return ZramContender(variant)
    from vswap.bench.contender_memmap import MemmapContender

    return MemmapContender()


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one contender, print its record as one line of JSON."""
    parser = argparse.ArgumentParser(prog="vswap.bench.worker")
    parser.add_argument("--contender", choices=CONTENDERS, required=True)
    parser.add_argument("--pages", type=int, required=True)
    parser.add_argument("--repeats", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cpu", type=int, required=True)
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    json.dump(_record(options), sys.stdout)
    print()
    return 0


def _record(options: argparse.Namespace) -> dict[str, object]:
    contender = make_contender(options.contender)
    try:
        contender.open(options.pages, options.data)
        os.sched_setaffinity(
            0, {options.cpu}
        )  # this thread only; the engine has placed its own by now
        warm_up(options.pages, options.repeats)
        outcome = measure(contender, options.pages, options.data, options.repeats)
    except Unavailable as reason:
        return {"status": "skipped", "reason": str(reason)}
    finally:
        contender.close()
    return {"status": "ok", **dataclasses.asdict(outcome)}


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Turn a signal into an ordinary way out, so that what was set up is taken down."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
