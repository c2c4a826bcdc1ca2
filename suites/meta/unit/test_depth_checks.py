"""Curves of depth with planted numbers: what grows with its cache holds, what leaves the line fails and is named."""

import dataclasses
import math
import types

import pytest

from fixtures.checks import depth
from fixtures.checks.depth_records import Curve
from fixtures.checks.evidence import recording, replay
from fixtures.checks.robustness_records import LengthErrors
from fixtures.checks.roofline import kv_bytes
from fixtures.checks.tolerances import tolerances
from fixtures.io.parties import MACHINE
from fixtures.matrix import load_matrix
from fixtures.matrix.memory import GIB
from fixtures.measure import placement
from fixtures.measure.depth import Depth, depths_of
from fixtures.results.accepted import Accepted
from suites.meta.faults.registry import faults

CELLS = {cell.id: cell for cell in load_matrix().every_cell()}
CELL = CELLS["llama-2-7b-bf16-cpu-single"]
DEPTHS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
PAIR = 8 * CELL.model.geometry.layers  # bytes that IPEX's host build allocates for each pair of tokens
NOTHING = Accepted(None, True)


def curve(seconds=lambda depth: 0.0, allocated=lambda depth: 0, held=lambda depth: 0, disturbance=""):
    """A sound Curve, to which each function adds its part at each depth."""
    cache = [kv_bytes(CELL.model.geometry, each + 2048, 1, 2) for each in DEPTHS]
    return Curve(
        DEPTHS,
        tuple(1e-3 + 1e-6 * each + seconds(each) for each in DEPTHS),
        tuple(200_000 + 128 * each + PAIR * each**2 + allocated(each) for each in DEPTHS),
        tuple(size + 100_000 + 2 * PAIR * each**2 + held(each) for size, each in zip(cache, DEPTHS, strict=True)),
        "malloc",
        disturbance,
    )


def measured(*curves, **more):
    errors = LengthErrors("far_end", (4088,) * 9, tuple(range(9)), (0.01,) * 9, (0.01,) * 9)
    proofs = [{"classes": {CELL.expected_classes()[0]: 32}, "dtype": "bfloat16", "devices": ["cpu"]}]
    sound = dict(geometry=CELL.model.geometry, proofs=proofs, curves=[*curves] or [curve()], lengths=[errors])
    return Depth(**{"cell": CELL, **sound, **more})


def accepted(found=None):
    return Accepted({name: value for name, (value, *_) in depth.accepted_curve(found or measured())[0].items()}, True)


def lines(found, before=None):
    return {line.check: line for line in depth.check_depth(found, tolerances(), before or accepted())}


def test_a_sound_cell_holds_and_is_replayed():
    with recording() as kept:
        found = depth.check_depth(measured(), tolerances(), accepted())
    assert [(line.check, line.verdict) for line in found if line.verdict != "PASS"] == []
    assert len(found) == 9
    assert replay(kept.evidence(found), CELLS.__getitem__, tolerances()).lines == found


def copies(start):
    """Seconds that a copy of the cache takes from a depth on."""
    return lambda each: 3e-6 * each if each > start else 0.0


@pytest.mark.parametrize("start", [512, 1024, 2048])
def test_a_step_that_leaves_the_line_is_named_with_the_depth(start):
    slow = curve(seconds=copies(start))
    on_device = measured(slow, slow, cell=CELLS["llama-2-7b-fp16-max1550-single"])
    for line in (lines(on_device, NOTHING)["step_time"], lines(measured(slow, slow))["step_time"]):
        assert line.verdict == "FAIL"
        assert f"it leaves the line at {2 * start} tokens" in line.measured


@pytest.mark.parametrize("before", ["nothing", "as slow", "of another machine"])
def test_a_host_that_leaves_no_accepted_curve_fails_nothing_by_wall_time(before):
    slow = curve(seconds=copies(512))
    known = {"nothing": NOTHING, "as slow": accepted(measured(slow)), "of another machine": Accepted({}, False)}
    line = lines(measured(slow, slow), known[before])["step_time"]
    assert line.verdict == "INCONCLUSIVE"
    assert line.party == MACHINE
    assert "it leaves the line at 1024 tokens" in line.measured


def test_a_step_that_is_slow_from_the_start_leaves_the_accepted_curve():
    slow = curve(seconds=copies(0))
    found = lines(measured(slow, slow))
    assert found["step_time"].verdict == "PASS"
    assert found["regression_step_time"].verdict == "FAIL"
    assert lines(measured(slow), NOTHING)["regression_step_time"].verdict == "NO_BASELINE"
    assert lines(measured(), Accepted({}, False))["regression_step_bytes"].verdict == "INCOMPARABLE"


def test_a_machine_that_is_slower_throughout_leaves_no_curve():
    found = curve()
    slow = dataclasses.replace(found, seconds=tuple(1.8 * each for each in found.seconds))
    assert lines(measured(slow))["regression_step_time"].verdict == "PASS"


def test_one_undisturbed_curve_that_holds_is_enough_and_one_that_does_not_is_too_little():
    slow, busy = curve(seconds=copies(512)), curve(seconds=copies(512), disturbance="other work")
    for curves, verdict in (
        ((slow, curve()), "PASS"), ((slow,), "INCONCLUSIVE"), ((slow, busy), "INCONCLUSIVE"),
        ((busy, busy, busy), "INCONCLUSIVE"), ((busy, slow, slow), "FAIL"), ((busy, curve()), "PASS"),
    ):  # fmt: skip
        line = lines(measured(*curves))["step_time"]
        assert line.verdict == verdict, line
        assert (line.party == MACHINE) == (verdict == "INCONCLUSIVE")


def test_a_copy_of_the_cache_is_seen_in_bytes_whatever_the_machine_does():
    size = kv_bytes(CELL.model.geometry, 1, 1, 2)
    late = lines(measured(curve(allocated=lambda each: size * each * (each > 1024), disturbance="other work")))
    assert late["step_bytes"].verdict == late["regression_step_bytes"].verdict == "FAIL"
    assert "it leaves the line at 2048 tokens" in late["step_bytes"].measured
    always = lines(measured(curve(allocated=lambda each: size * each)))
    assert always["step_bytes"].verdict == "PASS"
    assert always["regression_step_bytes"].verdict == "FAIL"


def test_a_cache_that_is_held_twice_is_named():
    twice = curve(held=lambda each: kv_bytes(CELL.model.geometry, each, 1, 2))
    line = lines(measured(twice))["cache_bytes"]
    assert line.verdict == "FAIL"
    assert "it leaves the line at 256 tokens" in line.measured
    pages = dataclasses.replace(twice, counted="resident")
    assert lines(measured(pages))["cache_bytes"].verdict == "INCONCLUSIVE"


@pytest.mark.parametrize("error", [0.2, math.nan])
def test_the_last_position_is_asked(error):
    errors = LengthErrors("far_end", (4088,) * 9, tuple(range(9)), (0.01,) * 8 + (error,), (0.01,) * 9)
    line = lines(measured(lengths=[errors]))["far_end"]
    assert line.verdict == "FAIL"
    assert "8 decode steps after 4088 tokens" in line.measured


def test_depths_are_halves_of_what_a_model_takes():
    geometry = CELL.model.geometry
    assert tuple(depths_of(geometry, 4096)) == DEPTHS
    assert depths_of(dataclasses.replace(geometry, sliding_window=2047), 4096)[-2:] == [1023, 2047]
    assert depths_of(geometry, 512) == [16, 32, 64, 128, 256, 512]  # a visit makes eight steps
    assert depths_of(dataclasses.replace(geometry, positions=131072), 131072)[0] == 1024


def test_an_accelerator_is_asked_as_far_as_its_memory_goes():
    cell = CELLS["llama-3-8b-fp16-cuda-single-eager"]
    geometry = dataclasses.replace(cell.model.geometry, positions=131072)
    weights = types.SimpleNamespace(foreseen=lambda model, kind: (geometry, True, 2))
    runtime = types.SimpleNamespace(weights=weights, total_memory=lambda kind: 80 * GIB)
    plan = placement.plan(runtime, cell, "depth")
    assert 1024 <= plan.depth < 131072
    assert not plan.unsupported
    assert f"contexts of {plan.depth} tokens at most" in plan.note(cell)


def test_a_curve_need_not_be_taken_again_where_its_times_hold():
    table, slow = tolerances()["depth"], curve(seconds=copies(512))
    assert depth.holds(curve(), table, accepted())
    assert not depth.holds(slow, table, NOTHING)
    assert not depth.holds(curve(seconds=copies(0)), table, accepted())


def test_each_check_of_depth_has_a_fault():
    found = {check for fault in faults().values() if fault.suite == "depth" for check in fault.checks}
    assert found == {"far_end", "step_time", "step_bytes", "cache_bytes", "regression_step_bytes"}
