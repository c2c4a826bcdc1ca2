"""The process with the stock stack from which workers of the tests that start their own are forked; imported once."""

import shutil

import pytest

from fixtures.engine.stack_modules import modules_for
from fixtures.matrix.loader import FOLDER
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.worker.pool import ForkServer


@pytest.fixture
def matrix_folder(tmp_path):
    """A copy of the shipped matrix to spoil or to add to."""
    for file in FOLDER.glob("*.toml"):
        shutil.copy(file, tmp_path)
    return tmp_path


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
    key = runtime.settings.python, STOCK
    runtime.processes.fork_servers[key] = stock
    yield runtime
    del runtime.processes.fork_servers[key]  # others still need it
    runtime.close()
