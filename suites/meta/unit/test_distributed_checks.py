"""Checks of sharded cells on made-up measurements: what each check catches, and what it lets through."""

import collections
import types

import numpy as np
import pytest

from fixtures.checks import distributed, proof
from fixtures.checks.generation import parameter_bytes
from fixtures.checks.tolerances import tolerances
from fixtures.engine.collectives import Meter
from fixtures.matrix import load_matrix

ARCH = next(model.arch for model in load_matrix().models if model.id == "llama-2-7b")
GEOMETRY = types.SimpleNamespace(hidden=256, layers=2, vocabulary=1000)
PREDICTED = distributed.predicted_talk(ARCH, GEOMETRY, "bfloat16")


def step(*sizes, seconds=0.01):
    return {"calls": [[size, 0.001] for size in sizes], "seconds": seconds}


PREFILL = step(*[512 * 32] * 4, 2000 * 32)
DECODE = step(*[512] * 4, 2000)


def test_two_sums_a_layer_and_one_for_the_head_are_predicted():
    assert collections.Counter({512: 4, 2000: 1}) == PREDICTED


@pytest.mark.parametrize(
    ("planned", "calls"),
    [
        ([], {512: 4}),  # transformers 4.51.3 leaves the head whole
        (["embed_tokens", "lm_head"], {512: 5}),  # the parts of logits are joined, those of embeddings are added up
    ],
)
def test_by_a_plan_no_logits_are_added_up(planned, calls):
    assert distributed.predicted_talk(ARCH, GEOMETRY, "bfloat16", planned) == calls


@pytest.mark.parametrize(("planned", "tied", "split"), [
    ([], False, 1000), (["lm_head"], False, 5000), (["embed_tokens", "lm_head"], False, 9000),
    (["embed_tokens", "lm_head"], True, 5000),
])  # fmt: skip
def test_a_plan_says_which_tables_are_split(planned, tied, split):
    geometry = types.SimpleNamespace(hidden=10, vocabulary=100, tied_embeddings=tied)
    stock = {"dtype": "float32", "parameter_bytes": 20000, "layer_linear_bytes": 1000}
    cell = types.SimpleNamespace(model=types.SimpleNamespace(arch=ARCH))
    measured = types.SimpleNamespace(cell=cell, geometry=geometry, stock_proof=stock, proofs=[{"planned": planned}])
    assert parameter_bytes(measured, "float32") == (20000, split)


@pytest.mark.parametrize(("steps", "verdict"), [
    ([[PREFILL, DECODE], [PREFILL, DECODE]], "PASS"),
    ([[PREFILL, DECODE], [PREFILL, step(*[512] * 3, 2000)]], "FAIL"),  # one skipped
    ([[PREFILL, step(*[512] * 4, 2000, 512)], [PREFILL, DECODE]], "FAIL"),  # one too many
    ([[PREFILL, step(*[1024] * 4, 2000)], [PREFILL, DECODE]], "FAIL"),  # twice the bytes
    ([[step(*[512] * 4), DECODE], [PREFILL, DECODE]], "FAIL"),  # none for the head of the prefill
    ([[step(), step()], [step(), step()]], "FAIL"),  # full copies talk to nobody
    ([], "FAIL"),
])  # fmt: skip
def test_every_step_of_every_rank_talks_as_predicted(steps, verdict):
    assert distributed.talked(steps, PREDICTED).verdict == verdict


def test_the_share_of_talk_is_the_slowest_ranks_and_of_decode_steps():
    quick, slow = step(*[512] * 4, 2000, seconds=0.05), step(*[512] * 4, 2000, seconds=0.01)
    assert distributed.talk_share([[PREFILL, quick], [PREFILL, slow]]) == pytest.approx(0.5)


def test_one_rank_alone_agrees_with_nobody():
    assert distributed.agreed(["a", "a"], "tokens").verdict == "PASS"
    assert distributed.agreed(["a", "b"], "tokens").verdict == "FAIL"
    assert distributed.agreed(["a"], "tokens").verdict == "FAIL"


def shard(rows=128, columns=256, name="model.layers.0.self_attn.q_proj", whole=(256, 256)):
    return {"shards": {name: [["Linear", *whole], ["LinearLayer", rows, columns]]}}


@pytest.mark.parametrize(("proofs", "verdict"), [
    ([shard()] * 2, "PASS"),
    ([shard(), shard(256)], "NOT_OPTIMISED"),  # rank 1 has a full copy
    ([shard(256, 128)] * 2, "NOT_OPTIMISED"),  # split the other way
    ([shard(256, 128, "model.layers.0.self_attn.o_proj")] * 2, "PASS"),
    ([shard(500, 256, "model.embed_tokens", (1000, 256))] * 2, "NOT_OPTIMISED"),  # what must be whole is split
    ([shard()], "NOT_OPTIMISED"),
    ([{"shards": {}}] * 2, "NOT_OPTIMISED"),
])  # fmt: skip
def test_slices_are_those_of_the_architecture(proofs, verdict):
    assert proof.split_as_predicted(proofs, ARCH.linears, ARCH.row_parallel).verdict == verdict


RANDOM = np.random.default_rng(0)
ALONE = RANDOM.standard_normal((4, 9, 50))
NOISE = np.full(4, 0.01)


@pytest.mark.parametrize(("error", "verdict"), [(0.0, "PASS"), (0.01, "PASS"), (0.013, "FAIL"), (np.nan, "FAIL")])
def test_sharded_logits_stay_within_one_rounding_of_one_rank(error, verdict):
    off = ALONE + error * np.linalg.norm(ALONE) / np.sqrt(ALONE.size) * RANDOM.standard_normal(ALONE.shape)
    lines = distributed.equal_to_one(off, ALONE, NOISE, {"logits": [0, 1, 2, 3]}, tolerances()["tp"])
    assert [line.verdict for line in lines] == [verdict]


def launched(logits, forked, reference_logits=None):
    return types.SimpleNamespace(logits=logits, forked=forked, reference_logits=reference_logits)


def test_a_launched_group_has_the_same_bits_on_a_host_and_the_same_rounding_elsewhere():
    nudged = ALONE * (1 + 1e-6)
    reference_logits = types.SimpleNamespace(stock=ALONE * 1.001, against=ALONE)
    assert distributed.as_forked(launched(ALONE, ALONE.copy()), 1.2).verdict == "PASS"
    assert distributed.as_forked(launched(nudged, ALONE), 1.2).verdict == "FAIL"
    assert distributed.as_forked(launched(nudged, ALONE, reference_logits), 1.2).verdict == "PASS"
    assert distributed.as_forked(launched(ALONE * 1.002, ALONE, reference_logits), 1.2).verdict == "FAIL"


def test_an_all_reduce_within_another_counts_once(monkeypatch):
    import torch

    monkeypatch.setattr("fixtures.engine.collectives.DOORS", ((__name__, "outer"), (__name__, "inner")))
    meter = Meter(lambda: None)
    with meter.watching():
        outer(torch.zeros(4))
        inner(torch.zeros(3))
    outer(torch.zeros(2))
    assert [size for size, _ in meter.calls] == [16, 12]


def outer(tensor):
    return inner(tensor)


def inner(tensor):
    return tensor


@pytest.mark.parametrize(("name", "size", "kv_heads", "parts"), [
    ("model.layers.0.self_attn.q_proj", 576, 3, [(2, 3), (1, 3)]),  # whole groups of heads
    ("model.layers.0.self_attn.q_proj", 512, 4, [(1, 2), (1, 2)]),
    ("model.layers.0.mlp.up_proj", 1536, 3, [(1, 2), (1, 2)]),
    ("lm_head", 576, 3, [(5, 9), (4, 9)]),  # grains of 64
    ("embed_out", 576, 3, [(5, 9), (4, 9)]),
    ("lm_head", 576, None, [(1, 2), (1, 2)]),  # by a plan
])  # fmt: skip
def test_what_does_not_divide_by_the_ranks_is_split_by_heads_or_grains(name, size, kv_heads, parts):
    assert [proof.portion(name, rank, 2, kv_heads, size) for rank in range(2)] == parts
