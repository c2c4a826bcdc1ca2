"""Whose fault a failure is stands in the terminal, in JUnit and in the journal."""

import json

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import generation

NAME = generation("opt-6.7b-fp32-cpu-single")


def test_an_exception_of_the_suite_is_a_verdict_and_the_suites(tmp_path):
    """It was a traceback, and a cell that never ran."""
    run = fork_suite(tmp_path, "-p", "suites.meta.harness.broken_suite", f"suites/test_generation.py::{NAME}")
    assert (run.status, run.verdict(NAME), run.property(NAME, "party")) == (1, "FAIL", "suite")
    line = run.line(NAME, "usable")
    assert "this suite raised ValueError: all input arrays must have the same shape (suites/meta/harness/broken" in line
    assert line.endswith("at fault: suite")
    assert f"FAIL suites/test_generation.py::{NAME} (suite): usable: this suite raised" in run.output
    assert "at fault: suite 1\n" in run.output
    assert "NEVER RAN" not in run.output
    [record] = [r for r in map(json.loads, (tmp_path / "journal.jsonl").open()) if r["kind"] == "test"]
    assert (record["party"], record["lines"][0]["party"]) == ("suite", "suite")


def test_a_resumed_run_says_it_again(tmp_path):
    words = ["-p", "suites.meta.harness.broken_suite", f"suites/test_generation.py::{NAME}"]
    fork_suite(tmp_path, *words)
    run = fork_suite(tmp_path, *words, "--resume")
    assert (run.property(NAME, "party"), "from_journal" in run.tests[NAME][3]) == ("suite", True)
    assert "at fault: suite 1\n" in run.output
