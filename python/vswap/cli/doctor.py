"""``vswap doctor``: what this machine allows, and how to allow more."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from vswap.cli.tables import print_table
from vswap.doctor.checks import CHECKS, verdict
from vswap.doctor.userfaultfd import probe


def main(words: Sequence[str]) -> int:
    """Run the sub-command; status 1 where vswap cannot work."""
    parser = argparse.ArgumentParser(
        prog="vswap doctor",
        description="Say what this kernel and container allow, and how to allow more.",
        allow_abbrev=False,
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(list(words))
    uffd = probe()
    findings = [check(uffd) for check in CHECKS]
    works, sentence = verdict(uffd, findings)
    if given.json:
        told = {
            "works": works,
            "verdict": sentence,
            "findings": [finding.as_json() for finding in findings],
        }
        print(json.dumps(told, indent=2))
        return 0 if works else 1
    rows = [(f.name, f.status, f.found) for f in findings]
    print_table(("CHECK", "STATUS", "FOUND"), rows)
    for finding in findings:
        if finding.fix:
            print(f"to mend {finding.name}: {finding.fix}")
    print(sentence)
    return 0 if works else 1
