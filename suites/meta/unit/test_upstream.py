"""Calls of torch.xpu, IPEX and neural-compressor: each is listed as upstream defines it, each listed one made."""

import ast
import importlib.util
import inspect
import re
import tomllib
from pathlib import Path

import pytest

from fixtures.worker.devices import NAME_DEVICES
from suites.meta.harness.inner import ROOT

LIST = tomllib.loads((ROOT / "fixtures/engine/upstream.toml").read_text())
LISTED = {entry["function"]: entry for entry in LIST["calls"]}
FILES = sorted([*(ROOT / "fixtures/engine").rglob("*.py"), *(ROOT / "fixtures/doctor").glob("*.py")])
# How the suite names torch's module of a device type.
MODULE = {"self.runtime": "torch.xpu", "adapter.runtime": "torch.xpu", "runtime": "torch.xpu", "kind": "torch.xpu"}
MODULE |= {"_runtime(device_type)": "torch.xpu"}
PACKAGES = ("torch.xpu.", "intel_extension_for_pytorch.", "neural_compressor.")


def calls_of(source):
    """[(function's full name, ast.Call)] of the calls of the listed packages in a source text."""
    tree, found = ast.parse(source), []
    scopes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)] or [tree]
    for scope in scopes:
        names = dict(MODULE)
        for node in ast.walk(scope):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names |= {(a.asname or a.name): f"{node.module}.{a.name}" for a in node.names}
            elif isinstance(node, ast.Import):
                names |= {(a.asname or a.name): a.name for a in node.names}
        for node in (node for node in ast.walk(scope) if isinstance(node, ast.Call)):
            name = ast.unparse(node.func)
            start = max((s for s in names if name == s or name.startswith(f"{s}.")), key=len, default=None)
            full = name if start is None else names[start] + name[len(start) :]
            if full.startswith(PACKAGES):
                found.append((full, node))
    return found


def all_calls():
    sources = {str(path.relative_to(ROOT)): path.read_text() for path in FILES}
    sources["NAME_DEVICES of fixtures/worker/devices.py"] = NAME_DEVICES
    return [(where, full, call) for where, source in sources.items() for full, call in calls_of(source)]


def fits(call, parameters):
    """Whether a call's arguments are among parameters, listed as in upstream.toml."""
    named = [name for name in parameters if not name.startswith("*")]
    any_keyword = any(name.startswith("**") for name in parameters)
    any_position = any(re.match(r"\*[^*]", name) for name in parameters)
    keywords = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
    return (any_keyword or keywords <= {*named}) and (any_position or len(call.args) <= len(named))


def test_every_call_is_listed_and_fits():
    for where, full, call in all_calls():
        assert full in LISTED, f"{where}, line {call.lineno}: {full} is not in fixtures/engine/upstream.toml; add it"
        assert fits(call, LISTED[full]["parameters"]), f"{where}: {ast.unparse(call)} does not fit {LISTED[full]}"


def test_every_listed_call_is_made():
    made = {full for _, full, _ in all_calls()}
    assert {*LISTED} == made, "delete from fixtures/engine/upstream.toml what nothing calls any more"


def test_a_call_that_upstream_would_reject_is_found():
    """Planted: a misspelt function, an unknown keyword, an argument too many."""
    source = "def f(self):\n    import intel_extension_for_pytorch as ipex\n    self.runtime.sync()\n"
    assert [full for full, _ in calls_of(source)] == ["torch.xpu.sync"]
    optimise = LISTED["intel_extension_for_pytorch.llm.optimize"]["parameters"]
    ((full, call),) = calls_of(
        "def f():\n    import intel_extension_for_pytorch as i\n    i.llm.optimize(m, dtpye=1)\n"
    )
    assert full == "intel_extension_for_pytorch.llm.optimize"
    assert not fits(call, optimise)
    ((_, call),) = calls_of("def f(runtime):\n    runtime.synchronize(1, 2)\n")
    assert not fits(call, LISTED["torch.xpu.synchronize"]["parameters"])


def shape(function):
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(function).parameters.values()
    return [stars.get(p.kind, "") + p.name for p in parameters if p.name not in ("self", "cls")]


@pytest.mark.parametrize("name", [name for name in LISTED if name.startswith("torch.xpu.")])
def test_the_installed_torch_has_it_with_these_parameters_there(name):
    import torch.xpu

    entry, function = LISTED[name], getattr(torch.xpu, name.rpartition(".")[2])
    assert shape(function) == entry["parameters"]
    plain = inspect.unwrap(function)
    if torch.__version__.startswith(entry["tag"].removeprefix("v")):
        lines, first = inspect.getsourcelines(plain)
        first += next(number for number, line in enumerate(lines) if line.startswith("def "))
        assert inspect.getsourcefile(plain).endswith(entry["file"])
        assert first == entry["line"]


def test_the_installed_torch_has_these_properties():
    import torch

    stubs = (Path(torch.__file__).parent / "_C/__init__.pyi").read_text()
    block = re.search(r"class _XpuDeviceProperties:\n((?: {4}.*\n)+)", stubs)[1]
    assert {*LIST["properties"]["names"]} <= {*re.findall(r"^ {4}(\w+):", block, re.MULTILINE)}


INSTALLED = [name for name in LISTED if not name.startswith("torch.xpu.") and LISTED[name]["file"].endswith(".py")]


@pytest.mark.parametrize("name", INSTALLED)
def test_the_installed_package_has_these_parameters(name):
    """Read, not imported: IPEX would patch model classes. Its CPU build's optimiser takes what the GPU build's does."""
    package, _, rest = LISTED[name]["file"].partition("/")
    source = Path(importlib.util.find_spec(package).submodule_search_locations[0], rest).read_text()
    last = name.rpartition(".")[2]
    nodes = [node for node in ast.walk(ast.parse(source)) if getattr(node, "name", None) == last]
    inside = [node for each in nodes if isinstance(each, ast.ClassDef) for node in each.body]
    nodes = [node for node in inside if getattr(node, "name", "") == "__init__"] or nodes
    assert LISTED[name]["parameters"] in [written(node.args) for node in nodes if isinstance(node, ast.FunctionDef)]


def written(arguments):
    """Parameters of an ast.arguments as upstream.toml lists them."""
    names = [argument.arg for argument in arguments.args if argument.arg not in ("self", "cls")]
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    return names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])
