"""The table of the contract says what the suites ask, and knows the names of all checks."""

import ast

import pytest

from fixtures.contract.suites import PATH, applicable, checks_of, contract, questions
from fixtures.matrix import load_matrix
from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import ROOT, run_suite


def test_the_table_asks_what_the_suites_ask(tmp_path):
    run = run_suite(tmp_path, "--platform=all", "--gate", "--collect-only", "-q")
    collected = {line for line in run.output.splitlines() if "::test_" in line and "[NOTSET]" not in line}
    cells = load_matrix().all_cells()
    expected = contract(cells, lambda cell: cell.model.weights == "packaged")
    assert collected == set(expected)
    assert len(collected) > 1000


def test_every_suite_that_keeps_records_is_a_question():
    assert [name for name, question in questions().items() if not question.gate] == ["parity", "against", "move"]
    for question in questions().values():
        assert f"def test_{question.suite}(cell, verdict" in (ROOT / question.file).read_text()


def test_all_that_may_be_asked_is_more_than_the_contract():
    cells = load_matrix().cells(["cpu"])
    selected = {(q.suite, cell.id) for q, cell in contract(cells, lambda _: False).values()}
    assert selected < set(applicable(cells))
    assert ("accuracy", "opt-30b-fp32-cpu-single") in set(applicable(cells)) - selected


def names_in_checks():
    """Names of checks that stand as plain texts in fixtures.checks: first arguments of lines, and `check=`."""
    for path in (ROOT / "fixtures/checks").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                maker = getattr(node.func, "id", getattr(node.func, "attr", ""))
                given = [word.value for word in node.keywords if word.arg == "check"]
                given += node.args[:1] if maker in ("Line", "bounded", "same", "same_tables", "line") else []
                given += node.args[1:2] if maker == "_named" else []
                yield from (one.value for one in given if isinstance(one, ast.Constant) and isinstance(one.value, str))


def test_the_names_of_checks_are_those_of_the_code():
    """A name that the table lacks could not be waived."""
    written = set(names_in_checks())
    assert len(written) > 50, "the sources no longer read as they did: this test sees too little"
    own = {"attempts"}  # of a test that ran twice
    assert written - own - {name for names in checks_of().values() for name in names} == set()


# What is wrong in the table, and what the one sentence that ends the run says of it.
SPOILT = {
    "no such file": ('"suites/test_latency.py"', '"suites/test_latncy.py"', ["[latency] has file", "no such file"]),
    "another file": ('"suites/test_latency.py"', '"suites/test_dispatch.py"', ["[latency]", "suites/test_latency.py"]),
    "no table": ("[latency]", "[latency_of]", ["test_latency has no table", "add [latency]"]),
    "other cells": (
        '[latency]\nfile = "suites/test_latency.py"\ncells = { mode = ["single", "autotp"] }',
        '[latency]\nfile = "suites/test_latency.py"\ncells = { precision = "int4" }',
        ['[latency] has cells = { precision = "int4" }', 'says { mode = ["single", "autotp"] }', "make them equal"],
    ),
    "unknown trait": ("mode =", "mod =", ["[generation] has the unknown trait in cells 'mod'", "did you mean 'mode'"]),
    "unknown key": ("narrowed_by", "narrowed", ["[accuracy] has the unknown key 'narrowed'"]),
    "malformed": ("[latency]", "[latency", ["malformed TOML"]),
}


def spoilt(folder, old, new):
    """The options of a run whose contract.toml has `new` where it had `old`."""
    text = PATH.read_text()
    assert old in text, f"{old!r} no longer stands in contract.toml: this test would spoil nothing"
    (folder / "contract.toml").write_text(text.replace(old, new, 1))
    return ["-p", "suites.meta.harness.other_contract", "--contract", str(folder / "contract.toml")]


@pytest.mark.parametrize("case", SPOILT)
def test_a_table_that_is_not_its_suites_is_one_sentence(tmp_path, case):
    old, new, words = SPOILT[case]
    run = fork_suite(tmp_path, *spoilt(tmp_path, old, new), "suites/test_latency.py", "--collect-only", "-q")
    errors = [line for line in run.output.splitlines() if "ERROR" in line]
    assert (run.status, len(errors)) == (4, 1), run.output
    for word in ("contract.toml", *words):
        assert word in errors[0]


def test_a_check_that_the_table_does_not_name_fails_its_cell(tmp_path):
    name = "test_latency[opt-6.7b-fp32-cpu-single]"
    cell = [f"suites/test_latency.py::{name}", "--benchmark-disable"]
    assert fork_suite(tmp_path, *cell).verdict(name) == "INCONCLUSIVE"
    run = fork_suite(tmp_path, *spoilt(tmp_path, '"measured", ', '"mesured", '), *cell)
    assert run.verdict(name) == "FAIL"
    assert "has a line of the check 'measured', which [latency]" in run.line(name, "usable")
    assert "did you mean 'mesured'" in run.line(name, "usable")
