"""Checks of scores on made-up records: exact tests, what they can see, and every way a comparison can be refused."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import scipy

from fixtures.checks import scores
from fixtures.checks.score_records import Scores
from fixtures.checks.scores import Paired
from fixtures.checks.tolerances import tolerances
from fixtures.matrix import load_matrix
from fixtures.measure.accuracy import Accuracy
from suites.meta.studies import accuracy

BF16 = next(cell for cell in load_matrix().all_cells() if cell.id == "smollm2-135m-bf16-cpu-single")
TABLE = tolerances()["score"]
BOUND = {**TABLE["all"], **TABLE["bf16"]}
N = 360


def made(right, logliks=None, model="weights", version="1.0"):
    """Scores of made-up documents: `right` [documents] of 0 and 1."""
    logliks = np.full(len(right), -1.0) if logliks is None else logliks
    records = [
        {"document": i, "digest": f"{i:04x}", "metrics": {"acc": int(r)}, "loglik": float(nats)}
        for i, (r, nats) in enumerate(zip(right, logliks, strict=True))
    ]
    return Scores("task", version, model, "acc", len(records), float(np.mean(right)), 0.02, records)


def half(n=N):
    """A score of one half."""
    return np.arange(n) % 2


def verdicts(lines):
    return {line.check: line.verdict for line in lines}


# -- the exact test ----


@pytest.mark.parametrize(("lost", "won"), [(7, 0), (12, 3), (3, 12), (5, 5)])
def test_without_allowance_it_is_the_sign_test_of_the_flips(lost, won):
    expected = scipy.stats.binomtest(lost, lost + won, 0.5, alternative="greater").pvalue
    assert scores.p_value(Paired(N, lost, won)) == pytest.approx(expected)


def test_identical_answers_show_nothing():
    assert scores.p_value(Paired(N, 0, 0)) == 1.0
    assert scores.drop_interval(Paired(N, 0, 0)) == (0.0, 0.0)


def test_a_drop_of_what_is_allowed_is_no_defect():
    assert scores.p_value(Paired(1000, 10, 0), 0.0) < 0.01 < scores.p_value(Paired(1000, 10, 0), 0.01)


@pytest.mark.parametrize("flips", [0.0, 0.002, 0.01, 0.1])
@pytest.mark.parametrize(("n", "allowed"), [(5153, 0.005), (360, 0.1)])
def test_a_drop_of_just_what_is_allowed_raises_as_many_alarms_as_it_may(n, allowed, flips):
    generator = np.random.default_rng(5)
    shares = [allowed + flips / 2, flips / 2, 1 - allowed - flips]
    drawn = generator.multinomial(n, shares, 3000)
    alarms = np.mean([scores.p_value(Paired(n, lost, won), allowed) <= 0.01 for lost, won, _ in drawn])
    assert alarms <= 0.02, "one in a hundred, and what 3000 draws may be off by"


def test_power_is_what_brute_force_says():
    n, flips, drop, alpha = 40, 0.1, 0.2, 0.05
    lost, won = flips / 2 + drop, flips / 2
    caught = sum(
        scipy.stats.multinomial.pmf([a, b, n - a - b], n, [lost, won, 1 - lost - won])
        for a, b in itertools.product(range(n + 1), repeat=2)
        if a + b <= n and scores.p_value(Paired(n, a, b)) <= alpha
    )
    assert scores.power(drop, flips, n, alpha) == pytest.approx(caught, abs=1e-9)


@pytest.mark.parametrize("allowed", [0.0, 0.01])
def test_the_smallest_detectable_drop_is_seen_as_often_as_said(allowed):
    seen = scores.smallest_detectable(0.02, N, 0.01, 0.95, allowed)
    drawn = np.random.default_rng(6).multinomial(N, [0.01 + seen, 0.01, 0.98 - seen], 2000)
    caught = np.mean([scores.p_value(Paired(N, lost, won), allowed) <= 0.01 for lost, won, _ in drawn])
    assert 0.92 < caught < 0.98


def test_nothing_is_detectable_in_five_documents():
    assert scores.smallest_detectable(0.0, 5, 0.01, 0.95) == 1.0


def test_two_scores_alone_see_less_than_pairs():
    assert scores.unpaired_detectable(0.5, N, N, 0.01, 0.95) > 2 * scores.smallest_detectable(0.02, N, 0.01, 0.95)
    assert scores.unpaired_p(0.4, N, 0.5, N) == pytest.approx(
        scipy.stats.norm.sf(0.1 / math.sqrt((0.24 + 0.25) / N)), rel=1e-9
    )


# -- lines ----


@pytest.mark.nightly
def test_two_hundred_comparisons_of_identical_outputs_raise_no_alarm():
    generator = np.random.default_rng(1)
    for _ in range(200):
        same = made(generator.integers(0, 2, N), generator.normal(-2, 2, N))
        lines = scores.compared("", same, same, BOUND, stock=same) + scores.regression(same, same, BOUND)
        assert {line.verdict for line in lines} == {"PASS"}


def test_a_drop_is_reported_with_everything_behind_it():
    right = half()
    fewer = right.copy()
    fewer[np.flatnonzero(right)[:30]] = 0
    lines = scores.compared("", made(fewer), made(right), BOUND)
    assert verdicts(lines)["score"] == "FAIL"
    text = lines[0].measured
    for words in ("reference 0.5000", "drop +8.3 points [", "30 lost, 0 won of 360", "smallest detectable "):
        assert words in text


def test_too_few_documents_are_inconclusive_never_a_pass():
    assert verdicts(scores.compared("", made(half(40)), made(half(40)), BOUND))["resolution"] == "INCONCLUSIVE"


def test_a_rise_that_cannot_be_fails():
    more = half()
    more[:60] = 1
    assert verdicts(scores.compared("", made(more), made(half()), BOUND))["ceiling"] == "FAIL"


@pytest.mark.parametrize("right", [np.ones(N), np.arange(N) > 1])
def test_nearly_everything_right_is_a_task_that_gives_its_answers_away(right):
    assert scores.ceiling(made(half()), made(right), BOUND)[0].verdict == "FAIL"
    assert scores.ceiling(made(half()), made(half()), BOUND) == []


def test_a_falling_likelihood_fails_though_every_answer_stays_right():
    lines = scores.compared("", made(half(), np.full(N, -1.1)), made(half()), BOUND)
    assert (verdicts(lines)["score"], verdicts(lines)["loglik"]) == ("PASS", "FAIL")


def test_not_a_number_fails():
    logliks = np.full(N, -1.0)
    logliks[3] = np.nan
    seen = verdicts(scores.compared("", made(half(), logliks), made(half()), BOUND, made(half(), np.full(N, -1.01))))
    assert (seen["loglik"], seen["loglik_spread"]) == ("FAIL", "FAIL")


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "PASS"), (1.5, "FAIL")])
def test_a_spread_above_stocks_own_fails_though_the_mean_stays(factor, verdict):
    noise = np.random.default_rng(2).normal(0, 0.05, (2, N))
    base = np.full(N, -1.0)
    lines = scores.compared(
        "", made(half(), base + factor * noise[0]), made(half(), base), BOUND, made(half(), base + noise[1])
    )
    assert (verdicts(lines)["loglik"], verdicts(lines)["loglik_spread"]) == ("PASS", verdict)


def test_other_documents_are_no_comparison():
    other = made(half())
    other.records[5]["digest"] = "ffff"
    assert verdicts(scores.compared("", made(half()), other, BOUND)) == {"score": "FAIL"}


def test_a_score_without_documents_is_compared_unpaired():
    lines = scores.compared("", made(half()), dataclasses.replace(made(half()), records=[], score=0.7), BOUND)
    assert verdicts(lines) == {"score": "FAIL", "resolution": "INCONCLUSIVE"}
    lines = scores.compared("", made(half()), dataclasses.replace(made(half()), records=[], score=0.2), BOUND)
    assert verdicts(lines)["ceiling"] == "FAIL"
    lines = scores.compared("", made(half()), dataclasses.replace(made(half()), records=[], score=12.5), BOUND)
    assert verdicts(lines) == {"score": "INCONCLUSIVE"}


@pytest.mark.parametrize("value", [0.37, [1, 0], ["text", "text"]])
def test_a_metric_that_cannot_be_paired_is_inconclusive(value):
    odd = made(half())
    for record in odd.records:
        record.update(metrics={"acc": value}, loglik=None)
    assert verdicts(scores.compared("", odd, odd, BOUND)) == {"score": "INCONCLUSIVE"}


# -- against the accepted score ----


@pytest.mark.parametrize(("before", "verdict"), [
    (None, "NO_BASELINE"),
    (made(half(), version="2.0"), "INCOMPARABLE"),
    (made(half(N - 1)), "INCOMPARABLE"),  # fewer documents than here
    (made(half(), model="other weights"), "FAIL"),
    (made(half()), "PASS"),
])  # fmt: skip
def test_the_accepted_score_must_be_of_the_same_task_and_weights(before, verdict):
    assert verdicts(scores.regression(made(half()), before, BOUND))["regression_score"] == verdict


def test_the_first_documents_of_an_accepted_score_serve_a_shorter_run():
    seen = verdicts(scores.regression(made(half(100)), made(half()), BOUND))
    assert seen["regression_score"] == "PASS"


def judged(**fields):
    measured = Accuracy(BF16, packaged=True, **fields)
    return verdicts(scores.check_accuracy(measured, tolerances()))


def test_a_reference_outside_of_what_the_task_should_give_fails():
    low = made(np.arange(N) < 40)
    reported = dict(origins={"task": "of a test"}, plausible={"task": (0.3, 0.9)})
    assert judged(tasks={"task": (low, low)}, **reported)["plausible"] == "FAIL"
    assert judged(tasks={"task": (made(half()), made(half()))}, **reported)["plausible"] == "PASS"


@pytest.mark.parametrize(("dtype", "verdict"), [("float32", "FAIL"), ("float16", "FAIL"), ("bfloat16", "PASS")])
def test_the_arithmetic_of_int4_may_spread_scores_as_its_type_does(dtype, verdict):
    base, noise = -np.ones(N), np.random.default_rng(5).normal(size=N) * 0.06
    mine, oracle = made(half(), base + noise), made(half(), base)
    proofs = [{"classes": {"_IPEXDecoderLayerCPU": 1}, "dtype": dtype}]
    reported = dict(
        origins={"task": "of a test"}, plausible={"task": (0.3, 0.9)}, geometry=type("G", (), {"layers": 1})
    )
    seen = judged(tasks={"task": (mine, oracle)}, oracle={"task": oracle}, proofs=proofs, **reported)
    assert seen["arithmetic_loglik_spread"] == verdict


def test_nothing_scored_is_no_pass():
    assert judged()["score"] == "INCONCLUSIVE"


def test_ranks_that_saw_other_documents_fail():
    proofs = [{"classes": {"_IPEXDecoderLayerCPU": 1}, "dtype": "bfloat16"}] * 2
    geometry = type("G", (), {"layers": 1})
    assert judged(proofs=proofs, geometry=geometry, rank_digests=[["a", "a"], ["a", "b"]])["ranks_agree"] == "FAIL"
    assert judged(proofs=proofs, geometry=geometry, rank_digests=[["a", "a"]])["ranks_agree"] == "PASS"


# -- what the rules see ----


def test_the_paired_rule_keeps_its_alarms_and_sees_more_than_two_scores():
    sound, dropped = (accuracy.rates(5153, drop, 0.15, 400) for drop in (0.0, 0.02))
    assert sound["paired (this gate)"] <= 0.01 + 3 * math.sqrt(0.01 / 400)
    assert dropped["paired (this gate)"] > 2 * dropped["unpaired test"]
