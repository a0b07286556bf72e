# Every target sets up what it needs; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help generate check-generated check test demo parity build

help: ## List every target
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/' | expand -t 20

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev -e .
	@touch $@

generate: $(STAMP) ## Rewrite the generated lane from its source
	@$(BIN)/python tools/lanes.py generate

check-generated: $(STAMP) ## Prove that the generated lane is what its source says
	@$(BIN)/python tools/lanes.py check

check: check-generated ## Guard, lint, format and types; no tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

test: check ## All that CI runs
	$(BIN)/python -W error -X dev -m pytest

demo: $(STAMP) ## Run the example flow on both lanes
	@$(BIN)/python -m doubleweave.examples.audit

parity: $(STAMP) ## Compare the lanes on 20,000 random flows
	DOUBLEWEAVE_PARITY_EXAMPLES=20000 $(BIN)/python -m pytest -q tests/test_differential.py

build: $(STAMP) ## Build wheel and sdist into dist/
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check build
	@$(BIN)/python -m build --outdir dist
