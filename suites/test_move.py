"""Is it safe to move from one engine to another (--move ORIGIN:DESTINATION), cell by cell?"""

import os

import pytest

from fixtures.checks.latency import not_timed
from fixtures.checks.move import check_move
from fixtures.checks.tolerances import tolerances
from fixtures.compare.against import measure_against
from fixtures.plugin.option_guards import why_in_parallel

pytestmark = pytest.mark.cells(move=True)


def test_move(cell, verdict, runtime, grid, questions, origin_engine, timing_of_move):
    """The same model by both engines: closeness to the reference, scores, memory, operations, and replicates."""
    reason = why_in_parallel(os.environ)
    if reason:
        verdict(not_timed(reason))
    measured = measure_against(runtime, origin_engine, cell, grid.beam, questions, timing_of_move)
    verdict(check_move(measured, tolerances(), origin_engine.engine.name), measured.metrics)
