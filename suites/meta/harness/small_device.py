"""A pytest plugin for inner runs in which the host counts as a device with the bytes of $DEVICE_MEMORY."""

import os

from fixtures.plugin import processes


def pytest_configure():
    processes.total_memory = lambda device_type, python: int(os.environ["DEVICE_MEMORY"])
