"""The counting of the gate by itself: what became of claimed cells, and what a run is then worth."""

import pytest

from fixtures.checks.verdicts import VERDICTS
from fixtures.contract.suites import questions
from fixtures.contract.tally import Gate, by_suite, statuses
from fixtures.matrix import load_matrix

CELLS = load_matrix().cells(["cpu"])[:3]
ONE, TWO, THREE = (questions()["generation"].nodeid(cell) for cell in CELLS)
CONTRACT = {questions()["generation"].nodeid(cell): (questions()["generation"], cell) for cell in CELLS}
FILE = "suites/test_generation.py"


def count(verdicts, collected=(ONE, TWO, THREE), deselected=(), failed=(), narrowed=None, **options):
    """The Gate of {node id: verdict} of the tests that ended."""
    reasons = {nodeid: f"why {verdict}" for nodeid, verdict in verdicts.items()}
    found = statuses(CONTRACT, verdicts, reasons, set(collected), set(deselected), list(failed), narrowed or {})
    return Gate(tuple(found), **options)


def test_answered_cells_qualify():
    gate = count({ONE: "PASS", TWO: "WAIVED", THREE: "UNSUPPORTED"})
    assert gate.line() == "QUALIFIED: 3 of 3 claimed cells: 1 PASS, 1 waived, 1 unsupported"
    assert list(gate.text()) == ["WAIVED 1: why WAIVED", "UNSUPPORTED 1: why UNSUPPORTED"]


@pytest.mark.parametrize(
    "verdict", [*sorted(VERDICTS.keys() - {"PASS", "WAIVED", "UNSUPPORTED"}), "INTERMITTENT", "unheard-of"]
)
@pytest.mark.parametrize("allow_partial", [False, True])
def test_any_other_verdict_does_not(verdict, allow_partial):
    gate = count({ONE: "PASS", TWO: verdict, THREE: "PASS"}, allow_partial=allow_partial)
    assert gate.line() == f"NOT QUALIFIED: 2 of 3 claimed cells; 1 {verdict}"
    assert f"{TWO}  {verdict}: why {verdict}" in list(gate.text())


# What keeps the third cell from an answer: how it shows, its cause, and whether a partial run may leave it be.
GONE = {
    "never ran": (dict(), "NEVER RAN", False),
    "deselected": (dict(collected=(ONE, TWO), deselected=(THREE,)), "DESELECTED", True),
    "not selected": (dict(collected=(ONE, TWO)), "NOT SELECTED", True),
    "file with an error": (dict(collected=(ONE, TWO), failed=(FILE,)), "NOT COLLECTED", False),
    "folder with an error": (dict(collected=(ONE, TWO), failed=("suites",)), "NOT COLLECTED", False),
    "error of another file": (dict(collected=(ONE, TWO), failed=("suites/test_gen",)), "NOT SELECTED", True),
}


@pytest.mark.parametrize("way", GONE)
def test_a_cell_that_is_missing_fails_whatever_was_collected(way):
    seen, cause, excusable = GONE[way]
    gate = count({ONE: "PASS", TWO: "PASS"}, **seen)
    assert gate.line() == f"NOT QUALIFIED: 2 of 3 claimed cells; 1 {cause}"
    assert [status.nodeid for status in gate.faults] == [THREE]
    partial = count({ONE: "PASS", TWO: "PASS"}, **seen, allow_partial=True)
    assert partial.outcome == ("NOT A QUALIFICATION" if excusable else "NOT QUALIFIED")
    assert not excusable or partial.line() == "NOT A QUALIFICATION (partial: 2 of 3 cells)"


def test_a_cell_asked_less_has_no_answer_but_its_failure_counts():
    less = {ONE: "by --limit", TWO: "by --limit"}
    gate = count({ONE: "PASS", TWO: "FAIL", THREE: "PASS"}, narrowed=less)
    assert {status.cause for status in gate.faults} == {"NARROWED", "FAIL"}
    partial = count({ONE: "PASS", TWO: "FAIL", THREE: "PASS"}, narrowed=less, allow_partial=True)
    assert partial.line() == "NOT QUALIFIED: 1 of 3 claimed cells; 1 FAIL (partial: 2 of 3 cells)"


def test_a_verdict_of_a_test_that_is_not_of_the_contract_stands_for_nothing():
    elsewhere = ONE.replace("suites/", "copies/")
    gate = count({elsewhere: "PASS", TWO: "PASS", THREE: "PASS"}, collected=(elsewhere, TWO, THREE))
    assert gate.line() == "NOT QUALIFIED: 2 of 3 claimed cells; 1 NOT SELECTED"


def test_nothing_measured_qualifies_nothing():
    assert count(dict.fromkeys(CONTRACT, "UNSUPPORTED")).line().endswith("3 of 3 claimed cells; nothing passed")
    assert Gate(()).line() == "NOT QUALIFIED: 0 of 0 claimed cells; nothing passed"


def test_a_run_that_failed_beside_the_contract_is_no_qualification():
    gate = count(dict.fromkeys(CONTRACT, "PASS"), failed_elsewhere=True)
    assert gate.line(" of /a/matrix") == "NOT QUALIFIED: 3 of 3 claimed cells of /a/matrix; the run failed beside them"


def test_every_cause_comes_with_its_number_and_its_hint_once():
    lines = list(count({}).text())
    assert lines == [
        *(f"{nodeid}  NEVER RAN: it ended without a verdict, or the run stopped before it" for nodeid in CONTRACT),
        "NEVER RAN: run again to the end, without -x, --maxfail, Ctrl-C or options that skip",
    ]


def test_many_cells_of_one_cause_are_counted():
    contract = {f"suites/test_x.py::test_x[{number}]": None for number in range(30)}
    failed = dict.fromkeys(list(contract)[:12], "FAIL")
    found = statuses(contract, failed, {}, set(failed), set(contract) - set(failed), [], {})
    lines = list(Gate(tuple(found)).text())
    assert lines[:12] == [f"{nodeid}  FAIL: " for nodeid in failed], "a cell that failed is always named"
    assert lines[12] == "DESELECTED 18: by -m, -k, --deselect or --lf"
    assert lines[13].startswith("DESELECTED: leave out -m")


def test_what_would_be_asked_is_reported_by_suite():
    assert list(by_suite(CONTRACT, [ONE, THREE, "another"]))[:1] == [
        "generation     3, of which this run would select 2"
    ]
    assert list(by_suite(CONTRACT, CONTRACT))[-1] == "a qualification consists of 3 claimed cells"
