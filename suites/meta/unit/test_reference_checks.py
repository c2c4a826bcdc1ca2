"""The reference under suspicion, against planted numbers: its noise, a third opinion, and who is at fault."""

import dataclasses
import re
import types

import numpy as np
import pytest

from fixtures.checks import logits, reference
from fixtures.checks.generation import check_generation
from fixtures.checks.tolerances import tolerances
from fixtures.checks.verdicts import Line
from fixtures.io.parties import OPTIMISED, STOCK
from fixtures.matrix import load_matrix
from fixtures.matrix.config import rope_switch_of
from fixtures.measure.parameters import spans
from fixtures.measure.reference import alone
from fixtures.results.accepted import Accepted
from fixtures.weights.miniature import shrink
from suites.meta.harness import bundles

PROMPTS, STEPS, VOCABULARY = 6, 9, 64
RNG = np.random.default_rng(5)
FP32 = RNG.normal(size=(PROMPTS, STEPS, VOCABULARY))
ALL = list(range(PROMPTS))
STATIC = [4, 5]  # prompts of a static cache
BAND, THIRD = reference.band(tolerances()["reference"], "bf16", "llama2"), tolerances()["reference"]["third"]


def off(size, prompts=tuple(ALL)):
    """The fp32 logits with a relative error of `size` on `prompts`."""
    found = FP32.copy()
    found[[*prompts]] += size * np.linalg.norm(FP32) / np.sqrt(FP32.size) * RNG.normal(size=FP32[[*prompts]].shape)
    return found


def seen(stock=0.01, third=1e-6, broken=()):
    """Reference logits; on `broken` prompts stock's road is wrong in every precision, and the third opinion right."""
    right = FP32.copy()
    wrong = off(0.8, list(broken)) if broken else FP32
    found = types.SimpleNamespace(logits=wrong, against=wrong, fp32=wrong, stock=wrong + (off(stock) - FP32))
    return types.SimpleNamespace(**vars(found), third=right + (off(third) - FP32))


def looked_at(reference_logits, candidate=None):
    candidate = off(0.01) if candidate is None else candidate
    sound = reference.soundness(reference_logits, candidate, BAND, THIRD)
    return reference.line([sound], "bf16", BAND, THIRD), sound


def test_a_sound_reference_holds():
    line, sound = looked_at(seen())
    assert line.verdict == "PASS"
    assert not sound.broken.any()


@pytest.mark.parametrize("stock", [0.0, 1e-6, 0.4, np.inf, np.nan])
def test_noise_that_the_precision_does_not_explain_is_the_stock_stacks(stock):
    line, sound = looked_at(seen(stock))
    assert line.verdict == "FAIL"
    assert ("on 6 of 6 prompts" in line.measured, line.party) == (True, STOCK)
    [judged] = reference.judged([Line("logits", "PASS", "1 of stock's error")], sound, [0, 1])
    assert judged.verdict == "INCONCLUSIVE"


def test_what_is_wrong_in_every_precision_is_seen_by_the_third_opinion():
    line, sound = looked_at(seen(broken=STATIC))
    assert line.verdict == "FAIL"
    assert ("on 2 of 6 prompts" in line.measured, line.party) == (True, STOCK)
    assert re.search(r"the optimised stack is 0.0[01][0-9]* to 0.0[01][0-9]* off that pass", line.measured)
    lines = [Line("static_cache", "FAIL", "80 of stock's error"), Line("logits", "PASS", "0.9 of stock's error")]
    [static] = reference.judged(lines[:1], sound, STATIC)
    [dynamic] = reference.judged(lines[1:], sound, [0, 1])
    assert (static.verdict, dynamic.verdict) == ("INCONCLUSIVE", "PASS")
    assert "the reference is at fault on 2 of 2 prompts" in static.measured


def test_a_failure_beside_a_sound_reference_is_the_optimised_stacks():
    _, sound = looked_at(seen(), candidate=off(0.7))
    [line] = reference.judged([Line("logits", "FAIL", "70 of stock's error")], sound, [0, 1])
    assert line.verdict == "FAIL"
    assert ("; stock is" in line.measured, line.party) == (True, OPTIMISED)
    assert re.search(r"e-0[67] off a third opinion, this cell 0.[67]", line.measured)


@pytest.mark.parametrize(("stock_is", "verdict", "party"), [(1.0, "FAIL", OPTIMISED), (2.0, "INCONCLUSIVE", "")])
def test_nothing_is_compared_with_accepted_values_beside_a_broken_reference(stock_is, verdict, party):
    cell = next(cell for cell in load_matrix().cells(["cpu"]) if cell.id == "llama-2-7b-fp32-cpu-single")
    measured = bundles.generation(cell)
    third = measured.reference_logits.third * stock_is
    measured.reference_logits = dataclasses.replace(measured.reference_logits, third=third)
    lines = check_generation(measured, tolerances(), Accepted({"noise_ratio": 0.3}, True))
    [regression] = [line for line in lines if line.check == "regression"]
    assert (regression.verdict, regression.party) == (verdict, party)


def test_a_group_without_prompts_has_no_lines():
    _, sound = looked_at(seen())
    assert reference.judged([], sound, []) == []


def test_without_a_third_opinion_the_noise_alone_is_looked_at():
    without = seen()
    without.third = None
    line, sound = looked_at(without)
    assert line.verdict == "PASS"
    assert "pass without a cache" not in line.measured
    assert sound.doubt is None


def test_a_family_may_have_a_band_of_its_own():
    bounds = {"bf16": {"least": 1e-3, "most": 0.1, "bloom": {"most": 0.2}}}
    assert reference.band(bounds, "bf16", "bloom")["most"] == 0.2
    assert reference.band(bounds, "bf16", "opt")["most"] == 0.1


@pytest.mark.parametrize(("precision", "value", "verdict"), [
    ("bf16", 0.00011, "FAIL"), ("bf16", 0.6, "PASS"), ("fp32", 0.00011, "FAIL"), ("fp32", 0.9, "PASS"),
    ("int4", 0.04, "PASS"),
])  # fmt: skip
def test_a_ratio_far_below_what_is_plausible_fails(precision, value, verdict):
    [line] = logits.conformance("logits", np.full(PROMPTS, value), tolerances()["ratio"][precision])
    assert line.verdict == verdict


@pytest.mark.parametrize(("noise", "verdict"), [(0.01, "PASS"), (1e6, "INCONCLUSIVE"), (np.inf, "INCONCLUSIVE")])
def test_tokens_of_which_nothing_is_decidable_are_no_pass(noise, verdict):
    line = logits.greedy_tokens(FP32, FP32, np.full(PROMPTS, noise), tolerances()["tokens"])
    assert line.verdict == verdict


@pytest.mark.parametrize(("before", "past", "verdict"), [
    (1.0, 1.0, "PASS"), (1.0, 50.0, "FAIL"), (50.0, 1.0, "FAIL"), (1.0, np.nan, "FAIL"), (np.nan, 1.0, "FAIL"),
])  # fmt: skip
def test_each_side_of_an_edge_is_held_against_its_own_noise(before, past, verdict):
    stock = off(1e-3)
    stock[:, 4:] = FP32[:, 4:] + (stock - FP32)[:, 4:] * 100  # louder past the edge
    candidate = FP32 + (stock - FP32) * np.where(np.arange(STEPS) < 4, before, past)[:, None]
    line = logits.across("rope_switch", candidate, FP32, stock, FP32, edge=4096, steps=4, bound=1.25)
    assert line.verdict == verdict
    assert "past 4096 tokens" in line.measured


MODELS = {model.id: model for model in load_matrix().models}


def long_runs(name):
    geometry = shrink(MODELS[name].geometry, "head_dim" in dict(MODELS[name].arch.config))
    return {span.check: span.length for span in spans(geometry)}


def test_long_runs_go_as_far_as_the_claims():
    assert long_runs("llama-2-7b") == {"long_context": 1024}
    assert long_runs("phi-3-mini-128k") == {"long_context": 1024, "rope_switch": 4080}
    assert long_runs("phi-3.5-mini") == {"long_context": 1024, "rope_switch": 4080}
    assert long_runs("phi-3-mini-4k") == {"long_context": 1024, "window_edge": 2031}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_the_long_run_of_every_row_has_the_claimed_tokens_or_ends_at_its_positions(model):
    small = shrink(model.geometry, "head_dim" in dict(model.arch.config))
    few = dataclasses.replace(model.geometry, positions=1000)
    for geometry, length in ((model.geometry, 1024), (small, 1024), (few, 872)):
        (long,) = (span for span in spans(geometry) if span.check == "long_context")
        assert (long.length, long.new_tokens, long.edge) == (length, 128, None)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_no_miniature_hides_what_lies_past_an_edge(model):
    """Its table of positions reaches past the length at which rope factors change."""
    small = shrink(model.geometry, "head_dim" in dict(model.arch.config))
    assert rope_switch_of(small) == rope_switch_of(model.geometry)
    assert {span.check for span in spans(small)} == {span.check for span in spans(model.geometry)}
    assert all(span.length + span.new_tokens <= small.positions for span in spans(small))


@pytest.mark.parametrize(("scaling", "switch"), [
    ({"type": "longrope"}, 4096), ({"rope_type": "longrope"}, 4096), ({"type": "su"}, 4096),
    ({"rope_type": "llama3"}, None), (None, None),
])  # fmt: skip
def test_worker_and_row_read_one_switch(scaling, switch):
    from fixtures.engine.measure import rope_switch as of_model

    config = types.SimpleNamespace(rope_scaling=scaling, original_max_position_embeddings=4096)
    assert of_model(types.SimpleNamespace(config=config)) == switch
    geometry = types.SimpleNamespace(rope_scaling_dict=lambda: scaling, original_positions=4096)
    assert rope_switch_of(geometry) == switch


def test_each_prompt_alone_keeps_its_place_and_its_cache():
    runs = [{"cache": "static", "prompts": [[1], [2, 3]]}, {"cache": "dynamic", "prompts": [[4]]}]
    assert [(run["cache"], *run["prompts"]) for run in alone(runs)] == [
        ("static", [1]),
        ("static", [2, 3]),
        ("dynamic", [4]),
    ]
