# Two commands for a fresh machine: `make demo` and `make test`. Python 3.11+, git and make are enough for both.
PYTHON ?= python3
VENV := .venv
CORE := $(VENV)/core.stamp
DEV := $(VENV)/dev.stamp
BIN := $(VENV)/bin

.PHONY: demo test check proof lab console bench clean lock

demo: $(CORE) ## gather, diagnose and propose on a recorded real incident; with a terminal it asks, commits, verifies, rolls back
	@$(BIN)/advisor demo

test: $(DEV) ## the whole test suite; parts that need an absent program skip by name
	$(BIN)/python -m pytest -n auto --dist loadfile --ignore tests/e2e
	$(BIN)/python -m pytest tests/e2e

check: $(DEV) ## format, lint, types, import contracts
	$(BIN)/ruff format --check advisor tests bench
	$(BIN)/ruff check advisor tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/advisor playbooks lint

proof: $(DEV) ## the proofs of the invariants at full size, and their table in docs/proof.md; takes hours
	$(BIN)/python -m tests.proof

lab: $(DEV) ## real JVMs, a real Prometheus, real git: bring the incidents about and take them through the whole loop
	$(BIN)/python -m tests.lab.loop

console: $(CORE)
	@echo "the review console is not built yet; use 'advisor incidents', 'advisor show', 'advisor approve'" && exit 2

bench: $(DEV) ## measurements, each against a named rival in the same run
	$(BIN)/python -m bench

lock: ## pin every dependency with hashes; needs uv
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml locks/build.in -o locks/core.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra dev pyproject.toml locks/build.in -o locks/dev.txt
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --all-extras pyproject.toml locks/build.in -o locks/all.txt

clean:
	rm -rf $(VENV) .demo .lab .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(CORE): locks/core.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/core.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q advisor
	@touch $@

$(DEV): locks/dev.txt $(CORE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	@touch $@
