# `make qualify` runs the main job, `make test` passes the tests; each makes .venv and installs the locked set first.
# `make test` makes .venv-4.48, too: the same stack with transformers 4.48.3, which the specification names; and
# .venv-stock, stock PyTorch for workers of the host and of NVIDIA GPUs. `make .venv-xpu` installs the stack of Intel
# GPUs, `make .venv-stock-xpu` stock PyTorch for their workers. Needs Python 3.11, gcc and make.

# Hundreds of short processes import the same modules: the first of them keeps what it compiled.
export PYTHONDONTWRITEBYTECODE :=
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.9
# Where the wheels for Intel GPUs are; everything else comes from PyPI. Every version is pinned, so the best match over
# all indexes is that one version.
XPU_INDEXES := --index https://download.pytorch.org/whl/xpu \
	--index https://pytorch-extension.intel.com/release-whl/stable/xpu/us/ --index-strategy unsafe-best-match
# The float precision of claimed cells that this CPU computes in.
FLOAT := $(if $(shell grep -m1 -o avx512bw /proc/cpuinfo),bf16,fp32)
# Tests whose ranks a launcher starts; they import the stack anew, a minute of CPU time in all.
LAUNCHED := mpirun or torchrun or tp_deepspeed
FOR_LINUX := --generate-hashes --python-version 3.11 --python-platform x86_64-manylinux_2_28
LOCKING := --extra dev $(FOR_LINUX)
# Families whose sharded cells `make test` runs: rotary positions, and ALiBi.
SHARDED := llama2 or bloom
# Models that the first two targets run in INT4, and of which they run the suites that take longest for a cell, those of
# SLOW in one precision; `make nightly` runs the rest.
FEW := llama-2-7b
SLOW := robustness or generate
# Models whose answers take longest: `make nightly` looks at them.
LONG := glm-4-9b or baichuan2-13b or phi-3-mini-4k
# Models whose answers by stock PyTorch `make nightly` looks at; `make test` runs one of each family with short prompts.
STOCK := llama-2-7b or bloom-7b1
# What `make qualify` selects; `make qualify ARGS=` runs the whole host matrix.
ARGS ?= -m "llama2 and (int4 or $(FLOAT))" --benchmark-compare -k "not ($(LAUNCHED) or int4_native) \
	and ($(FLOAT) or $(FEW)) and (not ($(SLOW)) or $(FEW) and $(FLOAT))"
# test_against needs another stack (--against=PYTHON), test_move two engines (--move); test_depth is for `make nightly`.
APART := suites/test_against.py suites/test_depth.py suites/test_move.py
SUITES := $(filter-out $(APART),$(sort $(wildcard suites/test_*.py)))

# This project's own distribution: one module, built by the locked setuptools.
OURS := --quiet --no-deps --no-build-isolation --reinstall-package xpu-llm-cts .

.PHONY: .venv .venv-4.48 .venv-stock .venv-stock-xpu .venv-xpu qualify test nightly lint lock lock-xpu results verify \
	benchmarks fuzz fault-injection sharpness study-accuracy study-calm study-resume study-wall-clock clean

qualify: .venv
	.venv/bin/python -m pytest $(SUITES) $(ARGS)

# Of each family's representative that float precision, of one INT4; sharded, one of each kind of positions; under
# launchers, one; by stock PyTorch, narrow models. The suite's own tests share two processes, a file in one of them, small
# ones last; cells are timed and run one at a time.
test: .venv .venv-4.48 .venv-stock lint
	.venv/bin/python -m pytest $(SUITES) -m "representative and (int4 or $(FLOAT)) and (single or $(SHARDED)) \
		and ipex" -k "(not ($(LAUNCHED)) or llama-2-7b) and ($(FLOAT) or $(FEW)) \
		and (not ($(SLOW) or latency) or $(FEW)) and (not ($(SLOW)) or $(FLOAT)) and not (test_generation and ($(LONG)))"
	.venv/bin/python -m pytest -m "not nightly" -n 2 --dist loadfile --no-loadscope-reorder suites/meta

# What takes long and changes seldom: the other precisions, contexts of growing depth, the timing gate end to end, fault
# injection, every planted fault, and whole runs that are killed, resumed, disturbed and compared.
nightly: .venv .venv-4.48 .venv-stock
	.venv/bin/python -m pytest -m "representative and not (int4 or $(FLOAT))" $(SUITES)
	.venv/bin/python -m pytest -m representative suites/test_depth.py
	.venv/bin/python -m pytest -m "representative and (int4 or $(FLOAT)) and autotp and not ($(SHARDED))" \
		-k "not ($(LAUNCHED))" $(SUITES)
	.venv/bin/python -m pytest -m "representative and (int4 or $(FLOAT)) and (single or $(SHARDED))" \
		-k "not ($(FEW)) or ($(SLOW)) and not $(FLOAT)" \
		suites/test_generate.py suites/test_latency.py suites/test_robustness.py
	.venv/bin/python -m pytest -m "representative and int4" -k "not ($(FEW))" \
		suites/test_dispatch.py suites/test_generation.py suites/test_quantization.py
	.venv/bin/python -m pytest -m representative -k "($(LAUNCHED)) and not llama-2-7b" suites/test_distributed.py
	.venv/bin/python -m pytest -m "representative and tpplan" suites/test_distributed.py
	.venv/bin/python -m pytest -m "representative and ipex and $(FLOAT) and single" -k "$(LONG)" suites/test_generation.py
	.venv/bin/python -m pytest -m "representative and eager and $(FLOAT) and single" -k "$(STOCK)" suites/test_generation.py
	.venv/bin/python -m pytest -m nightly suites/meta

lint: .venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

# Runs the whole host matrix and writes what came of it to docs/results-cpu.md; about half an hour.
results: .venv
	.venv/bin/python -m pytest $(SUITES) --platform cpu --results results/page || [ $$? -eq 1 ]
	.venv/bin/python -m fixtures.report.results results/page/journal.jsonl cpu > results/page/results-cpu.md
	mv results/page/results-cpu.md docs/results-cpu.md

# Verifies bundles: `make verify BUNDLE=FILE KEY=PUB`. Without a key, who signed is not checked; PAGE=DIR is a folder for
# one page of all of them.
verify: .venv
	.venv/bin/python -m fixtures.verify $(BUNDLE) $(addprefix --key ,$(KEY)) $(addprefix --page ,$(PAGE))

# Changes every kind of file at random, 5,000 times each.
fuzz: .venv
	XPU_LLM_CTS_FUZZ=5000 .venv/bin/python -m pytest suites/meta/unit/test_fuzz.py

benchmarks: .venv
	.venv/bin/python -m pytest --benchmark-only suites/meta

# How often the rule for scores sees a drop, simulated.
study-accuracy: .venv
	.venv/bin/python -m suites.meta.studies.accuracy

# Sessions of the timing gate with planted slowdowns, quiet and beside neighbours; takes an hour.
study-wall-clock: .venv
	.venv/bin/python -m suites.meta.studies.wall_clock

# The main job, ten times in a row, half of them beside neighbours.
study-calm: .venv
	.venv/bin/python -m suites.meta.studies.calm

# Kills and resumes for about half an hour.
study-resume: .venv
	.venv/bin/python -m suites.meta.chaos.resume

# Every planted fault, 300 variants of unbroken cells and sizes of graded faults, written to docs/sharpness.md.
sharpness: .venv
	.venv/bin/python -m suites.meta.studies.sharpness $(ARGS)

# 220 faults in about twenty minutes; `make fault-injection FAULTS='--injections 50 --seed 7'` draws others.
FAULTS ?= --injections 220 --seed 1
fault-injection: .venv
	.venv/bin/python -m suites.meta.chaos.injection $(FAULTS)

.venv: .venv/.plugin

# The stamp comes last, so that an interrupted install is not taken for a good one.
.venv/.installed: requirements.lock
	rm -rf .venv
	"$(PYTHON)" -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV="$(CURDIR)/.venv" .venv/bin/uv pip sync --quiet --require-hashes --compile-bytecode requirements.lock
	.venv/bin/python -m fixtures.engine.extensions 2>.venv/extensions.log || { cat .venv/extensions.log; exit 1; }
	touch $@

# The one module by which pytest finds this project's options and configuration whatever folders a command names.
.venv/.plugin: .venv/.installed xpu_llm_cts.py
	VIRTUAL_ENV="$(CURDIR)/.venv" .venv/bin/uv pip install $(OURS)
	touch $@

# Only what the two locks differ in is installed, in front of the packages of .venv: seconds, and no second torch.
.venv-4.48: .venv-4.48/.installed

# BASE=.venv-xpu takes the stack of Intel GPUs instead.
BASE ?= .venv
.venv-4.48/.installed: requirements-4.48.lock .venv/.installed $(BASE)/.installed
	rm -rf .venv-4.48
	.venv/bin/uv venv --quiet --python $(BASE)/bin/python .venv-4.48
	echo ../../../../$(BASE)/lib/python3.11/site-packages > .venv-4.48/lib/python3.11/site-packages/stack.pth
	awk 'NR == FNR { held[$$0]; next } /^[^ #]/ { other = !($$0 in held) } other' requirements.lock $< > .venv-4.48/other.lock
	VIRTUAL_ENV="$(CURDIR)/.venv-4.48" .venv/bin/uv pip install --quiet --no-deps --require-hashes \
		--requirement .venv-4.48/other.lock
	touch $@

# Workers need nothing of pytest's side, so both environments hold the stack alone. PyPI's torch is built for CUDA, and
# runs on a host too; nothing of it imports without NVIDIA's libraries. Compiling all of it to bytecode would take longer
# than the install: what a worker imports is compiled when it is first imported.
.venv-stock: .venv-stock/.installed

.venv-stock/.installed: requirements-stock.lock .venv/.installed
	rm -rf .venv-stock
	.venv/bin/uv venv --quiet --python "$(PYTHON)" .venv-stock
	VIRTUAL_ENV="$(CURDIR)/.venv-stock" .venv/bin/uv pip sync --quiet --require-hashes requirements-stock.lock
	touch $@

# The same but for torch and what it requires, which come from PyTorch's index for Intel GPUs, where hashes are not known.
.venv-stock-xpu: .venv-stock-xpu/.installed

.venv-stock-xpu/.installed: requirements-stock.lock .venv/.installed
	rm -rf .venv-stock-xpu
	.venv/bin/uv venv --quiet --python "$(PYTHON)" .venv-stock-xpu
	awk '/^[^ #]/ { mine = !/^((torch|triton)==|(nvidia|cuda)-)/ } mine' $< > .venv-stock-xpu/other.lock
	VIRTUAL_ENV="$(CURDIR)/.venv-stock-xpu" .venv/bin/uv pip install --quiet --no-deps --require-hashes \
		--requirement .venv-stock-xpu/other.lock
	VIRTUAL_ENV="$(CURDIR)/.venv-stock-xpu" .venv/bin/uv pip install --quiet \
		--index https://download.pytorch.org/whl/xpu "$$(grep -o '^torch==[0-9.]*' $<)"
	.venv-stock-xpu/bin/python -c "import torch; assert torch.__version__.endswith('+xpu'), torch.__version__"
	touch $@

# The second lock begins as the first, whose versions it keeps where they are possible.
lock: .venv/.installed
	.venv/bin/uv pip compile --quiet --extra host $(LOCKING) --output-file requirements.lock pyproject.toml
	cp requirements.lock requirements-4.48.lock
	.venv/bin/uv pip compile --quiet --extra host-4-48 $(LOCKING) --output-file requirements-4.48.lock \
		pyproject.toml
	.venv/bin/uv pip compile --quiet --group stock $(FOR_LINUX) --output-file requirements-stock.lock

# Of another build of torch nothing here could run on an Intel GPU: the install fails where that is what came.
.venv-xpu: .venv-xpu/.installed

.venv-xpu/.installed: requirements-xpu.lock
	rm -rf .venv-xpu
	"$(PYTHON)" -m venv .venv-xpu
	.venv-xpu/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV="$(CURDIR)/.venv-xpu" .venv-xpu/bin/uv pip sync --quiet $(XPU_INDEXES) requirements-xpu.lock
	VIRTUAL_ENV="$(CURDIR)/.venv-xpu" .venv-xpu/bin/uv pip install $(OURS)
	.venv-xpu/bin/python -c "import torch; assert torch.__version__.endswith('+xpu'), torch.__version__"
	touch $@

lock-xpu: .venv/.installed
	.venv/bin/uv pip compile --quiet --extra xpu --generate-hashes --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 $(XPU_INDEXES) --no-emit-index-url \
		--output-file requirements-xpu.lock pyproject.toml

clean:
	rm -rf .venv .venv-4.48 .venv-stock .venv-stock-xpu .venv-xpu build results nc_workspace
