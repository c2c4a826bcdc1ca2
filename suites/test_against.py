"""Is the stack under test as fast and as close as another one, side by side on the same cells (--against PYTHON)?"""

import os

import pytest

from fixtures.checks.against import check_against
from fixtures.checks.latency import not_timed
from fixtures.checks.tolerances import tolerances
from fixtures.compare.against import measure_against
from fixtures.plugin.option_guards import why_in_parallel

pytestmark = pytest.mark.cells(against=True, mode=["single", "autotp"])


def test_against(cell, verdict, runtime, grid, questions, other_stack, timing_against):
    """Replicates of the same cell under both stacks, the error of both stacks' logits, and scores."""
    reason = why_in_parallel(os.environ)
    if reason:
        verdict(not_timed(reason))
    measured = measure_against(runtime, other_stack, cell, grid.beam, questions, timing_against)
    verdict(check_against(measured, tolerances()), measured.metrics)
