"""Runs whose journal cannot be written: one sentence, and nothing after it."""

import pytest

from fixtures.ledger import Journal, LedgerError
from suites.meta.inner import latency, nodes, run_suite

CELLS = ["opt-6.7b-fp32-cpu-single", "opt-6.7b-bf16-cpu-single"]


def test_a_journal_that_refuses_a_record_ends_the_run_in_one_sentence(tmp_path):
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    run = run_suite(tmp_path, *nodes("latency", CELLS), "--benchmark-disable")
    assert run.status == 1
    assert run.verdict(latency(CELLS[0])) == "FAIL"
    assert "journal.jsonl: cannot be written (No space left on device); name a folder" in run.line(
        latency(CELLS[0]), "recorded"
    )
    assert "the journal does not say that the run came to its end" in run.output
    assert "expected 2 = 1 run (1 FAIL) + 0 waived + 0 unsupported + 0 not compared; 1 NEVER RAN" in run.output
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output


def test_an_opening_record_that_was_refused_goes_before_the_next_record():
    with Journal("/dev/full") as journal:
        journal.opening = {"kind": "run", "run": "a"}
        with pytest.raises(LedgerError, match="No space left"):
            journal.append({"kind": "test"})
        assert journal.opening == {"kind": "run", "run": "a"}
