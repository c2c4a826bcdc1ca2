"""Values are accepted with what the machine did meanwhile, not where that spoils them, and marked where one insists."""

import dataclasses
import json

import pytest

from fixtures.checks.verdicts import Line
from fixtures.io.parties import MACHINE
from fixtures.matrix import load_matrix
from fixtures.plugin.outcome import Totals, settle
from fixtures.results import Baselines, ResultsError
from fixtures.results.accepted import AcceptedValues
from fixtures.results.recording import Recorder
from fixtures.results.scores import ScoreFiles
from fixtures.results.traces import TraceFiles

CELL = next(cell for cell in load_matrix().all_cells() if cell.platform.name == "cpu")
METRICS = {"fastest": (0.25, None, "s")}
QUIET = Line("host_state", "PASS", "2 s, foreign load 0.02 of 2 cores")
BUSY = Line("host_state", "INCONCLUSIVE", "not accepted: foreign load of 1.3 cores", party=MACHINE)
INSISTED = Line("host_state", "PASS", "accepted although foreign load of 1.3 cores", party=MACHINE)


@pytest.fixture
def accepted(tmp_path):
    """A function that accepts values with some lines: (their lines of change, the cell in the file, what is found)."""

    def accept(line, metrics=METRICS):
        files = Baselines(tmp_path), ScoreFiles(tmp_path), TraceFiles(tmp_path)
        recorder = Recorder(*files)
        values = AcceptedValues(files[0], True, {"cpu": "cpu"}, recorder)
        values.record("latency", CELL, [line], metrics, 4, lambda check: None)
        entries = json.loads(json.dumps(recorder.take(keep=True)))  # as a journal keeps them
        assert all(Recorder(*files).record(entry) is None for entry in entries)
        changes = files[0].commit({"date": "now"})
        path = tmp_path / "cpu" / values.machine.slug / "latency.json"
        cell = json.loads(path.read_text())["cells"][CELL.id] if path.exists() else None
        found = AcceptedValues(Baselines(tmp_path), False, {"cpu": "cpu"}).find("latency", CELL)
        return [change.removeprefix(f"{CELL.id} latency ") for change in changes], cell, found

    return accept


def test_the_host_state_is_shown_and_stored(accepted):
    changes, cell, found = accepted(QUIET)
    assert changes == ["fastest: new, 0.25 s", f"host state: {QUIET.measured}"]
    assert (cell["host_state"], "marked" in cell, found.marked) == (QUIET.measured, False, "")


def test_a_disturbed_machine_replaces_nothing(accepted):
    accepted(QUIET)
    changes, cell, _ = accepted(BUSY, {"fastest": (0.5, None, "s")})
    assert (changes, cell["values"]["fastest"]["value"]) == ([], 0.25)


def test_a_mark_is_in_the_file_in_what_is_found_and_in_the_diff(accepted):
    accepted(QUIET)
    changes, cell, found = accepted(INSISTED)
    assert changes == [f"MARKED: {INSISTED.measured}", f"host state: {INSISTED.measured}"]
    assert cell["marked"] == found.marked == INSISTED.measured
    assert accepted(QUIET)[0][0] == f"no longer marked (it was: {INSISTED.measured})"


def test_a_mark_that_is_no_text_is_one_sentence(accepted, tmp_path):
    accepted(INSISTED)
    [path] = tmp_path.glob("cpu/*/latency.json")
    path.write_text(path.read_text().replace(f'"marked": "{INSISTED.measured}"', '"marked": true'))
    with pytest.raises(ResultsError, match="has marked = True, not a string"):
        Baselines(tmp_path).find("latency", "cpu", path.parent.name, CELL.id)


def test_a_run_counts_what_the_machine_was_not_fit_for():
    totals = Totals()
    totals.record("a", settle([BUSY], lambda check: None))
    totals.record("b", settle([dataclasses.replace(BUSY, party="")], lambda check: None))
    assert totals.refused == {"a": BUSY.measured}
