# Everything a newcomer needs. `make help` lists it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(shell find protos -name '*.proto')

.DEFAULT_GOAL := help
.PHONY: $(shell sed -nE 's/^([a-z0-9-]+):.*##.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 24

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

gen: $(VENV)/.ready ## generate Python code and docs/api from protos/, docs, CRDs
	@$(BIN)/python hack/gen.py && touch $(VENV)/.generated
	@$(BIN)/python hack/apidoc.py
	@$(BIN)/python hack/runbooks.py
	@$(BIN)/python hack/settings_page.py
	@$(BIN)/python hack/crds.py

golden-manifests: setup ## write tests/golden/kubernetes again after a change of what the operator makes: read the difference
	@PYTHONPATH=tests/support $(BIN)/python tests/support/golden_manifests.py

lock: $(VENV)/.ready ## pin all dependencies anew, those of run time alone, and what builds the wheel (needs uv)
	uv pip compile pyproject.toml --extra dev --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 -o requirements.lock
	uv pip compile pyproject.toml --constraint requirements.lock --universal --generate-hashes --no-emit-index-url \
		--no-emit-find-links --python-version 3.11 -o requirements-run.lock
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
		| uv pip compile - --constraint requirements.lock --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
			--python-version 3.11 --custom-compile-command "make lock" -o requirements-build.lock

up: setup ## run the whole platform here, in the foreground
	@$(BIN)/betting up

demo: setup ## faults, healed, and an audit; the same without the healer: the proof, six minutes
	@$(BIN)/betting demo

quiet: setup ## eight minutes of what must not alarm the healer
	@$(BIN)/betting quiet

# Most integration tests wait for something most of the time: one more at a time than there are processors.
test: setup ## run the tests
	@$(BIN)/python -m pytest -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder

test-kubernetes: setup ## run the tests against a real Kubernetes API server (built with Go the first time: minutes)
	@$(BIN)/python hack/minicluster/build.py etcd kube-apiserver kubectl helm forward >/dev/null
	@$(BIN)/python -m pytest tests/kubernetes -n $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile

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
	@$(BIN)/python hack/crds.py --check

image: setup ## build the container image, and .cluster/images/betting.tar: make image IMAGE="--all-targets"
	@$(BIN)/python hack/image.py $(IMAGE) --output .cluster/images/betting.tar

image-check: setup ## build and start every target with buildah, break the databases (root)
	@$(BIN)/python hack/image_check.py

bench: setup ## run the benchmarks: a table and JSON
	@$(BIN)/betting bench

ONLY ?=
bench-operator: setup ## operator and healer with 2,000 nodes, 200 bet-services of which 50 exit (Go the first time): make bench-operator ONLY=storm
	@PYTHONPATH=tests/support $(BIN)/python tests/bench/operator_scale.py $(if $(ONLY),--only $(ONLY))

cluster: ## a Kubernetes cluster of three nodes here: by kind, or without a container engine as root
	@$(PYTHON) hack/cluster.py up

platform: setup ## the platform in that cluster: image, chart, examples/platform.yaml, with the time of each step
	@$(BIN)/python hack/bring_up.py $(PLATFORM)

cluster-down: ## remove that cluster
	@$(PYTHON) hack/cluster.py down

cluster-check: ## bring it up and down five times, try what it should do, see that nothing is left (minutes)
	@$(PYTHON) hack/cluster.py check

E2E ?=
e2e: setup ## prove it on a real Kubernetes cluster, brought up and removed again (root; half an hour): make e2e E2E="--only drain --keep"
	@$(BIN)/python tests/e2e/kubernetes $(E2E)

e2e-core: setup ## its ten-minute core
	@$(BIN)/python tests/e2e/kubernetes --core $(E2E)

HEAL ?=
e2e-heal: setup ## prove its healing there: each fault three times, and without the healer (root): make e2e-heal HEAL="--only bet-killed"
	@$(BIN)/python tests/e2e/kubernetes/heal.py $(HEAL)

e2e-heal-core: setup ## its core, once each: ten minutes
	@$(BIN)/python tests/e2e/kubernetes/heal.py --core $(HEAL)

HOURS ?= 2
soak: setup ## random faults under load in that cluster, an audit at the end (root): make soak HOURS=2 HEAL="--seed 7"
	@$(BIN)/python tests/e2e/kubernetes/heal.py --soak-hours $(HOURS) $(HEAL)

clean: ## remove what was built (not the platform's data)
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache services/betting/v1 services/betting/internal
