# make quickstart: the whole tour, offline. make test: the test suite. make docs: the pages of docs/.
# make lite: the model of ganmod-lite, which `pip install ./lite` then installs without PyTorch.
# make web: what the page of `ganmod web` needs (network, npm).
# All make .venv when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install quickstart test test-all fuzz lint docs lite web
install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: install
	$(BIN)/ganmod quickstart

# A process per core with one thread each: small networks gain nothing from more threads.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test: install
	$(PYTEST) -m "not slow"

test-all: install
	$(PYTEST)

# Hostile files, configurations and command lines for MINUTES; findings are kept in build/fuzz.
MINUTES := 30
SEED := 0

fuzz: install
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# onnxruntime-web, the exported style model and pictures, into ganmod/web_page/built.
web: install
	$(BIN)/python -m ganmod.cli.web.prepare

# Offline; a warning is an error.
docs: install
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo build/docs/index.html

lite: install
	$(BIN)/python lite/make_model.py
