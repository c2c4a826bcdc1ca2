"""Is a sharded model sharded, does it answer like one device, and does it under every launcher?"""

import pytest

from fixtures.checks.distributed import judge_answers, judge_launched, judge_sharding
from fixtures.checks.tolerances import bounds
from fixtures.measure.distributed import measure_answers, measure_launched, measure_sharding

pytestmark = pytest.mark.cells(mode="autotp")


def test_tp_sharding(cell, verdict, stage):
    """Bytes and slices of every rank, number and bytes of all-reduces, as the architecture predicts."""
    verdict(judge_sharding(measure_sharding(stage, cell), bounds()))


def test_tp_answers(cell, verdict, stage):
    """DeepSpeed first, then the platform's optimiser: N ranks against one, against fp32, and against each other."""
    verdict(judge_answers(measure_answers(stage, cell), bounds()))


def test_tp_plain(cell, verdict, stage):
    """The same by DeepSpeed alone, against the stock model on one rank."""
    verdict(judge_answers(measure_answers(stage, cell, plain=True), bounds()))


@pytest.mark.cells(mode="autotp", representative=True)
def test_tp_mpirun(cell, verdict, stage):
    """The ranks of Intel MPI's mpirun answer like the suite's own."""
    verdict(judge_launched(measure_launched(stage, cell, "mpirun"), bounds()))


@pytest.mark.cells(mode="autotp", representative=True)
def test_tp_torchrun(cell, verdict, stage):
    """The ranks of torchrun answer like the suite's own."""
    verdict(judge_launched(measure_launched(stage, cell, "torchrun"), bounds()))


@pytest.mark.cells(mode="autotp", representative=True)
def test_tp_deepspeed(cell, verdict, stage):
    """The ranks of DeepSpeed's launcher answer like the suite's own."""
    verdict(judge_launched(measure_launched(stage, cell, "deepspeed"), bounds()))
