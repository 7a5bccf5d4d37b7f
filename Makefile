# `make demo` and `make test` need nothing but Python 3.11 or newer; they make their own environment in .venv.
# Another build of torch, a mirror, a proxy: make demo PIP_ARGS="--index-url URL"

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP_ARGS ?=
# The first Python that is new enough.
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
# Two test processes with one thread each: more threads than cores only slow each other down.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist worksteal

.PHONY: demo test test-slow lint format bench clean help

help:
	@echo "make demo       draw phantoms, train on them, write a report (a few minutes)"
	@echo "make test       the fast tests"
	@echo "make test-slow  the long ones, and those on real images (SYNTHOMA_DATA)"
	@echo "make lint       style, types and the layers of the house"
	@echo "make bench      the benchmarks that need no GPU (benchmarks/README.md)"

demo: $(VENV)/.base
	$(BIN)/synthoma demo --out demo-run --data demo-data

test: $(VENV)/.dev
	$(PYTEST) -m "not slow"

test-slow: $(VENV)/.dev
	$(PYTEST) -m slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/plain_loop.py
	$(BIN)/python benchmarks/flops.py
	$(BIN)/python benchmarks/growth_cost.py

clean:
	rm -rf demo-run demo-data .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No python3 was found. Install Python 3.11 or newer, or name one: make demo PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11. Name a newer one: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "$(PYTHON) comes without its venv module. On Debian and Ubuntu: apt install python3-venv; then run make again."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Base and extras go into the same environment, each only when what it is made from changed.
$(VENV)/.base: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.base
