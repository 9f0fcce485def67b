# Everything a newcomer needs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto')

.DEFAULT_GOAL := help
.PHONY: help setup gen lock up demo quiet sim test lint bench clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

setup: $(VENV)/.ready $(VENV)/.generated ## create .venv with the locked dependencies and generate code

$(VENV)/.ready: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not installed: install Python 3.11 or newer, or say make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: install Python 3.11 or newer, or say make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "setting up $(VENV) (about a minute the first time) ..."
	@$(PYTHON) -m venv $(VENV) || { echo "could not create $(VENV): on Debian and Ubuntu, install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.generated: $(VENV)/.ready $(PROTOS) hack/gen.py
	@$(BIN)/python hack/gen.py
	@touch $@

gen: $(VENV)/.ready ## generate Python code and docs/api from protos/, docs/runbooks, docs/operating/settings.md
	@$(BIN)/python hack/gen.py && touch $(VENV)/.generated
	@$(BIN)/python hack/apidoc.py
	@$(BIN)/python hack/runbooks.py
	@$(BIN)/python hack/settings_page.py

lock: $(VENV)/.ready ## pin all dependencies anew, and those of run time alone (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 -o requirements.lock
	uv pip compile pyproject.toml --constraint requirements.lock --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --python-version 3.11 -o requirements-run.lock

up: setup ## run the whole platform here, in the foreground
	@$(BIN)/betting up

demo: setup ## faults, healed, and an audit; the same without the healer: the proof, six minutes
	@$(BIN)/betting demo

quiet: setup ## eight minutes of what must not alarm the healer
	@$(BIN)/betting quiet

# Most integration tests wait for something most of the time: one more at a time than there are processors.
test: setup ## run the tests
	@$(BIN)/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

SEEDS ?= 10000
FIRST_SEED ?= 1
sim: setup ## more simulated histories of faults: make sim SEEDS=10000
	@SEEDS=$(SEEDS) FIRST_SEED=$(FIRST_SEED) $(BIN)/python -m pytest tests/sim -o timeout=3600

lint: setup ## ruff, mypy (strict), import-linter, buf
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/buf lint protos
	@$(BIN)/python hack/apidoc.py --check
	@$(BIN)/python hack/runbooks.py --check
	@$(BIN)/python hack/settings_page.py --check

bench: setup ## run the benchmarks: a table and JSON
	@$(BIN)/betting bench

clean: ## remove what was built (not the platform's data)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache services/betting/v1 services/betting/internal
