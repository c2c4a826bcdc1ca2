"""Faults of one length, of company, of one call in many, and of stores into weights.

registry.toml says what each stands for. Each takes the loaded model after the optimiser and puts its own `generate` in
front.
"""

import torch
from transformers import LogitsProcessorList


def _scores(model, change):
    """The scores [rows, vocabulary] of every step go through `change(scores, context, step)`, which writes to them.

    context: tokens of a row so far; step: 0 for the prefill.
    """
    honest = model.generate

    def generate(ids, logits_processor=(), **more):
        def spoil(now, scores):
            scores = scores.clone()
            change(scores, now.shape[1], now.shape[1] - ids.shape[1])
            return scores

        return honest(ids, logits_processor=LogitsProcessorList([spoil, *logits_processor]), **more)

    model.generate = generate


def _numbered(model, change):
    """`change(scores, number)` sees the scores of calls with one prompt of 40 tokens, numbered from 1."""
    count = [0]

    def numbered(scores, context, step):
        if scores.shape[0] == 1 and context - step == 40:
            count[0] += step == 0
            change(scores, count[0])

    _scores(model, numbered)


def _after(model, store):
    """`store(ids)` follows each call with the prompts `ids` [rows, length]."""
    honest = model.generate

    def generate(ids, **more):
        found = honest(ids, **more)
        store(ids)
        return found

    model.generate = generate


# -- one length ----


def nan_at_one_residue(model):
    def change(scores, context, step):
        if step == 0 and context % 64 == 5:
            scores[:] = float("nan")

    _scores(model, change)


def off_at_one_length(model):
    def change(scores, context, step):
        if step == 0 and context == 137:
            scores *= 1.0001

    _scores(model, change)


def last_slot_of_a_block_lost(model):
    def change(scores, context, step):
        if step and context % 64 == 0:
            scores[:] = scores.roll(1, -1)

    _scores(model, change)


def cache_not_grown(model):
    def change(scores, context, step):
        if step and context > 2048:
            scores *= 0.9

    _scores(model, change)


def prefill_wrong_past_580(model):
    def change(scores, context, step):
        if step == 0 and context > 580:
            scores[:] = scores.roll(1, -1)

    _scores(model, change)


def decode_wrong_past_580(model):
    def change(scores, context, step):
        if step and context > 580:
            scores[:] = scores.roll(1, -1)

    _scores(model, change)


def decode_wrong_from_step_34(model):
    def change(scores, context, step):
        if step >= 34:
            scores[:] = scores.roll(1, -1)

    _scores(model, change)


# -- company ----


def garbage_from_two_rows(model):
    def change(scores, context, step):
        if scores.shape[0] > 1:
            scores[:] = scores.roll(1, -1)

    _scores(model, change)


def row_1_reads_row_0(model):
    def change(scores, context, step):
        if scores.shape[0] > 1:
            scores[1] = scores[0]

    _scores(model, change)


def last_row_of_sixteen_off(model):
    def change(scores, context, step):
        if step and scores.shape[0] == 16:
            scores[15] *= 1.001

    _scores(model, change)


def last_row_in_another_order(model):
    def change(scores, context, step):
        if scores.shape[0] == 8:
            scores[7, 3] = torch.nextafter(scores[7, 3], scores.new_tensor(float("inf")))

    _scores(model, change)


# -- one call in many ----


def garbage_once_in_a_hundred(model):
    def change(scores, number):
        if number % 100 == 0:
            scores[:] = scores.roll(1, -1)

    _numbered(model, change)


def last_bit_once_in_a_hundred(model):
    def change(scores, number):
        if number % 100 == 0:
            scores[0, 3] = torch.nextafter(scores[0, 3], scores.new_tensor(float("inf")))

    _numbered(model, change)


def drifts_with_every_call(model):
    _numbered(model, lambda scores, number: scores.mul_(1 + 1e-6 * number))


def answers_of_the_first_call(model):
    kept = {}

    def change(scores, context, step):
        if scores.shape[0] == 1 and context - step == 40:
            scores[:] = kept.setdefault(step, scores.clone())

    _scores(model, change)


# -- stores into weights ----


def _weight(model):
    """The last matrix of the model that holds numbers."""
    return [held for held in model.parameters() if held.dim() == 2][-1].data.view(-1)


def store_past_the_end(model):
    weight = _weight(model)

    def store(ids):
        if ids.shape[1] > 192:
            weight[-1] += 1

    _after(model, store)


def bit_flipped_in_a_batch(model):
    words = _weight(model).view(torch.uint8)

    def store(ids):
        if ids.shape[0] == 16 and not flipped:
            words[0] ^= 1
            flipped.append(True)

    flipped = []
    _after(model, store)


def norm_rescaled(model):
    norm = next(held for held in model.parameters() if held.dim() == 1 and held.numel()).data
    _after(model, lambda ids: norm[:1].mul_(1.001))
