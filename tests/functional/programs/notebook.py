"""Writes the notebook that the jupyter test executes: a pandas job of the given number of rows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CELLS = [
    "import hashlib\nimport numpy as np\nimport pandas as pd",
    "rng = np.random.default_rng(7)\n"
    "rows = {rows}\n"
    "frame = pd.DataFrame({{'key': rng.integers(0, 1000, rows), 'value': rng.random(rows).round(3),"
    " 'flag': rng.random(rows) < 0.3}})",
    "parts = pd.concat([frame] * 4, ignore_index=True)\n"
    "names = pd.DataFrame({{'key': np.arange(1000), 'weight': np.arange(1000) / 8}})\n"
    "merged = parts.merge(names, on='key')",
    "result = merged.groupby('key').agg(total=('value', 'sum'), rows=('flag', 'sum'))\n"
    "result = result.sort_values('total').round(6)",
    "digest = hashlib.sha256(result.to_csv().encode()).hexdigest()\nprint('RESULT', digest)",
]


def main() -> None:
    target, rows = Path(sys.argv[1]), int(sys.argv[2])
    cells: list[dict[str, Any]] = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [],
            "source": source.format(rows=rows),
        }
        for number, source in enumerate(CELLS)
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    book = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    target.write_text(json.dumps(book))


main()
