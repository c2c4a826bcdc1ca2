"""Every suite on one model of each family on the software XPU: the verdicts that matrix, waivers and memory predict.

The machine is a stand-in, the weights are miniatures: see suites/meta/runs/test_on_software_xpu.py.
"""

import datetime
import json
import re

import pytest

from fixtures.contract.suites import checks_of, questions
from fixtures.matrix import load_matrix, memory
from fixtures.matrix.memory import GIB, Sizes
from fixtures.measure import placement
from fixtures.measure.latency import grid_for
from fixtures.measure.runtime import Runtime
from fixtures.measure.settings import Settings
from fixtures.measure.weight_sources import what_is_built, why_no_weights
from fixtures.results import load_waivers
from suites.meta.harness.inner import ROOT
from suites.meta.harness.on_software_xpu import B580, GRID, run_on, trained_matrix, verdicts
from suites.meta.harness.software_xpu import MAX_1550

pytestmark = pytest.mark.nightly

MATRIX = load_matrix()
WAIVERS = load_waivers(ROOT / "baselines/waivers.toml", checks=checks_of())
PLATFORMS = {"max1550": (MAX_1550, 64 * GIB), "b580": (B580, 12 * GIB)}
CELLS = [cell for cell in MATRIX.cells([*PLATFORMS]) if cell.model.representative]
TODAY = datetime.date.today()


def gated_suites_of(cell):
    """(suite, cell id) of a cell that a qualification consists of, where its weights are not trained ones."""
    gated = (question for question in questions().values() if question.gate)
    return [(question.suite, cell.id) for question in gated if question.applies_to(cell, lambda _: False)]


def predicted(suite, cell, cards, weights="miniature"):
    """The verdict of a suite of a cell by the matrix, the waivers in force and the plan of the card's memory."""
    settings, device_type = Settings(weights=weights), cell.platform.device_type
    geometry, drawn = what_is_built(settings, cell.model, device_type)
    grid = grid_for(cell, environment={} if weights == "synthetic" else GRID)
    works = placement.works(suite, geometry, grid)
    sizes = Sizes(cell, works, geometry, placement.world(cell), drawn, 4, placement.works("generation", geometry))
    fits = not memory.plan(sizes, PLATFORMS[cell.platform.name][1], suite).unsupported
    if cards < placement.world(cell) or not fits or why_no_weights(settings, cell.model, device_type, cell.precision):
        return "UNSUPPORTED"
    if WAIVERS.expected(suite, cell.id, TODAY):
        return "WAIVED"
    return "NO_BASELINE" if suite == "dispatch" else "PASS"


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.id)
def test_every_suite_of_a_family_ends_as_predicted(tmp_path, cell):
    card, held = PLATFORMS[cell.platform.name]
    cards = (card,) * placement.world(cell)
    tests = {(suite, id): predicted(suite, cell, len(cards)) for suite, id in gated_suites_of(cell)}
    assert "UNSUPPORTED" not in tests.values()
    run, _ = run_on(tmp_path, tests, cards=cards, memory=held, platform=cell.platform.name, timeout=1800)
    found = verdicts(run, tests)
    if found.get(("depth", cell.id)) == "INCONCLUSIVE":
        found["depth", cell.id] = tests["depth", cell.id]  # others may keep the host busy
    assert found == tests, run.output


def test_every_family_of_the_table_is_among_them():
    families = {cell.model.family for cell in MATRIX.cells(["max1550"])}
    assert {cell.model.family for cell in CELLS if cell.platform.name == "max1550"} == families
    assert len(families) == 10


def test_twelve_gibibytes_have_no_room_for_a_timing_or_synthetic_int4_of_the_models_own_size(tmp_path):
    """Nothing is loaded: both reasons are known before."""
    cells = [cell for cell in CELLS if cell.platform.name == "b580"]
    tests = {("latency", cell.id): "UNSUPPORTED" for cell in cells if cell.precision == "fp16"}
    tests |= {test: "UNSUPPORTED" for cell in cells if cell.precision == "int4" for test in gated_suites_of(cell)}
    by_id = {cell.id: cell for cell in cells}
    assert {test: predicted(test[0], by_id[test[1]], 1, "synthetic") for test in tests} == tests
    machine = {"cards": (B580,), "memory": 12 * GIB, "platform": "b580"}
    run, _ = run_on(tmp_path, tests, weights="synthetic", grid=False, **machine)
    assert verdicts(run, tests) == tests, run.output
    for suite, id in tests:
        reason = run.tests[f"test_{suite}[{id}]"][2]
        assert re.search(r"needs \d+\.\d GiB, has 12\.0 GiB|synthetic weights have none", reason), reason


# -- weights that can be scored: the packaged model, and a GPT-J of random weights in the geometry of its miniature


@pytest.fixture(scope="module")
def packaged(tmp_path_factory):
    """Scores and INT4's quality of SmolLM2-135M, which another matrix claims for a Max 1550."""
    folder = tmp_path_factory.mktemp("packaged")
    tests = [("accuracy", "smollm2-135m-fp16-max1550-single"), ("int4_run", "smollm2-135m-int4-max1550-single")]
    run, _ = run_on(folder, tests, trained_matrix(folder), "--limit", "24", weights="auto", timeout=1800)
    return run, lines_of(folder / "run/journal.jsonl")


def lines_of(journal):
    """{suite: {check: verdict}} of a journal."""
    records = [json.loads(line) for line in journal.read_text().splitlines()]
    return {
        record["suite"]: {line["check"]: line["verdict"] for line in record["lines"]}
        for record in records
        if record["kind"] == "test"
    }


def test_a_trained_model_scores_as_stock_does(packaged):
    """Twenty-four documents bound no drop, which `resolution` says; every check that can fail was measured."""
    run, lines = packaged
    found = lines["accuracy"]
    assert run.verdict("test_accuracy[smollm2-135m-fp16-max1550-single]") == "INCONCLUSIVE", run.output
    assert {check for check, verdict in found.items() if verdict not in ("PASS", "NO_BASELINE")} == {"resolution"}
    assert {"score", "loglik", "loglik_spread", "plausible", "optimised"} <= {*found}


def test_four_bits_of_a_trained_model_are_judged_by_its_text(packaged):
    """The logits of every position, which IPEX gives only where LLM_ACC_TEST is set before its import."""
    run, lines = packaged
    assert run.verdict("test_int4_run[smollm2-135m-int4-max1550-single]") == "WAIVED", run.output
    found = lines["int4_run"]
    assert {found[check] for check in ("perplexity", "divergence", "arithmetic")} == {"PASS"}
    assert {check for check, verdict in found.items() if verdict != "PASS"} == {"scheme"}


def test_gptj_is_scored_one_document_at_a_time(tmp_path):
    """Random weights, so that only the way is shown; more rows at once end in an exception on such a device."""
    matrix, root = trained_matrix(tmp_path), tmp_path / "models"
    model = next(model for model in MATRIX.models if model.id == "gpt-j-6b")
    runtime = Runtime(Settings(weights="miniature"))
    try:
        root.mkdir()
        (root / "gpt-j-small").symlink_to(runtime.weights.of(model, "xpu").folder)
    finally:
        runtime.close()
    tests = [("accuracy", "gpt-j-small-fp16-max1550-single")]
    options = (matrix, "--model-root", str(root), "--limit", "16")
    run, _ = run_on(tmp_path, tests, *options, weights="pretrained", timeout=900)
    found = lines_of(tmp_path / "run/journal.jsonl")["accuracy"]
    assert found["runs"] == found["score"] == found["loglik"] == "PASS", run.output
    assert not {*found.values()} & {"FAIL", "NOT_OPTIMISED"}
