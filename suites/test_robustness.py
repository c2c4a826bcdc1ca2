"""Does the model answer at every prompt length, in batches and every time, and are its weights left as loaded?"""

import pytest

from fixtures.checks.robustness import accepted_states, check_robustness
from fixtures.checks.tolerances import tolerances
from fixtures.measure.robustness import measure_robustness

pytestmark = pytest.mark.cells(mode="single", engine=["ipex", "eager"])


def test_robustness(cell, verdict, runtime, accepted, gating):
    """Prompt lengths against one stock pass, rows alone and in company, repetitions, and a digest of every tensor."""
    measured = measure_robustness(runtime, cell, thorough=gating)
    layers = runtime.plan(cell).variant
    before = accepted.find("robustness", cell, layers)
    lines = check_robustness(measured, tolerances(), before, accepted.updating)
    states, samples = accepted_states(measured)
    accepted.record("robustness", cell, lines, states, samples, verdict.waived, layers)
    verdict(lines, states)
