.DEFAULT_GOAL := help
.PHONY: help setup demo test test-fw table test-all check bench clean
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt tools/bootstrap.py hatch_build.py $(wildcard src/holdfast/store/*.[ch])
	$(PYTHON) tools/bootstrap.py
	@touch $(STAMP)

setup: $(STAMP)  ## Make .venv with everything the other targets need

demo: $(STAMP)  ## Keep, prove, promote, break and rescue real models, in under a minute
	$(BIN)/python tools/demo.py

# Where writing bytecode is off, each of the many processes that tests start would compile anew.
unexport PYTHONDONTWRITEBYTECODE
# Two processes share the cores; a pool of threads in each makes both wait for each other.
LIGHT := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not service"
LOG := .venv/half.log
# About half of the tests by the time that they take; the other process runs the rest.
HALF := tests/frameworks tests/trust tests/rescue tests/codec tests/environment \
	tests/remote tests/store tests/archive tests/catalogue

test: $(STAMP)  ## The tests: light frameworks, no external server; in two processes
	HOLDFAST_KEPT=.venv/kept $(LIGHT) $(HALF) >$(LOG) 2>&1 & half=$$!; \
	$(LIGHT) $(HALF:%=--ignore %); rest=$$?; \
	wait $$half; other=$$?; cat $(LOG); exit $$((rest + other))

test-fw:  ## One heavy framework in an environment and a process of its own: make test-fw FW=keras
	$(PYTHON) tools/bootstrap.py $(FW)
	HOLDFAST_KEPT=.venvs/$(FW)/kept .venvs/$(FW)/bin/python -m pytest tests/frameworks/test_$(FW)*.py

table:  ## Write the README's table of frameworks from what the last make test and test-fw proved
	$(PYTHON) tools/frameworks_table.py .venv/kept .venvs/*/kept

test-all: $(STAMP)  ## All of it: slow tests, services, fuzzing
	$(BIN)/python -m pytest
	$(BIN)/python -m uv pip install --python $(BIN)/python --quiet -e ".[fuzz]"
	$(BIN)/python tests/fuzz/fuzz_documents.py -atheris_runs=200000

check: $(STAMP)  ## Lint, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## Print the ratio tables beside the peers
	$(BIN)/python -m uv pip install --python $(BIN)/python --quiet -e ".[bench]"
	for each in startup catalogue forest estimators storage loading bundle portable fixity; do \
		$(BIN)/python benchmarks/$$each.py || exit 1; done

clean:  ## Remove what the targets made, but for the demo's store
	rm -rf .venv .venvs .mypy_cache .ruff_cache .pytest_cache .hypothesis
