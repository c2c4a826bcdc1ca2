"""What a record in the journal costs, fsync included. A benchmark, not a limit; its share of a run: test_resume."""

import dataclasses

import pytest

from fixtures.checks.verdicts import Line
from fixtures.results import Journal


@pytest.mark.benchmark(group="journal: one record, on the disk")
def test_cost_of_a_record(benchmark, tmp_path):
    line = dataclasses.asdict(
        Line("logits", "PASS", "0.9878 ± 0.0037 of stock's error over 3 prompts", "<= 1.25", "+21%")
    )
    record = {"kind": "test", "lines": [line] * 14, "versions": {"torch": "2.8.0"}, "options": {"--platform": "auto"}}
    with Journal(tmp_path / "journal.jsonl") as journal:
        benchmark.pedantic(journal.append, args=(record,), rounds=50)
    benchmark.extra_info["bytes"] = (tmp_path / "journal.jsonl").stat().st_size // 50
