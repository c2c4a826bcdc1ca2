"""A pytest plugin for inner runs: what became of every group of ranks that a test used, as properties of the test.

`left`: processes of ended groups that still run. `went_on_after`: seconds from the moment a group was being ended to
the end of its test. Each test runs once, hangs or not: second attempts are tested in runs/test_retry.py.
"""

import time

import pytest

from fixtures.worker import pool
from fixtures.worker.pool import Worker
from suites.meta.harness.processes import running

GRACE = 1.0  # seconds for ranks that wait for one with an error: here nothing is to come of them
groups, ends = [], []


def _watched(method, note):
    def watched(self, *arguments, **options):
        note(self)
        return method(self, *arguments, **options)

    return watched


def pytest_configure(config):
    config.attempts = 1
    pool.GRACE = GRACE
    # The list is filled before ranks are forked, and read once they should be gone.
    Worker.__init__ = _watched(Worker.__init__, groups.append)
    Worker._kill = _watched(Worker._kill, lambda worker: ends.append((time.monotonic(), worker)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    ends.clear()
    try:
        return (yield)
    finally:
        ended = [worker for worker in groups if worker.termination is not None and len(worker.ranks) > 1]
        left = sum(running(rank.pid) for worker in ended for rank in worker.ranks)
        item.user_properties.append(("left", str(left)))
        times = [moment for moment, worker in ends if len(worker.ranks) > 1]
        if times:
            item.user_properties.append(("went_on_after", f"{time.monotonic() - times[-1]:.2f}"))
