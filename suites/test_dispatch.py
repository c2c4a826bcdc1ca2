"""Does the model still run the same operations by the same kernels?"""

import pytest

from fixtures.checks.dispatch import check_dispatch
from fixtures.measure.dispatch import measure_dispatch

pytestmark = pytest.mark.cells(mode=["single", "autotp"], engine=["ipex", "eager"])


def test_dispatch(cell, verdict, runtime, accepted_traces, grid):
    """One traced generate, greedy and by beams: its operations, kernels, graphs and Python calls are those accepted."""
    measured = measure_dispatch(runtime, cell, grid.beam)
    before, comparable = accepted_traces.find(cell)
    lines = check_dispatch(measured, before, comparable, accepted_traces.updating)
    accepted_traces.record(cell, lines, measured, verdict.waived)
    verdict(lines)
