"""Checks against planted numbers: every check holds on a sound run and fails on the fault it is for."""

import datetime
import types

import numpy as np
import pytest

from fixtures.checks import generation, latency, logits, proof
from fixtures.checks.tolerances import tolerances
from fixtures.checks.verdicts import SEVERITY, VERDICTS, Line, bounded, settle
from fixtures.io.parties import OPTIMISED
from fixtures.measure.generation import LongRun
from fixtures.measure.parameters import Span

PROMPTS, STEPS, VOCABULARY = 12, 33, 64
RNG = np.random.default_rng(7)
REFERENCE = RNG.normal(size=(PROMPTS, STEPS, VOCABULARY))
NOISE = 0.01
STOCK = REFERENCE * (1 + NOISE * RNG.normal(size=REFERENCE.shape))


def noise():
    return logits.relative_errors(STOCK, REFERENCE)


def scaled_errors(factor):
    """Logits whose error against the reference is `factor` times stock's own."""
    return REFERENCE + (STOCK - REFERENCE) * factor


def test_verdicts_are_a_closed_list():
    assert set(SEVERITY) == set(VERDICTS)
    with pytest.raises(ValueError, match="not in"):
        settle([Line("check", "GREEN", "")], lambda check: None)


def test_a_disturbed_machine_does_not_hide_that_values_are_of_another():
    lines = [Line("host_state", "INCONCLUSIVE", "a neighbour"), Line("latency", "INCOMPARABLE", "another machine")]
    assert settle(lines, lambda check: None).verdict == "INCOMPARABLE", "another run would not change it"


def test_stock_against_itself_is_one():
    ratio = logits.summary(logits.ratios(STOCK, REFERENCE, noise()))
    assert ratio.mean == pytest.approx(1.0)
    assert ratio.worst == pytest.approx(1.0)


@pytest.mark.parametrize(("factor", "verdict"), [(0.9, "PASS"), (1.2, "PASS"), (1.3, "FAIL"), (4.0, "FAIL")])
def test_conformance_follows_the_bound(factor, verdict):
    values = logits.ratios(scaled_errors(factor), REFERENCE, noise())
    [line] = logits.conformance("logits", values, tolerances()["ratio"]["bf16"])
    assert line.verdict == verdict


def test_one_bad_prompt_does_not_hide_in_the_mean():
    values = np.ones(PROMPTS)
    values[3] = 2.5
    [line] = logits.conformance("logits", values, tolerances()["ratio"]["bf16"])
    assert line.verdict == "FAIL"
    assert "worst prompt" in line.measured


def test_one_prompt_has_no_spread():
    [line] = logits.conformance("long_context", np.array([2.0]), {"conformance": 3.0, "single": 5.0, "least": 0.3})
    assert line.measured == "2 of stock's error over 1 prompt"


@pytest.mark.parametrize(("factor", "precision", "verdict"), [
    (1.3, "bf16", "PASS"),  # eager attention
    (1.45, "bf16", "FAIL"),
    (1.3, "fp16", "FAIL"),
])  # fmt: skip
def test_one_long_prompt_has_a_bound_of_its_own(factor, precision, verdict):
    logits_of = types.SimpleNamespace(logits=REFERENCE[:1], stock=STOCK[:1], against=REFERENCE[:1])
    span = types.SimpleNamespace(check="long_context", length=STEPS, edge=None)
    run = types.SimpleNamespace(
        span=span, logits=scaled_errors(factor)[:1], reference_logits=logits_of, tokens=None, free=None
    )
    lines = generation._long(run, tolerances()["ratio"][precision], tolerances()["tokens"])
    span.edge = STEPS + 16
    lines += generation._long(run, tolerances()["ratio"][precision], tolerances()["tokens"])
    assert [line.verdict for line in lines if not line.check.endswith("_tokens")] == [verdict, verdict]


@pytest.mark.parametrize(("decidable", "verdict", "party"), [(True, "FAIL", OPTIMISED), (False, "PASS", "")])
def test_a_long_free_run_follows_the_forced_one_where_that_is_decidable(decidable, verdict, party):
    levels = logits.noise_levels(STOCK[:1], REFERENCE[:1])
    decided = logits.decidable_steps(STOCK[:1], levels, tolerances()["tokens"]["margin_sigmas"])[0]
    step = np.flatnonzero(decided == decidable)[0]
    forced, second = STOCK[0].argmax(-1), STOCK[0].argsort(-1)[:, -2]
    free = np.where(np.arange(STEPS) < step, forced, second)  # parts at the step for good
    seen = types.SimpleNamespace(logits=REFERENCE[:1], stock=STOCK[:1], against=REFERENCE[:1])
    run = LongRun(Span("long_context", 1024, STEPS), forced, STOCK[:1], seen, free)
    lines = {line.check: line for line in generation._long(run, tolerances()["ratio"]["bf16"], tolerances()["tokens"])}
    assert (lines["long_context_free"].verdict, lines["long_context_free"].party) == (verdict, party)
    assert {line.verdict for check, line in lines.items() if check != "long_context_free"} == {"PASS"}


def test_a_failing_long_prompt_names_its_worst_step():
    reference = np.ones((1, 5, 8))
    once, throughout = reference.copy(), reference * 1.5
    once[0, 3] *= 1.25
    failing = [logits.conformance("long_context", np.array([9.0]), tolerances()["ratio"]["bf16"])[0]]
    seen = [logits.with_worst_step(*failing, found, reference).measured for found in (once, throughout)]
    assert seen[0].endswith("; step 3 is 0.25 off, the median of 5 steps 0")
    assert seen[1].endswith("; step 0 is 0.5 off, the median of 5 steps 0.5")
    once[0, 1, 0] = np.nan
    assert "; step 1 is nan off" in logits.with_worst_step(*failing, once, reference).measured
    passing = logits.conformance("long_context", np.array([1.0]), tolerances()["ratio"]["bf16"])[0]
    assert logits.with_worst_step(passing, once, reference) is passing


def test_not_a_number_never_holds():
    broken = STOCK.copy()
    broken[0, 0, 0] = np.nan
    values = logits.ratios(broken, REFERENCE, noise())
    assert logits.finite(broken).verdict == "FAIL"
    assert logits.conformance("logits", values, tolerances()["ratio"]["bf16"])[0].verdict == "FAIL"
    assert logits.regression(values, 1.0, tolerances()["ratio"]["bf16"]).verdict == "FAIL"
    assert bounded("x", float("nan"), 1.0, "").verdict == "FAIL"


@pytest.mark.parametrize(("factor", "accepted", "verdict"), [
    (1.0, 1.0, "PASS"), (1.03, 1.0, "PASS"), (1.06, 1.0, "FAIL"), (0.9, 1.0, "PASS"), (1.0, None, "NO_BASELINE"),
])  # fmt: skip
def test_regression_holds_the_accepted_ratio(factor, accepted, verdict):
    values = logits.ratios(scaled_errors(factor), REFERENCE, noise())
    assert logits.regression(values, accepted, tolerances()["ratio"]["bf16"]).verdict == verdict


def test_token_flip_counts_only_where_the_reference_decides():
    levels = logits.noise_levels(STOCK, REFERENCE)
    decidable = logits.decidable_steps(REFERENCE, levels, tolerances()["tokens"]["margin_sigmas"])
    assert 0 < decidable.sum() < decidable.size
    for wanted, verdict in ((True, "FAIL"), (False, "PASS")):
        prompt, step = np.argwhere(decidable == wanted)[0]
        flipped = REFERENCE.copy()
        order = flipped[prompt, step].argsort()
        flipped[prompt, step, order[-2]] = flipped[prompt, step, order[-1]] + 1.0
        line = logits.greedy_tokens(flipped, REFERENCE, levels, tolerances()["tokens"])
        assert line.verdict == verdict
    assert (
        f"prompt {np.argwhere(decidable)[0][0]}"
        in logits.greedy_tokens(-REFERENCE, REFERENCE, levels, tolerances()["tokens"]).measured
    )


@pytest.mark.parametrize(("free", "verdict"), [
    ([1, 1, 1, 1], "PASS"),
    ([1, 1, 2, 0], "PASS"),  # a near-tie went the other way, and what follows has another context
    ([1, 2, 1, 1], "FAIL"),
    ([0, 1, 1, 1], "FAIL"),
])  # fmt: skip
def test_a_free_run_follows_the_forced_logits(free, verdict):
    forced = np.zeros((4, 3))
    forced[:, 1] = [5.0, 5.0, 0.001, 5.0]
    line = logits.free_running(np.array(free), np.ones(4, int), forced, level=0.1, sigmas=8.0)
    assert line.verdict == verdict


def test_a_free_run_of_nan_never_holds():
    forced = np.full((4, 3), np.nan)
    assert logits.free_running(np.ones(4, int), np.ones(4, int), forced, 0.1, 8.0).verdict == "FAIL"


def test_special_tokens_must_not_be_left_in_the_text():
    assert logits.decoded("a b", ["<s>", "</s>"]).verdict == "PASS"
    assert logits.decoded("a b</s>", ["<s>", "</s>"]).verdict == "FAIL"


@pytest.mark.parametrize(("short", "by", "verdict"), [
    (0, 9.0, "PASS"), (4, 9.0, "PASS"), (5, 9.0, "FAIL"), (8, 0.2, "PASS"), (8, 0.3, "FAIL"), (8, np.nan, "FAIL"),
])  # fmt: skip
def test_beam_search_fails_when_most_prompts_fall_short(short, by, verdict):
    best = np.linspace(-9, -3, 8)
    candidate = best - np.where(np.arange(8) < short, by, -0.1)
    line = logits.beam(candidate, best, level=0.01, steps=16, sigmas=6.0)  # noise allows 0.24 nats
    assert line.verdict == verdict


@pytest.mark.parametrize(("tokens", "length"), [
    ([1, 2, 3] * 10, 3), ([7] * 9, 1), (list(range(40)), 0), ([5, 6] * 4 + [1, 2, 3], 0), ([], 0),
])  # fmt: skip
def test_loops_are_found(tokens, length):
    assert logits.loop_length(tokens, period=32, copies=5) == length


def test_a_loop_that_the_reference_has_too_is_no_defect():
    bound = {"period": 32, "copies": 5}
    loop, text = [1, 2] * 20, list(range(40))
    assert logits.repetition(loop, text, bound).verdict == "FAIL"
    assert logits.repetition(loop, loop, bound).verdict == "PASS"


def test_optimised_classes_must_stand_in_every_layer():
    found = {"classes": {"Fast": 3, "Slow": 1}}
    assert proof.optimised(found, ("Fast",), 4).verdict == "NOT_OPTIMISED"
    assert proof.optimised({"classes": {"Fast": 4}}, ("Fast",), 4).verdict == "PASS"


def test_every_linear_must_be_quantised():
    found = {"int4_linears": 13, "plain_linears": ["lm_head"]}
    linears = ("q", "k", "v", "o", "gate", "up", "down")
    assert proof.quantised(found, 2, linears).verdict == "NOT_OPTIMISED"
    assert proof.quantised({**found, "int4_linears": 14}, 2, linears).verdict == "PASS"


@pytest.mark.parametrize(("devices", "verdict"), [
    (["xpu"], "PASS"),
    (["cpu", "xpu"], "NOT_OPTIMISED"),
    (["cpu"], "NOT_OPTIMISED"),
    ([], "NOT_OPTIMISED"),
])  # fmt: skip
def test_every_weight_lies_on_the_device(devices, verdict):
    assert proof.placed([{"devices": devices}], "xpu").verdict == verdict


@pytest.mark.parametrize(("kept", "verdicts"), [
    (None, []),  # the optimiser leaves INT4 linears alone
    ([4096, 4096], ["PASS"]),
    ([4096, 0], ["NOT_OPTIMISED"]),
    ([0, 0], ["NOT_OPTIMISED"]),
])  # fmt: skip
def test_an_optimiser_may_move_int4_weights_and_lose_none(kept, verdicts):
    assert [line.verdict for line in proof.int4_kept({"int4_kept": kept})] == verdicts


@pytest.mark.parametrize(("sizes", "grouped", "verdict"), [
    ([2], 8, "PASS"),
    ([1], 8, "NOT_OPTIMISED"),  # the optimiser took the shard for a whole model
    ([1, 2], 8, "NOT_OPTIMISED"),
    ([2], 0, "NOT_OPTIMISED"),
    ([], 0, "NOT_OPTIMISED"),
])  # fmt: skip
def test_layers_that_add_up_themselves_know_every_rank(sizes, grouped, verdict):
    rank = {"tensor_parallel": {"sizes": sizes, "grouped": grouped, "layers": 8}}
    assert [line.verdict for line in proof.tensor_parallel([rank, rank])] == [verdict]
    assert proof.tensor_parallel([{"tensor_parallel": None}] * 2) == []


def test_a_full_copy_is_not_a_shard():
    half, whole = {"parameter_bytes": 60}, {"parameter_bytes": 100}
    assert proof.sharded([half, half], 100, 80, 0.05).verdict == "PASS"
    assert proof.sharded([half, whole], 100, 80, 0.05).verdict == "NOT_OPTIMISED"
    assert proof.sharded([half], 100, 80, 0.05).verdict == "NOT_OPTIMISED"


# -- latency ----


def rounds(step, first=0.1, count=5, tokens=4):
    return [{"total": first + step * tokens, "tokens": [first + step * i for i in range(tokens)]} for _ in range(count)]


def test_latency_statistics_are_seconds_per_token():
    metrics = latency.statistics(rounds(0.01), batch=2, peak_bytes=1024)
    value = {name: entry[0] for name, entry in metrics.items()}
    assert value["end_to_end"] == pytest.approx(0.14)
    assert value["first_token"] == pytest.approx(0.1)
    assert [value["next_token_mean"], value["next_token_p99"]] == pytest.approx([0.01, 0.01])
    assert value["tokens_per_second"] == pytest.approx(2 * 4 / 0.14)
    assert value["fastest"] == pytest.approx(0.13)


def test_the_roofline_ignores_a_disturbed_round():
    disturbed = rounds(0.01)
    disturbed[2]["tokens"] = [t * 7 for t in disturbed[2]["tokens"]]
    assert latency.statistics(disturbed, 1, 0)["fastest"][0] == pytest.approx(0.13)


@pytest.mark.parametrize(("time", "ratio", "same_machine", "may_fail", "verdicts"), [
    (1.0, 1.0, True, True, ["PASS"]), (2.0, 2.0, True, True, ["FAIL"]), (2.0, 1.0, True, True, ["INCONCLUSIVE"]),
    (1.0, 2.0, True, True, ["INCONCLUSIVE"]), (9.0, 1.0, False, True, ["PASS", "INCOMPARABLE"]),
    (1.0, 2.0, False, True, ["INCONCLUSIVE", "INCOMPARABLE"]),
    (1.0, 1.0, True, False, ["PASS"]), (9.0, 9.0, True, False, ["INCONCLUSIVE"]),  # a host, or a disturbed machine
])  # fmt: skip
def test_screening_fails_only_what_both_figures_show(time, ratio, same_machine, may_fail, verdicts):
    metrics = {"fastest": (time, None, "s"), "ratio_to_stock": (ratio, None, "1")}
    lines = latency.screen(metrics, {"fastest": 1.0, "ratio_to_stock": 1.0}, same_machine, {"rise": 0.5}, may_fail)
    assert [line.verdict for line in lines] == verdicts


# -- settling ----


def waiver(*checks, at_most=10.0, raises="", intermittent=False):
    return types.SimpleNamespace(
        id="known",
        checks=checks or ("left_padding",),
        reason="upstream",
        owner="ipex-cpu",
        until=datetime.date(2030, 1, 1),
        raises=raises,
        intermittent=intermittent,
        ceiling=lambda check: at_most,
    )


def test_the_worst_line_decides():
    lines = [Line("a", "PASS", ""), Line("b", "NO_BASELINE", ""), Line("c", "FAIL", "")]
    assert settle(lines, lambda check: None).verdict == "FAIL"
    assert settle(lines[:2], lambda check: None).verdict == "NO_BASELINE"
    assert settle([], lambda check: None).verdict == "INCONCLUSIVE"


def test_a_waiver_covers_its_own_check_only():
    known = waiver()
    lines = [Line("left_padding", "FAIL", "9", value=9.0), Line("logits", "PASS", "1")]
    covers = {"left_padding": known}.get
    assert settle(lines, covers, (known,)).verdict == "WAIVED"
    assert settle([*lines, Line("tokens", "FAIL", "2")], covers, (known,)).verdict == "FAIL"


def test_a_waived_check_that_holds_is_stale():
    known = waiver()
    settled = settle([Line("left_padding", "PASS", "1")], lambda check: known, (known,))
    assert settled.verdict == "STALE_WAIVER"
    assert "ipex-cpu" in settled.decisive.measured


def test_an_intermittent_defect_may_stay_away():
    known = waiver(intermittent=True)
    covers = {"left_padding": known}.get
    assert settle([Line("left_padding", "PASS", "1")], covers, (known,)).verdict == "PASS"
    assert settle([Line("left_padding", "FAIL", "9", value=9.0)], covers, (known,)).verdict == "WAIVED"
    assert settle([Line("left_padding", "FAIL", "11", value=11.0)], covers, (known,)).verdict == "FAIL"


def test_a_waiver_of_several_checks_is_stale_when_none_of_them_fails():
    known = waiver("left_padding", "logits")
    lines = [Line("left_padding", "PASS", "1"), Line("logits", "FAIL", "9", value=9.0)]
    assert settle(lines, {"logits": known}.get, (known,)).verdict == "WAIVED"
    assert settle(lines[:1], {"logits": known}.get, (known,)).verdict == "STALE_WAIVER"


def test_a_waived_check_that_was_never_reached_is_not_stale():
    known = waiver()
    settled = settle([Line("runs", "CRASHED", "SIGSEGV")], lambda check: None, (known,))
    assert settled.verdict == "CRASHED"
