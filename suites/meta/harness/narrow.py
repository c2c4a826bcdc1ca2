"""A pytest plugin for inner runs whose miniatures may be narrower, as those of faults that are struck once."""

from fixtures.io.shipped import table_of
from fixtures.weights import miniature
from suites.meta.harness.quick_striking import TABLE


def pytest_configure():
    vars(miniature).update(table_of(TABLE)["miniature"])
