"""Is a sharded model sharded, does it answer like one device, and does it under every launcher?"""

import pytest

from fixtures.checks.distributed import check_answers, check_launched, check_sharding
from fixtures.checks.tolerances import tolerances
from fixtures.measure.distributed import measure_answers, measure_launched, measure_sharding

pytestmark = pytest.mark.cells(mode=["autotp", "tpplan"])


def test_tp_sharding(cell, verdict, runtime):
    """Bytes and slices of every rank, number and bytes of all-reduces, as the architecture predicts."""
    verdict(check_sharding(measure_sharding(runtime, cell), tolerances()))


def test_tp_answers(cell, verdict, runtime):
    """N ranks against one, against fp32, and against each other: DeepSpeed and the optimiser, or transformers' plan."""
    verdict(check_answers(measure_answers(runtime, cell), tolerances()))


@pytest.mark.cells(mode="autotp")
def test_tp_plain(cell, verdict, runtime):
    """The same by DeepSpeed alone, against the stock model on one rank."""
    verdict(check_answers(measure_answers(runtime, cell, plain=True), tolerances()))


@pytest.mark.cells(mode="autotp", representative=True)
def test_tp_mpirun(cell, verdict, runtime):
    """The ranks of Intel MPI's mpirun answer like the suite's own."""
    verdict(check_launched(measure_launched(runtime, cell, "mpirun"), tolerances()))


@pytest.mark.cells(mode=["autotp", "tpplan"], representative=True)
def test_tp_torchrun(cell, verdict, runtime):
    """The ranks of torchrun answer like the suite's own."""
    verdict(check_launched(measure_launched(runtime, cell, "torchrun"), tolerances()))


@pytest.mark.cells(mode="autotp", representative=True)
def test_tp_deepspeed(cell, verdict, runtime):
    """The ranks of DeepSpeed's launcher answer like the suite's own."""
    verdict(check_launched(measure_launched(runtime, cell, "deepspeed"), tolerances()))
