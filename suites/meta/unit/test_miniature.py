"""A miniature keeps what kernels, INT4 groups and ranks depend on, of odd geometries, too."""

import dataclasses
import sys
import types

import pytest

from fixtures.checks.distributed import untried
from fixtures.matrix import load_matrix
from fixtures.plugin import collection
from fixtures.plugin.collection import why_not_split
from fixtures.plugin.selection import Selection
from fixtures.report.summary import untried_ranks
from fixtures.weights.miniature import GROUPS, shrink

MATRIX = load_matrix()
LLAMA, OPT, BLOOM = (MATRIX.model(row) for row in ("llama-2-7b", "opt-6.7b", "bloom"))
OPEN_LLAMA_3B = dict(hidden=3200, intermediate=8640, head_dim=100, rotary_dims=100)


def row(model, **geometry):
    return dataclasses.replace(model, geometry=dataclasses.replace(model.geometry, **geometry))


ROWS = {model.id: model for model in MATRIX.models} | {
    "OpenLLaMA 3B": row(LLAMA, **OPEN_LLAMA_3B),
    "heads of 80": row(OPT, hidden=2560, intermediate=10240, head_dim=80),
    "no group fits": row(LLAMA, hidden=2600, intermediate=6936, heads=26, kv_heads=26, head_dim=100, rotary_dims=100),
    "odd heads": row(LLAMA, hidden=576, intermediate=1536, heads=9, kv_heads=3, head_dim=64, rotary_dims=64),
    "one KV head": row(LLAMA, kv_heads=1),
}


@pytest.mark.parametrize("ranks", [2, 4, 8])
@pytest.mark.parametrize("name", ROWS)
def test_groups_and_ranks_divide_a_miniature_as_they_divide_its_row(name, ranks):
    model, free = ROWS[name], "head_dim" in dict(ROWS[name].arch.config)
    small, mine = shrink(model.geometry, free, ranks), model.geometry
    for divisor in GROUPS:
        for width in (lambda g: g.heads * g.head_dim, lambda g: g.hidden, lambda g: g.intermediate):
            assert (width(small) % divisor == 0) == (width(mine) % divisor == 0), divisor
    for count in (lambda g: g.heads, lambda g: g.kv_heads, lambda g: g.intermediate):
        assert (count(small) % ranks == 0) == (count(mine) % ranks == 0)
    assert (small.kv_heads < ranks) == (mine.kv_heads < ranks)
    assert small.group == mine.group
    assert (small.head_dim, small.rotary_dims) == (mine.head_dim, mine.rotary_dims)


def test_the_slopes_of_alibi_keep_their_kind():
    for model in (BLOOM, MATRIX.model("bloom-7b1")):
        small = shrink(model.geometry, False)
        assert (small.heads & (small.heads - 1) == 0) == (model.geometry.heads & (model.geometry.heads - 1) == 0)


def test_a_model_with_fewer_kv_heads_than_ranks_is_not_split_by_ipex_on_a_host():
    reason = "IPEX gives each rank a whole KV head, and llama-2-7b has 1 for 2 ranks"
    assert why_not_split(row(LLAMA, kv_heads=1), "cpu") == reason
    assert why_not_split(LLAMA, "cpu") is None
    assert why_not_split(row(LLAMA, kv_heads=1), "cuda") is None


@pytest.mark.parametrize(("kv_heads", "platform", "mode", "reason"), [
    (1, "cpu", "autotp", "IPEX gives each rank a whole KV head, and llama-2-7b has 1 for 2 ranks"),
    (2, "cpu", "autotp", None),
    (1, "cpu", "single", None),
    (1, "max1100", "autotp", None),
])  # fmt: skip
def test_fewer_kv_heads_than_ranks_are_unsupported_in_a_run(monkeypatch, kv_heads, platform, mode, reason):
    able = frozenset().union(*dict(MATRIX.platform("cpu").needs).values())
    monkeypatch.setattr(collection, "cpu_flags", lambda: able)  # whatever this machine computes
    selection = Selection(types.SimpleNamespace(getoption=lambda name: sys.executable), MATRIX, ())
    cells = [cell for cell in MATRIX.cells([platform]) if (cell.model.id, cell.mode) == (LLAMA.id, mode)]
    assert cells
    for cell in cells:
        split = dataclasses.replace(cell, model=row(LLAMA, kv_heads=kv_heads))
        assert selection.why_unsupported(split) == reason


def test_recommended_ranks_that_a_host_does_not_try_are_said():
    (line,) = untried(BLOOM, 2)
    assert (line.verdict, line.measured) == ("PASS", "2 ranks were tried; bloom recommends 8, which were not tried")
    assert untried(BLOOM, 8) == untried(LLAMA, 2) == []
    cells = [cell for cell in MATRIX.cells(["cpu", "cuda"]) if cell.model.id in ("bloom", "llama-2-70b", "llama-2-7b")]
    said = "4 ranks of llama-2-70b, 8 ranks of bloom, as their rows recommend; this run took 2"
    assert untried_ranks(cells) == [said]
    assert untried_ranks([types.SimpleNamespace(model=BLOOM, platform=MATRIX.platform("cpu"), sharded=False)]) == []
