"""A pytest plugin for inner runs: every test of a cell fails with a line that has signs beyond ASCII; nothing runs."""

import pytest

from fixtures.checks.verdicts import Line

MEASURED = "1.0 ± 0.2 of stock's error: naïve, 漢字"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    pyfuncitem.funcargs["verdict"]([Line("logits", "FAIL", MEASURED, "<= 0.5"), Line("runs", "PASS", "answered")])
