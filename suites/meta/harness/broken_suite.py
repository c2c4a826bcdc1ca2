"""A pytest plugin for inner runs: the suite's own code breaks in every test of a cell; nothing runs."""

import numpy as np
import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call():
    np.stack([np.zeros(32), np.zeros(33)])
