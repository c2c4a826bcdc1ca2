"""The environments of stock PyTorch: the lock has what the group asks for, and targets install it."""

import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement

from suites.meta.harness.inner import ROOT

LOCK = (ROOT / "requirements-stock.lock").read_text()
GROUP = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["stock"]
# {distribution: (version, its entry)}; every entry has a hash.
LOCKED = {
    name: (version, entry)
    for entry, name, version in re.findall(r"^(([\w.-]+)==(\S+) .*(?:\n .*)*)", LOCK, re.MULTILINE)
}
PYTORCH = "https://download.pytorch.org/whl/xpu"


def made(target):
    """What make would run for a target whose lock changed, and nothing for .venv."""
    command = ["make", "-n", "-o", ".venv/.installed", "-W", "requirements-stock.lock", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("text", GROUP)
def test_the_lock_has_what_the_group_asks_for(text):
    wanted = Requirement(text)
    assert wanted.specifier.contains(LOCKED[wanted.name][0]), f"{text}: run make lock"


def test_every_package_has_a_hash():
    assert len(LOCKED) > 90
    assert not [name for name, (_, entry) in LOCKED.items() if "--hash=sha256:" not in entry]


def test_nothing_of_pytest_and_of_ipex_is_in_it():
    assert not {"pytest", "intel-extension-for-pytorch", "neural-compressor", "deepspeed"} & LOCKED.keys()


def test_the_target_installs_the_lock_by_its_hashes():
    assert "uv pip sync --quiet --require-hashes requirements-stock.lock" in made(".venv-stock")


def test_on_intel_gpus_torch_alone_comes_from_its_index():
    words = made(".venv-stock-xpu")
    filtering = next(line for line in words.splitlines() if line.startswith("awk ")).rpartition(" > ")[0]
    others = subprocess.run(filtering, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    left = LOCKED.keys() - set(re.findall(r"^([\w.-]+)==", others, re.MULTILINE))
    assert {"torch", "triton"} == {name for name in left if not name.startswith(("nvidia-", "cuda-"))}
    assert f"--index {PYTORCH}" in words
    named = re.search(r'"\$\((grep .*)\)"', words)[1]
    asked = subprocess.run(named, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert asked == f"torch=={LOCKED['torch'][0]}\n"
