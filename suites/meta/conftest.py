"""The process with the stock stack from which workers of the tests that start their own are forked; imported once."""

import pytest

from fixtures.engine.stack_modules import modules_for
from fixtures.measure.runtime import Settings, Stage
from fixtures.worker.pool import Zygote

STOCK = modules_for("cpu", "stock")


@pytest.fixture(scope="session")
def stock():
    """A Zygote of the stock stack."""
    zygote = Zygote(STOCK)
    yield zygote
    zygote.close()


@pytest.fixture(scope="module")
def stage(stock):
    """A Stage of a module's own, whose stock workers `stock` forks."""
    stage = Stage(Settings())
    stage.zygotes[STOCK, None] = stock
    yield stage
    del stage.zygotes[STOCK, None]  # others still need it
    stage.close()
