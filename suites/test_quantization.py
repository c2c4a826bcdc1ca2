"""Is INT4 what it says: the integers of the weights, kernels that compute them, a checkpoint that comes back?"""

import pytest

from fixtures.checks.int4 import check_reloaded, check_run, check_saved
from fixtures.checks.int4_checkpoints import check_checkpoints
from fixtures.checks.int4_native import check_native
from fixtures.checks.int4_torchao import check_torchao_reloaded, check_torchao_saved
from fixtures.checks.tolerances import tolerances
from fixtures.measure.int4 import measure_reload, measure_run, measure_save
from fixtures.measure.int4_checkpoints import measure_checkpoints
from fixtures.measure.int4_native import measure_native
from fixtures.measure.int4_torchao import measure_torchao_reload, measure_torchao_save
from fixtures.measure.parameters import parameters

pytestmark = pytest.mark.cells(precision="int4", engine=["ipex", "torchao-int4"])


def test_int4_run(cell, verdict, runtime):
    """Flow (a), quantise and run: every linear, the right integers, kernels that mean them, quality where trained."""
    verdict(check_run(measure_run(runtime, cell), parameters()["int4"], tolerances()))


def test_int4_save(cell, verdict, runtime):
    """Flow (b), quantise, save and run: what is on disk is what was in memory, and the model still answers."""
    ways = {True: (measure_torchao_save, check_torchao_saved), False: (measure_save, check_saved)}
    measure, check = ways[cell.stock_classes]
    verdict(check(measure(runtime, cell), parameters()["int4"], tolerances()))


def test_int4_reload(cell, verdict, runtime):
    """Flow (c), load the saved model in a fresh process: the same bits, logits, tokens and files.

    IPEX loads it in another of its compute engines; torchao has none to choose from.
    """
    ways = {True: (measure_torchao_reload, check_torchao_reloaded), False: (measure_reload, check_reloaded)}
    measure, check = ways[cell.stock_classes]
    verdict(check(measure(runtime, cell), parameters()["int4"], tolerances()))


@pytest.mark.cells(precision="int4", platform="cpu", engine="ipex")
def test_int4_native(cell, verdict, runtime):
    """IPEX's own INT4 path: lowp modes, group sizes, and a GPTQ-format checkpoint."""
    verdict(check_native(measure_native(runtime, cell), tolerances()))


@pytest.mark.cells(precision="int4", device_type="xpu", representative=True, engine="ipex")
def test_int4_checkpoints(cell, verdict, runtime):
    """Checkpoints of other tools, GPTQ and AWQ: every linear, and kernels that compute what the files mean."""
    verdict(check_checkpoints(measure_checkpoints(runtime, cell), tolerances()))
