"""How fast is the optimised model, and is it as fast as it was?"""

import os

import pytest

from fixtures.checks.latency import judge_latency, metrics_of, not_timed
from fixtures.checks.tolerances import bounds
from fixtures.measure.latency import measure_latency, worker_clock
from fixtures.plugin.option_guards import why_not_timed


@pytest.mark.benchmark(timer=worker_clock)
def test_latency(cell, verdict, stage, grid, benchmark, comparing, accepted, paired, spec_lines, dispatch_cause):
    """End to end, first and next token, stock stepped in alternation, against this cell's own accepted values."""
    reason = why_not_timed(benchmark, os.environ)
    if reason:
        verdict(not_timed(reason))
    measured = measure_latency(stage, cell, grid, benchmark)
    metrics = metrics_of(measured)
    benchmark.extra_info["grid"] = grid.slug
    benchmark.extra_info.update({name: value for name, (value, _, _) in metrics.items()})
    spec_lines(cell, measured)
    before = accepted.find("latency", cell, f"@{grid.slug}")
    timed, ratios = paired(measured, before)
    lines = judge_latency(measured, metrics, comparing, before, bounds(), decided=bool(timed)) + timed
    lines = dispatch_cause(lines)
    metrics |= ratios
    accepted.stage("latency", cell, lines, metrics, len(measured.rounds), verdict.waived, f"@{grid.slug}")
    verdict(lines, metrics)
