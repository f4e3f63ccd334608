# Two commands for newcomers: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: quickstart test fast slow sweeps clusters services chaos fuzz simulate lint clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

quickstart: $(VENV)/installed
	$(BIN)/arc-sweep run sweeps/quickstart.yaml

# A part that fails doesn't keep the others from running.
test: $(VENV)/installed
	$(MAKE) --no-print-directory --keep-going --jobs 2 lint fast; checked=$$?; \
	$(MAKE) --no-print-directory slow && exit $$checked

fast: $(VENV)/installed
	$(BIN)/pytest -m 'not slow' -n 2

# Side by side, so that one works while another waits, and of about the same length: sweeps on the
# cluster that they share; machines and drivers that are killed, and users' own tasks and methods; the
# rest: W&B, object storage, clusters that lose a part. Simulated sweeps follow the first that ends.
SLOW := $(sort $(shell grep -rlF mark.slow tests --include='test_*.py'))
SWEEPS := $(filter tests/orchestrator/test_sweep% %/test_protocol.py,$(SLOW))
CLUSTERS := $(filter tests/cluster/% tests/orchestrator/test_own_% %/test_chaos.py,$(SLOW))

slow: $(VENV)/installed
	$(MAKE) --no-print-directory --keep-going --jobs 3 --output-sync sweeps clusters services simulate

sweeps: $(VENV)/installed
	$(BIN)/pytest -m slow $(SWEEPS)

clusters: $(VENV)/installed
	$(BIN)/pytest -m slow $(CLUSTERS)

services: $(VENV)/installed
	$(BIN)/pytest -m slow $(filter-out $(SWEEPS) $(CLUSTERS),$(SLOW))

# Two hundred drawn faults; goes on where it was stopped.
chaos: $(VENV)/installed
	$(BIN)/python -m benchmarks.chaos build/chaos

fuzz: $(VENV)/installed
	FUZZ_CASES=10000 $(BIN)/pytest tests/test_fuzz.py
	$(BIN)/python -m tests.guided_fuzz

# Ten thousand sweeps with invented trainings under drawn faults; `make fast` has the first of them.
simulate: $(VENV)/installed
	SIMULATED_SWEEPS=10000 $(BIN)/pytest -n 2 tests/orchestrator/test_simulated.py

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV) build *.egg-info
