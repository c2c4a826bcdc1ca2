"""Which models the worker of a reference loads: those that the plan of the device's memory counts, and no other."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from fixtures.matrix import load_matrix
from fixtures.matrix.memory import Plan, reference_names
from fixtures.matrix.precisions import noise_of
from fixtures.measure.reference import Reference

CELLS = {cell.id: cell for cell in load_matrix().every_cell()}
ON_DEVICES = [
    "llama-2-7b-fp16-max1550-single",
    "llama-2-7b-int4-max1550-single",
    "llama-2-7b-fp16-max1550-single-eager",
    "llama-2-7b-int4-b580-single-torchao-int4",
    "llama-2-7b-int4-cuda-single-torchao-int4",
    "llama-2-7b-fp16-cuda-single-eager",
    "llama-2-7b-fp32-cuda-single-eager",
]


@dataclasses.dataclass
class Recorded:
    """Stands for the worker: notes the names of the models that it has to load, and has nothing to say."""

    loaded: list

    def submit(self, operation, arrays=None, name="", **arguments):
        if operation == "load":
            self.loaded.append(name)

    def collect(self, deadline):
        return None


def reference_of(cell, plan=None):
    worker = Recorded([])
    weights = SimpleNamespace(
        of=lambda model, device: SimpleNamespace(geometry=model.geometry, trained=False),
        tokens_of_text=lambda *_: list(range(8192)),
        spec=lambda *_, **more: {},
    )
    runtime = SimpleNamespace(
        weights=weights,
        processes=SimpleNamespace(worker=lambda *_: worker),
        deadline=lambda _: 1,
        settings=SimpleNamespace(faults={}),
    )
    return Reference(runtime, cell.model, cell.platform.device_type, plan)


def loaded_for(cell):
    reference = reference_of(cell)
    reference.begin([noise_of(cell)], spans=reference.spans)
    return reference.worker.loaded


@pytest.mark.parametrize("cell", ON_DEVICES)
def test_a_device_holds_the_models_of_its_plan_and_no_other(cell):
    loaded = [name.split()[0] for name in loaded_for(CELLS[cell])]
    assert sorted(loaded) == sorted(reference_names(CELLS[cell]))


@pytest.mark.parametrize("cell", ON_DEVICES)
def test_what_has_answered_and_left_is_not_loaded_again_beside_a_candidate(cell):
    reference = reference_of(CELLS[cell], Plan(reference_names(CELLS[cell]), "drawn", in_turn=True))
    reference.begin([noise_of(CELLS[cell])], spans=reference.spans)
    reference.leave()
    reference.settle()
    before = len(reference.worker.loaded)
    reference.begin([noise_of(CELLS[cell])], spans=reference.spans)
    assert reference.worker.loaded[before:] == []


def test_a_host_has_a_third_opinion_besides():
    assert loaded_for(CELLS["llama-2-7b-bf16-cpu-single"]) == ["fp32", "eager", "bf16"]


def test_the_score_of_beams_waits_for_nothing_that_is_computed_ahead():
    reference = reference_of(CELLS["llama-2-7b-fp32-cpu-single"])
    reference.worker.collect = lambda deadline: SimpleNamespace(arrays={"logprob": None})
    reference.begin(["fp32"], spans=reference.spans)
    reference.beam_scores(np.zeros((1, 1)), ahead=["bf16"])
    assert ("load", "bf16") in [key for key, _ in reference.queue]
