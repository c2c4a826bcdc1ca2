"""How fast is the optimised model, and is it as fast as it was?"""

import os

import pytest

from fixtures.checks.latency import check_latency, metrics_of, not_timed
from fixtures.checks.tolerances import tolerances
from fixtures.measure.latency import measure_latency, worker_clock
from fixtures.plugin.option_guards import why_not_timed


@pytest.mark.cells(mode=["single", "autotp"])
@pytest.mark.benchmark(timer=worker_clock)
def test_latency(cell, verdict, runtime, grid, benchmark, comparing, accepted, paired, spec_lines, explained):
    """End to end, first and next token, stock stepped in alternation, against this cell's own accepted values."""
    reason = why_not_timed(benchmark, os.environ)
    if reason:
        verdict(not_timed(reason))
    measured = measure_latency(runtime, cell, grid, benchmark)
    metrics = metrics_of(measured)
    benchmark.extra_info["grid"] = grid.slug
    benchmark.extra_info.update({name: value for name, (value, _, _) in metrics.items()})
    spec_lines(cell, measured)
    before = accepted.find("latency", cell, f"@{grid.slug}")
    timed, ratios = paired(measured, before)
    lines = check_latency(measured, metrics, comparing, before, tolerances(), decided=bool(timed)) + timed
    lines = explained(lines, before)
    metrics |= ratios
    accepted.record("latency", cell, lines, metrics, len(measured.rounds), verdict.waived, f"@{grid.slug}")
    verdict(lines, metrics)
