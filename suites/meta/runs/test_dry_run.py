"""--dry-run prints the plan of a run of a platform that is not here, without a device, a stack or a worker."""

import re
import subprocess
import sys

import pytest

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT

CELLS = ("-m", "llama2 or baichuan2")
# Nothing that runs inside a worker can be imported, and no process can be started.
WITHOUT_STACK = """
import subprocess, sys
sys.modules.update(dict.fromkeys(["torch", "transformers", "intel_extension_for_pytorch", "deepspeed"]))
import pytest
def refuse(command, **more):
    if command[0] == sys.executable:
        raise AssertionError(f"started {command}")
    return popen(command, **more)
popen, subprocess.Popen = subprocess.Popen, refuse
sys.exit(pytest.main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A dry run of two families on a Max 1550 with the weights that it would have without checkpoints."""
    environment = {"SYCL_CACHE_PERSISTENT": "1", "HF_TOKEN": "a-secret-value", "CCL_LOG": "a-secret-value"}
    return fork_suite(
        tmp_path_factory.mktemp("dry"), "--platform", "max1550", "--dry-run", *CELLS, environment=environment
    )


def test_it_ends_well_and_runs_nothing(run):
    assert run.status == 0, run.output
    assert "81 tests of 11 cells of max1550; nothing was run" in run.output
    assert run.tests == {}


def test_it_lists_the_cells_in_the_order_of_a_run(run):
    first = "  llama-2-7b-fp16-max1550-single ("
    assert run.output.index(first) < run.output.index("  llama-2-7b-int4-max1550-single (")
    assert run.output.index("  llama-2-70b-int4-max1550-single (") < run.output.index("  baichuan2-13b-fp16-max1550")
    (line,) = [line for line in run.output.splitlines() if line.startswith(first)]
    suites = {"depth", "dispatch", "generate", "generation", "latency", "parity", "robustness"}
    assert {*line.partition(": ")[2].split(", ")} == suites
    assert "by suite: " in run.output
    assert "int4_reload 3" in run.output


def test_it_gives_a_floor_of_the_time_and_says_that_it_is_one(run):
    assert re.search(r"  \d+ tests on max1550: more than [\d.]+ (s|min|h), a floor and no measurement: ", run.output)


def test_it_names_what_is_unsupported_and_why(run):
    assert "UNSUPPORTED, as far as it is known beforehand: 43" in run.output
    assert "  INT4 quantises a checkpoint, and synthetic weights have none; use --model-root" in run.output
    assert "    llama-2-7b-int4-max1550-single x11" in run.output
    assert "  baichuan2-13b needs its own code, which has no synthetic form; use --model-root" in run.output


def test_it_names_what_is_waived_and_why(tmp_path):
    waiver = """schema = 1
[[waivers]]
id = "planted"
suite = "generation"
cells = "llama-2-7b-*-max1550-*"
check = "left_padding"
at_most = 1.5
reason = "planted here"
evidence = "none"
owner = "nobody"
until = 2999-12-31
"""
    (tmp_path / "waivers.toml").write_text(waiver)
    run = fork_suite(tmp_path, "--platform", "max1550", "--dry-run", *CELLS, f"--baselines={tmp_path}")
    assert "WAIVED where the check of the waiver fails: 3" in run.output, run.output
    assert "  planted of nobody until 2999-12-31, check left_padding: planted here" in run.output


def test_it_shows_the_environment_of_workers_without_secrets(run):
    assert "  SYCL_CACHE_PERSISTENT=1  (yours)" in run.output
    assert "  CCL_LOG=[redacted]  (yours)" in run.output
    assert "  OMP_WAIT_POLICY=PASSIVE\n" in run.output
    assert "HF_TOKEN" not in run.output
    assert "workers of cells on xpu import torch, transformers" in run.output


def test_it_shows_the_memory_of_all_models_of_a_cell_side_by_side(run, tmp_path):
    gib = {cell: float(needed) for cell, needed in re.findall(r"  (\S+) \(side by side (\S+) GiB\): ", run.output)}
    # The reference in fp32 and in fp16, and the candidate: eight bytes for each of 6.74 thousand million parameters.
    assert 8 * 6.738e9 / 2**30 < gib["llama-2-7b-fp16-max1550-single"] < 80
    assert gib["llama-2-7b-fp16-max1550-single"] < gib["llama-2-70b-fp16-max1550-autotp"]
    small = fork_suite(tmp_path, "--platform", "max1550", "--dry-run", "--weights", "miniature", "-m", "llama2")
    (needed,) = re.findall(r"  llama-2-7b-fp16-max1550-single \(side by side (\S+) GiB\): ", small.output)
    assert float(needed) < 4


def test_a_host_has_no_plan_of_memory(tmp_path):
    run = fork_suite(tmp_path, "--platform", "cpu", "--dry-run", "-m", "llama2")
    assert "  llama-2-7b-bf16-cpu-single: " in run.output


def test_it_needs_no_stack_and_starts_no_process(tmp_path):
    words = ["--platform", "max1550,b580", "--dry-run", "-p", "no:cacheprovider", f"--results={tmp_path}", *CELLS]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_STACK, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "cells of max1550, b580; nothing was run" in done.stdout
    assert not (tmp_path / "journal.jsonl").exists()
