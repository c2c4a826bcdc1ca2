"""Do the devices of a machine give the same bits?"""

import pytest

from fixtures.checks.parity import check_parity
from fixtures.checks.tolerances import tolerances
from fixtures.measure.parity import measure_parity

pytestmark = pytest.mark.cells(mode="single", device_type=["xpu", "cuda"], representative=True)


def test_parity(cell, verdict, runtime):
    """The same model with the same prompts on each device of its kind: every logit against those of the first one."""
    verdict(check_parity(measure_parity(runtime, cell), tolerances()))
