"""A pytest plugin for inner runs whose journal is removed while they run."""

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    (session.config.getoption("results") / "journal.jsonl").unlink()
