# make demo | train [ARGS="..."] | test | test-slow | faults | lesson | docs | bench | speedrun | versions | lowest | lock
# Each installs what it needs on first use, for another Python with PYTHON=python3.13.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
$(if $(VERSION),,$(error $(PYTHON) does not run: install it, or name another by PYTHON=))
$(if $(filter 3.6 3.7 3.8 3.9 3.10,$(VERSION)),$(error $(PYTHON) is Python $(VERSION): name one from 3.11 on by PYTHON=))
# An environment for each Python; that of the default one is where editors look for it.
VENV := $(if $(filter-out python3,$(PYTHON)),.venv-$(VERSION),.venv)
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint tests/constraints.txt
# For `make versions`, which sets one Python beside another.
OTHER ?= python3.13

.PHONY: demo train test test-slow faults lesson docs bench speedrun versions lowest lock
demo: $(VENV)/.installed
	$(BIN)/python -m fmnist_jax.train --preset demo $(ARGS)

train: $(VENV)/.installed
	$(BIN)/python -m fmnist_jax.train $(ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vulture
	$(BIN)/python -m pytest -m "not slow" $(ARGS)

# What `make test` leaves out: the tests that start processes, kill runs, or train and rehearse whole ones.
test-slow: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow $(ARGS)

faults: $(VENV)/.installed-dev
	$(BIN)/python -m tests.faults

# The lesson, run and rendered as one page that opens alone.
lesson: $(VENV)/.installed-dev
	$(BIN)/python -m experiments.lesson experiments/lesson.html

docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict
	@echo "open site/index.html"

bench: $(VENV)/.installed-bench
	$(BIN)/python -m experiments.benchmark.run $(ARGS)

# PyTorch is installed for the sides that are in it.
speedrun: $(VENV)/.installed$(if $(findstring pytorch,$(ARGS)),-bench)
	$(BIN)/python -m experiments.speedrun.run $(ARGS)

versions: $(VENV)/.installed
	@$(MAKE) --no-print-directory PYTHON=$(OTHER) .venv-other/.installed VENV=.venv-other
	$(BIN)/python -m experiments.benchmark.versions $(BIN)/python .venv-other/bin/python $(ARGS)

# The tests with exactly the lowest versions that pyproject.toml promises.
lowest:
	@$(MAKE) --no-print-directory VENV=.venv-lowest .venv-lowest/.installed-dev
	@sed -n '/^dependencies/,/^]/s/^ *"\([A-Za-z0-9_.-]*\)>=\([0-9.]*\)".*/\1==\2/p' pyproject.toml > .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pytest $(ARGS)

lock:
	$(PYTHON) -m tests.lock

$(VENV)/.python-$(VERSION):
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.python-$(VERSION)
	@echo "Installing fmnist_jax into $(VENV); this takes a minute or two, once."
	@$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml tests/constraints.txt | $(VENV)/.python-$(VERSION)
	@echo "Installing fmnist_jax and its test tools into $(VENV); this takes a minute or two, once."
	@$(INSTALL) --editable '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-docs: pyproject.toml | $(VENV)/.python-$(VERSION)
	@echo "Installing fmnist_jax and what builds its pages into $(VENV); this takes a minute or two, once."
	@$(INSTALL) --editable '.[docs]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-bench: pyproject.toml | $(VENV)/.python-$(VERSION)
	@echo "Installing fmnist_jax and PyTorch into $(VENV); this takes some minutes, once."
	@$(INSTALL) --editable '.[bench]'
	@touch $@ $(VENV)/.installed
