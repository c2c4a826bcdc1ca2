"""What a plan says of the time of a run: recorded costs where there are any, else a floor that says that it is one."""

import json
import types

import pytest

from fixtures.matrix import load_matrix
from fixtures.matrix.memory import numbers
from fixtures.measure.latency import Grid
from fixtures.measure.settings import Settings
from fixtures.plugin.expected_time import bytes_read, lines, shown

MATRIX = load_matrix()
CELLS = {cell.id: cell for cell in MATRIX.all_cells()}
FP16, INT4 = (CELLS[f"llama-2-7b-{precision}-max1550-single"] for precision in ("fp16", "int4"))
GRID = Grid(4, 1, 1024, 128, 10, 3)
PARAMETERS = 6_738_415_616


@pytest.fixture
def run(tmp_path):
    """A run as far as a plan reads it, with an empty folder of results."""
    options = {"results": tmp_path, "--weights": "synthetic", "--model-root": None}
    return types.SimpleNamespace(
        config=types.SimpleNamespace(getoption=options.get),
        selection=types.SimpleNamespace(matrix=MATRIX, grid=lambda cell: GRID),
        processes=types.SimpleNamespace(settings=Settings(weights="synthetic")),
    )


def journal(run, *records, weights="synthetic"):
    made = [
        {"schema": 2, "kind": "test", "suite": suite, "cell": cell, "verdict": verdict, "seconds": seconds,
         "options": {"--weights": weights}}
        for suite, cell, verdict, seconds in records
    ]  # fmt: skip
    text = "".join(json.dumps(record) + "\n" for record in made)
    (run.config.getoption("results") / "journal.jsonl").write_text(text)


def text_of(run, *tests):
    return "\n".join(lines(run, tests))


def test_a_timing_reads_the_weights_of_both_models_at_every_token():
    settings = Settings(weights="synthetic")
    assert bytes_read(settings, FP16, "latency", GRID) == 4 * PARAMETERS * 13 * 128
    assert bytes_read(settings, FP16, "dispatch", GRID) == 2 * PARAMETERS
    # Six runs of 33 tokens by the candidate and the reference in fp32, and once the reference's two models.
    assert bytes_read(settings, FP16, "generation", GRID) == (2 + 4) * PARAMETERS * 6 * 33 + 6 * PARAMETERS


def test_without_a_journal_the_line_is_a_floor_and_says_so(run):
    text = text_of(run, ("latency", FP16))
    assert "1 test on max1550: more than 14 s, a floor and no measurement" in text
    assert "3276.8 GB/s that its maker states" in text


def test_recorded_tests_of_the_device_type_count_by_their_median(run):
    other = "llama-3-8b-fp16-b580-single"
    journal(
        run, ("latency", other, "PASS", 30.0), ("latency", FP16.id, "FAIL", 50.0), ("latency", other, "PASS", 400.0)
    )
    text = text_of(run, ("latency", FP16), ("latency", CELLS[other]), ("dispatch", FP16))
    assert "2 tests on xpu: 2 min, by the median of each suite over 3 tests" in text
    assert "1 test on max1550: more than" in text


@pytest.mark.parametrize(("record", "weights"), [
    (("latency", "llama-2-7b-bf16-cpu-single", "PASS", 30.0), "synthetic"),  # another device type
    (("generation", FP16.id, "PASS", 30.0), "synthetic"),  # another suite
    (("latency", FP16.id, "UNSUPPORTED", 0.1), "synthetic"),  # nothing ran
    (("latency", FP16.id, "PASS", 30.0), "miniature"),  # other weights
])  # fmt: skip
def test_records_of_something_else_do_not_count(run, record, weights):
    journal(run, record, weights=weights)
    assert "by the median" not in text_of(run, ("latency", FP16))


def test_a_spoilt_journal_leaves_the_floor(run):
    (run.config.getoption("results") / "journal.jsonl").write_text("spoilt\nspoilt\n")
    assert "a floor and no measurement" in text_of(run, ("latency", FP16))


def test_a_platform_without_a_bandwidth_on_record_is_not_known(run):
    assert "core-ultra: not known" in text_of(run, ("latency", CELLS["llama-2-7b-fp16-core-ultra-single"]))


def test_nothing_to_run_takes_no_time(run):
    assert text_of(run).strip() == "expected time: none, nothing would run"


def test_bandwidths_are_of_platforms_of_the_matrix():
    assert {*numbers()["bandwidth"]} <= {platform.name for platform in MATRIX.platforms}


@pytest.mark.parametrize(("seconds", "text"), [(0.42, "0.42 s"), (42.2, "42 s"), (600, "10 min"), (9000, "2.5 h")])
def test_times_are_rounded(seconds, text):
    assert shown(seconds) == text
