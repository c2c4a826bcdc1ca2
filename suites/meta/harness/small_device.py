"""A pytest plugin for inner runs in which the host counts as a device with the bytes of $DEVICE_MEMORY."""

import os

from fixtures.plugin import collection


def pytest_configure():
    collection.total_memory = lambda device_type: int(os.environ["DEVICE_MEMORY"])
