"""What a journal keeps of a measurement comes back exactly, and checks on it give the same lines, for every suite."""

import dataclasses
import json
import math
import types

import numpy as np
import pytest

from fixtures.checks.distributed import check_answers, check_launched
from fixtures.checks.encoding import Decoder, Encoder, LeftOut, NotReplayable
from fixtures.checks.evidence import lines_of, recording, replay
from fixtures.checks.generate import check_generate
from fixtures.checks.generation import check_generation
from fixtures.checks.int4 import check_run
from fixtures.checks.score_records import Scores
from fixtures.checks.scores import check_accuracy
from fixtures.checks.tolerances import tolerances
from fixtures.compare.policy import compared, known_by_rounds
from fixtures.compare.replicates import Replicate
from fixtures.io import bounded
from fixtures.measure.accuracy import Accuracy
from fixtures.measure.distributed import Answers, Launched
from fixtures.measure.generate import Calls
from fixtures.measure.int4 import Int4Run
from fixtures.measure.parameters import parameters
from fixtures.measure.reference import ReferenceLogits
from fixtures.results.accepted import Accepted
from fixtures.results.journal import as_kept
from fixtures.weights.int4_format import round_to_nearest
from fixtures.worker.termination import RecipeError, Termination, WorkerEnded
from suites.meta.harness import bundles
from suites.meta.unit.test_generate_checks import sound

CELLS = bundles.cells()
NAMES = ("fp32-cpu-single", "bf16-cpu-autotp", "int4-cpu-single")
CELL, SHARDED, INT4 = (CELLS[f"llama-2-7b-{name}"] for name in NAMES)


def through_a_journal(value):
    """JSON-ready `value` as a reader of the journal gets it."""
    return bounded.json_of(json.dumps(as_kept({"value": value}), allow_nan=False))["value"]


def again(value):
    encoder = Encoder()
    encoded = through_a_journal([encoder.encode(value), encoder.values])
    return Decoder(encoded[1], CELLS.__getitem__, {}).decode(encoded[0])


@pytest.mark.parametrize("value", [
    0.1 + 0.2, 5e-324, -0.0, 2**60, True, None, "text", math.inf, [1, [2.5]], (1, "a"), {"a": {"b": [1]}}, {1: 2.5},
    slice(2, None), {3, 1}, [{"a": 1, "b": "x"}] * 5, [{"a": n, "b": 1 / 3} for n in range(200)],
    CELL, CELL.model.geometry, Termination("OOM", "killed", ("last", "words"), 1),
])  # fmt: skip
def test_a_value_comes_back_the_same(value):
    found = again(value)
    assert found == value
    assert type(found) is type(value)
    assert math.copysign(1, found) == math.copysign(1, value) if isinstance(value, float) else True


@pytest.mark.parametrize("array", [
    np.array([0.1, 1 / 3, np.nan, np.inf, -0.0]), np.array([[0.1, 3e-45]], np.float32), np.arange(40).reshape(5, 8),
    np.array([True, False]), np.array([255, 0], np.uint8), np.float32(0.1), np.float64(1e-300), np.empty((0, 3)),
])  # fmt: skip
def test_an_array_comes_back_bit_by_bit(array):
    found = again(array)
    assert found.dtype == array.dtype
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()


def test_not_a_number_comes_back():
    assert math.isnan(again(math.nan))


def test_errors_come_back_with_their_message_and_whose_they_are():
    error = RecipeError("ValueError", "no such thing", party="checkpoint")
    assert (str(again(error)), again(error).party) == ("ValueError: no such thing", "checkpoint")
    ended = again(WorkerEnded(Termination("HANG", "no answer in 5 s")))
    assert isinstance(ended, WorkerEnded)
    assert ended.termination.verdict == "HANG"


def test_a_large_array_is_left_out_and_says_so_where_it_is_read():
    left = again(np.zeros((12, 33, 1000), np.float32))
    assert isinstance(left, LeftOut)
    assert (left.shape, left[[1, 2]].shape, left[3].shape, left[:, :5].shape) == (
        (12, 33, 1000), (2, 33, 1000), (33, 1000), (12, 5, 1000),
    )  # fmt: skip
    with pytest.raises(NotReplayable, match="was not recorded, and a check reads it"):
        np.mean(left)


@pytest.mark.parametrize("encoded", [
    {"~": "os.system", "x": 1}, {"~": "value", "at": 7}, {"~": "value", "at": -1}, {"~": "value", "at": "0"},
    {"~": "array", "dtype": "object", "shape": [1], "values": [1]}, {"~": "float", "value": "1"},
    {"~": "cell", "id": "x"},
    {"~": "array", "dtype": "int64", "shape": [2], "values": [1]}, {"~": "array", "dtype": "bool", "shape": [1],
    "values": "2"}, {"~": "Geometry", "layers": 1}, {"~": "Generation", "cell": None}, {"~": []}, {"~": "tuple"},
    {"~": "rows", "columns": [["a", [1]], ["b", [1, 2]]]}, {"~": "slice", "items": [1, 2, 3, 4]},
])  # fmt: skip
def test_nothing_else_than_what_is_written_is_read(encoded):
    with pytest.raises(NotReplayable, match="malformed value"):
        Decoder([{"~": "value", "at": 0}], CELLS.__getitem__, {}).decode(encoded)


# -- every suite's checks, on planted measurements ----


def calls():
    fields = vars(sound()) | {"cell": CELL, "geometry": CELL.model.geometry}
    noise = fields["reference_logits"]
    fields["reference_logits"] = ReferenceLogits(noise.against, **vars(noise))
    known = {field.name for field in dataclasses.fields(Calls)}
    return Calls(**{name: value for name, value in fields.items() if name in known})


def answers():
    planted = bundles.generation(CELL)
    groups = {"logits": [*range(6)], "static_cache": [*range(6, 12)]}
    held = dict(groups=groups, reference_logits=planted.reference_logits, logits=planted.logits)
    return Answers(SHARDED, True, CELL.model.geometry, **held, alone=planted.logits, digests=["a", "a"])


def launched():
    reported = [{"rank": rank, "world": 2, "variable": "RANK"} for rank in range(2)]
    exact = bundles.generation(CELL).logits
    return Launched(SHARDED, 2, reported=reported, logits=exact, forked=exact + 1e-9, digests=["a", "b"])


def quantised():
    weight = np.random.default_rng(1).normal(size=(64, 256)).astype(np.float32)
    made = round_to_nearest(weight, 64, "symmetric")
    tables = dict(integers=made.integers, scales=made.scales, zeros=made.zeros, group=np.array([64]), bias=np.empty(0))
    x = np.random.default_rng(2).normal(size=(2, 256)).astype(np.float32)
    outputs = {"a.q_proj:x2": x, "a.q_proj:y2": (x @ made.weights().T).astype(np.float32)}
    stored = {f"a.q_proj:{name}": array for name, array in tables.items()}
    proof = {"int4_linears": 14, "plain_linears": ["lm_head"], "dtype": "float32"}
    quality = [(np.eye(40, 300), np.eye(40, 300), np.eye(40, 300), np.arange(40))]
    held = dict(stored=stored, outputs=outputs, quality=quality, scale_dtype="fp32")
    return Int4Run(INT4, INT4.model.geometry, proof, parents={"a.q_proj.weight": weight}, **held)


def scores(right):
    records = [
        {"document": n, "digest": f"{n:016x}", "metrics": {"acc": float(value)}, "loglik": -1.0 - n / 7}
        for n, value in enumerate(right)
    ]
    return Scores("task", "1.0", "weights", "acc", len(records), float(np.mean(right)), 0.01, records)


def accuracy():
    half = np.arange(200) % 2 == 0
    fields = dict(origins={"task": "of a test"}, plausible={"task": (0.3, 0.9)}, packaged=True)
    return Accuracy(CELL, {"task": (scores(half), scores(half))}, **fields, stored={"task"})


def sets(rise):
    return [Replicate({"prefill": rise + n % 3 / 1000, "decode": 0.0}, n % 2 == 0) for n in range(12)]


def paired():
    ratios = {"paired_prefill": 1.0, "paired_decode": 1.0, "paired_sessions": 3.0}
    return Accepted(ratios, True, spreads={"paired_prefill": 0.002, "paired_decode": 0.002})


ACCEPTED = {"task": scores(np.arange(200) % 2 == 0)}
CASES = {
    "generation": lambda: check_generation(bundles.generation(CELL, 50.0), tolerances(), Accepted(None, True)),
    "an end": lambda: check_generation(
        dataclasses.replace(
            bundles.generation(CELL), logits=None, error=WorkerEnded(Termination("CRASHED", "SIGSEGV", ("x",)))
        ),
        tolerances(),
        Accepted({"noise_ratio": 1.0}, False),
    ),
    "generate": lambda: check_generate(calls(), tolerances()),
    "distributed": lambda: check_answers(answers(), tolerances()),
    "launched": lambda: check_launched(launched(), tolerances()),
    "int4": lambda: check_run(quantised(), parameters()["int4"], tolerances()),
    "accuracy": lambda: check_accuracy(accuracy(), tolerances(), ACCEPTED),
    "replicates": lambda: compared(lambda: sets(0.4), CELL, tolerances(), paired()),
    "another stack": lambda: compared(lambda: sets(0.0), CELL, tolerances()),
    "rounds": lambda: known_by_rounds(bundles.latency(CELL), paired(), tolerances()),
}


@pytest.mark.parametrize("case", CASES)
def test_the_checks_give_the_same_lines_on_what_was_recorded(case):
    with recording() as kept:
        output = CASES[case]()
    lines = lines_of(output)
    assert lines
    evidence = through_a_journal(kept.evidence(lines))
    found = replay(evidence, CELLS.__getitem__, tolerances())
    assert [dataclasses.astuple(line) for line in found.lines] == [dataclasses.astuple(line) for line in lines]
    assert not found.unused
    assert len(json.dumps(evidence)) < 100_000


def test_what_cannot_be_recorded_disturbs_no_run_and_is_named():
    measured = types.SimpleNamespace(**vars(bundles.generation(CELL)), groups_of=object())
    with recording() as kept:
        lines = check_generation(measured, tolerances(), Accepted(None, True))
    with pytest.raises(NotReplayable, match="check_generation was not recorded: a value of SimpleNamespace"):
        replay(through_a_journal(kept.evidence(lines)), CELLS.__getitem__, tolerances())


def test_a_reduction_is_taken_only_for_the_bounds_that_it_was_made_with():
    with recording() as kept:
        lines = check_run(quantised(), parameters()["int4"], tolerances())
    evidence = through_a_journal(kept.evidence(lines))
    other = {**tolerances(), "int4": {**tolerances()["int4"], "tie": 0.4}}
    with pytest.raises(NotReplayable, match="wrong_integers was recorded with"):
        replay(evidence, CELLS.__getitem__, other)
