# make run   sets up what it needs, plays every scenario and a small random campaign, writes reports/run/
# make test  sets up, runs lint, types, import rules and all tests
# make serve sets up, serves the HTTP API on a stand-in for Sepolia, or on the network of .env
# The rest: make help
SHELL := /bin/sh
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CI_PROFILE ?= ci

unexport PYTHONDONTWRITEBYTECODE # else each process compiles all that it imports, and pytest rewrites all tests anew

.PHONY: help run gate opinions proofs mutants notebooks run-notebooks serve test test-quick deep setup setup-dev lint lock artifact clean
.DEFAULT_GOAL := help

help:
	@echo "make run         set up, play all scenarios and a small random campaign, write reports/run/"
	@echo "make gate        set up, try all that the contract has to pass before a deploy, write reports/gate/"
	@echo "make opinions    set up, ask slither and halmos about the contract"
	@echo "make mutants     set up, try small faults in the backend's services: which does no test find? (hours)"
	@echo "make notebooks   set up, open the notebooks in JupyterLab"
	@echo "make run-notebooks  run them all, and keep their outputs"
	@echo "make serve       set up, serve the HTTP API on a stand-in for Sepolia, or on the network of .env"
	@echo "make test        set up, lint, types, import rules, all tests"
	@echo "make test-quick  the same tests at low intensity, without the slow ones, on all cores"
	@echo "make deep        the same tests at high intensity, and large campaigns; takes long"
	@echo "make setup       install what 'run' needs into .venv; setup-dev adds what 'test' needs"
	@echo "make artifact    compile EventStake into backend/app/contracts/EventStake.json"
	@echo "make lock        resolve requirements/*.in and contracts/package.json anew"
	@echo "make clean       remove .venv, node_modules, caches and the embedded database"

run: setup
	@$(BIN)/stakesim run --out reports/run

GATE_PROFILE ?= pr
gate: setup .venv/gate.stamp $(if $(filter nightly,$(GATE_PROFILE)),proofs contracts/node_modules/dev.stamp)
	@$(BIN)/stakesim gate --profile $(GATE_PROFILE)

opinions: setup proofs
	@$(BIN)/stakesim opinions

# slither and halmos, each in an environment of its own
proofs: setup
	@$(MAKE) --no-print-directory -C contracts/proofs

# mutmut names modules from src/ on, and copies what is beside it
MUTANTS := .stakesim/mutants
mutants: setup-dev .venv/mutants.stamp
	@rm -rf $(MUTANTS) && mkdir -p $(MUTANTS) && cd $(MUTANTS) && ln -s ../../backend src && ln -s ../../tests ../../conftest.py ../../pyproject.toml ../../scenarios .
	@cd $(MUTANTS) && STAKESIM_HOME=$(CURDIR)/.stakesim $(abspath $(BIN))/mutmut run && $(abspath $(BIN))/python src/mutation_score.py

notebooks: setup .venv/notebooks.stamp
	@exec $(BIN)/jupyter lab notebooks/01_tour.ipynb

serve: setup .venv/serve.stamp contracts/node_modules/dev.stamp
	@exec $(BIN)/stakesim serve

# Tests that need no certain engine take the fastest; stories take the default one as well, tests of the contract alone
test: setup-dev lint
	@$(BIN)/pytest --profile $(CI_PROFILE) -n 2 --dist worksteal --stakesim-engine revm --ignore tests/contracts
	@$(BIN)/pytest -q --profile $(CI_PROFILE) -n 2 scenarios tests/contracts
	@STAKESIM_SMALL=1 $(BIN)/pytest -q -p nbmake --nbmake -n 2 notebooks

# Outputs and plots are kept in the notebooks
run-notebooks: setup-dev
	@$(BIN)/pytest -q -p nbmake --nbmake --overwrite notebooks

test-quick: setup-dev
	@$(BIN)/pytest -q -n logical --dist worksteal --stakesim-engine revm

deep: setup-dev
	@$(BIN)/pytest --profile deep -n 2
	@$(BIN)/stakesim run calm flaky hostile volatile --runs 2500 -j 2 --out reports/deep

lint: setup-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports --no-logo

setup: .venv/run.stamp contracts/node_modules/run.stamp
setup-dev: .venv/dev.stamp contracts/node_modules/dev.stamp

# pip, not a faster tool: it is on every machine and honours the user's own index settings.
.venv/run.stamp: requirements/run.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python is missing: install Python 3.11 or later, or say which with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$$($(PYTHON) --version) is too old: install Python 3.11 or later, or say which with make PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing: install it (Debian: apt install python3-venv)" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing what the harness needs into .venv (about a minute, once)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/run.txt
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# what else some targets need, each on top of that
.venv/mutants.stamp: .venv/dev.stamp
EXTRAS := dev gate mutants notebooks serve
$(EXTRAS:%=.venv/%.stamp): .venv/%.stamp: requirements/%.txt .venv/run.stamp
	@echo "installing requirements/$*.txt into .venv"
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r $<
	@touch $@

# node: the machine's own, else a wheel's in .venv
.venv/node.stamp: requirements/node.txt .venv/run.stamp
	@PATH="$$PATH:$(CURDIR)/$(BIN)"; command -v npm >/dev/null && command -v node >/dev/null || { \
	  echo "no Node on this machine: installing one into .venv"; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/node.txt; }
	@touch $@

contracts/node_modules/%.stamp: contracts/package-lock.json .venv/node.stamp
	@echo "installing the Solidity compiler and OpenZeppelin ($*)"
	@PATH="$$PATH:$(CURDIR)/$(BIN)"; cd contracts && timeout 300 npm ci --silent --ignore-scripts $(if $(filter run,$*),--omit=optional) \
	  || { echo "npm ci failed: check the network, then call make again" >&2; exit 2; }
	@touch contracts/node_modules/run.stamp $@

lock: setup-dev
	@for f in run serve gate notebooks dev mutants node; do $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes \
	  --prerelease=if-necessary-or-explicit --no-header requirements/$$f.in -o requirements/$$f.txt || exit 1; done
	@cd contracts && npm install --package-lock-only --silent

artifact: setup
	@$(BIN)/stakesim compile --write

clean:
	@test ! -x $(BIN)/stakesim || $(BIN)/stakesim stop-database || true
	rm -rf $(VENV) contracts/node_modules .stakesim reports .pytest_cache .mypy_cache .ruff_cache .hypothesis
