# make demo | test | bench | clean. Each makes what it needs; a second call installs nothing.
# PYTHON chooses the interpreter of a new environment, VENV where the environment lives.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: help demo test lint bench clean

help:
	@echo "make demo   watch a hard question become a plan and be answered by two models, offline"
	@echo "make test   lint, types, and all tests"
	@echo "make bench  measure the overhead; figures go to benchmarks/README.md"
	@echo "make clean  remove the environment and everything generated"

demo: $(VENV)/.demo
	@$(BIN)/hybridflow demo

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/dataflow.py

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment. One that is there already is kept, if it is of the Python that was asked for.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Making $(VENV) with $$($(PYTHON) -V) ..."
	@$(PYTHON) -m venv $(VENV)

.PHONY: interpreter
interpreter: | $(BIN)/python
ifneq ($(origin PYTHON),file)
	@test "$$($(BIN)/python -V)" = "$$($(PYTHON) -V)" || { \
	  echo "$(VENV) is $$($(BIN)/python -V), not $(PYTHON): say 'make clean' first, or add VENV=another-folder" >&2; exit 1; }
endif

# A stamp is remade when the package's requirements change.
$(VENV)/.demo: pyproject.toml | interpreter
	@echo "Installing the demo into $(VENV) (about a minute, once) ..."
	@$(PIP) install --editable '.[plot,sandbox]'
	@touch $@

$(VENV)/.dev: pyproject.toml | interpreter
	@echo "Installing the development environment into $(VENV) (a minute or two, once) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.demo
