"""A sound model turns no check of test_robustness red; test_planted_registry.py plants the faults that do."""

import pytest

from suites.meta.harness.striking import Striker

pytestmark = pytest.mark.nightly

SUITE, CELL = "robustness", "llama-2-7b-fp32-cpu-single"


def test_a_sound_model_holds():
    striker = Striker()
    try:
        accepted = striker.sound(SUITE, CELL).measured
        again = striker.ask(SUITE, CELL, {}, accepted)
    finally:
        striker.close()
    print("\n".join(map(str, again.lines)))
    assert {line.verdict for line in again.lines} == {"PASS"}
    assert len(again.lines) == 13, "every check has its line"
