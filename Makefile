# Every target makes .venv itself where it is missing, or older than pyproject.toml or constraints.txt.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help fit test lint ui bench

VENV := .venv
BIN := $(VENV)/bin
# Written last, so that an interrupted installation is taken up again.
INSTALLED := $(VENV)/.installed
# Processes of the test suite: auto is one for each processor.
WORKERS ?= auto
# Further words for the program a target calls, such as ARGS="strategy=mt_dnn decoder=tiny".
ARGS ?=

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 16

fit: $(INSTALLED) ## train one strategy and evaluate it: make fit ARGS="strategy=mt_dnn decoder=tiny"
	$(BIN)/python -m mtl.fit $(ARGS)

# One thread a process: the processes of the suite fill the processors already.
test: export OMP_NUM_THREADS := 1
test: $(INSTALLED) ## run the tests: make test ARGS="tests/unit --slow"
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist worksteal $(ARGS)

lint: $(INSTALLED) ## check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

ui: $(INSTALLED) ## compare runs in the MLflow UI on http://127.0.0.1:5000
	MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
		$(BIN)/mlflow ui --host 127.0.0.1 --workers 1 $(ARGS)

bench: $(INSTALLED) ## measure what is claimed about speed
	@shopt -s nullglob; for benchmark in benchmarks/[!_]*.py; do \
		echo "== $$benchmark"; $(BIN)/python "$$benchmark" $(ARGS); \
	done

$(INSTALLED): pyproject.toml constraints.txt
	@python=; for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if "$$candidate" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; \
		then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
		echo "error: Python 3.11, 3.12 or 3.13 with venv is needed (python3 is: $$(python3 --version 2>&1 || true))" >&2; \
		echo "  name one: make PYTHON=/path/to/python3.13 ..." >&2; exit 1; \
	fi; \
	if [ -x $(BIN)/python ]; then echo "Bringing $(VENV) up to date ..."; \
	else echo "Setting up $(VENV) with $$("$$python" --version); the first time takes a few minutes ..."; \
		"$$python" -m venv $(VENV); fi
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
	@echo "Ready: $(VENV)"
