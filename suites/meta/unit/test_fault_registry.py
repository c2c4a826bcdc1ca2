"""The registry of planted faults: every entry names a function, a cell, checks, what it models; there are enough."""

import ast
import copy
import dataclasses
import functools
import re

import pytest

from fixtures.contract.suites import questions
from fixtures.io.shipped import table_of
from fixtures.matrix import Geometry, load_matrix
from fixtures.measure.parameters import parameters
from suites.meta.faults.registry import CLASSES, MOMENTS, PATH, faults, struck_here
from suites.meta.harness.inner import ROOT
from suites.meta.harness.quick_striking import TABLE

LEAST = 80
CELLS = {cell.id for cell in load_matrix().every_cell() if cell.platform.name == "cpu"}
BY_SIZE = r"_at_[\dp]+$"  # of parameters.py, whose functions of that name are made when they are read
LINES = 10
# Each of these takes the place of a whole mechanism of a library.
LONGER = {
    "model.cache_shifted", "model.ipex_cache_shifted", "dispatch.second_layer_not_optimised",
    "dispatch.one_recompilation_a_step", "dispatch.int4_linear_dequantises_first",
    "accuracy.one_bad_group_in_every_linear", "accuracy.a_rank_has_other_documents",
}  # fmt: skip


@functools.cache
def functions_of(module):
    """{name: its lines} of the functions that a module of suites/meta/faults defines."""
    tree = ast.parse((ROOT / f"suites/meta/faults/{module}.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {node.name.strip("_"): node.end_lineno - node.lineno + 1 for node in found}


def test_there_are_enough_of_every_class():
    assert len(faults()) >= LEAST
    assert {fault.kind for fault in faults().values()} == {*CLASSES}
    assert sum(not fault.unseen for fault in struck_here()) >= LEAST, "a study plants most of them"


@pytest.mark.parametrize("fault", faults().values(), ids=lambda fault: fault.name)
def test_an_entry_can_be_planted_and_judged(fault):
    module, _, function = fault.function.rpartition(".")
    lines = functions_of(module)[re.sub(BY_SIZE, "", function)]
    assert lines <= LINES or fault.function in LONGER, f"{fault.function} has {lines} lines"
    assert fault.when in MOMENTS
    assert fault.cell in CELLS
    assert fault.checks
    assert {*fault.checks, *(fault.others or ())} <= {*questions()[fault.suite].checks}
    assert all(len(text) > 4 for text in (fault.strikes, fault.mechanism, fault.smallest))
    if fault.elsewhere:  # by its name, or with all those of its suite
        text = (ROOT / fault.elsewhere).read_text(encoding="utf-8")
        assert function in text or f'fault.suite == "{fault.suite}"' in text


def test_the_quick_form_changes_what_there_is():
    table = copy.deepcopy(table_of(TABLE))
    struck = {fault.name: fault for fault in struck_here()}
    known = {*struck, *(fault.checks[0] for fault in struck.values())}
    assert {*table["also"]} <= {*struck}
    for more in table["for"]:
        assert {*more.pop("these")} <= known
    for changed in (table["parameters"], *table["for"]):
        assert paths(changed) <= paths(parameters())
    assert {*table["geometry"]} <= {model.id for model in load_matrix().models}
    fields = {field.name for field in dataclasses.fields(Geometry)}
    assert all({*changed} <= fields for changed in table["geometry"].values())


def paths(table, before=()):
    """The keys of nested tables."""
    deeper = [paths(entry, (*before, key)) for key, entry in table.items() if isinstance(entry, dict)]
    return {(*before, key) for key in table}.union(*deeper)


def test_the_example_of_the_page_is_an_entry_of_the_registry():
    """docs/extend.md shows all that a fault needs: a function and one line."""
    section = (ROOT / "docs/extend.md").read_text(encoding="utf-8").partition("## Add a planted fault")[2]
    function, entry = (re.search(rf"```{kind}\n(.+?)```", section, re.DOTALL)[1] for kind in ("python", "toml"))
    assert function in (ROOT / "suites/meta/faults/parameters.py").read_text(encoding="utf-8")
    assert entry in PATH.read_text(encoding="utf-8")
    assert entry.count("\n") == 1
