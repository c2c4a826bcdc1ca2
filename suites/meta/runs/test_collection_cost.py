"""What collecting costs: no slow import, whatever is collected, and times as benchmarks, without limits."""

import shutil

import pytest

from fixtures.matrix import load_matrix
from suites.meta.harness.inner import ROOT, run_suite

LIST = ["--collect-only", "-q"]
CELLS = ["suites/test_generation.py", "suites/test_latency.py"]
MEMBER = """
[models.member-{number}]
like = "llama-2-7b"
hub_id = "nobody/member-{number}"
"""


@pytest.fixture(scope="module")
def large_matrix(tmp_path_factory):
    """A folder of matrix data with more than 10,000 cells, made of one-row family members."""
    folder = tmp_path_factory.mktemp("large") / "matrix"
    shutil.copytree(ROOT / "fixtures/matrix", folder, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    with (folder / "models.toml").open("a") as file:
        file.writelines(MEMBER.format(number=number) for number in range(700))
    return folder


@pytest.fixture(scope="module")
def nothing(tmp_path_factory):
    """A folder with one empty test file and no configuration."""
    folder = tmp_path_factory.mktemp("nothing")
    (folder / "test_nothing.py").write_text("")
    (folder / "pytest.ini").write_text("[pytest]\n")
    return folder


def applied(matrix):
    """The number of cells that test_generation applies to."""
    return sum(cell.mode != "tpplan" for cell in matrix.all_cells())


@pytest.mark.nightly
@pytest.mark.benchmark(group="collecting, whole process")
@pytest.mark.parametrize("what", ["a bare pytest", "the whole matrix", "10,000 cells"])
def test_cost_of_collecting(request, benchmark, tmp_path, nothing, large_matrix, what):
    if what == "a bare pytest":
        arguments, cwd, cells = [*LIST, str(nothing)], nothing, 0
    elif what == "the whole matrix":
        arguments, cwd, cells = ["--platform", "all", *LIST, *CELLS], ROOT, applied(load_matrix())
    else:
        large = load_matrix(large_matrix)
        arguments = ["--platform", "all", "--matrix-data", str(large_matrix), *LIST, CELLS[0]]
        cwd, cells = ROOT, applied(large)
        assert cells > 10_000
    rounds = 3 if request.config.getoption("benchmark_only") else 1  # `make benchmarks` measures the cost
    run = benchmark.pedantic(run_suite, args=(tmp_path, *arguments), kwargs={"cwd": cwd}, rounds=rounds)
    assert run.status in (0, 5)
    assert run.output.count("test_generation[") == cells


def test_collecting_everything_imports_nothing_slow(tmp_path):
    run = run_suite(tmp_path, "-p", "suites.meta.harness.imported", "--collect-only", "suites", "--platform", "all")
    assert run.status == 0
    assert "test_fuzz.py" in run.output, "the suite's own tests are collected, too"
    assert "slow imports: none" in run.output
