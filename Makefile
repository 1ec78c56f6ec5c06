# Two commands do everything: `make demo` runs the main job, `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
CONSTRAINTS = constraints.txt
SUPPORTED = import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
FUZZ_TARGETS = http1 http2 inflate protobuf redaction

.PHONY: help protos setup demo fmt lint test test-all bench test-alibi fuzz notebooks check clean

help:
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/ -/'

$(VENV)/.demo: pyproject.toml $(CONSTRAINTS)
	@echo >&2 "making $(VENV) and installing offpath with what the demo needs: about a minute, the first time only"
	@$(PYTHON) -c "$(SUPPORTED)" || { echo >&2 "offpath needs Python 3.10, 3.11 or 3.12: name one, as in 'make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12'"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[demo]" >&2
	@touch $@

$(VENV)/.dev: pyproject.toml $(CONSTRAINTS)
	@echo >&2 "making $(VENV) and installing everything for development: some minutes, the first time only"
	@$(PYTHON) -c "$(SUPPORTED)" || { echo >&2 "offpath needs Python 3.10, 3.11 or 3.12: name one, as in 'make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12'"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@ $(VENV)/.demo

setup: $(VENV)/.dev ## everything a developer needs, in .venv

# Without --once, Ctrl-C (130) is how the demo ends; the shell's trap leaves it to the demo to end.
demo: $(VENV)/.demo ## model server, sidecar, log, worker, alarm: the whole path on real data (ARGS="--once")
	@trap : INT; $(BIN)/offpath demo $(ARGS) || { status=$$?; [ $$status$(findstring --once,$(ARGS)) = 130 ] || exit $$status; }

fmt: $(VENV)/.dev ## format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.dev ## ruff, mypy strict, import-linter
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Generated code runs with protobuf of its own major version and the next one: the oldest that is supported makes it.
PROTOC = $(VENV)/protoc
protos: ## generate monitor/codecs/proto from its .proto files
	$(PYTHON) -m venv $(PROTOC)
	$(PROTOC)/bin/python -m pip install --quiet --disable-pip-version-check "grpcio-tools==1.73.1" setuptools
	$(PROTOC)/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. monitor/codecs/proto/*.proto

# Most tests wait for servers, so that three processes keep two cores busy. A file's tests share its servers.
PYTEST = $(BIN)/python -m pytest -n $(or $(PROCESSES),3) --dist loadfile

test: lint ## lint and all tests shorter than a minute (PROCESSES=3)
	$(PYTEST) -m "not slow"

test-all: test ## the long ones too, one after the other
	$(BIN)/python -m pytest -m slow

ALIBI = .venv-alibi
$(ALIBI)/.made: pyproject.toml
	$(PYTHON) -m venv $(ALIBI)
	$(ALIBI)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[alibi,torch]" pytest pytest-timeout
	touch $@

test-alibi: $(ALIBI)/.made ## tests of AlibiDetect, with alibi-detect in an environment of its own
	$(ALIBI)/bin/python -m pytest --noconftest -k "AlibiDetect or compat" tests/contract/test_detectors.py tests/unit/test_compat_saved.py tests/unit/test_compat_alibi.py

bench: $(VENV)/.dev ## the benchmarks, in their quick form
	for b in $(filter-out benchmarks/report.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$b --quick || exit 1; done

fuzz: $(VENV)/.dev ## coverage-guided fuzzing of the parsers (TIME=600 seconds each; TARGET=http1 for one)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[fuzz]"
	for t in $(or $(TARGET),$(FUZZ_TARGETS)); do $(BIN)/python -m tests.fuzz $$t $(or $(TIME),600) || exit 1; done

notebooks: $(VENV)/.dev ## run the notebooks
	@ls notebooks/*.ipynb >/dev/null 2>&1 || { echo "no notebooks yet"; exit 0; }

check: test ## what CI runs

clean: ## remove what was built
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
