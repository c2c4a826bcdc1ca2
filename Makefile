# `make qualify` runs the main job, `make test` passes the tests; each makes .venv and installs the locked set first.
# Needs Python 3.11, gcc and make.

PYTHON ?= python3.11
UV_VERSION := 0.13.9
# What `make qualify` asks; `make qualify ARGS=` runs the whole host matrix.
ARGS ?= -m llama2 --benchmark-compare

.PHONY: qualify test lint lock bench clean

qualify: .venv
	.venv/bin/python -m pytest suites/test_generation.py suites/test_latency.py $(ARGS)

test: .venv lint
	.venv/bin/python -m pytest -m representative suites/test_generation.py suites/test_latency.py
	.venv/bin/python -m pytest suites/meta

lint: .venv
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

bench: .venv
	.venv/bin/python -m suites.meta.bench_worker

# The directory is made whole under another name and moved, so that an interrupted install is not taken for a good one.
.venv: requirements.lock
	rm -rf .venv .venv-partial
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	VIRTUAL_ENV=$(CURDIR)/.venv .venv/bin/uv pip sync --require-hashes requirements.lock || (rm -rf .venv; false)
	touch .venv

lock: .venv
	.venv/bin/uv pip compile --quiet --extra host --extra dev --generate-hashes --python-version 3.11 \
		--python-platform x86_64-manylinux_2_28 --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv results
