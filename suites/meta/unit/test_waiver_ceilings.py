"""A waiver excuses a measured amount: up to its ceiling a failing check is waived, beyond it the check fails."""

import dataclasses
import datetime
import fnmatch
import math
import re
import signal
import tomllib

import numpy as np
import pytest

from fixtures.checks import generate
from fixtures.checks.generation import error_line
from fixtures.checks.verdicts import Line, settle
from fixtures.contract.suites import checks_of
from fixtures.io.parties import OPTIMISED
from fixtures.matrix import load_matrix
from fixtures.results import Baselines, load_waivers
from fixtures.results.accepted import AcceptedValues
from fixtures.results.recording import Recorder
from fixtures.results.scores import ScoreFiles
from fixtures.results.traces import TraceFiles
from fixtures.worker.termination import RecipeError, WorkerEnded, classify
from suites.meta.harness.inner import ROOT
from suites.meta.unit.test_generation_checks import waiver

WAIVERS = ROOT / "baselines/waivers.toml"
TODAY = datetime.date(2026, 12, 1)


@pytest.mark.parametrize(("value", "verdict"), [
    (10.0, "WAIVED"), (10.1, "FAIL"), (math.inf, "FAIL"), (math.nan, "FAIL"), (None, "FAIL"),
])  # fmt: skip
def test_a_waiver_excuses_up_to_its_ceiling(value, verdict):
    known = waiver()
    lines = [Line("left_padding", "FAIL", "so much", value=value)]
    settled = settle(lines, {"left_padding": known}.get, (known,))
    assert settled.verdict == verdict
    assert settled.waivers == ((known,) if verdict == "WAIVED" else ())
    assert [line.verdict for line in settled.lines] == [verdict], "what is beyond a ceiling is not stale"


@pytest.mark.parametrize(("value", "kept"), [(9.0, True), (11.0, False)])
def test_nothing_is_accepted_of_a_cell_beyond_a_ceiling(tmp_path, value, kept):
    cell = load_matrix().cells(["cpu"])[0]
    files = Baselines(tmp_path), ScoreFiles(tmp_path), TraceFiles(tmp_path)
    recorder = Recorder(*files)
    lines = [Line("left_padding", "FAIL", "", value=value)]
    values = AcceptedValues(files[0], True, {"cpu": "cpu"}, recorder)
    values.record("generation", cell, lines, {"noise_ratio": (1.0, 0.1, "")}, 6, lambda check: waiver())
    assert bool(recorder.held) is kept


def test_a_check_beyond_its_ceiling_names_the_waiver_and_both_numbers():
    known = waiver()
    [line] = settle([Line("logits", "FAIL", "42 of stock's error", value=42.0)], lambda check: known).lines
    assert line.measured == "42 of stock's error [not waived: waiver known of ipex-cpu excuses at most 10, this is 42]"


def test_a_ceiling_over_a_line_without_a_number_is_reported_as_that():
    [line] = settle([Line("placed", "NOT_OPTIMISED", "weights on cpu")], lambda check: waiver()).lines
    assert line.verdict == "NOT_OPTIMISED"
    assert "waiver known of ipex-cpu excuses at most 10, and this failure has no number" in line.measured


def test_one_check_beyond_the_ceiling_fails_beside_one_below():
    known = waiver("left_padding", "logits")
    lines = [Line("left_padding", "FAIL", "", value=3.0), Line("logits", "FAIL", "", value=11.0)]
    settled = settle(lines, lambda check: known, (known,))
    assert [line.verdict for line in settled.lines] == ["WAIVED", "FAIL"]
    held = [dataclasses.replace(lines[0], verdict="PASS"), lines[1]]
    assert settle(held, lambda check: known, (known,)).verdict == "FAIL", "and is not stale"


RAISED = error_line(RecipeError("RuntimeError", "index_copy_(): Source/destination tensor must have same slice shapes"))
SEGFAULT = error_line(WorkerEnded(classify(int(signal.SIGSEGV), 0)))


@pytest.mark.parametrize(("line", "raises", "verdict"), [
    (RAISED, "index_copy_(): Source/destination", "WAIVED"),
    (RAISED, "the size of tensor a", "FAIL"),
    (RAISED, "", "FAIL"),
    (SEGFAULT, "index_copy_(): Source/destination", "CRASHED"),
    (SEGFAULT, "", "CRASHED"),
])  # fmt: skip
def test_a_waived_exception_is_that_one_and_no_crash(line, raises, verdict):
    known = waiver("runs", at_most=1.0, raises=raises)
    assert settle([line], {"runs": known}.get, (known,)).verdict == verdict


@pytest.mark.parametrize(("raises", "of_the_exception", "of_the_number"), [
    ("index_copy_(): Source/destination", "WAIVED", "FAIL"),
    ("the size of tensor a", "FAIL", "FAIL"),
    ("", "FAIL", "WAIVED"),
])  # fmt: skip
def test_a_waiver_excuses_an_exception_or_a_number_whatever_the_check(raises, of_the_exception, of_the_number):
    known = waiver("awq", at_most=1.0, raises=raises)
    number = Line("awq", "FAIL", "0.9 of the rounding", "0.6", value=0.9)
    for line, verdict in ((dataclasses.replace(RAISED, check="awq"), of_the_exception), (number, of_the_number)):
        assert settle([line], {"awq": known}.get, (known,)).verdict == verdict


# -- the shipped waivers ----


@pytest.fixture(scope="module")
def shipped():
    return load_waivers(WAIVERS, checks=checks_of())


@pytest.mark.parametrize(("outside", "verdict"), [(0, "PASS"), (6, "WAIVED"), (7, "FAIL")])
def test_sampling_of_tokens_without_probability_is_excused_whenever_it_strikes(shipped, outside, verdict):
    """The waiver is of the shipped file, and intermittent: where nothing strikes, it is not stale."""
    known = shipped.matching("generate", "smollm2-135m-fp16-cpu-single", "distribution", TODAY)
    places = np.concatenate([np.full(outside, 2.0), (np.arange(512 - outside) + 0.5) / 512])
    line = generate.distribution(places, 1e-6)
    assert settle([line], lambda check: known, (known,)).verdict == verdict


def test_the_documents_have_the_unit_of_every_ceiling():
    text = (ROOT / "docs/checks.md").read_text().partition("## Values and ceilings")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    known = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    waived = {check for found in tomllib.loads(WAIVERS.read_text())["waivers"] for check in _listed(found["check"])}
    assert sorted(name for name in waived if not any(fnmatch.fnmatch(name, rule) for rule in known)) == []


def _listed(found):
    return [found] if isinstance(found, str) else found


# (suite, cell, check, its value, the verdict). Of the first two a head of one layer was zeroed.
BEYOND = [
    ("tp_plain", "llama-2-7b-bf16-cpu-autotp", "logits", 42.0, "FAIL"),
    ("tp_plain", "llama-2-7b-bf16-cpu-autotp", "tokens", 40.0, "FAIL"),
    ("generation", "bloom-7b1-fp32-cpu-single", "logits", 1e5, "FAIL"),
    ("int4_save", "llama-2-7b-int4-cpu-single", "after_saving", math.nan, "FAIL"),
    ("int4_run", "llama-2-7b-int4-cpu-single", "scheme", math.inf, "FAIL"),
]


@pytest.mark.parametrize(("suite", "name", "check", "value", "verdict"), BEYOND)
def test_a_gross_fault_is_beyond_the_ceiling_of_a_shipped_waiver(shipped, suite, name, check, value, verdict):
    known = shipped.matching(suite, name, check, TODAY)
    assert known is not None
    settled = settle([Line(check, "FAIL", "", value=value)], lambda check: known)
    assert settled.verdict == verdict, settled.lines
    assert settled.party == OPTIMISED
    assert known.id in settled.lines[0].measured


@pytest.mark.parametrize(("value", "verdict", "party"), [(28.0, "WAIVED", ""), (29.0, "FAIL", OPTIMISED)])
@pytest.mark.parametrize("name", ["llama-2-7b-fp32-cpu-single", "gpt-j-6b-bf16-cpu-single"])
def test_sampling_past_the_end_is_excused_in_all_tokens_behind_an_end_and_no_more(shipped, name, value, verdict, party):
    known = shipped.matching("generate", name, "sampled_eos", TODAY)
    assert known.id == "ipex-cpu-sampling-past-the-end"
    settled = settle([Line("sampled_eos", "FAIL", "", value=value)], lambda check: known)
    assert (settled.verdict, settled.party) == (verdict, party)
