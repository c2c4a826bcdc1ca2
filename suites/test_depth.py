"""What does a longer context cost, and does the model answer right up to the last position that it has?"""

import pytest

from fixtures.checks.depth import accepted_curve, check_depth
from fixtures.checks.tolerances import tolerances
from fixtures.measure.depth import measure_depth

pytestmark = pytest.mark.cells(mode="single", engine=["ipex", "eager"], representative=True)


def test_depth(cell, verdict, runtime, accepted):
    """Time and bytes of a decode step at eight depths, against its own line and the accepted curve."""
    layers = runtime.plan(cell).variant
    before = accepted.find("depth", cell, layers)
    measured = measure_depth(runtime, cell, before)
    lines = check_depth(measured, tolerances(), before, accepted.updating)
    curve, samples = accepted_curve(measured)
    accepted.record("depth", cell, lines, curve, samples, verdict.waived, layers)
    verdict(lines, curve)
