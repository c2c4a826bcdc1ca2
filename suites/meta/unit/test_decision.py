"""The decision on a set of replicates: its level, its power, and what the minimum detectable slowdown promises."""

import math

import numpy as np
import pytest

from fixtures.compare.decision import Accepted, decide, mean_of, percent, sessions_of
from fixtures.compare.statistics import log_ratios

RULE = {"margin": 0.02, "budget": 0.10, "alpha": 0.005}
SPREAD, SETS = 0.01, 2000


def a_set(draw, rise=0.0, order=0.0, count=12, spread=SPREAD):
    """Log-ratios of a set with a true rise; who starts first is faster by `order`."""
    noise = draw.normal(rise, spread, count)
    return [(value - order if place % 2 == 0 else value + order, place % 2 == 0) for place, value in enumerate(noise)]


def share(wanted, rise, order=0.0, rule=RULE):
    draw = np.random.default_rng(3)
    return np.mean([decide(a_set(draw, rise, order), Accepted(), rule).verdict == wanted for _ in range(SETS)])


@pytest.mark.parametrize("order", [0.0, 0.05])
def test_a_cell_slower_by_just_the_margin_is_called_slower_as_often_as_alpha_says(order):
    assert share("slower", math.log1p(RULE["margin"]), order) == pytest.approx(RULE["alpha"], abs=0.004)
    assert share("slower", 0.0, order) == 0


def test_two_sets_find_the_minimum_detectable_slowdown_in_19_of_20_runs():
    seen = decide(a_set(np.random.default_rng(1)), Accepted(), RULE)
    exact = decide([(value, first) for value, first in a_set(np.random.default_rng(1))], Accepted(), RULE)
    assert seen == exact
    draw = np.random.default_rng(5)
    least = np.mean([decide(a_set(draw), Accepted(), RULE).detectable for _ in range(200)])
    assert share("slower", least) ** 2 == pytest.approx(0.95, abs=0.03)


def test_the_order_of_starting_moves_no_estimate():
    draws = [np.random.default_rng(7) for _ in range(2)]
    plain, shifted = (
        decide(a_set(draw, order=order), Accepted(), RULE) for draw, order in zip(draws, (0, 0.2), strict=True)
    )
    assert shifted.rise == pytest.approx(plain.rise)
    assert shifted.detectable == pytest.approx(plain.detectable)


def test_a_sound_cell_lies_below_the_budget_with_its_whole_interval():
    assert decide(a_set(np.random.default_rng(1)), Accepted(), RULE).verdict == "sound"
    assert decide(a_set(np.random.default_rng(1), spread=0.2), Accepted(), RULE).verdict == "undecided"


def test_sessions_that_lie_apart_widen_the_interval_and_lower_the_freedom():
    tight, wide = (sessions_of([-gap, 0.0, gap]) for gap in (1e-4, 0.05))
    now = a_set(np.random.default_rng(2), rise=0.06)
    assert decide(now, tight, RULE).verdict == "slower"
    assert decide(now, wide, RULE).verdict == "undecided"


def test_an_accepted_mean_is_taken_off():
    now = a_set(np.random.default_rng(2), rise=0.5)
    assert percent(decide(now, Accepted(0.5), RULE).rise) == pytest.approx(100 * math.expm1(mean_of(now) - 0.5))


@pytest.mark.parametrize("now", [[], [(0.0, True)] * 6, [(0.0, True), (0.0, False)]])
def test_too_few_replicates_or_one_order_alone_decide_nothing(now):
    with pytest.raises(ValueError, match="no set"):
        decide(now, Accepted(), RULE)


def rounds(first, step, clock="tokens", count=3, tokens=4):
    return [{clock: [first + step * place for place in range(tokens)]} for _ in range(count)]


def test_ratios_are_of_neighbouring_rounds_by_the_median_token():
    mine, theirs = rounds(0.2, 0.011), rounds(0.1, 0.01)
    mine[1]["tokens"] = [stamp * 50 for stamp in mine[1]["tokens"]]  # one round that was interrupted
    assert log_ratios(mine, theirs) == pytest.approx({"prefill": math.log(2), "decode": math.log(1.1)})


def test_kernel_time_counts_where_every_round_has_it():
    mine = [{**wall, **device} for wall, device in zip(rounds(9, 9), rounds(0.2, 0.011, "device"), strict=True)]
    theirs = [{**wall, **device} for wall, device in zip(rounds(1, 1), rounds(0.1, 0.01, "device"), strict=True)]
    assert log_ratios(mine, theirs)["decode"] == pytest.approx(math.log(1.1))
    assert log_ratios(mine, rounds(1, 1))["decode"] == pytest.approx(math.log(9))


def test_one_token_has_no_decode():
    assert set(log_ratios(rounds(1, 1, tokens=1), rounds(1, 1, tokens=1))) == {"prefill"}
