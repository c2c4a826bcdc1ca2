"""Does generate() keep its contract: what it returns, where it stops, what it draws, and what it leaves behind?"""

import pytest

from fixtures.checks.generate import check_generate
from fixtures.checks.tolerances import tolerances
from fixtures.measure.generate import measure_generate

pytestmark = pytest.mark.cells(mode="single", engine=["ipex", "eager"])


def test_generate(cell, verdict, runtime):
    """Calls as a user makes them: batches, ends of text, padding, sampling, beams, text; and the same call again."""
    verdict(check_generate(measure_generate(runtime, cell), tolerances()))
