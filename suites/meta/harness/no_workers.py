"""A pytest plugin for inner runs in which no process of a stack may start."""

from fixtures.worker.pool import ForkServer


def pytest_configure():
    def start(self, modules, *_, **__):
        raise AssertionError(f"a process that imports {', '.join(modules)} was to be started")

    ForkServer.__init__ = start
