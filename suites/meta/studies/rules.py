"""Rules of other suites on the same logits: what each would have said of the models that this suite checked."""

import functools
from pathlib import Path

import numpy as np

from fixtures.io.shipped import table_of

DIVERGENCE_TOKENS = 300
FIRST_TOKENS = 8
TOP = 5


@functools.cache
def rules():
    """{rule: {limit, title}} of rules.toml."""
    return table_of(Path(__file__).with_name("rules.toml"))


def values(mine, stock, tokens):
    """{rule: value} of logits [prompts, steps, vocabulary] against stock's under the forced `tokens` [prompts, steps].

    A value is infinite where a logit is not a number.
    """
    mine, stock = mine.astype(np.float64), stock.astype(np.float64)
    if not np.isfinite(mine).all():
        return dict.fromkeys(rules(), float("inf"))
    chosen, wanted = mine.argmax(-1), stock.argmax(-1)
    differs = chosen != wanted
    log, stock_log = _log_softmax(mine), _log_softmax(stock)
    scores = [np.take_along_axis(found, tokens[..., None], -1).mean() for found in (log, stock_log)]
    divergence = (np.exp(stock_log) * (stock_log - log)).sum(-1).reshape(-1)[:DIVERGENCE_TOKENS]
    return {
        "exact_text": float(differs.sum()),
        "first_8": float(differs[:, :FIRST_TOKENS].sum()),
        "top_5": float(sum(_out_of_top(*row) for row in zip(mine, stock, differs, strict=True))),
        "absolute": float(np.abs(mine - stock).max()),
        "relative": float(np.linalg.norm(mine - stock) / np.linalg.norm(stock)),
        "score": float(abs(scores[0] - scores[1]) / abs(scores[1])),
        "agreement": float(differs.mean()),
        "nmse": float(((mine - stock) ** 2).sum() / (stock**2).sum()),
        "first_rank": float((stock[:, 0] > np.take_along_axis(stock[:, 0], chosen[:, :1], -1)).sum()),
        "divergence": float(divergence.mean()),
    }


def alarms(found):
    """The rules that a model with these values breaks."""
    return {name for name, rule in rules().items() if not found[name] <= rule["limit"]}


def _log_softmax(logits):
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def _out_of_top(mine, stock, differs):
    """Whether one prompt's first other choice is not among the other's best; logits are [steps, vocabulary]."""
    if not differs.any():
        return False
    step = int(differs.argmax())
    pairs = (mine[step], stock[step]), (stock[step], mine[step])
    return any(a.argmax() not in np.argsort(b)[-TOP:] for a, b in pairs)
