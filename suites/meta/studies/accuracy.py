"""How often each rule sees a true drop of the score: the gate's own, an unpaired test, and a fixed tolerance.

`python -m suites.meta.studies.accuracy [RUNS]` prints the table as Markdown. Outcomes are simulated: a reference right
on half of the documents, and a candidate that flips some of them at random, as often to the right as to the wrong,
and loses some more on top.
"""

import sys

import numpy as np

from fixtures.checks.scores import Paired, p_value, unpaired_p
from fixtures.checks.tolerances import tolerances

DROPS = (0.0, 0.01, 0.02, 0.03, 0.05)
SIZES = (360, 5153)  # the shipped task, and LAMBADA's test split
FLIPS = {"bf16": 0.01, "INT4": 0.15}  # about what the packaged model flips against fp32 on the shipped task
SCORE = 0.5
TOLERANCE = 0.05  # of the reference's score, as fixed rules have it
SEED = 7


def outcomes(generator, n, drop, flips):
    """One simulated comparison as Paired, with the reference's number of right documents."""
    right = generator.binomial(n, SCORE)
    lost = generator.binomial(right, min(1.0, (drop + flips / 2) / SCORE))
    won = generator.binomial(n - right, flips / 2 / (1 - SCORE))
    return Paired(n, lost, won), right


def alarms(counts, right, bound):
    """{rule: whether it calls this comparison a drop}."""
    n, reference = counts.n, right / counts.n
    score = reference - counts.drop
    return {
        "paired (this gate)": p_value(counts, bound["allowed"]) <= bound["alpha"],
        "unpaired test": unpaired_p(score, n, reference, n) <= bound["alpha"],
        "fixed 5 % tolerance": score < reference * (1 - TOLERANCE),
    }


def rates(n, drop, flips, runs, seed=SEED):
    """{rule: share of `runs` simulated comparisons of `n` documents that it calls a drop}."""
    generator = np.random.default_rng(seed)
    table = tolerances()["score"]
    bound = {**table["all"], **table["bf16"]}
    seen = [alarms(*outcomes(generator, n, drop, flips), bound) for _ in range(runs)]
    return {rule: float(np.mean([found[rule] for found in seen])) for rule in seen[0]}


def markdown(runs):
    """The table, a row for each rule and number of documents, a column for each true drop."""
    heads = [f"{drop * 100:.0f} points" if drop else "no drop" for drop in DROPS]
    yield f"| documents | flips at random | rule | {' | '.join(heads)} |"
    yield f"|---|---|---|{'---|' * len(DROPS)}"
    for n in SIZES:
        for name, flips in FLIPS.items():
            columns = [rates(n, drop, flips, runs) for drop in DROPS]
            for rule in columns[0]:
                row = " | ".join(f"{column[rule]:.1%}" for column in columns)
                yield f"| {n} | {flips:.0%} ({name}) | {rule} | {row} |"


if __name__ == "__main__":
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    print("\n".join(markdown(runs)))
