# Two commands for a new user: `make quickstart`, `make test`.
# The first Python 3.11 or 3.12 that runs and can make an environment; the first on the path may be a pyenv shim whose
# version is not installed.
RUNS = import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))
ifndef PYTHON
PYTHON := $(shell IFS=:; for name in python3.11 python3.12 python3; do for folder in $$PATH; do \
  if "$$folder/$$name" -c '$(RUNS)' >/dev/null 2>&1; then echo "$$folder/$$name"; exit; fi; done; done)
endif
VENV ?= .venv
PARITY ?= .venv-parity
PEERS ?= .venv-peers
DOCS ?= .venv-docs
BIN = $(VENV)/bin
QUICKSTART ?= quickstart_run
# The lock is complete and hashed, so pip need not resolve: --no-deps also keeps out fasttext-predict, whose files
# would overwrite those of fasttext-numpy2-wheel.
PIP_LOCKED = install --quiet --no-deps --require-hashes --disable-pip-version-check

.PHONY: help quickstart install lint format types test test-slow test-parity parity-table peers docs picture lock clean

help:
	@echo "make quickstart    install, run the main job end to end (about 10 minutes), print where the report is"
	@echo "make test          install, run the tests: every behaviour once"
	@echo "make test-slow     the cross products, kills, fuzz and the benchmarks' own tests"
	@echo "make test-parity   install torch and transformers beside it, compare numbers with them; ALL=1: every family"
	@echo "make parity-table  print how far every family is from its reference"
	@echo "make peers         install what the web benchmarks are measured against"
	@echo "make docs          build the site of docs/ and the docstrings in build/site"
	@echo "make picture       write the README's picture of the report anew (needs Chromium)"
	@echo "make lint          ruff, mypy, import-linter   make format: ruff's formatting"
	@echo "make lock          write the lock files anew from setup.py (needs uv)"

install: $(VENV)/.installed

# One shell, one rename at the end: an interrupted installation starts over, a finished one is not repeated.
$(VENV)/.installed: requirements.lock setup.py
	@"$(PYTHON)" -c '$(RUNS)' >/dev/null 2>&1 || { \
	  echo "error: $(if $(PYTHON),$(PYTHON) is,found) no Python 3.11 or 3.12 that runs; give one: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV)
	$(BIN)/python -m pip $(PIP_LOCKED) -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --disable-pip-version-check -e .
	touch $@

quickstart: install
	$(BIN)/python -m t5x_style.quickstart --output $(QUICKSTART)

lint: install
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

types: install
	$(BIN)/python -m mypy

format: install
	$(BIN)/python -m ruff check --fix .
	$(BIN)/python -m ruff format .

# Two processes; a file's tests stay together, those of TensorFlow in one process (tests/conftest.py). QUARTER=0..3 runs
# every fourth test function, CI's spot check; in CI the 15 dearest tests are printed.
PYTEST = -m pytest -n 2 --dist loadfile $(if $(CI),--durations=15) $(if $(QUARTER),--quarter=$(QUARTER))

test: install
	$(BIN)/python $(PYTEST) --ignore=tests/parity -m "not slow" tests

test-slow: install
	$(BIN)/python $(PYTEST) --ignore=tests/parity -m slow tests

# torch has no hash: the CPU build that a machine offers under this version differs from the registry's.
$(PARITY)/.installed: $(VENV)/.installed requirements-parity.lock
	test -x $(PARITY)/bin/python || $(BIN)/python -m venv $(PARITY)
	$(PARITY)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(PARITY)/bin/python -m pip $(PIP_LOCKED) -r requirements-parity.lock
	echo "$(CURDIR)/$$(ls -d $(VENV)/lib/python3*/site-packages)" > $$(ls -d $(PARITY)/lib/python3*/site-packages)/t5x_style_core.pth
	touch $@

test-parity: $(PARITY)/.installed
	$(PARITY)/bin/python $(PYTEST) $(if $(ALL),,-m "not slow") tests/parity

parity-table: $(PARITY)/.installed
	JAX_PLATFORMS=cpu $(PARITY)/bin/python -m tests.parity.table --markdown

# What benchmarks/web_*.py are measured against: datatrove and others, apart from our own environment.
peers: $(PEERS)/.installed

$(PEERS)/.installed: $(VENV)/.installed requirements-peers.lock
	test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	$(PEERS)/bin/python -m pip $(PIP_LOCKED) -r requirements-peers.lock
	touch $@

# The site: pages of docs/ and the docstrings, read and never imported. A broken link fails. The variable only
# silences an advertisement in the output.
docs: $(DOCS)/.installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/python -m mkdocs build

$(DOCS)/.installed: requirements-docs.lock
	test -x $(DOCS)/bin/python || "$(PYTHON)" -m venv $(DOCS)
	$(DOCS)/bin/python -m pip $(PIP_LOCKED) -r requirements-docs.lock
	touch $@

# The README's picture, from a finished quickstart.
picture: install
	$(BIN)/python -m t5x_style.report.picture --quickstart $(QUICKSTART) --output docs/images/report.png

lock:
	uv pip compile requirements-peers.in --universal --python-version 3.11 --generate-hashes -q -o requirements-peers.lock
	uv pip compile requirements-parity.in --universal --python-version 3.11 --generate-hashes -c requirements.lock -q -o requirements-parity.lock
	uv pip compile setup.py --extra data --extra test --universal --python-version 3.11 --generate-hashes --override requirements-overrides.txt -q -o requirements.lock
	uv pip compile setup.py --universal --python-version 3.11 --generate-hashes -c requirements.lock -q -o requirements-core.lock
	uv pip compile requirements-docs.in --universal --python-version 3.11 --generate-hashes -c requirements.lock -q -o requirements-docs.lock

clean:
	rm -rf $(VENV) $(PARITY) $(PEERS) $(DOCS) build dist *.egg-info .mypy_cache .ruff_cache
