"""The process with the stock stack from which workers of the tests that start their own are forked; imported once."""

import pytest

from fixtures.engine.stack_modules import modules_for
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.worker.pool import ForkServer

STOCK = modules_for("cpu", "stock")


@pytest.fixture(scope="session")
def stock():
    """A ForkServer of the stock stack."""
    fork_server = ForkServer(STOCK)
    yield fork_server
    fork_server.close()


@pytest.fixture(scope="module")
def runtime(stock):
    """A Runtime of a module's own, whose stock workers `stock` forks."""
    runtime = Runtime(Settings())
    runtime.processes.fork_servers[STOCK] = stock
    yield runtime
    del runtime.processes.fork_servers[STOCK]  # others still need it
    runtime.close()
