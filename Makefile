# Everything a person does by hand, as one word each. `make course` and `make test` each work alone on a clean clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= laptop
PROFILE ?= laptop
PHOTOS ?= ../shared/data
CONSTRAINTS ?= constraints.txt
INSTALL = $(BIN)/python -m pip install --quiet $(addprefix --constraint ,$(CONSTRAINTS))

.DEFAULT_GOAL := help
.PHONY: help course tour photos lab site figures check test lint format lock bench bench-gpu clean

help: ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

# One stamp per set of extras: the package itself is installed in place, so only what it needs matters.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vlpnb needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 course"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "Installing vlpnb into $(VENV) (a few GB the first time, mostly PyTorch) ..."
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-photos: $(VENV)/.installed
	$(INSTALL) --editable '.[photos]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev,photos,explore,captions]'
	@touch $@

course: $(VENV)/.installed ## install, run every notebook (PROFILE=laptop, PART=1 for one part), write HTML pages, figures, results
	$(BIN)/vlpnb run --profile $(PROFILE) --run $(RUN) $(addprefix --part ,$(PART))

tour: $(VENV)/.installed ## the same pages in minutes, from models too small to know anything (a run of its own; PART=3 for one part)
	$(BIN)/vlpnb run --profile smoke --run tour --jobs 2 $(addprefix --part ,$(PART))

photos: $(VENV)/.installed-photos ## the same pipeline on real photographs and text (PHOTOS=folder with the datasets)
	$(BIN)/vlpnb run --profile photos --run photos --data $(PHOTOS)

lab: $(VENV)/.installed ## open JupyterLab on the notebooks
	$(BIN)/jupyter lab --ip=127.0.0.1 notebooks

site: $(VENV)/.installed ## write the HTML pages of a finished run again (RUN=laptop)
	$(BIN)/vlpnb site --run $(RUN)

figures: $(VENV)/.installed ## draw the committed figures again from a finished run (RUN=laptop)
	$(BIN)/vlpnb figures --run $(RUN)

check: lint ## lint, and the tests that take seconds: before each commit
	$(BIN)/python -m pytest -n 2 --dist worksteal -m 'not slow and not notebook and not browser and not gpu'

test: $(VENV)/.installed-dev ## run all tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed-dev ## check style of code and notebooks, and the layers of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.installed-dev ## put code and notebooks into house style, outputs removed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/nbstripout notebooks/*.ipynb

lock: $(VENV)/.installed-dev ## write the versions in .venv down as the tested ones (newer ones: make clean, make CONSTRAINTS= test)
	$(BIN)/python .ci/lock.py > .constraints.tmp
	mv .constraints.tmp constraints.txt

bench: $(VENV)/.installed-dev ## time the hot paths beside their peers
	$(BIN)/python -m benchmarks

bench-gpu: $(VENV)/.installed-dev ## on a machine with a GPU: time all five systems at the papers' sizes, into one file to send
	$(BIN)/python -m benchmarks.gpu_report

clean: ## remove the virtual environment and every run (datasets under data/ stay)
	rm -rf $(VENV) data/runs
