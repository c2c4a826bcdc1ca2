"""Does the optimised model give the stock model's answers?"""

from fixtures.checks.generation import accepted_metrics, judge_generation
from fixtures.checks.tolerances import bounds
from fixtures.measure.generation import measure_generation


def test_generation(cell, verdict, stage, accepted):
    """The recipe's model against stock at higher precision: proof of path, logits, tokens, beams, text."""
    measured = measure_generation(stage, cell)
    before = accepted.find("generation", cell)
    lines = judge_generation(measured, bounds(), before, accepted.updating)
    metrics, samples = accepted_metrics(measured)
    accepted.stage("generation", cell, lines, metrics, samples, verdict.waived)
    verdict(lines, metrics)
