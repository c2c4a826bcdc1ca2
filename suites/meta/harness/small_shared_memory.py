"""A pytest plugin for inner runs on a machine whose /dev/shm has the 64 MiB of a plain container."""

import collections
import os

from fixtures.measure.preconditions import SHARED_MEMORY

Found = collections.namedtuple("Found", "f_bavail f_frsize")


def pytest_configure():
    real = os.statvfs
    os.statvfs = lambda folder: Found(64, 2**20) if folder == SHARED_MEMORY else real(folder)
    os.getuid = lambda: -1  # no buffer there is ours
