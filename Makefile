# Every target sets up what it needs. PYTHON chooses the interpreter; each choice has an environment of its own.
PYTHON ?= python3
VENV ?= $(if $(filter python3,$(PYTHON)),.venv,.venvs/$(subst /,_,$(PYTHON)))
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
PLOT := .venvs/plot
STRICT := -W error -X dev

.PHONY: help generate check-generated check test demo bench bench-check bench-write bench-peers bench-peers-write bench-plot
.PHONY: fuzz parity build docs package-check

help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev -e .
	@touch $@

generate: $(STAMP) ## Rewrite the generated lane from its source, and the JSON Schema of flow files
	@$(BIN)/python tools/lanes.py generate
	@$(BIN)/python tools/flow_schema.py generate

check-generated: $(STAMP) ## Prove that what is generated is what its sources say
	@$(BIN)/python tools/lanes.py check
	@$(BIN)/python tools/flow_schema.py check

check: check-generated ## Guard, lint, format, types, layers and sizes; no other tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest --quiet tests/test_layers.py tests/test_sizes.py

test: check ## All that CI runs
	@# Two at once, with the switches of the one that starts them.
	$(BIN)/python $(STRICT) -m pytest --dist loadfile --tx "2*popen//python=$(BIN)/python $(STRICT)"

demo: $(STAMP) ## Answer a question about this machine on both lanes
	@$(BIN)/python -m doubleweave.examples.audit

bench: $(STAMP) ## Measure what runs cost, beside loops written by hand
	@$(BIN)/python tools/bench.py

bench-check: $(STAMP) ## Measure, and fail when a ratio is 15 % worse than the kept one
	@$(BIN)/python tools/bench.py --check

bench-write: $(STAMP) ## Measure, and keep the results in docs/
	@$(BIN)/python tools/bench.py --write
	@$(MAKE) --no-print-directory bench-plot

bench-peers: $(STAMP) ## Measure other libraries at the same work; PEERS="langgraph burr" selects
	@$(BIN)/python tools/bench_peers.py $(PEERS)

bench-peers-write: $(STAMP) ## Measure other libraries, and keep the results in docs/
	@# What failed is kept and drawn too.
	@$(BIN)/python tools/bench_peers.py --write; status=$$?; $(MAKE) --no-print-directory bench-plot && exit $$status

$(PLOT)/.ready: pyproject.toml
	@test -x $(PLOT)/bin/python || $(PYTHON) -m venv $(PLOT)
	@$(PLOT)/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(PLOT)/bin/python -m pip install --quiet --disable-pip-version-check --group bench
	@touch $@

bench-plot: $(PLOT)/.ready ## Draw the plots of docs/ from the kept results
	@$(PLOT)/bin/python tools/bench_plot.py

parity: $(STAMP) ## Compare the lanes on 20,000 random flows
	@# One test that takes minutes: the dump of a test that hangs would come, and may crash while threads run.
	DOUBLEWEAVE_PARITY_EXAMPLES=20000 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/test_differential.py

fuzz: $(STAMP) ## Read 100,000 hostile flow files and predicates
	DOUBLEWEAVE_FUZZ_CASES=100000 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/test_fuzzed_input.py

docs: $(STAMP) ## Build the documentation site into dist/site, and fail on any warning
	@$(BIN)/python tools/docs.py build

build: $(STAMP) ## Build wheel and sdist into dist/
	@$(BIN)/python -m hatchling build -d dist

package-check: $(STAMP) ## Try wheel and sdist in fresh environments, with each extra alone
	@$(BIN)/python tools/package_check.py
