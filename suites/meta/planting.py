"""A pytest plugin for inner runs of the suite: `--plant CELL=WHEN:FAULT` breaks one cell's model in its worker."""

import pytest

from suites.meta import faults


def pytest_addoption(parser):
    parser.addoption("--plant", action="append", default=[], metavar="CELL=WHEN:FAULT")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.planted_faults = {}
    for text in config.getoption("plant"):
        cell, _, rest = text.partition("=")
        when, _, name = rest.partition(":")
        assert hasattr(faults, name), f"no fault named {name}"
        config.planted_faults[cell] = {f"fault_{when}": f"suites.meta.faults:{name}"}
