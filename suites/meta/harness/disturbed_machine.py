"""A pytest plugin for inner runs: every test of a cell ends as one whose machine was disturbed; nothing runs."""

import pytest

from fixtures.checks.verdicts import Line
from fixtures.io.parties import MACHINE

LINE = Line("host_state", "INCONCLUSIVE", "not accepted: foreign load of 1.3 cores", party=MACHINE)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    pyfuncitem.funcargs["verdict"]([LINE])
