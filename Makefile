# Needs Python 3.11, make and a package index. Everything runs in .venv, installed from requirements.lock.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
WORKERS ?= 2
SUITE := tests --ignore tests/benchmarks
# A worker keeps the tests of a file together, with what they share, and takes from another when it is done.
SPREAD := -n $(WORKERS) --dist worksteal
# Reaches the command through the environment, so that the shell reads nothing in it; make itself takes $$ for $.
export TEXT ?= Free entry in a weekly competition, text WIN now

BIN := .venv/bin
# The stamp bears the content of what it was made from: touching a file installs nothing, changing it does.
READY := .venv/.ready-$(shell cat requirements.lock pyproject.toml | cksum | cut -d' ' -f1)

COMPILED := .venv/.compiled

# Modules are compiled once, too: the tests start a hundred processes. Not beside the sources, whatever the caller's shell
# says of that.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/pycache

.PHONY: help run test check lint types nightly bench reproduce figures golden pages docs lock clean
.DEFAULT_GOAL := help

help:
	@echo "make run      a whole Mixture-of-Experts model in private on a real text (TEXT=... for another)"
	@echo "make test     lint, types and all tests but the nightly ones"
	@echo "make check    the quick gate: lint, types and the quick tests, with a quarter of the examples"
	@echo "make nightly  the long campaigns"
	@echo "make bench    goals of speed"
	@echo "make reproduce  every table of the README and of docs/reproduction.md: measures for minutes, writes them all"
	@echo "make figures  measures anew what takes hours (accuracy, attacks, audits, SPU), and writes them all"
	@echo "make golden   record anew what every protocol puts on the wire"
	@echo "make pages    the pages in a real browser (needs Debian's chromium)"
	@echo "make docs     the reference pages, in ./site"
	@echo "make lock     renew requirements.lock"
	@echo "make clean    remove caches and .venv; ./runs is kept"

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "expected Python 3.11, got $$($(PYTHON) --version 2>&1); give another with make PYTHON=/path/to/python3.11"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index -e .
	@rm -f .venv/.ready-* $(COMPILED)
	@touch $@

# Kernels are compiled once and cached, before anything is measured or waits for a peer with a time limit.
$(COMPILED): $(READY)
	@echo "compiling kernels"
	@d=$$(mktemp -d) && $(BIN)/secmoe run hi --out $$d/hi.secmoe > /dev/null && rm -r $$d
	@touch $@

run: $(COMPILED)
	$(BIN)/secmoe run "$$TEXT"

lint: $(READY)
	$(BIN)/ruff check .

types: $(READY)
	$(BIN)/mypy

test: $(COMPILED) lint types
	$(BIN)/python -m pytest $(SUITE) -m "not nightly and not pages" $(SPREAD)

check: $(COMPILED) lint types
	$(BIN)/python -m pytest $(SUITE) -m "not nightly and not slow and not bench and not pages" --hypothesis-profile quick $(SPREAD)

nightly: $(COMPILED)
	$(BIN)/python -m pytest $(SUITE) -m nightly

bench: $(READY)
	$(BIN)/python -m pytest -m bench tests/benchmarks

RENDER = $(BIN)/secmoe reproduce docs --readme README.md

# What takes minutes is measured, everything is rendered.
reproduce: $(COMPILED)
	$(BIN)/python -m secmoe.figures
	$(BIN)/python tools/kernels.py
	$(RENDER)

# What takes hours: accuracy, attacks, audits, and SPU in an environment of its own.
figures: $(COMPILED)
	$(BIN)/python -m secmoe.figures capacity evaluate attack audits
	$(BIN)/python tools/spu_side_by_side.py --all
	$(RENDER)

golden: $(READY)
	$(BIN)/python -m tests.golden_runs

EXTRAS := .venv/.extras

# What only `make pages` and `secmoe audit --cluster` need.
$(EXTRAS): $(READY) requirements-extras.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: -r requirements-extras.lock
	@touch $@

pages: $(EXTRAS)
	$(BIN)/python -m pytest tests -m pages

docs: $(READY)
	$(BIN)/python docs/build.py site

COMPILE = .venv/lock/bin/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --no-header \
	  --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

lock: $(READY)
	@test -x .venv/lock/bin/pip-compile || { $(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet pip-tools; }
	$(COMPILE) --extra test --build-deps-for editable --output-file requirements.lock pyproject.toml
	$(COMPILE) --extra cluster --extra pages --constraint requirements.lock --output-file requirements-extras.lock pyproject.toml

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks .numba_cache
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
