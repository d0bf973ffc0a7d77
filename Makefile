# Every developer's job has one target here. The environment is .venv/; nothing is installed outside of it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(BIN)/uv pip
# One more than two cores: some always wait for a server.
WORKERS ?= 3
# What seconds suffice for: rooms whose tests import neither Airflow nor Beam, without servers and properties.
QUICK := -m "not emulated and not slow and not hypothesis" --ignore=tests/bigquery/test_types.py tests/test_*.py \
	$(addprefix tests/,bigquery cli gcp infra jobs launchers local/processes local/servers local/stack new replay spec state watchdog)

# Where the shell sets it (containers do), each of a stack's many processes would compile all that it imports, each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup up down logs status demo test quick check format lock docs screenshots bench matrix chaos chaos-replay

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv, with the `rejeu` command in it

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Python is {v[0]}.{v[1]}: Rejeu needs 3.11; name one with `make PYTHON=/path/to/python3.11`")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	@# Without --no-deps, uv asks each package what it needs, and where an index forbids caching it fetches and builds
	@# pyspark anew for that: 1.3 GB more in its cache each time. The lock names all; the last line says where it does not.
	VIRTUAL_ENV=$(VENV) $(UV) install --quiet --no-deps --require-hashes -r requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) install --quiet --no-deps --editable .
	VIRTUAL_ENV=$(VENV) $(UV) check --quiet
	@touch $@

up: $(READY) ## Start the local stack and leave it running
	$(BIN)/rejeu up

down: $(READY) ## Stop the local stack and everything it started
	$(BIN)/rejeu down

logs: $(READY) ## Follow the logs of all parts
	$(BIN)/rejeu logs --follow

status: $(READY) ## Show the parts of the local stack
	$(BIN)/rejeu status

demo: $(READY) ## Run the main job end to end, with a kill on the way (STREAM=name for another, KEEP=1 keeps the stack)
	$(BIN)/rejeu demo $(STREAM)

check: $(READY) ## Lint and strict types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: check ## All checks and all tests, in WORKERS processes side by side
	$(BIN)/pytest -n $(WORKERS) --durations=40 --durations-min=5

quick: check ## The inner loop: all checks, and tests that need no server, no Airflow, no Beam and no long search
	$(BIN)/pytest -q -n 2 $(QUICK)

format: $(READY) ## Put the code into its form
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

lock: $(READY) ## Resolve pyproject.toml into requirements.lock
	VIRTUAL_ENV=$(VENV) $(UV) compile --quiet --no-header --no-emit-index-url --generate-hashes --all-extras \
		--python-version 3.11 pyproject.toml -o requirements.lock

docs: $(READY) ## Write what is generated (reference, schema, template), then build the site into .rejeu/site
	$(BIN)/rejeu schema --write dags/streams/stream.schema.json
	$(BIN)/rejeu template --write beam_jobs/stream.template.json
	AIRFLOW_HOME=$(CURDIR)/.rejeu/docs $(BIN)/python -m docs.generate
	$(BIN)/sphinx-build --quiet --nitpicky --fail-on-warning --keep-going --fresh-env docs .rejeu/site
	@echo "The site: .rejeu/site/index.html"

screenshots: $(READY) ## Pictures of a kept demo's DAGs, with Debian's Chromium
	$(BIN)/python -m docs.screenshots

bench: $(READY) ## Measure speed against Google's own client, lateness, memory, takeover, the watch over 1,000 streams, parsing
	$(BIN)/python -m benchmarks

matrix: $(READY) ## Run the tests under each supported Airflow, in environments of managed Airflow's packages (needs a registry)
	$(BIN)/python -m tests.matrix

chaos-replay: $(READY) ## Kill and cut off real replays, step clocks, fill disks in 30 seeded rounds, and check every promise (needs root)
	$(BIN)/python -m tests.chaos

chaos: $(READY) ## Kill every part of a real stack, alone and in pairs, let mishaps happen to streams, and check every promise
	$(BIN)/python -m tests.chaos.stack
