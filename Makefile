# Needs Python >= 3.11 and make; everything else is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-slow check format bench weights clean

demo: $(READY) ## PPO finds bitwidths for a small network on scikit-learn's digits; no download
	$(BIN)/python -m agents.train --algo ppo --env releq_env:ReLeQ-Digits-v0 --timesteps 2400 --seed 0

test: $(READY) ## the test suite, without downloads
	$(BIN)/python -m pytest

test-slow: $(READY) ## the tests that take minutes or need the real data sets (RELEQ_DATA)
	$(BIN)/python -m pytest -m slow

check: $(READY) ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY) ## let ruff mend lint and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY) ## how fast evaluating is, beside what it is compared with (RELEQ_DATA; the machine doing nothing else)
	$(BIN)/python -m benchmarks.speed

weights: $(READY) ## remake the shipped pre-trained weights
	$(BIN)/python -m releq_env.tasks.pretraining digits mnist fashion-mnist cifar10

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than Python 3.11; name a newer one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[agents,distributed,test,dev]"
	touch $@
