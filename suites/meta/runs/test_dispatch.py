"""Traces are accepted by one run and compared by the next, through files; a planted fault fails its cell."""

import json

import pytest

from fixtures.results import numerics_key
from suites.meta.harness.inner import nodes, plant, run_suite

pytestmark = pytest.mark.nightly

SAME, BROKEN, OTHER = (f"llama-{model}-fp32-cpu-single" for model in ("2-7b", "2-13b", "3-8b"))
NODES = nodes("dispatch", [SAME, BROKEN, OTHER])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """(the folder of baselines, the run that accepted, the run that compared once a copy was planted)."""
    folder = tmp_path_factory.mktemp("dispatch")
    baselines = folder / "baselines"
    baselines.mkdir()
    first = run_suite(folder / "first", f"--baselines={baselines}", "--update-baselines", *NODES)
    path = next(baselines.rglob(f"{OTHER}.json"))
    record = json.loads(path.read_text())
    record["context"]["versions"]["torch"] = "1.13.0"
    path.write_text(json.dumps(record))
    planted = ["-p", "suites.meta.harness.planting", plant(BROKEN, "after", "dispatch.one_copy_more")]
    return baselines, first, run_suite(folder / "second", f"--baselines={baselines}", *planted, *NODES)


def test_accepting_writes_a_file_per_cell(runs):
    baselines, first, _ = runs
    assert first.status == 0
    found = sorted(path.name for path in (baselines / "cpu" / numerics_key("cpu") / "dispatch").iterdir())
    assert found == sorted(f"{cell}.json" for cell in (SAME, BROKEN, OTHER))
    assert f"accepted: {SAME}: " in first.output


def test_the_next_run_compares_by_them(runs):
    *_, second = runs
    assert second.verdict(f"test_dispatch[{SAME}]") == "PASS"
    assert second.verdict(f"test_dispatch[{BROKEN}]") == "FAIL"
    line = second.line(f"test_dispatch[{BROKEN}]", "operations")
    assert "decode 1: operation" in line
    assert "came: 1 x clone i64[1,1]" in line
    assert second.status == 1


def test_another_stack_is_incomparable(runs):
    *_, second = runs
    assert second.verdict(f"test_dispatch[{OTHER}]") == "INCOMPARABLE"
    assert "1.13.0 accepted; no difference" in second.tests[f"test_dispatch[{OTHER}]"][2]
