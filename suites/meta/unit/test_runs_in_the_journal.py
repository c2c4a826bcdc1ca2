"""Runs in a journal: which tests are finished, what differs, and who may write; no model, no inner run."""

import json
import subprocess
import sys
import time

import pytest

from fixtures.checks.verdicts import CellVerdict, Line
from fixtures.plugin.outcome import as_record
from fixtures.plugin.resume import check_replays
from fixtures.plugin.retry import Attempts
from fixtures.results import Journal, ResultsError
from fixtures.results.runs import IDENTITY, differences, read_chain
from fixtures.worker.environment import ROOT

NOW = {
    "machine": "epyc-1",
    "numerics": {"cpu": "amx"},
    "drivers": {"b580": "1.6.33276"},
    "python": "3.11.9",
    "versions": {"torch": "2.8.0"},
    "against": {},
    "commit": "aaa",
    "sources": "1",
    "matrix": "2",
    "accepted": "3",
    "options": {"--threads": "2"},
}


def line(verdict):
    return {"check": "runs", "verdict": verdict, "measured": "m", "allowed": "a", "margin": ""}


def opening(run, resumes=None, **more):
    head = {"kind": "run", "run": run, "resumes": resumes, "started": "2026-01-01T00:00:00+00:00", "differs": []}
    return {**head, **NOW, **more}


def finished(run, nodeid, verdict="PASS", attempt=1, final=True):
    more = {"waivers": [], "lines": [line(verdict)]}
    return dict(kind="test", run=run, nodeid=nodeid, verdict=verdict, attempt=attempt, final=final, **more)


@pytest.fixture
def written(tmp_path):
    """A function that writes records into a journal and gives its path."""

    def write(*records):
        with Journal(tmp_path / "journal.jsonl") as journal:
            for record in records:
                journal.append(record)
        return tmp_path / "journal.jsonl"

    return write


# -- which tests are finished ----


def test_a_chain_is_the_last_run_and_those_it_goes_on_with(written):
    path = written(
        opening("old"), finished("old", "t1", "FAIL"), finished("old", "t9"),
        opening("a", differs=["torch 1 instead of 2"]), finished("a", "t1"),
        opening("b", "a"), finished("b", "t2", "NO_BASELINE"),
    )  # fmt: skip
    chain = read_chain(path)
    verdicts = {nodeid: record["verdict"] for nodeid, record in chain.finished.items()}
    assert verdicts == {"t1": "PASS", "t2": "NO_BASELINE"}, "a run that was begun anew takes nothing from others"
    assert chain.run["run"] == "b"
    assert chain.differs == ["torch 1 instead of 2"]


def test_a_test_is_finished_after_its_last_attempt_and_not_where_it_was_never_asked(written):
    crashed = dict(verdict="CRASHED", final=False)
    path = written(
        opening("a"),
        finished("a", "twice", **crashed), finished("a", "twice", "INTERMITTENT", attempt=2),
        finished("a", "once", **crashed),
        finished("a", "never selected", attempt=0, **crashed),
    )  # fmt: skip
    chain = read_chain(path)
    assert {*chain.finished} == {"twice"}
    assert {*chain.first} - {*chain.finished} == {"once"}


def test_the_test_of_a_torn_line_is_not_finished(written):
    path = written(opening("a"), finished("a", "t1"), finished("a", "t2"))
    path.write_bytes(path.read_bytes()[:-20])
    with Journal(path):
        assert {*read_chain(path).finished} == {"t1"}


def test_a_journal_without_a_run_cannot_be_resumed(written):
    path = written()
    assert read_chain(path) is None
    path.write_text('{"schema": 1, "suite": "generation", "cell": "c", "verdict": "PASS"}\n')
    assert read_chain(path) is None


@pytest.mark.parametrize("change", [
    {"verdict": "PASSED"}, {"verdict": ["PASS"]},
    {"verdict": "FAIL"}, {"lines": []}, {"lines": [{"check": "runs"}]}, {"final": "yes"},
    {"lines": [line("PASS") | {"party": "somebody"}]},
    {"waivers": None}, {"attempt": None}, {"nodeid": 1},
])  # fmt: skip
def test_a_record_that_does_not_say_how_its_test_ended_is_one_sentence(written, change):
    path = written(opening("a"), finished("a", "t1") | change)
    with pytest.raises(ResultsError, match=r"journal.jsonl: the record of .* does not say how .*; remove its line"):
        read_chain(path)


@pytest.mark.parametrize("more", [{}, {"exception": True}])
def test_lines_can_be_read_as_they_are_written(written, more):
    """A field that a Line gains must not make every journal one that cannot be read."""
    lines = [as_record(Line("runs", "FAIL", "m", "a", "+1%", 1.0)) | more]
    record = finished("a", "t1", "FAIL") | {"lines": lines}
    assert read_chain(written(opening("a"), record)).finished["t1"]["lines"] == lines


@pytest.mark.parametrize("change", [{"started": None}, {"started": "soon"}, {"resumes": ["a"]}, {"differs": [1]}])
def test_an_opening_record_that_opens_nothing_is_one_sentence(written, change):
    path = written(opening("a", **change), finished("a", "t1"))
    with pytest.raises(ResultsError, match=r"the opening record of run 'a' does not say when it began, .*; begin anew"):
        read_chain(path)


def test_a_run_that_says_it_resumes_itself_is_a_run(written):
    assert {*read_chain(written(opening("a", "a"), finished("a", "t1"))).finished} == {"t1"}


@pytest.mark.parametrize("change", [
    {"staged": [{"platform": "cpu"}]},
    {"staged": [dict(suite="latency", platform="../..", key="k", name="c", values={"x": [1.0, None, "s"]}, n=1)]},
    {"staged": [dict(platform="cpu", key="..", name="c", scores={"task": "t"})]},
    {"staged": [dict(platform="cpu", key="k", name="c", scores={"task": "t"})]},
    {"script_lines": [[1]]}, {"code": "none"}, {"metrics": None}, {"metrics": {"x": [1.0]}},
])  # fmt: skip
def test_values_that_could_not_be_accepted_are_not_taken(tmp_path, change):
    check_replays({"t1": finished("a", "t1")}, tmp_path / "journal.jsonl", tmp_path)
    with pytest.raises(ResultsError, match=r"journal.jsonl: the record of 't1' holds values that cannot .*; remove"):
        check_replays({"t1": finished("a", "t1") | change}, tmp_path / "journal.jsonl", tmp_path)


# -- what differs ----


@pytest.mark.parametrize(("key", "value", "words"), [
    ("machine", "epyc-2", "machine epyc-2 instead of epyc-1"),
    ("numerics", {"cpu": "avx2"}, "arithmetic of cpu avx2 instead of amx"),
    ("drivers", {"b580": "1.7"}, "driver of b580 1.7 instead of 1.6.33276"),
    ("against", {"torch": "2.7.0"}, "the other stack's torch 2.7.0 instead of none"),
    ("python", "3.11.1", "Python 3.11.1 instead of 3.11.9"),
    ("versions", {"torch": "2.7.0"}, "torch 2.7.0 instead of 2.8.0"),
    ("commit", "bbb", "commit bbb instead of aaa"),
    ("sources", "0", "other sources of the suite"),
    ("matrix", "0", "other matrix data"),
    ("accepted", "0", "other waivers or accepted values"),
    ("options", {}, "no --threads, which is 2 now"),
    ("options", {"--threads": "2", "--weights": "synthetic"}, "--weights synthetic, which is not given now"),
    ("options", {"--threads": "2", "--benchmark-compare": "True"}, "--benchmark-compare, which is not given now"),
    ("options", {"--threads": "4"}, "--threads 4 instead of 2"),
])  # fmt: skip
def test_whatever_a_verdict_depends_on_is_named(key, value, words):
    assert ", ".join(differences({**NOW, key: value}, NOW)) == words


def test_nothing_differs_from_itself():
    assert {*NOW} == {*IDENTITY}
    assert differences(json.loads(json.dumps(NOW)), NOW) == []


# -- who may write ----


def test_a_second_writer_is_refused_and_changes_nothing(written, tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(opening("a"))
        torn = path.read_bytes() + b'{"schema"'
        path.write_bytes(torn)
        with pytest.raises(ResultsError, match=r"journal.jsonl: is being written by another run; wait .* --results"):
            Journal(path)
        assert path.read_bytes() == torn
    Journal(path).close()


def test_an_opening_goes_before_the_first_record_and_nowhere_without_one(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.opening = opening("a")
    assert path.read_bytes() == b""
    with Journal(path) as journal:
        journal.opening = opening("a")
        journal.append(finished("a", "t1"))
        journal.append(finished("a", "t2"))
    assert [json.loads(row)["kind"] for row in path.read_text().splitlines()] == ["run", "test", "test"]


def test_an_opening_that_the_disk_refused_is_written_with_the_next_record(tmp_path, monkeypatch):
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.opening = opening("a")
        with monkeypatch.context() as patch:
            patch.setattr("os.write", refused)
            with pytest.raises(ResultsError, match="No space left"):
                journal.append(finished("a", "t1"))
        journal.append(finished("a", "t2"))
    assert {*read_chain(tmp_path / "journal.jsonl").finished} == {"t2"}


def refused(descriptor, data):
    raise OSError(28, "No space left on device")


def test_a_journal_that_was_removed_takes_nothing_more(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        (tmp_path / "journal.jsonl").unlink()
        with pytest.raises(ResultsError, match=r"journal.jsonl: was removed while this run wrote to it; leave it"):
            journal.append(opening("a"))


SLOW_WRITER = """
import os, sys, time
from fixtures.results import Journal
write = os.write
def slow(descriptor, data):
    time.sleep(0.2)
    return write(descriptor, bytes(data[:20]))
with Journal(sys.argv[1], shared=True) as journal:
    print("open", flush=True)
    sys.stdin.readline()
    os.write = slow
    journal.append({"kind": "test", "nodeid": "slow", "text": "x" * 60})
"""


def test_a_line_that_another_process_writes_is_no_torn_one(tmp_path):
    """Processes of one parallel run share a journal; whoever opens it cuts off what an interrupted run left."""
    path = tmp_path / "journal.jsonl"
    command = [sys.executable, "-c", SLOW_WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as other:
        assert other.stdout.readline() == "open\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        while not path.stat().st_size and other.poll() is None:
            time.sleep(0.01)
        with Journal(path, shared=True) as journal:
            journal.append({"kind": "test", "nodeid": "quick"})
    assert [json.loads(row)["nodeid"] for row in path.read_text().splitlines()] == ["slow", "quick"]


# -- attempts ----


def settled(*verdicts):
    return CellVerdict(verdicts[0], tuple(Line("runs", verdict, "m", "a") for verdict in verdicts))


@pytest.mark.parametrize(("first", "then", "verdict"), [
    ("CRASHED", "CRASHED", "CRASHED"),
    ("HANG", "HANG", "HANG"),
    ("CRASHED", "HANG", "INTERMITTENT"),
    ("CRASHED", "PASS", "INTERMITTENT"),
    ("HANG", "WAIVED", "INTERMITTENT"),
])  # fmt: skip
def test_two_attempts_agree_or_are_intermittent(first, then, verdict):
    attempts = Attempts()
    assert attempts.wanted("t", settled(first))
    attempts.follows("t", settled(first))
    both = attempts.compared("t", settled(then))
    assert both.verdict == verdict
    assert both.failed
    assert any(first in line.measured and then in line.measured for line in both.lines if line.check == "attempts")
    assert not attempts.wanted("t", both), "two are enough"


@pytest.mark.parametrize("verdicts", [["PASS"], ["FAIL"], ["OOM"], ["NOT_OPTIMISED", "FAIL"], ["UNSUPPORTED"]])
def test_other_ends_are_not_asked_again(verdicts):
    assert not Attempts().wanted("t", settled(*verdicts))


def test_a_hang_beside_another_failure_is_asked_again():
    assert Attempts().wanted("t", settled("OOM", "HANG"))
