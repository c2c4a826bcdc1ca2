"""A pytest plugin for inner runs that are about the run, not about the model: cells take fewer and shorter prompts.

The parameters are those by which each fault is struck once (suites/meta/faults/quick.toml).
"""

from fixtures.io.shipped import table_of
from fixtures.measure import parameters
from suites.meta.harness.quick_striking import TABLE, merged


def pytest_configure():
    short = merged(parameters.parameters(), table_of(TABLE)["parameters"])
    parameters.table_of = lambda path: short
