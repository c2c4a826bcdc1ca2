"""Whole runs under the gate on a matrix of three rows: waivers that run out, and what fails a qualification."""

import datetime
import shutil

import pytest

from fixtures.contract.suites import checks_of
from fixtures.results import Baselines, Value, machine_fingerprint, numerics_key, read_journal
from suites.meta.harness.inner import ROOT, dispatch, doctored, generation, latency, nodes, plant, run_suite

pytestmark = pytest.mark.nightly

SOUND, BROKEN, UNSUPPORTED = (f"{model}-fp32-cpu-single" for model in ("opt-6.7b", "opt-30b", "qwen3-4b"))
CLAIMS = """
schema = 1
[table]
source = "three rows for the gate's own tests"
members = "none"
[[columns]]
key = "fp16"
title = "FP16"
precision = "fp16"
[[claims]]
id = "host"
source = "the gate's own tests"
own = true
models = ["opt-6.7b", "opt-30b", "qwen3-4b"]
precisions = ["fp32"]
platforms = ["cpu"]
modes = ["single"]
"""
WAIVER = """
[[waivers]]
id = "{id}"
suite = "{suite}"
cells = "{cells}"
check = "{check}"
at_most = 28
reason = "planted"
evidence = "suites/meta"
owner = "{id}-owner"
until = {until}
{more}
"""
# Far above what is measured, so that nothing is slower or less close than these.
ACCEPTED = {
    "generation": ({"noise_ratio": Value(3.0, 0.01, "stock errors")}, ""),
    "latency": ({"fastest": Value(60.0, 1.0, "s"), "ratio_to_stock": Value(9.0, None, "1")}, "@b4-bs1-in32-out12"),
}
TODAY = datetime.date.today()
# Sampling of IPEX's host build goes on after the end of text (baselines/waivers.toml).
SAMPLING = dict(suite="generate", cells=SOUND, check="sampled_eos", until=TODAY + datetime.timedelta(days=90))


@pytest.fixture(scope="module")
def matrix(tmp_path_factory):
    """The option for three claimed rows, the last in need of a stack that is not there: twelve claimed cells."""
    folder = tmp_path_factory.mktemp("three") / "matrix"
    shutil.copytree(ROOT / "fixtures/matrix", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "claims.toml").write_text(CLAIMS)
    text, row = (folder / "models.toml").read_text(), '"Qwen3ForCausalLM"\nmin_transformers = '
    assert row in text
    (folder / "models.toml").write_text(text.replace(f'{row}"4.51.0"', f'{row}"99.0"', 1))
    return f"--matrix-data={folder}"


def _more(entries):
    """Further lines of a waiver; one of `runs` names what the planted fault raises."""
    return ('raises = "planted"\n' if entries["check"] == "runs" else "") + entries.get("more", "")


def baselines(folder, suites, **waivers):
    """A folder of baselines that accepts the sound row in these suites, and has these waivers."""
    accepted = Baselines(folder)
    for suite in suites:
        values, variant = ACCEPTED[suite]
        key = numerics_key("cpu") if suite == "generation" else machine_fingerprint().slug
        accepted.record(suite, "cpu", key, f"{SOUND}{variant}", values, 10)
    accepted.commit({"command": "planted by suites/meta"})
    folder.mkdir(exist_ok=True)
    blocks = [WAIVER.format(id=id, **{**entries, "more": _more(entries)}) for id, entries in waivers.items()]
    (folder / "waivers.toml").write_text("schema = 1\n" + "".join(blocks))
    return f"--baselines={folder}"


def gate(folder, matrix, *arguments, **options):
    return run_suite(folder, "--gate", matrix, *arguments, **options)


def causes(run):
    """{node id without its file: cause} as the gate lists them."""
    rows = [line.split("  ", 1) for line in run.output.splitlines() if line.startswith("suites/") and "]  " in line]
    return {nodeid.rpartition("::")[2]: text.partition(":")[0] for nodeid, text in rows}


def count_of(run):
    """The one line of the count."""
    [line] = [line for line in run.output.splitlines() if line.startswith(("QUALIFIED", "NOT QUALIFIED"))]
    return line


BREAK = ["-p", "suites.meta.harness.planting", plant(BROKEN, "before", "a_python_error")]


@pytest.fixture(scope="module")
def qualified(matrix, tmp_path_factory):
    """(a run of all twelve cells, four of them waived for ten more days; its folder)."""
    folder = tmp_path_factory.mktemp("qualified")
    soon = dict(suite="*", cells=BROKEN, check="runs", until=TODAY + datetime.timedelta(days=10))
    accepted = baselines(folder / "baselines", ACCEPTED, soon=soon, sampling=SAMPLING)
    traced = run_suite(folder / "accepting", accepted, "--update-baselines", *nodes("dispatch", [SOUND]))
    assert traced.status == 0, traced.output
    return gate(folder, matrix, accepted, *BREAK), folder


def test_a_full_run_qualifies_and_says_what_of_it_was_waived(qualified):
    run, folder = qualified
    assert run.status == 0, run.output
    assert "QUALIFIED: 12 of 12 claimed cells" in run.output
    assert ": 3 PASS, 5 waived, 4 unsupported\n" in run.output
    assert "UNSUPPORTED 4: qwen3-4b needs transformers 99.0" in run.output
    assert "WAIVED 4: soon of soon-owner until" in run.output
    opening, *tests, count, closing = read_journal(folder / "journal.jsonl")
    assert {line["check"] for test in tests for line in test["lines"]} <= {"supported"}.union(*checks_of().values())
    assert (count["gate"], count["claimed"], count["faults"]) == ("QUALIFIED", 12, {})
    assert {record["run"] for record in (*tests, count, closing)} == {opening["run"]}


def test_a_waiver_in_its_last_two_weeks_warns_once(qualified):
    run, _ = qualified
    warnings = [line for line in run.output.splitlines() if line.startswith("WAIVER RUNS OUT")]
    assert warnings == [
        f"WAIVER RUNS OUT: soon of soon-owner, 10 days left (until {TODAY + datetime.timedelta(days=10)}), "
        "for 1 cell of this run"
    ]


@pytest.fixture
def resumed(qualified, matrix, tmp_path):
    """A function that runs all of that again from its journal, changed by `change(record)`, with no stack started."""
    _, folder = qualified

    def run(change, *options):
        shutil.copy(folder / "journal.jsonl", tmp_path)
        doctored(tmp_path, change)
        selected = [
            f"--baselines={folder / 'baselines'}",
            *BREAK,
            "-p",
            "suites.meta.harness.no_workers",
            "--resume",
            *options,
        ]
        return gate(tmp_path, matrix, *selected)

    return run


def test_what_is_taken_from_the_journal_counts(resumed):
    run = resumed(lambda record: None)
    assert run.status == 0, run.output
    assert "12 of 12 tests are from" in run.output
    assert count_of(run).endswith(": 3 PASS, 5 waived, 4 unsupported")
    assert "FROM THE JOURNAL 12: of the run begun" in run.output
    assert "WAIVED 4: soon of soon-owner until" in run.output


def test_an_intermittent_cell_qualifies_nothing(resumed):
    def crash_once(record):
        if record.get("cell") == SOUND and record["suite"] == "generation":
            attempts = dict(check="attempts", measured="first CRASHED, then PASS", allowed="the same twice", margin="")
            record["verdict"] = "INTERMITTENT"
            record["lines"].insert(0, {**attempts, "verdict": "INTERMITTENT"})

    run = resumed(crash_once)
    assert run.status == 1
    assert causes(run) == {generation(SOUND): "INTERMITTENT"}
    assert count_of(run).startswith("NOT QUALIFIED: 11 of 12 claimed cells")


def test_verdicts_that_were_taken_in_spite_of_differences_qualify_nothing(resumed):
    run = resumed(lambda record: record.update(differs=["torch 1 instead of 2"]) if record["kind"] == "run" else None)
    assert run.status == 4
    assert "holds verdicts that were taken with torch 1 instead of 2; begin anew without --resume" in run.output


def test_a_gate_whose_tests_cannot_be_kept_says_what_it_found_and_fails(tmp_path, matrix):
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    run = gate(tmp_path, matrix, "-k", "qwen3", "--allow-partial")
    assert run.status == 1
    assert run.verdict(generation(UNSUPPORTED)) == "FAIL"
    assert "cannot be written (No space left on device)" in run.line(generation(UNSUPPORTED), "journal")
    assert "qwen3-4b needs transformers 99.0" in run.line(generation(UNSUPPORTED), "supported")
    assert run.output.count("NOT QUALIFIED") == 1
    assert "INTERNALERROR" not in run.output


def test_a_gate_whose_journal_is_taken_away_fails(tmp_path, matrix):
    run = gate(tmp_path, matrix, "-k", "qwen3", "--allow-partial", "-p", "suites.meta.harness.lost_journal")
    assert run.status == 1
    assert "was removed while this run wrote to it" in count_of(run)
    assert "INTERNALERROR" not in run.output


@pytest.fixture(scope="module")
def spoiled(matrix, tmp_path_factory):
    """A run with a waiver that ran out, one for a driver, a stale one, no accepted latency and a deselected cell."""
    folder = tmp_path_factory.mktemp("spoiled")
    waivers = dict(
        over=dict(suite="generation", cells=BROKEN, check="runs", until=TODAY - datetime.timedelta(days=1)),
        driven=dict(suite="latency", cells=BROKEN, check="runs", until=TODAY, more='drivers = ">=1"'),
        stale=dict(suite="generation", cells=SOUND, check="optimised", until=TODAY + datetime.timedelta(days=90)),
    )
    deselected = f"--deselect=suites/test_latency.py::{latency(UNSUPPORTED)}"
    return gate(
        folder,
        matrix,
        baselines(folder / "baselines", ["generation"], sampling=SAMPLING, **waivers),
        *BREAK,
        deselected,
    )


def test_a_waiver_past_its_end_fails_and_names_its_owner(spoiled):
    assert spoiled.verdict(generation(BROKEN)) == "FAIL"
    yesterday = TODAY - datetime.timedelta(days=1)
    assert f"[waiver over of over-owner ran out on {yesterday}]" in spoiled.line(generation(BROKEN), "runs")


def test_a_waiver_of_another_driver_does_not_waive(spoiled):
    assert spoiled.verdict(latency(BROKEN)) == "FAIL"
    assert "WAIVER RUNS OUT: driven" not in spoiled.output


def test_a_stale_waiver_fails(spoiled):
    assert spoiled.verdict(generation(SOUND)) == "STALE_WAIVER"
    assert "waiver stale of stale-owner waives optimised, which holds" in spoiled.output


def test_the_gate_names_every_cell_without_an_answer_and_the_hint(spoiled):
    assert spoiled.status == 1
    assert causes(spoiled) == {
        generation(SOUND): "STALE_WAIVER",
        dispatch(SOUND): "NO_BASELINE",
        latency(SOUND): "NO_BASELINE",
        generation(BROKEN): "FAIL",
        dispatch(BROKEN): "FAIL",
        latency(BROKEN): "FAIL",
        f"test_generate[{BROKEN}]": "FAIL",
        latency(UNSUPPORTED): "DESELECTED",
    }
    assert "NO_BASELINE: accept values: --update-baselines in place of --gate, review" in spoiled.output
    [line] = [line for line in spoiled.output.splitlines() if line.startswith("NOT QUALIFIED: 4 of 12 claimed cells")]
    assert line.endswith("; 4 FAIL, 2 NO_BASELINE, 1 DESELECTED, 1 STALE_WAIVER")


@pytest.mark.parametrize(("narrowed", "selected"), [
    (["-k", "qwen3"], 4),
    (["suites/test_latency.py", "-m", "qwen"], 1),
    ([f"suites/test_generation.py::{generation(UNSUPPORTED)}"], 1),
])  # fmt: skip
def test_a_partial_run_that_is_allowed_qualifies_nothing(tmp_path, matrix, narrowed, selected):
    run = gate(tmp_path, matrix, *narrowed, "--allow-partial")
    assert run.status == 0, run.output
    assert f"NOT A QUALIFICATION (partial: {selected} of 12 cells" in run.output
    assert list(read_journal(tmp_path / "journal.jsonl"))[-2]["gate"] == "NOT A QUALIFICATION"


def test_a_partial_run_fails_unless_it_is_allowed(tmp_path, matrix):
    run = gate(tmp_path, matrix, "suites/test_latency.py", "-k", "qwen3", environment={"iter": "1"})
    assert run.status == 1
    assert "NOT QUALIFIED: 0 of 12 claimed cells" in run.output
    found = causes(run)
    assert found.pop(latency(UNSUPPORTED)) == "NARROWED", "a grid of fewer rounds selects less"
    assert found.pop(latency(SOUND)) == found.pop(latency(BROKEN)) == "DESELECTED"
    assert set(found.values()) == {"NOT SELECTED"}


def test_a_run_that_stops_early_fails_the_gate(tmp_path, matrix):
    run = gate(tmp_path, matrix, "-x", "--worker-python=/bin/false", "--allow-partial")
    assert run.status == 1
    assert set(causes(run).values()) == {"FAIL", "NEVER RAN"}
    assert "11 NEVER RAN, 1 FAIL" in run.output


def test_what_a_qualification_consists_of_is_reported_beforehand(tmp_path):
    run = run_suite(tmp_path, "--gate", "--platform=cpu", "--weights=miniature", "--collect-only", "-q")
    assert run.status == 0
    assert "accuracy         5, of which this run would select 0" in run.output
    assert "suites/meta" not in run.output


@pytest.mark.parametrize(("arguments", "environment", "words"), [
    (["--allow-partial"], {}, "add --gate"),
    (["--gate", "--update-baselines"], {}, "accept first"),
    (["--gate"], {"PYTEST_XDIST_WORKER": "gw0"}, "leave out xdist's -n"),
])  # fmt: skip
def test_options_that_contradict_the_gate_are_refused(tmp_path, arguments, environment, words):
    run = run_suite(tmp_path, "suites/test_generation.py", *arguments, environment=environment)
    assert run.status == 4
    assert words in run.output
    assert "Traceback" not in run.output


def test_waivers_are_listed_without_running_anything(tmp_path):
    entries = dict(suite="latency", cells=BROKEN, check="runs", until=TODAY + datetime.timedelta(days=3))
    late = {**entries, "until": TODAY - datetime.timedelta(days=2)}
    driven = {**entries, "more": 'drivers = ">=570"'}
    old = {**entries, "more": 'versions = { "transformers" = "<4" }'}
    run = run_suite(tmp_path, "--waivers", baselines(tmp_path, [], driven=driven, old=old, late=late, plain=entries))
    assert run.status == 0
    assert max(map(len, run.output.splitlines())) <= 100
    heads = [line.split(":")[0] for line in run.output.splitlines()[1:] if line and not line.startswith(" ")]
    assert heads == ["late", "driven", "old", "plain"]
    for words in (
        "1 in force",
        "late: 2 days over",
        "not in force: ran out on",
        "not in force: driver: a host CPU has none",
        "not in force: versions: transformers: 4.",
        "plain: 3 days left",
        "1 cell of latency: runs up to 1; opt-30b-fp32-cpu-single",
    ):
        assert words in run.output
