# make run   set up, run all scenarios and a small random campaign, write reports/run/
# make test  set up, then run lint, type checks, import rules and all tests
# make serve set up, serve the HTTP API on a stand-in for Sepolia, or on the network of .env
# make help  list all targets
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CI_PROFILE ?= ci

unexport PYTHONDONTWRITEBYTECODE # without bytecode each process would compile its imports, and pytest rewrite all tests, again

.PHONY: help run gate opinions proofs mutants notebooks run-notebooks serve docs docs-serve release test test-quick deep setup setup-dev lint lock artifact openapi clean
.DEFAULT_GOAL := help

help:
	@echo "make run            set up, run all scenarios and a small random campaign, write reports/run/"
	@echo "make test           set up, then run lint, type checks, import rules and all tests"
	@echo "make serve          set up, serve the HTTP API on a stand-in for Sepolia, or on the network of .env"
	@echo "make gate           set up, run all checks that the contract must pass before a deploy, write reports/gate/"
	@echo "make opinions       set up, analyse the contract with slither and prove properties of it with halmos"
	@echo "make mutants        set up, put small faults into the backend's code of money and state and list those that no test finds (hours)"
	@echo "make notebooks      set up, open the notebooks in JupyterLab"
	@echo "make docs           set up, build the documentation's site into site/, and check its links"
	@echo "make docs-serve     the same, and serve it on http://127.0.0.1:8001"
	@echo "make release        check that a release is ready; build and try wheel and source archive, into dist/"
	@echo "make run-notebooks  set up, run all notebooks and save their outputs"
	@echo "make test-quick     the tests of 'make test' in the quick profile, without the slow ones, on all cores"
	@echo "make deep           the tests of 'make test' in the deep profile, and large random campaigns (hours)"
	@echo "make lint           set up, then run lint, type checks and import rules"
	@echo "make setup          install what 'make run' needs into .venv; setup-dev adds what 'make test' needs"
	@echo "make openapi        write the OpenAPI document of the HTTP API into backend/openapi.json"
	@echo "make artifact       compile EventStake into backend/app/contracts/EventStake.json"
	@echo "make lock           resolve requirements/*.in and both package.json to new lock files"
	@echo "make clean          stop the embedded database; delete .venv, node_modules, caches, state and reports"

run: setup
	@$(BIN)/stakesim run --out reports/run

GATE_PROFILE ?= pr
gate: setup .venv/gate.stamp contracts/node_modules/dev.stamp $(if $(filter nightly release,$(GATE_PROFILE)),proofs)
	@$(BIN)/stakesim gate --profile $(GATE_PROFILE) $(if $(GATE_SEED),--seed $(GATE_SEED))

opinions: setup proofs
	@$(BIN)/stakesim opinions

# Installs slither and halmos, each into its own environment
proofs: setup
	@$(MAKE) --no-print-directory -C contracts/proofs

MUTANTS_ARGS ?=
mutants: setup-dev
	@$(BIN)/python -m mutants $(MUTANTS_ARGS)

notebooks: setup .venv/notebooks.stamp
	@exec $(BIN)/jupyter lab notebooks/01_tour.ipynb

serve: setup .venv/serve.stamp contracts/node_modules/dev.stamp
	@exec $(BIN)/stakesim serve

docs: setup .venv/docs.stamp
	@$(BIN)/python docs/site/build_site.py

docs-serve: docs
	@exec $(BIN)/python -m http.server --bind 127.0.0.1 --directory site 8001

release: setup-dev docs
	@$(BIN)/python .ci/release.py

# Tests that run on any engine take revm, the fastest; scenarios also run on py-evm, the default, and so do the tests of what
# revm does not have: accounts that delegate to code. `make deep` runs all of it on py-evm.
# Four processes on two cores, as many of the first tests wait for blocks and scrapes
test: setup-dev lint
	@$(BIN)/pytest --profile $(CI_PROFILE) -n 4 --dist worksteal --stakesim-engine revm
	@$(BIN)/pytest -q --profile $(CI_PROFILE) -n 2 scenarios tests/contracts/test_max_seats.py tests/contracts/test_receivers.py
	@STAKESIM_SMALL=1 $(BIN)/pytest -q -p nbmake --nbmake -n 2 notebooks
	@$(BIN)/stakesim bench --calls --check benchmarks

# Saves outputs and plots in the notebooks
run-notebooks: setup-dev
	@$(BIN)/pytest -q -p nbmake --nbmake --overwrite notebooks

test-quick: setup-dev
	@$(BIN)/pytest -q -n logical --dist worksteal --stakesim-engine revm

deep: setup-dev
	@$(BIN)/pytest --profile deep -n 2
	@$(BIN)/stakesim fuzz --for 1h
	@$(BIN)/stakesim fuzz --driver services --for 1h
	@$(BIN)/stakesim run administered calm flaky hostile volatile --runs 2500 -j 2 --out reports/deep

lint: setup-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

setup: .venv/run.stamp contracts/node_modules/run.stamp
setup-dev: .venv/dev.stamp contracts/node_modules/dev.stamp examples/clients/typescript/node_modules/dev.stamp

# pip rather than a faster tool: every machine has it, and it honours the user's index settings
.venv/run.stamp: requirements/run.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.11 or later, or name another with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: install Python 3.11 or later, or name another with make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: install it (Debian: apt install python3-venv)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what stakesim needs into .venv (about a minute, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# extra requirements of some targets, installed on top of run.txt
EXTRAS := dev docs gate notebooks serve
$(EXTRAS:%=.venv/%.stamp): .venv/%.stamp: requirements/%.txt .venv/run.stamp
	@echo "installing requirements/$*.txt into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

.venv/dev.stamp: | .venv/node.stamp # not two of pip at once with make -j

# Node: the machine's own if it has one, otherwise a wheel in .venv
.venv/node.stamp: requirements/node.txt .venv/run.stamp
	@PATH="$$PATH:$(CURDIR)/$(BIN)"; command -v npm >/dev/null && command -v node >/dev/null || { \
	  echo "no Node on this machine: installing one into .venv"; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/node.txt; }
	@touch $@

# What tests need stays installed when 'make run' installs anew
NODE_DEV = $(filter dev,$*)$(wildcard contracts/node_modules/dev.stamp)
contracts/node_modules/%.stamp: contracts/package-lock.json .venv/node.stamp
	@echo "installing the Solidity compiler and OpenZeppelin$(if $(NODE_DEV), and anvil)"
	@PATH="$$PATH:$(CURDIR)/$(BIN)"; cd contracts && timeout 300 npm ci --silent --ignore-scripts $(if $(NODE_DEV),,--omit=optional) \
	  || { echo "npm ci failed: check the network, then run make again" >&2; exit 2; }
	@touch contracts/node_modules/run.stamp $(if $(NODE_DEV),contracts/node_modules/dev.stamp)

examples/clients/typescript/node_modules/dev.stamp: examples/clients/typescript/package-lock.json .venv/node.stamp
	@echo "installing what the TypeScript client needs"
	@PATH="$$PATH:$(CURDIR)/$(BIN)"; cd examples/clients/typescript && timeout 300 npm ci --silent --ignore-scripts \
	  || { echo "npm ci failed: check the network, then run make again" >&2; exit 2; }
	@touch $@

openapi: setup .venv/serve.stamp
	@$(BIN)/stakesim openapi --out backend/openapi.json

lock: setup-dev
	@for f in run serve gate notebooks docs dev node; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	  --prerelease=if-necessary-or-explicit --no-header requirements/$$f.in -o requirements/$$f.txt || exit 1; done
	@for f in contracts examples/clients/typescript; do (cd $$f && npm install --package-lock-only --silent) || exit 1; done

artifact: setup
	@$(BIN)/stakesim compile --write

clean:
	@test ! -x $(BIN)/stakesim || $(BIN)/stakesim stop-database || true
	rm -rf $(VENV) contracts/node_modules examples/clients/typescript/node_modules .stakesim reports site dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
