# `make repro` rebuilds everything, `make test` checks everything; each sets up what it needs.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# What is measured, and what it is compared with: an environment of its own.
BENCH := .scratch/bench
export PATH := $(CURDIR)/$(BIN):$(PATH)
# albumentations asks the network for its newest version at import; DVC reports its usage.
export NO_ALBUMENTATIONS_UPDATE := 1
export DVC_NO_ANALYTICS := 1
# A file of DVC's that a kill has cut short is named first, with the command that helps.
REPRO := python -m tools.dvc_files && dvc repro

.PHONY: verify-processors help setup plan repro page format check deps test test-unit remote s3 doctor verify push pull gate baselines diff compare crossval holdout robustness transfer report bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^##@/ { print "\n" substr($$0, 5) } \
	    /^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv with the pinned requirements

$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"error: Python 3.11 or newer is needed, $(PYTHON) is {sys.version.split()[0]}; try: make setup PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	UV_COMPILE_BYTECODE=1 $(BIN)/uv pip sync --python $(BIN)/python --require-hashes requirements.txt
	python -m tools.offline_plots
	@touch $(READY)

##@ Run

plan: $(READY) ## what the download stage would fetch
	@python -m src.download --plan

repro: $(READY) ## run the whole pipeline, then print the headline metrics
	@$(REPRO)
	@python -m tools.headline

# Without `setup`: it must be able to say what is wrong with the environment.
doctor: ## what works here, what to do about the rest [FULL=1 reads every byte] [BUILD=1 missing objects are no failure]
	@if [ -x $(BIN)/python ]; then exec python -m tools.doctor $(if $(FULL),--full) $(if $(BUILD),--build); else exec $(PYTHON) -m tools.doctor; fi

##@ Look at results

report: $(READY) ## the last run and its studies on one page: report/report.html
	@$(REPRO)
	@python -m tools.headline
	dvc repro --single-item --force report/dvc.yaml  # studies may be new: it cannot depend on what need not exist

diff: $(READY) ## what changed since BASE=main: Markdown and pictures in .scratch/comparison
	@python -m tools.diff '$(or $(BASE),main)' .scratch/comparison

compare: $(READY) ## is B better than A? A=main [B=workspace], any two revisions or experiments
	@python -m studies.compare '$(or $(A),main)' '$(or $(B),workspace)'

##@ Studies

page: $(READY) ## judge pictures in a browser: http://127.0.0.1:8000, and an HTTP API [PORT=8000]
	@exec python -m judge.server --port $(or $(PORT),8000)

baselines: $(READY) ## every detector as an experiment, and their table [DETECTORS="npr xray"] [CLIP=weights] [IMAGES_SEEN=number]
	@python -m studies.baselines.run $(if $(IMAGES_SEEN),--images-seen '$(IMAGES_SEEN)') $(DETECTORS)

crossval: $(READY) ## train and evaluate once per fold: how much the metrics spread
	$(REPRO) studies/crossval/dvc.yaml
	@cat studies/crossval/results/README.md

holdout: $(READY) ## leave each generator out of training: how well is it detected all the same?
	$(REPRO) studies/holdout/dvc.yaml
	@cat studies/holdout/results/README.md

robustness: $(READY) ## test images recompressed, resized, blurred, ...: what is left of the metrics
	$(REPRO) studies/robustness/dvc.yaml
	@cat studies/robustness/results/README.md

transfer: $(READY) ## the trained detector on sets it was not trained on: DATA="folder ..." [SOURCE=artifact] [IMAGES=a method]
	@python -m studies.transfer.run $(DATA) --source $(or $(SOURCE),folder) $(if $(IMAGES),--images $(IMAGES))
	@cat studies/transfer/results/README.md

##@ Share

remote: $(READY) ## where push and pull keep the data: URL=s3://bucket/path [ENDPOINT=http://...] or URL=folder
	python -m tools.set_remote '$(URL)' --endpoint '$(ENDPOINT)'

s3: $(READY) ## an S3 server on this machine, to try it; Ctrl-C stops it
	@exec python -m tools.serve .scratch/s3

verify-processors: $(READY) ## do other processors compute the same bytes? 20 minutes [PROCESSORS="EPYC Haswell"]
	@python -m tests.emulation .scratch/processors docs/processors.md $(PROCESSORS)

push: $(READY) ## send what the remote does not have, hashed on the way, and check that it arrived
	@python -m tools.push

pull: $(READY) ## fetch what is missing here, hashed on the way
	@python -m tools.pull

verify: $(READY) ## hash every output and cached object again [REMOTE=1 remote ones too] [REPAIR=1 from whole copies]
	@python -m tools.verify $(if $(REMOTE),--remote) $(if $(REPAIR),--repair)

gate: $(READY) ## fail where dvc.lock is not what dvc repro would write; needs no data
	@python -m tools.gate

##@ Work on it

format: $(READY) ## format, sort imports
	ruff format .
	ruff check --fix .

check: $(READY) ## format, lint, types
	ruff format --check .
	ruff check .
	mypy

test: check ## everything that CI runs, on all cores
	@# One more than cores: there is always one that waits for a server or a queue.
	pytest --numprocesses $$(python -c 'import os; print(os.cpu_count() + 1)') --maxprocesses 8 --dist loadfile --no-loadscope-reorder

test-unit: $(READY) ## the quick tests only
	pytest -m "not slow and not s3 and not browser"

deps: $(READY) ## write what follows from the code: imports into every dvc.yaml, params.schema.json
	python -m tools.deps
	python -m tools.params_schema

bench: $(BENCH)/.ready ## measure against other ways: bench/results.md [JOB=loader one alone] [SCALE=0.01 a trial]
	@PATH="$(CURDIR)/$(BENCH)/venv/bin:$(CURDIR)/$(BENCH)/tools:$$PATH" python -m bench $(JOB) $(if $(SCALE),--scale $(SCALE) --results $(BENCH)/results)

# aws pins another botocore than dvc-s3, so it cannot live in one environment with it.
$(BENCH)/.ready: $(READY) bench/requirements.txt
	uv venv --quiet --clear --python $(BIN)/python $(BENCH)/venv
	UV_COMPILE_BYTECODE=1 uv pip sync --quiet --python $(BENCH)/venv/bin/python --require-hashes requirements.txt bench/requirements.txt
	UV_TOOL_DIR=$(BENCH)/aws UV_TOOL_BIN_DIR=$(BENCH)/tools uv tool install --quiet --force --python $(BIN)/python awscli==1.46.3
	@touch $@

lock: $(READY) ## compile requirements.in into requirements.txt, here and in bench/
	for folder in . bench; do \
	    (cd $$folder && uv pip compile --universal --python-version 3.11 --generate-hashes --quiet requirements.in --output-file requirements.txt); \
	done

clean: ## delete the environment
	rm -rf $(VENV)
