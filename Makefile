# Every target sets up what it needs. PYTHON chooses the interpreter; each choice has an environment of its own.
PYTHON ?= python3
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venvs/$(subst /,_,$(PYTHON)))
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help generate check-generated check test demo bench bench-check bench-write bench-peers
.PHONY: parity build

help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev -e .
	@touch $@

generate: $(STAMP) ## Rewrite the generated lane from its source
	@$(BIN)/python tools/lanes.py generate

check-generated: $(STAMP) ## Prove that the generated lane is what its source says
	@$(BIN)/python tools/lanes.py check

check: check-generated ## Guard, lint, format, types, layers and sizes; no other tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layers.py tests/test_sizes.py

test: check ## All that CI runs
	$(BIN)/python -W error -X dev -m pytest

demo: $(STAMP) ## Answer a question about this machine on both lanes
	@$(BIN)/python -m doubleweave.examples.audit

bench: $(STAMP) ## Measure what runs cost, beside loops written by hand
	@$(BIN)/python tools/bench.py

bench-check: $(STAMP) ## Measure, and fail when a ratio is 15 % worse than the kept one
	@$(BIN)/python tools/bench.py --check

bench-write: $(STAMP) ## Measure, and keep the results in docs/
	@$(BIN)/python tools/bench.py --write

bench-peers: $(STAMP) ## Measure other libraries at the same work; PEERS="langgraph burr" selects
	@$(BIN)/python tools/bench_peers.py $(PEERS)

parity: $(STAMP) ## Compare the lanes on 20,000 random flows
	@# One test that takes minutes: the dump of a test that hangs would come, and may crash while threads run.
	DOUBLEWEAVE_PARITY_EXAMPLES=20000 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/test_differential.py

build: $(STAMP) ## Build wheel and sdist into dist/
	@$(BIN)/python -m hatchling build -d dist
