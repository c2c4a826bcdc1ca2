"""A run that accepts values says where the machine was not fit for it, and ends as one that accepted not all."""

from suites.meta.harness.forked import fork_suite
from suites.meta.harness.inner import latency

NAME = latency("opt-6.7b-fp32-cpu-single")


def test_values_of_a_disturbed_machine_are_not_accepted(tmp_path):
    words = [
        "-p",
        "suites.meta.harness.disturbed_machine",
        f"suites/test_latency.py::{NAME}",
        f"--baselines={tmp_path}",
    ]
    run = fork_suite(tmp_path, *words, "--update-baselines")
    assert run.status == 1
    reported = (
        f"NOT ACCEPTED: suites/test_latency.py::{NAME}: foreign load of 1.3 cores; repeat it on a quieter machine"
    )
    assert f"{reported}, or insist with --accept-anyway" in run.output
    assert fork_suite(tmp_path, *words).status == 0  # a disturbed measurement alone fails nothing


def test_insisting_without_accepting_is_one_sentence(tmp_path):
    run = fork_suite(tmp_path, "suites/test_latency.py", "--accept-anyway")
    assert run.status == 4
    assert "--accept-anyway accepts nothing by itself; add --update-baselines" in run.output
