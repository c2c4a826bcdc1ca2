"""The registry of planted faults: every entry names a function, a cell, checks, a source; and there are enough."""

import ast

import pytest

from fixtures.contract.suites import questions
from fixtures.matrix import load_matrix
from suites.meta.faults.registry import CLASSES, MOMENTS, faults
from suites.meta.harness.inner import ROOT

LEAST = 80
CELLS = {cell.id for cell in load_matrix().cells(["cpu"])}
BY_SIZE = "_at_"  # of parameters.py, whose functions of that name are made when they are read


def functions_of(module):
    tree = ast.parse((ROOT / f"suites/meta/faults/{module}.py").read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} | {
        name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names
    }


def test_there_are_enough_of_every_class():
    assert len(faults()) >= LEAST
    assert {fault.kind for fault in faults().values()} == {*CLASSES}
    struck = [fault for fault in faults().values() if not (fault.elsewhere or fault.unseen)]
    assert len(struck) >= LEAST, "most are planted by the quick form"


@pytest.mark.parametrize("fault", faults().values(), ids=lambda fault: fault.name)
def test_an_entry_can_be_planted_and_judged(fault):
    module, _, function = fault.function.rpartition(".")
    assert function.partition(BY_SIZE)[0].strip("_") in {name.strip("_") for name in functions_of(module)}
    assert fault.when in MOMENTS
    assert fault.cell in CELLS
    assert {*fault.checks} <= {*questions()[fault.suite].checks}
    assert fault.checks
    assert len(fault.source) > 10
    if fault.elsewhere:
        assert function in (ROOT / fault.elsewhere).read_text(encoding="utf-8")
