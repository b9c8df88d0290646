# Everything a person runs; continuous integration runs `make check`.
#
#   make quickstart                 the whole path on the embedded sample
#   make check                      lint, types, tests
#   make install TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
#                                   on Linux without a GPU: no CUDA to download

PYTHON ?= python3
TORCH ?= torch==2.13.0
BASE := docker.io/library/python:3.11-slim-bookworm
# Processes that test side by side, each a file at a time: what a file's tests share is made once.
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: quickstart install check lint types test gpu-check network images docs picture pin wheel clean

quickstart: $(STAMP)
	$(BIN)/simile quickstart

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"got Python {sys.version.split()[0]}, need 3.11 or later (make PYTHON=python3.11)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps $(TORCH)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,serve-cpu,s3,dev,docs]'
	touch $@

check: lint types test

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not gpu and not network and not images" --cov --cov-report=term:skip-covered --cov-fail-under=90

gpu-check: $(STAMP)
	$(BIN)/python -m pytest -m gpu

network: $(STAMP)
	$(BIN)/python -m pytest -m network

images: $(STAMP)
	$(BIN)/python -m pytest -m images tests/images

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

picture: $(STAMP)
	$(BIN)/python -m tests.monitoring.picture docs/images/dashboard.png

pin:
	@digest=$$(timeout 60 skopeo inspect --no-tags --format '{{.Digest}}' docker://$(BASE) 2>/dev/null); \
	case "$$digest" in \
	sha256:*) sed -i "s|^ARG BASE=.*|ARG BASE=$(BASE)@$$digest|" Dockerfile.train Dockerfile.serve; grep '^ARG BASE=' Dockerfile.train Dockerfile.serve ;; \
	*) echo "pin: got no digest of $(BASE), need skopeo and a way to its registry; nothing changed" >&2; exit 2 ;; \
	esac

wheel: $(STAMP)
	$(BIN)/python -m build --wheel

clean:
	rm -rf $(VENV) build dist quickstart site
