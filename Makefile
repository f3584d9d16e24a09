# Everything a fresh machine needs is set up here: `make serve` and `make test` are the two commands to know.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: test lint types unit fuzz mutate patterns bench serve clean

## test: install what the tests need, then lint, types, and the suite with branch coverage
test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP)
	$(BIN)/pytest --cov --cov-report=term:skip-covered --cov-fail-under=90

## fuzz: the random-graph gate at length (FUZZ_EXAMPLES graphs)
FUZZ_EXAMPLES ?= 10000
fuzz: $(STAMP)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest tests/test_gate.py -k random

## mutate: break every line of algebra in turn; the gate must notice each time
mutate: $(STAMP)
	$(BIN)/python tests/mutation.py

## patterns: write docs/patterns.md, what becomes of every pattern of the rule tables
patterns: $(STAMP)
	PYTHONPATH=. $(BIN)/python tests/patterns.py

## bench: side by side with cp, onnx, onnxsim, onnxslim, onnxscript and ONNX Runtime
bench: $(VENV)/.bench-installed
	$(BIN)/python -m benchmarks

## serve: start the HTTP service on loopback
serve: $(STAMP)
	$(BIN)/bnfold serve

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

$(VENV)/.bench-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
