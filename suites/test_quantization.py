"""Is INT4 what it says: the integers of the weights, kernels that compute them, a checkpoint that comes back?"""

import pytest

from fixtures.checks.int4 import judge_native, judge_reloaded, judge_run, judge_saved
from fixtures.checks.tolerances import bounds
from fixtures.measure.int4 import measure_reload, measure_run, measure_save
from fixtures.measure.int4_native import measure_native
from fixtures.measure.parameters import plan

pytestmark = pytest.mark.cells(precision="int4")


def test_int4_run(cell, verdict, stage):
    """Flow (a), quantise and run: every linear, the right integers, kernels that mean them, quality where trained."""
    verdict(judge_run(measure_run(stage, cell), plan()["int4"], bounds()))


def test_int4_save(cell, verdict, stage):
    """Flow (b), quantise, save and run: what is on disk is what was in memory, and the model still answers."""
    verdict(judge_saved(measure_save(stage, cell), plan()["int4"], bounds()))


def test_int4_reload(cell, verdict, stage):
    """Flow (c), load the saved model in another compute engine: the same bits, logits, tokens and files."""
    verdict(judge_reloaded(measure_reload(stage, cell), plan()["int4"], bounds()))


@pytest.mark.cells(precision="int4", platform="cpu")
def test_int4_native(cell, verdict, stage):
    """IPEX's own INT4 path: lowp modes, group sizes, and a GPTQ-format checkpoint."""
    verdict(judge_native(measure_native(stage, cell), bounds()))
