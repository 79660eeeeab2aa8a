# make demo | make train [ARGS="..."] | make test | make faults | make bench: each installs what it needs into .venv on first use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo train test faults bench
demo: .venv/.installed
	$(BIN)/python -m fmnist_jax.train --preset demo $(ARGS)

train: .venv/.installed
	$(BIN)/python -m fmnist_jax.train $(ARGS)

test: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest $(ARGS)

faults: .venv/.installed-dev
	$(BIN)/python -m tests.faults

bench: .venv/.installed-bench
	$(BIN)/python -m experiments.benchmark.run $(ARGS)

.venv/.installed: pyproject.toml
	@echo "Installing fmnist_jax into .venv; this takes a minute or two, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.installed-dev: pyproject.toml
	@echo "Installing fmnist_jax and its test tools into .venv; this takes a minute or two, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/.installed

.venv/.installed-bench: pyproject.toml
	@echo "Installing fmnist_jax and PyTorch into .venv; this takes some minutes, once."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ .venv/.installed
