"""Groups of ranks with one fault each, one run: every fault gets its verdict, leaves nothing, and the run goes on."""

import pytest

from suites.meta.harness.arithmetic import needs_bf16
from suites.meta.harness.inner import nodes, plant, run_suite
from suites.meta.harness.processes import of_the_suite, shared_memory

pytestmark = [needs_bf16, pytest.mark.nightly]  # groups of ranks are claimed in no other precision
DEADLINE = 20  # seconds, several times what the slowest sound answer takes
# (suite, model) -> (when, fault, the test's verdict, the check that has to say something, its verdict, its words).
PLANTED = {
    ("tp_sharding", "llama-2-7b"): ("before", "full_copies", "NOT_OPTIMISED", "sharded", "NOT_OPTIMISED", "unsharded"),
    ("tp_plain", "llama-2-70b"): ("before", "full_copy_on_rank_1", "HANG", "sharded", "NOT_OPTIMISED", "unsharded"),
    ("tp_sharding", "llama-3-8b"): ("before", "one_all_reduce_skipped", "FAIL", "all_reduces", "FAIL", "3 of 32768 B"),
    ("tp_answers", "llama-3.2-1b"): ("before", "one_all_reduce_skipped", "FAIL", "equal_logits", "FAIL", "one rank"),
    ("tp_answers", "llama-3-70b"): ("before", "heads_on_the_wrong_rank", "FAIL", "equal_logits", "FAIL", "one rank"),
    # Under a waiver, and beyond its ceiling.
    ("tp_plain", "llama-2-13b"): ("before", "head_zeroed", "FAIL", "logits", "FAIL", "excuses at most"),
    ("tp_answers", "llama-3.2-3b"): ("before", "seeded_differently", "FAIL", "equal_logits", "FAIL", "one rank"),
    ("tp_sharding", "llama-3.3-70b"): ("after", "killed_in_prefill", "CRASHED", "runs", "CRASHED", "rank 1: SIGKILL"),
    ("tp_answers", "phi-3-mini-128k"): ("after", "killed_in_decode", "CRASHED", "runs", "CRASHED", "rank 1: SIGKILL"),
    ("tp_sharding", "phi-3.5-mini"): ("after", "asleep_in_decode", "HANG", "runs", "HANG", "rank 1: no answer"),
    ("tp_sharding", "qwen2-7b"): ("first", "never_arrives", "HANG", "runs", "HANG", "rank 1: no answer"),
    ("tp_sharding", "qwen2-7b-instruct"): ("first", "wrong_world", "FAIL", "runs", "FAIL", "WORLD_SIZE=3, RANK=1"),
    ("tp_sharding", "qwen2.5-7b"): ("first", "port_taken", "FAIL", "runs", "FAIL", "Address already in use"),
    ("tp_torchrun", "gpt-j-6b"): ("after", "killed_in_decode", "CRASHED", "runs", "CRASHED", "rank 1: SIGKILL"),
}
SOUND = [("tp_sharding", "qwen3-4b"), ("tp_torchrun", "opt-6.7b")]  # run after all of them
# With the cause of a waived finding fixed, the waived checks hold.
FIXED = {
    ("tp_plain", "mistral-7b"): ("after", "inverse_frequencies_restored", "autotp-rope-in-half-precision"),
    ("tp_plain", "phi-3-mini-4k"): ("after", "phi3_fixed", "autotp-phi3-head-count"),
}
ALL = [*PLANTED, *FIXED, *SOUND]


def cell(model):
    return f"{model}-bf16-cpu-autotp"


def name_of(test):
    suite, model = test
    return f"test_{suite}[{cell(model)}]"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    plants = [
        plant(cell(model), when, f"distributed.{fault}")
        for (_, model), (when, fault, *_) in {**PLANTED, **FIXED}.items()
    ]
    plugins = ("-p", "suites.meta.harness.planting", "-p", "suites.meta.harness.group_ends")
    tests = [node for suite, model in ALL for node in nodes(suite, [cell(model)], "distributed")]
    before, buffers = of_the_suite(), shared_memory()
    run = run_suite(tmp_path_factory.mktemp("groups"), *plugins, *plants, f"--deadline={DEADLINE}", *tests)
    run.tests["left behind"] = (of_the_suite() - before) | (shared_memory() - buffers)
    return run


@pytest.mark.parametrize("test", PLANTED, ids=lambda test: "-".join(test))
def test_a_fault_of_a_group_gets_its_verdict(run, test):
    _, _, verdict, check, said, words = PLANTED[test]
    line = run.line(name_of(test), check)
    assert run.verdict(name_of(test)) == verdict, run.tests[name_of(test)][2]
    assert said in line, run.tests[name_of(test)][2]
    assert words in line


@pytest.mark.parametrize("test", PLANTED, ids=lambda test: "-".join(test))
def test_no_rank_is_left_after_a_fault_and_the_suite_goes_on(run, test):
    assert run.property(name_of(test), "left") == "0"
    ended = run.property(name_of(test), "went_on_after")
    assert ended is None or float(ended) < 60  # not the deadline of a group that is gone


@pytest.mark.parametrize("test", SOUND, ids=lambda test: "-".join(test))
def test_a_sound_group_passes_after_all_of_them(run, test):
    assert run.verdict(name_of(test)) == "PASS"


@pytest.mark.parametrize("test", FIXED, ids=lambda test: "-".join(test))
def test_a_waived_finding_is_gone_with_its_cause(run, test):
    *_, waiver = FIXED[test]
    assert run.verdict(name_of(test)) == "STALE_WAIVER", run.tests[name_of(test)][2]
    assert waiver in run.tests[name_of(test)][2]


def test_a_hang_says_where_each_rank_stands(run):
    line = run.line(name_of(("tp_sharding", "phi-3.5-mini")), "runs")
    assert "faults/distributed.py" in line


def test_no_process_and_no_shared_memory_outlive_the_run(run):
    assert run.tests["left behind"] == set()
