# make demo: install, train and try a small ViT on real images.   make test: install what tests need, run them.
PYTHON ?= python3
VENV ?= .venv
VENV_INTEROP ?= .venv-interop
VENV_PLAN ?= .venv-plan
BIN := $(VENV)/bin
# Test processes; the time limits are measured with two.
JOBS ?= 2
# What tests do not import is not worth compiling to bytecode.
PIP_INSTALL := pip install --quiet --disable-pip-version-check --no-compile
# Folders that `make test-fast` is limited to.
TESTS ?=

.PHONY: help demo study test test-fast test-long miniature interop plan-test browser cluster lint format clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       train a small ViT on handwritten digits, about two minutes on two CPU cores"
	@echo "make study      the paper's scaling study in miniature, and its report; about 20 minutes of CPU time"
	@echo "make test       the whole suite: no network, accelerator or torch needed"
	@echo "make test-fast  without the tests that start processes"
	@echo "make test-long  trainings of minutes: every recipe, crashes and restarts, jobs of several processes, sweeps"
	@echo "make miniature  the paper's claims on digits, for each family over three seeds"
	@echo "make interop    our files in timm, transformers and onnxruntime, and theirs in ours, in $(VENV_INTEROP)"
	@echo "make plan-test  vit_jax plan with the real compiler for TPUs (libtpu), in $(VENV_PLAN); no TPU needed"
	@echo "make browser    our pages in a real browser; installs Chromium by apt if there is none"
	@echo "make cluster    vit_jax launch slurm on a real SLURM of this machine (as root; installs Debian's packages)"
	@echo "make lint       ruff (lint, format) and mypy"
	@echo "make clean      remove the virtual environments and caches"
	@echo "PYTHON=python3.13 VENV=.venv313 make test   with another Python (3.11 to 3.13)"

demo: $(VENV)/.installed
	$(BIN)/vit_jax demo

# Runs go on where they were stopped; the report is written of what is done, whether some failed or not.
study: $(VENV)/.installed
	$(BIN)/vit_jax sweep --config=configs/sweeps/digits_scaling.py --workdir=runs/study; status=$$?; \
	  $(BIN)/vit_jax report --workdir=runs/study && echo && echo "open runs/study/report/report.html"; exit $$status

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test-fast: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow and not long and not miniature" $(TESTS)

test-long: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m long --timeout 1200

miniature: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m miniature --timeout 3000 -rA tests/end_to_end/test_miniature.py

interop: $(VENV_INTEROP)/.installed-interop
	$(VENV_INTEROP)/bin/python -m pytest tests/interop -n $(JOBS) --dist worksteal

plan-test: $(VENV_PLAN)/.installed-plan
	$(VENV_PLAN)/bin/python -m pytest tests/tpu_compiler -n $(JOBS) --dist worksteal

browser: $(VENV)/.installed-test
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { apt-get update --quiet=2 && DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes chromium; }
	$(BIN)/python -m pytest tests/browser

cluster: $(VENV)/.installed-test
	@{ command -v slurmctld && command -v slurmd && command -v munged; } > /dev/null || \
	  { apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends slurm-wlm munge > /dev/null; }
	$(BIN)/python -m pytest tests/cluster --override-ini=addopts=--import-mode=importlib

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "vit_jax needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) -V). Use: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/bin/python setup.py
	$(BIN)/python -m $(PIP_INSTALL) --editable ".[test]"
	touch $@ $(VENV)/.installed

$(VENV_INTEROP)/.installed-interop: setup.py
	$(MAKE) VENV=$(VENV_INTEROP) $(VENV_INTEROP)/.installed-test
	$(VENV_INTEROP)/bin/python -m $(PIP_INSTALL) torch==2.13.0 timm transformers \
	  pillow onnx onnx-ir onnxruntime
	@# It declares an older orbax-checkpoint, which it does not need: pip would downgrade ours.
	$(VENV_INTEROP)/bin/python -m $(PIP_INSTALL) --no-deps jax2onnx==0.17.1
	touch $@

$(VENV_PLAN)/.installed-plan: setup.py
	$(MAKE) VENV=$(VENV_PLAN) $(VENV_PLAN)/.installed-test
	@# jax[tpu] brings the libtpu that belongs to this jax.
	$(VENV_PLAN)/bin/python -m $(PIP_INSTALL) --editable ".[tpu]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV_INTEROP) $(VENV_PLAN) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
