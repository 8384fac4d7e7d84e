# make setup | demo | test | test-all | faults | docs | lint | lock.  PYTHON=python3.13 make test uses another interpreter.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.unetjax-$(notdir $(PYTHON))

# Bytecode is written, also where the environment says otherwise: without it every process
# compiles all modules that it imports, which takes seconds.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: setup demo test test-all faults docs lint lock
.DEFAULT_GOAL := setup

setup: $(STAMP)

# uv inside the environment when it can be had (seconds), else pip (about a minute and a half).
# stardist is taken for the micrograph it carries, never imported: hence no dependencies, and no
# failure where it has no wheel (the demo then draws synthetic cells and says so).
$(STAMP): pyproject.toml requirements.lock Makefile
	@echo "==> setting up $(VENV) with $$($(PYTHON) --version)"
	@rm -f $(VENV)/.unetjax-*
	$(PYTHON) -m venv --clear $(VENV)
	@if $(BIN)/python -m pip install --quiet --disable-pip-version-check uv 2>/dev/null; then \
	  echo "==> installing the locked packages with uv" && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock && \
	  $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e . ; \
	else \
	  echo "==> installing the locked packages with pip" && \
	  $(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock && \
	  $(BIN)/python -m pip install --quiet --no-deps -e . ; \
	fi
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: stardist==0.9.2 \
	  || echo "==> no stardist wheel for this Python: the demo will use synthetic cells"
	@touch $@

# Large pages of memory, where Linux gives them on request: a step on a CPU is up to a fifth faster.
demo: setup
	GLIBC_TUNABLES=glibc.malloc.hugetlb=1 $(BIN)/unetjax demo

# Linters first: they take seconds. One process per core, since compilation, which takes most
# of the time, uses one core. Tests of a file share compiled programs, so they stay together;
# the last files are small ones, so no core waits long for the other.
test: lint
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder

# Also those marked slow: real training and long studies.
test-all: lint
	$(BIN)/python -m pytest --numprocesses=auto --dist=loadfile --no-loadscope-reorder -m "slow or not slow"

# The tests of every fault of docs/reliability.md, long ones included, and their table.
faults: setup
	$(BIN)/python -m tests.faults

# The documentation site, site/index.html; a warning is an error. Notebooks are run, a few minutes each on a busy machine.
docs: setup
	UNETJAX_RUN_NOTEBOOKS=1 $(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs site

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check

lock:
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate \
	  pyproject.toml --extra experiments --extra dev -o requirements.lock
