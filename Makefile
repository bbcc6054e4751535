# make demo | test | bench | cookbook | docs | dist | clean. Each makes what it needs; a second call installs nothing.
# PYTHON chooses the interpreter of a new environment, VENV where the environment lives, JOBS how many
# processes share the tests.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN := $(VENV)/bin
# Twice quiet: an index that lacks a package is a warning for each package.
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check

# What the tests want beside the development environment; .ci/environment.py makes them.
# The one with torch takes 2 GB: in CI it is made, elsewhere once somebody has said `make .envs/rl`.
ENVIRONMENTS := .envs/base .envs/studio .envs/serve .envs/lowest .envs/python3.12 .envs/python3.13 \
  $(if $(CI)$(wildcard .envs/rl/bin),.envs/rl)
# What runs tests/rl, and what writes the model of the extra `tiny`.
RL_TESTS := hypothesis onnx pytest pytest-asyncio pytest-socket pytest-timeout
ENVIRONMENT := $(BIN)/python .ci/environment.py --wheel dist

.PHONY: help demo test lint bench cookbook docs dist environments $(ENVIRONMENTS) .envs/rl clean

help:
	@echo "make demo   watch a hard question become a plan and be answered by two models, offline"
	@echo "make test   lint, types, and all tests"
	@echo "make bench  measure the overhead; figures go to benchmarks/README.md"
	@echo "make cookbook  run the notebooks' scripts, and write the notebooks"
	@echo "make docs   build the documentation into site/"
	@echo "make dist   build the wheel and the source archive into dist/"
	@echo "make clean  remove the environments and everything generated"

demo: $(VENV)/.demo
	@$(BIN)/hybridflow demo

test: lint $(VENV)/.docs
	@$(MAKE) environments || \
	  echo "Not all of .envs could be made: tests that want them are skipped (in CI they fail)." >&2
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/dataflow.py

cookbook: .envs/serve
	$(BIN)/python cookbook/build.py

docs: $(VENV)/.docs
	@$(BIN)/python docs/hooks/refresh.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

dist: dist/.wheel
	$(BIN)/python -m build --no-isolation --sdist --quiet

environments: dist/.wheel
	@$(MAKE) --jobs=2 --keep-going $(ENVIRONMENTS)

.envs/base: dist/.wheel
	@$(ENVIRONMENT) base

.envs/studio: dist/.wheel
	@$(ENVIRONMENT) studio --extras studio --needs templates/studio-agent

.envs/serve: dist/.wheel
	@$(ENVIRONMENT) serve --extras serve --needs templates/serve-api

.envs/lowest: dist/.wheel
	@$(ENVIRONMENT) lowest --extras dev --lowest --python 3.11

.envs/rl: dist/.wheel
	@$(ENVIRONMENT) rl --torch 2.13.0 --extras learning,rl,sandbox,tiny $(RL_TESTS:%=--require %)

.envs/python3.12 .envs/python3.13: .envs/python3.%: dist/.wheel
	@$(ENVIRONMENT) $(@F) --extras dev --python 3.$*

clean:
	rm -rf $(VENV) .envs site build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The wheel. The folders are here for the files that are gone from them.
dist/.wheel: $(shell find langchain_hybridflow -not -name '__pycache__' -not -name '*.pyc') \
  pyproject.toml README.md LICENSE | $(VENV)/.dev
	@rm -rf dist && mkdir dist && touch dist/.begun
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@mv dist/.begun $@

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
	@$(PIP) install --editable '.[plot,sandbox,tiny]'
	@touch $@

$(VENV)/.dev: pyproject.toml | interpreter
	@echo "Installing the development environment into $(VENV) (a minute or two, once) ..."
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.demo

$(VENV)/.docs: pyproject.toml | $(VENV)/.dev
	@echo "Installing what makes the documentation into $(VENV) ..."
	@$(PIP) install --editable '.[docs]'
	@touch $@
