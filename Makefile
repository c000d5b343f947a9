# Everything a person or CI types. Each target makes its own .venv from the hash-pinned locks.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
T      ?= tests
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet

# The tests start some hundred Python processes: compiled once, not by each of them.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test check lint types imports fast interop bench docs lock clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(VENV)/run.stamp: requirements/run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "certmint needs Python 3.11 or newer: set PYTHON=python3.x"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/run.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: requirements/dev.lock $(VENV)/run.stamp
	@echo "installing the locked test dependencies into $(VENV)"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

demo: $(VENV)/run.stamp ## play the whole router story, on real parts, in ./demo
	@$(BIN)/certmint demo --folder demo

test: $(VENV)/dev.stamp ## every test, the slow and the system-level ones too (T=path for some)
	@$(BIN)/python -m pytest $(T)

check: lint types imports fast ## lint, types, import contracts and the fast tests: under two minutes

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/dev.stamp
	@$(BIN)/mypy

imports: $(VENV)/dev.stamp
	@$(BIN)/lint-imports --no-cache

fast: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" tests

interop: $(VENV)/dev.stamp ## real clients against the real server, on loopback: under two minutes
	@$(BIN)/python -m pytest tests/interop

bench: $(VENV)/dev.stamp ## measure the workloads against their limits, as ratios
	@$(BIN)/python -m bench

docs: $(VENV)/run.stamp ## draw the generated pages anew
	@$(BIN)/python docs/generate.py

lock: ## resolve the locks anew (maintainers; needs uv on PATH)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -q -o requirements/run.lock requirements/run.in
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -q -c requirements/run.lock -o requirements/dev.lock requirements/dev.in

clean: ## remove the virtual environment, caches and the demo's folder
	rm -rf $(VENV) demo .mypy_cache .pytest_cache .ruff_cache .hypothesis
