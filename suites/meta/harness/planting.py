"""A pytest plugin for inner runs of the suite: `--plant CELL=WHEN:FAULT` breaks one cell's model in its worker.

FAULT is a function of suites/meta/faults/model.py, or MODULE.FUNCTION of another module there. A cell may have one
fault for each WHEN.
"""

import importlib

import pytest


def pytest_addoption(parser):
    parser.addoption("--plant", action="append", default=[], metavar="CELL=WHEN:FAULT")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    config.planted_faults = {}
    for text in config.getoption("plant"):
        cell, _, rest = text.partition("=")
        when, _, name = rest.partition(":")
        module, _, function = name.rpartition(".")
        path = f"suites.meta.faults.{module or 'model'}"
        try:
            getattr(importlib.import_module(path), function)
        except (ImportError, AttributeError):
            raise pytest.UsageError(f"--plant {text}: no fault {function!r} in {path}; name a function of it") from None
        config.planted_faults.setdefault(cell, {})[f"fault_{when}"] = f"{path}:{function}"
