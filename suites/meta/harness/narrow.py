"""A pytest plugin for inner runs of narrower miniatures, with fewer prompts than those that faults are put in."""

from fixtures.io.shipped import table_of
from fixtures.measure import parameters
from fixtures.weights import miniature
from suites.meta.harness.quick_striking import TABLE, merged


def pytest_configure():
    table = table_of(TABLE)
    vars(miniature).update(table["miniature"])
    few = merged(merged(parameters.parameters(), table["parameters"]), table["narrow"])
    parameters.table_of = lambda path: few
