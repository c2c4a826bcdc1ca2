"""Every failing line says whose it is, by a rule of the place that knows."""

import errno
import os
from unittest.mock import MagicMock

import numpy as np
import pytest

from fixtures.checks.generation import error_line
from fixtures.checks.scores import ceiling
from fixtures.checks.verdicts import FAILING, SEVERITY, Line, settle
from fixtures.compare.against import AgainstError, Other, measure_against
from fixtures.io.errors import MatrixError
from fixtures.io.parties import CHECKPOINT, MACHINE, OPTIMISED, OTHER, STOCK, SUITE
from fixtures.matrix import load_matrix
from fixtures.measure.candidate import Model
from fixtures.measure.processes import blamed
from fixtures.measure.reference import ReferenceFailed
from fixtures.weights.inspection import CheckpointError
from fixtures.weights.int4_format import round_to_nearest
from fixtures.worker import origin
from fixtures.worker.pool import ForkServerFailed
from fixtures.worker.termination import RecipeError, Termination, WorkerEnded
from suites.meta.unit.test_scores_checks import made


def test_a_failing_line_has_a_party_and_no_other_has():
    for verdict in SEVERITY:
        line = Line("logits", verdict, "2.0")
        assert bool(line.party) == (verdict in FAILING)
        assert ("at fault: " in str(line)) == (verdict in FAILING)
    assert Line("logits", "STALE_WAIVER", "holds").party == SUITE
    with pytest.raises(AssertionError, match="somebody"):
        Line("logits", "FAIL", "2.0", party="somebody")


def test_the_verdict_has_the_party_of_the_line_that_decided():
    lines = [Line("plausible", "FAIL", "0.1", party=STOCK), Line("runs", "CRASHED", "gone", party=MACHINE)]
    assert settle(lines, lambda check: None).party == MACHINE
    assert settle([Line("logits", "PASS", "1.0")], lambda check: None).party == ""


def raised(call):
    """The exception of a call."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is
        call()
    return caught.value


def in_the_stack(function):
    """`function` run by code that is neither the suite's nor Python's nor of an array library."""
    return function()


@pytest.mark.parametrize(("call", "party"), [
    (lambda: round_to_nearest(np.zeros(3), 2, "symmetric"), SUITE),  # numpy raises, for what our code gave it
    (lambda: in_the_stack(lambda: np.zeros(3).reshape(2)), ""),
    (lambda: os.open("/proc/version", os.O_RDWR | os.O_CREAT | os.O_EXCL), ""),
    (lambda: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device")), MACHINE),
    (lambda: __import__("no_such_package"), ""),
    (lambda: __import__("fixtures.no_such_module"), SUITE),
], ids=["ours", "stack", "exists", "disk", "package", "module"])  # fmt: skip
def test_an_exception_is_whose_code_raised_it(call, party):
    assert origin.party_of(raised(call)) == party


def test_what_the_suite_sees_of_a_stack_is_that_stacks(monkeypatch):
    monkeypatch.setattr(origin, "OWN", origin.Path(__file__).parent)  # as if this file were the suite's code

    def short():
        raise origin.StackError("generate() returned new tokens of shape [1, 2], not [1, 3]")

    assert origin.party_of(raised(short)) == ""
    assert origin.party_of(raised(lambda: [][0])) == SUITE


def test_a_device_that_cannot_add_is_the_machines():
    from fixtures.engine.throughput import WrongSum

    assert origin.party_of(WrongSum("the device adds 1024 times 1 and 1 up to 0")) == MACHINE


def test_an_error_of_a_device_is_not_the_code_that_hears_it(monkeypatch):
    monkeypatch.setattr(origin, "OWN", origin.Path(__file__).parent)  # as if this file were the suite's code

    def lost():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    assert origin.party_of(raised(lost)) == ""
    assert origin.party_of(raised(lambda: [][0])) == SUITE


@pytest.mark.parametrize(("error", "party", "words"), [
    (RecipeError("ValueError", "shapes"), OPTIMISED, "raised ValueError: shapes"),
    (RecipeError("ValueError", "shapes", party=SUITE), SUITE, "this suite raised ValueError: shapes"),
    (WorkerEnded(Termination("CRASHED", "SIGSEGV")), OPTIMISED, "CRASHED(SIGSEGV)"),
    (WorkerEnded(Termination("OOM", "killed by the kernel's OOM killer")), MACHINE, "OOM"),
    (WorkerEnded(Termination("CRASHED", "SIGABRT, device lost: UR_RESULT_ERROR_DEVICE_LOST")), MACHINE, "SIGABRT"),
])  # fmt: skip
def test_an_error_of_the_candidate_is_its_stacks_unless_it_says_otherwise(error, party, words):
    line = error_line(error)
    assert (line.party, words in line.measured) == (party, True)


def test_errors_name_their_party():
    assert CheckpointError("no config.json").party == CHECKPOINT
    assert CheckpointError("could not be made", SUITE).party == SUITE
    assert ReferenceFailed("broke").party == STOCK
    assert AgainstError("no program").party == OTHER
    assert MatrixError("models.toml", "", "is empty", "fill it").party == SUITE


@pytest.mark.parametrize(("module", "role", "party"), [
    ("intel_extension_for_pytorch", "optimised", OPTIMISED),
    ("transformers", "optimised", STOCK),  # the reference has the same one
    ("accelerate", "stock", STOCK),
    ("@fixtures.engine.service", "optimised", SUITE),
    ("", "optimised", OPTIMISED),
])  # fmt: skip
def test_a_module_that_cannot_be_imported_is_of_its_stack(module, role, party):
    with pytest.raises(ForkServerFailed) as caught, blamed(role):
        raise ForkServerFailed("cannot import", module)
    assert caught.value.party == party


def test_a_task_that_gives_its_answers_away_is_the_suites():
    scores = made([1] * 50)
    [line] = ceiling(scores, scores, {"ceiling": 0.9})
    assert (line.verdict, line.party) == ("FAIL", SUITE)


class Broken:
    """A worker whose every answer is an exception, and that knows how it was started."""

    def __init__(self, error):
        self.error = error

    def call(self, *_, **__):
        raise self.error

    def collect(self, _):
        raise self.error

    def close(self):
        pass


class Started(Model):
    """A model of the other stack in such a worker."""

    def __init__(self, *_, **__):
        self.worker, self.deadline, self.load_deadline = Broken(RecipeError("ValueError", "shapes")), 1, 1


@pytest.mark.parametrize("call", [lambda model: model.loaded(), lambda model: model.call("trace")])
def test_an_error_names_the_side_of_against(monkeypatch, call):
    monkeypatch.setattr(Other, "_started", Started)
    other = Other.__new__(Other)
    other.python = "/other/bin/python"
    model = other.start(None)
    line = error_line(raised(lambda: call(model)))
    assert line.party == OTHER
    assert line.measured == "the other stack, /other/bin/python, raised ValueError: shapes"


@pytest.mark.parametrize(("error", "words"), [
    (RecipeError("ValueError", "shapes"), "raised ValueError: shapes"),
    (WorkerEnded(Termination("CRASHED", "SIGSEGV")), "CRASHED(SIGSEGV)"),
])  # fmt: skip
def test_an_error_names_this_side_of_against_too(error, words):
    runtime, other = MagicMock(), MagicMock(versions={})
    runtime.settings.python = "/this/bin/python"
    runtime.reference.return_value.greedy.return_value = None, None
    runtime.candidate.return_value.call.side_effect = error
    line = error_line(measure_against(runtime, other, load_matrix().cells(["cpu"])[0], 4, None, None).error)
    assert line.party == OPTIMISED
    assert line.measured.startswith(f"this stack, /this/bin/python, {words}")


def test_a_side_keeps_whose_fault_an_error_says_it_is(monkeypatch):
    monkeypatch.setattr(Other, "_started", Started)
    other = Other.__new__(Other)
    other.python = "/other/bin/python"
    model = other.start(None)
    model.worker.error = WorkerEnded(Termination("OOM", "killed by the kernel's OOM killer"))
    line = error_line(raised(lambda: model.call("trace")))
    assert (line.party, line.measured.startswith("the other stack, /other/bin/python, OOM(")) == (MACHINE, True)
