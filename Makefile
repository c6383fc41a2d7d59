# Every target first builds .venv from the hashed lock, if it is not there yet.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(BIN)/uv
COMPILE := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock"
# Processes of the test suite.
JOBS ?= 2
# Modules that benchmarks share begin with an underscore.
BENCHMARKS ?= $(sort $(patsubst benchmarks/%.py,%,$(wildcard benchmarks/[a-z]*.py)))

# Telemetry of every library is off.
export DO_NOT_TRACK = 1
export BENTOML_DO_NOT_TRACK = True

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): locks/uv.txt locks/all.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$$($(PYTHON) --version) is too old: Python 3.11 or newer is needed. Name one with make PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the locked packages into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
	@$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes locks/all.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: install
install: $(READY) ## Build .venv from the lock.

.PHONY: run
run: $(READY) ## Train a champion end to end: kedro run. Options in ARGS="--env quick".
	@$(BIN)/kedro run $(ARGS)

.PHONY: serve
serve: $(READY) ## Serve the champion on 127.0.0.1:8000: bentoml serve.
	@$(BIN)/bentoml serve $(ARGS)

.PHONY: rehearsal
rehearsal: $(READY) ## Play drift, alarm, retraining and swap, in a temporary folder.
	@$(BIN)/python -m fraud_kedro.simulation.rehearsal $(ARGS)

.PHONY: test
test: $(READY) ## Run the whole test suite. Options in ARGS="-m 'not slow'".
	@$(BIN)/pytest -n $(JOBS) $(ARGS)

.PHONY: bench
bench: $(READY) ## Run all benchmarks, one after the other. Some in BENCHMARKS="simulator data_scale".
	@mkdir -p benchmarks/results
	@failed=; for name in $(BENCHMARKS); do \
		echo "== $$name"; \
		$(BIN)/python benchmarks/$$name.py --json benchmarks/results/$$name.json || failed="$$failed $$name"; \
	done; \
	test -z "$$failed" || { echo "Failed:$$failed"; exit 1; }

.PHONY: lint
lint: $(READY) ## Check format, style, types and the directions of imports.
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: $(READY) ## Format the code.
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: viz
viz: $(READY) ## Open the pipelines in the browser: kedro viz.
	@$(BIN)/kedro viz run $(ARGS)

.PHONY: notebook
notebook: $(READY) ## Open Jupyter with catalog, context and pipelines loaded.
	@$(BIN)/kedro jupyter lab $(ARGS)

.PHONY: lock
lock: $(READY) ## Compile the locks anew from pyproject.toml.
	@$(COMPILE) --all-extras --fork-strategy fewest $(ARGS) pyproject.toml --output-file locks/all.txt
	@$(COMPILE) --extra serving --constraints locks/all.txt pyproject.toml --output-file locks/serving.txt
	@echo 'uv' | $(COMPILE) - --constraints locks/all.txt --output-file locks/uv.txt

.PHONY: clean
clean: ## Remove .venv and caches; data, models and logs stay.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
