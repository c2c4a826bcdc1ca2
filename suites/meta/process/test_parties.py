"""Workers and fork servers say whose fault it is that something did not work."""

import json
import sys

import pytest

from fixtures.io.parties import SUITE
from fixtures.measure.processes import Processes
from fixtures.measure.settings import Settings
from fixtures.worker.pool import ForkServerFailed, Worker
from fixtures.worker.termination import RecipeError
from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import generation

MODULES = ("json", "no_such_package.inside", "csv")


@pytest.fixture
def processes():
    processes = Processes(Settings())
    yield processes
    processes.close()


def test_a_module_that_cannot_be_imported_is_named_every_time(processes):
    for _ in range(3):
        server = processes.fork_server(MODULES)
        with pytest.raises(ForkServerFailed, match=r"cannot import no_such_package\.inside: Module") as failed:
            server.wait_ready()
        assert failed.value.module == "no_such_package.inside"
    assert len(processes.fork_servers) == 1


def test_a_stack_that_cannot_be_imported_is_imported_once(processes):
    first = processes.fork_server(MODULES)
    first.process.wait(60)  # before anybody asked how it went
    assert processes.fork_server(MODULES) is first


def test_a_fork_server_that_was_killed_is_replaced(processes):
    first = processes.fork_server(("json",))
    first.wait_ready()
    first.process.kill()
    first.process.wait()
    assert processes.fork_server(("json",)) is not first


def test_an_exception_of_the_suites_own_code_is_the_suites(stock):
    worker = Worker(stock)
    with pytest.raises(RecipeError) as ours:
        worker.call("trace", 60, name="never loaded", runs=[])
    with pytest.raises(RecipeError) as planted:
        worker.call("call", 60, function="suites.meta.faults.model:a_python_error")
    worker.close()
    assert (ours.value.party, planted.value.party) == (SUITE, "")


@pytest.fixture
def without_torch(tmp_path):
    """An interpreter that cannot import torch."""
    package = tmp_path / "modules" / "torch"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("import no_such_library\n")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}:$PYTHONPATH" exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def test_every_cell_names_the_module_that_cannot_be_imported(tmp_path, without_torch):
    cells = ["opt-6.7b-fp32-cpu-single", "llama-2-7b-fp32-cpu-single", "llama-2-7b-int4-cpu-single"]
    tests = [f"suites/test_generation.py::{generation(cell)}" for cell in cells]
    run = fork_suite(tmp_path, f"--worker-python={without_torch}", *tests)
    for cell in cells:
        assert f"{without_torch} cannot import torch: ModuleNotFoundError" in run.line(generation(cell), "usable")
        assert run.property(generation(cell), "party") == "stock stack"
    assert "at fault: stock stack 3" in run.output
    records = [json.loads(row) for row in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert [record["party"] for record in records if record["kind"] == "test"] == ["stock stack"] * 3
