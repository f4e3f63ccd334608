# Two commands for newcomers: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test fast slow chaos lint clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

quickstart: $(VENV)/installed
	$(BIN)/arc-sweep run sweeps/quickstart.yaml

# A part that fails doesn't keep the others from running.
test: $(VENV)/installed
	$(MAKE) --no-print-directory --keep-going lint fast slow

fast: $(VENV)/installed
	$(BIN)/pytest -m 'not slow' -n 2

slow: $(VENV)/installed
	$(BIN)/pytest -m slow -n 2 --dist loadgroup

chaos: $(VENV)/installed
	$(BIN)/pytest -m chaos -rs

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info
