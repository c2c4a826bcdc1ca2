"""Engines as an axis of the matrix: ids, selection, interpreters, the noise of stock engines, and lines of a move."""

import dataclasses
import math
import sys
import types

import pytest

from fixtures.checks import proof
from fixtures.checks.move import operations, summary
from fixtures.checks.verdicts import Line
from fixtures.compare.move import Move, Origin, combination
from fixtures.contract.suites import check_limits, contract, questions
from fixtures.engine.stack_modules import STOCK, modules_for
from fixtures.matrix import MatrixError, load_matrix
from fixtures.matrix.precisions import noise_of, parent_precision
from fixtures.matrix.schema import IPEX
from fixtures.measure.generation import kept_rows
from fixtures.measure.latency import grid_for
from fixtures.measure.settings import Settings
from fixtures.plugin import collection
from fixtures.report.summary import move_lines
from fixtures.results import Here, load_waivers
from fixtures.worker import fork_server

MATRIX = load_matrix()
CELLS = {cell.id: cell for cell in MATRIX.every_cell()}
IPEX_CELL, EAGER = CELLS["llama-2-7b-bf16-cpu-single"], CELLS["llama-2-7b-bf16-cpu-single-eager"]
COMPILE = CELLS["llama-2-7b-bf16-cpu-single-compile"]


def test_ids_of_the_specifications_engine_have_no_suffix_and_others_end_with_theirs():
    assert len(CELLS) == len(MATRIX.every_cell())
    for id, cell in CELLS.items():
        assert id.endswith(("-single", "-autotp") if cell.engine.optimiser else f"-{cell.engine.name}"), id
    assert CELLS["llama-2-7b-int4-b580-single-torchao-int4"].markers[-1] == "torchao"


def test_the_engine_of_the_built_in_default_is_that_of_the_data():
    shipped = MATRIX.engines["ipex"]
    assert dataclasses.replace(shipped, title="", source="") == IPEX


def test_by_default_each_platform_has_its_own_engine():
    assert {cell.engine.name for cell in MATRIX.cells(["cpu", "b580"])} == {"ipex"}
    assert {cell.engine.name for cell in MATRIX.cells(["cuda", "panther-lake"])} == {"eager"}


def test_every_engine_is_claimed_by_this_project_for_models_that_the_specifications_engine_has():
    for cell in MATRIX.every_cell():
        if not cell.engine.optimiser:
            assert all("project's own claim" in source for source in cell.sources), cell.id
            twin = [c for c in MATRIX.cells([cell.platform.name], ["ipex"]) if combination(c) == combination(cell)]
            assert twin or cell.platform.engines[0] != "ipex" or cell.mode == "tpplan", cell.id


def test_what_is_not_installed_is_no_default_and_a_reason():
    cpu = MATRIX.platform("cpu")
    assert collection.usual_engine(cpu, MATRIX, {"torch": "2.8.0", IPEX.package: "2.8.0"}) == "ipex"
    assert collection.usual_engine(cpu, MATRIX, {"torch": "2.15.0"}) == "eager"
    assert collection.usual_engine(cpu, MATRIX, {}) == "ipex"
    cell = CELLS["llama-2-7b-int4-cpu-single-torchao-int4"]
    why = collection.why_no_engine(cell, {"torch": "2.8.0"}, "/a/python", MATRIX.limits)
    assert why == "torchao-int4 needs torchao, which /a/python does not have"
    assert collection.why_no_engine(EAGER, {"torch": "2.8.0"}, "/a/python", MATRIX.limits) is None


def test_a_model_that_an_engine_cannot_run_has_a_reason():
    cell = CELLS["baichuan2-13b-bf16-cpu-single-compile"]
    assert "no static cache" in collection.why_no_engine(cell, {"torch": "2.8.0"}, "python", MATRIX.limits)
    other = CELLS["baichuan2-13b-bf16-cpu-single-eager"]
    assert collection.why_no_engine(other, {"torch": "2.8.0"}, "python", MATRIX.limits) is None


def test_a_class_without_a_plan_is_sharded_by_none():
    opt, gptj = (CELLS[f"{name}-fp32-cpu-tpplan-eager"] for name in ("opt-6.7b", "gpt-j-6b"))
    old, new = ({"torch": "2.8.0", "transformers": release} for release in ("4.51.3", "5.24.0"))
    reasons = [
        collection.why_no_engine(cell, stack, "python", MATRIX.limits) for cell in (opt, gptj) for stack in (old, new)
    ]
    assert ["no tensor parallel plan" in (reason or "") for reason in reasons] == [True, True, True, False]
    single = CELLS["opt-6.7b-fp32-cpu-single-eager"]
    assert collection.why_no_engine(single, old, "python", MATRIX.limits) is None


@pytest.mark.parametrize(
    ("cell", "suite", "torchao", "limited"),
    [
        ("llama-2-7b-int4-cpu-single-torchao-int4", "int4_save", "0.18.0", True),
        ("llama-2-7b-int4-cpu-single-torchao-int4", "int4_reload", "0.18.0", True),
        ("llama-2-7b-int4-cpu-single-torchao-int4", "int4_reload", "0.19.0", False),  # what it can do is asked again
        ("llama-2-7b-int4-cpu-single-torchao-int4", "int4_run", "0.18.0", False),
        ("llama-2-7b-int4-cpu-single-torchao-int4", "", "0.18.0", False),
        ("llama-2-7b-int4-b580-single-torchao-int4", "int4_save", "0.18.0", False),
        ("llama-2-7b-int4-cpu-single", "int4_save", "0.18.0", False),
    ],
)
def test_a_limit_may_be_of_some_suites_on_a_type_of_device(cell, suite, torchao, limited):
    why = collection.why_no_engine(CELLS[cell], {"torchao": torchao}, "python", MATRIX.limits, suite)
    assert ("Int4OpaqueTensor" in (why or "")) == limited


def test_a_limit_of_an_unknown_suite_is_refused():
    check_limits(MATRIX.limits, "platforms.toml")
    limit = dataclasses.replace(MATRIX.limits[-1], suites=("int4_load",))
    with pytest.raises(MatrixError, match=r"number 1.*unknown suite 'int4_load'"):
        check_limits([limit], "platforms.toml")


def test_sixteen_bits_need_a_cpu_flag_for_the_optimiser_alone():
    assert IPEX_CELL.needs
    assert not EAGER.needs


@pytest.mark.parametrize(
    ("markexpr", "keyword", "args", "named"),
    [
        ("llama2 and bf16", "", [], []),
        ("eager and llama2", "", [], ["eager"]),
        ("torchao or compile", "", [], ["compile", "torchao-int4"]),
        ("tpplan and llama2", "", [], ["eager"]),  # of no other engine
        ("autotp", "", [], []),
        ("not tpplan", "", [], []),
        ("", "llama-2-7b-bf16-cpu-single-eager", [], ["eager"]),
        ("", "", ["suites/test_generation.py::test_generation[opt-6.7b-bf16-cpu-single-compile]"], ["compile"]),
        ("", "", ["suites/test_generation.py"], []),
    ],
)
def test_words_of_the_command_line_name_engines(markexpr, keyword, args, named):
    given = {"markexpr": markexpr, "keyword": keyword}
    config = types.SimpleNamespace(getoption=given.get, args=args)
    assert collection.named_engines(MATRIX, config) == named


def test_stock_engines_have_the_stock_interpreter_and_no_ipex():
    settings = Settings(python="/ipex/python", stock_python="/stock/python")
    assert settings.python_of(IPEX_CELL.engine) == "/ipex/python"
    assert settings.python_of(EAGER.engine) == "/stock/python"
    assert Settings(python="/ipex/python").python_of(EAGER.engine) == "/ipex/python"
    for device_type in ("cpu", "xpu", "cuda"):
        modules = modules_for(device_type, "optimised", "bf16", "single", engine=EAGER.engine)
        assert modules == modules_for(device_type, "stock")
        assert ("!torchao" in modules) == (device_type != "cpu")
    more = modules_for("cpu", "optimised", "int4", "single", engine=MATRIX.engines["torchao-int4"])
    assert more[-1] == "torchao"
    assert set(STOCK) < set(more)


@pytest.mark.parametrize("device_type", ["cuda", "xpu"])
def test_torchao_which_asks_for_a_device_when_imported_is_imported_after_the_fork(device_type):
    modules = modules_for(device_type, "optimised", "int4", "single", engine=MATRIX.engines["torchao-int4"])
    before = [entry for entry in modules if not entry.startswith(("+", "!"))]
    assert before == ["torch", "@fixtures.engine.service"]
    late = [entry.removeprefix("+") for entry in modules if entry.startswith("+")]
    assert late[:2] == ["!intel_extension_for_pytorch", "!deepspeed"]
    assert late[2:] == [*STOCK[1:-1], "torchao"]


@pytest.mark.parametrize(("cell", "precision"), [
    ("llama-2-7b-int4-cpu-single", "fp32"), ("llama-2-7b-int4-cpu-single-torchao-int4", "bf16"),
    ("llama-2-7b-int4-cuda-single-torchao-int4", "bf16"), ("llama-2-7b-int4-b580-single-torchao-int4", "fp16"),
    ("llama-2-7b-int4-max1550-single", "fp16"),
])  # fmt: skip
def test_int4_is_timed_against_its_parent_in_the_type_it_computes_in(cell, precision):
    assert parent_precision(CELLS[cell]) == precision


def test_a_worker_keeps_out_what_its_fork_server_names_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "kept_out_of_the_fork_server", None)
    monkeypatch.setitem(sys.modules, "kept_out_of_both", None)
    fork_server._load_late(["!kept_out_of_both", "json"])
    assert "kept_out_of_the_fork_server" not in sys.modules
    assert sys.modules["kept_out_of_both"] is None


def test_a_stock_candidate_is_measured_in_the_noise_of_plain_arithmetic():
    assert noise_of(IPEX_CELL) == "bf16"
    assert noise_of(EAGER) == noise_of(COMPILE) == "bf16 plain"


def test_stock_engines_have_to_show_stock_classes():
    assert EAGER.expected_classes() == ("LlamaDecoderLayer",)
    assert IPEX_CELL.expected_classes() == ("_IPEXDecoderLayerCPU",)


def test_suites_about_ipex_and_neural_compressor_are_not_claimed_for_other_engines():
    claimed = contract(MATRIX.every_cell(), lambda cell: True).values()
    suites = {name: {q.suite for q, cell in claimed if cell.engine.name == name} for name in MATRIX.engines}
    assert suites["eager"] >= {"generation", "generate", "dispatch", "latency", "accuracy"}
    assert suites["compile"] == {"generation", "latency"}
    of_int4 = {"int4_run", "int4_save", "int4_reload", "int4_native", "int4_checkpoints"}
    assert suites["torchao-int4"] & of_int4 == {"int4_run", "int4_save", "int4_reload"}
    assert questions()["move"].gate is False


WAIVER = """schema = 1
[[waivers]]
id = "one"
suite = "generation"
cells = "llama-2-7b-*"
check = "logits"
at_most = 2
reason = "r"
evidence = "e"
owner = "o"
until = 2999-01-01
"""


@pytest.mark.parametrize(
    ("more", "waived"),
    [
        ("", {IPEX_CELL.id}),
        ('engines = ["eager"]\n', {EAGER.id}),
        ('engines = ["ipex", "eager"]\n', {IPEX_CELL.id, EAGER.id}),
    ],
)
def test_a_waiver_is_for_the_specifications_engine_unless_it_names_others(tmp_path, more, waived):
    path = tmp_path / "waivers.toml"
    path.write_text(WAIVER + more)
    here = Here(platforms=("cpu",), engines=("eager", "compile"))
    waivers = load_waivers(path, here=here)
    today = waivers.all[0].until
    found = {id for id in (IPEX_CELL.id, EAGER.id, COMPILE.id) if waivers.matching("generation", id, "logits", today)}
    assert found == waived


@pytest.mark.parametrize(
    ("graphs", "again", "verdicts"),
    [
        (3, 0, ("PASS", "PASS")),
        (0, 0, ("NOT_OPTIMISED", "PASS")),  # it ran without compiling, in silence
        (3, 1, ("PASS", "FAIL")),
        (40, 32, ("FAIL", "FAIL")),  # a graph a step
    ],
)
def test_compiling_has_to_happen_and_to_end(graphs, again, verdicts):
    found = {"graphs": graphs, "again": again, "compile_seconds": 12.0, "seconds": 0.5}
    assert tuple(line.verdict for line in proof.compiled(found, 8)) == verdicts


def test_no_waiver_excuses_a_cell_that_compiled_nothing():
    found = {"graphs": 0, "again": 0, "compile_seconds": 0.0, "seconds": 0.5}
    assert proof.compiled(found, 3)[0].value == math.inf


@pytest.mark.parametrize(("graphs", "verdict", "hint"), [(1, "PASS", False), (0, "NOT_OPTIMISED", True)])
def test_what_is_timed_of_a_compiled_cell_is_compiled(graphs, verdict, hint):
    line = proof.timed_compiled(graphs)
    assert (line.verdict, "--num-beams 1" in line.measured) == (verdict, hint)


def test_a_compiled_cell_is_timed_with_one_beam():
    found = {cell.engine.name: grid_for(cell, environment={}).beam for cell in CELLS.values()}
    assert found == {"ipex": 4, "eager": 4, "torchao-int4": 4, "compile": 1}


def test_both_engines_of_a_move_are_timed_with_one_beam_where_one_compiles():
    assert grid_for(EAGER, environment={}, compiled=True).beam == 1
    assert grid_for(COMPILE, environment={}, compiled=False).beam == 4


def test_a_compiled_cell_runs_single_prompts_alone():
    runs = [{"prompts": [[1]]}, {"prompts": [[1], [2]]}, {"prompts": [[1]]}]
    assert kept_rows(COMPILE, runs) == [0, 3]
    assert kept_rows(EAGER, runs) == [0, 1, 2, 3]


def trace(*names):
    return {"steps": {"decode 1": {"operations": [[f"{name} f32[1,L]", ""] for name in names]}}}


def test_a_move_names_what_a_step_has_more_of():
    text = operations(trace("mm", "clone", "clone", "add"), trace("mm", "fused"), "ipex")
    assert text == "4 operations a decode step, 2 by ipex; more: 2 x clone, 1 x add; less: 1 x fused"


def test_the_line_of_a_cell_says_what_fails():
    lines = [Line("move_logits", "FAIL", "1.9 of stock's error"), Line("move_decode", "INCONCLUSIVE", "+1 %")]
    assert summary(lines).measured == (
        "fails by move_logits; logits (FAIL): 1.9 of stock's error; decode (INCONCLUSIVE): +1 %"
    )


@pytest.mark.parametrize(
    ("verdicts", "last"),
    [
        (["PASS", "PASS"], "safe to move from ipex to eager: 2 of 2 cells hold"),
        (
            ["PASS", "UNSUPPORTED"],
            "safe to move from ipex to eager where it runs: 1 cells hold, 1 are unsupported there",
        ),
        (["PASS", "FAIL"], "not yet from ipex to eager, because 1 FAIL beside 1 that hold"),
        (["INCONCLUSIVE"], "not yet from ipex to eager, because 1 INCONCLUSIVE"),
        (["UNSUPPORTED"], "not yet from ipex to eager, because 1 UNSUPPORTED"),
        ([], "not yet from ipex to eager, because nothing was measured"),
    ],
)
def test_only_what_was_shown_makes_a_move_safe(verdicts, last):
    named = {f"suites/test_move.py::test_move[cell-{place}]": verdict for place, verdict in enumerate(verdicts)}
    found = [*move_lines({}, named, Move(MATRIX.engines["ipex"], MATRIX.engines["eager"]))]
    assert found[-1] == last
    assert len(found) == len(verdicts) + 1


def test_the_engine_that_is_left_stands_for_the_other_stack():
    origin = Origin(Settings(), MATRIX.engines["ipex"], MATRIX.cells(["cpu"], ["ipex"]))
    assert origin.cell_of(EAGER) == IPEX_CELL
    assert origin.modules(EAGER) == modules_for("cpu", "optimised", "bf16", "single")
