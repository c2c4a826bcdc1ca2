"""Runs of the suite that load no stack: each forked from a process that has imported what is not ours already.

A fresh interpreter takes a second to import pytest, numpy and scipy, and such a run then a third of one. The fork
imports everything of the project itself, as the interpreter would.
"""

import multiprocessing
import os
import sys

import pytest

from suites.meta.harness.inner import ROOT, command_of, found

_parents = multiprocessing.get_context("forkserver")
_parents.set_forkserver_preload(["numpy", "psutil", "pytest", "scipy.stats"])


def fork_suite(folder, *arguments, environment=None, timeout=60):
    """What suites.meta.harness.inner.run_suite gives, without an interpreter of the run's own."""
    reported = os.path.join(folder, "reported")
    words, variables = command_of(folder, arguments, environment)
    process = _parents.Process(target=_become, args=(words, variables, reported))
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"pytest {' '.join(words)} took more than {timeout} s")
    with open(reported) as file:
        return found(folder, process.exitcode, file.read())


def _become(words, variables, reported):
    """Be `python -m pytest` from the project's root."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(reported, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
    os.dup2(1, 2)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    sys.argv = [os.path.join(os.path.dirname(pytest.__file__), "__main__.py"), *words]
    sys.exit(pytest.console_main())
