"""The environment of Intel GPUs: the lock has what the extra asks for, and a target installs it from its indexes."""

import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from suites.meta.harness.inner import ROOT

LOCK = (ROOT / "requirements-xpu.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTORCH, INTEL = (
    "https://download.pytorch.org/whl/xpu",
    "https://pytorch-extension.intel.com/release-whl/stable/xpu/us/",
)
# Of indexes that could not be reached; the head of the lock says so.
WITHOUT_HASH = {"torch", "intel-extension-for-pytorch", "pytorch-triton-xpu"}


def locked():
    """{distribution: (version, whether it has a hash)} of the lock."""
    entries = re.findall(r"^([\w.-]+)==(\S+)( \\\n {4}--hash=sha256:[0-9a-f]{64})?", LOCK, re.MULTILINE)
    return {canonicalize_name(name): (version, bool(hashed)) for name, version, hashed in entries}


@pytest.mark.parametrize("text", [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["xpu"]])
def test_the_lock_has_what_the_extra_asks_for(text):
    wanted = Requirement(text)
    version, _ = locked()[canonicalize_name(wanted.name)]
    assert wanted.specifier.contains(version, prereleases=True), f"{text}: {version} is locked; run make lock-xpu"


def test_only_wheels_of_the_two_indexes_have_no_hash():
    assert {name for name, (_, hashed) in locked().items() if not hashed} <= WITHOUT_HASH


def test_no_other_index_is_named():
    assert {url.rstrip(",.") for url in re.findall(r"https?://\S+", LOCK)} == {PYTORCH, INTEL}


def test_both_builds_are_those_for_intel_gpus():
    found = locked()
    assert (found["torch"][0], found["intel-extension-for-pytorch"][0]) == ("2.8.0+xpu", "2.8.10+xpu")
    assert found["transformers"][0] == "4.51.3"


def test_the_target_installs_the_lock_from_both_indexes():
    done = subprocess.run(["make", "-n", ".venv-xpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"--index {PYTORCH}" in done.stdout
    assert f"--index {INTEL}" in done.stdout
    assert "requirements-xpu.lock" in done.stdout
