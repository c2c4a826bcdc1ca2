"""Lengths, batches, repetitions and weights with planted numbers: a sound cell holds, each fault fails its check."""

import dataclasses
import math
import types

import pytest

from fixtures.checks import robustness
from fixtures.checks.robustness_records import Batch, LengthErrors, Repetitions, Weights
from fixtures.checks.tolerances import tolerances
from fixtures.io.parties import STOCK
from fixtures.matrix import load_matrix
from fixtures.measure import robustness as measure
from fixtures.measure.robustness import Robustness, lengths_of
from fixtures.results.accepted import Accepted
from suites.meta.faults.registry import faults

CELL = next(cell for cell in load_matrix().cells(["cpu"]) if cell.id == "llama-2-7b-bf16-cpu-single")
NEAR = tuple(range(1, 201))
NOISE = 0.01


def measured(**more):
    """A sound cell's Robustness in bf16."""
    sound = dict(
        lengths=[LengthErrors("lengths", NEAR, (0,) * 200, (NOISE,) * 200, (NOISE,) * 200)],
        batches=[Batch("equal 2", 2, 2, 0, 0.0, 0), Batch("identical 8", 8, 8, 0, 0.0, 0)],
        repetitions=Repetitions(20, 0, 0.0, True),
        weights=Weights(57, ()),
    )
    return Robustness(CELL, **{**sound, **more})


def accepted(found=None, **more):
    states, _ = robustness.accepted_states(found or measured())
    values = {name: value for name, (value, *_) in states.items()}
    return Accepted(values, True, spreads={name: spread for name, (_, spread, _) in states.items()}, **more)


def lines(found, before=None):
    return {line.check: line for line in robustness.check_robustness(found, tolerances(), before or accepted())}


def off_at(place, value, noise=NOISE):
    errors = [NOISE] * 200
    for each in place:
        errors[each - 1] = value
    return [LengthErrors("lengths", NEAR, (0,) * 200, tuple(errors), (noise,) * 200)]


def test_a_sound_cell_holds():
    found = lines(measured())
    assert {line.verdict for line in found.values()} == {"PASS"}
    assert "fewer than 0.15 of all differ" in found["repetitions"].measured


@pytest.mark.parametrize("value", [math.nan, math.inf, 0.05])
def test_the_worst_length_is_named(value):
    line = lines(measured(lengths=off_at([137], value)))["lengths"]
    assert line.verdict == "FAIL"
    assert "after 137 tokens" in line.measured
    assert "1 beyond the tolerance" in line.measured


def test_a_residue_is_named():
    line = lines(measured(lengths=off_at([5, 69, 133, 197], math.nan)))["lengths"]
    assert "4 beyond the tolerance, all of them 5 more than a multiple of 64" in line.measured


def test_noise_that_grows_with_the_length_is_no_fault():
    prompts, noise = (256, 257, 512, 513, 1023), (0.01, 0.01, 0.01, 0.01, 0.08)
    sound = LengthErrors("edge_lengths", prompts, (0,) * 5, noise, noise)
    assert robustness.lengths(sound, 3.0).verdict == "PASS"
    early = dataclasses.replace(sound, errors=(0.01, 0.08, 0.01, 0.01, 0.08))
    assert "after 257 tokens" in robustness.lengths(early, 3.0).measured
    assert robustness.lengths(early, 3.0).verdict == "FAIL"


def test_a_broken_reference_is_stocks_fault_and_nothing_else_is_judged():
    found = lines(measured(lengths=off_at([137], math.nan, noise=0.9)))
    assert found["reference"].verdict == "FAIL"
    assert found["reference"].party == STOCK
    assert found["lengths"].verdict == "INCONCLUSIVE"


@pytest.mark.parametrize(("kind", "check"), [("equal 2", "batches"), ("identical 8", "identical_rows")])
@pytest.mark.parametrize("worst", [0.05, math.nan])
def test_a_row_that_company_changes_fails(kind, check, worst):
    rest = [batch for batch in measured().batches if batch.kind != kind]
    line = lines(measured(batches=[*rest, Batch(kind, 8, 8, 1, worst, 1)]))[check]
    assert line.verdict == "FAIL"
    assert f"in row 1 of the call {kind!r}" in line.measured


def test_a_call_that_is_no_longer_bit_equal_fails():
    less = measured(batches=[Batch("equal 2", 2, 2, 1, 1e-4, 1), measured().batches[1]])
    assert lines(less)["batches"].verdict == "PASS"
    line = lines(less)["regression_batches"]
    assert line.verdict == "FAIL"
    assert "no longer: equal 2" in line.measured
    assert lines(less, accepted(less))["regression_batches"].verdict == "PASS"
    assert lines(measured(), accepted(less))["regression_batches"].verdict == "PASS"


def test_without_accepted_states_nothing_is_compared():
    for before, verdict in ((Accepted(None, True), "NO_BASELINE"), (Accepted({}, False), "INCOMPARABLE")):
        found = lines(measured(), before)
        assert found["regression_batches"].verdict == found["regression_repetitions"].verdict == verdict
    accepting = robustness.check_robustness(measured(), tolerances(), Accepted(None, True), accepting=True)
    assert not [line for line in accepting if line.check.startswith("regression")]


@pytest.mark.parametrize(
    ("before", "now", "verdict"), [(0, 0, "PASS"), (0, 1, "FAIL"), (2, 3, "PASS"), (1, 19, "FAIL")]
)
def test_a_deterministic_cell_stays_so_and_a_rate_does_not_rise(before, now, verdict):
    def with_differing(count):
        return measured(repetitions=Repetitions(20, count, 1e-5, True))

    line = lines(with_differing(now), accepted(with_differing(before)))["regression_repetitions"]
    assert line.verdict == verdict, line


def test_the_rate_has_an_upper_bound():
    assert robustness.upper(Repetitions(300, 0, 0.0, True)) == pytest.approx(3 / 299, rel=0.01)
    assert robustness.upper(Repetitions(20, 19, 0.0, True)) == 1
    assert "5 of 20 repetitions differ in a bit" in robustness.rate(Repetitions(20, 5, 0.0, True))


def test_repetitions_far_apart_fail_without_accepted_states():
    found = lines(measured(repetitions=Repetitions(20, 1, 0.9, True)), Accepted(None, True))
    assert found["repetitions"].verdict == "FAIL"


def test_equal_bits_of_another_prompt_show_nothing():
    assert lines(measured(repetitions=Repetitions(20, 0, 0.0, False)))["control"].verdict == "FAIL"


def test_a_tensor_that_was_written_to_is_named():
    changed = (("model.layers.1.mlp.up_proj.weight", "batches"), ("lm_head.weight", "batches"))
    line = lines(measured(weights=Weights(57, changed)))["weights"]
    assert line.verdict == "FAIL"
    assert "model.layers.1.mlp.up_proj.weight changed during batches, and 1 more" in line.measured
    assert line.value == 2


def test_a_tensor_that_a_model_writes_to_itself_is_allowed():
    written = [{"tensors": "*.inv_freq", "reason": "longrope"}]
    seen = Weights(57, (("model.rotary_emb.inv_freq", "lengths"),))
    assert robustness.weights(seen, written).verdict == "PASS"
    assert robustness.weights(seen, []).verdict == "FAIL"


def test_int4_in_sixteen_bits_has_the_tolerances_of_their_type():
    table = tolerances()["robustness"]
    seen = types.SimpleNamespace(cell=dataclasses.replace(CELL, precision="int4"), proofs=[], trained=False)
    assert robustness._bound(seen, table) == table["int4"]
    for dtype, precision in (("float16", "fp16"), ("bfloat16", "bf16"), ("float32", "int4")):
        seen.proofs = [{"dtype": dtype}]
        assert robustness._bound(seen, table) == table[precision]


def test_every_length_is_asked_and_every_residue_decoded():
    geometry = CELL.model.geometry
    found = lengths_of(geometry)
    asked = [length for each in found if each.check == "lengths" for length in each.prompts]
    assert sorted(asked) == [*NEAR]
    decoded = [length for each in found if each.decoded == "decoded_lengths" for length in each.prompts]
    assert {length % 64 for length in decoded} == set(range(64))
    assert next(each.prompts for each in found if each.check == "edge_lengths") == (255, 256, 257)


@pytest.mark.parametrize(("row", "platform", "thorough", "last"), [
    ("llama-2-7b", "cpu", False, 200), ("llama-2-13b", "cpu", False, 64), ("llama-2-13b", "cpu", True, 200),
    ("llama-2-13b", "max1550", False, 200),
])  # fmt: skip
def test_a_host_takes_every_length_of_one_model_of_a_family(monkeypatch, row, platform, thorough, last):
    cell = next(cell for cell in load_matrix().cells([platform]) if cell.model.id == row and cell.mode == "single")
    asked = []
    monkeypatch.setattr(measure, "_measure", lambda *arguments: asked.extend(arguments[4]))
    weights = types.SimpleNamespace(geometry=cell.model.geometry, trained=False)
    owner = types.SimpleNamespace(of=lambda *model: weights)
    measure.measure_robustness(types.SimpleNamespace(reference=lambda cell: None, weights=owner), cell, thorough)
    assert max(length for each in asked if each.check == "lengths" for length in each.prompts) == last


def test_lengths_end_where_positions_do_and_know_windows_and_switches():
    geometry = dataclasses.replace(CELL.model.geometry, positions=258, sliding_window=100)
    found = {each.check: each for each in lengths_of(geometry)}
    assert found["window_lengths"].prompts == (99, 100, 101, 112)
    assert "edge_lengths" not in found  # past the window
    short = {each.check: each for each in lengths_of(dataclasses.replace(geometry, sliding_window=None))}
    assert short["edge_lengths"].prompts == (255, 256)  # three steps after 257 need 259 positions
    long = next(model for model in load_matrix().models if model.id == "phi-3.5-mini")
    switch = {each.check: each for each in lengths_of(long.geometry)}["switch_lengths"]
    assert switch.prompts == (4095, 4096, 4097, 4608)


@pytest.mark.parametrize("checks", [
    ("lengths", "decoded_lengths", "edge_lengths"), ("batches", "identical_rows", "regression_batches"),
    ("repetitions", "control", "regression_repetitions"), ("weights",),
])  # fmt: skip
def test_every_question_has_three_faults(checks):
    found = [fault for fault in faults().values() if fault.suite == "robustness"]
    assert sum(bool({*checks} & {*fault.checks}) for fault in found) >= 3


@pytest.mark.parametrize(("row", "verdict"), [("phi-3.5-mini", "PASS"), ("llama-2-7b", "FAIL")])
def test_only_longrope_may_change_its_frequencies(row, verdict):
    geometry = next(model.geometry for model in load_matrix().models if model.id == row)
    changed = Weights(57, (("model.rotary_emb.inv_freq", "lengths"),))
    assert lines(measured(weights=changed, geometry=geometry))["weights"].verdict == verdict
