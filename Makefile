# Needs Python >= 3.11 and make; everything else is installed into .venv (VENV=).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
AGENTS := $(VENV)/.agents
READY := $(VENV)/.ready
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) --editable
CONSTRAINTS ?=

.PHONY: help demo test test-processes test-slow test-floor test-newest check format bench verify-tables reproduce weights \
	clean distclean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1: /p' $(MAKEFILE_LIST)

demo: $(AGENTS) ## PPO finds bitwidths for a small network on scikit-learn's digits; no download
	$(BIN)/python -m agents.train --algo ppo --env releq_env:ReLeQ-Digits-v0 --timesteps 2400 --seed 0

test: $(READY) ## the test suite, without downloads; files side by side in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-processes: $(READY) ## the tests that start programs and worker processes
	$(BIN)/python -m pytest -m 'processes and not slow' -n 2 --dist loadfile

test-slow: $(READY) ## the tests that take minutes or need the real data sets (RELEQ_DATA)
	$(BIN)/python -m pytest -m slow

test-floor: ## the suite with the oldest versions that pyproject.toml admits
	$(MAKE) test test-processes VENV=.venv-floor CONSTRAINTS="--constraint tests/floors.txt"

test-newest: ## the suite with the newest Python here, and the newest versions of everything (NEWEST=python3.14)
	$(MAKE) test test-processes VENV=.venv-newest PYTHON=$(or $(NEWEST),python3.13) CONSTRAINTS="--upgrade --upgrade-strategy eager"

check: $(READY) ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff mend lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## how fast evaluating is, beside what it is compared with (RELEQ_DATA; the machine doing nothing else)
	$(BIN)/python -m benchmarks.speed

verify-tables: $(READY) ## measure random entries of the shipped accuracy tables again (RELEQ_DATA)
	$(BIN)/python -m benchmarks.tables.verify

reproduce: $(READY) ## retrain and test what was chosen for the paper's networks (RELEQ_DATA); two hours of one core and more
	$(BIN)/python -m benchmarks.reproduce --chosen benchmarks/results/reproduction --output runs/reproduction

weights: $(READY) ## remake the shipped pre-trained weights
	$(BIN)/python -m releq_env.tasks.make_weights digits mnist fashion-mnist cifar10

clean: ## what building, testing and checking have left
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

distclean: clean ## the environments of Python, too
	rm -rf .venv .venv-floor .venv-newest

$(AGENTS): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) ".[agents]"
	touch $@

$(READY): $(AGENTS)
	$(PIP) ".[agents,distributed,export,test,dev]"
	touch $@
