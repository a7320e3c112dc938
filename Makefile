# `make` lists what there is to do.  Every target makes .venv by itself and uses it again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
BROWSER_INSTALLED := $(VENV)/.installed-browser
TEST_WORKERS ?= auto

.PHONY: help demo test test-browser lint bench clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/	/' | expand -t 15

demo: $(INSTALLED)  ## train a small AudioLM on synthetic speech and hear it go on (FAST=1: the same path in 3 minutes)
	cd egs/espeak && PATH="$(CURDIR)/$(BIN):$$PATH" ./demo.sh $(if $(FAST),--fast true)

test: $(INSTALLED)  ## run every test but those in a browser
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) --ignore=tests/browser tests

test-browser: $(BROWSER_INSTALLED)  ## run the live page's tests in headless Chromium
	OMP_NUM_THREADS=1 REQUIRE_BROWSER=1 $(BIN)/python -m pytest tests/browser

lint: $(INSTALLED)  ## style, types and layers
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)  ## speed, memory and the bundled tokenizers, written to benchmarks/results
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.tokenizers

clean:  ## remove .venv and what the demo made
	rm -rf $(VENV) egs/espeak/data egs/espeak/download egs/espeak/exp

# torch by itself first: on a machine that offers a CPU build, the other packages then find it there.
$(INSTALLED): requirements.txt setup.py
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "valle needs Python 3.11 or newer, found " + sys.version.split()[0] + "; call make PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $$(grep '^torch==' requirements.txt)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[dev,native,live,lora,sign]'
	$(BIN)/python -c 'from valle.decoding.native import compile_kernels; compile_kernels()'
	@touch $@

# Playwright drives the Chromium that is installed, and brings none.
$(BROWSER_INSTALLED): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.txt -e '.[browser]'
	@touch $@
