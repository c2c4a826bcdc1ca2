"""What a timing says of how its two models were run."""

import types

import pytest

from fixtures.checks.latency import cache_of_stock, check_latency, metrics_of
from fixtures.checks.tolerances import tolerances
from fixtures.matrix import load_matrix
from suites.meta.harness import bundles


@pytest.mark.parametrize(("device_type", "mine", "stock", "lines"), [
    ("xpu", True, True, 0),
    ("xpu", True, False, 1),
    ("cuda", True, False, 0),  # both are timed with the dynamic cache
    ("cpu", True, False, 0),
])  # fmt: skip
def test_stock_timed_with_another_cache_is_said(device_type, mine, stock, lines):
    platform = types.SimpleNamespace(device_type=device_type)
    measured = types.SimpleNamespace(
        cell=types.SimpleNamespace(platform=platform),
        proofs=[{"static_cache": mine}],
        stock_proof={"static_cache": stock},
    )
    assert len(cache_of_stock(measured)) == lines
    assert all("dynamic cache" in line.measured for line in cache_of_stock(measured))


@pytest.mark.parametrize(("engine", "graphs", "verdicts"), [
    ("compile", 1, ["PASS"]),
    ("compile", 0, ["NOT_OPTIMISED"]),
    ("eager", 0, []),
])  # fmt: skip
def test_a_timed_cell_of_an_engine_that_compiles_is_held_to_it(engine, graphs, verdicts):
    cells = load_matrix().every_cell()
    cell = next(c for c in cells if (c.platform.name, c.engine.name, c.mode) == ("cpu", engine, "single"))
    measured = bundles.latency(cell)
    measured.graphs = graphs
    lines = check_latency(measured, metrics_of(measured), False, None, tolerances())
    assert [line.verdict for line in lines if line.check == "compiled"] == verdicts
