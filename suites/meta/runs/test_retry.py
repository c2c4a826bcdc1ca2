"""One run with a worker that always dies, one that dies once, and a device that goes away: what each cell reports."""

import json
import types

import pytest

from fixtures.checks.verdicts import Line
from fixtures.matrix import load_matrix
from fixtures.measure.device_health import DeviceLost, Health
from fixtures.measure.int4 import Int4Saved
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.plugin.retry import start_over
from fixtures.worker.termination import DEVICE_LOST_MARKS, Termination, WorkerEnded, classify, device_lost
from suites.meta.harness.inner import generation, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

DIES, DIES_ONCE, LOSES_DEVICE, AFTERWARDS = CELLS = [
    "llama-2-7b-fp32-cpu-single",
    "llama-2-13b-fp32-cpu-single",
    "opt-6.7b-fp32-cpu-single",
    "opt-30b-fp32-cpu-single",
]
PLANTED = {DIES: "sigkill", DIES_ONCE: "sigkill_once", LOSES_DEVICE: "device_lost"}
# No device of this project's hosts can be lost: the exception and the probe that fails after it are planted.
PROBE = plant("cpu", "probe", "device_lost")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(the run, its journal's tests by cell in the order of their attempts)."""
    folder = tmp_path_factory.mktemp("run")
    plants = [plant(cell, "before", fault) for cell, fault in PLANTED.items()]
    selected = ["-p", "suites.meta.harness.planting", *plants, PROBE, *nodes("generation", CELLS)]
    run = run_suite(folder, *selected)
    records = [json.loads(row) for row in (folder / "journal.jsonl").read_text().splitlines()]
    tests = [record for record in records if record["kind"] == "test"]
    return run, {cell: [record for record in tests if record["cell"] == cell] for cell in CELLS}


def attempts(records):
    return [(record["attempt"], record["verdict"], record["final"]) for record in records]


def test_a_worker_that_dies_twice_has_crashed(run):
    run, records = run
    assert run.verdict(generation(DIES)) == "CRASHED"
    assert attempts(records[DIES]) == [(1, "CRASHED", False), (2, "CRASHED", True)]
    assert "first CRASHED: CRASHED(SIGKILL)" in run.line(generation(DIES), "attempts")


def test_a_worker_that_dies_once_is_intermittent_and_never_a_pass(run):
    run, records = run
    assert run.tests[generation(DIES_ONCE)][:2] == ("INTERMITTENT", "failure")
    assert attempts(records[DIES_ONCE]) == [(1, "CRASHED", False), (2, "INTERMITTENT", True)]
    assert records[DIES_ONCE][1]["metrics"], "the second attempt went through"


def test_a_lost_device_is_reported_and_not_asked_again(run):
    run, records = run
    assert attempts(records[LOSES_DEVICE]) == [(1, "CRASHED", False), (2, "CRASHED", True)]
    assert "CRASHED(device lost: level_zero backend" in records[LOSES_DEVICE][0]["lines"][-1]["measured"]
    assert attempts(records[AFTERWARDS]) == [(0, "CRASHED", False)], "a resumed run has to ask it"
    assert "device lost: a probe after" in run.line(generation(AFTERWARDS), "runs")


def test_every_cell_has_one_verdict_and_the_run_fails(run):
    run, _ = run
    assert run.status == 1
    assert "expected 4 = 4 run (3 CRASHED, 1 INTERMITTENT)" in run.output
    summary = run.output[run.output.index("= verdicts =") : run.output.index("expected 4")]
    assert summary.count("\nCRASHED suites/") == 3, "failures come first in the summary"
    assert summary.count("\nINTERMITTENT suites/") == 1


def test_a_second_attempt_starts_from_nothing(tmp_path):
    runtime, some = Runtime(Settings()), next(cell for cell in load_matrix().all_cells() if cell.precision == "int4")
    error = WorkerEnded(Termination("CRASHED", "SIGKILL"))
    (tmp_path / "half").mkdir()
    runtime.saved[some.id] = Int4Saved(some, folder=tmp_path / "half", error=error)
    start_over(runtime, some)
    assert not runtime.saved
    assert not (tmp_path / "half").exists()
    runtime.saved[some.id] = Int4Saved(some, folder=tmp_path)
    start_over(runtime, some)
    assert runtime.saved, "another test of the cell has saved it, and it is sound"


# -- the device ----


@pytest.fixture(scope="module")
def runtime():
    runtime = Runtime(Settings())
    yield runtime
    runtime.close()


@pytest.fixture
def doubted(runtime):
    """(Health after memory ran out, runtime, cell)."""
    some = next(cell for cell in load_matrix().all_cells() if cell.id == DIES)
    health = Health()
    health.note(some, [Line("runs", "OOM", "OOM(MemoryError)")])
    yield health, runtime, some
    runtime.settings.faults.clear()


def test_a_device_that_answers_is_asked_on(doubted):
    health, runtime, some = doubted
    health.check(runtime, some)
    assert not health.doubts


def test_a_device_that_gives_errors_is_probed_again_and_may_come_back(doubted):
    health, runtime, some = doubted
    runtime.settings.faults["cpu"] = {"fault_probe": "suites.meta.faults.model:device_lost"}
    with pytest.raises(DeviceLost, match=r"CRASHED\(device lost: a probe after OOM gave .*UR_RESULT_ERROR_DEVICE_LOST"):
        health.check(runtime, some)
    runtime.settings.faults.clear()
    health.check(runtime, some)


def test_a_device_that_gives_no_answer_is_waited_for_once(doubted, monkeypatch):
    health, runtime, some = doubted
    monkeypatch.setattr(
        runtime, "settings", Settings(deadline=1, faults={"cpu": {"fault_probe": "suites.meta.faults.model:hang"}})
    )
    with pytest.raises(DeviceLost, match="HANG"):
        health.check(runtime, some)
    with pytest.raises(DeviceLost, match="HANG"):
        health.check(types.SimpleNamespace(), some)


@pytest.mark.parametrize("mark", DEVICE_LOST_MARKS)
def test_a_lost_device_is_known_by_the_drivers_words(mark):
    assert device_lost(f"RuntimeError: some words\nmore, {mark.upper()}.") == f"more, {mark.upper()}."
    assert ", device lost: x " + mark in classify(6, 0, ("before", f"x {mark}", "after")).detail


@pytest.mark.parametrize("text", ["CUDA error: device-side assert triggered", "CUDA out of memory", "device 0", ""])
def test_other_errors_lose_no_device(text):
    assert device_lost(text) is None
