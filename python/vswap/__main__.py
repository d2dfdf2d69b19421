"""Run the command line as ``python -m vswap``."""

from vswap.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
