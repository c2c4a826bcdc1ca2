"""Faults of `generate()` that the suite's own tests plant: what a sound model returns or keeps is not sound.

Each takes the loaded model after the optimiser and puts its own `generate` in front; `removed` takes it away again.
"""

import ctypes
import itertools

import numpy as np
import torch


def _instead(model, generate):
    """Every call goes to `generate(honest, input_ids, **options)`; honest is what the model's own would do."""
    honest = model.generate
    model.generate = lambda input_ids, **options: generate(honest, input_ids, **options)


def planted(service, fault):
    """Plant a fault of this module in the candidate of a running worker (an operation of its service)."""
    globals()[fault](service.models["candidate"].model)


def removed(service):
    """Give the candidate of a running worker its own `generate` back."""
    vars(service.models["candidate"].model).pop("generate")


# -- what comes back ----


def one_token_short(model):
    _instead(model, lambda honest, ids, max_new_tokens, **more: honest(ids, max_new_tokens=max_new_tokens - 1, **more))


def one_token_less_in_every_seventh_call(model):
    calls = itertools.count(1)

    def generate(honest, ids, max_new_tokens, **more):
        return honest(ids, max_new_tokens=max_new_tokens - (next(calls) % 7 == 0), **more)

    _instead(model, generate)


def prompts_left_out(model):
    _instead(model, lambda honest, ids, **more: honest(ids, **more)[:, ids.shape[1] :])


def rows_reversed(model):
    """Each prompt comes back in its place, with another row's answer."""

    def generate(honest, ids, **more):
        new = honest(ids, **more)[:, ids.shape[1] :]
        return torch.cat((ids, new.flip(0)), dim=1)

    _instead(model, generate)


# -- where it stops ----


def runs_past_its_end(model):
    """An end of text that can come is never looked at."""

    def generate(honest, ids, eos_token_id=None, **more):
        more.pop("min_new_tokens", None)
        return honest(ids, **more)

    _instead(model, generate)


def only_the_first_end_counts(model):
    def generate(honest, ids, eos_token_id=None, **more):
        first = eos_token_id[:1] if isinstance(eos_token_id, list) else eos_token_id
        return honest(ids, **({} if first is None else {"eos_token_id": first}), **more)

    _instead(model, generate)


def ends_in_place_of_padding(model):
    """Rows that have ended are filled with the end, whatever the padding token is."""

    def generate(honest, ids, **more):
        if "pad_token_id" in more and more.get("eos_token_id"):
            more["pad_token_id"] = more["eos_token_id"][0]
        return honest(ids, **more)

    _instead(model, generate)


def min_new_tokens_ignored(model):
    def generate(honest, ids, min_new_tokens=None, **more):
        return honest(ids, **more)

    _instead(model, generate)


def zero_in_place_of_no_padding(model):
    def generate(honest, ids, **more):
        if model.generation_config.pad_token_id is None:
            more["pad_token_id"] = 0
        return honest(ids, **more)

    _instead(model, generate)


def negative_padding_refused(model):
    def generate(honest, ids, **more):
        if model.generation_config.pad_token_id == -1:
            raise IndexError("index out of range in self")
        return honest(ids, **more)

    _instead(model, generate)


# -- what it draws ----


def seed_ignored(model):
    def generate(honest, ids, **more):
        torch.seed()
        return honest(ids, **more)

    _instead(model, generate)


def temperature_ignored(model):
    _instead(model, lambda honest, ids, temperature=None, **more: honest(ids, **more, temperature=1.0))


def top_k_ignored(model):
    def generate(honest, ids, **more):
        return honest(ids, **{**more, "top_k": 0}) if more.get("top_k", 0) > 1 else honest(ids, **more)

    _instead(model, generate)


def sampling_is_greedy(model):
    _instead(model, lambda honest, ids, **more: honest(ids, **{**more, "do_sample": False}))


def padding_seen_by_beams(model):
    def generate(honest, ids, attention_mask, **more):
        mask = torch.ones_like(ids) if more.get("num_beams", 1) > 1 else attention_mask
        return honest(ids, attention_mask=mask, **more)

    _instead(model, generate)


# -- what it leaves behind ----


def a_tensor_kept_by_call(model):
    kept = []

    def generate(honest, ids, **more):
        kept.append(honest(ids, **more))
        return kept[-1]

    _instead(model, generate)


def bytes_kept_by_call(model):
    """As a library in C would: no object of Python holds them."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p

    def generate(honest, ids, **more):
        libc.malloc(ctypes.c_size_t(8192))
        return honest(ids, **more)

    _instead(model, generate)


def a_table_kept_by_length(model):
    tables = {}

    def generate(honest, ids, **more):
        tables.setdefault(ids.shape[1], np.zeros((ids.shape[1], 1 << 15)))
        return honest(ids, **more)

    _instead(model, generate)


def compiled_by_length(model):
    torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1000
    step = torch.compile(lambda ids: ids + 1, dynamic=False, backend="eager")

    def generate(honest, ids, **more):
        step(ids)
        return honest(ids, **more)

    _instead(model, generate)


# -- the way back to text ----


def text_without_capitals(model):
    """The tokenizer is not the one that the text was made with; `removed` leaves it so."""
    from transformers import PreTrainedTokenizerFast

    decode = PreTrainedTokenizerFast.decode
    PreTrainedTokenizerFast.decode = lambda self, *tokens, **options: decode(self, *tokens, **options).lower()
    _instead(model, lambda honest, ids, **more: honest(ids, **more))
