"""A class without a static cache, as Baichuan2's published one: the reference does without, a candidate may not."""

import numpy as np
import pytest

from fixtures.matrix import load_matrix
from fixtures.worker.pool import Worker
from fixtures.worker.termination import RecipeError

pytestmark = pytest.mark.nightly
CALLS = "suites.meta.harness.worker_calls"
BAICHUAN = next(model for model in load_matrix().models if model.family == "baichuan2")
RUNS = {kind: [{"prompts": [[5, 6, 7, 8, 9]], "cache": kind}] for kind in ("static", "dynamic")}


@pytest.fixture
def worker(runtime, stock):
    worker = Worker(stock)
    worker.call("load", 300, name="it", spec=runtime.weights.spec(BAICHUAN, "cpu", "stock", "fp32", aligned=True))
    yield worker
    worker.close()


def greedy(worker, kind):
    return worker.call("greedy", 300, name="it", runs=RUNS[kind], new_tokens=6).arrays


def test_the_reference_gives_the_dynamic_caches_answers(worker):
    known = greedy(worker, "static")
    worker.call("call", 300, function=f"{CALLS}:forget_static_cache", name="it", stock=True)
    proof = worker.call("proof", 300, name="it", linears=[]).message["proof"]
    static, dynamic = greedy(worker, "static"), greedy(worker, "dynamic")
    assert not proof["static_cache"]
    assert np.array_equal(static["logits"], dynamic["logits"])
    assert np.array_equal(static["tokens"], known["tokens"])


def test_a_candidate_has_to_have_the_cache_that_is_asked_for(worker):
    worker.call("call", 300, function=f"{CALLS}:forget_static_cache", name="it", stock=False)
    with pytest.raises(RecipeError, match="cache_implementation='static'"):
        greedy(worker, "static")
