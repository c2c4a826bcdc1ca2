"""Checkpoints of other tools: what is written means what was quantised, and a line says where a model does not."""

import dataclasses
import types

import numpy as np
import pytest

from fixtures.checks.int4_checkpoints import check_checkpoints
from fixtures.checks.tolerances import tolerances
from fixtures.io.parties import SUITE
from fixtures.measure.int4_checkpoints import KINDS
from fixtures.weights.int4_format import read_gptq, round_to_nearest, unpack, write_awq, write_gptq

OUT, WIDTH, GROUP = 16, 128, 64
RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(OUT, WIDTH)).astype(np.float32)
ORDER = RNG.permutation(WIDTH)
X = RNG.normal(size=(2, WIDTH)).astype(np.float32)


def quantised(scheme="asymmetric", order=None):
    found = round_to_nearest(WEIGHT if order is None else WEIGHT[:, order], GROUP, scheme)
    return dataclasses.replace(found, order=order, scales=found.scales.astype(np.float16).astype(np.float32))


@pytest.mark.parametrize("order", [None, ORDER])
def test_weights_come_in_the_order_of_the_inputs(order):
    assert np.abs(quantised(order=order).weights() - WEIGHT).max() < quantised(order=order).scales.max()


def test_a_gptq_file_with_an_order_names_the_group_of_each_input():
    found = quantised(order=ORDER)
    tables = write_gptq(found)
    read = read_gptq(tables["qweight"], tables["qzeros"], tables["scales"], GROUP)
    each = np.arange(WIDTH)
    groups = tables["g_idx"]
    weights = (read.integers - read.zeros[:, groups]) * tables["scales"].T[:, groups].astype(np.float64)
    assert (weights == found.weights()).all()
    assert (groups[ORDER] == each // GROUP).all()


def test_a_gptq_file_without_an_order_is_as_it_was():
    assert {*write_gptq(quantised())} == {"qweight", "qzeros", "scales"}


def test_an_awq_file_holds_outputs_in_the_order_of_its_words():
    """Nibble k of a word holds the output 0, 2, 4, 6, 1, 3, 5, 7 of its eight, and the zero itself."""
    found = quantised()
    tables = write_awq(found)
    assert tables["qweight"].shape == (WIDTH, OUT // 8)
    assert tables["qzeros"].shape == (WIDTH // GROUP, OUT // 8)
    for table, meant in ((tables["qweight"], found.integers.T), (tables["qzeros"], found.zeros.T)):
        nibbles = unpack(table, 1).reshape(len(table), -1, 8)
        for place, output in enumerate((0, 2, 4, 6, 1, 3, 5, 7)):
            assert (nibbles[:, :, place] == meant.reshape(len(table), -1, 8)[:, :, output]).all()


def checkpoint(**more):
    """One checkpoint of one linear, as it is measured on a sound stack, changed by `more`."""
    meant = quantised()
    sound = {
        "name": "awq",
        "meant": {"a": meant},
        "found": ["a"],
        "zeros": {"a": meant.zeros},
        "outputs": {"a:x2": X, "a:y2": X @ meant.weights().T},
        "error": None,
    }
    return types.SimpleNamespace(**{**sound, **more})


ONE_ZERO = X @ dataclasses.replace(quantised(), zeros=np.full_like(quantised().zeros, 8)).weights().T
OTHER_ORDER = X @ quantised(order=ORDER).weights().T


@pytest.mark.parametrize(("more", "verdict", "words"), [
    ({}, "PASS", "1 INT4 linears for 1"),
    ({"found": []}, "NOT_OPTIMISED", "0 INT4 linears for 1"),
    ({"found": ["a", "b"]}, "NOT_OPTIMISED", "2 INT4 linears for 1"),
    ({"outputs": {}}, "NOT_OPTIMISED", "do not cover"),
    (
        {"zeros": {"a": np.full((OUT, 2), 8)}, "outputs": {"a:x2": X, "a:y2": ONE_ZERO}},
        "FAIL",
        "zeros in memory are not the file's",
    ),
    ({"outputs": {"a:x2": X, "a:y2": OTHER_ORDER}}, "FAIL", "relative output error"),
    ({"outputs": {"a:x2": X, "a:y2": X @ quantised().weights().T * np.nan}}, "FAIL", "nan"),
    ({"error": ImportError("cannot import name")}, "FAIL", "raised cannot import name"),
])  # fmt: skip
def test_a_checkpoint_has_to_cover_the_model_and_mean_what_it_says(more, verdict, words):
    [line] = check_checkpoints([checkpoint(**more)], tolerances())
    assert (line.check, line.verdict) == ("awq", verdict)
    assert words in line.measured


def test_no_checkpoint_is_no_pass():
    [line] = check_checkpoints([], tolerances())
    assert (line.verdict, line.party) == ("FAIL", SUITE)


def test_every_checkpoint_has_a_check():
    from fixtures.contract.suites import questions

    assert {"runs", "memory", *KINDS} == {*questions()["int4_checkpoints"].checks}
