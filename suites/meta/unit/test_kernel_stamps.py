"""Kernel time by token, from made-up kernels: no device is used here."""

import types

import pytest

from fixtures.compare.replicates import Replicates

MS = 1_000_000  # ns
KERNELS = [("a", 0, 2 * MS), ("b", 3 * MS, MS), ("c", 11 * MS, 4 * MS), ("d", 21 * MS, 5 * MS), ("after", 31 * MS, MS)]
ENDS = [10 * MS, 20 * MS, 30 * MS]


def kernel_stamps(kernels, ends):
    from fixtures.engine.measure import kernel_stamps  # here, since it imports the stack

    return kernel_stamps(kernels, ends)


def test_a_token_has_the_kernels_that_began_before_it_ended():
    assert kernel_stamps(KERNELS, ENDS) == pytest.approx([0.003, 0.007, 0.012])


def test_waiting_between_kernels_counts_in_no_token():
    late = [(name, start + (5 * MS if start < 5 * MS else 0), length) for name, start, length in KERNELS]
    assert kernel_stamps(late, ENDS) == kernel_stamps(KERNELS, ENDS)


def rounds_of(*seconds):
    """An arm whose generates take so many kernel seconds, the last ones again and again."""
    left = list(seconds)
    return types.SimpleNamespace(timed=lambda: {"device": [left.pop(0) if len(left) > 1 else left[0]]}, left=left)


@pytest.mark.parametrize(("seconds", "left"), [([1.0, 1.0, 9.0], 1), ([2.3, 1.7, 1.2, 1.0, 1.005, 7.0], 1)])
def test_warming_up_goes_on_until_the_clock_has_settled(seconds, left):
    made = Replicates.__new__(Replicates)
    made.request, made.table = {}, {"warmup": 2, "settled": 0.01, "longest": 60}
    arm = rounds_of(*seconds)
    made.warm_up({"candidate": arm})
    assert len(arm.left) == left


def test_a_clock_that_never_settles_ends_the_warm_up_at_its_limit():
    made = Replicates.__new__(Replicates)
    made.request, made.table = {}, {"warmup": 2, "settled": 0.01, "longest": 0}
    arm = rounds_of(*range(1, 50))
    made.warm_up({"candidate": arm})
    assert len(arm.left) > 40


def test_a_host_warms_up_for_its_rounds_alone():
    made, calls = Replicates.__new__(Replicates), []
    made.request, made.table = {}, {"warmup": 2, "settled": 0.01, "longest": 60}
    made.warm_up({"candidate": types.SimpleNamespace(timed=lambda: calls.append(1) or {"tokens": [1.0]})})
    assert len(calls) == 2
