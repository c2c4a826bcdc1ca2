"""Runs that are reported to end, and runs whose journal cannot be written: one sentence, and nothing after it."""

import os
import signal

import pytest

from fixtures.plugin.signals import Ended, Signals
from fixtures.results import Journal, ResultsError
from suites.meta.harness.inner import latency, nodes, run_suite

CELLS = ["opt-6.7b-fp32-cpu-single", "opt-30b-fp32-cpu-single"]


@pytest.fixture
def signals():
    """Signals that are watched; as before afterwards."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    signals = Signals()
    yield signals
    signals.leave()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_ends_by_a_signal_once(signals, number, status):
    signals.watch()
    with pytest.raises(Ended, match=number.name):
        os.kill(os.getpid(), number)
    assert signals.status == status
    assert signal.getsignal(number) is signal.SIG_DFL, "a second one ends the process"


def test_what_nohup_ignores_stays_ignored(signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signals.watch()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signals.status is None


def test_a_journal_that_refuses_a_record_ends_the_run_in_one_sentence(tmp_path):
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    run = run_suite(tmp_path, *nodes("latency", CELLS), "--benchmark-disable")
    assert run.status == 1
    assert run.verdict(latency(CELLS[0])) == "FAIL"
    assert "journal.jsonl: cannot be written (No space left on device); name a folder" in run.line(
        latency(CELLS[0]), "journal"
    )
    assert "expected 2 = 1 run (1 FAIL) + 0 waived + 0 unsupported + 0 not compared; 1 NEVER RAN" in run.output
    assert "Traceback" not in run.output
    assert "INTERNALERROR" not in run.output


def test_an_opening_record_that_was_refused_goes_before_the_next_record():
    with Journal("/dev/full") as journal:
        journal.opening = {"kind": "run", "run": "a"}
        with pytest.raises(ResultsError, match="No space left"):
            journal.append({"kind": "test"})
        assert journal.opening == {"kind": "run", "run": "a"}
