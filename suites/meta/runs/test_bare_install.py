"""The package without its extras collects the whole matrix: collecting, checking and reporting need no stack."""

import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata

from suites.meta.harness.inner import ROOT

CODE = """
import sys
sys.modules.update(dict.fromkeys({blocked!r}))
import pytest
words = ["--collect-only", "-q", "--platform", "all", "-p", "no:cacheprovider", "-p", "pytest_benchmark.plugin"]
sys.exit(pytest.main(words))
"""


def with_needs(names, found=None):
    """Distributions that the named ones need, themselves included."""
    found = set() if found is None else found
    for name in names:
        key = re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()
        if key not in found:
            found.add(key)
            try:
                needs = metadata.requires(key) or ()
            except metadata.PackageNotFoundError:
                continue
            with_needs([need for need in needs if "extra ==" not in need], found)
    return found


def test_collecting_needs_no_extra():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    kept = with_needs(declared)
    blocked = sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & kept
    )
    assert {"torch", "transformers", "lm_eval"} <= {*blocked}
    command = [sys.executable, "-c", CODE.format(blocked=blocked)]
    # Plugins of what is not declared would be imported by their entry points.
    variables = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
