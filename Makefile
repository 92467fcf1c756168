# `make repro` rebuilds everything, `make test` checks everything; each sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# albumentations asks the network for its newest version at import; DVC reports its usage.
export NO_ALBUMENTATIONS_UPDATE := 1
export DVC_NO_ANALYTICS := 1

.PHONY: help setup plan repro format check test test-unit lock clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## create .venv with the pinned requirements

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"error: Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}; try: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_COMPILE_BYTECODE=1 $(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.txt
	@touch $(READY)

plan: $(READY) ## say what the download stage would fetch, before it does
	@python -m src.download --plan

repro: $(READY) ## run the whole pipeline, then print the headline metrics
	dvc repro

check: $(READY) ## format, lint, types
	ruff format --check .
	ruff check .
	mypy

format: $(READY) ## format and sort imports
	ruff format .
	ruff check --fix .

test: check ## everything that CI runs
	pytest

test-unit: $(READY) ## the quick tests only
	pytest -m "not slow and not s3 and not browser"

lock: $(READY) ## compile requirements.in into requirements.txt
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --quiet requirements.in --output-file requirements.txt

clean: ## delete the environment
	rm -rf $(VENV)
