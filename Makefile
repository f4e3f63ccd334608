# Two commands for newcomers: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test fast chaos lint clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

quickstart: $(VENV)/installed
	$(BIN)/arc-sweep run sweeps/quickstart.yaml

# Whole sweeps one after the other, since each is a cluster; the rest in two processes.
test: $(VENV)/installed lint
	$(BIN)/pytest -m slow
	$(BIN)/pytest -m 'not slow' -n 2

fast: $(VENV)/installed
	$(BIN)/pytest -m 'not slow'

chaos: $(VENV)/installed
	$(BIN)/pytest -m chaos -rs

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info
