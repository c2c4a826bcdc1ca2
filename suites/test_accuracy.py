"""Does the optimised model score as well as the stock one on the same documents?"""

import pytest

from fixtures.checks.scores import check_accuracy
from fixtures.checks.tolerances import tolerances
from fixtures.measure.accuracy import measure_accuracy

pytestmark = pytest.mark.cells(trained=True, mode=["single", "autotp"], engine=["ipex", "eager", "torchao-int4"])


def test_accuracy(cell, verdict, runtime, questions, accepted_scores):
    """lm-eval's tasks, document by document: a drop, its interval, and whether a drop would have been seen."""
    measured = measure_accuracy(runtime, cell, questions, accepted_scores.reference)
    lines = check_accuracy(measured, tolerances(), accepted_scores.of(cell, measured.tasks))
    accepted_scores.record(cell, lines, measured, verdict.waived)
    verdict(lines, {name: (mine.score, mine.stderr, "1") for name, (mine, _) in measured.tasks.items()})
