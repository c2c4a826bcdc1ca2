"""The pytest plugin of the environment: options take a folder after a blank, wherever that folder is.

pytest looks for its configuration in the folders that the command line names before it reads any conftest.py, and
takes the /models of `--model-root /models` for a folder of tests. `make` installs this module, so pytest loads it
wherever it looked. It adds the options of the clone that the user is in, and runs pytest again with the configuration
of that clone where pytest found another one or none.
"""

import os
import shlex
import sys
from pathlib import Path

import pytest

CONFIGURATION = "pytest.ini"
OPTIONS = "fixtures.plugin.options"


def clone_of(folder):
    """The clone of this project that holds a folder, or None."""
    marks = CONFIGURATION, "xpu_llm_cts.py", f"{OPTIONS.replace('.', '/')}.py"
    return next((place for place in (folder, *folder.parents) if all((place / mark).is_file() for mark in marks)), None)


def pytest_addoption(parser, pluginmanager):
    clone = clone_of(Path.cwd())
    if clone is not None:
        if str(clone) not in sys.path:
            sys.path.insert(0, str(clone))
        pluginmanager.import_plugin(OPTIONS)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run again with the clone's configuration where pytest did not find that; None where it did."""
    given = config.invocation_params
    clone = clone_of(given.dir)
    if clone is None or config.inipath == clone / CONFIGURATION or config.getoption("inifilename"):
        return None
    if config.args_source is config.ArgsSource.ARGS and not all(_inside(clone, given.dir / arg) for arg in config.args):
        return None  # tests of another project
    before = os.environ.get("PYTEST_ADDOPTS")
    # By the variable, since the words of the command line go into `reproduce:` and into accepted values.
    os.environ["PYTEST_ADDOPTS"] = f"{before or ''} -c {shlex.quote(str(clone / CONFIGURATION))}".strip()
    try:
        return pytest.main([*given.args], plugins=given.plugins)
    finally:
        del os.environ["PYTEST_ADDOPTS"]
        os.environ.update({} if before is None else {"PYTEST_ADDOPTS": before})


def _inside(clone, argument):
    """Whether a path or node id of the command line lies in the clone."""
    return Path(str(argument).split("::")[0]).resolve().is_relative_to(clone.resolve())
