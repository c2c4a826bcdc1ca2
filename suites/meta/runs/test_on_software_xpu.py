"""Whole runs for Intel GPUs on the software XPU with the fake IPEX, by the shipped adapter.

Both are stand-ins (suites/meta/harness/software_xpu): these runs show that the suite asks, moves, waits, saves and
checks as such a machine wants it. They show nothing about a card's kernels, numbers or speed.
"""

from pathlib import Path

import pytest

from fixtures.matrix import load_matrix
from fixtures.matrix.memory import GIB, Plan, Sizes, required
from fixtures.measure import placement
from fixtures.measure.settings import Settings
from fixtures.measure.weight_sources import what_is_built
from suites.meta.harness import on_software_xpu
from suites.meta.harness.inner import SHORT, plant
from suites.meta.harness.on_software_xpu import B580
from suites.meta.harness.software_xpu import MAX_1550, queries

B580_MODELS = ("llama-3-8b", "phi-3-mini-4k")
FP16, INT4, TP = (
    f"llama-2-7b-{kind}" for kind in ("fp16-max1550-single", "int4-max1550-single", "fp16-max1550-autotp")
)


@pytest.fixture(scope="module")
def run_on(tmp_path_factory):
    """`run_on(tests, *options, cards, faults)` runs [(suite, cell)] on such a machine: (the Run, its interpreter)."""

    def run(tests, *options, **machine):
        return on_software_xpu.run_on(tmp_path_factory.mktemp("xpu"), tests, *options, **machine)

    return run


FIRST = {("generation", FP16): "WAIVED"}  # padding, and caches mixed in a process
SINGLE = {
    ("generation", INT4): "WAIVED",
    ("generate", FP16): "WAIVED",  # beams of a padded batch
    ("generate", INT4): "WAIVED",
    ("latency", FP16): "PASS",
    ("dispatch", FP16): "NO_BASELINE",
    ("int4_run", INT4): "WAIVED",  # neural-compressor's scheme
    ("int4_save", INT4): "PASS",
    ("int4_reload", INT4): "WAIVED",  # what a second save writes
    ("int4_checkpoints", INT4): "WAIVED",  # zeros, order, and low_precision_checkpoint
}
SHARDED = {
    ("generation", TP): "WAIVED",  # padding
    ("tp_sharding", TP): "PASS",
    ("tp_answers", TP): "WAIVED",
    ("tp_plain", TP): "WAIVED",  # rope in half precision
    ("tp_mpirun", TP): "PASS",
    ("tp_torchrun", TP): "PASS",
    ("tp_deepspeed", TP): "PASS",
}


@pytest.fixture(scope="module")
def short(run_on):
    return run_on(FIRST, *SHORT)


@pytest.fixture(scope="module")
def single(run_on):
    return run_on(SINGLE)


@pytest.fixture(scope="module")
def sharded(run_on):
    return run_on(SHARDED, cards=(MAX_1550,) * 2)


@pytest.mark.parametrize(("machine", "verdicts"), [
    ("short", FIRST),
    pytest.param("single", SINGLE, marks=pytest.mark.nightly),
    pytest.param("sharded", SHARDED, marks=pytest.mark.nightly),
])  # fmt: skip
def test_every_suite_ends_as_predicted(request, machine, verdicts):
    run, _ = request.getfixturevalue(machine)
    assert {(suite, cell): run.verdict(f"test_{suite}[{cell}]") for suite, cell in verdicts} == verdicts, run.output


@pytest.mark.parametrize("machine", ["short", pytest.param("single", marks=pytest.mark.nightly)])
def test_nothing_asks_for_the_device_before_a_fork(request, machine):
    seen = queries(request.getfixturevalue(machine)[1])
    forks = [query for query in seen if query.what == "fork"]
    assert forks
    assert not [query for query in forks if query.asked_before]
    assert not [query for query in seen if query.what == "use after fork"]


@pytest.mark.nightly
def test_longer_contexts_are_measured_there(run_on):
    run, _ = run_on({("depth", FP16): ""})
    assert run.verdict(f"test_depth[{FP16}]") in ("PASS", "INCONCLUSIVE"), run.output  # others may keep the host busy


@pytest.mark.nightly
def test_no_clock_is_read_before_the_device_has_finished(single):
    assert not [query for query in queries(single[1]) if query.what == "clock"]


@pytest.mark.nightly
def test_a_missing_synchronise_is_seen(run_on):
    fault = plant(FP16, "first", "device.nothing_waits_for_the_device")
    run, python = run_on([("latency", FP16)], "-p", "suites.meta.harness.planting", fault)
    assert [query for query in queries(python) if query.what == "clock"], run.output


@pytest.mark.nightly
def test_beams_of_the_static_cache_are_held_against_the_reference(run_on):
    fault = plant(FP16, "first", "device.static_beams_garbled")
    run, _ = run_on([("generation", FP16)], "-p", "suites.meta.harness.planting", fault)
    assert run.verdict(f"test_generation[{FP16}]") == "FAIL", run.output
    assert "FAIL" in run.line(f"test_generation[{FP16}]", "static_beam")


@pytest.mark.nightly
def test_a_rank_has_a_card_of_its_own_or_the_cell_is_unsupported(run_on):
    run, _ = run_on([("tp_sharding", TP)])
    assert run.verdict(f"test_tp_sharding[{TP}]") == "UNSUPPORTED", run.output
    assert "needs 2 devices, one for each rank; this machine has 1" in run.tests[f"test_tp_sharding[{TP}]"][2]


@pytest.mark.nightly
def test_a_card_of_twelve_gibibytes_beside_another_is_chosen_by_the_affinity_mask(run_on):
    tests = {("generation", cell): "WAIVED" for cell in (f"{model}-fp16-b580-single" for model in B580_MODELS)}
    options = {"cards": (MAX_1550, B580), "memory": 12 * GIB, "platform": "b580"}
    run, _ = run_on(tests, environment={"ZE_AFFINITY_MASK": "1"}, **options)
    assert {(suite, cell): run.verdict(f"test_{suite}[{cell}]") for suite, cell in tests} == tests, run.output
    assert f"device: {B580}, platform b580" in run.output


@pytest.mark.nightly
def test_two_cards_give_the_same_bits(run_on):
    run, _ = run_on([("parity", FP16)], cards=(MAX_1550,) * 2)
    assert run.verdict(f"test_parity[{FP16}]") == "PASS", run.output


@pytest.mark.nightly
def test_a_second_card_that_computes_otherwise_is_named(run_on):
    fault = plant(FP16, "after", "device.second_device_computes_otherwise")
    run, _ = run_on([("parity", FP16)], "-p", "suites.meta.harness.planting", fault, cards=(MAX_1550,) * 2)
    assert run.verdict(f"test_parity[{FP16}]") == "FAIL", run.output
    assert "device 1: " in run.line(f"test_parity[{FP16}]", "prefill_equal")


@pytest.mark.nightly
def test_one_card_has_nothing_to_be_held_against(run_on):
    run, _ = run_on([("parity", FP16)])
    assert run.verdict(f"test_parity[{FP16}]") == "UNSUPPORTED", run.output
    assert "this one has 1" in run.tests[f"test_parity[{FP16}]"][2]


@pytest.mark.nightly
@pytest.mark.parametrize(("fault", "suite", "name", "verdict", "check"), [
    ("optimize_swallows", "generation", FP16, "NOT_OPTIMISED", "optimised"),
    ("no_diffusers", "generation", FP16, "FAIL", "runs"),
    ("tensors_left_on_host", "generation", FP16, "NOT_OPTIMISED", "placed"),
    ("wrong_int4_engine", "int4_save", INT4, "FAIL", "engine"),
    ("tp_size_1", "tp_sharding", TP, "NOT_OPTIMISED", "tensor_parallel"),
    ("lost_device_after:4000", "generation", FP16, "FAIL", "usable"),  # the reference loses it first, and says so
])  # fmt: skip
def test_a_planted_fault_turns_red(run_on, fault, suite, name, verdict, check):
    run, _ = run_on([(suite, name)], faults=(fault,), cards=(MAX_1550,) * 2)
    assert run.verdict(f"test_{suite}[{name}]") == verdict, run.output
    assert verdict in run.line(f"test_{suite}[{name}]", check)


@pytest.mark.nightly
@pytest.mark.parametrize(("suite", "id", "plan", "note"), [
    # With one kind of cache in a process there are two candidates, one after the other.
    ("generation", FP16, Plan(in_turn=True), "one after the other"),
    # What a rank holds is counted against a stock model whose layers are nowhere.
    ("tp_sharding", TP, Plan(("fp32", "fp16"), "host"), "reference by layers"),
])  # fmt: skip
def test_a_card_that_is_too_small_gives_the_same_verdict_by_another_plan(run_on, suite, id, plan, note):
    cell = next(cell for cell in load_matrix().cells(["max1550"]) if cell.id == id)
    geometry, drawn = what_is_built(Settings(weights="miniature"), cell.model, "xpu")
    sizes = Sizes(cell, placement.works(suite, geometry), geometry, placement.world(cell), drawn, stored=4)
    run, python = run_on([(suite, id)], cards=(MAX_1550,) * 2, memory=required(sizes, suite, plan))
    assert run.verdict(f"test_{suite}[{id}]") == {**SHORT, **SINGLE, **SHARDED}[suite, id], run.output
    assert f"{note} (all at once needs" in (Path(python).parents[2] / "run/journal.jsonl").read_text()
