# Everything is started from here. Needs make and Python >= 3.11; all else goes into .venv/.
# Tests mostly wait, so two processes serve a core well; JOBS=0 runs them in one.
# Another Python: make clean setup PYTHON=python3.13     Some tests: make test ARGS="-k wheel"

VENV ?= .venv
RUN := $(VENV)/bin/python -m
JOBS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup demo test lint format check bench bench-full faults simulate model fuzz coverage mutants types test-browser test-matrix test-engines compiled clean

# What a shell may hold for other programs' sake, and would lead ours to other code or another place.
unexport PYTHONPATH PYTHONHOME PYTHONSAFEPATH PYTHONSTARTUP PIP_USER PIP_TARGET PIP_PREFIX
# Hundreds of processes are started: each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Make .venv with Headrace (editable) and its development tools; once
	@echo "Ready: $(VENV)/bin/headrace --help"

$(READY): pyproject.toml scripts/venv
	@sh scripts/venv $(VENV) $(PYTHON)
	@touch $@

demo: $(READY) ## Show a queue at work, on a private server
	@$(VENV)/bin/headrace demo $(ARGS)

test: $(READY) ## Run every test
	@$(RUN) pytest -n $(JOBS) --dist worksteal $(ARGS)

lint: $(READY) ## Check style and types
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy

format: $(READY) ## Format the code, and fix what can be fixed
	@$(RUN) ruff format .
	@$(RUN) ruff check --fix .

check: lint test ## Lint, then test: before every commit

bench: $(READY) ## Measure Headrace beside what can be written by hand, in minutes
	@$(RUN) benchmarks $(ARGS)

bench-full: $(READY) ## Compare it with twelve peers, and with redis-benchmark, and see how it grows: two hours
	@$(RUN) benchmarks --full --json .cache/bench/comparison.json $(ARGS)
	@$(RUN) benchmarks.growth --json .cache/bench/growth.json
	@$(RUN) benchmarks.limits --json .cache/bench/limits.json
	@$(RUN) benchmarks.plots .cache/bench/comparison.json .cache/bench/growth.json docs/images
	@$(RUN) benchmarks.report .cache/bench/comparison.json > .cache/bench/tables.md

faults: $(READY) ## Break everything for a quarter of an hour, and count the jobs
	@$(RUN) tests.faults $(ARGS)

simulate: $(READY) ## Run seeds of the simulation: ARGS="--seeds 2000"
	@$(RUN) tests.simulation $(ARGS)

model: $(READY) ## Check the protocol's model with spin: every state, every mechanism
	@$(VENV)/bin/python scripts/check-model $(ARGS)

fuzz: $(READY) ## Fuzz for a while: ARGS="--seconds 600"
	@$(RUN) tests.fuzz $(ARGS)

coverage: $(READY) ## Measure which lines and branches of the core the tests run
	@$(VENV)/bin/python scripts/coverage $(ARGS)

mutants: $(READY) ## Put small mistakes into the core, and see that tests find them
	@scripts/mutants $(ARGS)

types: ## See that every public name has a type, by pyright
	@sh scripts/types $(ARGS)

test-browser: $(READY) ## See the dashboard in a real Chromium, if there is one on the PATH
	@$(RUN) pip install --quiet --disable-pip-version-check "axe-playwright-python>=0.1.8" "playwright>=1.50"
	@$(RUN) pytest -n 0 tests/browser $(ARGS)

test-matrix: ## Run every test on each Python >= 3.11 here, on Redis and on Valkey
	@MAKE="$(MAKE)" sh scripts/test-matrix

test-engines: $(READY) ## Run the transitions, on one server and on a cluster, on each release of Redis and Valkey that Debian has
	@JOBS=$(JOBS) sh scripts/test-engines $(VENV)/bin/python $(ARGS)

compiled: ## Build the wheel with compiled modules, and test it: .cache/compiled/
	@JOBS=$(JOBS) sh scripts/compiled .cache/venv-compiled $(ARGS)

clean: ## Remove what these targets made; your queues in .headrace/ stay
	rm -rf .venv .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
