"""A pytest plugin for inner runs that takes the CPU for one with AVX2 alone: the selection changes, not the kernels."""

from fixtures.plugin import collection, header
from fixtures.system import fingerprint


def pytest_configure():
    for module in (collection, header, fingerprint):
        module.cpu_flags = lambda: frozenset({"avx2"})
