# Everything a person runs; continuous integration runs `make check`.
#
#   make quickstart                 the whole path on the embedded sample
#   make check                      lint, types, tests
#   make install TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
#                                   on Linux without a GPU: no CUDA to download

PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: quickstart install check lint types test slow gpu-check network images pin wheel clean

quickstart: $(STAMP)
	$(BIN)/simile quickstart

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"got Python {sys.version.split()[0]}, need 3.11 or later (make PYTHON=python3.11)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt $(TORCH)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,serve-cpu,dev]'
	touch $@

check: lint types test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

test: $(STAMP)
	$(BIN)/python -m pytest -m "not slow and not gpu and not network and not images" --cov --cov-report=term:skip-covered --cov-fail-under=90

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

gpu-check: $(STAMP)
	$(BIN)/python -m pytest -m gpu

network: $(STAMP)
	$(BIN)/python -m pytest -m network

images: $(STAMP)
	$(BIN)/python -m pytest -m images -s

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist quickstart
