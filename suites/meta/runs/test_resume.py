"""Runs that go on with a killed one: what they take from the journal, what they refuse, and that nothing differs."""

import json
import shutil

import pytest

from fixtures.results import Journal
from suites.meta.chaos.resume import Chain, undisturbed
from suites.meta.harness.inner import doctored, latency, nodes, run_suite

pytestmark = pytest.mark.nightly

# -- killed and resumed, for real ----

SHORT = nodes("generation", ["opt-6.7b-fp32-cpu-single", "opt-30b-fp32-cpu-single"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """(what a run that is left alone gives, its seconds, the journal's share of them)."""
    return undisturbed(tmp_path_factory.mktemp("alone") / "run", SHORT)


def test_a_run_killed_early_and_late_comes_out_as_one_that_was_not(alone, tmp_path):
    """The proof of suites.meta.chaos.resume in short."""
    chain = Chain(tmp_path / "run", SHORT)
    for moment in (dict(seconds=2), dict(records=1)):
        chain.start()
        assert chain.kill_after(**moment)
        assert not chain.left_running()
    assert chain.tests() == 1
    chain.start()
    assert chain.problems(alone[0]) == []
    assert "1 of 2 tests are from" in chain.outcome().output


def test_the_journal_takes_less_than_a_hundredth_of_a_run(alone):
    _, seconds, share = alone
    assert seconds > 1
    assert 0 < share < 0.01


# -- what is taken from a journal; nothing is timed here, so that no model is loaded ----

UNTIMED, FAILED = CELLS = ["opt-6.7b-fp32-cpu-single", "opt-30b-fp32-cpu-single"]
ASKED = [*nodes("latency", CELLS), "--benchmark-disable"]
NO_WORKERS = ["-p", "suites.meta.harness.no_workers"]


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """(the run that --resume found nothing for, its folder)."""
    folder = tmp_path_factory.mktemp("first")
    return run_suite(folder, *ASKED, "--resume"), folder


@pytest.fixture
def folder(first, tmp_path):
    """A copy of its journal, in which one cell has failed."""

    def fail(record):
        if record.get("cell") == FAILED:
            record["verdict"] = record["lines"][0]["verdict"] = "FAIL"

    shutil.copy(first[1] / "journal.jsonl", tmp_path)
    doctored(tmp_path, fail)
    return tmp_path


def unfinished(folder):
    """A file of work that a killed run left beside its journal."""
    (folder / "unfinished").mkdir()
    path = folder / "unfinished" / "work.jsonl"
    path.touch()
    return path


def test_without_a_run_to_resume_everything_runs_and_is_reported(first):
    run, _ = first
    assert run.status == 0
    reported = "holds no run that can be resumed; this one starts from nothing"
    assert run.output.index(reported) < run.output.index(latency(UNTIMED)), "before anything runs"
    assert "2 not compared (2 INCONCLUSIVE)" in run.output


def test_replayed_verdicts_count_and_start_no_worker(folder):
    before = (folder / "journal.jsonl").read_text()
    work = unfinished(folder)
    run = run_suite(folder, *ASKED, *NO_WORKERS, "--resume")
    assert run.status == 1, run.output
    assert not work.exists(), "its test is finished now"
    assert "expected 2 = 1 run (1 FAIL) + 0 waived + 0 unsupported + 1 not compared (1 INCONCLUSIVE)" in run.output
    assert run.tests[latency(FAILED)][:2] == ("FAIL", "failure")
    assert run.tests[latency(UNTIMED)][:2] == ("INCONCLUSIVE", "skipped")
    assert "finished" in run.property(latency(UNTIMED), "from_journal")
    assert f"pytest 'suites/test_latency.py::{latency(FAILED)}'" in run.property(latency(FAILED), "reproduce")
    assert "which came to its end: without --resume they would be run anew" in run.output
    assert f"{latency(FAILED)} FAIL (journal)" in run.output
    after = (folder / "journal.jsonl").read_text()
    assert after.startswith(before), "a journal is only ever added to"
    assert [json.loads(row)["kind"] for row in after.removeprefix(before).splitlines()] == ["run", "end"]


def test_a_run_that_ends_early_counts_what_the_journal_holds(folder):
    def fail(record):
        if record.get("cell") == UNTIMED:
            record["verdict"] = record["lines"][0]["verdict"] = "FAIL"

    doctored(folder, fail)
    run = run_suite(folder, *ASKED, *NO_WORKERS, "--resume", "--exitfirst")
    assert len(run.tests) == 1
    assert "expected 2 = 2 run (2 FAIL) + 0 waived + 0 unsupported + 0 not compared" in run.output.splitlines()


def test_a_test_that_is_not_expected_any_more_is_not_replayed(folder):
    work = unfinished(folder)
    run = run_suite(folder, *nodes("latency", [UNTIMED]), "--benchmark-disable", *NO_WORKERS, "--resume")
    assert run.status == 0
    assert work.exists(), "it may be of a test that a later run expects"
    assert {*run.tests} == {latency(UNTIMED)}


def another_stack(record):
    if record["kind"] == "run":
        record["versions"]["torch"], record["commit"] = "2.7.0", "0123456789ab"


def test_what_changed_is_named_and_refused(folder):
    doctored(folder, another_stack)
    run = run_suite(folder, *ASKED, "--threads=2", "--resume")
    assert run.status == 4
    [line] = [line for line in run.output.splitlines() if "--resume:" in line]
    for words in (
        "torch 2.7.0 instead of 2.8.0",
        "commit 0123456789ab instead",
        "no --threads, which is 2 now",
        "anyway",
    ):
        assert words in line


def test_resumed_all_the_same_it_says_what_differed(folder):
    doctored(folder, another_stack)
    run = run_suite(folder, *ASKED, *NO_WORKERS, "--resume=anyway")
    assert run.status == 1
    assert "torch 2.7.0 instead of 2.8.0" in run.property(latency(UNTIMED), "from_journal")
    assert "resumed all the same, with torch 2.7.0 instead of 2.8.0" in run.output
    # That still holds for a run that resumes this one, whose own stack is the same.
    again = run_suite(folder, *ASKED, *NO_WORKERS, "--resume")
    assert "torch 2.7.0 instead of 2.8.0" in again.output


def test_what_was_waived_until_yesterday_runs_again(folder):
    def waive(record):
        if record.get("cell") == UNTIMED:
            record["verdict"] = record["lines"][0]["verdict"] = "WAIVED"
            record["waivers"] = ["ran-out"]

    doctored(folder, waive)
    run = run_suite(folder, *ASKED, "--resume")
    assert "1 of 2 tests are from" in run.output
    assert run.verdict(latency(UNTIMED)) == "INCONCLUSIVE"
    assert run.property(latency(UNTIMED), "from_journal") is None


@pytest.mark.parametrize(("options", "environment", "words"), [
    (["--resume", "--lf"], {}, "--lf runs again what failed, and --resume takes it from the journal"),
    (["--resume"], {"PYTEST_XDIST_WORKER": "gw0"}, "leave out xdist's -n"),
    (["--resume=anyway", "--gate"], {}, "--resume=anyway takes verdicts of others"),
])  # fmt: skip
def test_options_that_would_mislead_are_refused(folder, options, environment, words):
    run = run_suite(folder, *ASKED, *options, environment=environment)
    assert run.status == 4
    assert words in run.output


def test_two_runs_in_one_folder_do_not_mix(folder):
    before = (folder / "journal.jsonl").read_text()
    with Journal(folder / "journal.jsonl"):
        run = run_suite(folder, *ASKED, *NO_WORKERS)
    assert run.status == 4
    assert "is being written by another run; wait until that is over" in run.output
    assert (folder / "journal.jsonl").read_text() == before


def test_a_path_that_resume_swallows_is_one_sentence(tmp_path):
    run = run_suite(tmp_path, "--resume", "suites/test_latency.py")
    assert run.status == 4
    assert "'suites/test_latency.py' is no way to resume; write --resume as the last argument" in run.output
