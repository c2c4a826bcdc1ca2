"""Does the optimised model give the stock model's answers?"""

import pytest

from fixtures.checks.generation import accepted_metrics, check_generation
from fixtures.checks.tolerances import tolerances
from fixtures.measure.generation import measure_generation

pytestmark = pytest.mark.cells(mode=["single", "autotp"])


def test_generation(cell, verdict, runtime, accepted):
    """The recipe's model against stock at higher precision: proof of path, logits, tokens, beams, text."""
    measured = measure_generation(runtime, cell)
    layers = runtime.plan(cell).variant
    before = accepted.find("generation", cell, layers)
    lines = check_generation(measured, tolerances(), before, accepted.updating)
    metrics, samples = accepted_metrics(measured)
    accepted.record("generation", cell, lines, metrics, samples, verdict.waived, layers)
    verdict(lines, metrics)
