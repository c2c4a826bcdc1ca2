"""Whole runs of the suite on a software XPU (suites.meta.harness.software_xpu), small enough for a host."""

import shutil

from fixtures.contract.suites import questions
from fixtures.matrix.memory import GIB
from suites.meta.harness.inner import ROOT, run_suite
from suites.meta.harness.software_xpu import MAX_1550, interpreter

B580 = "Intel(R) Arc(TM) B580 Graphics"
GRID = {"beam": "2", "bs": "1", "input": "16", "output": "4", "iter": "2"}
# A trained model that is there, and a family that has to be scored alone in the geometry of its miniature.
TRAINED = """
[models.gpt-j-small]
like = "gpt-j-6b"
hub_id = "nobody/gpt-j-small"
geometry = { layers = 2, hidden = 512, intermediate = 1024, heads = 2, kv_heads = 2, vocabulary = 1024 }
"""
CLAIM = """
[[claims]]
id = "planted"
source = "planted: models with weights that can be scored"
own = true
models = ["smollm2-135m", "gpt-j-small"]
precisions = ["fp16", "int4"]
platforms = ["max1550"]
modes = ["single"]
"""


def run_on(
    folder, tests, *options, cards=(MAX_1550,), faults=(), memory=64 * GIB, platform="max1550", environment=None,
    weights="miniature", timeout=540, grid=True,
):  # fmt: skip
    """Run [(suite, cell id)] on a machine with these cards, timed by a small `grid`: (the Run, its interpreter)."""
    python = interpreter(folder / "python", cards=cards, faults=faults, memory=memory)
    chosen = [f"{questions()[suite].file}::test_{suite}[{cell}]" for suite, cell in tests]
    arguments = (*chosen, "--platform", platform, "--weights", weights, *(("--num-warmup", "1") if grid else ()))
    variables = (GRID if grid else {}) | (environment or {})
    run = run_suite(folder / "run", *arguments, *options, python=python, environment=variables, timeout=timeout)
    return run, python


def verdicts(run, tests):
    """{(suite, cell id): verdict} of a Run."""
    return {(suite, cell): run.verdict(f"test_{suite}[{cell}]") for suite, cell in tests}


def trained_matrix(folder):
    """The option for the shipped matrix with TRAINED and its CLAIM."""
    matrix = folder / "matrix"
    shutil.copytree(ROOT / "fixtures/matrix", matrix, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for name, text in (("models.toml", TRAINED), ("claims.toml", CLAIM)):
        with (matrix / name).open("a") as file:
            file.write(text)
    return f"--matrix-data={matrix}"
