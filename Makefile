# Every target does its own set-up and can be run on a bare machine, in any order, again.
# Paths are relative throughout: the directory's name may have a space in it.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:

PY := .venv/bin/python
CARGO := cargo
export CARGO_NET_RETRY ?= 5
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help build demo test lint format bench figures fuzz wheel test-rust test-python test-old-kernel clean rust-toolchain library

help: ## these lines
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 18

build: library ## .venv/bin/vswap, with the engine it loads
	@tools/setup_venv base build
	@tools/install_package
	@echo "Built. Try: .venv/bin/vswap doctor"

demo: build ## the flights job plainly, then in a third of its memory
	@tools/setup_venv demo
	@tools/preloadable $(PY) tools/demo.py

test: build ## all tests: Rust, then Python, ending with pytest's summary
	@tools/install_packages test || echo "make test: the tests that need these will be skipped" >&2
	@tools/setup_venv demo dev
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory test-python

test-rust: rust-toolchain
	$(CARGO) test --locked --workspace --quiet

test-python:
	@if [ "$$(id -u)" != 0 ]; then set -- -m "not privileged"; fi; \
	tools/preloadable $(PY) -m pytest "$$@" $(PYTEST) </dev/null

lint: rust-toolchain ## rustfmt, clippy, ruff, mypy strict, and that the floors hold
	@tools/setup_venv base build demo dev
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/unit/test_floors.py

format: rust-toolchain ## what lint would ask for, done
	@tools/setup_venv base build demo dev
	$(CARGO) fmt --all
	$(PY) -m ruff check --fix --exit-zero .
	$(PY) -m ruff format .

bench: build ## vswap, zram and memmap side by side (BENCH="--quick" for options)
	@tools/preloadable .venv/bin/vswap bench $(BENCH)

figures: build ## measures the README's number (docs/figures.json) and writes it there
	@tools/setup_venv demo
	tools/preloadable $(PY) tools/figures.py

fuzz: rust-toolchain ## lives of the swap layer made of bytes, guided by coverage (SECONDS=60)
	@tools/install_packages fuzz
	@fuzz/run $(or $(SECONDS),60)

wheel: build ## dist/vswap-*.whl, one for this platform and any Python
	@rm -rf dist
	$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

test-old-kernel: build ## the core tests under Debian's own kernel in qemu (no UFFDIO_MOVE there)
	@tools/install_packages kernel
	@tools/setup_venv dev
	@tools/old-kernel/run

library: rust-toolchain
ifdef VSWAP_LIB
	@echo "Using the library $(VSWAP_LIB)"
else
	$(CARGO) build --locked --release --quiet --package vswap-preload
endif

rust-toolchain:
ifndef VSWAP_LIB
	@tools/install_packages build
	@command -v $(CARGO) >/dev/null || { echo "vswap's engine needs Rust 1.90 or newer: https://rustup.rs (or VSWAP_LIB=path of a built libvswap.so)" >&2; exit 1; }
endif

clean: ## everything that was made here
	rm -rf target .venv dist build python/vswap/_lib/libvswap.so.1 .mypy_cache .ruff_cache .pytest_cache
