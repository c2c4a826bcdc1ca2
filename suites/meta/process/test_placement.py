"""A plan of a device's memory in force, on the host: which models are loaded when, and that answers stay the same."""

import numpy as np
import pytest

from fixtures.checks.generation import check_generation
from fixtures.checks.tolerances import tolerances
from fixtures.matrix import load_matrix
from fixtures.matrix.memory import GIB, Plan, numbers
from fixtures.measure import placement
from fixtures.measure.generation import measure_generation
from fixtures.measure.latency import Grid
from fixtures.measure.settings import Unsupported
from fixtures.results.accepted import Accepted

CELLS = {cell.id: cell for cell in load_matrix().all_cells()}
CELL = CELLS["llama-2-7b-fp32-cpu-single"]
GRID = Grid(4, 1, 32, 12, 4, 1)
IN_TURN = Plan(("fp64", "fp32"), "host", in_turn=True)


@pytest.fixture
def planned(runtime, monkeypatch):
    """A function that puts a plan in force; the runtime is as it was afterwards."""

    def put(plan):
        monkeypatch.setattr(runtime, "total_memory", lambda device_type: GIB)
        monkeypatch.setattr(placement, "plan", lambda *_: plan)
        return runtime.place(CELL, "generation")

    yield put
    runtime.release(CELL)
    runtime.plans.clear()
    runtime.weights.layers.clear()


@pytest.mark.nightly
def test_in_turn_one_model_is_loaded_at_a_time_and_answers_are_the_same(runtime, planned, monkeypatch):
    ordinary = measure_generation(runtime, CELL)
    runtime.release(CELL)
    planned(IN_TURN)
    beside, load = [], runtime.candidate

    def watched(cell):
        beside.append({*runtime.reference(cell).loaded})
        return load(cell)

    monkeypatch.setattr(runtime, "candidate", watched)
    measured = measure_generation(runtime, CELL)
    assert beside == [set()]  # nothing of the reference was loaded when the candidate was
    assert not runtime.candidates
    assert not runtime.reference(CELL).loaded
    assert measured.error is None
    assert np.array_equal(measured.greedy_tokens, ordinary.greedy_tokens)
    assert np.allclose(measured.reference_logits.stock, ordinary.reference_logits.stock, rtol=0, atol=1e-5)
    # By layers the widest model takes one pass, where it has a cache otherwise.
    assert np.allclose(measured.reference_logits.logits, ordinary.reference_logits.logits, rtol=0, atol=1e-9)
    lines = check_generation(measured, tolerances(), Accepted(None, True), accepting=True)
    assert {line.verdict for line in lines} == {"PASS"}


@pytest.mark.nightly
def test_the_first_layers_of_a_folder_are_a_model_of_their_own(runtime, planned):
    planned(Plan(layers=1))
    measured = measure_generation(runtime, CELL)
    assert measured.geometry.layers == 1
    assert measured.stock_proof["classes"]["LlamaDecoderLayer"] == 1
    lines = check_generation(measured, tolerances(), Accepted(None, True), accepting=True)
    assert {line.verdict for line in lines} == {"PASS"}


@pytest.mark.nightly
def test_the_first_layers_of_a_reference_by_layers_too(runtime, planned):
    planned(Plan(("fp32",), "host", layers=1))
    reference = runtime.reference(CELL)
    assert reference.proof()["classes"]["LlamaDecoderLayer"] == 1


def test_what_does_not_fit_starts_no_worker(runtime, monkeypatch):
    monkeypatch.setattr(runtime, "total_memory", lambda device_type: GIB)
    with pytest.raises(Unsupported, match=r"generation of llama-2-7b needs \d.\d GiB, has 1.0 GiB on the device"):
        runtime.place(CELL, "generation")
    assert not runtime.references
    assert not runtime.candidates


@pytest.mark.nightly
def test_what_another_cell_left_on_a_device_makes_room(runtime, monkeypatch):
    left = runtime.candidate(CELLS["opt-6.7b-fp32-cpu-single"])
    monkeypatch.setattr(runtime, "total_memory", lambda device_type: 80 * GIB)
    runtime.place(CELL, "generation")
    assert not left.worker.alive
    runtime.plans.clear()


@pytest.mark.parametrize("suite", numbers()["suites"])
def test_every_suite_says_what_it_gives_a_model_to_do(suite):
    assert all(work.rows * work.prompt > 0 for work in placement.works(suite, CELL.model.geometry, GRID))
