"""Options take a folder after a blank wherever that folder is, and make works in a clone whose path has spaces."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig

import pytest

from suites.meta.harness.inner import ROOT, Run

LIST = ["--collect-only", "-q", "-m", "llama2 and fp16"]
CELL = "suites/test_generation.py::test_generation[llama-2-7b-fp16-max1550-single]"


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """A folder with what `make .venv` installs of this project, built as there but from a copy."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("pyproject.toml", "README.md", "LICENSE", "xpu_llm_cts.py"):
        shutil.copy(ROOT / name, source)
    uv = [f"{sysconfig.get_path('scripts')}/uv", "pip", "install", "--quiet", "--offline", "--python", sys.executable]
    subprocess.run(
        [*uv, "--no-deps", "--no-build-isolation", "--target", str(target), "."], cwd=source, check=True, timeout=120
    )
    return target


def typed(plugin, *words, cwd=ROOT):
    """The Run of `pytest` with these words as a shell in a clone starts it, the plugin installed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHONPATH"))}
    done = subprocess.run(
        [f"{sysconfig.get_path('scripts')}/pytest", *map(str, words)],
        cwd=cwd, env={**clean, "PYTHONPATH": str(plugin)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    return Run(done.returncode, done.stdout, {})


def test_every_option_takes_a_folder_outside_the_clone(plugin, tmp_path):
    folders = ["--model-root", "--results", "--baselines", "--task-data"]
    given = [word for option in folders for word in (option, tmp_path)]
    matrix = ["--matrix-data", shutil.copytree(ROOT / "fixtures/matrix", tmp_path / "matrix")]
    run = typed(plugin, "--platform", "max1550", *given, *matrix, "--against", sys.executable, *LIST)
    assert (run.status, "unrecognized" in run.output) == (0, False), run.output
    assert CELL in run.output  # named from the root of the clone, and of its test paths alone
    assert "suites/meta" not in run.output


def test_a_folder_below_another_project_is_no_root(plugin, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --maxfail=1\n")
    models = tmp_path / "models"
    models.mkdir()
    run = typed(plugin, "--platform=max1550", *LIST, "--model-root", models)
    assert (run.status, CELL in run.output) == (0, True), run.output


def test_a_run_says_how_it_was_started(plugin, tmp_path):
    words = ["--platform", "cpu", "--results", tmp_path, "--benchmark-disable", "--deadline", "9"]
    words += ["--worker-python", shutil.which("false"), "-k", "opt-6.7b-fp32", "suites/test_generation.py"]
    run = typed(plugin, *words)
    assert f"rootdir: {ROOT}" in run.output
    assert f"reproduce: pytest '{CELL.split('::')[0]}::test_generation[opt-6.7b-fp32-cpu-single]' " in run.output
    assert " -c " not in run.output


def test_tests_of_another_project_stay_its_own(plugin, tmp_path):
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    run = typed(plugin, tmp_path)
    assert (run.status, "1 passed" in run.output, "configfile" in run.output) == (0, True, False), run.output


@pytest.fixture(scope="module")
def spaced(tmp_path_factory):
    """A clone in a folder whose name has spaces, with the environment of this one."""
    clone = tmp_path_factory.mktemp("a folder with spaces") / "a clone"
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copy(ROOT / name, clone / name)
    (clone / ".venv").symlink_to(sys.prefix)
    return clone


def make(clone, *words, timeout=60):
    kept = ["-o", ".venv/.installed", "-o", ".venv/.plugin"]  # the environment is not this test's to change
    done = subprocess.run(
        ["make", *kept, *words], cwd=clone, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(("environment", "installed"), [
    (".venv", [".venv", ".venv"]), (".venv-xpu", [".venv-xpu", ".venv-xpu"]), (".venv-4.48", [".venv", ".venv-4.48"]),
])  # fmt: skip
def test_make_installs_into_a_path_with_spaces(spaced, environment, installed):
    recipe = subprocess.run(
        ["make", "--dry-run", "--always-make", environment, f"PYTHON={spaced}/python"],
        cwd=spaced, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    words = [shlex.split(line) for line in recipe.replace("\\\n", "").splitlines() if line]
    assert [f"{spaced}/python", "-m", "venv", installed[0]] in words
    settings = [row[0] for row in words if row[0].startswith("VIRTUAL_ENV=")]
    assert settings == [f"VIRTUAL_ENV={spaced}/{folder}" for folder in installed]


def test_pytest_collects_in_a_path_with_spaces(plugin, spaced, tmp_path):
    run = typed(plugin, "--platform", "max1550", "--model-root", tmp_path, *LIST, cwd=spaced)
    assert (run.status, CELL in run.output) == (0, True), run.output


@pytest.mark.nightly
def test_make_lints_in_a_path_with_spaces(spaced):
    assert "Contracts: 4 kept" in make(spaced, "lint", timeout=300)
