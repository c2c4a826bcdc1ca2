"""Tests of whether launches lie above a limit: their levels, what they can show, and what they say of odd values."""

import math

import numpy as np
import pytest
from scipy import stats

from fixtures.judge.bounds import bounds
from fixtures.judge.location_tests import FITTED, p_above, p_above_by_t, reach, reach_by_t
from fixtures.judge.pairs import Reference, surely_slower, without_order

BOUND = bounds()["pairs"]
SHARE = 1e-5  # of a false alarm, as small as that of a late suspect


def test_the_exact_p_of_launches_that_all_lie_above():
    assert p_above([0.01, 0.02, 0.03, 0.04, 0.05], 0.0) == pytest.approx(1 / 32)
    assert p_above([0.0] * 8, 0.0) == 1.0


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")  # scipy's, of zeros
@pytest.mark.parametrize("decimals", [None, 1, 0])  # rounded values have ties and zeros
def test_the_p_that_is_looked_up_is_that_of_scipy(decimals):
    generator = np.random.default_rng(6)
    for launches in [*range(1, 41)] * 5:
        values = generator.normal(generator.choice([0, 0.5, 2]), 1, launches)
        values = without_order(values) if decimals is None else np.round(values, decimals)
        for limit in (0.0, 0.5):
            above = values - limit
            known = stats.wilcoxon(above, alternative="greater", method="exact").pvalue if above.any() else 1.0
            assert p_above(values, limit) == pytest.approx(known, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("test", [p_above, p_above_by_t])
@pytest.mark.parametrize(("launches", "level", "most"), [(6, 0.0157, BOUND["beta"]), (48, 0.01, 0.02)])
def test_removing_the_order_costs_at_most_what_the_bounds_leave_for_it(test, launches, level, most):
    generator = np.random.default_rng(5)
    seen = [test(without_order(generator.normal(size=launches)), 0.0) for _ in range(6000)]
    assert np.mean(np.array(seen) <= level) < most


def test_the_t_test_is_that_of_scipy_but_for_the_degree_of_freedom_that_the_order_costs():
    values = np.random.default_rng(1).normal(0.5, 1, 10)
    freedom, lower = len(values) - FITTED, min(values.mean(), np.median(values))
    found = stats.ttest_1samp(values, values.mean() - (lower - 0.1))
    asked = stats.t.sf(found.statistic * math.sqrt(freedom / (len(values) - 1)), freedom)
    assert p_above_by_t(values, 0.1) == pytest.approx(asked, rel=1e-9)
    assert p_above_by_t(values, 0.1, error=1.0) > asked


@pytest.mark.parametrize(("values", "p"), [([], 1.0), ([5.0, 6.0], 1.0), ([0.0] * 6, 1.0), ([1.0] * 6, 0.0)])
def test_the_t_test_of_launches_without_any_spread_or_too_few(values, p):
    assert p_above_by_t(values, 0.0) == p


@pytest.mark.parametrize("launches", BOUND["rejects"])
def test_what_is_said_to_be_detectable_by_ranks_is_detected(launches):
    shift = reach(launches, SHARE, 0.95)
    seen = [p_above(values, 0.0) <= SHARE for values in np.random.default_rng(9).normal(shift, 1, (600, launches))]
    assert 0.92 < np.mean(seen) < 0.98


@pytest.mark.parametrize("launches", [10, *BOUND["rejects"]])
def test_what_is_said_to_be_detectable_by_t_is_detected(launches):
    shift = reach_by_t(launches, SHARE, 0.95) / math.sqrt(launches)
    drawn = np.random.default_rng(9).normal(shift, 1, (600, launches))
    seen = [p_above_by_t(without_order(values), 0.0) <= SHARE for values in drawn]
    assert 0.9 < np.mean(seen) < 0.98  # the order takes more than its degree of freedom from few launches


@pytest.mark.parametrize(("launches", "slower", "answer"), [(10, 0.1, True), (16, 0.06, True), (10, 0.01, False)])
def test_few_launches_that_no_ranks_can_tell_by_are_told_by_their_distance(launches, slower, answer):
    values = without_order(np.random.default_rng(2).normal(slower, 0.01, launches))
    assert p_above(values, 0.0) > SHARE / 2
    assert surely_slower(values, Reference(), BOUND, SHARE) is answer


def test_one_launch_far_off_hides_no_slowdown():
    values = [*np.random.default_rng(2).normal(0.02, 0.01, 32), 2.0]
    assert p_above_by_t(values, 0.0) > 0.05
    assert surely_slower(values, Reference(), BOUND, SHARE)


def test_few_launches_far_above_do_not_outweigh_an_accepted_ratio_that_is_not_known():
    values = without_order(np.random.default_rng(2).normal(0.1, 0.01, 10))
    assert not surely_slower(values, Reference(error=0.05), BOUND, SHARE)


@pytest.mark.parametrize("launches", [16, 48])
def test_launches_that_are_slow_at_times_are_no_slowdown(launches):
    generator = np.random.default_rng(8)
    seen = [p_above_by_t(without_order(generator.lognormal(0, 0.5, launches)), 1.0) for _ in range(4000)]
    assert np.mean(np.array(seen) <= 0.01) < 0.02  # by their mean alone it is 0.1


@pytest.mark.parametrize("draw", ["normal", "heavy", "skewed"])
def test_identical_code_is_called_slower_no_more_often_than_its_share(draw):
    generator = np.random.default_rng(8)
    draws = {
        "normal": lambda: generator.normal(size=16),
        "heavy": lambda: generator.standard_t(3, 16),
        "skewed": lambda: 1 - generator.lognormal(0, 0.5, 16),  # about its median, with a tail where code is faster
    }
    share = 0.01
    seen = [surely_slower(without_order(draws[draw]()), Reference(), BOUND, share) for _ in range(4000)]
    assert np.mean(seen) < 2 * share * 1.2
