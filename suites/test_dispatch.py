"""Does the model still run the same operations by the same kernels?"""

from fixtures.checks.dispatch import judge_dispatch
from fixtures.measure.dispatch import measure_dispatch


def test_dispatch(cell, verdict, stage, accepted_traces, grid):
    """One traced generate, greedy and by beams: its operations, kernels, graphs and Python calls are those accepted."""
    measured = measure_dispatch(stage, cell, grid.beam)
    before, comparable = accepted_traces.find(cell)
    lines = judge_dispatch(measured, before, comparable, accepted_traces.updating)
    accepted_traces.stage(cell, lines, measured, verdict.waived)
    verdict(lines)
