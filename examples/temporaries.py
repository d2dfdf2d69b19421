"""A NumPy job that fits its budget: large results, and temporaries made in a loop.

Run it plainly and as `vswap run --ram 2G python examples/temporaries.py`: far from its budget a
program should not notice vswap. `make figures` measures that.
"""

import hashlib

import numpy as np

ROUNDS = 12


def main() -> None:
    """Work through arrays of 100 kB, 1 MB and 16 MB, and print a hash of what came out."""
    rng = np.random.default_rng(1)
    kept = [rng.random(2_000_000) for _ in range(8)]
    digest = hashlib.sha256()
    for round_number in range(ROUNDS):
        for size in (12_500, 125_000, 2_000_000):
            part = kept[round_number % len(kept)][:size]
            for _ in range(2_000_000 // size // 4 + 1):
                total = (np.sqrt(part * 2.0 + 1.0) - part).sum()
            digest.update(total.tobytes())
        kept[round_number % len(kept)] = np.sort(kept[round_number % len(kept)])
    print("sha256", digest.hexdigest())


if __name__ == "__main__":
    main()
