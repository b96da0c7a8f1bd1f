# Every target does its own set-up; a second call installs nothing. Needs python3 (3.10 or newer, with venv) and make.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
NEWEST := .venv-newest
WHEEL := .venv-wheel
FORMATS := .venv-formats
ORT := .onnxruntime
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help demo compare-demo onnxruntime docs docs-links test lint format test-backbones test-scale test-newest test-formats test-wheel test-gpu bench bench-check bench-gpu clean

help:
	@echo "make demo         train with and without the front end on built-in sounds (three minutes on two cores)"
	@echo "make compare-demo compare two front ends on built-in sounds, and write a page (under five minutes on two cores)"
	@echo "make docs         the site of the documentation, in site/ (a minute); every warning is an error"
	@echo "make docs-links   asks the web whether the links to other sites still work"
	@echo "make test         the whole test suite"
	@echo "make onnxruntime  headers and library for examples/deploy_cpp, on Debian; its test skips without them"
	@echo "make lint         ruff, mypy, and the order of imports"
	@echo "make format       let ruff rewrite the sources"
	@echo "make test-backbones  one model of every family of timm's (about ten minutes); writes docs/backbones.md"
	@echo "make test-scale   100,000 clips in shards, streamed in constant memory (three minutes)"
	@echo "make test-newest  the main paths on the newest releases, in a virtual environment of their own"
	@echo "make test-formats export to LiteRT and ExecuTorch, in a virtual environment of its own (7 GB)"
	@echo "make test-wheel   build wheel and sdist, install the wheel and all it needs anew, and use it"
	@echo "make test-gpu     the kernels' tests on a GPU, and compute-sanitizer's checks, where there is a GPU"
	@echo "make bench        what a CPU can measure, half an hour on two cores; writes benchmarks/RESULTS.md"
	@echo "make bench-check  measures again, and fails where a ratio has fallen below the recorded one"
	@echo "make bench-gpu    kernels, whole models and features on a GPU, where there is one"
	@echo "make clean        remove the virtual environments and what the tools left"

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED)
	rm -rf demo
	$(BIN)/specenhance demo --out demo

compare-demo: $(INSTALLED)
	rm -rf compare-demo
	$(BIN)/specenhance compare --data synthetic --frontends identity,clipnorm --backbones mobilenetv3_small_050 --seeds 2 --epochs 3 \
		--conditions gain:-12,noise:10 --cache memory --jobs 2 --device cpu --out compare-demo

# What examples/deploy_cpp is built with. It changes nothing on the system.
onnxruntime: $(ORT)/lib/libonnxruntime.so

$(ORT)/lib/libonnxruntime.so: examples/deploy_cpp/get_onnxruntime.sh | $(INSTALLED)
	sh examples/deploy_cpp/get_onnxruntime.sh $(BIN)/python $(ORT)

docs: $(INSTALLED)
	rm -rf site
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet -c docs -d site/.doctrees . site
	@echo "open site/index.html"

docs-links: $(INSTALLED)
	$(BIN)/python -m sphinx --builder linkcheck --quiet -c docs -d site/.doctrees . site/links

# One worker a core, each on one thread; a file stays with one worker, which makes what its tests share once.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(INSTALLED)
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# On one core, as it is timed.
test-backbones: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/models/test_backbones.py -m ""

test-scale: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/data/test_many_shards.py -m scale -s

# A new environment each time: what was newest at the last call may not be now.
test-newest:
	rm -rf $(NEWEST)
	$(PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip install --quiet --editable '.[train]' pytest hypothesis
	$(NEWEST)/bin/python -m pip list | grep -iE '^(torch|torchvision|torchaudio|triton|timm|nnAudio|lightning|torchmetrics) '
	$(NEWEST)/bin/python -m pytest tests/newest

# Both converters want other packages than the development set: executorch 1.2, which is for torch 2.11, wants pytest below 9.
test-formats:
	test -x $(FORMATS)/bin/python || $(PYTHON) -m venv $(FORMATS)
	$(FORMATS)/bin/python -m pip install --quiet --editable '.[train,export]' torch==2.11.0 torchvision==0.26.0 torchaudio==2.11.0 \
		pytest hypothesis litert-torch==0.10.0
	$(FORMATS)/bin/python -m pip install --quiet --no-deps executorch==1.2.0
	$(FORMATS)/bin/python -m pip install --quiet tabulate ruamel.yaml expecttest parameterized
	OMP_NUM_THREADS=1 $(FORMATS)/bin/python -m pytest tests/deploy/test_device_formats.py -rs

# As a user installs it: from the wheel, outside the tree, with what the newest releases are.
test-wheel:
	rm -rf $(WHEEL)
	$(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip install --quiet build
	$(WHEEL)/bin/python -m build --outdir $(WHEEL)/dist
	$(WHEEL)/bin/python -m pip install --quiet "$$(ls $(WHEEL)/dist/*.whl)[train,export]"
	cp tests/smoke.py $(WHEEL)
	cd $(WHEEL) && bin/python smoke.py smoke

test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest tests/kernels/test_suite.py -k on_the_gpu -rs
	PYTHON=$(BIN)/python sh benchmarks/sanitize.sh

bench: $(INSTALLED)
	$(BIN)/python benchmarks/suite.py

bench-check: $(INSTALLED)
	$(BIN)/python benchmarks/suite.py --check

bench-gpu: $(INSTALLED)
	$(BIN)/python benchmarks/gpu.py --json gpu.json
	$(BIN)/python benchmarks/model.py --device cuda
	$(BIN)/python benchmarks/features.py --device cuda

clean:
	rm -rf .venv $(NEWEST) $(WHEEL) $(FORMATS) $(ORT) build dist demo compare-demo site .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info
