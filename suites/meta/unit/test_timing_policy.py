"""Which cells get replicates, and what becomes of them, with made-up replicates: nothing is timed here."""

import contextlib
import dataclasses
import math
import types

import numpy as np
import pytest

from fixtures.checks.host_state import marks, refusal
from fixtures.checks.tolerances import tolerances
from fixtures.checks.verdicts import Line
from fixtures.compare import decision, policy
from fixtures.compare.policy import SESSIONS, PairedTiming, compared, marked, rule_of
from fixtures.compare.replicates import Replicate, Replicates, table_of
from fixtures.io.parties import OPTIMISED
from fixtures.matrix.schema import IPEX
from fixtures.results.accepted import Accepted

QUIET, SLOWER, SLOWEST = 0.0, 0.05, 0.4


def replicates(rise, disturbed="", count=12):
    """A set whose candidate is slower than stock by a log-ratio; the last of them is disturbed."""
    made = [
        Replicate({"prefill": rise + 1e-3 * (place % 3), "decode": rise + 1e-3 * (place % 3)}, place % 2 == 0)
        for place in range(count)
    ]
    return [*made[:-1], Replicate(made[-1].ratios, made[-1].candidate_first, disturbed)]


def snapshots(busy=0.0):
    """The machine before and after 10 s on two cores of which others kept so many busy."""
    plain = {"cores": [0, 1], "self": "1", "swap_ins": None, "governors": None, "throttles": None, "frequencies": None}
    states = []
    for second in (0.0, 10.0):
        cpu = {"busy": second * busy, "idle": second * (2 - busy), "steal": 0.0}
        processes = {"1": {"cpu": 0.0, "threads": 1, "start": 1}}
        states.append(plain | {"monotonic": second, "wall": second, "cpu": cpu, "processes": processes})
    return states


def a_cell(device_type="cpu", mode="single"):
    return types.SimpleNamespace(platform=types.SimpleNamespace(device_type=device_type), sharded=mode == "autotp")


def measured(device_type="cpu", rise=0.0, busy=0.0):
    """A timed cell whose own rounds are slower than stock's by a log-ratio."""
    stamps = [math.exp(rise), 2 * math.exp(rise), 3 * math.exp(rise)]
    return types.SimpleNamespace(
        cell=a_cell(device_type),
        grid=None,
        rounds=[{"tokens": stamps}],
        stock_rounds=[{"tokens": [1.0, 2.0, 3.0]}],
        host_state=snapshots(busy),
        error=None,
    )


ACCEPTED = Accepted(
    {"paired_prefill": 1.0, "paired_decode": 1.0, SESSIONS: 3.0},
    True,
    spreads={"paired_prefill": 0.002, "paired_decode": 0.002},
)


def timing(sets, updating=False, comparing=True, count=None, anyway=False):
    """A PairedTiming whose sets of replicates come from a list, and that list."""
    left = list(sets)
    maker = lambda *_: types.SimpleNamespace(measure=lambda count=None: left.pop(0))  # noqa: E731
    return PairedTiming(None, updating, comparing, count, tolerances(), maker, anyway), left


def verdicts(lines):
    return {line.check: line.verdict for line in lines}


def test_a_cell_that_two_sets_call_slower_fails_and_says_everything():
    paired, left = timing([replicates(SLOWEST), replicates(SLOWEST)])
    lines, metrics = paired(measured(rise=SLOWEST), ACCEPTED)
    assert verdicts(lines) == {"prefill": "FAIL", "decode": "FAIL"}
    for words in ("% [", "12 replicates", "minimum detectable", "budget 10 %", "a first set of 12 showed"):
        assert words in lines[1].measured
    assert metrics["now_decode"][0] == pytest.approx(math.exp(SLOWEST), rel=0.01)
    assert not left


def test_what_a_second_set_does_not_confirm_is_no_failure():
    paired, _ = timing([replicates(SLOWEST), replicates(QUIET)])
    lines, _ = paired(measured(rise=SLOWEST), ACCEPTED)
    assert verdicts(lines) == {"prefill": "PASS", "decode": "PASS"}


def test_a_metric_that_the_first_set_clears_keeps_its_ratio_of_that_set():
    first, second = replicates(SLOWEST), replicates(SLOWEST)
    for seen in first:
        seen.ratios["prefill"] = QUIET
    paired, _ = timing([first, second])
    lines, metrics = paired(measured(rise=SLOWEST), ACCEPTED)
    assert verdicts(lines) == {"prefill": "PASS", "decode": "FAIL"}
    assert metrics["now_prefill"][0] == pytest.approx(1.0, rel=0.01)


def test_a_sound_set_needs_no_second_one():
    paired, left = timing([replicates(QUIET), replicates(SLOWEST)])
    lines, _ = paired(measured(rise=SLOWEST), ACCEPTED)
    assert verdicts(lines) == {"prefill": "PASS", "decode": "PASS"}
    assert len(left) == 1


@pytest.mark.parametrize("sets", [
    [replicates(SLOWEST, "foreign load of 1.29 cores")],
    [replicates(SLOWEST), replicates(SLOWEST, "foreign load of 1.29 cores")],
])  # fmt: skip
def test_a_disturbed_set_fails_nothing_and_names_the_cause(sets):
    paired, _ = timing(sets)
    lines, _ = paired(measured(rise=SLOWEST), ACCEPTED)
    assert set(verdicts(lines).values()) == {"INCONCLUSIVE"}
    assert any("foreign load of 1.29 cores" in line.measured for line in lines)


def test_rounds_that_stay_disturbed_are_not_compared_at_all():
    paired, left = timing([replicates(SLOWEST)])
    lines, _ = paired(measured(rise=SLOWEST, busy=1.3), ACCEPTED)
    assert verdicts(lines) == {"replicates": "INCONCLUSIVE"}
    assert "foreign load of 1.30 cores" in lines[0].measured
    assert len(left) == 1


def test_a_host_clears_by_its_own_rounds_and_an_accelerator_never():
    paired, left = timing([replicates(QUIET)])
    assert verdicts(paired(measured(rise=0.03), ACCEPTED)[0]) == {"screen": "PASS"}
    assert len(left) == 1
    assert verdicts(paired(measured("cuda", rise=0.03), ACCEPTED)[0]) == {"prefill": "PASS", "decode": "PASS"}


@pytest.mark.parametrize("before", [
    Accepted(None, True),
    Accepted({"fastest": 1.0, "ratio_to_stock": 1.0}, True),
    Accepted(ACCEPTED.values, False, same_machine=False, spreads=ACCEPTED.spreads),
])  # fmt: skip
def test_without_a_ratio_of_this_machine_replicates_decide_nothing(before):
    paired, left = timing([replicates(SLOWEST)])
    assert paired(measured(rise=SLOWEST), before) == ([], {})
    assert len(left) == 1


def test_accepting_takes_three_sessions_and_keeps_their_spread():
    paired, left = timing([replicates(rise) for rise in (0.01, 0.02, 0.03)], updating=True, count=12)
    lines, metrics = paired(measured(), Accepted(None, True))
    assert metrics[SESSIONS][0] == 3
    assert metrics["paired_decode"][1] == pytest.approx(0.01)
    assert verdicts(lines) == {"host_state": "PASS", "replicates": "PASS"}
    assert marks(lines) == ""
    assert not left


def test_nothing_is_accepted_from_a_disturbed_session():
    paired, _ = timing([replicates(QUIET), replicates(QUIET, "steal")], updating=True, count=12)
    lines, metrics = paired(measured(), ACCEPTED)
    assert (verdicts(lines), metrics) == ({"host_state": "PASS", "replicates": "INCONCLUSIVE"}, {})
    assert refusal(lines).measured == "not accepted: steal"


def test_a_disturbed_machine_accepts_nothing_and_times_nothing_more():
    paired, left = timing([replicates(QUIET)] * 3, updating=True, count=12)
    lines, metrics = paired(measured(busy=1.3), ACCEPTED)
    assert (verdicts(lines), metrics, len(left)) == ({"host_state": "INCONCLUSIVE"}, {}, 3)
    assert refusal(lines).measured.startswith("not accepted: foreign load of 1.30 cores, allowed 0.5")


def test_who_insists_gets_marked_values():
    sets = [replicates(QUIET), replicates(QUIET, "steal"), replicates(QUIET)]
    paired, left = timing(sets, updating=True, count=12, anyway=True)
    lines, metrics = paired(measured(busy=1.3), ACCEPTED)
    assert (metrics[SESSIONS][0], len(left), refusal(lines)) == (3, 0, None)
    assert "accepted although foreign load of 1.30 cores" in marks(lines)
    assert "accepted although steal" in marks(lines)


def test_sessions_that_spread_beyond_what_a_set_can_pass_beside_are_not_accepted():
    apart = [replicates(rise) for rise in (0.0, 0.04, 0.08)]
    paired, _ = timing(apart, updating=True, count=12)
    lines, _ = paired(measured(), ACCEPTED)
    assert refusal(lines).measured.startswith("not accepted: decode: the sessions spread by +4.1%, so that")
    paired, _ = timing(apart, updating=True, count=12, anyway=True)
    assert "accepted although decode: the sessions spread" in marks(paired(measured(), ACCEPTED)[0])


def test_what_is_accepted_lets_identical_code_pass():
    """The rule on acceptance is the one of comparison: beside sessions that it lets in, the same code is sound."""
    for sessions in ((0.0, 0.01, 0.02), (0.0, 0.02, 0.04), (0.0, 0.04, 0.08)):
        paired, _ = timing([replicates(rise) for rise in sessions], updating=True, count=12)
        lines, metrics = paired(measured(), ACCEPTED)
        seen = decision.Accepted(math.log(metrics["paired_decode"][0]), metrics["paired_decode"][1], 3)
        same = [(seen.log_ratio + 1e-3 * (place % 3 - 1), place % 2 == 0) for place in range(12)]
        sound = decision.decide(same, seen, rule_of(tolerances(), a_cell(), "decode")).verdict == "sound"
        assert sound == (refusal(lines) is None)


def accepted_beside(sessions, kind):
    """What is accepted of sessions that are slower than stock by these log-ratios; None where they are refused."""
    paired, _ = timing([replicates(rise) for rise in sessions], updating=True, count=12)
    lines, metrics = paired(measured(kind), ACCEPTED)
    values, spreads = ({name: found[place] for name, found in metrics.items()} for place in (0, 1))
    return None if refusal(lines) else Accepted(values, True, spreads=spreads)


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_12_percent_slower_never_passes_beside_accepted_sessions(kind):
    found = [accepted_beside([-apart, 0.0, apart], kind) for apart in np.linspace(0.0, 0.05, 101)]
    allowed = [before for before in found if before is not None]
    assert 1 < len(allowed) < len(found)
    for before in allowed:
        paired, _ = timing([replicates(math.log(1.12))] * 2)
        decode = {line.check: line for line in paired(measured(kind, rise=math.log(1.12)), before)[0]}["decode"]
        # Sessions that lie apart may leave it undecided, and those that agree do not.
        assert decode.verdict == "FAIL" or (decode.verdict == "INCONCLUSIVE" and before is not allowed[0])
        assert decode.party == (OPTIMISED if decode.verdict == "FAIL" else "")


@pytest.mark.parametrize(("mode", "count"), [("single", 12), ("autotp", 6)])
def test_sessions_are_held_against_the_replicates_of_a_later_set(mode, count, monkeypatch):
    planned = []
    monkeypatch.setattr(policy, "half_width", lambda sets, seen, replicates: planned.append(replicates) or 0.0)
    of_ranks = measured()
    of_ranks.cell = a_cell(mode=mode)
    paired, _ = timing([replicates(rise) for rise in (0.01, 0.02, 0.03)], updating=True, count=12)
    paired(of_ranks, ACCEPTED)
    assert {*planned} == {count}


def test_a_ratio_without_its_spread_compares_with_nothing():
    before = Accepted(ACCEPTED.values, True, spreads={"paired_decode": None})
    paired, left = timing([replicates(SLOWEST)])
    [line], _ = paired(measured(rise=SLOWEST), before)
    assert (line.check, line.verdict, len(left)) == ("replicates", "NO_BASELINE", 1)


def test_nothing_fails_by_a_marked_value():
    lines = [Line("decode", "FAIL", "+40%"), Line("prefill", "PASS", "+1%"), Line("optimised", "FAIL", "1 x Block")]
    found = marked(lines, dataclasses.replace(ACCEPTED, marked="accepted although busy"))
    assert [line.verdict for line in found] == ["INCONCLUSIVE", "PASS", "FAIL"]
    assert found[0].measured == "+40% [the accepted value is marked: accepted although busy]"
    assert "marked" in found[1].measured
    assert marked(lines, ACCEPTED) == lines


def test_a_ratio_that_is_kept_keeps_its_mark():
    paired, _ = timing([], updating=True)
    lines, metrics = paired(measured(), dataclasses.replace(ACCEPTED, marked="accepted although busy"))
    assert metrics["paired_decode"] == (1.0, 0.002, "1")
    assert marks(lines) == "the accepted ratio stays: accepted although busy"


def test_accepting_without_replicates_keeps_the_ratio_that_there_is():
    paired, _ = timing([], updating=True)
    assert paired(measured(), ACCEPTED)[1]["paired_decode"] == (1.0, 0.002, "1")


def test_place_in_the_run_changes_nothing():
    found = [compared(lambda: replicates(SLOWER), a_cell(), tolerances(), ACCEPTED) for _ in range(30)]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize(("disturbed", "made", "count"), [(0, 12, 12), (6, 18, 12), (7, 7, 1)])
def test_disturbed_replicates_are_repeated_up_to_a_limit(disturbed, made, count):
    runtime = types.SimpleNamespace(announce=lambda text: None, settle=lambda: None)
    runtime.processes = types.SimpleNamespace(fresh_fork_servers=contextlib.nullcontext)
    maker, orders = Replicates.__new__(Replicates), []
    maker.runtime, maker.runtimes, maker.stacks = runtime, [runtime], []
    maker.cell, maker.table = types.SimpleNamespace(id="a"), {"replicates": 12}

    def one(candidate_first):
        orders.append(candidate_first)
        return Replicate({}, candidate_first, "steal" if len(orders) <= disturbed else "")

    maker.replicate = one
    found = maker.measure()
    assert (len(orders), len(found)) == (made, count)
    assert bool(found[-1].disturbance) == (count == 1)
    if count == 12:
        assert [seen.candidate_first for seen in found] == [True, False] * 6


@pytest.mark.parametrize(("verdict", "words"), [
    ("FAIL", "+9 %; dispatch differs: decode 1: one copy more"), ("PASS", "+9 %"),
])  # fmt: skip
def test_a_slower_line_says_what_is_dispatched_otherwise(verdict, words, monkeypatch):
    runtime = types.SimpleNamespace(candidate=lambda cell: "loaded")
    traces = types.SimpleNamespace(find=lambda cell: ({"steps": {}}, True))
    monkeypatch.setattr(policy, "difference_from", lambda *_: "decode 1: one copy more")
    lines = [Line("decode", verdict, "+9 %"), Line("measured", "PASS", "1 s")]
    cell = types.SimpleNamespace(platform=types.SimpleNamespace(device_type="cpu"), engine=IPEX)
    found = policy.with_cause(lines, runtime, traces, cell, 4)
    assert [line.measured for line in found] == [words, "1 s"]


@pytest.mark.parametrize(("mode", "count"), [("single", 12), ("autotp", 6)])
def test_ranks_of_a_host_get_fewer_replicates_for_their_wider_margin(mode, count):
    assert table_of(a_cell(mode=mode))["replicates"] == count


def test_ranks_of_a_host_have_a_rule_of_their_own_and_those_of_accelerators_have_not():
    for name in ("prefill", "decode"):
        assert (
            rule_of(tolerances(), a_cell(mode="autotp"), name)["margin"]
            == tolerances()["replicates"]["host"]["group"]["margin"]
        )
        assert (
            rule_of(tolerances(), a_cell(), name)["margin"]
            < rule_of(tolerances(), a_cell(mode="autotp"), name)["margin"]
        )
        assert rule_of(tolerances(), a_cell("cuda", "autotp"), name) == rule_of(tolerances(), a_cell("cuda"), name)
