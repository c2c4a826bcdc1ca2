"""Faults of scoring that the suite's own tests plant inside a worker, in the model or in how lm-eval runs it.

As in suites.meta.faults.model, functions take the loaded model (None where they run first) and return it, or None.
"""

import os

from fixtures.engine import scoring

LAYER = 10


def attention_logits_of_one_layer_scaled(model):
    """One layer's attention logits come out at nine tenths."""
    module = model.get_submodule(f"model.layers.{LAYER}.self_attn.q_proj")
    module.weight.data = module.weight.data * 0.9


def outputs_of_one_layer_scaled(model):
    """What one layer's MLP adds comes out at nine tenths."""
    module = model.get_submodule(f"model.layers.{LAYER}.mlp.down_proj")
    module.weight.data = module.weight.data * 0.9


def one_bad_group_in_every_linear(_):
    """In each INT4 linear one group of 64 weights of one output has twice its scale."""
    from intel_extension_for_pytorch.nn.modules import WeightOnlyQuantizedLinear as Linear

    honest = Linear.from_float_and_int4_weight.__func__

    def pack(cls, *, scales, **options):
        scales = scales.clone()
        scales[0, 0] *= 2
        return honest(cls, scales=scales, **options)

    Linear.from_float_and_int4_weight = classmethod(pack)


def last_prompt_token_dropped(model):
    from lm_eval.models.huggingface import HFLM

    honest = HFLM._loglikelihood_tokens

    def without_last(self, requests, *arguments, **options):
        shorter = [(key, context[:-1], continuation) for key, context, continuation in requests]
        return honest(self, shorter, *arguments, **options)

    HFLM._loglikelihood_tokens = without_last


def target_scored_one_position_early(model):
    from lm_eval.models.huggingface import HFLM

    honest = HFLM._select_cont_toks

    def early(self, logits, contlen=None, inplen=None):
        return honest(self, logits, contlen=contlen, inplen=inplen - 1)

    HFLM._select_cont_toks = early


def a_rank_has_other_documents(model):
    """The second rank reads the same file backwards."""
    honest = scoring.open_tasks

    def reversed_tasks(*arguments, **options):
        found = honest(*arguments, **options)
        for task in found.values():
            documents = task.dataset["test"]
            task.dataset["test"] = documents.select(range(len(documents) - 1, -1, -1))
        return found

    if os.environ["RANK"] == "1":
        scoring.open_tasks = reversed_tasks


def a_rank_reports_other_scores(model):
    """The second rank says something else of the same documents."""
    honest = scoring.score

    def other_scores(*arguments):
        return [{**record, "loglik": record["loglik"] - 1} for record in honest(*arguments)]

    if os.environ["RANK"] == "1":
        scoring.score = other_scores
